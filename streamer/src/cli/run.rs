//! The arguments of `walferry run`, as typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use walferry_protocol::Lsn;

use super::SourceArguments;
use super::options::{OWN_PLUGIN_OPTIONS, RunOptions};
use crate::encode::{ByteaForm, Int8Form, JsonForm, NumericForm, ValueForms};
use crate::error::{Failure, Result};
use crate::sink;
use crate::source::slot::{self, SlotRequest};
use crate::source::table_filter::TableFilter;

/// The output plugin this version reads.
const PLUGIN: &str = "walferry";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  Watch a database; the slot is temporary and ends with the command:
    walferry run --source postgres://ferry@db/shop --sink stdout
  Deliver to one file; the slot and the file go on where they were after any crash:
    walferry run --source postgres://ferry@db/shop --slot ferry --create-slot \\
                 --sink file:///var/lib/walferry/shop.jsonl
  To a folder, compressed, a new file each hour or GB:
    --sink 'file:///var/lib/walferry/shop/?rotate-every=1h&rotate-size=1GB&compress=zstd'
  Some tables only:
    --tables 'sales.*,public.customers' --exclude-tables 'sales.tmp_*'
  Everything up to a position, then end:
    walferry run --slot ferry --until-lsn 16/B374D848 --sink file:///backup/shop.jsonl")]
pub struct RunArguments {
    #[command(flatten)]
    source: SourceArguments,

    /// The replication slot to read; without it a temporary one
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    slot: Option<String>,

    /// Make the slot if it is missing; changes before that moment are not delivered
    #[arg(long, help_heading = "Source")]
    create_slot: bool,

    /// End the process that reads the slot instead of waiting until it has gone
    #[arg(long, help_heading = "Source")]
    takeover: bool,

    /// The slot's output plugin; this version reads walferry
    #[arg(long, value_enum, default_value = "auto", help_heading = "Source")]
    plugin: Plugin,

    /// For plugin pgoutput, which a later version reads
    #[arg(long, value_name = "NAME", hide = true)]
    publication: Option<String>,

    /// What to deliver; this version delivers changes only: realtime
    #[arg(long, value_enum, default_value = "realtime", help_heading = "Source")]
    mode: Mode,

    /// Deliver every commit that ends at or before LSN, then exit 0
    #[arg(long, value_name = "LSN", help_heading = "Source")]
    until_lsn: Option<Lsn>,

    /// Tables to replicate: schema.table with * and ?, comma-separated, may be given again
    #[arg(long, value_name = "PATTERNS", help_heading = "What")]
    tables: Vec<String>,

    /// Tables to leave out; wins over --tables
    #[arg(long, value_name = "PATTERNS", help_heading = "What")]
    exclude_tables: Vec<String>,

    /// What to do when a table without a usable replica identity has had UPDATEs or DELETEs
    #[arg(long, value_enum, default_value = "refuse", help_heading = "What")]
    missing_identity: MissingIdentity,

    /// Let the server send large transactions while they are in progress
    #[arg(long, value_enum, default_value = "on", help_heading = "What")]
    streaming: Switch,

    /// Take prepared transactions at PREPARE; a slot once read so stays so
    #[arg(long, help_heading = "What")]
    two_phase: bool,

    /// A further option of the output plugin, e.g. message_prefixes=audit; may be given again
    #[arg(long, value_name = "NAME=VALUE", help_heading = "What")]
    plugin_option: Vec<String>,

    /// Where events go: stdout, null, file:///dir/name.jsonl or file:///dir/
    #[arg(long, value_name = "URL", help_heading = "Sink")]
    sink: String,

    /// Where the position is kept; beside the file by default
    #[arg(long, value_name = "DIR", help_heading = "Sink")]
    state_dir: Option<PathBuf>,

    /// Go on although the slot is past what was delivered; the changes in between are left out
    #[arg(long, help_heading = "Sink")]
    accept_gap: bool,

    /// The longest time that written events wait for the sink's flush
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = duration, help_heading = "Sink")]
    flush_interval: Duration,

    /// numeric in JSON
    #[arg(long, value_enum, default_value = "string", help_heading = "JSON")]
    numeric: NumberForm,

    /// bigint in JSON
    #[arg(long, value_enum, default_value = "number", help_heading = "JSON")]
    int8: NumberForm,

    /// json and jsonb in JSON
    #[arg(long, value_enum, default_value = "embedded", help_heading = "JSON")]
    json: DocumentForm,

    /// bytea in JSON
    #[arg(long, value_enum, default_value = "base64", help_heading = "JSON")]
    bytea: BinaryForm,

    /// Bytes of changes held in memory before the rest is spilled or waits
    #[arg(long, value_name = "SIZE", default_value = "128MB", value_parser = size, help_heading = "Resources")]
    memory_limit: u64,

    /// Where transactions in progress are spilled; inside the state folder by default
    #[arg(long, value_name = "DIR", help_heading = "Resources")]
    spill_dir: Option<PathBuf>,

    /// Bytes that may be spilled at a time; without it as many as the disk takes
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Resources")]
    spill_limit: Option<u64>,

    /// Threads that decode and encode; without it one a core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Resources")]
    workers: Option<u16>,

    /// The longest time between two status updates to the server
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = "Resources")]
    status_interval: Duration,

    /// No progress line on a terminal
    #[arg(long, help_heading = "Log")]
    no_progress: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Plugin {
    Auto,
    Walferry,
    Wal2json,
    Pgoutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Full,
    Realtime,
    Snapshot,
    DeltaSnapshot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MissingIdentity {
    /// Do not start
    Refuse,
    /// Deliver such events marked, without their old row
    Accept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NumberForm {
    Number,
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DocumentForm {
    Embedded,
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BinaryForm {
    Base64,
    Hex,
}

pub(super) fn duration(text: &str) -> Result<Duration> {
    sink::url::duration("time", text)
}

fn size(text: &str) -> Result<u64> {
    sink::url::size("size", text)
}

fn name_of(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

impl RunArguments {
    /// What was typed, as far as it makes sense.
    ///
    /// # Errors
    /// Usage.
    pub fn validate(self) -> Result<RunOptions> {
        self.refuse_what_comes_later()?;
        if let Some(name) = &self.slot {
            slot::check_name(name)?;
        }
        for (flag, given) in [
            ("--create-slot", self.create_slot),
            ("--takeover", self.takeover),
        ] {
            if given && self.slot.is_none() {
                return Err(Failure::usage(format!("{flag} needs --slot"))
                    .hint("without --slot the run reads a temporary slot of its own"));
            }
        }
        Ok(RunOptions {
            conninfo: self.source.conninfo()?,
            tables: TableFilter::new(&self.tables, &self.exclude_tables)?,
            further_plugin_options: self.further_plugin_options()?,
            sink: sink::Target::parse(&self.sink)?,
            slot: SlotRequest {
                name: self.slot,
                plugin: PLUGIN.to_owned(),
                create: self.create_slot,
                takeover: self.takeover,
                two_phase: self.two_phase,
            },
            state_dir: self.state_dir,
            until_lsn: self.until_lsn,
            accept_missing_identity: self.missing_identity == MissingIdentity::Accept,
            streaming: self.streaming == Switch::On,
            values: ValueForms {
                int8: match self.int8 {
                    NumberForm::Number => Int8Form::Number,
                    NumberForm::String => Int8Form::String,
                },
                numeric: match self.numeric {
                    NumberForm::Number => NumericForm::Number,
                    NumberForm::String => NumericForm::String,
                },
                json: match self.json {
                    DocumentForm::Embedded => JsonForm::Embedded,
                    DocumentForm::String => JsonForm::String,
                },
                bytea: match self.bytea {
                    BinaryForm::Base64 => ByteaForm::Base64,
                    BinaryForm::Hex => ByteaForm::Hex,
                },
            },
            memory_limit: self.memory_limit,
            spill_dir: self.spill_dir,
            spill_limit: self.spill_limit,
            workers: self.workers.map(usize::from),
            accept_gap: self.accept_gap,
            status_interval: self.status_interval,
            flush_interval: self.flush_interval,
            progress: !self.no_progress,
        })
    }

    fn refuse_what_comes_later(&self) -> Result<()> {
        if self.mode != Mode::Realtime {
            return Err(Failure::usage(format!(
                "--mode {} comes with a later version; this one delivers changes as they are made",
                name_of(self.mode)
            ))
            .hint(
                "use --mode realtime, and copy what is there already by other means, e.g. pg_dump",
            ));
        }
        if matches!(self.plugin, Plugin::Wal2json | Plugin::Pgoutput) {
            return Err(Failure::usage(format!(
                "plugin {} is not read yet: this version reads walferry's own plugin, the others come later",
                name_of(self.plugin)
            ))
            .hint("install the walferry extension's library into the server and leave --plugin out"));
        }
        if self.publication.is_some() {
            return Err(Failure::usage(
                "--publication belongs to plugin pgoutput, which comes with a later version",
            )
            .hint("choose tables with --tables and --exclude-tables"));
        }
        Ok(())
    }

    fn further_plugin_options(&self) -> Result<Vec<(String, String)>> {
        self.plugin_option
            .iter()
            .map(|text| {
                let (name, value) = text.split_once('=').ok_or_else(|| {
                    Failure::usage(format!("--plugin-option {text} has no value"))
                        .hint("write --plugin-option NAME=VALUE")
                })?;
                if OWN_PLUGIN_OPTIONS.contains(&name) {
                    return Err(Failure::usage(format!(
                        "plugin option {name} is set by the run itself"
                    ))
                    .hint("use --tables, --exclude-tables, --streaming and --two-phase"));
                }
                Ok((name.to_owned(), value.to_owned()))
            })
            .collect()
    }
}
