//! The decoders: each plugin's output becomes events.
pub mod native;
