//! Format-version 2: each message is an object, and each row one message
//! (`wal2json.c`, `pg_decode_write_change` and its siblings with `_v2`).

use std::borrow::Cow;

use walferry_protocol::Lsn;

use super::record::Action;
use super::scan::{Raw, Scalar, Scan, Scanner};
use crate::datum::Malformed;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Begin,
    Commit,
    Change(Action),
}

/// What stands before a row's own members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    pub kind: Kind,
    /// `None` for a message outside any transaction.
    pub xid: Option<u32>,
    pub timestamp: Option<Raw<'a>>,
    /// `pg_replication_origin.roident`, 0 for none.
    pub origin: u32,
    /// Of a transaction's begin and end its commit record; of a change its
    /// own WAL record; of a logical message what lies just past it.
    pub lsn: Option<Lsn>,
    /// Just past the commit record.
    pub next_lsn: Option<Lsn>,
    /// Of a logical message.
    pub transactional: bool,
    /// Where the other members begin.
    pub rest: usize,
}

impl<'a> Head<'a> {
    pub fn read(message: &'a [u8]) -> Scan<Self> {
        const OTHER: Malformed = Malformed("it has an action that is not known");
        let mut scanner = Scanner::new(message, 0);
        let mut more = scanner.open(b'{', b'}', "it is no object")?;
        let mut kind = None;
        let mut head = Head {
            kind: Kind::Begin,
            xid: None,
            timestamp: None,
            origin: 0,
            lsn: None,
            next_lsn: None,
            transactional: true,
            rest: 0,
        };
        while more {
            head.rest = scanner.at();
            match scanner.key()? {
                b"action" => {
                    kind = Some(match scanner.string()?.bytes {
                        b"B" => Kind::Begin,
                        b"C" => Kind::Commit,
                        [letter] => Kind::Change(Action::from_letter(*letter).ok_or(OTHER)?),
                        _ => return Err(OTHER),
                    });
                }
                b"xid" => head.xid = nullable(&mut scanner, Scanner::integer)?,
                b"timestamp" => head.timestamp = nullable(&mut scanner, Scanner::string)?,
                b"origin" => {
                    head.origin = nullable(&mut scanner, Scanner::integer)?.unwrap_or(0);
                }
                b"lsn" => head.lsn = nullable(&mut scanner, lsn)?,
                b"nextlsn" => head.next_lsn = nullable(&mut scanner, lsn)?,
                b"transactional" => {
                    let Scalar::Bool(transactional) = scanner.scalar()? else {
                        return Err(Malformed("transactional is neither true nor false"));
                    };
                    head.transactional = transactional;
                }
                b"schema" | b"table" | b"columns" | b"identity" | b"pk" | b"prefix"
                | b"content" => break,
                _ => scanner.skip()?,
            }
            more = scanner.more(b'}')?;
            head.rest = scanner.at();
        }
        head.kind = kind.ok_or(Malformed("it has no action"))?;
        Ok(head)
    }
}

fn nullable<'a, T>(
    scanner: &mut Scanner<'a>,
    read: impl FnOnce(&mut Scanner<'a>) -> Scan<T>,
) -> Scan<Option<T>> {
    if scanner.peek() == Some(b'n') {
        scanner.scalar().map(|_| None)
    } else {
        read(scanner).map(Some)
    }
}

/// An LSN as PostgreSQL prints it.
pub fn lsn(scanner: &mut Scanner<'_>) -> Scan<Lsn> {
    let raw = scanner.string()?;
    std::str::from_utf8(raw.bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Malformed("an LSN is not written as one"))
}

/// A column's value, or that of a column of the old row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell<'a> {
    pub name: Raw<'a>,
    /// 0 when the plugin does not say.
    pub type_oid: u32,
    pub value: Scalar<'a>,
    /// `pg_attribute.attnum`, 0 when the plugin does not say.
    pub position: i16,
    /// The plugin says that the column can't be null.
    pub not_null: bool,
}

/// A row, in either format. Kept over rows for its allocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row<'a> {
    pub schema: Raw<'a>,
    pub table: Raw<'a>,
    /// The new row; columns whose value stayed out of line are missing.
    pub columns: Vec<Cell<'a>>,
    /// What is known of the old row; an UPDATE that left the key alone has the
    /// new values here.
    pub identity: Option<Vec<Cell<'a>>>,
    /// Whether nulls are in `identity` too (format-version 1 leaves them out).
    pub identity_is_whole: bool,
    /// The primary key's columns.
    pub primary_key: Option<Vec<Raw<'a>>>,
}

impl<'a> Row<'a> {
    /// Reads the members of a row's message from `rest` on.
    pub fn read(&mut self, message: &'a [u8], rest: usize) -> Scan<()> {
        self.clear();
        self.identity_is_whole = true;
        let mut scanner = Scanner::new(message, rest);
        let mut more = !scanner.take(b'}');
        while more {
            match scanner.key()? {
                b"schema" => self.schema = scanner.string()?,
                b"table" => self.table = scanner.string()?,
                b"columns" => cells(&mut scanner, &mut self.columns)?,
                b"identity" => {
                    let cells_in = self.identity.insert(Vec::new());
                    cells(&mut scanner, cells_in)?;
                }
                b"pk" => {
                    let mut columns = Vec::new();
                    cells(&mut scanner, &mut columns)?;
                    self.primary_key = Some(columns.iter().map(|cell| cell.name).collect());
                }
                _ => scanner.skip()?,
            }
            more = scanner.more(b'}')?;
        }
        self.finish(&mut scanner)
    }

    pub(super) fn clear(&mut self) {
        self.schema = Raw::default();
        self.table = Raw::default();
        self.columns.clear();
        self.identity = None;
        self.identity_is_whole = false;
        self.primary_key = None;
    }

    pub(super) fn finish(&self, scanner: &mut Scanner<'_>) -> Scan<()> {
        if !scanner.is_at_end() {
            return Err(Malformed("something follows it"));
        }
        if self.table.bytes.is_empty() {
            return Err(Malformed("it names no table"));
        }
        Ok(())
    }
}

fn cells<'a>(scanner: &mut Scanner<'a>, cells: &mut Vec<Cell<'a>>) -> Scan<()> {
    let mut more = scanner.open(b'[', b']', "columns are no list")?;
    while more {
        let mut cell = Cell::default();
        let mut members = scanner.open(b'{', b'}', "a column is no object")?;
        while members {
            match scanner.key()? {
                b"name" => cell.name = scanner.string()?,
                b"typeoid" => cell.type_oid = scanner.integer()?,
                b"value" => cell.value = scanner.scalar()?,
                b"position" => cell.position = scanner.integer()?,
                b"optional" => cell.not_null = scanner.scalar()? == Scalar::Bool(false),
                _ => scanner.skip()?,
            }
            members = scanner.more(b'}')?;
        }
        cells.push(cell);
        more = scanner.more(b']')?;
    }
    Ok(())
}

/// A logical message, in either format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    pub prefix: Cow<'a, str>,
    pub content: Cow<'a, [u8]>,
}

impl<'a> LogicalMessage<'a> {
    /// Reads the members of its object from `rest` on.
    pub fn read(message: &'a [u8], rest: usize) -> Scan<Self> {
        let mut scanner = Scanner::new(message, rest);
        let read = Self::members(&mut scanner)?;
        if !scanner.is_at_end() {
            return Err(Malformed("something follows it"));
        }
        Ok(read)
    }

    pub(super) fn members(scanner: &mut Scanner<'a>) -> Scan<Self> {
        let (mut prefix, mut content) = (None, None);
        let mut more = !scanner.take(b'}');
        while more {
            match scanner.key()? {
                b"prefix" => prefix = Some(scanner.string()?.text()?),
                // Any bytes may be in it.
                b"content" => content = Some(scanner.string()?.bytes()?),
                _ => scanner.skip()?,
            }
            more = scanner.more(b'}')?;
        }
        match (prefix, content) {
            (Some(prefix), Some(content)) => Ok(LogicalMessage { prefix, content }),
            _ => Err(Malformed("a logical message has no prefix or no content")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transactions_ends_tell_where_it_is() {
        let begin = br#"{"action":"B","xid":787,"timestamp":"2026-11-21 07:55:52.135824+00","origin":1,"lsn":"0/19D5C70","nextlsn":"0/19D5CA0"}"#;
        let head = Head::read(begin).unwrap();
        assert_eq!(head.kind, Kind::Begin);
        assert_eq!((head.xid, head.origin), (Some(787), 1));
        assert_eq!(
            (head.lsn, head.next_lsn),
            (Some(Lsn(0x19d5c70)), Some(Lsn(0x19d5ca0)))
        );
        assert_eq!(
            head.timestamp.unwrap().bytes,
            b"2026-11-21 07:55:52.135824+00"
        );
        let outside = br#"{"action":"M","xid":null,"timestamp":null,"origin":null,"lsn":"0/19DC438","transactional":false,"prefix":"p2","content":"c\"2"}"#;
        let head = Head::read(outside).unwrap();
        assert_eq!(head.kind, Kind::Change(Action::Message));
        assert_eq!((head.xid, head.transactional), (None, false));
        let message = LogicalMessage::read(outside, head.rest).unwrap();
        assert_eq!((&*message.prefix, &*message.content), ("p2", &b"c\"2"[..]));
    }

    #[test]
    fn a_rows_members_are_found_in_any_order_and_unknown_ones_stepped_over() {
        let update = br#"{ "action" : "U", "new": {"x": [1]}, "lsn":"0/1", "table":"t","schema":"public","pk":[{"name":"id","typeoid":23}],
            "columns":[{"name":"id","typeoid":23,"value":2,"optional":false,"position":1},{"name":"v","extra":[],"typeoid":25,"value":null,"position":3}],
            "identity":[{"name":"id","typeoid":23,"value":1}]}"#;
        let head = Head::read(update).unwrap();
        let mut row = Row::default();
        row.read(update, head.rest).unwrap();
        assert!(row.schema.is("public") && row.table.is("t"));
        assert_eq!(row.columns.len(), 2);
        assert_eq!(row.columns[0].value, Scalar::Number(b"2"));
        assert!(row.columns[0].not_null && !row.columns[1].not_null);
        assert_eq!(row.columns[1].position, 3);
        assert_eq!(row.identity.unwrap()[0].value, Scalar::Number(b"1"));
        assert_eq!(row.primary_key.unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"action":"Z"}"#,
            r#"{"action":"BB"}"#,
            r#"{"action":"B","xid":-1}"#,
            r#"{"action":"B","lsn":"zero"}"#,
            r#"{"action":"M","transactional":1}"#,
            r#"{"action":"I""#,
        ] {
            assert!(Head::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let mut row = Row::default();
        for wrong in [
            r#"{"schema":"s"}"#,
            r#"{"table":"t","columns":{}}"#,
            r#"{"table":"t","columns":[1]}"#,
            r#"{"table":"t"} x"#,
            r#"{"table":"t","columns":[{"position":99999}]}"#,
        ] {
            assert!(row.read(wrong.as_bytes(), 1).is_err(), "{wrong}");
        }
    }
}
