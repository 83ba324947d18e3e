//! Frames as lines of text, so that tests can say what they expect.

use std::collections::HashMap;

use walferry_protocol::{
    Change, Context, Encoding, Frame, OldRow, Record, Records, Relation, Row, Start, Value,
};
use walferry_tests::Server;

/// The frames that a slot holds now, read through SQL.
pub fn frames(server: &Server, slot: &str, options: &[(&str, &str)]) -> Vec<Vec<u8>> {
    frames_in(server, "postgres", slot, options)
}

pub fn frames_in(
    server: &Server,
    database: &str,
    slot: &str,
    options: &[(&str, &str)],
) -> Vec<Vec<u8>> {
    try_frames_in(server, database, slot, options).unwrap_or_else(|error| panic!("{error:?}"))
}

pub fn try_frames_in(
    server: &Server,
    database: &str,
    slot: &str,
    options: &[(&str, &str)],
) -> Result<Vec<Vec<u8>>, postgres::Error> {
    server.flushed_lsn();
    let options: String = options
        .iter()
        .map(|(name, value)| format!(", '{}', '{}'", name, value.replace('\'', "''")))
        .collect();
    let query = format!(
        "SELECT data FROM pg_logical_slot_get_binary_changes('{slot}', NULL, NULL{options})"
    );
    let rows = server.client_in(database).query(&query, &[])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Reads the slot and prints what came.
pub fn events(server: &Server, slot: &str, options: &[(&str, &str)]) -> Vec<String> {
    lines(&frames(server, slot, options))
}

/// Everything that frames hold, in order: definitions by number, and text.
#[derive(Default)]
pub struct Reader {
    pub start: Option<Start>,
    pub relations: HashMap<u32, Relation>,
    /// In the order in which they came.
    pub definitions: Vec<Relation>,
    pub lines: Vec<String>,
    /// (xid, lsn, index) of each change.
    pub positions: Vec<(Option<u32>, u64, u32)>,
    fragments: Vec<u8>,
    pub fragment_frames: usize,
}

pub fn lines(frames: &[Vec<u8>]) -> Vec<String> {
    read(frames).lines
}

pub fn read(frames: &[Vec<u8>]) -> Reader {
    let mut reader = Reader::default();
    for frame in frames {
        reader.frame(frame);
    }
    assert!(
        reader.fragments.is_empty(),
        "a fragmented record has no end"
    );
    reader
}

impl Reader {
    pub fn frame(&mut self, bytes: &[u8]) {
        let frame = Frame::decode(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:x?}"));
        if self.start.is_none() {
            assert!(
                matches!(frame.context, Context::Start(_)),
                "the first frame is {frame:?}"
            );
        }
        for definition in frame.definitions() {
            let definition = definition.expect("a definition");
            let mut sealed = definition.clone();
            sealed.seal();
            assert_eq!(definition.fingerprint, sealed.fingerprint);
            let before = self.relations.insert(definition.number, definition.clone());
            assert!(
                before.is_none(),
                "definition number {} came twice",
                definition.number
            );
            self.definitions.push(definition);
        }
        let streamed = matches!(frame.context, Context::Streamed(_));
        let (opens, closes) = match &frame.context {
            Context::Start(start) => {
                assert!(self.start.is_none(), "a second start frame");
                self.start = Some(start.clone());
                return;
            }
            Context::Transaction(_) => ("BEGIN".to_owned(), "COMMIT".to_owned()),
            Context::Prepared(p) => (format!("BEGIN {}", p.gid), format!("PREPARE {}", p.gid)),
            Context::Streamed(_) => ("STREAM".to_owned(), String::new()),
            Context::StreamAbort(abort) => {
                let whole = if abort.xid == abort.subxid {
                    ""
                } else {
                    " SUBTRANSACTION"
                };
                self.lines.push(format!("STREAM ABORT{whole}"));
                return;
            }
            Context::StreamCommit(_) => {
                self.lines.push("STREAM COMMIT".to_owned());
                return;
            }
            Context::StreamPrepare(p) => {
                self.lines.push(format!("STREAM PREPARE {}", p.gid));
                return;
            }
            Context::CommitPrepared(c) => {
                self.lines.push(format!("COMMIT PREPARED {}", c.gid));
                return;
            }
            Context::RollbackPrepared(r) => {
                self.lines.push(format!("ROLLBACK PREPARED {}", r.gid));
                return;
            }
            Context::Message { .. } => ("OUTSIDE".to_owned(), String::new()),
        };
        if frame.flags.is_first() {
            self.lines.push(opens);
        }
        if frame.flags.is_fragment() {
            self.fragment_frames += 1;
            self.fragments.extend_from_slice(frame.record_bytes());
            if !frame.flags.has(walferry_protocol::Flags::CONTINUES) {
                let whole = std::mem::take(&mut self.fragments);
                self.records(Records::new(&whole, streamed));
            }
        } else {
            self.records(frame.records());
        }
        if frame.flags.is_last() && !closes.is_empty() {
            self.lines.push(closes);
        }
    }

    fn records(&mut self, records: Records<'_>) {
        for record in records {
            let record = record.expect("a record");
            self.positions
                .push((record.xid, record.lsn.0, record.index));
            let line = self.line(&record);
            self.lines.push(line);
        }
    }

    fn line(&self, record: &Record<'_>) -> String {
        match &record.change {
            Change::Insert { relation, new } => {
                format!("I {}", self.row(*relation, new))
            }
            Change::Update { relation, old, new } => {
                let old = self.old(*relation, old);
                format!("U {old}{}", self.row(*relation, new))
            }
            Change::Delete { relation, old } => format!("D {}", self.old(*relation, old)),
            Change::Truncate(truncate) => {
                let names: Vec<_> = truncate
                    .relations
                    .iter()
                    .map(|number| self.name(*number))
                    .collect();
                let cascade = if truncate.cascade { " cascade" } else { "" };
                let restart = if truncate.restart_identity {
                    " restart"
                } else {
                    ""
                };
                format!("T {}{cascade}{restart}", names.join(" "))
            }
            Change::Message(message) => format!(
                "M {}: {}",
                message.prefix,
                String::from_utf8_lossy(&message.content[..message.content.len().min(100)])
            ),
        }
    }

    fn name(&self, number: u32) -> &str {
        &self.relations[&number].name
    }

    fn old(&self, relation: u32, old: &OldRow<'_>) -> String {
        match old {
            OldRow::None => format!("({}: no old) ", self.name(relation)),
            OldRow::Key(row) => format!("key {} ", self.row(relation, row)),
            OldRow::Full(row) => format!("full {} ", self.row(relation, row)),
        }
    }

    fn row(&self, relation: u32, row: &Row<'_>) -> String {
        let relation = &self.relations[&relation];
        assert_eq!(row.column_count(), relation.columns.len());
        let values: Vec<_> = row
            .values(&relation.columns, cfg!(target_endian = "big"))
            .zip(&relation.columns)
            .map(|(value, column)| {
                let value = value.expect("a value");
                format!(
                    "{}={}",
                    column.name,
                    text(column.encoding, column.base_type_oid, value)
                )
            })
            .collect();
        format!("{}({})", relation.name, values.join(", "))
    }
}

/// A value as text, for the few types that the tests look at closely.
fn text(encoding: Encoding, base_type: u32, value: Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::UnchangedToast => "<unchanged>".to_owned(),
        Value::Absent => "<absent>".to_owned(),
        Value::Text(bytes) => {
            assert_eq!(encoding, Encoding::Text);
            String::from_utf8(bytes.to_vec()).expect("text is UTF-8")
        }
        Value::Compressed { raw_size, .. } => format!("<compressed {raw_size}>"),
        Value::Raw(bytes) => {
            assert!(matches!(encoding, Encoding::Raw(_)));
            match (base_type, bytes) {
                (16, [b]) => (*b != 0).to_string(),
                (21, [a, b]) => i16::from_ne_bytes([*a, *b]).to_string(),
                (23, &[a, b, c, d]) => i32::from_ne_bytes([a, b, c, d]).to_string(),
                (20, &[a, b, c, d, e, f, g, h]) => {
                    i64::from_ne_bytes([a, b, c, d, e, f, g, h]).to_string()
                }
                (18 | 25 | 114 | 1042 | 1043, text) if text.len() <= 100 => {
                    String::from_utf8(text.to_vec()).expect("text is UTF-8")
                }
                (25 | 17, bytes) => format!("<{} bytes>", bytes.len()),
                (_, bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            }
        }
    }
}

/// The server is up and nothing in its log speaks of a crash.
pub fn assert_unharmed(server: &Server) {
    assert!(server.is_running());
    let log = server.log();
    for bad in [
        "terminated by signal",
        "PANIC",
        "panicked",
        "TRAP:",
        "server process (PID",
    ] {
        assert!(!log.contains(bad), "the server's log has {bad:?}:\n{log}");
    }
}
