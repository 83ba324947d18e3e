//! The one file: what a run needs, whole. Its keys are the flags of
//! `walferry run` by the same names, and the three files by the names of the
//! flags that take them.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use walferry_protocol::Lsn;

use super::connection::{RawConnection, check_slot_name};
use super::document::{Entries, List, Value};
use super::extractor::RawExtractor;
use super::filter::RawFilter;
use super::report::Reader;
use super::setting::Bytes;
use super::sink::RawSink;
use crate::cli::{BinaryForm, DocumentForm, LogFormat, MissingIdentity, Mode, NumberForm, Plugin};
use crate::sink::Target;
use crate::source::secret::Secret;

/// walferry's configuration in one file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Configuration")]
pub struct RawJob {
    /// The source database: a postgres:// URL or libpq's key=value string. Instead of connection.
    source: Option<Value<Secret>>,
    /// The source, its slots and how to connect. Instead of source.
    pub(super) connection: Option<RawConnection>,
    /// Which schemas, tables, columns and rows go through.
    pub(super) filter: Option<RawFilter>,
    /// How rows are copied and changes are read.
    pub(super) extractor: Option<RawExtractor>,
    /// The replication slot to read. Default: the one of connection, else a temporary one.
    slot: Option<Value<String>>,
    /// Make the slot if it is missing. Default: false.
    create_slot: Option<Value<bool>>,
    /// End the process that reads the slot instead of waiting for it. Default: false.
    takeover: Option<Value<bool>>,
    /// The slot's output plugin. Default: auto.
    plugin: Option<Value<Plugin>>,
    /// The publication that the plugin pgoutput reads.
    publication: Option<Value<String>>,
    /// What to deliver. Default: realtime.
    mode: Option<Value<Mode>>,
    /// Deliver every commit that ends at or before this position, then end.
    until_lsn: Option<Value<Lsn>>,
    /// Tables to replicate, as schema.table with * and ?. Default: all.
    tables: Option<List<String>>,
    /// Tables to leave out, as schema.table with * and ?; wins over tables and filter.
    exclude_tables: Option<List<String>>,
    /// Whether to start when a table without a usable replica identity has had UPDATEs or DELETEs. Default: refuse.
    missing_identity: Option<Value<MissingIdentity>>,
    /// Let the server send large transactions while they are in progress. Default: true.
    streaming: Option<Value<bool>>,
    /// Let walferry's own plugin leave out what conditions leave out, where that is exact. Default: true.
    push_conditions: Option<Value<bool>>,
    /// Take prepared transactions at PREPARE; a slot once read so stays so. Default: false.
    two_phase: Option<Value<bool>>,
    /// Deliver walferry's own tables and heartbeats too. Default: false.
    own_events: Option<Value<bool>>,
    /// Deliver captured DDL as schema-change events. Default: false.
    schema_changes: Option<Value<bool>>,
    /// Further options of the output plugin, by name.
    plugin_options: Option<Entries<Value<String>>>,
    /// Where events go: a URL (stdout, null, file:///dir/name.jsonl) or a mapping.
    #[serde(deserialize_with = "super::sink::even_null")]
    sink: Option<RawSink>,
    /// Where the position is kept. Default: beside the file.
    state_dir: Option<Value<PathBuf>>,
    /// How values are written in JSON.
    values: Option<RawValues>,
    /// Bytes of changes held in memory before the rest is spilled or waits. Default: 128MB.
    memory_limit: Option<Value<Bytes>>,
    /// Where transactions in progress are spilled. Default: inside the state folder.
    spill_dir: Option<Value<PathBuf>>,
    /// Bytes that may be spilled at a time. Default: as many as the disk takes.
    spill_limit: Option<Value<Bytes>>,
    /// The longest time between two status updates to the server. Default: 10s.
    status_interval: Option<Value<Duration>>,
    /// The longest time that written events wait for the sink's flush. Default: 100ms.
    flush_interval: Option<Value<Duration>>,
    /// A progress line on a terminal. Default: true.
    progress: Option<Value<bool>>,
    /// The log.
    logging: Option<RawLogging>,
}

/// How values are written in JSON.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Values")]
pub struct RawValues {
    /// Default: string.
    numeric: Option<Value<NumberForm>>,
    /// Default: number.
    int8: Option<Value<NumberForm>>,
    /// json and jsonb. Default: embedded.
    json: Option<Value<DocumentForm>>,
    /// Default: base64.
    bytea: Option<Value<BinaryForm>>,
}

/// The log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Logging")]
pub struct RawLogging {
    /// error, warn, info, debug, trace, or filters such as walferry_streamer::source=debug. Default: info.
    level: Option<Value<String>>,
    /// Default: text.
    format: Option<Value<LogFormat>>,
}

/// The keys of the one file that are not sections, validated. `None` and empty
/// are the flag's default.
#[derive(Clone, Debug, Default)]
pub struct Job {
    pub source: Option<Secret>,
    pub slot: Option<String>,
    pub create_slot: bool,
    pub takeover: bool,
    pub plugin: Option<Plugin>,
    pub publication: Option<String>,
    pub mode: Option<Mode>,
    pub until_lsn: Option<Lsn>,
    pub tables: Vec<String>,
    pub exclude_tables: Vec<String>,
    pub missing_identity: Option<MissingIdentity>,
    pub streaming: Option<bool>,
    pub push_conditions: Option<bool>,
    pub two_phase: bool,
    pub own_events: bool,
    pub schema_changes: bool,
    pub plugin_options: Vec<(String, String)>,
    pub sink: Option<Target>,
    pub state_dir: Option<PathBuf>,
    pub numeric: Option<NumberForm>,
    pub int8: Option<NumberForm>,
    pub json: Option<DocumentForm>,
    pub bytea: Option<BinaryForm>,
    pub memory_limit: Option<u64>,
    pub spill_dir: Option<PathBuf>,
    pub spill_limit: Option<u64>,
    pub status_interval: Option<Duration>,
    pub flush_interval: Option<Duration>,
    pub progress: Option<bool>,
    pub log_level: Option<String>,
    pub log_format: Option<LogFormat>,
}

impl RawJob {
    /// The keys that are not sections.
    pub(super) fn validate(&self, reader: &mut Reader<'_>) -> Job {
        let job = Job {
            source: reader.optional("source", self.source.as_ref()),
            slot: self.slot(reader),
            create_slot: reader.flag("create-slot", self.create_slot.as_ref()),
            takeover: reader.flag("takeover", self.takeover.as_ref()),
            plugin: reader.optional("plugin", self.plugin.as_ref()),
            publication: reader.optional("publication", self.publication.as_ref()),
            mode: reader.optional("mode", self.mode.as_ref()),
            until_lsn: reader.optional("until-lsn", self.until_lsn.as_ref()),
            tables: patterns(reader, "tables", self.tables.as_ref()),
            exclude_tables: patterns(reader, "exclude-tables", self.exclude_tables.as_ref()),
            missing_identity: reader.optional("missing-identity", self.missing_identity.as_ref()),
            streaming: reader.optional("streaming", self.streaming.as_ref()),
            push_conditions: reader.optional("push-conditions", self.push_conditions.as_ref()),
            two_phase: reader.flag("two-phase", self.two_phase.as_ref()),
            own_events: reader.flag("own-events", self.own_events.as_ref()),
            schema_changes: reader.flag("schema-changes", self.schema_changes.as_ref()),
            plugin_options: self.plugin_options(reader),
            sink: self.sink.as_ref().and_then(|sink| sink.validate(reader)),
            state_dir: reader.optional("state-dir", self.state_dir.as_ref()),
            memory_limit: reader
                .optional("memory-limit", self.memory_limit.as_ref())
                .map(|Bytes(bytes)| bytes),
            spill_dir: reader.optional("spill-dir", self.spill_dir.as_ref()),
            spill_limit: reader
                .optional("spill-limit", self.spill_limit.as_ref())
                .map(|Bytes(bytes)| bytes),
            status_interval: reader.optional("status-interval", self.status_interval.as_ref()),
            flush_interval: reader.optional("flush-interval", self.flush_interval.as_ref()),
            progress: reader.optional("progress", self.progress.as_ref()),
            ..Job::default()
        };
        let job = self.with_values(job, reader);
        let job = self.with_logging(job, reader);
        self.check_twice(reader);
        job
    }

    fn slot(&self, reader: &mut Reader<'_>) -> Option<String> {
        let value = self.slot.as_ref()?;
        let name = reader.get("slot", value)?;
        check_slot_name(reader, value.at, "slot", &name);
        Some(name)
    }

    fn plugin_options(&self, reader: &mut Reader<'_>) -> Vec<(String, String)> {
        let mut options = Vec::new();
        for (name, value) in self.plugin_options.iter().flat_map(|entries| &entries.0) {
            let at = name.at;
            let Some(name) = reader.get("plugin-options", name) else {
                continue;
            };
            match value {
                Some(value) => {
                    if let Some(value) = reader.get(&name, value) {
                        options.push((name, value));
                    }
                }
                None => reader.error(at, format!("plugin-options: {name} has no value"), None),
            }
        }
        options
    }

    fn with_values(&self, job: Job, reader: &mut Reader<'_>) -> Job {
        let Some(values) = &self.values else {
            return job;
        };
        Job {
            numeric: reader.optional("numeric", values.numeric.as_ref()),
            int8: reader.optional("int8", values.int8.as_ref()),
            json: reader.optional("json", values.json.as_ref()),
            bytea: reader.optional("bytea", values.bytea.as_ref()),
            ..job
        }
    }

    fn with_logging(&self, job: Job, reader: &mut Reader<'_>) -> Job {
        let Some(logging) = &self.logging else {
            return job;
        };
        let log_level = logging.level.as_ref().and_then(|value| {
            let level: String = reader.get("level", value)?;
            if tracing_subscriber::EnvFilter::try_new(&level).is_err() {
                reader.error(
                    value.at,
                    format!("level: {level:?} is not a log level"),
                    Some("the levels are error, warn, info, debug and trace"),
                );
            }
            Some(level)
        });
        Job {
            log_level,
            log_format: reader.optional("format", logging.format.as_ref()),
            ..job
        }
    }

    /// Two keys that say the same thing are one too many.
    fn check_twice(&self, reader: &mut Reader<'_>) {
        if let (Some(value), Some(_)) = (&self.source, &self.connection) {
            reader.error(
                value.at,
                "there is both a source and a connection",
                Some("write the source's settings in connection, or its URL in source"),
            );
        }
        if let (Some(tables), Some(filter)) = (&self.tables, &self.filter)
            && let Some(value) = tables.0.first()
            && filter.is_given()
        {
            reader.error(
                value.at,
                "there are both tables and a filter",
                Some("write the tables in filter; exclude-tables goes with either"),
            );
        }
        if let (Some(value), Some(connection)) = (&self.slot, &self.connection)
            && connection.has_slots()
        {
            reader.error(
                value.at,
                "there is both a slot and connection.replication-slots",
                Some("name the slot once"),
            );
        }
    }
}

impl Reader<'_> {
    fn flag(&mut self, key: &str, value: Option<&Value<bool>>) -> bool {
        self.optional(key, value).unwrap_or(false)
    }
}

/// `schema.table` patterns, checked one by one so that the place is exact.
fn patterns(reader: &mut Reader<'_>, key: &str, list: Option<&List<String>>) -> Vec<String> {
    let mut read = Vec::new();
    for value in list.iter().flat_map(|list| &list.0) {
        let Some(pattern) = reader.get(key, value) else {
            continue;
        };
        match crate::source::table_filter::TableFilter::new(std::slice::from_ref(&pattern), &[]) {
            Ok(_) => read.push(pattern),
            Err(failure) => reader.failure(value.at, key, &failure),
        }
    }
    read
}
