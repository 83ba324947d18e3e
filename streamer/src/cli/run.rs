//! The arguments of `walferry run`, as typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use walferry_protocol::Lsn;

use super::SourceArguments;
use super::configured::{ConfigurationFiles, Configured};
use super::options::{OWN_PLUGIN_OPTIONS, Retries, RunOptions};
use crate::config::Overridden;
use crate::config::connection::LogReader;
use crate::encode::{ByteaForm, Int8Form, JsonForm, NumericForm, ValueForms};
use crate::error::{Failure, Result};
use crate::filter::{self, Rules};
use crate::sink;
use crate::source::plugin;
use crate::source::slot::{self, SlotRequest};
use crate::source::table_filter::TableFilter;

// What neither flags nor files say.
const MEMORY_LIMIT: u64 = 128 << 20;
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

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
  Some of their rows (docs/filters.md):
    --where \"sales.orders: price > 100 AND status IN ('paid', 'sent')\"
  As a file says, with another sink (docs/configuration.md):
    walferry run --config walferry.yaml --sink stdout
  Everything up to a position, then end:
    walferry run --slot ferry --until-lsn 16/B374D848 --sink file:///backup/shop.jsonl")]
pub struct RunArguments {
    #[command(flatten)]
    pub(super) files: ConfigurationFiles,

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

    /// The slot's output plugin; auto: the slot's own, else the best that the server has [default: auto]
    #[arg(long, value_enum, help_heading = "Source")]
    plugin: Option<Plugin>,

    /// What plugin pgoutput reads; made with --create-slot if it is missing [default: walferry]
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    publication: Option<String>,

    /// How changes are read: over the replication protocol, or by polling with SQL where the server refuses that [default: stream]
    #[arg(long, value_enum, help_heading = "Source")]
    reader: Option<ReaderKind>,

    /// The pause between two polls of --reader sql [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Source")]
    poll_interval: Option<Duration>,

    /// The rows after which a poll of --reader sql ends, with a whole transaction
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2_147_483_647), help_heading = "Source")]
    poll_rows: Option<u32>,

    /// What to deliver; this version delivers changes only [default: realtime]
    #[arg(long, value_enum, help_heading = "Source")]
    mode: Option<Mode>,

    /// Start at LSN instead of where the slot is: changes before it are left out; later starts go on where the state says
    #[arg(long, value_name = "LSN", help_heading = "Source")]
    start_lsn: Option<Lsn>,

    /// Deliver every commit that ends at or before LSN, then exit 0
    #[arg(long, value_name = "LSN", help_heading = "Source")]
    until_lsn: Option<Lsn>,

    /// Tables to replicate: schema.table with * and ?, comma-separated, may be given again
    #[arg(long, value_name = "PATTERNS", help_heading = "What")]
    tables: Vec<String>,

    /// Tables to leave out; wins over --tables
    #[arg(long, value_name = "PATTERNS", help_heading = "What")]
    exclude_tables: Vec<String>,

    /// Rows that go through, as TABLES:PREDICATE, e.g. 'public.orders: price > 100'; may be given again
    #[arg(long = "where", value_name = "TABLES:PREDICATE", help_heading = "What")]
    conditions: Vec<String>,

    /// Let walferry's own plugin leave out what the conditions leave out, where that is exact; off: all are evaluated here [default: on]
    #[arg(long, value_enum, help_heading = "What")]
    push_conditions: Option<Switch>,

    /// What to do when a table without a usable replica identity has had UPDATEs or DELETEs [default: refuse]
    #[arg(long, value_enum, help_heading = "What")]
    missing_identity: Option<MissingIdentity>,

    /// Let the server send large transactions while they are in progress [default: on]
    #[arg(long, value_enum, help_heading = "What")]
    streaming: Option<Switch>,

    /// Take prepared transactions at PREPARE; a slot once read so stays so
    #[arg(long, help_heading = "What")]
    two_phase: bool,

    /// A further option of the output plugin, e.g. message_prefixes=audit; may be given again
    #[arg(long, value_name = "NAME=VALUE", help_heading = "What")]
    plugin_option: Vec<String>,

    /// Commit something small in the source's database at this interval: a logical message, or a row of --heartbeat-table
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Heartbeat")]
    heartbeat: Option<Duration>,

    /// The heartbeat's table, schema.table; its column timestamp is a bigint
    #[arg(long, value_name = "TABLE", value_parser = super::heartbeat::table_name, help_heading = "Heartbeat")]
    heartbeat_table: Option<super::heartbeat::TableName>,

    /// Make the heartbeat's table if it is missing
    #[arg(long, help_heading = "Heartbeat")]
    create_heartbeat_table: bool,

    /// Deliver walferry's own tables and heartbeats too
    #[arg(long, help_heading = "Heartbeat")]
    own_events: bool,

    /// Deliver captured DDL as schema-change events (docs/ddl.md); SELECT walferry.ddl_capture_on() captures it
    #[arg(long, help_heading = "What")]
    schema_changes: bool,

    /// Where events go: stdout, null, file:///dir/name.jsonl or file:///dir/
    #[arg(long, value_name = "URL", help_heading = "Sink")]
    sink: Option<String>,

    /// Where the position is kept; beside the file by default
    #[arg(long, value_name = "DIR", help_heading = "Sink")]
    state_dir: Option<PathBuf>,

    /// Go on although the slot is past what was delivered; the changes in between are left out
    #[arg(long, help_heading = "Sink")]
    accept_gap: bool,

    /// The longest time that written events wait for the sink's flush [default: 100ms]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Sink")]
    flush_interval: Option<Duration>,

    /// numeric in JSON [default: string]
    #[arg(long, value_enum, help_heading = "JSON")]
    numeric: Option<NumberForm>,

    /// bigint in JSON [default: number]
    #[arg(long, value_enum, help_heading = "JSON")]
    int8: Option<NumberForm>,

    /// json and jsonb in JSON [default: embedded]
    #[arg(long, value_enum, help_heading = "JSON")]
    json: Option<DocumentForm>,

    /// bytea in JSON [default: base64]
    #[arg(long, value_enum, help_heading = "JSON")]
    bytea: Option<BinaryForm>,

    /// Bytes of changes held in memory before the rest is spilled or waits [default: 128MB]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Resources")]
    memory_limit: Option<u64>,

    /// Where transactions in progress are spilled; inside the state folder by default
    #[arg(long, value_name = "DIR", help_heading = "Resources")]
    spill_dir: Option<PathBuf>,

    /// Bytes that may be spilled at a time; without it as many as the disk takes
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Resources")]
    spill_limit: Option<u64>,

    /// Threads that decode and encode; without it one a core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Resources")]
    workers: Option<u16>,

    /// The longest time between two status updates to the server [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Resources")]
    status_interval: Option<Duration>,

    /// No progress line on a terminal
    #[arg(long, help_heading = "Log")]
    no_progress: bool,

    /// The rules of files and flags, once they are read
    #[arg(skip)]
    rules: Rules,

    /// The files' log-reader-type
    #[arg(skip)]
    configured_reader: Option<LogReader>,

    /// The files' fetch-size-rows
    #[arg(skip)]
    configured_rows: Option<u32>,

    /// Slots of the configuration files that are read beside the first
    #[arg(skip)]
    further_slots: Vec<(String, Option<Plugin>)>,

    /// The columns that the files' filter needs, for a plugin that can choose
    #[arg(skip)]
    pushed_columns: Option<String>,

    /// What the configuration files say, once they are read
    #[arg(skip)]
    pub(super) configured: Configured,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plugin {
    Auto,
    Walferry,
    Wal2json,
    Pgoutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Full,
    Realtime,
    Snapshot,
    DeltaSnapshot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReaderKind {
    /// START_REPLICATION
    Stream,
    /// pg_logical_slot_peek_binary_changes and pg_replication_slot_advance
    Sql,
}

impl ReaderKind {
    pub fn reader(self) -> LogReader {
        match self {
            ReaderKind::Stream => LogReader::Stream,
            ReaderKind::Sql => LogReader::Sql,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MissingIdentity {
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

impl From<bool> for Switch {
    fn from(on: bool) -> Self {
        if on { Switch::On } else { Switch::Off }
    }
}

impl Plugin {
    /// Its name in a slot.
    pub fn name(self) -> String {
        name_of(self)
    }

    /// `None`: it is left to the run.
    fn chosen(self) -> Option<plugin::Plugin> {
        match self {
            Plugin::Auto => None,
            Plugin::Walferry => Some(plugin::Plugin::Walferry),
            Plugin::Wal2json => Some(plugin::Plugin::Wal2json),
            Plugin::Pgoutput => Some(plugin::Plugin::Pgoutput),
        }
    }
}

impl Mode {
    /// Its name in flags and files.
    pub fn name(self) -> String {
        name_of(self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NumberForm {
    Number,
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DocumentForm {
    Embedded,
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BinaryForm {
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
    /// What was typed, of the things that files say too.
    fn overridden(&self) -> Overridden {
        Overridden {
            slot: self.slot.is_some(),
            plugin: self.plugin.is_some(),
            mode: self.mode.is_some(),
        }
    }

    /// Fills in what was not typed from what the files say.
    fn complete(&mut self) -> Result<()> {
        let configuration = std::mem::take(&mut self.configured.configuration);
        let slot = configuration.slot().map(str::to_owned);
        if self.slot.is_none() {
            self.further_slots = configuration
                .further_slots()
                .iter()
                .map(|slot| {
                    let plugin = self.plugin.or(configuration.job.plugin).or(slot.plugin);
                    (slot.name.clone(), plugin)
                })
                .collect();
        }
        self.configured_reader = configuration.connection.log_reader;
        self.configured_rows = configuration
            .extractor
            .realtime
            .as_ref()
            .and_then(|realtime| realtime.fetch_size_rows)
            .map(|rows| rows.get().min(i32::MAX as u32));
        // A slot that was typed has a plugin of its own.
        let plugin = match self.slot {
            None => configuration.plugin(),
            Some(_) => configuration.job.plugin,
        };
        let threads = configuration
            .extractor
            .realtime
            .as_ref()
            .and_then(|realtime| realtime.threads);
        let start_lsn = configuration
            .extractor
            .realtime
            .as_ref()
            .and_then(|realtime| realtime.start_lsn);
        let beat = configuration
            .extractor
            .realtime
            .as_ref()
            .and_then(|realtime| realtime.heartbeat.clone());
        let typed = self
            .conditions
            .iter()
            .map(|text| filter::where_clause(text))
            .collect::<Result<Vec<_>>>()?;
        let columns = configuration.filter.column_rules(&typed);
        self.rules.tables = configuration.filter.rules()?;
        self.rules.tables.extend(typed);
        let tables = configuration.filter.table_patterns();
        let job = configuration.job;

        self.slot = self.slot.take().or(slot);
        self.plugin = self.plugin.or(plugin);
        self.create_slot |= job.create_slot;
        self.takeover |= job.takeover;
        self.publication = self.publication.take().or(job.publication);
        self.mode = self.mode.or(job.mode);
        self.start_lsn = self.start_lsn.or(start_lsn);
        self.until_lsn = self.until_lsn.or(job.until_lsn);
        if self.tables.is_empty() {
            self.tables = job.tables;
            self.tables.extend(tables);
        }
        if self.exclude_tables.is_empty() {
            self.exclude_tables = job.exclude_tables;
        }
        self.missing_identity = self.missing_identity.or(job.missing_identity);
        self.streaming = self.streaming.or(job.streaming.map(Switch::from));
        self.push_conditions = self
            .push_conditions
            .or(job.push_conditions.map(Switch::from));
        self.two_phase |= job.two_phase;
        self.own_events |= job.own_events;
        self.schema_changes |= job.schema_changes;
        self.configured.heartbeat = beat;
        let typed = |name: &str| {
            let mut names = self
                .plugin_option
                .iter()
                .map(|option| option.split('=').next());
            names.any(|typed| typed == Some(name))
        };
        self.pushed_columns = columns.filter(|_| !typed("columns"));
        let of_files: Vec<String> = job
            .plugin_options
            .into_iter()
            .filter(|(name, _)| !typed(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        self.plugin_option.extend(of_files);
        if self
            .plugin_option
            .iter()
            .any(|option| option.starts_with("columns="))
        {
            // The option takes the place of the filter's columns.
            for rule in &mut self.rules.tables {
                rule.columns = None;
            }
        }
        self.configured.sink = job.sink;
        self.state_dir = self.state_dir.take().or(job.state_dir);
        self.flush_interval = self.flush_interval.or(job.flush_interval);
        self.numeric = self.numeric.or(job.numeric);
        self.int8 = self.int8.or(job.int8);
        self.json = self.json.or(job.json);
        self.bytea = self.bytea.or(job.bytea);
        self.memory_limit = self.memory_limit.or(job.memory_limit);
        self.spill_dir = self.spill_dir.take().or(job.spill_dir);
        self.spill_limit = self.spill_limit.or(job.spill_limit);
        self.workers = self.workers.or(threads);
        self.status_interval = self.status_interval.or(job.status_interval);
        self.no_progress |= job.progress == Some(false);
        Ok(())
    }

    /// What was typed and what the files say, as far as it makes sense.
    ///
    /// # Errors
    /// Usage.
    pub fn validate(mut self) -> Result<RunOptions> {
        self.configured.refuse_what_comes_later(self.overridden())?;
        let conninfo = self.configured.conninfo(&self.source)?;
        self.configured
            .configuration
            .check_database(&conninfo.dbname)?;
        let connection = &self.configured.configuration.connection;
        let retries = Retries {
            most: connection.max_retries,
            wait: connection.retry_wait,
        };
        self.complete()?;
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
        if let Some(start) = self.start_lsn {
            if self.slot.is_none() {
                return Err(Failure::usage("--start-lsn needs --slot").hint(
                    "without --slot the run reads a temporary slot, which has nothing of before it is made",
                ));
            }
            if let Some(until) = self.until_lsn.filter(|until| *until < start) {
                return Err(Failure::usage(format!(
                    "the end, --until-lsn {until}, is before the start, --start-lsn {start}"
                ))
                .hint("start-lsn may also be in the extractor's start-position"));
            }
        }
        let heartbeat = super::heartbeat::of(
            super::heartbeat::Typed {
                interval: self.heartbeat,
                table: self.heartbeat_table.take(),
                create: self.create_heartbeat_table,
            },
            self.configured.heartbeat.take(),
        )?;
        let reader = match self.reader {
            Some(kind) => kind.reader(),
            None => self.configured_reader.unwrap_or(LogReader::Stream),
        };
        if reader == LogReader::Stream {
            for (flag, given) in [
                ("--poll-interval", self.poll_interval.is_some()),
                ("--poll-rows", self.poll_rows.is_some()),
            ] {
                if given {
                    return Err(Failure::usage(format!("{flag} needs --reader sql"))
                        .hint("the replication protocol sends changes as they are made"));
                }
            }
        } else if self.two_phase {
            return Err(Failure::usage(
                "--two-phase needs the replication protocol: prepared transactions can't be polled",
            )
            .hint("leave it out: they come at COMMIT PREPARED"));
        }
        let slot = SlotRequest {
            name: self.slot.clone(),
            plugin: self.plugin.and_then(Plugin::chosen),
            create: self.create_slot,
            takeover: self.takeover,
            two_phase: self.two_phase,
        };
        Ok(RunOptions {
            sink: self.sink()?,
            conninfo,
            tables: TableFilter::new(&self.tables, &self.exclude_tables)?,
            rules: Rules {
                accept_missing_identity: self.missing_identity == Some(MissingIdentity::Accept),
                ..std::mem::take(&mut self.rules)
            },
            further_plugin_options: self.further_plugin_options()?,
            pushed_columns: self.pushed_columns,
            push_conditions: self.push_conditions != Some(Switch::Off),
            reader,
            poll_interval: self.poll_interval.unwrap_or(POLL_INTERVAL),
            poll_rows: self
                .poll_rows
                .or(self.configured_rows.filter(|_| reader == LogReader::Sql)),
            further_slots: self
                .further_slots
                .iter()
                .map(|(name, plugin)| SlotRequest {
                    name: Some(name.clone()),
                    plugin: plugin.and_then(Plugin::chosen),
                    ..slot.clone()
                })
                .collect(),
            slot,
            publication: self.publication,
            state_dir: self.state_dir,
            start_lsn: self.start_lsn,
            until_lsn: self.until_lsn,
            accept_missing_identity: self.missing_identity == Some(MissingIdentity::Accept),
            // A peek would give transactions in progress again each time.
            streaming: reader == LogReader::Stream && self.streaming != Some(Switch::Off),
            values: ValueForms {
                int8: match self.int8.unwrap_or(NumberForm::Number) {
                    NumberForm::Number => Int8Form::Number,
                    NumberForm::String => Int8Form::String,
                },
                numeric: match self.numeric.unwrap_or(NumberForm::String) {
                    NumberForm::Number => NumericForm::Number,
                    NumberForm::String => NumericForm::String,
                },
                json: match self.json.unwrap_or(DocumentForm::Embedded) {
                    DocumentForm::Embedded => JsonForm::Embedded,
                    DocumentForm::String => JsonForm::String,
                },
                bytea: match self.bytea.unwrap_or(BinaryForm::Base64) {
                    BinaryForm::Base64 => ByteaForm::Base64,
                    BinaryForm::Hex => ByteaForm::Hex,
                },
            },
            memory_limit: self.memory_limit.unwrap_or(MEMORY_LIMIT),
            spill_dir: self.spill_dir,
            spill_limit: self.spill_limit,
            workers: self.workers.map(usize::from),
            accept_gap: self.accept_gap,
            status_interval: self.status_interval.unwrap_or(STATUS_INTERVAL),
            flush_interval: self.flush_interval.unwrap_or(FLUSH_INTERVAL),
            retries,
            heartbeat,
            own_events: self.own_events,
            schema_changes: self.schema_changes,
            progress: !self.no_progress,
        })
    }

    fn sink(&mut self) -> Result<sink::Target> {
        match (&self.sink, self.configured.sink.take()) {
            (Some(url), _) => sink::Target::parse(url),
            (None, Some(sink)) => Ok(sink),
            (None, None) => Err(Failure::usage("no sink is named").hint(
                "say where events go: --sink stdout, or --sink file:///dir/name.jsonl, or the key sink in a configuration file",
            )),
        }
    }

    fn refuse_what_comes_later(&self) -> Result<()> {
        if let Some(mode) = self.mode.filter(|mode| *mode != Mode::Realtime) {
            return Err(Failure::usage(format!(
                "--mode {} comes with a later version; this one delivers changes as they are made",
                mode.name()
            ))
            .hint(
                "use --mode realtime, and copy what is there already by other means, e.g. pg_dump",
            ));
        }
        if self.publication.is_some()
            && matches!(self.plugin, Some(Plugin::Walferry | Plugin::Wal2json))
        {
            return Err(
                Failure::usage("--publication belongs to plugin pgoutput").hint(
                    "choose tables with --tables and --exclude-tables, or read --plugin pgoutput",
                ),
            );
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
                    .hint("use --tables, --exclude-tables, --where, --streaming and --two-phase"));
                }
                Ok((name.to_owned(), value.to_owned()))
            })
            .collect()
    }
}
