//! Transactions in wal2json's messages: a beginning that tells already where
//! the commit record is, rows, an end. Nothing comes before its transaction has
//! committed.

use std::sync::Arc;

use bytes::Bytes;
use walferry_protocol::{Lsn, Origin};

use super::{Course, RecordIndex, Step, Stop};
use crate::datum::Malformed;
use crate::decode::wal2json::message::Kind;
use crate::decode::wal2json::record::{Action, Record};
use crate::decode::wal2json::{Chunk, FormatVersion, Head, Wal2json, time};
use crate::event;
use crate::transaction::Dialect;

/// Rows are given out once they are this many bytes.
const PIECE_BYTES: usize = 48 << 10;

/// Where in the messages of one connection we are.
pub struct Boundaries {
    dialect: Arc<Dialect>,
    open: Option<Open>,
    /// Records of the open transaction that were not given out yet.
    records: Vec<u8>,
}

/// A transaction between its beginning and its end.
struct Open {
    transaction: Arc<event::Transaction>,
    /// Delivered before.
    skipped: bool,
    index: RecordIndex,
}

/// A transaction's beginning, in either format.
struct Begin {
    xid: u32,
    /// Format-version 1 does not tell it.
    commit_lsn: Option<Lsn>,
    end_lsn: Lsn,
    commit_time_us: i64,
    origin: u32,
}

/// What a message is, in either format.
enum What {
    Begin(Begin),
    Change {
        action: Action,
        lsn: Lsn,
        rest: usize,
    },
    Outside {
        end_lsn: Lsn,
        rest: usize,
    },
    /// With the commit's end LSN where it is told.
    Commit(Option<Lsn>),
}

impl Boundaries {
    pub(super) fn new(wal2json: Wal2json) -> Self {
        Boundaries {
            dialect: Arc::new(Dialect::Wal2json(wal2json)),
            open: None,
            records: Vec::new(),
        }
    }

    pub(super) fn is_inside_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// `start` is the header's LSN: that of the change, and the end of the
    /// commit record of a commit.
    pub(super) fn message(&mut self, course: &mut Course, start: Lsn, message: &Bytes) -> Step {
        let dialect = Arc::clone(&self.dialect);
        let Dialect::Wal2json(wal2json) = &*dialect else {
            return Ok(());
        };
        let message = wal2json.encoding.to_utf8(message);
        let what = self.tell(wal2json, start, &message);
        let what = what.map_err(|error| wal2json.malformed(error, &message))?;
        let out_of_place = |what| Stop::Failed(wal2json.malformed(Malformed(what), &message));
        match (what, &mut self.open) {
            (What::Begin(begin), None) => self.begin(course, wal2json, begin),
            (What::Begin(_), Some(_)) => {
                Err(out_of_place("a transaction begins inside another one"))
            }
            (What::Change { action, lsn, rest }, Some(open)) => {
                let index = open.index.next(lsn, 1);
                if open.skipped {
                    return Ok(());
                }
                let record = Record {
                    action,
                    lsn,
                    index,
                    message: &message,
                    rest,
                };
                record.push(&mut self.records);
                if self.records.len() < PIECE_BYTES {
                    return Ok(());
                }
                let transaction = Arc::clone(&open.transaction);
                self.give(course, transaction, false)
            }
            (What::Outside { end_lsn, rest }, None) => {
                course.before(end_lsn)?;
                if !course.is_delivered(end_lsn) {
                    let record = Record {
                        action: Action::Message,
                        lsn: end_lsn,
                        index: 0,
                        message: &message,
                        rest,
                    };
                    let mut records = Vec::new();
                    record.push(&mut records);
                    let transaction = Arc::new(event::Transaction::of_message(end_lsn));
                    course.give(&self.dialect, transaction, records.into(), false, true)?;
                }
                course.after(end_lsn)
            }
            (What::Outside { .. }, Some(_)) => {
                Err(out_of_place("a message of no transaction comes inside one"))
            }
            (What::Commit(told), Some(open)) => {
                let end_lsn = open.transaction.end_lsn;
                let header = Some(start).filter(|start| *start != Lsn::INVALID);
                if told.or(header).is_some_and(|told| told != end_lsn)
                    || header.is_some_and(|header| header != end_lsn)
                {
                    return Err(out_of_place("another transaction ends than began"));
                }
                let (transaction, skipped) = (Arc::clone(&open.transaction), open.skipped);
                self.open = None;
                if !skipped {
                    self.give(course, transaction, true)?;
                }
                course.after(end_lsn)
            }
            (What::Change { .. } | What::Commit(_), None) => {
                Err(out_of_place("a transaction goes on that never began"))
            }
        }
    }

    fn tell(&self, wal2json: &Wal2json, start: Lsn, message: &[u8]) -> Result<What, Malformed> {
        const INCOMPLETE: Malformed =
            Malformed("it lacks xid, lsn, nextlsn or timestamp, which were asked for");
        if wal2json.format == FormatVersion::One {
            return Ok(match Chunk::read(message, self.open.is_some())? {
                Chunk::Begin(begin) => What::Begin(Begin {
                    xid: begin.xid,
                    commit_lsn: None,
                    end_lsn: begin.next_lsn.ok_or(INCOMPLETE)?,
                    commit_time_us: time::read(begin.timestamp.ok_or(INCOMPLETE)?.bytes)?,
                    origin: begin.origin,
                }),
                Chunk::Change { action, rest } => What::Change {
                    action,
                    lsn: start,
                    rest,
                },
                Chunk::Message { rest } => What::Outside {
                    end_lsn: start,
                    rest,
                },
                Chunk::Commit => What::Commit(None),
            });
        }
        let head = Head::read(message)?;
        Ok(match head.kind {
            Kind::Begin => What::Begin(Begin {
                xid: head.xid.ok_or(INCOMPLETE)?,
                commit_lsn: Some(head.lsn.ok_or(INCOMPLETE)?),
                end_lsn: head.next_lsn.ok_or(INCOMPLETE)?,
                commit_time_us: time::read(head.timestamp.ok_or(INCOMPLETE)?.bytes)?,
                origin: head.origin,
            }),
            Kind::Change(Action::Message) if !head.transactional => What::Outside {
                end_lsn: head.lsn.ok_or(INCOMPLETE)?,
                rest: head.rest,
            },
            Kind::Change(action) => What::Change {
                action,
                lsn: head.lsn.ok_or(INCOMPLETE)?,
                rest: head.rest,
            },
            Kind::Commit => What::Commit(Some(head.next_lsn.ok_or(INCOMPLETE)?)),
        })
    }

    fn begin(&mut self, course: &Course, wal2json: &Wal2json, begin: Begin) -> Step {
        course.before(begin.end_lsn)?;
        let origin = match begin.origin {
            0 => None,
            // Where it stood there is not told.
            number => Some(Origin {
                name: wal2json.origin_name(number)?,
                lsn: Lsn::INVALID,
            }),
        };
        self.open = Some(Open {
            skipped: course.is_delivered(begin.end_lsn),
            transaction: Arc::new(event::Transaction {
                xid: begin.xid,
                commit_lsn: begin.commit_lsn.unwrap_or(Lsn::INVALID),
                end_lsn: begin.end_lsn,
                commit_time_us: begin.commit_time_us,
                origin,
            }),
            index: RecordIndex::default(),
        });
        Ok(())
    }

    /// Gives out the records at hand.
    fn give(
        &mut self,
        course: &mut Course,
        transaction: Arc<event::Transaction>,
        ends: bool,
    ) -> Step {
        let records = Bytes::from(std::mem::take(&mut self.records));
        Ok(course.give(&self.dialect, transaction, records, true, ends)?)
    }
}
