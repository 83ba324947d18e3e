//! The frame: one CopyData message of the native format.
//!
//! ```text
//! offset  size
//!      0     1  protocol version
//!      1     1  kind
//!      2     2  flags
//!      4     4  length of the context
//!      8     4  length of the relation definitions
//!     12        context, relation definitions, records (to the end)
//! ```

use crate::{
    Cursor, Lsn, PROTOCOL_VERSION, ProtocolError, Put, Records, Relation, SUPPORTED_VERSIONS,
};

/// Bytes before the context.
pub const HEADER_LENGTH: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The first frame of every connection: who the server is.
    Start = 1,
    /// A piece of a committed transaction. FIRST on its first frame (BEGIN),
    /// LAST on its last (COMMIT).
    Transaction = 2,
    /// A piece of a transaction still in progress; every record carries the
    /// (sub)transaction's xid. FIRST on the first piece of the transaction.
    Streamed = 3,
    /// A streamed transaction or one of its subtransactions was rolled back.
    StreamAbort = 4,
    /// A streamed transaction committed: its context is the commit's.
    StreamCommit = 5,
    /// A streamed transaction was prepared.
    StreamPrepare = 6,
    /// A piece of a transaction sent at its PREPARE. FIRST, and LAST when the
    /// PREPARE is complete.
    Prepared = 7,
    /// COMMIT PREPARED.
    CommitPrepared = 8,
    /// ROLLBACK PREPARED.
    RollbackPrepared = 9,
    /// A logical message outside any transaction; its one record holds it.
    Message = 10,
}

impl Kind {
    fn decode(byte: u8) -> Result<Self, ProtocolError> {
        Ok(match byte {
            1 => Self::Start,
            2 => Self::Transaction,
            3 => Self::Streamed,
            4 => Self::StreamAbort,
            5 => Self::StreamCommit,
            6 => Self::StreamPrepare,
            7 => Self::Prepared,
            8 => Self::CommitPrepared,
            9 => Self::RollbackPrepared,
            10 => Self::Message,
            found => {
                return Err(ProtocolError::Unknown {
                    what: "frame kind",
                    found: found.into(),
                });
            }
        })
    }
}

/// A frame's flag bits. Unknown bits are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// Begins its transaction.
    pub const FIRST: u16 = 1;
    /// Ends its transaction: with this frame it is committed (or prepared).
    pub const LAST: u16 = 2;
    /// The records begin with the continuation of the record that the frame
    /// before left open; nothing else is in them.
    pub const CONTINUED: u16 = 4;
    /// The record in this frame goes on in the next one.
    pub const CONTINUES: u16 = 8;
    const KNOWN: u16 = 15;

    pub fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }
    pub fn is_first(self) -> bool {
        self.has(Self::FIRST)
    }
    pub fn is_last(self) -> bool {
        self.has(Self::LAST)
    }
    /// Whether the records are a fragment of one record.
    pub fn is_fragment(self) -> bool {
        self.has(Self::CONTINUED | Self::CONTINUES)
    }
}

/// Who sends: the first frame of every connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// `server_version_num`
    pub server_version: u32,
    /// `pg_control_system().system_identifier`
    pub system_identifier: u64,
    pub database_oid: u32,
    pub database: String,
    /// The database's encoding, for example `UTF8`. Text arrives in UTF-8
    /// whatever it is.
    pub server_encoding: String,
    /// Of raw datums.
    pub big_endian: bool,
    /// Whether transactions in progress are streamed.
    pub streaming: bool,
    /// Whether transactions are sent at PREPARE.
    pub two_phase: bool,
    /// The plugin's version, for example `0.1.0`.
    pub plugin_version: String,
}

/// Where a transaction came from (`pg_replication_origin`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub name: String,
    /// The commit's LSN at the origin, 0 when unknown.
    pub lsn: Lsn,
}

/// A committed transaction, known from its first frame on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub xid: u32,
    /// LSN at which the commit record starts (`txn->final_lsn`).
    pub commit_lsn: Lsn,
    /// LSN just past the commit record (`txn->end_lsn`): what may be
    /// confirmed once the transaction is durable.
    pub end_lsn: Lsn,
    /// Microseconds since 2000-01-01 00:00 UTC.
    pub commit_time: i64,
    pub origin: Option<Origin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// The top-level transaction.
    pub xid: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamAbort {
    pub xid: u32,
    /// Equal to `xid` when the whole transaction was rolled back.
    pub subxid: u32,
    /// LSN of the abort record, 0 when unknown.
    pub abort_lsn: Lsn,
}

/// A transaction as it stands at PREPARE TRANSACTION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub xid: u32,
    /// LSN at which the PREPARE record starts.
    pub prepare_lsn: Lsn,
    /// LSN just past it.
    pub end_lsn: Lsn,
    /// Microseconds since 2000-01-01 00:00 UTC.
    pub prepare_time: i64,
    pub gid: String,
    pub origin: Option<Origin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPrepared {
    pub gid: String,
    /// Of the COMMIT PREPARED; the rows came with the PREPARE.
    pub transaction: Transaction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackPrepared {
    pub xid: u32,
    /// LSN just past the PREPARE record.
    pub prepare_end_lsn: Lsn,
    /// LSN just past the ROLLBACK PREPARED record.
    pub end_lsn: Lsn,
    /// Microseconds since 2000-01-01 00:00 UTC.
    pub rollback_time: i64,
    pub gid: String,
}

/// What a frame is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    Start(Start),
    Transaction(Transaction),
    Streamed(Streamed),
    StreamAbort(StreamAbort),
    StreamCommit(Transaction),
    StreamPrepare(Prepared),
    Prepared(Prepared),
    CommitPrepared(CommitPrepared),
    RollbackPrepared(RollbackPrepared),
    /// The LSN just past the message's record.
    Message {
        end_lsn: Lsn,
    },
}

impl Context {
    pub fn kind(&self) -> Kind {
        match self {
            Context::Start(_) => Kind::Start,
            Context::Transaction(_) => Kind::Transaction,
            Context::Streamed(_) => Kind::Streamed,
            Context::StreamAbort(_) => Kind::StreamAbort,
            Context::StreamCommit(_) => Kind::StreamCommit,
            Context::StreamPrepare(_) => Kind::StreamPrepare,
            Context::Prepared(_) => Kind::Prepared,
            Context::CommitPrepared(_) => Kind::CommitPrepared,
            Context::RollbackPrepared(_) => Kind::RollbackPrepared,
            Context::Message { .. } => Kind::Message,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Context::Start(start) => start.encode(out),
            Context::Transaction(t) | Context::StreamCommit(t) => t.encode(out),
            Context::Streamed(s) => out.put_u32(s.xid),
            Context::StreamAbort(a) => {
                out.put_u32(a.xid);
                out.put_u32(a.subxid);
                out.put_lsn(a.abort_lsn);
            }
            Context::StreamPrepare(p) | Context::Prepared(p) => p.encode(out),
            Context::CommitPrepared(c) => {
                out.put_string(&c.gid);
                c.transaction.encode(out);
            }
            Context::RollbackPrepared(r) => {
                out.put_u32(r.xid);
                out.put_lsn(r.prepare_end_lsn);
                out.put_lsn(r.end_lsn);
                out.put_i64(r.rollback_time);
                out.put_string(&r.gid);
            }
            Context::Message { end_lsn } => out.put_lsn(*end_lsn),
        }
    }

    fn decode(kind: Kind, input: &mut Cursor<'_>) -> Result<Self, ProtocolError> {
        Ok(match kind {
            Kind::Start => Context::Start(Start::decode(input)?),
            Kind::Transaction => Context::Transaction(Transaction::decode(input)?),
            Kind::StreamCommit => Context::StreamCommit(Transaction::decode(input)?),
            Kind::Streamed => Context::Streamed(Streamed {
                xid: input.u32("xid")?,
            }),
            Kind::StreamAbort => Context::StreamAbort(StreamAbort {
                xid: input.u32("xid")?,
                subxid: input.u32("subtransaction's xid")?,
                abort_lsn: input.lsn("abort lsn")?,
            }),
            Kind::StreamPrepare => Context::StreamPrepare(Prepared::decode(input)?),
            Kind::Prepared => Context::Prepared(Prepared::decode(input)?),
            Kind::CommitPrepared => Context::CommitPrepared(CommitPrepared {
                gid: input.string("gid")?.to_owned(),
                transaction: Transaction::decode(input)?,
            }),
            Kind::RollbackPrepared => Context::RollbackPrepared(RollbackPrepared {
                xid: input.u32("xid")?,
                prepare_end_lsn: input.lsn("end lsn of the prepare")?,
                end_lsn: input.lsn("end lsn")?,
                rollback_time: input.i64("rollback time")?,
                gid: input.string("gid")?.to_owned(),
            }),
            Kind::Message => Context::Message {
                end_lsn: input.lsn("end lsn")?,
            },
        })
    }
}

const START_BIG_ENDIAN: u8 = 1;
const START_STREAMING: u8 = 2;
const START_TWO_PHASE: u8 = 4;

impl Start {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.server_version);
        out.put_u64(self.system_identifier);
        out.put_u32(self.database_oid);
        out.put_string(&self.database);
        out.put_string(&self.server_encoding);
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        out.put_u8(
            bit(self.big_endian, START_BIG_ENDIAN)
                | bit(self.streaming, START_STREAMING)
                | bit(self.two_phase, START_TWO_PHASE),
        );
        out.put_string(&self.plugin_version);
    }

    fn decode(input: &mut Cursor<'_>) -> Result<Self, ProtocolError> {
        let server_version = input.u32("server version")?;
        let system_identifier = input.u64("system identifier")?;
        let database_oid = input.u32("database oid")?;
        let database = input.string("database name")?.to_owned();
        let server_encoding = input.string("server encoding")?.to_owned();
        let bits = input.u8("start flags")?;
        let unknown = bits & !(START_BIG_ENDIAN | START_STREAMING | START_TWO_PHASE);
        if unknown != 0 {
            return Err(ProtocolError::UnknownBits {
                what: "start",
                found: unknown.into(),
            });
        }
        Ok(Start {
            server_version,
            system_identifier,
            database_oid,
            database,
            server_encoding,
            big_endian: bits & START_BIG_ENDIAN != 0,
            streaming: bits & START_STREAMING != 0,
            two_phase: bits & START_TWO_PHASE != 0,
            plugin_version: input.string("plugin version")?.to_owned(),
        })
    }
}

fn encode_origin(origin: Option<&Origin>, out: &mut Vec<u8>) {
    match origin {
        None => out.put_u8(0),
        Some(origin) => {
            out.put_u8(1);
            out.put_string(&origin.name);
            out.put_lsn(origin.lsn);
        }
    }
}

fn decode_origin(input: &mut Cursor<'_>) -> Result<Option<Origin>, ProtocolError> {
    match input.u8("origin mark")? {
        0 => Ok(None),
        1 => Ok(Some(Origin {
            name: input.string("origin name")?.to_owned(),
            lsn: input.lsn("origin lsn")?,
        })),
        found => Err(ProtocolError::Unknown {
            what: "origin mark",
            found: found.into(),
        }),
    }
}

impl Transaction {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.xid);
        out.put_lsn(self.commit_lsn);
        out.put_lsn(self.end_lsn);
        out.put_i64(self.commit_time);
        encode_origin(self.origin.as_ref(), out);
    }

    fn decode(input: &mut Cursor<'_>) -> Result<Self, ProtocolError> {
        Ok(Transaction {
            xid: input.u32("xid")?,
            commit_lsn: input.lsn("commit lsn")?,
            end_lsn: input.lsn("end lsn")?,
            commit_time: input.i64("commit time")?,
            origin: decode_origin(input)?,
        })
    }
}

impl Prepared {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.xid);
        out.put_lsn(self.prepare_lsn);
        out.put_lsn(self.end_lsn);
        out.put_i64(self.prepare_time);
        out.put_string(&self.gid);
        encode_origin(self.origin.as_ref(), out);
    }

    fn decode(input: &mut Cursor<'_>) -> Result<Self, ProtocolError> {
        Ok(Prepared {
            xid: input.u32("xid")?,
            prepare_lsn: input.lsn("prepare lsn")?,
            end_lsn: input.lsn("end lsn")?,
            prepare_time: input.i64("prepare time")?,
            gid: input.string("gid")?.to_owned(),
            origin: decode_origin(input)?,
        })
    }
}

/// Appends a frame's header, context and definitions to `out`; its records
/// follow, to the end of the CopyData message. `definitions` are whole
/// [`Relation::encode`] outputs.
pub fn encode_header(out: &mut Vec<u8>, context: &Context, flags: Flags, definitions: &[u8]) {
    let start = out.len();
    out.put_u8(PROTOCOL_VERSION);
    out.put_u8(context.kind() as u8);
    out.put_u16(flags.0);
    out.put_u32(0);
    out.put_u32(definitions.len() as u32);
    context.encode(out);
    let length = (out.len() - start - HEADER_LENGTH) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    out.put(definitions);
}

/// A whole frame, for tests and small frames.
pub fn encode_frame(
    context: &Context,
    flags: Flags,
    definitions: &[u8],
    records: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LENGTH + 64 + definitions.len() + records.len());
    encode_header(&mut out, context, flags, definitions);
    out.put(records);
    out
}

/// A frame that was read: the header is checked, definitions and records are
/// read when asked for.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    pub flags: Flags,
    pub context: Context,
    definitions: &'a [u8],
    records: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The twin of [`encode_header`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut input = Cursor::new(bytes);
        let version = input.u8("protocol version")?;
        if !SUPPORTED_VERSIONS.contains(version) {
            return Err(ProtocolError::Version { found: version });
        }
        let kind = Kind::decode(input.u8("frame kind")?)?;
        let flags = input.u16("frame flags")?;
        let unknown = flags & !Flags::KNOWN;
        if unknown != 0 {
            return Err(ProtocolError::UnknownBits {
                what: "frame",
                found: unknown.into(),
            });
        }
        let context_length = input.u32("context length")? as usize;
        let definitions_length = input.u32("definitions length")? as usize;
        let mut context_bytes = Cursor::new(input.take(context_length, "frame context")?);
        let context = Context::decode(kind, &mut context_bytes)?;
        context_bytes.finish("frame context")?;
        let definitions = input.take(definitions_length, "relation definitions")?;
        Ok(Frame {
            flags: Flags(flags),
            context,
            definitions,
            records: input.rest(),
        })
    }

    /// The definitions that are new with this frame.
    pub fn definitions(&self) -> impl Iterator<Item = Result<Relation, ProtocolError>> + use<'a> {
        let mut input = Cursor::new(self.definitions);
        std::iter::from_fn(move || {
            if input.is_empty() {
                return None;
            }
            let relation = Relation::decode(&mut input);
            if relation.is_err() {
                input = Cursor::new(&[]);
            }
            Some(relation)
        })
    }

    /// The bytes after the definitions: records, or a fragment of one.
    pub fn record_bytes(&self) -> &'a [u8] {
        self.records
    }

    /// The records of a frame that is not a fragment. For fragments, join the
    /// [`Frame::record_bytes`] of all and read those with [`Records::new`].
    pub fn records(&self) -> Records<'a> {
        Records::new(self.records, matches!(self.context, Context::Streamed(_)))
    }
}
