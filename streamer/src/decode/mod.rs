//! The decoders: each plugin's output becomes events.

mod images;
pub mod native;
pub mod pgoutput;
mod relations;
pub mod text;
pub mod wal2json;

pub use relations::RelationTable;
