//! Frames of the native format become events.
//!
//! Whoever reads the stream registers each frame's relation definitions in a
//! [`RelationTable`], in stream order; the records can then be decoded by any
//! thread, in any order.

mod records;
mod relations;
mod value;

pub use records::{decode_records, transaction};
pub use relations::RelationTable;

use walferry_protocol::ProtocolError;

use crate::error::Failure;

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
