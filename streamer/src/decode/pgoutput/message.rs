//! The messages that say where transactions begin and end, and what relations
//! look like. Rows and the like are only told apart here; [`super::records`]
//! reads them.

use walferry_protocol::{Lsn, ReplicaIdentity};

use super::input::Input;
use crate::datum::Malformed;

/// A message, read as far as whoever orders transactions has to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Begin {
        /// Start of the commit record that is to come.
        commit_lsn: Lsn,
        /// Microseconds since 2000-01-01 UTC, here and below.
        time: i64,
        xid: u32,
    },
    Commit {
        commit_lsn: Lsn,
        end_lsn: Lsn,
        time: i64,
    },
    Origin {
        lsn: Lsn,
        name: &'a str,
    },
    Relation(RelationMessage<'a>),
    Type {
        oid: u32,
        schema: &'a str,
        name: &'a str,
    },
    /// INSERT, UPDATE, DELETE of one relation, by its `pg_class.oid`.
    Row {
        relation: u32,
        /// Where in the message that oid stands.
        at: usize,
    },
    Truncate {
        relations: Vec<u32>,
        /// Where in the message the first of their oids stands.
        at: usize,
    },
    Logical {
        transactional: bool,
        lsn: Lsn,
        prefix: &'a str,
    },
    StreamStart {
        xid: u32,
    },
    StreamStop,
    StreamCommit {
        xid: u32,
        commit_lsn: Lsn,
        end_lsn: Lsn,
        time: i64,
    },
    StreamAbort {
        xid: u32,
        subxid: u32,
    },
    BeginPrepare(PrepareMessage<'a>),
    Prepare(PrepareMessage<'a>),
    StreamPrepare(PrepareMessage<'a>),
    CommitPrepared {
        commit_lsn: Lsn,
        end_lsn: Lsn,
        time: i64,
        xid: u32,
        gid: &'a str,
    },
    RollbackPrepared {
        end_lsn: Lsn,
        xid: u32,
        gid: &'a str,
    },
}

/// A relation as its rows are sent: the columns that the publication has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationMessage<'a> {
    pub oid: u32,
    pub schema: &'a str,
    pub name: &'a str,
    pub replica_identity: ReplicaIdentity,
    pub columns: Vec<ColumnMessage<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnMessage<'a> {
    /// Of the replica identity; under FULL every column is.
    pub is_identity: bool,
    pub name: &'a str,
    pub type_oid: u32,
    pub typmod: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareMessage<'a> {
    pub prepare_lsn: Lsn,
    pub end_lsn: Lsn,
    pub time: i64,
    pub xid: u32,
    pub gid: &'a str,
}

impl<'a> Message<'a> {
    /// Reads a message. `streamed`: it stands between Stream Start and Stream
    /// Stop, so that each change names its (sub)transaction.
    pub fn decode(bytes: &'a [u8], streamed: bool) -> Result<Self, Malformed> {
        let mut input = Input::new(bytes);
        let input = &mut input;
        let tag = input.u8()?;
        if streamed && matches!(tag, b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M') {
            input.u32()?;
        }
        let at = bytes.len() - input.rest().len();
        let message = match tag {
            b'I' | b'U' | b'D' => {
                return Ok(Message::Row {
                    relation: input.u32()?,
                    at,
                });
            }
            b'M' => {
                let flags = input.u8()?;
                if flags & !1 != 0 {
                    return Err(Malformed("a logical message has unknown flags"));
                }
                return Ok(Message::Logical {
                    transactional: flags == 1,
                    lsn: input.lsn()?,
                    prefix: input.string()?,
                });
            }
            b'B' => Message::Begin {
                commit_lsn: input.lsn()?,
                time: input.time()?,
                xid: input.u32()?,
            },
            b'C' => {
                no_flags(input)?;
                Message::Commit {
                    commit_lsn: input.lsn()?,
                    end_lsn: input.lsn()?,
                    time: input.time()?,
                }
            }
            b'O' => Message::Origin {
                lsn: input.lsn()?,
                name: input.string()?,
            },
            b'R' => Message::Relation(relation(input)?),
            b'Y' => Message::Type {
                oid: input.u32()?,
                schema: schema(input)?,
                name: input.string()?,
            },
            b'T' => {
                let count = input.u32()? as usize;
                input.u8()?;
                // Each takes four bytes: bounded before it is allocated.
                if count > input.rest().len() / 4 {
                    return Err(Malformed("a message is cut short"));
                }
                let relations = (0..count).map(|_| input.u32());
                Message::Truncate {
                    relations: relations.collect::<Result<_, _>>()?,
                    at: at + 5,
                }
            }
            b'S' => {
                let xid = input.u32()?;
                // Whether it is the first block of its transaction.
                input.u8()?;
                Message::StreamStart { xid }
            }
            b'E' => Message::StreamStop,
            b'c' => {
                let xid = input.u32()?;
                no_flags(input)?;
                Message::StreamCommit {
                    xid,
                    commit_lsn: input.lsn()?,
                    end_lsn: input.lsn()?,
                    time: input.time()?,
                }
            }
            b'A' => Message::StreamAbort {
                xid: input.u32()?,
                subxid: input.u32()?,
            },
            b'b' => Message::BeginPrepare(prepare(input)?),
            b'P' => {
                no_flags(input)?;
                Message::Prepare(prepare(input)?)
            }
            b'p' => {
                no_flags(input)?;
                Message::StreamPrepare(prepare(input)?)
            }
            b'K' => {
                no_flags(input)?;
                Message::CommitPrepared {
                    commit_lsn: input.lsn()?,
                    end_lsn: input.lsn()?,
                    time: input.time()?,
                    xid: input.u32()?,
                    gid: input.string()?,
                }
            }
            b'r' => {
                no_flags(input)?;
                let _prepare_end = input.lsn()?;
                let end_lsn = input.lsn()?;
                let _prepare_time = input.time()?;
                let _time = input.time()?;
                Message::RollbackPrepared {
                    end_lsn,
                    xid: input.u32()?,
                    gid: input.string()?,
                }
            }
            _ => return Err(Malformed("a message is of an unknown kind")),
        };
        input.finish()?;
        Ok(message)
    }
}

fn no_flags(input: &mut Input<'_>) -> Result<(), Malformed> {
    match input.u8()? {
        0 => Ok(()),
        _ => Err(Malformed("a message has unknown flags")),
    }
}

/// An empty one is `pg_catalog`.
fn schema<'a>(input: &mut Input<'a>) -> Result<&'a str, Malformed> {
    Ok(match input.string()? {
        "" => "pg_catalog",
        schema => schema,
    })
}

fn relation<'a>(input: &mut Input<'a>) -> Result<RelationMessage<'a>, Malformed> {
    let oid = input.u32()?;
    let schema = schema(input)?;
    let name = input.string()?;
    let replica_identity = ReplicaIdentity::from_relreplident(input.u8()?)
        .ok_or(Malformed("a relation has an unknown replica identity"))?;
    let count = input.u16()?;
    if usize::from(count) > walferry_protocol::MAX_COLUMNS {
        return Err(Malformed("a relation has more columns than can be"));
    }
    let columns = (0..count).map(|_| {
        let flags = input.u8()?;
        if flags & !1 != 0 {
            return Err(Malformed("a column has unknown flags"));
        }
        Ok(ColumnMessage {
            is_identity: flags == 1,
            name: input.string()?,
            type_oid: input.u32()?,
            typmod: input.u32()? as i32,
        })
    });
    Ok(RelationMessage {
        oid,
        schema,
        name,
        replica_identity,
        columns: columns.collect::<Result<_, _>>()?,
    })
}

fn prepare<'a>(input: &mut Input<'a>) -> Result<PrepareMessage<'a>, Malformed> {
    Ok(PrepareMessage {
        prepare_lsn: input.lsn()?,
        end_lsn: input.lsn()?,
        time: input.time()?,
        xid: input.u32()?,
        gid: input.string()?,
    })
}
