//! The assembler reads frame headers and decides what each frame is: a piece
//! to decode now, a piece to keep, or a position.
//!
//! It is also where transactions are skipped that this process or an earlier
//! one delivered already (the server sends again from the acknowledged LSN on),
//! and where `--until-lsn` ends the stream.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use walferry_protocol::{self as protocol, Context, Frame, Lsn, ProtocolError};

use super::dispatch::{Dispatch, Gone, Mark, MarkKind, Piece};
use crate::decode::native::{malformed_frame, transaction};
use crate::error::Failure;
use crate::event;
use crate::transaction::Dialect;
use crate::transaction::fragments::Fragments;
use crate::transaction::prepared::{Key, PreparedStore};
use crate::transaction::prepared_file::Writer;
use crate::transaction::streamed::{InProgress, Streamed};

/// A message off the socket.
#[derive(Debug)]
pub enum Received {
    Frame(Bytes),
    /// The server has sent everything before `wal_end`.
    Keepalive {
        wal_end: Lsn,
        reply_requested: bool,
    },
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
    pub dispatch: Dispatch,
    pub streamed: Streamed,
    pub prepared: Arc<PreparedStore>,
    /// Commits that end at or before this were delivered.
    pub delivered: Lsn,
    pub until: Option<Lsn>,
    /// Of the server that the state belongs to.
    pub system_identifier: u64,
    dialect: Option<Arc<Dialect>>,
    open: Option<Open>,
    none_aborted: Arc<HashSet<u32>>,
}

/// A transaction between its FIRST and its LAST frame.
struct Open {
    context: Context,
    fragments: Fragments,
    kind: OpenKind,
}

enum OpenKind {
    Committed(Arc<event::Transaction>),
    /// Delivered before.
    Skipped,
    Prepared(Box<Writer>),
}

impl Assembler {
    pub fn new(
        dispatch: Dispatch,
        streamed: Streamed,
        prepared: Arc<PreparedStore>,
        delivered: Lsn,
        until: Option<Lsn>,
        system_identifier: u64,
    ) -> Self {
        Assembler {
            dispatch,
            streamed,
            prepared,
            delivered,
            until,
            system_identifier,
            dialect: None,
            open: None,
            none_aborted: Arc::default(),
        }
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
                        return match self.dispatch.send_pieces() {
                            Ok(()) => End::ReachedUntil,
                            Err(Gone) => End::Stopped,
                        };
                    }
                    Err(Stop::Failed(failure)) => {
                        let _ = self.dispatch.fail(failure);
                        return End::Stopped;
                    }
                }
            }
            if input.is_empty() && self.dispatch.send_pieces().is_err() {
                return End::Stopped;
            }
        }
        match self.dispatch.send_pieces() {
            Ok(()) => End::InputClosed,
            Err(Gone) => End::Stopped,
        }
    }

    fn take(&mut self, received: Received) -> Step {
        match received {
            Received::Frame(message) => {
                crate::failpoint::reached("after-receive");
                self.frame(&message)
            }
            Received::Keepalive {
                wal_end,
                reply_requested,
            } => self.keepalive(wal_end, reply_requested),
        }
    }

    /// With no transaction open, everything before a keepalive's WAL end has
    /// been given out before this mark.
    fn keepalive(&mut self, wal_end: Lsn, reply_requested: bool) -> Step {
        if self.open.is_some() {
            return Ok(());
        }
        // A position past the end asked for is not taken: what lies between
        // was not delivered on purpose.
        let position = self.until.map_or(wal_end, |until| wal_end.min(until));
        self.dispatch.mark(Mark {
            position,
            kind: MarkKind::Keepalive { reply_requested },
        })?;
        match self.until {
            Some(until) if reaches(wal_end, until) => Err(Stop::Reached),
            _ => Ok(()),
        }
    }

    fn frame(&mut self, message: &Bytes) -> Step {
        let frame = Frame::decode(message).map_err(malformed_frame)?;
        if let Context::Start(start) = &frame.context {
            return self.start(start, message);
        }
        let Some(dialect) = self.dialect.clone() else {
            return Err(inconsistent("a frame comes before the start frame"));
        };
        dialect.learn(&frame)?;
        if let Some(open) = &self.open
            && open.context != frame.context
        {
            return Err(inconsistent("a frame comes inside another transaction"));
        }
        match &frame.context {
            Context::Start(_) => Ok(()),
            Context::Transaction(context) => {
                if frame.flags.is_first() {
                    self.before(context.end_lsn)?;
                }
                self.committed(&dialect, &frame, context, message)
            }
            Context::Streamed(context) => {
                let first = frame.flags.is_first();
                Ok(self.streamed.push(context.xid, first, message)?)
            }
            Context::StreamAbort(context) => {
                self.streamed.abort(context.xid, context.subxid);
                Ok(())
            }
            Context::StreamCommit(context) => {
                self.before(context.end_lsn)?;
                // The plugin sends a commit only for what it sent pieces of.
                let Some(rows) = self.streamed.take(context.xid) else {
                    return Err(inconsistent(
                        "a streamed transaction commits that never began",
                    ));
                };
                if context.end_lsn > self.delivered {
                    self.replay_streamed(&dialect, rows, context)?;
                }
                self.commit_mark(context)
            }
            Context::StreamPrepare(context) => {
                self.before(context.end_lsn)?;
                self.store_streamed(&dialect, context)?;
                self.end(context.end_lsn, MarkKind::Prepared)
            }
            Context::Prepared(context) => {
                if frame.flags.is_first() {
                    self.before(context.end_lsn)?;
                }
                self.prepared(&dialect, &frame, context, message)
            }
            Context::CommitPrepared(context) => {
                self.before(context.transaction.end_lsn)?;
                self.commit_prepared(context)
            }
            Context::RollbackPrepared(context) => {
                self.before(context.end_lsn)?;
                let key = Key {
                    xid: context.xid,
                    gid: context.gid.clone(),
                };
                self.prepared.finished(&key, context.end_lsn)?;
                self.end(context.end_lsn, MarkKind::Finished { key })
            }
            Context::Message { end_lsn } => {
                if self.open.is_none() && frame.flags.is_first() {
                    self.before(*end_lsn)?;
                }
                self.message(&dialect, &frame, *end_lsn, message)
            }
        }
    }

    fn start(&mut self, start: &protocol::Start, message: &Bytes) -> Step {
        if self.dialect.is_some() {
            return Err(inconsistent("a second start frame comes"));
        }
        if start.system_identifier != self.system_identifier {
            return Err(Stop::Failed(
                Failure::definite("the stream comes from another server").detail(format!(
                    "system identifier {}, the connection said {}",
                    start.system_identifier, self.system_identifier
                )),
            ));
        }
        self.dialect = Some(Arc::new(Dialect::new(start.clone(), message)));
        Ok(())
    }

    /// A piece of a committed transaction.
    fn committed(
        &mut self,
        dialect: &Arc<Dialect>,
        frame: &Frame<'_>,
        context: &protocol::Transaction,
        message: &Bytes,
    ) -> Step {
        let mut open = self.opened(frame, |assembler| {
            Ok(if context.end_lsn <= assembler.delivered {
                OpenKind::Skipped
            } else {
                OpenKind::Committed(Arc::new(transaction(context)))
            })
        })?;
        let last = frame.flags.is_last();
        if let OpenKind::Committed(transaction) = &open.kind
            && let Some(records) = open.fragments.join(frame, message)?
        {
            let transaction = Arc::clone(transaction);
            self.give(dialect, transaction, records, true, last)?;
        }
        if !last {
            self.open = Some(open);
            return Ok(());
        }
        open.fragments.finish()?;
        self.after(context.end_lsn)
    }

    /// A logical message outside any transaction, in one or more frames.
    fn message(
        &mut self,
        dialect: &Arc<Dialect>,
        frame: &Frame<'_>,
        end_lsn: Lsn,
        message: &Bytes,
    ) -> Step {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open {
                context: frame.context.clone(),
                fragments: Fragments::default(),
                kind: OpenKind::Skipped,
            },
        };
        let Some(records) = open.fragments.join(frame, message)? else {
            self.open = Some(open);
            return Ok(());
        };
        if end_lsn > self.delivered {
            let transaction = event::Transaction {
                xid: 0,
                commit_lsn: end_lsn,
                end_lsn,
                commit_time_us: 0,
                origin: None,
            };
            self.give(dialect, Arc::new(transaction), records, false, true)?;
        }
        self.after(end_lsn)
    }

    /// A piece of a transaction that is sent at its PREPARE.
    fn prepared(
        &mut self,
        dialect: &Arc<Dialect>,
        frame: &Frame<'_>,
        context: &protocol::Prepared,
        message: &Bytes,
    ) -> Step {
        let mut open = self.opened(frame, |assembler| {
            let writer = assembler.prepared.begin(dialect, context)?;
            Ok(OpenKind::Prepared(Box::new(writer)))
        })?;
        let records = open.fragments.join(frame, message)?;
        if let (OpenKind::Prepared(writer), Some(records)) = (&mut open.kind, records) {
            writer.records(&records, false)?;
        }
        if !frame.flags.is_last() {
            self.open = Some(open);
            return Ok(());
        }
        open.fragments.finish()?;
        if let OpenKind::Prepared(writer) = open.kind {
            self.prepared
                .finish(*writer, dialect, context, &self.none_aborted)?;
        }
        self.end(context.end_lsn, MarkKind::Prepared)
    }

    fn opened(
        &mut self,
        frame: &Frame<'_>,
        kind: impl FnOnce(&Self) -> Result<OpenKind, Failure>,
    ) -> Result<Open, Stop> {
        match (self.open.take(), frame.flags.is_first()) {
            (Some(open), false) => Ok(open),
            (None, true) => Ok(Open {
                context: frame.context.clone(),
                fragments: Fragments::default(),
                kind: kind(self)?,
            }),
            (None, false) => Err(inconsistent("a transaction goes on that never began")),
            (Some(_), true) => Err(inconsistent("a transaction begins twice")),
        }
    }

    fn replay_streamed(
        &mut self,
        dialect: &Arc<Dialect>,
        rows: InProgress,
        context: &protocol::Transaction,
    ) -> Step {
        let transaction = Arc::new(transaction(context));
        let aborted = Arc::new(rows.aborted);
        let mut fragments = Fragments::default();
        let mut replay = rows.spool.replay()?;
        while let Some(message) = replay.next_frame()? {
            let frame = Frame::decode(&message).map_err(malformed_frame)?;
            if let Some(records) = fragments.join(&frame, &message)? {
                self.dispatch.piece(Piece {
                    dialect: Arc::clone(dialect),
                    transaction: Arc::clone(&transaction),
                    records,
                    streamed: true,
                    transactional: true,
                    aborted: Arc::clone(&aborted),
                    ends: false,
                })?;
            }
        }
        fragments.finish()?;
        Ok(())
    }

    fn store_streamed(&mut self, dialect: &Arc<Dialect>, context: &protocol::Prepared) -> Step {
        let rows = self.streamed.take(context.xid).unwrap_or_default();
        let mut writer = self.prepared.begin(dialect, context)?;
        let mut fragments = Fragments::default();
        let mut replay = rows.spool.replay()?;
        while let Some(message) = replay.next_frame()? {
            let frame = Frame::decode(&message).map_err(malformed_frame)?;
            if let Some(records) = fragments.join(&frame, &message)? {
                writer.records(&records, true)?;
            }
        }
        fragments.finish()?;
        self.prepared
            .finish(writer, dialect, context, &rows.aborted)?;
        Ok(())
    }

    fn commit_prepared(&mut self, context: &protocol::CommitPrepared) -> Step {
        let end_lsn = context.transaction.end_lsn;
        let key = Key {
            xid: context.transaction.xid,
            gid: context.gid.clone(),
        };
        if end_lsn > self.delivered {
            let mut rows = self.prepared.open_for_commit(&key, end_lsn)?;
            let transaction = Arc::new(transaction(&context.transaction));
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

    fn commit_mark(&mut self, context: &protocol::Transaction) -> Step {
        let commit_time_us = transaction(context).commit_time_us;
        self.end(context.end_lsn, MarkKind::Commit { commit_time_us })
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

/// Whether nothing can still come that ends at or before `until`.
///
/// An LSN at the beginning of a page may be written as the page's first byte
/// or as the first byte after the page's header (`XLogBytePosToRecPtr` and
/// `XLogBytePosToEndRecPtr`, `src/backend/access/transam/xlog.c`); no record
/// is between.
fn reaches(wal_end: Lsn, until: Lsn) -> bool {
    const PAGE: u64 = 8192;
    const LONG_HEADER: u64 = 40;
    wal_end >= until || (wal_end.0.is_multiple_of(PAGE) && until.0 - wal_end.0 <= LONG_HEADER)
}

fn inconsistent(what: &'static str) -> Stop {
    Stop::Failed(malformed_frame(ProtocolError::Inconsistent { what }))
}

#[cfg(test)]
#[path = "assembler_tests.rs"]
mod tests;
