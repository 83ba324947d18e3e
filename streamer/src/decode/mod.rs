//! The decoders: each plugin's output becomes events.

pub mod native;
mod relations;
pub mod text;
pub mod wal2json;

pub use relations::RelationTable;
