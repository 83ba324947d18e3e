//! Frames in the order in which they came, checked against all that the
//! format promises.

use std::collections::{BTreeMap, HashMap, HashSet};

use walferry_protocol::{self as protocol, Context, Flags, Frame, Kind, Lsn, Prepared, Records};
use walferry_streamer::decode::RelationTable;
use walferry_streamer::decode::native::{decode_records, transaction};
use walferry_streamer::event;

use super::change::own;
use super::{Action, Capture, Change, FrameNote, Transaction, Way};

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
