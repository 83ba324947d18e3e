//! Transactions in the native plugin's frames.

use std::sync::Arc;

use bytes::Bytes;
use walferry_protocol::{self as protocol, Context, Frame, Lsn, ProtocolError};

use super::{Course, Step, Stop};
use crate::decode::native::{Native, malformed_frame, transaction};
use crate::error::Failure;
use crate::event;
use crate::pipeline::dispatch::Piece;
use crate::transaction::Dialect;
use crate::transaction::fragments::Fragments;
use crate::transaction::prepared_file::Writer;
use crate::transaction::streamed::InProgress;

/// Where in the frames of one connection we are.
#[derive(Default)]
pub struct Boundaries {
    dialect: Option<Arc<Dialect>>,
    open: Option<Open>,
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

impl Boundaries {
    pub(super) fn is_inside_transaction(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn frame(&mut self, course: &mut Course, message: &Bytes) -> Step {
        let frame = Frame::decode(message).map_err(malformed_frame)?;
        if let Context::Start(start) = &frame.context {
            return self.start(course, start, message);
        }
        let Some(dialect) = self.dialect.clone() else {
            return Err(inconsistent("a frame comes before the start frame"));
        };
        for definition in frame.definitions() {
            dialect
                .relations()
                .insert(definition.map_err(malformed_frame)?);
        }
        if let Some(open) = &self.open
            && open.context != frame.context
        {
            return Err(inconsistent("a frame comes inside another transaction"));
        }
        match &frame.context {
            Context::Start(_) => Ok(()),
            Context::Transaction(context) => {
                if frame.flags.is_first() {
                    course.before(context.end_lsn)?;
                }
                self.committed(course, &dialect, &frame, context, message)
            }
            Context::Streamed(context) => {
                let first = frame.flags.is_first();
                Ok(course.streamed.push(context.xid, first, message)?)
            }
            Context::StreamAbort(context) => {
                course.streamed.abort(context.xid, context.subxid);
                Ok(())
            }
            Context::StreamCommit(context) => {
                course.before(context.end_lsn)?;
                // The plugin sends a commit only for what it sent pieces of.
                let Some(rows) = course.streamed.take(context.xid) else {
                    return Err(inconsistent(
                        "a streamed transaction commits that never began",
                    ));
                };
                let transaction = transaction(context);
                let commit_time_us = transaction.commit_time_us;
                if !course.is_delivered(context.end_lsn) {
                    replay_streamed(course, &dialect, rows, transaction)?;
                }
                course.end_commit(context.end_lsn, commit_time_us)
            }
            Context::StreamPrepare(context) => {
                course.before(context.end_lsn)?;
                store_streamed(course, &dialect, context)?;
                course.end_prepare(context)
            }
            Context::Prepared(context) => {
                if frame.flags.is_first() {
                    course.before(context.end_lsn)?;
                }
                self.prepared(course, &dialect, &frame, context, message)
            }
            Context::CommitPrepared(context) => {
                course.before(context.transaction.end_lsn)?;
                course.commit_prepared(&context.gid, transaction(&context.transaction))
            }
            Context::RollbackPrepared(context) => {
                course.before(context.end_lsn)?;
                course.rollback_prepared(context.xid, &context.gid, context.end_lsn)
            }
            Context::Message { end_lsn } => {
                if self.open.is_none() && frame.flags.is_first() {
                    course.before(*end_lsn)?;
                }
                self.message(course, &dialect, &frame, *end_lsn, message)
            }
        }
    }

    fn start(&mut self, course: &Course, start: &protocol::Start, message: &Bytes) -> Step {
        if self.dialect.is_some() {
            return Err(inconsistent("a second start frame comes"));
        }
        if start.system_identifier != course.system_identifier {
            return Err(Stop::Failed(
                Failure::definite("the stream comes from another server").detail(format!(
                    "system identifier {}, the connection said {}",
                    start.system_identifier, course.system_identifier
                )),
            ));
        }
        let native = Native::new(start.clone(), message);
        self.dialect = Some(Arc::new(Dialect::Native(native)));
        Ok(())
    }

    /// A piece of a committed transaction.
    fn committed(
        &mut self,
        course: &mut Course,
        dialect: &Arc<Dialect>,
        frame: &Frame<'_>,
        context: &protocol::Transaction,
        message: &Bytes,
    ) -> Step {
        let mut open = self.opened(frame, || {
            Ok(if course.is_delivered(context.end_lsn) {
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
            course.give(dialect, transaction, records, true, last)?;
        }
        if !last {
            self.open = Some(open);
            return Ok(());
        }
        open.fragments.finish()?;
        course.after(context.end_lsn)
    }

    /// A logical message outside any transaction, in one or more frames.
    fn message(
        &mut self,
        course: &mut Course,
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
        if !course.is_delivered(end_lsn) {
            let transaction = Arc::new(event::Transaction::of_message(end_lsn));
            course.give(dialect, transaction, records, false, true)?;
        }
        course.after(end_lsn)
    }

    /// A piece of a transaction that is sent at its PREPARE.
    fn prepared(
        &mut self,
        course: &mut Course,
        dialect: &Arc<Dialect>,
        frame: &Frame<'_>,
        context: &protocol::Prepared,
        message: &Bytes,
    ) -> Step {
        let mut open = self.opened(frame, || {
            let writer = course.prepared.begin(dialect, context)?;
            Ok(OpenKind::Prepared(Box::new(writer)))
        })?;
        let records = open.fragments.join(frame, message)?;
        if let (OpenKind::Prepared(writer), Some(records)) = (&mut open.kind, records) {
            writer.records(dialect, &records, false)?;
        }
        if !frame.flags.is_last() {
            self.open = Some(open);
            return Ok(());
        }
        open.fragments.finish()?;
        if let OpenKind::Prepared(writer) = open.kind {
            course
                .prepared
                .finish(*writer, dialect, context, &course.none_aborted)?;
        }
        course.end_prepare(context)
    }

    fn opened(
        &mut self,
        frame: &Frame<'_>,
        kind: impl FnOnce() -> Result<OpenKind, Failure>,
    ) -> Result<Open, Stop> {
        match (self.open.take(), frame.flags.is_first()) {
            (Some(open), false) => Ok(open),
            (None, true) => Ok(Open {
                context: frame.context.clone(),
                fragments: Fragments::default(),
                kind: kind()?,
            }),
            (None, false) => Err(inconsistent("a transaction goes on that never began")),
            (Some(_), true) => Err(inconsistent("a transaction begins twice")),
        }
    }
}

fn replay_streamed(
    course: &mut Course,
    dialect: &Arc<Dialect>,
    rows: InProgress,
    transaction: event::Transaction,
) -> Step {
    let transaction = Arc::new(transaction);
    let aborted = Arc::new(rows.aborted);
    let mut fragments = Fragments::default();
    let mut replay = rows.spool.replay()?;
    while let Some(message) = replay.next_frame()? {
        let frame = Frame::decode(&message).map_err(malformed_frame)?;
        if let Some(records) = fragments.join(&frame, &message)? {
            course.dispatch.piece(Piece {
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

fn store_streamed(
    course: &mut Course,
    dialect: &Arc<Dialect>,
    context: &protocol::Prepared,
) -> Step {
    let rows = course.streamed.take(context.xid).unwrap_or_default();
    let mut writer = course.prepared.begin(dialect, context)?;
    let mut fragments = Fragments::default();
    let mut replay = rows.spool.replay()?;
    while let Some(message) = replay.next_frame()? {
        let frame = Frame::decode(&message).map_err(malformed_frame)?;
        if let Some(records) = fragments.join(&frame, &message)? {
            writer.records(dialect, &records, true)?;
        }
    }
    fragments.finish()?;
    course
        .prepared
        .finish(writer, dialect, context, &rows.aborted)?;
    Ok(())
}

fn inconsistent(what: &'static str) -> Stop {
    Stop::Failed(malformed_frame(ProtocolError::Inconsistent { what }))
}

#[cfg(test)]
#[path = "native_tests.rs"]
mod tests;
