//! `walferry check`: whether a run would work, before there is one.

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use super::configured::{ConfigurationFiles, Configured};
use super::run::{MissingIdentity, Mode, Plugin, ReaderKind};
use super::{SourceArguments, print};
use crate::config::connection::LogReader;
use crate::error::{Class, Failure, Result};
use crate::source::conninfo::Conninfo;
use crate::source::preflight::{self, Finding, FixKind, Question, Report, Verdict};
use crate::source::slot;
use crate::source::table_filter::TableFilter;

/// What `check` and `tables` are asked about: the same arguments as `run`'s.
#[derive(Debug, Args)]
pub struct Subject {
    #[command(flatten)]
    pub(super) files: ConfigurationFiles,

    #[command(flatten)]
    source: SourceArguments,

    /// Tables to replicate: schema.table with * and ?, comma-separated, may be given again
    #[arg(long, value_name = "PATTERNS", help_heading = "What")]
    tables: Vec<String>,

    /// Tables to leave out; wins over --tables
    #[arg(long, value_name = "PATTERNS", help_heading = "What")]
    exclude_tables: Vec<String>,

    /// The publication that plugin pgoutput reads
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    publication: Option<String>,

    /// What the configuration files say, once they are read
    #[arg(skip)]
    pub(super) configured: Configured,
}

impl Subject {
    pub(super) fn conninfo(&self) -> Result<Conninfo> {
        let conninfo = self.configured.conninfo(&self.source)?;
        let configuration = &self.configured.configuration;
        configuration.check_database(&conninfo.dbname)?;
        Ok(conninfo)
    }

    /// The tables that were chosen, and whether any were.
    pub(super) fn filter(&self) -> Result<(TableFilter, bool)> {
        let configuration = &self.configured.configuration;
        let mut include = self.tables.clone();
        if include.is_empty() {
            include = configuration.job.tables.clone();
            include.extend(configuration.filter.table_patterns());
        }
        let exclude = if self.exclude_tables.is_empty() {
            &configuration.job.exclude_tables
        } else {
            &self.exclude_tables
        };
        Ok((TableFilter::new(&include, exclude)?, !include.is_empty()))
    }

    pub(super) fn publication(&self) -> Option<String> {
        let of_files = || self.configured.configuration.job.publication.clone();
        self.publication.clone().or_else(of_files)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
One line each: pass, warn or fail; below what does not pass, the statement that mends it.
Exit codes: 0 nothing stops replication, 3 something does, 2 bad usage or configuration.

Examples:
  walferry check --source postgres://ferry@db/shop
  walferry check --source postgres://ferry@db/shop --slot ferry --tables 'sales.*'
  walferry check --config walferry.yaml --json
docs/check.md has the codes.")]
pub struct CheckArguments {
    #[command(flatten)]
    pub(super) subject: Subject,

    /// The replication slot that is to be read; without it a new one
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    slot: Option<String>,

    /// How changes are to be read [default: stream]
    #[arg(long, value_enum, help_heading = "Source")]
    reader: Option<ReaderKind>,

    /// The run is to make the slot if it is missing
    #[arg(long, help_heading = "Source")]
    create_slot: bool,

    /// The slot's output plugin [default: auto]
    #[arg(long, value_enum, help_heading = "Source")]
    plugin: Option<Plugin>,

    /// What is to be delivered; realtime needs no right to SELECT
    #[arg(long, value_enum, help_heading = "Source")]
    mode: Option<Mode>,

    /// What the run is to do about tables without a usable replica identity that have had UPDATEs or DELETEs [default: refuse]
    #[arg(long, value_enum, help_heading = "What")]
    missing_identity: Option<MissingIdentity>,

    /// The heartbeat's table, schema.table
    #[arg(long, value_name = "TABLE", value_parser = super::heartbeat::table_name, help_heading = "Heartbeat")]
    heartbeat_table: Option<super::heartbeat::TableName>,

    /// The run is to make the heartbeat's table if it is missing
    #[arg(long, help_heading = "Heartbeat")]
    create_heartbeat_table: bool,

    /// Captured DDL is to be delivered
    #[arg(long, help_heading = "What")]
    schema_changes: bool,

    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl CheckArguments {
    fn question(&self) -> Result<Question> {
        let configuration = &self.subject.configured.configuration;
        let slot = self
            .slot
            .clone()
            .or_else(|| configuration.slot().map(str::to_owned));
        if let Some(name) = &slot {
            slot::check_name(name)?;
        }
        // A slot that was typed has a plugin of its own.
        let of_files = match self.slot {
            None => configuration.plugin(),
            Some(_) => configuration.job.plugin,
        };
        let plugin = self.plugin.or(of_files);
        let name_of = |plugin: Option<Plugin>| {
            plugin
                .filter(|plugin| *plugin != Plugin::Auto)
                .map(Plugin::name)
        };
        let further_slots = match self.slot {
            Some(_) => Vec::new(),
            None => configuration
                .further_slots()
                .iter()
                .map(|slot| {
                    let plugin = self.plugin.or(configuration.job.plugin).or(slot.plugin);
                    (slot.name.clone(), name_of(plugin))
                })
                .collect(),
        };
        let reader = self.reader.map(ReaderKind::reader);
        let reader = reader.or(configuration.connection.log_reader);
        let reader = reader.unwrap_or(LogReader::Stream);
        let (tables, chosen) = self.subject.filter()?;
        let identity = self.missing_identity.or(configuration.job.missing_identity);
        let realtime = configuration.extractor.realtime.as_ref();
        let heartbeat = super::heartbeat::of(
            super::heartbeat::Typed {
                interval: None,
                table: self.heartbeat_table.clone(),
                create: self.create_heartbeat_table,
            },
            realtime.and_then(|realtime| realtime.heartbeat.clone()),
        )?;
        Ok(Question {
            conninfo: self.subject.conninfo()?,
            slot,
            further_slots,
            reader,
            create_slot: self.create_slot || configuration.job.create_slot,
            plugin: name_of(plugin),
            publication: self.subject.publication(),
            tables,
            chosen,
            accept_missing_identity: identity == Some(MissingIdentity::Accept),
            heartbeat: heartbeat.and_then(|beat| beat.carrier.table()),
            schema_changes: self.schema_changes || configuration.job.schema_changes,
            changes_only: self.mode.or(configuration.job.mode) == Some(Mode::Realtime),
        })
    }
}

pub fn execute(arguments: CheckArguments) -> Result<()> {
    arguments.subject.configured.warn();
    let question = arguments.question()?;
    let report = super::slot::block_on(async { Ok(preflight::examine(&question).await) })?;
    if arguments.json {
        let mut object = json!(report);
        object["verdict"] = json!(report.verdict());
        print(format!("{object:#}\n").as_bytes())?;
    } else {
        print(page(&report).as_bytes())?;
    }
    let failed: Vec<&str> = report
        .findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Fail)
        .map(|finding| finding.code)
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let mut codes = failed.clone();
    codes.dedup();
    Err(Failure::new(
        Class::Unready,
        format!("replication would not work: {}", codes.join(", ")),
    ))
}

/// The report for people.
fn page(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        line(finding, &mut text);
    }
    let count = |verdict| {
        let findings = report.findings.iter();
        findings
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    let _ = writeln!(
        text,
        "\n{} passed, {} to look at, {} to mend",
        count(Verdict::Pass),
        count(Verdict::Warn),
        count(Verdict::Fail)
    );
    text
}

fn line(finding: &Finding, text: &mut String) {
    let object = finding
        .object
        .as_ref()
        .map(|object| format!("{object}: "))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "{}  {:<24} {object}{}",
        finding.verdict.name(),
        finding.code,
        finding.finding
    );
    for fix in &finding.fix {
        let end = if fix.kind == FixKind::Sql { ";" } else { "" };
        let _ = writeln!(text, "        {}{end}", fix.text);
    }
    if let Some(note) = &finding.note {
        let _ = writeln!(text, "        ({note})");
    }
}
