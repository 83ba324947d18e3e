//! The event model's encoders.

pub mod debezium;
mod json;
mod own_events;
mod schema_change;

use crate::error::Result;
use crate::event::Event;

pub use json::{ByteaForm, Int8Form, JsonForm, NumericForm, ValueForms};
pub use own_events::{OwnEvents, Wanted};

/// Turns events into bytes for a sink. One encoder serves all workers.
pub trait Encode: Send + Sync {
    /// Appends one event, or nothing where it is not for the sink. After an error `out` is as it was before.
    ///
    /// # Errors
    /// Definite: a value that was read lazily turned out to be malformed.
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<()>;
}
