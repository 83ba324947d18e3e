//! `stdout`: one event a line into whatever reads the pipe.
//!
//! An event counts as durable once it is written and its transaction is whole.
//! A pipe holds up to 64 KiB that its reader may never see, and walferry
//! cannot know what the reader does with the rest: pick `file` where a lost
//! event matters. A pipe cannot be cut back either: a crash can leave part of
//! a transaction, which comes again from its beginning after a restart.

pub mod settings;
mod writer;

pub use writer::StdoutSink;
