//! What `walferry run` was asked to do, validated: no text that still has to
//! be parsed, and nothing that contradicts itself.

use std::path::PathBuf;
use std::time::Duration;

use walferry_protocol::{Lsn, SUPPORTED_VERSIONS};

use crate::config::connection::LogReader;
use crate::encode::ValueForms;
use crate::error::Result;
use crate::filter::{Rules, push};
use crate::heartbeat::Heartbeat;
use crate::sink;
use crate::source::conninfo::Conninfo;
use crate::source::slot::{SlotInfo, SlotRequest};
use crate::source::table_filter::TableFilter;

/// The validated options of `walferry run`.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where the source is and who we are there.
    pub conninfo: Conninfo,
    /// Over the replication protocol or by polling.
    pub reader: LogReader,
    /// The pause of a polling reader that has read everything.
    pub poll_interval: Duration,
    /// Rows of one poll; it ends with the transaction that makes it as many.
    pub poll_rows: Option<u32>,
    /// Which slot to read, and what to do when it is missing or in use.
    pub slot: SlotRequest,
    /// The publication that plugin pgoutput reads; `None`: one named walferry.
    pub publication: Option<String>,
    /// More slots to read at the same time, each on its own.
    pub further_slots: Vec<SlotRequest>,
    pub sink: sink::Target,
    /// Where the run keeps its state; the sink's own default where `None`.
    pub state_dir: Option<PathBuf>,
    /// Where the first start begins; `None`: where the slot is.
    pub start_lsn: Option<Lsn>,
    /// Deliver every commit whose end LSN is at or below this, then end.
    pub until_lsn: Option<Lsn>,
    /// Start although tables without a usable replica identity have had
    /// UPDATEs or DELETEs.
    pub accept_missing_identity: bool,
    pub tables: TableFilter,
    /// Which of their rows, UPDATEs, operations and columns go through.
    pub rules: Rules,
    /// Whether the server may send transactions that are still in progress.
    pub streaming: bool,
    /// Further options of the output plugin, as the user gave them.
    pub further_plugin_options: Vec<(String, String)>,
    /// The native plugin's option `columns`: what filters read or show, so
    /// that nothing else is sent. Filters hold without it too.
    pub pushed_columns: Option<String>,
    /// Whether the native plugin gets the conditions too, to leave out early
    /// what they leave out.
    pub push_conditions: bool,
    pub values: ValueForms,
    /// Bytes of changes that may be in memory before backpressure and spilling.
    pub memory_limit: u64,
    /// Where transactions in progress are spilled.
    pub spill_dir: Option<PathBuf>,
    /// Bytes that may be spilled at a time; `None`: as many as the disk takes.
    pub spill_limit: Option<u64>,
    /// Threads that decode and encode; `None`: one a core.
    pub workers: Option<usize>,
    /// Go on although the slot is past the state's position: what lies between
    /// is not delivered.
    pub accept_gap: bool,
    /// The longest time between two standby status updates.
    pub status_interval: Duration,
    /// The longest time that written events wait for the sink's flush.
    pub flush_interval: Duration,
    pub retries: Retries,
    /// What is written into the source's database now and then.
    pub heartbeat: Option<Heartbeat>,
    /// walferry's own tables and heartbeats reach the sink too.
    pub own_events: bool,
    /// Captured DDL reaches the sink as schema changes.
    pub schema_changes: bool,
    /// Whether a progress line may be drawn on a terminal.
    pub progress: bool,
}

/// How a connection that failed is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retries {
    /// In a row; `None`: without end.
    pub most: Option<u32>,
    /// Before each; `None`: a pause that grows.
    pub wait: Option<std::time::Duration>,
}

/// Options of the plugin that `run` sets itself.
pub(super) const OWN_PLUGIN_OPTIONS: [&str; 9] = [
    "proto_min",
    "proto_max",
    "format",
    "streaming",
    "two_phase",
    "tables",
    "exclude_tables",
    "conditions",
    "conditions_mode",
];

impl RunOptions {
    /// One for each slot: with several, what one process has is divided among
    /// them, and each has an output, a state and a place to spill of its own.
    ///
    /// # Errors
    /// Usage: the sink can't be told apart by slot.
    pub fn one_for_each_slot(mut self) -> Result<Vec<RunOptions>> {
        let further = std::mem::take(&mut self.further_slots);
        let several = !further.is_empty();
        let count = 1 + further.len();
        let slots: Vec<SlotRequest> = std::iter::once(self.slot.clone()).chain(further).collect();
        let workers = self.workers.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
        });
        slots
            .into_iter()
            .map(|slot| {
                let of_slot = |folder: &Option<PathBuf>| match (&slot.name, folder) {
                    (Some(name), Some(folder)) if several => Some(folder.join(name)),
                    _ => folder.clone(),
                };
                Ok(RunOptions {
                    sink: self.sink.of_slot(slot.name.as_deref(), several)?,
                    state_dir: of_slot(&self.state_dir),
                    spill_dir: of_slot(&self.spill_dir),
                    spill_limit: self.spill_limit.map(|bytes| bytes / count as u64),
                    memory_limit: self.memory_limit / count as u64,
                    workers: Some((workers / count).max(1)),
                    slot,
                    ..self.clone()
                })
            })
            .collect()
    }

    /// The options of START_REPLICATION for this slot.
    ///
    /// A slot that was once read with prepared transactions is always read so:
    /// what was acknowledged at its PREPARE would else be lost.
    pub fn plugin_options(&self, slot: &SlotInfo) -> Vec<(String, String)> {
        let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        let mut options = vec![
            ("proto_min".to_owned(), SUPPORTED_VERSIONS.min.to_string()),
            ("proto_max".to_owned(), SUPPORTED_VERSIONS.max.to_string()),
            ("format".to_owned(), "native".to_owned()),
            ("streaming".to_owned(), on_off(self.streaming)),
            (
                "two_phase".to_owned(),
                on_off(self.slot.two_phase || slot.two_phase),
            ),
        ];
        options.extend(self.tables.plugin_options(self.own_events));
        let columns = self.pushed_columns.iter();
        options.extend(columns.map(|columns| ("columns".to_owned(), columns.clone())));
        if self.push_conditions {
            options.extend(push::plugin_options(&self.rules));
        }
        options.extend(self.further_plugin_options.iter().cloned());
        options
    }
}
