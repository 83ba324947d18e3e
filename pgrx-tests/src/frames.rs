//! Frames of the native format as comparable structures.
//!
//! [`FrameReader`] is strict: whatever the format promises about the order of
//! frames, definitions and positions is checked here, so that every test that
//! reads changes checks it too. A broken promise panics.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use postgres::Client;
use walferry_protocol::{
    self as protocol, Context, Flags, Frame, Kind, Lsn, Prepared, Records, Start, StreamAbort,
};
use walferry_streamer::decode::RelationTable;
use walferry_streamer::decode::native::{decode_records, transaction};
use walferry_streamer::event;

/// A column's value as the reader got it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cell {
    Null,
    UnchangedToast,
    Absent,
    /// What `value::text` prints.
    Text(String),
}

pub type Row = Vec<Cell>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Old {
    None,
    Key(Row),
    Full(Row),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Insert { new: Row },
    Update { old: Old, new: Row },
    Delete { old: Old },
    Truncate { cascade: bool, restart: bool },
    Message { prefix: String, content: Vec<u8> },
}

#[derive(Clone, Debug)]
pub struct Change {
    /// Of a streamed record: the (sub)transaction.
    pub xid: Option<u32>,
    pub lsn: Lsn,
    pub index: u32,
    /// None for a logical message.
    pub relation: Option<Arc<event::Relation>>,
    pub action: Action,
}

/// How a committed transaction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Whole,
    Streamed,
    Prepared,
    StreamPrepared,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub way: Way,
    pub context: event::Transaction,
    pub gid: Option<String>,
    pub changes: Vec<Change>,
}

/// One frame, for tests of framing itself.
#[derive(Clone, Debug)]
pub struct FrameNote {
    pub kind: Kind,
    pub flags: Flags,
    /// Of the whole message.
    pub length: usize,
    /// The numbers of the definitions in it.
    pub definitions: Vec<u32>,
    pub xid: Option<u32>,
}

/// All that a connection said.
#[derive(Debug, Default)]
pub struct Capture {
    pub start: Option<Start>,
    /// In commit order.
    pub transactions: Vec<Transaction>,
    /// Non-transactional ones.
    pub messages: Vec<(Lsn, Change)>,
    /// In order of their PREPARE, whatever became of them.
    pub prepared: Vec<Prepared>,
    /// gids.
    pub rolled_back: Vec<String>,
    pub aborts: Vec<StreamAbort>,
    pub definitions: Vec<Arc<event::Relation>>,
    pub frames: Vec<FrameNote>,
    /// xids of streamed transactions that had not ended.
    pub open: Vec<u32>,
}

/// Reads frames in the order in which they came.
#[derive(Default)]
pub struct FrameReader {
    capture: Capture,
    table: RelationTable,
    last_definition: u32,
    /// The transaction whose LAST frame has not come yet, and what came of it.
    whole: Option<(Context, Vec<Change>)>,
    streamed: BTreeMap<u32, Stream>,
    prepared: HashMap<String, (Way, Vec<Change>)>,
    /// A record of which not all fragments have come.
    fragments: Option<Fragments>,
    ids: HashSet<(Lsn, Lsn, u32)>,
    last_end: Lsn,
}

#[derive(Default)]
struct Stream {
    changes: Vec<Change>,
    definitions: HashSet<u32>,
}

struct Fragments {
    context: Context,
    bytes: Vec<u8>,
}

impl FrameReader {
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Takes in one message. `written_at` is the LSN the server stamped it with.
    pub fn read(&mut self, bytes: &[u8], written_at: Option<Lsn>) {
        let frame = Frame::decode(bytes)
            .unwrap_or_else(|error| panic!("{error} in {:?}", &bytes[..bytes.len().min(100)]));
        let definitions = self.define(&frame);
        self.capture.frames.push(FrameNote {
            kind: frame.context.kind(),
            flags: frame.flags,
            length: bytes.len(),
            definitions,
            xid: xid(&frame.context),
        });
        if self.capture.start.is_none() {
            assert_eq!(frame.context.kind(), Kind::Start, "the first frame");
        }
        if let Some(open) = &self.fragments {
            assert!(
                frame.flags.has(Flags::CONTINUED) && open.context == frame.context,
                "a frame {:?} comes between the fragments of a record",
                frame.context
            );
        } else {
            assert!(
                !frame.flags.has(Flags::CONTINUED),
                "a fragment continues nothing"
            );
        }
        if let Some((context, _)) = &self.whole {
            assert_eq!(
                *context, frame.context,
                "another frame inside a transaction"
            );
        }
        let changes = self.changes_of(&frame);
        self.route(&frame, changes, written_at);
    }

    /// The end of the stream: nothing may be half said.
    pub fn finish(mut self) -> Capture {
        assert!(self.fragments.is_none(), "a record ends in the middle");
        assert!(
            self.whole.is_none(),
            "a transaction ends without its LAST frame"
        );
        self.capture.open = self.streamed.keys().copied().collect();
        self.capture
    }

    fn define(&mut self, frame: &Frame<'_>) -> Vec<u32> {
        let mut numbers = Vec::new();
        for definition in frame.definitions() {
            let mut definition = definition.unwrap_or_else(|error| panic!("{error}"));
            let number = definition.number;
            assert!(
                number > self.last_definition,
                "definition {number} of {} comes after {}",
                definition.name,
                self.last_definition
            );
            self.last_definition = number;
            let fingerprint = definition.fingerprint;
            definition.seal();
            assert_eq!(fingerprint, definition.fingerprint, "the fingerprint");
            if let Context::Streamed(streamed) = &frame.context {
                let stream = self.streamed.entry(streamed.xid).or_default();
                stream.definitions.insert(number);
            }
            self.capture.definitions.push(self.table.insert(definition));
            numbers.push(number);
        }
        numbers
    }

    fn changes_of(&mut self, frame: &Frame<'_>) -> Vec<Change> {
        if !frame.flags.is_fragment() {
            return self.decode(frame.record_bytes(), &frame.context);
        }
        let open = self.fragments.get_or_insert_with(|| Fragments {
            context: frame.context.clone(),
            bytes: Vec::new(),
        });
        open.bytes.extend_from_slice(frame.record_bytes());
        if frame.flags.has(Flags::CONTINUES) {
            return Vec::new();
        }
        let whole = self.fragments.take().expect("fragments");
        let changes = self.decode(&whole.bytes, &whole.context);
        assert_eq!(changes.len(), 1, "fragments hold one record");
        changes
    }

    fn decode(&self, bytes: &[u8], context: &Context) -> Vec<Change> {
        if bytes.is_empty() {
            return Vec::new();
        }
        let streamed = matches!(context, Context::Streamed(_));
        let start = self.capture.start.as_ref().expect("the Start frame");
        let mut changes = Vec::new();
        let nobody = event::Transaction {
            xid: 0,
            commit_lsn: Lsn::INVALID,
            end_lsn: Lsn::INVALID,
            commit_time_us: 0,
            origin: None,
        };
        let transactional = !matches!(context, Context::Message { .. });
        decode_records(
            Records::new(bytes, streamed),
            &self.table,
            start,
            &nobody,
            transactional,
            &HashSet::new(),
            &mut |event| {
                changes.push(own(event));
                Ok(())
            },
        )
        .unwrap_or_else(|failure| panic!("{failure}"));
        self.check_records(bytes, context, &mut changes);
        changes
    }

    /// Adds the xids, and checks that a streamed record uses only definitions
    /// of its own transaction.
    fn check_records(&self, bytes: &[u8], context: &Context, changes: &mut [Change]) {
        let Context::Streamed(streamed) = context else {
            return;
        };
        let own = &self.streamed.get(&streamed.xid).map(|s| &s.definitions);
        let mut place = 0;
        for record in Records::new(bytes, true) {
            let record = record.unwrap_or_else(|error| panic!("{error}"));
            let relations = match &record.change {
                protocol::Change::Truncate(truncate) => truncate.relations.clone(),
                protocol::Change::Message(_) => Vec::new(),
                protocol::Change::Insert { relation, .. }
                | protocol::Change::Update { relation, .. }
                | protocol::Change::Delete { relation, .. } => vec![*relation],
            };
            for number in &relations {
                assert!(
                    own.is_some_and(|own| own.contains(number)),
                    "a row of streamed transaction {} uses definition {number}, which came outside of it",
                    streamed.xid
                );
            }
            let events = match &record.change {
                protocol::Change::Truncate(truncate) => truncate.relations.len(),
                _ => 1,
            };
            for change in &mut changes[place..place + events] {
                change.xid = record.xid;
            }
            place += events;
        }
    }

    fn route(&mut self, frame: &Frame<'_>, changes: Vec<Change>, written_at: Option<Lsn>) {
        let (first, last) = (frame.flags.is_first(), frame.flags.is_last());
        match frame.context.clone() {
            Context::Start(start) => {
                assert!(self.capture.start.is_none(), "a second Start frame");
                self.capture.start = Some(start);
            }
            context @ (Context::Transaction(_) | Context::Prepared(_)) => {
                assert_eq!(first, self.whole.is_none(), "FIRST is on the first frame");
                let open = self
                    .whole
                    .get_or_insert_with(|| (context.clone(), Vec::new()));
                open.1.extend(changes);
                if !last {
                    return;
                }
                let (_, changes) = self.whole.take().expect("an open transaction");
                match context {
                    Context::Transaction(context) => {
                        if let Some(written_at) = written_at {
                            assert_eq!(written_at, context.end_lsn, "LSN of the commit's frame");
                        }
                        self.commit(&context, Way::Whole, None, changes);
                    }
                    Context::Prepared(prepared) => {
                        self.prepare(prepared, Way::Prepared, changes);
                    }
                    _ => unreachable!("matched above"),
                }
            }
            Context::Streamed(streamed) => {
                assert!(!last, "a streamed piece ends nothing");
                let is_new = !self.capture.frames[..self.capture.frames.len() - 1]
                    .iter()
                    .any(|frame| frame.kind == Kind::Streamed && frame.xid == Some(streamed.xid));
                assert_eq!(first, is_new, "FIRST is on the first streamed piece");
                let stream = self.streamed.entry(streamed.xid).or_default();
                stream.changes.extend(changes);
            }
            Context::StreamAbort(abort) => {
                let stream = self.streamed.get_mut(&abort.xid);
                let stream = stream.expect("an abort of a transaction that was streamed");
                if abort.subxid == abort.xid {
                    self.streamed.remove(&abort.xid);
                } else {
                    stream
                        .changes
                        .retain(|change| change.xid != Some(abort.subxid));
                }
                self.capture.aborts.push(abort);
            }
            Context::StreamCommit(context) => {
                let stream = self.streamed.remove(&context.xid);
                let stream = stream.expect("a commit of a transaction that was streamed");
                self.commit(&context, Way::Streamed, None, stream.changes);
            }
            Context::StreamPrepare(prepared) => {
                // Unknown when all that was to be streamed was filtered, or
                // rolled back before it was decoded.
                let stream = self.streamed.remove(&prepared.xid).unwrap_or_default();
                self.prepare(prepared, Way::StreamPrepared, stream.changes);
            }
            Context::CommitPrepared(commit) => {
                // What was prepared before the slot's reader came is not here.
                let (way, changes) = self
                    .prepared
                    .remove(&commit.gid)
                    .unwrap_or((Way::Prepared, Vec::new()));
                self.commit(&commit.transaction, way, Some(commit.gid), changes);
            }
            Context::RollbackPrepared(rollback) => {
                self.prepared.remove(&rollback.gid);
                self.capture.rolled_back.push(rollback.gid);
            }
            Context::Message { end_lsn } => {
                assert_eq!(first, !frame.flags.has(Flags::CONTINUED));
                assert_eq!(last, !frame.flags.has(Flags::CONTINUES));
                if !last {
                    return;
                }
                assert_eq!(changes.len(), 1, "a Message frame holds one message");
                for change in changes {
                    assert!(matches!(change.action, Action::Message { .. }));
                    self.capture.messages.push((end_lsn, change));
                }
            }
        }
    }

    fn prepare(&mut self, prepared: Prepared, way: Way, changes: Vec<Change>) {
        self.prepared.insert(prepared.gid.clone(), (way, changes));
        self.capture.prepared.push(prepared);
    }

    fn commit(
        &mut self,
        context: &protocol::Transaction,
        way: Way,
        gid: Option<String>,
        changes: Vec<Change>,
    ) {
        assert!(
            context.end_lsn > self.last_end && context.commit_lsn < context.end_lsn,
            "commit {context:?} after one that ends at {}",
            self.last_end
        );
        self.last_end = context.end_lsn;
        for change in &changes {
            assert!(
                self.ids.insert((context.end_lsn, change.lsn, change.index)),
                "two events have the id ({}, {}, {})",
                context.end_lsn,
                change.lsn,
                change.index
            );
        }
        for pair in changes.windows(2) {
            assert!(
                (pair[0].lsn, pair[0].index) < (pair[1].lsn, pair[1].index),
                "changes are out of order: {} and {}",
                pair[0],
                pair[1]
            );
        }
        self.capture.transactions.push(Transaction {
            way,
            context: transaction(context),
            gid,
            changes,
        });
    }
}

fn xid(context: &Context) -> Option<u32> {
    match context {
        Context::Start(_) | Context::Message { .. } => None,
        Context::Transaction(t) | Context::StreamCommit(t) => Some(t.xid),
        Context::Streamed(s) => Some(s.xid),
        Context::StreamAbort(a) => Some(a.xid),
        Context::StreamPrepare(p) | Context::Prepared(p) => Some(p.xid),
        Context::CommitPrepared(c) => Some(c.transaction.xid),
        Context::RollbackPrepared(r) => Some(r.xid),
    }
}

fn own(event: &event::Event<'_>) -> Change {
    let row = |image: &event::Image<'_>| -> Row {
        image
            .iter()
            .map(|value| match value {
                event::Value::Null => Cell::Null,
                event::Value::UnchangedToast => Cell::UnchangedToast,
                event::Value::Absent => Cell::Absent,
                value => {
                    let mut text = Vec::new();
                    value
                        .write_text(&mut text)
                        .unwrap_or_else(|error| panic!("{error}"));
                    Cell::Text(String::from_utf8(text).expect("values are UTF-8"))
                }
            })
            .collect()
    };
    let old = |image: &event::OldImage<'_>| match image {
        event::OldImage::None => Old::None,
        event::OldImage::Key(image) => Old::Key(row(image)),
        event::OldImage::Full(image) => Old::Full(row(image)),
    };
    let (relation, action) = match &event.change {
        event::Change::Insert { relation, after } => {
            (Some(*relation), Action::Insert { new: row(after) })
        }
        event::Change::Update {
            relation,
            before,
            after,
        } => (
            Some(*relation),
            Action::Update {
                old: old(before),
                new: row(after),
            },
        ),
        event::Change::Delete { relation, before } => {
            (Some(*relation), Action::Delete { old: old(before) })
        }
        event::Change::Truncate {
            relation,
            cascade,
            restart_identity,
        } => (
            Some(*relation),
            Action::Truncate {
                cascade: *cascade,
                restart: *restart_identity,
            },
        ),
        event::Change::Message {
            prefix, content, ..
        } => (
            None,
            Action::Message {
                prefix: (*prefix).to_owned(),
                content: content.to_vec(),
            },
        ),
    };
    Change {
        xid: None,
        lsn: event.lsn,
        index: event.index,
        relation: relation.map(Arc::clone),
        action,
    }
}

impl Capture {
    /// What the slot holds, read by the SQL functions and left there.
    pub fn peek(client: &mut Client, slot: &str, options: &[(&str, &str)]) -> Capture {
        Self::try_sql(client, "peek", slot, options)
            .unwrap_or_else(|error| panic!("reading slot {slot}: {error:?}"))
    }

    /// What the slot holds, read by the SQL functions and taken from it.
    pub fn get(client: &mut Client, slot: &str, options: &[(&str, &str)]) -> Capture {
        Self::try_sql(client, "get", slot, options)
            .unwrap_or_else(|error| panic!("reading slot {slot}: {error:?}"))
    }

    /// As [`Capture::peek`], for reads that are to fail.
    pub fn try_peek(
        client: &mut Client,
        slot: &str,
        options: &[(&str, &str)],
    ) -> Result<Capture, postgres::Error> {
        Self::try_sql(client, "peek", slot, options)
    }

    fn try_sql(
        client: &mut Client,
        verb: &str,
        slot: &str,
        options: &[(&str, &str)],
    ) -> Result<Capture, postgres::Error> {
        let options: Vec<&str> = options.iter().flat_map(|(k, v)| [*k, *v]).collect();
        // The functions read what is flushed, which an asynchronous commit and
        // an abort are not at once. A commit flushes when its transaction has
        // an id and wrote a record before.
        client.batch_execute(
            "DO $$ BEGIN PERFORM set_config('synchronous_commit', 'on', true), pg_create_restore_point('read'), txid_current(); END $$",
        )?;
        let rows = client.query(
            &format!(
                "SELECT lsn::text, data FROM pg_logical_slot_{verb}_binary_changes($1, NULL, NULL, VARIADIC $2)"
            ),
            &[&slot, &options],
        )?;
        let mut reader = FrameReader::default();
        for row in rows {
            let lsn: String = row.get(0);
            reader.read(row.get(1), Some(lsn.parse().expect("an LSN")));
        }
        Ok(reader.finish())
    }

    /// Every change of every committed transaction, one line each.
    pub fn lines(&self) -> Vec<String> {
        self.transactions
            .iter()
            .flat_map(|transaction| &transaction.changes)
            .map(Change::to_string)
            .collect()
    }

    /// Every change of every committed transaction.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.transactions
            .iter()
            .flat_map(|transaction| &transaction.changes)
    }

    /// The ids of all events, in order.
    pub fn ids(&self) -> Vec<(Lsn, Lsn, u32)> {
        self.transactions
            .iter()
            .flat_map(|t| {
                t.changes
                    .iter()
                    .map(|change| (t.context.end_lsn, change.lsn, change.index))
            })
            .collect()
    }
}

impl Change {
    pub fn table(&self) -> &str {
        self.relation
            .as_ref()
            .map_or("", |relation| &relation.definition.name)
    }

    /// The new row; of a DELETE the old one.
    pub fn row(&self) -> &Row {
        match &self.action {
            Action::Insert { new } | Action::Update { new, .. } => new,
            Action::Delete {
                old: Old::Key(row) | Old::Full(row),
            } => row,
            other => panic!("there is no row in {other:?}"),
        }
    }

    /// The old row.
    pub fn old_row(&self) -> Option<&Row> {
        match &self.action {
            Action::Update { old, .. } | Action::Delete { old } => match old {
                Old::None => None,
                Old::Key(row) | Old::Full(row) => Some(row),
            },
            _ => None,
        }
    }

    /// A column of [`Change::row`].
    pub fn cell(&self, column: &str) -> &Cell {
        &self.row()[self.place(column)]
    }

    /// The text of a column of [`Change::row`].
    pub fn text(&self, column: &str) -> &str {
        match self.cell(column) {
            Cell::Text(text) => text,
            other => panic!("{column} is {other:?}"),
        }
    }

    /// The place of a column.
    pub fn place(&self, column: &str) -> usize {
        let relation = self.relation.as_ref().expect("a change of a relation");
        relation
            .definition
            .columns
            .iter()
            .position(|candidate| candidate.name == column)
            .unwrap_or_else(|| panic!("{} has no column {column}", relation.display_name()))
    }

    fn write_row(&self, row: &Row, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relation = self.relation.as_ref().ok_or(fmt::Error)?;
        let columns = relation.definition.columns.iter().zip(row);
        let mut separator = "";
        for (column, cell) in columns {
            let text = match cell {
                Cell::Absent => continue,
                Cell::Null => "NULL",
                Cell::UnchangedToast => "UNCHANGED",
                Cell::Text(text) => text,
            };
            write!(f, "{separator}{}={text}", column.name)?;
            separator = " ";
        }
        Ok(())
    }

    fn write_old(&self, old: &Old, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match old {
            Old::None => f.write_str("none"),
            Old::Key(row) => {
                f.write_str("key(")?;
                self.write_row(row, f)?;
                f.write_str(")")
            }
            Old::Full(row) => {
                f.write_str("full(")?;
                self.write_row(row, f)?;
                f.write_str(")")
            }
        }
    }
}

/// `INSERT public.t id=1 note=x`, `UPDATE public.t key(id=1) id=2 note=x`,
/// `DELETE public.t key(id=2)`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self
            .relation
            .as_ref()
            .map(|relation| relation.display_name())
            .unwrap_or_default();
        match &self.action {
            Action::Insert { new } => {
                write!(f, "INSERT {name} ")?;
                self.write_row(new, f)
            }
            Action::Update { old, new } => {
                write!(f, "UPDATE {name} ")?;
                self.write_old(old, f)?;
                f.write_str(" ")?;
                self.write_row(new, f)
            }
            Action::Delete { old } => {
                write!(f, "DELETE {name} ")?;
                self.write_old(old, f)
            }
            Action::Truncate { cascade, restart } => {
                write!(f, "TRUNCATE {name}")?;
                if *cascade {
                    f.write_str(" cascade")?;
                }
                if *restart {
                    f.write_str(" restart")?;
                }
                Ok(())
            }
            Action::Message { prefix, content } => {
                write!(f, "MESSAGE {prefix}: {}", String::from_utf8_lossy(content))
            }
        }
    }
}

/// A table's content as the event model prints it: every column's
/// `value::text` under the settings that the plugin pins.
pub fn table_rows(client: &mut Client, table: &str, order: &str) -> Vec<Row> {
    let columns: Vec<String> = client
        .query(
            "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            &[&table],
        )
        .unwrap_or_else(|error| panic!("{error:?}\n{table}"))
        .iter()
        .map(|row| format!("{}::text", row.get::<_, String>(0)))
        .collect();
    let messages = client
        .simple_query(&format!(
            "BEGIN; SET LOCAL DateStyle = ISO; SET LOCAL IntervalStyle = postgres; SET LOCAL TimeZone = 'UTC';
             SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = hex;
             SELECT {} FROM (SELECT * FROM {table} ORDER BY {order}) ordered; COMMIT",
            columns.join(", ")
        ))
        .unwrap_or_else(|error| panic!("{error:?}\n{table}"));
    messages
        .iter()
        .filter_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|place| match row.get(place) {
                        Some(text) => Cell::Text(text.to_owned()),
                        None => Cell::Null,
                    })
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}
