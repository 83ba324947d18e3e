//! The decoders: each plugin's output becomes events.

pub mod native;
mod relations;
pub mod text;

pub use relations::RelationTable;
