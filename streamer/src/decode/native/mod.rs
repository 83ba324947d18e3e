//! Frames of the native format become events.
//!
//! Whoever reads the stream registers each frame's relation definitions in a
//! [`RelationTable`](super::RelationTable), in stream order; the records can
//! then be decoded by any thread, in any order.

mod records;
mod value;

use std::collections::BTreeSet;

pub use records::{decode_records, transaction};

use walferry_protocol::{Change, Context, Frame, ProtocolError, Records, Start};

use super::RelationTable;
use crate::error::{Failure, Result};
use crate::event::Event;
use crate::pipeline::dispatch::Piece;

/// What to do about bytes that do not read as the format: nothing of them may
/// be acknowledged, so the run ends.
const HINT: &str = "nothing of this transaction was acknowledged; start again, and if it comes back report it with the \
     versions of the extension (select extversion from pg_extension where extname = 'walferry') and of this program";

/// A frame or record that cannot be read.
pub fn malformed_frame(error: ProtocolError) -> Failure {
    Failure::definite("the plugin sent bytes that are not the native format")
        .detail(error.to_string())
        .hint(HINT)
}

/// The native plugin on one connection.
#[derive(Debug)]
pub struct Native {
    pub start: Start,
    /// The Start frame as it came, for a store that outlives the connection.
    pub start_frame: Vec<u8>,
    pub relations: RelationTable,
}

impl Native {
    pub fn new(start: Start, start_frame: &[u8]) -> Self {
        Native {
            start,
            start_frame: start_frame.to_vec(),
            relations: RelationTable::new(),
        }
    }

    /// From a Start frame.
    ///
    /// # Errors
    /// Definite, when it is another frame.
    pub fn restore(start_frame: &[u8]) -> Result<Self> {
        match Frame::decode(start_frame).map_err(malformed_frame)?.context {
            Context::Start(start) => Ok(Native::new(start, start_frame)),
            _ => Err(malformed_frame(ProtocolError::Inconsistent {
                what: "a start frame is another frame",
            })),
        }
    }

    /// See [`crate::transaction::Dialect::decode`].
    #[inline]
    pub fn decode(
        &self,
        piece: &Piece,
        each: &mut dyn FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        decode_records(
            Records::new(&piece.records, piece.streamed),
            &self.relations,
            &self.start,
            &piece.transaction,
            piece.transactional,
            &piece.aborted,
            each,
        )
    }

    /// See [`crate::transaction::Dialect::named`].
    pub fn named(records: &[u8], streamed: bool, numbers: &mut BTreeSet<u32>) -> Result<()> {
        for record in Records::new(records, streamed) {
            match record.map_err(malformed_frame)?.change {
                Change::Insert { relation, .. }
                | Change::Update { relation, .. }
                | Change::Delete { relation, .. } => {
                    numbers.insert(relation);
                }
                Change::Truncate(truncate) => numbers.extend(truncate.relations),
                Change::Message(_) => {}
            }
        }
        Ok(())
    }
}
