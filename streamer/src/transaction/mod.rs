//! Streamed and prepared transactions are put together before they are decoded.
//!
//! - [`fragments`]: a record too large for one frame becomes one again.
//! - [`spool`]: frames of a transaction that is not finished, in memory and,
//!   past a budget, in a file.
//! - [`streamed`]: the transactions in progress of a connection. They are not
//!   outstanding: after a reconnect the server sends them again from the
//!   beginning, so their spools are dropped with the connection.
//! - [`prepared`]: rows that came with a PREPARE, kept until its COMMIT
//!   PREPARED. The server does not send them again once the PREPARE is
//!   acknowledged, so they are durable before it is ([`prepared_file`] is how).

pub mod fragments;
pub mod prepared;
pub mod prepared_file;
pub mod spool;
pub mod streamed;

use walferry_protocol::{Frame, Start};

use crate::decode::native::{RelationTable, malformed_frame};
use crate::error::Result;

/// What records need to be read: who sent them, and the definitions that they
/// name by number. One a connection, and one a stored prepared transaction.
#[derive(Debug)]
pub struct Dialect {
    pub start: Start,
    /// The Start frame as it came, for a store that outlives the connection.
    pub start_frame: Vec<u8>,
    pub relations: RelationTable,
}

impl Dialect {
    pub fn new(start: Start, start_frame: &[u8]) -> Self {
        Dialect {
            start,
            start_frame: start_frame.to_vec(),
            relations: RelationTable::new(),
        }
    }

    /// Takes in the definitions that are new with a frame.
    pub fn learn(&self, frame: &Frame<'_>) -> Result<()> {
        for definition in frame.definitions() {
            self.relations.insert(definition.map_err(malformed_frame)?);
        }
        Ok(())
    }
}
