//! `file:///path/name.jsonl` and `file:///folder/`: one event a line, on disk.
//!
//! - An event is durable when `fdatasync` of its file returned; a new file's
//!   name when its folder was synced too.
//! - The state remembers the file and how many bytes of it are durable whole
//!   transactions. A start cuts the file back to that, so after any crash the
//!   file itself holds every transaction exactly once.
//! - In a folder, files are rotated by size and by age, only between
//!   transactions. `changes-<LSN>.jsonl` begins after that LSN (16 hex
//!   digits), so names sort in commit order.
//! - With `compress=zstd` the file is a row of zstd frames, each of which ends
//!   where a flush or a megabyte ended: any cut-back is between two frames.

mod output;
mod settings;
mod writer;

pub use settings::Settings;
pub use writer::FileSink;
