//! What `walferry run` was asked to do, validated: no text that still has to
//! be parsed, and nothing that contradicts itself.

use std::path::PathBuf;
use std::time::Duration;

use walferry_protocol::Lsn;

use crate::source::conninfo::Conninfo;
use crate::source::slot::SlotRequest;

/// The validated options of `walferry run`.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where the source is and who we are there.
    pub conninfo: Conninfo,
    /// Which slot to read, and what to do when it is missing or in use.
    pub slot: SlotRequest,
    pub sink: SinkOptions,
    /// Where the run keeps its state; the sink's or the working folder's
    /// default where this is `None`.
    pub state_dir: Option<PathBuf>,
    /// Deliver every commit whose end LSN is at or below this, then end.
    pub until_lsn: Option<Lsn>,
    pub missing_identity: MissingIdentity,
    pub tables: TableFilter,
    /// Further options of the output plugin, as the user gave them.
    pub plugin_options: Vec<(String, String)>,
    /// Whether the server may send transactions that are still in progress.
    pub streaming: bool,
    pub values: ValueOptions,
    /// Bytes of changes that may be in memory before backpressure and spilling.
    pub memory_limit: u64,
    /// Where transactions in progress are spilled.
    pub spill_dir: Option<PathBuf>,
    /// The longest time between two standby status updates.
    pub status_interval: Duration,
    /// The longest time that written events wait for the sink's flush.
    pub flush_interval: Duration,
    /// Whether a progress line may be drawn on the terminal.
    pub progress: bool,
}

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkOptions {
    Stdout,
    /// Counts and forgets: for measuring.
    Null,
    File(FileSinkOptions),
}

/// The `file` sink's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSinkOptions {
    /// A file, or a folder when the URL ended in a slash.
    pub path: PathBuf,
    /// The path is a folder: the sink names the file in it.
    pub folder: bool,
    /// A new file after the commit that passes this size in bytes.
    pub rotate_size: Option<u64>,
    /// A new file after the first commit past this age.
    pub rotate_interval: Option<Duration>,
    pub compression: FileCompression,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum FileCompression {
    #[default]
    None,
    Zstd,
}

/// What to do about tables whose UPDATEs and DELETEs can't name the old row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum MissingIdentity {
    /// Do not start while such a table has seen UPDATEs or DELETEs
    #[default]
    Refuse,
    /// Deliver their events marked with `source.identity` = `none`
    Accept,
}

/// Which tables are replicated, as globs over `schema.table`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFilter {
    /// Empty: all of them.
    pub include: Vec<String>,
    /// Wins over `include`.
    pub exclude: Vec<String>,
}

/// How values are written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueOptions {
    pub numeric: NumberForm,
    pub int8: NumberForm,
    pub json: JsonForm,
    pub bytea: ByteaForm,
}

impl Default for ValueOptions {
    fn default() -> Self {
        ValueOptions {
            numeric: NumberForm::String,
            int8: NumberForm::Number,
            json: JsonForm::Embedded,
            bytea: ByteaForm::Base64,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NumberForm {
    /// A JSON number
    Number,
    /// A JSON string, for readers whose numbers are doubles
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum JsonForm {
    /// JSON inside the event
    Embedded,
    /// A JSON string that holds the document's text
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ByteaForm {
    Base64,
    /// Digits without PostgreSQL's leading \x
    Hex,
}
