//! Messages kept for the workers become events.
//!
//! A record is a message with what is not in it: its length (`u32`), the LSN
//! of the change's WAL record (`u64`), its index among that record's changes
//! (`u32`), all little-endian, then the message, in which definition numbers
//! stand where the server wrote `pg_class` oids. 0 names a relation that is
//! not wanted.

use std::collections::BTreeSet;

use walferry_protocol::{Lsn, Put};

use super::input::Input;
use super::{HINT, Pgoutput, binary, malformed_message};
use crate::datum::{Layout, Malformed};
use crate::decode::images::{emptied, spare};
use crate::decode::relations::Seen;
use crate::decode::text;
use crate::error::{Failure, Result};
use crate::event::{Change, Event, Image, OldImage, Relation, Value};
use crate::pipeline::dispatch::Piece;

/// Bytes before a record's message.
const HEADER: usize = 16;

/// Appends a record. Each of `numbers` overwrites four bytes of the message,
/// the first of them at `at`.
pub fn append(
    out: &mut impl Appendable,
    lsn: Lsn,
    index: u32,
    message: &[u8],
    at: usize,
    numbers: &[u32],
) {
    let mut header = [0; HEADER];
    let mut rest = &mut header[..];
    for part in [
        &(message.len() as u32).to_le_bytes()[..],
        &lsn.0.to_le_bytes(),
        &index.to_le_bytes(),
    ] {
        let (place, after) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = after;
    }
    out.append(&header);
    let numbers_end = at + 4 * numbers.len();
    out.append(&message[..at]);
    for number in numbers {
        out.append(&number.to_be_bytes());
    }
    out.append(&message[numbers_end..]);
}

/// What records are appended to.
pub trait Appendable {
    fn append(&mut self, bytes: &[u8]);
}

impl Appendable for bytes::BytesMut {
    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Appendable for Vec<u8> {
    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        self.put(bytes);
    }
}

struct Record<'a> {
    lsn: Lsn,
    index: u32,
    message: Input<'a>,
}

/// The records of a piece, in order.
struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    #[inline]
    fn next(&mut self) -> Result<Option<Record<'a>>, Malformed> {
        const CUT: Malformed = Malformed("a kept message is cut short");
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (header, rest) = self.rest.split_first_chunk::<HEADER>().ok_or(CUT)?;
        let [a, b, c, d, lsn @ .., e, f, g, h] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let (message, rest) = rest.split_at_checked(length).ok_or(CUT)?;
        self.rest = rest;
        Ok(Some(Record {
            lsn: Lsn(u64::from_le_bytes(lsn)),
            index: u32::from_le_bytes([e, f, g, h]),
            message: Input::new(message),
        }))
    }
}

impl Pgoutput {
    /// See [`crate::transaction::Dialect::decode`].
    pub fn decode(
        &self,
        piece: &Piece,
        each: &mut dyn FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut records = Records {
            rest: &piece.records,
        };
        // Binary values are in network byte order.
        let layout = Layout::of_server(self.server_version, true);
        let mut seen = Seen::new(&self.relations, HINT);
        let (mut spare_before, mut spare_after) = (Image::new(), Image::new());
        let bad = malformed_message;
        while let Some(record) = records.next().map_err(bad)? {
            let mut input = record.message;
            let tag = input.u8().map_err(bad)?;
            if piece.streamed && piece.aborted.contains(&input.u32().map_err(bad)?) {
                continue;
            }
            let mut event = |index: u32, change: Change<'_>| -> Result<()> {
                each(&Event {
                    transaction: &piece.transaction,
                    lsn: record.lsn,
                    index,
                    change,
                })
            };
            match tag {
                b'I' => {
                    let relation = seen.get(input.u32().map_err(bad)?)?;
                    marker(&mut input, b'N')?;
                    let after = row(&mut input, relation, layout, false, emptied(spare_after))?;
                    input.finish().map_err(bad)?;
                    let change = Change::Insert { relation, after };
                    let event = Event {
                        transaction: &piece.transaction,
                        lsn: record.lsn,
                        index: record.index,
                        change,
                    };
                    each(&event)?;
                    spare_after = match event.change {
                        Change::Insert { after, .. } => emptied(after),
                        _ => Image::new(),
                    };
                }
                b'U' => {
                    let relation = seen.get(input.u32().map_err(bad)?)?;
                    let mut next = input.u8().map_err(bad)?;
                    let before = if next == b'N' {
                        OldImage::None
                    } else {
                        let image = emptied(spare_before);
                        let old = old_row(next, &mut input, relation, layout, image)?;
                        next = input.u8().map_err(bad)?;
                        old
                    };
                    if next != b'N' {
                        return Err(bad(Malformed("an update has no new row")));
                    }
                    let after = row(&mut input, relation, layout, false, emptied(spare_after))?;
                    input.finish().map_err(bad)?;
                    let event = Event {
                        transaction: &piece.transaction,
                        lsn: record.lsn,
                        index: record.index,
                        change: Change::Update {
                            relation,
                            before,
                            after,
                        },
                    };
                    each(&event)?;
                    (spare_before, spare_after) = match event.change {
                        Change::Update { before, after, .. } => (spare(before), emptied(after)),
                        _ => Default::default(),
                    };
                }
                b'D' => {
                    let relation = seen.get(input.u32().map_err(bad)?)?;
                    let kind = input.u8().map_err(bad)?;
                    let before =
                        old_row(kind, &mut input, relation, layout, emptied(spare_before))?;
                    input.finish().map_err(bad)?;
                    let event = Event {
                        transaction: &piece.transaction,
                        lsn: record.lsn,
                        index: record.index,
                        change: Change::Delete { relation, before },
                    };
                    each(&event)?;
                    spare_before = match event.change {
                        Change::Delete { before, .. } => spare(before),
                        _ => Image::new(),
                    };
                }
                b'T' => {
                    let count = input.u32().map_err(bad)?;
                    let options = input.u8().map_err(bad)?;
                    if options & !3 != 0 {
                        return Err(bad(Malformed("a truncate has unknown options")));
                    }
                    for place in 0..count {
                        let number = input.u32().map_err(bad)?;
                        if number == 0 {
                            continue;
                        }
                        event(
                            record.index.wrapping_add(place),
                            Change::Truncate {
                                relation: seen.get(number)?,
                                cascade: options & 1 != 0,
                                restart_identity: options & 2 != 0,
                            },
                        )?;
                    }
                    input.finish().map_err(bad)?;
                }
                b'M' => {
                    let message = logical(&mut input).map_err(bad)?;
                    event(record.index, message)?;
                }
                _ => return Err(bad(Malformed("a kept message is of an unknown kind"))),
            }
        }
        Ok(())
    }

    /// See [`crate::transaction::Dialect::named`].
    pub fn named(records: &[u8], streamed: bool, numbers: &mut BTreeSet<u32>) -> Result<()> {
        let mut records = Records { rest: records };
        let mut read = || -> Result<(), Malformed> {
            while let Some(record) = records.next()? {
                let mut input = record.message;
                let tag = input.u8()?;
                if streamed {
                    input.u32()?;
                }
                match tag {
                    b'I' | b'U' | b'D' => {
                        numbers.insert(input.u32()?);
                    }
                    b'T' => {
                        let count = input.u32()?;
                        input.u8()?;
                        for _ in 0..count {
                            numbers.insert(input.u32()?);
                        }
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        let read = read().map_err(malformed_message);
        numbers.remove(&0);
        read
    }
}

fn marker(input: &mut Input<'_>, wanted: u8) -> Result<()> {
    match input.u8() {
        Ok(found) if found == wanted => Ok(()),
        Ok(_) => Err(malformed_message(Malformed("a row is of an unknown kind"))),
        Err(error) => Err(malformed_message(error)),
    }
}

fn logical<'a>(input: &mut Input<'a>) -> Result<Change<'a>, Malformed> {
    let transactional = input.u8()? & 1 != 0;
    let _lsn = input.lsn()?;
    let prefix = input.string()?;
    let length = input.u32()? as usize;
    let content = input.take(length)?;
    input.finish()?;
    Ok(Change::Message {
        prefix,
        content,
        transactional,
    })
}

/// `K`: the columns of the replica identity, the others sent as nulls that
/// mean nothing. `O`: all of them.
fn old_row<'a>(
    kind: u8,
    input: &mut Input<'a>,
    relation: &Relation,
    layout: Layout,
    image: Image<'a>,
) -> Result<OldImage<'a>> {
    match kind {
        b'K' => row(input, relation, layout, true, image).map(OldImage::Key),
        b'O' => row(input, relation, layout, false, image).map(OldImage::Full),
        _ => Err(malformed_message(Malformed(
            "an old row is of an unknown kind",
        ))),
    }
}

#[inline]
fn row<'a>(
    input: &mut Input<'a>,
    relation: &Relation,
    layout: Layout,
    key_only: bool,
    mut image: Image<'a>,
) -> Result<Image<'a>> {
    let columns = &relation.columns;
    let bad = |error: Malformed| malformed_row(relation, &error.to_string());
    let count = input.u16().map_err(bad)?;
    if usize::from(count) != columns.len() {
        return Err(malformed_row(
            relation,
            &format!("it has {count} columns, its definition {}", columns.len()),
        ));
    }
    image.reserve_exact(columns.len());
    for (place, column) in columns.iter().enumerate() {
        let kind = input.u8().map_err(bad)?;
        let value = match kind {
            b'n' if key_only && !column.is_key => Value::Absent,
            b'n' => Value::Null,
            b'u' => Value::UnchangedToast,
            b't' | b'b' => {
                let length = input.u32().map_err(bad)?;
                let bytes = input.take(length as usize).map_err(bad)?;
                let definition = &relation.definition.columns[place];
                let read = if kind == b't' {
                    text::read(bytes, column.kind, definition.base_type_oid)
                } else {
                    binary::read(bytes, column.kind, definition.base_type_oid, layout)
                };
                match read {
                    Ok(value) => value,
                    Err(error) => return Err(relation.malformed_value(place, error)),
                }
            }
            _ => return Err(bad(Malformed("a value is of an unknown kind"))),
        };
        image.push(value);
    }
    Ok(image)
}

#[cold]
fn malformed_row(relation: &Relation, why: &str) -> Failure {
    Failure::definite(format!(
        "a row of {} could not be read",
        relation.display_name()
    ))
    .detail(why.to_owned())
    .hint(HINT)
}
