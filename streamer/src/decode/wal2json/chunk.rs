//! Format-version 1 with `write-in-chunks`: a transaction is one object whose
//! beginning, changes and end are messages of their own, so that the server
//! need not build all of it in one string (`wal2json.c`, the functions with
//! `_v1`).

use walferry_protocol::Lsn;

use super::message::{Cell, LogicalMessage, Row, lsn};
use super::record::Action;
use super::scan::{Raw, Scan, Scanner};
use crate::datum::Malformed;

/// A message of the plugin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    Begin(Begin<'a>),
    /// A change of the transaction; `rest` is where its object's members begin.
    Change {
        action: Action,
        rest: usize,
    },
    Commit,
    /// A logical message outside any transaction.
    Message {
        rest: usize,
    },
}

/// The beginning of a transaction's object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begin<'a> {
    pub xid: u32,
    pub timestamp: Option<Raw<'a>>,
    /// `pg_replication_origin.roident`, 0 for none.
    pub origin: u32,
    /// Just past the commit record.
    pub next_lsn: Option<Lsn>,
}

impl<'a> Chunk<'a> {
    /// Tells what a message is. `open`: a transaction has begun.
    pub fn read(message: &'a [u8], open: bool) -> Scan<Self> {
        let mut scanner = Scanner::new(message, 0);
        if open {
            if scanner.take(b']') {
                scanner.expect(b'}', "a transaction's end is cut short")?;
                return if scanner.is_at_end() {
                    Ok(Chunk::Commit)
                } else {
                    Err(Malformed("something follows a transaction's end"))
                };
            }
            scanner.take(b',');
            return change(&mut scanner);
        }
        let mut begin = Begin::default();
        let mut outside = true;
        let mut more = scanner.open(b'{', b'}', "it is no transaction's beginning")?;
        while more {
            match scanner.key()? {
                b"xid" => {
                    begin.xid = scanner.integer()?;
                    outside = false;
                }
                b"nextlsn" => begin.next_lsn = Some(lsn(&mut scanner)?),
                b"timestamp" => begin.timestamp = Some(scanner.string()?),
                b"origin" => begin.origin = scanner.integer()?,
                b"change" => {
                    scanner.expect(b'[', "changes are no list")?;
                    if scanner.is_at_end() && !outside {
                        return Ok(Chunk::Begin(begin));
                    }
                    // wal2json counts on from the transaction before.
                    scanner.take(b',');
                    let Chunk::Change {
                        action: Action::Message,
                        rest,
                    } = change(&mut scanner)?
                    else {
                        return Err(Malformed("a row comes outside of a transaction"));
                    };
                    return Ok(Chunk::Message { rest });
                }
                _ => scanner.skip()?,
            }
            more = scanner.more(b'}')?;
        }
        Err(Malformed("it has no changes"))
    }
}

/// A change's object up to its kind.
fn change<'a>(scanner: &mut Scanner<'a>) -> Scan<Chunk<'a>> {
    const OTHER: Malformed = Malformed("a change is of a kind that is not known");
    let mut more = scanner.open(b'{', b'}', "a change is no object")?;
    while more {
        if scanner.key()? == b"kind" {
            let action = match scanner.string()?.bytes {
                b"insert" => Action::Insert,
                b"update" => Action::Update,
                b"delete" => Action::Delete,
                b"truncate" => Action::Truncate,
                b"message" => Action::Message,
                _ => return Err(OTHER),
            };
            scanner.more(b'}')?;
            return Ok(Chunk::Change {
                action,
                rest: scanner.at(),
            });
        }
        scanner.skip()?;
        more = scanner.more(b'}')?;
    }
    Err(OTHER)
}

/// Reads a logical message. One outside any transaction is followed by the end
/// of the object that it stands in.
pub fn message<'a>(
    message: &'a [u8],
    rest: usize,
    transactional: bool,
) -> Scan<LogicalMessage<'a>> {
    let mut scanner = Scanner::new(message, rest);
    let read = LogicalMessage::members(&mut scanner)?;
    if !transactional {
        scanner.expect(b']', "a message's list has no end")?;
        scanner.expect(b'}', "a message's object has no end")?;
    }
    if scanner.is_at_end() {
        Ok(read)
    } else {
        Err(Malformed("something follows it"))
    }
}

/// Reads the members of a row's object from `rest` on.
pub fn read_row<'a>(row: &mut Row<'a>, message: &'a [u8], rest: usize) -> Scan<()> {
    row.clear();
    let mut scanner = Scanner::new(message, rest);
    let mut columns = Lists::default();
    let mut more = !scanner.take(b'}');
    while more {
        match scanner.key()? {
            b"schema" => row.schema = scanner.string()?,
            b"table" => row.table = scanner.string()?,
            b"oldkeys" => {
                let mut old = Lists::default();
                let mut members = scanner.open(b'{', b'}', "the old keys are no object")?;
                while members {
                    let key = scanner.key()?;
                    old.member(key, &mut scanner)?;
                    members = scanner.more(b'}')?;
                }
                old.finish()?;
                row.identity = Some(old.cells);
            }
            b"pk" => {
                let mut members = scanner.open(b'{', b'}', "the primary key is no object")?;
                while members {
                    match scanner.key()? {
                        b"pknames" => {
                            let names = row.primary_key.insert(Vec::new());
                            list(&mut scanner, |scanner, _| {
                                names.push(scanner.string()?);
                                Ok(())
                            })?;
                        }
                        _ => scanner.skip()?,
                    }
                    members = scanner.more(b'}')?;
                }
            }
            other => columns.member(other, &mut scanner)?,
        }
        more = scanner.more(b'}')?;
    }
    columns.finish()?;
    row.columns.append(&mut columns.cells);
    // A table without one has no such member.
    row.primary_key.get_or_insert_default();
    row.finish(&mut scanner)
}

/// The lists of names, types and values that are columns when put together.
#[derive(Default)]
struct Lists<'a> {
    cells: Vec<Cell<'a>>,
    names: usize,
    values: usize,
}

impl<'a> Lists<'a> {
    fn member(&mut self, key: &[u8], scanner: &mut Scanner<'a>) -> Scan<()> {
        match key {
            b"columnnames" | b"keynames" => {
                self.names = self.list(scanner, |cell, scanner| {
                    cell.name = scanner.string()?;
                    Ok(())
                })?;
            }
            b"columntypeoids" | b"keytypeoids" => {
                self.list(scanner, |cell, scanner| {
                    cell.type_oid = scanner.integer()?;
                    Ok(())
                })?;
            }
            b"columnpositions" => {
                self.list(scanner, |cell, scanner| {
                    cell.position = scanner.integer()?;
                    Ok(())
                })?;
            }
            b"columnoptionals" => {
                self.list(scanner, |cell, scanner| {
                    cell.not_null = scanner.scalar()? == super::scan::Scalar::Bool(false);
                    Ok(())
                })?;
            }
            b"columnvalues" | b"keyvalues" => {
                self.values = self.list(scanner, |cell, scanner| {
                    cell.value = scanner.scalar()?;
                    Ok(())
                })?;
            }
            _ => scanner.skip()?,
        }
        Ok(())
    }

    fn list(
        &mut self,
        scanner: &mut Scanner<'a>,
        read: impl Fn(&mut Cell<'a>, &mut Scanner<'a>) -> Scan<()>,
    ) -> Scan<usize> {
        list(scanner, |scanner, place| {
            if place == self.cells.len() {
                self.cells.push(Cell::default());
            }
            read(&mut self.cells[place], scanner)
        })
    }

    fn finish(&self) -> Scan<()> {
        if self.names == self.cells.len() && self.values == self.cells.len() {
            Ok(())
        } else {
            Err(Malformed("a row has more names than values, or fewer"))
        }
    }
}

/// Reads a list; how many items it has.
fn list<'a>(
    scanner: &mut Scanner<'a>,
    mut each: impl FnMut(&mut Scanner<'a>, usize) -> Scan<()>,
) -> Scan<usize> {
    let mut count = 0;
    let mut more = scanner.open(b'[', b']', "a list was expected")?;
    while more {
        each(scanner, count)?;
        count += 1;
        more = scanner.more(b']')?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::super::scan::Scalar;
    use super::*;

    #[test]
    fn a_transaction_in_chunks_is_told_apart() {
        let begin = br#"{"xid":827,"nextlsn":"0/1A30708","timestamp":"2026-11-21 07:57:43.116172+00","origin":0,"change":["#;
        let Ok(Chunk::Begin(begun)) = Chunk::read(begin, false) else {
            panic!("{:?}", Chunk::read(begin, false));
        };
        assert_eq!((begun.xid, begun.next_lsn), (827, Some(Lsn(0x1a30708))));
        let update = br#",{"kind":"update","schema":"public","table":"full_","columnnames":["a","b"],"columntypes":["integer","text"],"columntypeoids":[23,25],"columnpositions":[1,2],"columnoptionals":[false,true],"columnvalues":[3,null],"oldkeys":{"keynames":["a","c"],"keytypes":["integer","text"],"keytypeoids":[23,25],"keyvalues":[2,"q"]},"pk":{"pknames":["a"],"pktypes":["integer"]}}"#;
        let Ok(Chunk::Change { action, rest }) = Chunk::read(update, true) else {
            panic!("{:?}", Chunk::read(update, true));
        };
        assert_eq!(action, Action::Update);
        let mut row = Row::default();
        read_row(&mut row, update, rest).unwrap();
        assert_eq!(row.columns.len(), 2);
        assert_eq!(row.columns[0].value, Scalar::Number(b"3"));
        assert!(row.columns[0].not_null);
        let old = row.identity.as_ref().unwrap();
        assert!(old[1].name.is("c") && old[1].type_oid == 25);
        assert!(row.primary_key.as_ref().unwrap()[0].is("a"));
        assert_eq!(Chunk::read(b"]}", true), Ok(Chunk::Commit));
        for outside in [
            r#"{"change":[{"kind":"message","transactional":false,"prefix":"p2","content":"c2"}]}"#,
            r#"{"change":[,{"kind":"message","transactional":false,"prefix":"p2","content":"c2"}]}"#,
        ] {
            let outside = outside.as_bytes();
            let Ok(Chunk::Message { rest }) = Chunk::read(outside, false) else {
                panic!("{:?}", Chunk::read(outside, false));
            };
            assert_eq!(&*message(outside, rest, false).unwrap().content, b"c2");
        }
    }

    #[test]
    fn what_is_no_chunk_is_an_error() {
        for (wrong, open) in [
            ("", false),
            ("{}", false),
            (r#"{"change":["#, false),
            (r#"{"xid":1,"change":[{"kind":"insert"}]}"#, false),
            ("]", true),
            ("]}x", true),
            (r#"{"kind":"other"}"#, true),
            (r#"{"a":1}"#, true),
        ] {
            assert!(Chunk::read(wrong.as_bytes(), open).is_err(), "{wrong}");
        }
        let mut row = Row::default();
        let uneven = br#"{"table":"t","columnnames":["a","b"],"columnvalues":[1]}"#;
        assert!(read_row(&mut row, uneven, 1).is_err());
    }
}
