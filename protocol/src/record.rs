//! What a frame carries after its header: changes and logical messages.
//!
//! A record is a tag, the length of what follows as `u32`, and the body. A
//! record that was too large for one frame was cut into fragments before its
//! length was known; it has [`OPEN_LENGTH`] there and ends with its last
//! fragment.

use crate::{Cursor, Lsn, ProtocolError, Put, Row};

/// Stands in a record's length field until the record is closed, and stays
/// there in a fragmented record.
pub const OPEN_LENGTH: u32 = u32::MAX;

const LENGTH_AT: usize = 1;
const BODY_AT: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordTag {
    Insert = b'I',
    Update = b'U',
    Delete = b'D',
    Truncate = b'T',
    Message = b'M',
}

/// Writes a record's tag and an open length. [`close_record`] ends it.
#[inline]
pub fn open_record<P: Put + ?Sized>(out: &mut P, tag: RecordTag) {
    let [a, b, c, d] = OPEN_LENGTH.to_le_bytes();
    out.put(&[tag as u8, a, b, c, d]);
}

/// Puts the length into a record that stands whole in `record`.
#[inline]
pub fn close_record(record: &mut [u8]) {
    let length = (record.len() - BODY_AT) as u32;
    record[LENGTH_AT..BODY_AT].copy_from_slice(&length.to_le_bytes());
}

/// Writes what every record begins with: the position of the change, and in a
/// streamed frame the (sub)transaction that made it.
///
/// `lsn` is the LSN of the change's WAL record (`ReorderBufferChange.lsn`),
/// `index` counts the changes that came out of the same WAL record, before
/// any filter; the two with the commit's end LSN are the event's id.
#[inline]
pub fn open_change<P: Put + ?Sized>(
    out: &mut P,
    tag: RecordTag,
    streamed_xid: Option<u32>,
    lsn: Lsn,
    index: u32,
) {
    open_record(out, tag);
    if let Some(xid) = streamed_xid {
        out.put_u32(xid);
    }
    out.put_lsn(lsn);
    out.put_u32(index);
}

/// The old row's image in an UPDATE or DELETE.
#[derive(Clone, Copy, Debug)]
pub enum OldRow<'a> {
    /// The server logged none. In an UPDATE under a usable replica identity
    /// that is not FULL it means that the key did not change.
    None,
    /// Only the columns of the replica identity; the others are
    /// [`crate::Value::Absent`].
    Key(Row<'a>),
    /// REPLICA IDENTITY FULL.
    Full(Row<'a>),
}

impl OldRow<'_> {
    pub const NONE: u8 = 0;
    pub const KEY: u8 = 1;
    pub const FULL: u8 = 2;
}

/// TRUNCATE of one or more relations by one WAL record. The event for
/// `relations[n]` has the index of the record plus n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncate {
    pub cascade: bool,
    pub restart_identity: bool,
    /// Definition numbers.
    pub relations: Vec<u32>,
}

/// A logical message (`pg_logical_emit_message`). Anyone may write one: it is
/// never proof of who did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub prefix: &'a str,
    pub content: &'a [u8],
}

#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// `relation` is the definition's number here and below.
    Insert {
        relation: u32,
        new: Row<'a>,
    },
    Update {
        relation: u32,
        old: OldRow<'a>,
        new: Row<'a>,
    },
    Delete {
        relation: u32,
        old: OldRow<'a>,
    },
    Truncate(Truncate),
    Message(Message<'a>),
}

#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// In a streamed frame the (sub)transaction that made the change, so that
    /// an abort of it takes back exactly its own changes.
    pub xid: Option<u32>,
    pub lsn: Lsn,
    pub index: u32,
    pub change: Change<'a>,
}

const TRUNCATE_CASCADE: u8 = 1;
const TRUNCATE_RESTART_IDENTITY: u8 = 2;

/// Writes the body of a TRUNCATE after [`open_change`].
pub fn encode_truncate<P: Put + ?Sized>(out: &mut P, truncate: &Truncate) {
    let mut flags = 0;
    if truncate.cascade {
        flags |= TRUNCATE_CASCADE;
    }
    if truncate.restart_identity {
        flags |= TRUNCATE_RESTART_IDENTITY;
    }
    out.put_u8(flags);
    out.put_u32(truncate.relations.len() as u32);
    for number in &truncate.relations {
        out.put_u32(*number);
    }
}

fn decode_truncate(input: &mut Cursor<'_>) -> Result<Truncate, ProtocolError> {
    let flags = input.u8("truncate flags")?;
    let unknown = flags & !(TRUNCATE_CASCADE | TRUNCATE_RESTART_IDENTITY);
    if unknown != 0 {
        return Err(ProtocolError::UnknownBits {
            what: "truncate",
            found: unknown.into(),
        });
    }
    let count = input.u32("relation count")? as usize;
    // Each takes four bytes: bounded by what is there before allocating.
    if count > input.rest().len() / 4 {
        return Err(ProtocolError::Short {
            what: "truncated relations",
            needed: count.saturating_mul(4),
            left: input.rest().len(),
        });
    }
    let relations = (0..count)
        .map(|_| input.u32("definition number"))
        .collect::<Result<_, _>>()?;
    Ok(Truncate {
        cascade: flags & TRUNCATE_CASCADE != 0,
        restart_identity: flags & TRUNCATE_RESTART_IDENTITY != 0,
        relations,
    })
}

/// Writes the body of a message after [`open_change`]: prefix with a `u32`
/// length (a prefix is any text), then the content, which ends the record.
pub fn encode_message<P: Put + ?Sized>(out: &mut P, message: Message<'_>) {
    out.put_u32(message.prefix.len() as u32);
    out.put(message.prefix.as_bytes());
    out.put(message.content);
}

fn decode_message<'a>(input: &mut Cursor<'a>) -> Result<Message<'a>, ProtocolError> {
    let length = input.u32("message prefix length")?;
    let prefix = input.take(length as usize, "message prefix")?;
    let prefix = std::str::from_utf8(prefix).map_err(|_| ProtocolError::NotUtf8 {
        what: "message prefix",
    })?;
    let content = input.take(input.rest().len(), "message content")?;
    Ok(Message { prefix, content })
}

fn decode_old<'a>(input: &mut Cursor<'a>, last: bool) -> Result<OldRow<'a>, ProtocolError> {
    let read = if last { Row::decode_last } else { Row::decode };
    Ok(match input.u8("old row kind")? {
        OldRow::NONE => OldRow::None,
        OldRow::KEY => OldRow::Key(read(input)?),
        OldRow::FULL => OldRow::Full(read(input)?),
        found => {
            return Err(ProtocolError::Unknown {
                what: "old row kind",
                found: found.into(),
            });
        }
    })
}

/// The records of one frame, in the order in which the changes were made.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    input: Cursor<'a>,
    streamed: bool,
}

impl<'a> Records<'a> {
    /// `bytes`: a frame's records, or the reassembled record of fragments.
    /// `streamed`: whether the frame was of kind `Streamed`.
    pub fn new(bytes: &'a [u8], streamed: bool) -> Self {
        Records {
            input: Cursor::new(bytes),
            streamed,
        }
    }

    fn decode(&mut self) -> Result<Record<'a>, ProtocolError> {
        let tag = self.input.u8("record tag")?;
        let length = self.input.u32("record length")?;
        let body = if length == OPEN_LENGTH {
            self.input.take(self.input.rest().len(), "record")?
        } else {
            self.input.take(length as usize, "record")?
        };
        let mut body = Cursor::new(body);
        let xid = if self.streamed {
            Some(body.u32("record xid")?)
        } else {
            None
        };
        let lsn = body.lsn("record lsn")?;
        let index = body.u32("record index")?;
        let change = match tag {
            b'I' => Change::Insert {
                relation: body.u32("definition number")?,
                new: Row::decode_last(&mut body)?,
            },
            b'U' => Change::Update {
                relation: body.u32("definition number")?,
                old: decode_old(&mut body, false)?,
                new: Row::decode_last(&mut body)?,
            },
            b'D' => Change::Delete {
                relation: body.u32("definition number")?,
                old: decode_old(&mut body, true)?,
            },
            b'T' => Change::Truncate(decode_truncate(&mut body)?),
            b'M' => Change::Message(decode_message(&mut body)?),
            found => {
                return Err(ProtocolError::Unknown {
                    what: "record tag",
                    found: found.into(),
                });
            }
        };
        body.finish("record")?;
        Ok(Record {
            xid,
            lsn,
            index,
            change,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.input.is_empty() {
            return None;
        }
        let record = self.decode();
        if record.is_err() {
            self.input = Cursor::new(&[]);
        }
        Some(record)
    }
}
