//! Which plugin's records a piece holds, and what reading them takes.

use std::collections::BTreeSet;

use crate::decode::RelationTable;
use crate::decode::native::Native;
use crate::decode::pgoutput::Pgoutput;
use crate::decode::wal2json::Wal2json;
use crate::error::{Failure, Result};
use crate::event::Event;
use crate::pipeline::dispatch::Piece;
use crate::source::plugin::Plugin;

/// What records need to be read: who sent them, and the definitions that they
/// name by number. One a connection, and one a stored prepared transaction.
#[derive(Debug)]
pub enum Dialect {
    Native(Native),
    Pgoutput(Pgoutput),
    Wal2json(Wal2json),
}

impl Dialect {
    /// The definitions that records name by number.
    pub fn relations(&self) -> &RelationTable {
        match self {
            Dialect::Native(native) => &native.relations,
            Dialect::Pgoutput(pgoutput) => &pgoutput.relations,
            Dialect::Wal2json(wal2json) => &wal2json.relations,
        }
    }

    /// Decodes a piece's records and hands each event to `each`, in order.
    #[inline]
    pub fn decode(
        &self,
        piece: &Piece,
        each: &mut dyn FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        match self {
            Dialect::Native(native) => native.decode(piece, each),
            Dialect::Pgoutput(pgoutput) => pgoutput.decode(piece, each),
            Dialect::Wal2json(wal2json) => wal2json.decode(piece, each),
        }
    }

    /// Adds the numbers of the definitions that `records` name. `streamed`:
    /// whether each record carries its subtransaction's xid.
    pub fn named(&self, records: &[u8], streamed: bool, numbers: &mut BTreeSet<u32>) -> Result<()> {
        match self {
            Dialect::Native(_) => Native::named(records, streamed, numbers),
            Dialect::Pgoutput(_) => Pgoutput::named(records, streamed, numbers),
            // They name none.
            Dialect::Wal2json(_) => Ok(()),
        }
    }

    /// Who sent the records, for a store that outlives the connection; the
    /// definitions are not in it. [`Dialect::restore`] reads it.
    pub fn sender(&self) -> Vec<u8> {
        match self {
            Dialect::Native(native) => native.start_frame.clone(),
            Dialect::Pgoutput(pgoutput) => pgoutput.sender(),
            // There is none: it has no prepared transactions.
            Dialect::Wal2json(_) => Vec::new(),
        }
    }

    /// The dialect of a slot's plugin from what [`Dialect::sender`] gave.
    ///
    /// # Errors
    /// Definite, when the bytes are no such thing.
    pub fn restore(plugin: &str, sender: &[u8]) -> Result<Self> {
        match Plugin::from_name(plugin) {
            Some(Plugin::Walferry) => Native::restore(sender).map(Dialect::Native),
            Some(Plugin::Pgoutput) => Pgoutput::restore(sender).map(Dialect::Pgoutput),
            _ => Err(Failure::definite(format!(
                "plugin {plugin} has no prepared transactions"
            ))),
        }
    }
}
