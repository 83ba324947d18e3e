//! Messages of the server's own plugin, pgoutput, become events.
//!
//! Whoever reads the stream keeps the relation definitions
//! ([`definitions`]) and puts what is to be decoded into [`records`]: each
//! message with its position, naming its relation by definition number. Those
//! can be decoded by any thread, in any order.

mod binary;
pub mod definitions;
mod input;
pub mod message;
pub mod records;

use walferry_protocol::Put;

use super::RelationTable;
use crate::datum::Malformed;
use crate::error::{Failure, Result};

/// What to do about bytes that do not read as the protocol.
const HINT: &str = "nothing of this transaction was acknowledged; start again, and if it comes back report it with the \
     versions of the server and of this program";

/// A message that cannot be read, or that does not fit where it came.
#[cold]
pub fn malformed_message(error: Malformed) -> Failure {
    Failure::definite("pgoutput sent bytes that are not its protocol")
        .detail(error.to_string())
        .hint(HINT)
}

/// pgoutput on one connection.
#[derive(Debug)]
pub struct Pgoutput {
    /// `server_version_num`
    pub server_version: u32,
    pub relations: RelationTable,
}

impl Pgoutput {
    pub fn new(server_version: u32) -> Self {
        Pgoutput {
            server_version,
            relations: RelationTable::new(),
        }
    }

    /// What a store of records needs to know beside the definitions.
    pub fn sender(&self) -> Vec<u8> {
        let mut sender = Vec::new();
        sender.put_u32(self.server_version);
        sender
    }

    /// The twin of [`Pgoutput::sender`].
    pub fn restore(sender: &[u8]) -> Result<Self> {
        match sender.try_into().map(u32::from_le_bytes) {
            Ok(server_version) => Ok(Pgoutput::new(server_version)),
            Err(_) => Err(malformed_message(Malformed(
                "a stored version is cut short",
            ))),
        }
    }
}
