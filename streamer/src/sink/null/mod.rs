//! `null`: events are encoded and dropped, and count as durable at once. For
//! measuring, and for moving a slot past changes nobody wants.

pub mod settings;
mod writer;

pub use writer::NullSink;
