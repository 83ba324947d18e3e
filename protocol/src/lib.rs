//! The wire format between walferry's output plugin and its streamer.
//!
//! One CopyData message of the replication protocol holds one [`Frame`]: a
//! fixed header, a context that depends on the frame's kind, the relation
//! definitions that are new since the last frame, and then records. A frame
//! belongs to at most one transaction, so whoever reads it needs nothing but
//! the frame and the definitions seen so far; that is what lets a reader
//! decode frames in parallel.
//!
//! All integers of the format are little-endian. The bytes of raw datums are
//! in the server's byte order, which the [`Start`] frame tells.
//!
//! This crate is the only place that knows a byte of the format: each message
//! has its encoder and its decoder side by side. It holds no `unsafe`, no
//! server code and no I/O. The same text for people is `docs/wire-format.md`.
#![forbid(unsafe_code)]

mod cursor;
mod frame;
mod record;
mod relation;
mod tuple;
mod value;
mod version;

pub use cursor::{Cursor, Put};
pub use frame::{
    CommitPrepared, Context, Flags, Frame, HEADER_LENGTH, Kind, Origin, Prepared, RollbackPrepared,
    Start, StreamAbort, Streamed, Transaction, encode_frame, encode_header,
};
pub use record::{
    Change, Message, OPEN_LENGTH, OldRow, Record, RecordTag, Records, Truncate, close_record,
    encode_message, encode_truncate, open_change, open_record,
};
pub use relation::{
    Column, ColumnFlags, Encoding, MAX_COLUMNS, Relation, RelationKind, ReplicaIdentity, Root,
    Storage,
};
pub use tuple::{HeapTuple, encode_tuple, tuple_head};
pub use value::{Compression, Row, Value, encode_value};
pub use version::{PROTOCOL_VERSION, SUPPORTED_VERSIONS, VersionRange};

/// A log sequence number: a byte position in the server's write-ahead log
/// (`XLogRecPtr`, `src/include/access/xlogdefs.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// `InvalidXLogRecPtr`: no position at all.
    pub const INVALID: Lsn = Lsn(0);
}

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl std::str::FromStr for Lsn {
    type Err = InvalidLsn;

    /// Reads PostgreSQL's notation, `16/B374D848`.
    fn from_str(text: &str) -> Result<Self, InvalidLsn> {
        let refuse = || InvalidLsn(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(refuse)?;
        let part = |digits: &str| {
            // from_str_radix takes a sign, PostgreSQL's pg_lsn does not.
            if digits.is_empty() || digits.len() > 8 || digits.starts_with(['+', '-']) {
                return Err(refuse());
            }
            u32::from_str_radix(digits, 16).map_err(|_| refuse())
        };
        Ok(Lsn(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

/// The text is not an LSN in PostgreSQL's notation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an LSN; write it as PostgreSQL does, for example 16/B374D848")]
pub struct InvalidLsn(String);

/// Why bytes could not be read as this format. None of these is ever skipped
/// over: a frame that cannot be read stops the stream, because what follows it
/// must not be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("frame is cut short: {what} needs {needed} bytes, {left} are left")]
    Short {
        what: &'static str,
        needed: usize,
        left: usize,
    },
    #[error(
        "frame has protocol version {found}, this build reads {}",
        SUPPORTED_VERSIONS
    )]
    Version { found: u8 },
    #[error("unknown {what} {found:#x}")]
    Unknown { what: &'static str, found: u64 },
    #[error("unknown {what} bits {found:#x}")]
    UnknownBits { what: &'static str, found: u64 },
    #[error("{what} is not UTF-8")]
    NotUtf8 { what: &'static str },
    #[error("{what} is {found}, the limit is {limit}")]
    TooLarge {
        what: &'static str,
        found: u64,
        limit: u64,
    },
    #[error("{extra} bytes are left over after {what}")]
    LeftOver { what: &'static str, extra: usize },
    #[error("{what}")]
    Inconsistent { what: &'static str },
}
