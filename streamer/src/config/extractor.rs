//! The extractor: how rows are copied and changes are read.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use walferry_protocol::Lsn;

use super::document::{Entries, List, OneOrMany, Value};
use super::filter::Catalog;
use super::report::Reader;
use super::setting::{Workers, choice};

/// An extractor file, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Extractor")]
pub struct RawExtractor {
    /// Copying the rows that are there.
    snapshot: Option<RawSnapshot>,
    /// Reading changes from a slot.
    realtime: Option<RawRealtime>,
    /// Finding changes by a key, without a slot.
    delta_snapshot: Option<RawDeltaSnapshot>,
}

/// How rows are copied, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Snapshot")]
pub struct RawSnapshot {
    /// Connections that copy at the same time.
    threads: Option<Value<NonZeroU32>>,
    /// Rows that are fetched at a time.
    fetch_size_rows: Option<Value<NonZeroU32>>,
    /// Log each statement that is sent to the source.
    #[serde(rename = "_traceDBTasks")]
    trace_db_tasks: Option<Value<bool>>,
    /// Tables with fewer rows are copied in one piece.
    min_job_size_rows: Option<Value<NonZeroU64>>,
    /// The most pieces of a table.
    max_jobs_per_chunk: Option<Value<NonZeroU32>>,
    /// Settings of single tables.
    per_table_config: Option<OneOrMany<RawSnapshotTables>>,
}

/// Tables of one schema, as they are written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "SnapshotTables")]
pub struct RawSnapshotTables {
    /// The database.
    catalog: Option<Value<String>>,
    /// The schema.
    schema: Option<Value<String>>,
    /// The tables, by name.
    tables: Option<Entries<RawSnapshotTable>>,
}

/// How one table is copied, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "SnapshotTable")]
pub struct RawSnapshotTable {
    /// Columns that together tell one row from another, for a table without a key.
    row_identifier_key: Option<List<String>>,
    /// The column by which the table is cut in pieces.
    split_key: Option<Value<String>>,
    /// How it is cut: RANGE or MODULO.
    split_method: Option<Value<SplitMethod>>,
    /// What is known of the split key, so that it need not be asked for.
    split_hints: Option<RawSplitHints>,
}

/// What is known of a split key, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "SplitHints")]
pub struct RawSplitHints {
    /// About how many rows there are.
    row_count_estimate: Option<Value<u64>>,
    /// The key's least value.
    split_key_min_value: Option<Value<i64>>,
    /// The key's greatest value.
    split_key_max_value: Option<Value<i64>>,
}

/// How changes are read, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Realtime")]
pub struct RawRealtime {
    /// Threads that decode and encode, 256 at most. Default: one a core.
    threads: Option<Value<Workers>>,
    /// Rows that are fetched at a time by the SQL log reader.
    fetch_size_rows: Option<Value<NonZeroU32>>,
    /// Seconds that one fetch of the SQL log reader may take.
    fetch_duration_per_extractor_slot_s: Option<Value<NonZeroU32>>,
    /// Log each statement that is sent to the source.
    #[serde(rename = "_traceDBTasks")]
    trace_db_tasks: Option<Value<bool>>,
    /// A table that is written to now and then, so that an idle database's slot moves on.
    heartbeat: Option<RawHeartbeat>,
    /// Where reading starts the first time. Default: where the slot is.
    start_position: Option<RawStartPosition>,
}

/// The heartbeat table, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Heartbeat")]
pub struct RawHeartbeat {
    /// Default: false.
    enable: Option<Value<bool>>,
    /// The database; it must be the one that is connected to.
    catalog: Option<Value<String>>,
    /// Default: public.
    schema: Option<Value<String>>,
    /// Default: replicate_io_cdc_heartbeat.
    table_name: Option<Value<String>>,
    /// A column of type int8 (bigint). Default: timestamp.
    column_name: Option<Value<String>>,
    /// Milliseconds between two beats. Default: 10000.
    interval_ms: Option<Value<NonZeroU64>>,
    /// TABLE, or MESSAGE for a logical message where no table may exist. Default: TABLE.
    carrier: Option<Value<HeartbeatCarrier>>,
    /// Make the table if it is missing. Default: false.
    create: Option<Value<bool>>,
}

/// Where reading starts, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "StartPosition")]
pub struct RawStartPosition {
    /// Where the first start begins: changes that committed before it are left out. Later starts go on where the state says.
    start_lsn: Option<Value<Lsn>>,
}

/// Delta snapshots, as they are written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "DeltaSnapshot")]
pub struct RawDeltaSnapshot {
    /// Connections that read at the same time.
    threads: Option<Value<NonZeroU32>>,
    /// Rows that are fetched at a time.
    fetch_size_rows: Option<Value<NonZeroU32>>,
    /// Log each statement that is sent to the source.
    #[serde(rename = "_traceDBTasks")]
    trace_db_tasks: Option<Value<bool>>,
    /// Tables with fewer rows are read in one piece.
    min_job_size_rows: Option<Value<NonZeroU64>>,
    /// The most pieces of a table.
    max_jobs_per_chunk: Option<Value<NonZeroU32>>,
    /// Columns that together tell one row from another.
    row_identifier_key: Option<List<String>>,
    /// Columns that change whenever the row does.
    update_key: Option<List<String>>,
    /// Whether deleted rows are looked for.
    replicate_deletes: Option<Value<bool>>,
    /// Settings of single tables.
    per_table_config: Option<OneOrMany<RawDeltaTables>>,
}

/// Tables of one schema, as they are written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "DeltaTables")]
pub struct RawDeltaTables {
    /// The database.
    catalog: Option<Value<String>>,
    /// The schema.
    schema: Option<Value<String>>,
    /// The tables, by name.
    tables: Option<Entries<RawDeltaTable>>,
}

/// One table's delta snapshot, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "DeltaTable")]
pub struct RawDeltaTable {
    /// Columns that together tell one row from another.
    row_identifier_key: Option<List<String>>,
    /// Columns that change whenever the row does.
    update_key: Option<List<String>>,
    /// The column by which the table is cut in pieces.
    split_key: Option<Value<String>>,
    /// Whether deleted rows are looked for.
    replicate_deletes: Option<Value<bool>>,
}

choice! {
    /// What a beat is.
    HeartbeatCarrier ("TABLE or MESSAGE") { Table = "TABLE", Message = "MESSAGE" }
}

choice! {
    /// How a table is cut in pieces.
    SplitMethod ("RANGE or MODULO") { Range = "RANGE", Modulo = "MODULO" }
}

/// How rows are copied and changes are read, validated. `None`: the section is
/// not there.
#[derive(Clone, Debug, Default)]
pub struct Extractor {
    pub snapshot: Option<Snapshot>,
    pub realtime: Option<Realtime>,
    pub delta_snapshot: Option<DeltaSnapshot>,
}

/// How rows are copied.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub jobs: Jobs,
    pub tables: Vec<SnapshotTable>,
}

/// How reading tables is spread; `None` is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jobs {
    pub threads: Option<NonZeroU32>,
    pub fetch_size_rows: Option<NonZeroU32>,
    pub trace_statements: bool,
    pub min_job_size_rows: Option<NonZeroU64>,
    pub max_jobs_per_chunk: Option<NonZeroU32>,
}

/// The table that a section of a file is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    pub catalog: Option<Catalog>,
    pub schema: Option<String>,
    pub table: String,
}

/// How one table is copied.
#[derive(Clone, Debug)]
pub struct SnapshotTable {
    pub name: TableName,
    pub row_identifier_key: Vec<String>,
    pub split_key: Option<String>,
    pub split_method: Option<SplitMethod>,
    pub row_count_estimate: Option<u64>,
    pub split_key_min: Option<i64>,
    pub split_key_max: Option<i64>,
}

/// How changes are read.
#[derive(Clone, Debug, Default)]
pub struct Realtime {
    pub threads: Option<u16>,
    pub fetch_size_rows: Option<NonZeroU32>,
    pub fetch_duration: Option<Duration>,
    pub trace_statements: bool,
    pub heartbeat: Option<Heartbeat>,
    pub start_lsn: Option<Lsn>,
}

/// The heartbeat of a source; there is one only where it is enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub catalog: Option<Catalog>,
    pub schema: String,
    pub table: String,
    pub column: String,
    pub interval: Duration,
    pub carrier: HeartbeatCarrier,
    /// Make the table if it is missing.
    pub create: bool,
}

/// Finding changes by a key.
#[derive(Clone, Debug, Default)]
pub struct DeltaSnapshot {
    pub jobs: Jobs,
    pub row_identifier_key: Vec<String>,
    pub update_key: Vec<String>,
    pub replicate_deletes: Option<bool>,
    pub tables: Vec<DeltaTable>,
}

/// One table's delta snapshot; empty keys and `None` are the section's.
#[derive(Clone, Debug)]
pub struct DeltaTable {
    pub name: TableName,
    pub row_identifier_key: Vec<String>,
    pub update_key: Vec<String>,
    pub split_key: Option<String>,
    pub replicate_deletes: Option<bool>,
}

impl RawExtractor {
    pub(super) fn validate(&self, reader: &mut Reader<'_>) -> Extractor {
        Extractor {
            snapshot: self.snapshot.as_ref().map(|raw| raw.validate(reader)),
            realtime: self.realtime.as_ref().map(|raw| raw.validate(reader)),
            delta_snapshot: self.delta_snapshot.as_ref().map(|raw| raw.validate(reader)),
        }
    }
}

fn columns(reader: &mut Reader<'_>, key: &str, columns: Option<&List<String>>) -> Vec<String> {
    columns
        .map(|list| reader.list(key, list))
        .unwrap_or_default()
}

/// The tables of one entry of `per-table-config`.
fn tables<'a, T>(
    reader: &mut Reader<'_>,
    catalog: Option<&Value<String>>,
    schema: Option<&Value<String>>,
    entries: Option<&'a Entries<T>>,
) -> Vec<(TableName, Option<&'a T>)> {
    let catalog = reader.catalog("catalog", catalog);
    let schema = reader.optional("schema", schema);
    let mut named = Vec::new();
    for (name, settings) in entries.iter().flat_map(|entries| &entries.0) {
        if let Some(table) = reader.get("tables", name) {
            let name = TableName {
                catalog: catalog.clone(),
                schema: schema.clone(),
                table,
            };
            named.push((name, settings.as_ref()));
        }
    }
    named
}

impl RawSnapshot {
    fn validate(&self, reader: &mut Reader<'_>) -> Snapshot {
        let jobs = Jobs {
            threads: reader.optional("threads", self.threads.as_ref()),
            fetch_size_rows: reader.optional("fetch-size-rows", self.fetch_size_rows.as_ref()),
            trace_statements: reader
                .optional("_traceDBTasks", self.trace_db_tasks.as_ref())
                .unwrap_or(false),
            min_job_size_rows: reader
                .optional("min-job-size-rows", self.min_job_size_rows.as_ref()),
            max_jobs_per_chunk: reader
                .optional("max-jobs-per-chunk", self.max_jobs_per_chunk.as_ref()),
        };
        let mut all = Vec::new();
        for entry in self.per_table_config.iter().flat_map(|list| &list.0) {
            let named = tables(
                reader,
                entry.catalog.as_ref(),
                entry.schema.as_ref(),
                entry.tables.as_ref(),
            );
            for (name, settings) in named {
                let default = RawSnapshotTable::default();
                let table = settings.unwrap_or(&default).validate(reader, name);
                all.push(table);
            }
        }
        Snapshot { jobs, tables: all }
    }
}

impl RawSnapshotTable {
    fn validate(&self, reader: &mut Reader<'_>, name: TableName) -> SnapshotTable {
        let hints = self.split_hints.as_ref();
        let min_value = hints.and_then(|hints| hints.split_key_min_value.as_ref());
        let max_value = hints.and_then(|hints| hints.split_key_max_value.as_ref());
        let estimate = hints.and_then(|hints| hints.row_count_estimate.as_ref());
        let table = SnapshotTable {
            name,
            row_identifier_key: columns(
                reader,
                "row-identifier-key",
                self.row_identifier_key.as_ref(),
            ),
            split_key: reader.optional("split-key", self.split_key.as_ref()),
            split_method: reader.optional("split-method", self.split_method.as_ref()),
            row_count_estimate: reader.optional("row-count-estimate", estimate),
            split_key_min: reader.optional("split-key-min-value", min_value),
            split_key_max: reader.optional("split-key-max-value", max_value),
        };
        if let (Some(min), Some(max), Some(value)) =
            (table.split_key_min, table.split_key_max, max_value)
            && max < min
        {
            reader.error(
                value.at,
                "split-key-max-value is below split-key-min-value",
                None,
            );
        }
        table
    }
}

impl RawRealtime {
    fn validate(&self, reader: &mut Reader<'_>) -> Realtime {
        let start = self
            .start_position
            .as_ref()
            .and_then(|start| start.start_lsn.as_ref());
        let realtime = Realtime {
            threads: reader
                .optional("threads", self.threads.as_ref())
                .map(|Workers(threads)| threads),
            fetch_size_rows: reader.optional("fetch-size-rows", self.fetch_size_rows.as_ref()),
            fetch_duration: reader
                .optional(
                    "fetch-duration-per-extractor-slot-s",
                    self.fetch_duration_per_extractor_slot_s.as_ref(),
                )
                .map(|seconds| Duration::from_secs(seconds.get().into())),
            trace_statements: reader
                .optional("_traceDBTasks", self.trace_db_tasks.as_ref())
                .unwrap_or(false),
            heartbeat: self
                .heartbeat
                .as_ref()
                .and_then(|heartbeat| heartbeat.validate(reader)),
            start_lsn: reader.optional("start-lsn", start),
        };
        if let Some(value) = &self.fetch_duration_per_extractor_slot_s {
            reader.warning(
                value.at,
                "fetch-duration-per-extractor-slot-s has no effect: each slot has a reader of its own, which stays with it",
                None,
            );
        }
        realtime
    }
}

impl RawHeartbeat {
    fn validate(&self, reader: &mut Reader<'_>) -> Option<Heartbeat> {
        let enable = reader.optional("enable", self.enable.as_ref());
        let catalog = reader.catalog("catalog", self.catalog.as_ref());
        let mut name = |key, value: &Option<Value<String>>, default: &str| {
            reader
                .optional(key, value.as_ref())
                .unwrap_or_else(|| default.to_owned())
        };
        let schema = name("schema", &self.schema, "public");
        let table = name("table-name", &self.table_name, "replicate_io_cdc_heartbeat");
        let column = name("column-name", &self.column_name, "timestamp");
        let interval = reader
            .optional("interval-ms", self.interval_ms.as_ref())
            .map_or(10_000, NonZeroU64::get);
        let carrier = reader
            .optional("carrier", self.carrier.as_ref())
            .unwrap_or(HeartbeatCarrier::Table);
        let create = reader
            .optional("create", self.create.as_ref())
            .unwrap_or(false);
        if enable != Some(true) {
            return None;
        }
        Some(Heartbeat {
            catalog,
            schema,
            table,
            column,
            interval: Duration::from_millis(interval),
            carrier,
            create,
        })
    }
}

impl RawDeltaSnapshot {
    fn validate(&self, reader: &mut Reader<'_>) -> DeltaSnapshot {
        let mut delta = DeltaSnapshot {
            jobs: Jobs {
                threads: reader.optional("threads", self.threads.as_ref()),
                fetch_size_rows: reader.optional("fetch-size-rows", self.fetch_size_rows.as_ref()),
                trace_statements: reader
                    .optional("_traceDBTasks", self.trace_db_tasks.as_ref())
                    .unwrap_or(false),
                min_job_size_rows: reader
                    .optional("min-job-size-rows", self.min_job_size_rows.as_ref()),
                max_jobs_per_chunk: reader
                    .optional("max-jobs-per-chunk", self.max_jobs_per_chunk.as_ref()),
            },
            row_identifier_key: columns(
                reader,
                "row-identifier-key",
                self.row_identifier_key.as_ref(),
            ),
            update_key: columns(reader, "update-key", self.update_key.as_ref()),
            replicate_deletes: reader
                .optional("replicate-deletes", self.replicate_deletes.as_ref()),
            tables: Vec::new(),
        };
        for entry in self.per_table_config.iter().flat_map(|list| &list.0) {
            let named = tables(
                reader,
                entry.catalog.as_ref(),
                entry.schema.as_ref(),
                entry.tables.as_ref(),
            );
            for (name, settings) in named {
                let default = RawDeltaTable::default();
                let settings = settings.unwrap_or(&default);
                delta.tables.push(DeltaTable {
                    name,
                    row_identifier_key: columns(
                        reader,
                        "row-identifier-key",
                        settings.row_identifier_key.as_ref(),
                    ),
                    update_key: columns(reader, "update-key", settings.update_key.as_ref()),
                    split_key: reader.optional("split-key", settings.split_key.as_ref()),
                    replicate_deletes: reader
                        .optional("replicate-deletes", settings.replicate_deletes.as_ref()),
                });
            }
        }
        delta
    }
}

impl Extractor {
    /// The databases that a realtime run is told of.
    pub fn catalogs(&self) -> impl Iterator<Item = &Catalog> {
        self.realtime
            .iter()
            .filter_map(|realtime| realtime.heartbeat.as_ref()?.catalog.as_ref())
    }
}
