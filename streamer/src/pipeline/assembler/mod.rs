//! The assembler reads what the output plugin sent as far as it must to decide
//! what each message is: a piece to decode now, a piece to keep, or a position.
//!
//! It is also where transactions are skipped that this process or an earlier
//! one delivered already (the server sends again from the acknowledged LSN on),
//! and where `--until-lsn` ends the stream. That is the same for every plugin
//! and stands here; where transactions begin and end in a plugin's output is
//! in one file a plugin.

pub mod native;
pub mod pgoutput;
pub mod wal2json;

#[cfg(test)]
mod testing;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use walferry_protocol::{Lsn, Prepared};

use super::dispatch::{Dispatch, Gone, Mark, MarkKind, Piece};
use crate::decode::wal2json::Wal2json;
use crate::error::Failure;
use crate::event;
use crate::source::replication::ends_at_or_past;
use crate::transaction::Dialect;
use crate::transaction::prepared::{Key, PreparedStore};
use crate::transaction::streamed::Streamed;

/// A message off the socket.
#[derive(Debug)]
pub enum Received {
    /// What the output plugin wrote in one piece.
    Frame {
        /// Where the plugin was when it began the message (XLogData's header);
        /// 0 where the walsender does not say.
        start: Lsn,
        bytes: Bytes,
    },
    /// The output plugin starts anew, after whole transactions.
    NewStart,
    /// The server has sent everything before `wal_end`.
    Keepalive { wal_end: Lsn, reply_requested: bool },
}

/// Whose output a connection carries, and what reading it takes.
pub enum Output {
    Native,
    Pgoutput(Box<pgoutput::Setting>),
    Wal2json(Box<Wal2json>),
}

/// Counts the changes that came out of one WAL record, for plugins that do not
/// tell it themselves.
#[derive(Clone, Copy, Debug, Default)]
struct RecordIndex {
    lsn: Lsn,
    next: u32,
}

impl RecordIndex {
    /// The index of the next `count` changes at `lsn`.
    fn next(&mut self, lsn: Lsn, count: u32) -> u32 {
        if self.lsn != lsn {
            *self = RecordIndex { lsn, next: 0 };
        }
        let index = self.next;
        self.next = self.next.wrapping_add(count);
        index
    }
}

/// Why the assembler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing more comes in.
    InputClosed,
    /// Everything up to `--until-lsn` was given out.
    ReachedUntil,
    /// The threads after it are gone, or got a failure from it.
    Stopped,
}

/// What stops the assembler at once.
enum Stop {
    Gone,
    Reached,
    Failed(Failure),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Stop::Gone
    }
}
impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failed(failure)
    }
}

type Step = Result<(), Stop>;

/// What the assembler works with, for one connection.
pub struct Assembler {
    course: Course,
    boundaries: Boundaries,
}

/// Finds a plugin's transactions in its output.
enum Boundaries {
    Native(native::Boundaries),
    Pgoutput(Box<pgoutput::Boundaries>),
    Wal2json(wal2json::Boundaries),
}

impl Boundaries {
    fn message(&mut self, course: &mut Course, start: Lsn, bytes: &Bytes) -> Step {
        match self {
            // Frames say themselves where they are.
            Boundaries::Native(native) => native.frame(course, bytes),
            Boundaries::Pgoutput(pgoutput) => pgoutput.message(course, start, bytes),
            Boundaries::Wal2json(wal2json) => wal2json.message(course, start, bytes),
        }
    }

    /// The plugin knows nothing any more of what it told. Frames number their
    /// definitions; the others name relations by what stays the same.
    fn start_anew(&mut self) {
        if let Boundaries::Native(native) = self {
            *native = native::Boundaries::default();
        }
    }

    /// Whether a transaction has begun that goes on with the next message.
    fn is_inside_transaction(&self) -> bool {
        match self {
            Boundaries::Native(native) => native.is_inside_transaction(),
            Boundaries::Pgoutput(pgoutput) => pgoutput.is_inside_transaction(),
            Boundaries::Wal2json(wal2json) => wal2json.is_inside_transaction(),
        }
    }
}

impl Assembler {
    pub fn new(course: Course, output: Output) -> Self {
        let boundaries = match output {
            Output::Native => Boundaries::Native(native::Boundaries::default()),
            Output::Pgoutput(setting) => {
                Boundaries::Pgoutput(Box::new(pgoutput::Boundaries::new(*setting)))
            }
            Output::Wal2json(wal2json) => {
                Boundaries::Wal2json(wal2json::Boundaries::new(*wal2json))
            }
        };
        Assembler { course, boundaries }
    }

    /// Runs until the input ends. What is not whole by then is dropped: the
    /// server sends it again.
    pub fn run(mut self, mut input: mpsc::Receiver<Vec<Received>>) -> End {
        while let Some(batch) = input.blocking_recv() {
            for received in batch {
                match self.take(received) {
                    Ok(()) => {}
                    Err(Stop::Gone) => return End::Stopped,
                    Err(Stop::Reached) => {
                        return match self.course.dispatch.send_pieces() {
                            Ok(()) => End::ReachedUntil,
                            Err(Gone) => End::Stopped,
                        };
                    }
                    Err(Stop::Failed(failure)) => {
                        let _ = self.course.dispatch.fail(failure);
                        return End::Stopped;
                    }
                }
            }
            if input.is_empty() && self.course.dispatch.send_pieces().is_err() {
                return End::Stopped;
            }
        }
        match self.course.dispatch.send_pieces() {
            Ok(()) => End::InputClosed,
            Err(Gone) => End::Stopped,
        }
    }

    fn take(&mut self, received: Received) -> Step {
        match received {
            Received::Frame { start, bytes } => {
                crate::failpoint::reached("after-receive");
                self.boundaries.message(&mut self.course, start, &bytes)
            }
            Received::NewStart => {
                self.boundaries.start_anew();
                Ok(())
            }
            Received::Keepalive {
                wal_end,
                reply_requested,
            } if !self.boundaries.is_inside_transaction() => {
                self.course.keepalive(wal_end, reply_requested)
            }
            Received::Keepalive { .. } => Ok(()),
        }
    }
}

/// What transactions go through once a plugin's output was understood: which
/// of them count, where each ends, and giving them out in order.
pub struct Course {
    pub dispatch: Dispatch,
    /// Transactions that are not finished.
    pub streamed: Streamed,
    pub prepared: Arc<PreparedStore>,
    /// Commits that end at or before this were delivered.
    pub delivered: Lsn,
    pub until: Option<Lsn>,
    /// Of the server that the state belongs to.
    pub system_identifier: u64,
    none_aborted: Arc<HashSet<u32>>,
}

impl Course {
    pub fn new(
        dispatch: Dispatch,
        streamed: Streamed,
        prepared: Arc<PreparedStore>,
        delivered: Lsn,
        until: Option<Lsn>,
        system_identifier: u64,
    ) -> Self {
        Course {
            dispatch,
            streamed,
            prepared,
            delivered,
            until,
            system_identifier,
            none_aborted: Arc::default(),
        }
    }

    /// With no transaction open, everything before a keepalive's WAL end has
    /// been given out before this mark.
    fn keepalive(&mut self, wal_end: Lsn, reply_requested: bool) -> Step {
        // A position past the end asked for is not taken: what lies between
        // was not delivered on purpose.
        let position = self.until.map_or(wal_end, |until| wal_end.min(until));
        self.dispatch.mark(Mark {
            position,
            kind: MarkKind::Keepalive { reply_requested },
        })?;
        match self.until {
            // Nothing can still come that ends at or before it.
            Some(until) if ends_at_or_past(wal_end, until) => Err(Stop::Reached),
            _ => Ok(()),
        }
    }

    /// Whether a commit that ends here was delivered before.
    fn is_delivered(&self, end_lsn: Lsn) -> bool {
        end_lsn <= self.delivered
    }

    /// Gives out a piece of a committed transaction, no record of which
    /// carries an xid. `ends`: the transaction is whole with it.
    fn give(
        &mut self,
        dialect: &Arc<Dialect>,
        transaction: Arc<event::Transaction>,
        records: Bytes,
        transactional: bool,
        ends: bool,
    ) -> Result<(), Gone> {
        self.dispatch.piece(Piece {
            dialect: Arc::clone(dialect),
            transaction,
            records,
            streamed: false,
            transactional,
            aborted: Arc::clone(&self.none_aborted),
            ends,
        })
    }

    /// The rows of a COMMIT PREPARED are given out, and its position.
    fn commit_prepared(&mut self, gid: &str, transaction: event::Transaction) -> Step {
        let end_lsn = transaction.end_lsn;
        let key = Key {
            xid: transaction.xid,
            gid: gid.to_owned(),
        };
        if !self.is_delivered(end_lsn) {
            let mut rows = self.prepared.open_for_commit(&key, end_lsn)?;
            let transaction = Arc::new(transaction);
            let aborted = Arc::new(std::mem::take(&mut rows.aborted));
            let dialect = Arc::clone(&rows.dialect);
            while let Some((records, streamed)) = rows.next_records()? {
                self.dispatch.piece(Piece {
                    dialect: Arc::clone(&dialect),
                    transaction: Arc::clone(&transaction),
                    records,
                    streamed,
                    transactional: true,
                    aborted: Arc::clone(&aborted),
                    ends: false,
                })?;
            }
        }
        self.end(end_lsn, MarkKind::Finished { key })
    }

    /// The rows of a ROLLBACK PREPARED that ends at `end_lsn` can go.
    fn rollback_prepared(&mut self, xid: u32, gid: &str, end_lsn: Lsn) -> Step {
        let key = Key {
            xid,
            gid: gid.to_owned(),
        };
        self.prepared.finished(&key, end_lsn)?;
        self.end(end_lsn, MarkKind::Finished { key })
    }

    /// The rows of a PREPARE are kept: its position.
    fn end_prepare(&mut self, prepared: &Prepared) -> Step {
        self.end(prepared.end_lsn, MarkKind::Prepared)
    }

    /// The position of a commit all of whose pieces were given out.
    fn end_commit(&mut self, end_lsn: Lsn, commit_time_us: i64) -> Step {
        self.end(end_lsn, MarkKind::Commit { commit_time_us })
    }

    fn end(&mut self, position: Lsn, kind: MarkKind) -> Step {
        self.dispatch.mark(Mark { position, kind })?;
        self.after(position)
    }

    /// Something that ends at `end_lsn` comes: does it lie past the end?
    fn before(&self, end_lsn: Lsn) -> Step {
        match self.until {
            Some(until) if end_lsn > until => Err(Stop::Reached),
            _ => Ok(()),
        }
    }

    fn after(&self, end_lsn: Lsn) -> Step {
        match self.until {
            Some(until) if end_lsn >= until => Err(Stop::Reached),
            _ => Ok(()),
        }
    }
}
