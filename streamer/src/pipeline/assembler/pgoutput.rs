//! Transactions in pgoutput's messages.
//!
//! Where an ordinary transaction ends is known only at its Commit message, so
//! all of it is kept until then, like a streamed one: in memory, and past the
//! budget in a file.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use walferry_protocol::{self as protocol, Lsn, Origin, Prepared};

use super::{Course, RecordIndex, Step, Stop};
use crate::datum::Malformed;
use crate::decode::native::transaction;
use crate::decode::pgoutput::definitions::{Definitions, UNWANTED};
use crate::decode::pgoutput::message::{Message, PrepareMessage, RelationMessage};
use crate::decode::pgoutput::{Pgoutput, malformed_message, records};
use crate::error::Result;
use crate::event;
use crate::pipeline::dispatch::Piece;
use crate::source::catalog::Catalog;
use crate::source::table_filter::{PrefixFilter, TableFilter};
use crate::transaction::Dialect;
use crate::transaction::prepared_file::Writer;
use crate::transaction::streamed::InProgress;

/// Changes are gathered to about this size before they are kept or given out.
const GATHERED: usize = 64 << 10;

/// What reading pgoutput's messages takes beside them.
pub struct Setting {
    /// `server_version_num`
    pub server_version: u32,
    pub catalog: Catalog,
    pub tables: TableFilter,
    pub prefixes: PrefixFilter,
}

/// Where in the messages of one connection we are.
pub struct Boundaries {
    dialect: Arc<Dialect>,
    definitions: Definitions,
    prefixes: PrefixFilter,
    /// Definition numbers by `pg_class.oid`.
    relations: HashMap<u32, u32>,
    index: RecordIndex,
    open: Option<Open>,
    /// Between Stream Start and Stream Stop, the transaction's xid.
    block: Option<u32>,
    streamed: HashMap<u32, StreamedState>,
    gathered: BytesMut,
}

/// A transaction between its Begin and its end.
struct Open {
    xid: u32,
    origin: Option<Origin>,
    kind: OpenKind,
}

enum OpenKind {
    Ordinary,
    Prepared(Prepared, Option<Box<Writer>>),
}

/// What is known of a transaction in progress beside its changes.
#[derive(Default)]
struct StreamedState {
    /// Definitions that came inside it; they serve no other transaction until
    /// it commits.
    relations: HashMap<u32, u32>,
    index: RecordIndex,
    origin: Option<Origin>,
}

impl Boundaries {
    pub fn new(setting: Setting) -> Self {
        let pgoutput = Pgoutput::new(setting.server_version);
        Boundaries {
            dialect: Arc::new(Dialect::Pgoutput(pgoutput)),
            definitions: Definitions::new(setting.catalog, setting.tables),
            prefixes: setting.prefixes,
            relations: HashMap::new(),
            index: RecordIndex::default(),
            open: None,
            block: None,
            streamed: HashMap::new(),
            gathered: BytesMut::new(),
        }
    }

    pub(super) fn is_inside_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// `start`: the LSN of the change that the message is about.
    pub(super) fn message(&mut self, course: &mut Course, start: Lsn, bytes: &Bytes) -> Step {
        let message = Message::decode(bytes, self.block.is_some()).map_err(malformed_message)?;
        match message {
            Message::Row { relation, at } => {
                let index = self.next_index(start, 1)?;
                let number = self.number_of(relation)?;
                if number == UNWANTED {
                    return Ok(());
                }
                records::append(&mut self.gathered, start, index, bytes, at, &[number]);
                Ok(self.keep_if_much(course)?)
            }
            Message::Truncate { relations, at } => {
                let index = self.next_index(start, relations.len() as u32)?;
                let numbers = relations
                    .iter()
                    .map(|oid| self.number_of(*oid))
                    .collect::<Result<Vec<_>, _>>()?;
                if numbers.iter().all(|number| *number == UNWANTED) {
                    return Ok(());
                }
                records::append(&mut self.gathered, start, index, bytes, at, &numbers);
                Ok(self.keep_if_much(course)?)
            }
            Message::Logical {
                transactional: true,
                lsn,
                prefix,
            } => {
                let index = self.next_index(lsn, 1)?;
                if !self.prefixes.passes(prefix) {
                    return Ok(());
                }
                records::append(&mut self.gathered, lsn, index, bytes, 0, &[]);
                Ok(self.keep_if_much(course)?)
            }
            Message::Logical { lsn, prefix, .. } => {
                self.outside("a message outside transactions comes inside one")?;
                self.message_outside(course, lsn, prefix, bytes)
            }
            Message::Relation(relation) => Ok(self.relation(&relation, bytes)?),
            Message::Type { oid, schema, name } => {
                self.definitions.name_type(oid, schema, name);
                Ok(())
            }
            Message::Origin { lsn, name } => {
                let origin = Some(Origin {
                    name: name.to_owned(),
                    lsn,
                });
                match (&mut self.open, self.block) {
                    (Some(open), None) => open.origin = origin,
                    (None, Some(xid)) => self.streamed.entry(xid).or_default().origin = origin,
                    _ => return Err(inconsistent("an origin comes outside of transactions")),
                }
                Ok(())
            }
            Message::Begin {
                commit_lsn, xid, ..
            } => {
                self.outside("a transaction begins inside another")?;
                // Its commit record ends past where it begins.
                course.before(Lsn(commit_lsn.0.saturating_add(1)))?;
                self.open = Some(Open {
                    xid,
                    origin: None,
                    kind: OpenKind::Ordinary,
                });
                Ok(())
            }
            Message::Commit {
                commit_lsn,
                end_lsn,
                time,
            } => match self.open.take() {
                Some(Open {
                    xid,
                    origin,
                    kind: OpenKind::Ordinary,
                }) => self.commit(
                    course,
                    &protocol::Transaction {
                        xid,
                        commit_lsn,
                        end_lsn,
                        commit_time: time,
                        origin,
                    },
                ),
                _ => Err(inconsistent("a transaction commits that never began")),
            },
            Message::BeginPrepare(prepare) => {
                self.outside("a transaction begins inside another")?;
                course.before(prepare.end_lsn)?;
                self.open = Some(Open {
                    xid: prepare.xid,
                    origin: None,
                    kind: OpenKind::Prepared(prepared(&prepare, None), None),
                });
                Ok(())
            }
            Message::Prepare(prepare) => self.prepare(course, &prepare),
            Message::StreamStart { xid } => {
                self.outside("a streamed block begins inside a transaction")?;
                self.block = Some(xid);
                self.streamed.entry(xid).or_default();
                Ok(())
            }
            Message::StreamStop => {
                if self.block.is_none() {
                    return Err(inconsistent("a streamed block ends that never began"));
                }
                self.keep(course)?;
                self.block = None;
                Ok(())
            }
            Message::StreamAbort { xid, subxid } => {
                self.outside("a streamed transaction ends inside another")?;
                course.streamed.abort(xid, subxid);
                if xid == subxid {
                    self.streamed.remove(&xid);
                }
                Ok(())
            }
            Message::StreamCommit {
                xid,
                commit_lsn,
                end_lsn,
                time,
            } => {
                self.outside("a streamed transaction ends inside another")?;
                course.before(end_lsn)?;
                let state = self.streamed_state(xid)?;
                for (oid, number) in state.relations {
                    // One that came after it, outside, is the newer.
                    let known = self.relations.entry(oid).or_insert(number);
                    *known = number.max(*known);
                }
                let rows = course.streamed.take(xid).unwrap_or_default();
                let transaction = transaction(&protocol::Transaction {
                    xid,
                    commit_lsn,
                    end_lsn,
                    commit_time: time,
                    origin: state.origin,
                });
                let commit_time_us = transaction.commit_time_us;
                if !course.is_delivered(end_lsn) {
                    self.replay(course, rows, &Arc::new(transaction), true)?;
                }
                course.end_commit(end_lsn, commit_time_us)
            }
            Message::StreamPrepare(prepare) => {
                self.outside("a streamed transaction ends inside another")?;
                course.before(prepare.end_lsn)?;
                let state = self.streamed_state(prepare.xid)?;
                let rows = course.streamed.take(prepare.xid).unwrap_or_default();
                let prepared = prepared(&prepare, state.origin);
                let mut writer = course.prepared.begin(&self.dialect, &prepared)?;
                let mut replay = rows.spool.replay()?;
                while let Some(records) = replay.next_frame()? {
                    writer.records(&self.dialect, &records, true)?;
                }
                course
                    .prepared
                    .finish(writer, &self.dialect, &prepared, &rows.aborted)?;
                course.end_prepare(&prepared)
            }
            Message::CommitPrepared {
                commit_lsn,
                end_lsn,
                time,
                xid,
                gid,
            } => {
                self.outside("a prepared transaction ends inside another")?;
                course.before(end_lsn)?;
                let transaction = transaction(&protocol::Transaction {
                    xid,
                    commit_lsn,
                    end_lsn,
                    commit_time: time,
                    origin: None,
                });
                course.commit_prepared(gid, transaction)
            }
            Message::RollbackPrepared { end_lsn, xid, gid } => {
                self.outside("a prepared transaction ends inside another")?;
                course.before(end_lsn)?;
                course.rollback_prepared(xid, gid, end_lsn)
            }
        }
    }

    fn outside(&self, otherwise: &'static str) -> Step {
        if self.open.is_some() || self.block.is_some() {
            return Err(inconsistent(otherwise));
        }
        Ok(())
    }

    fn streamed_state(&mut self, xid: u32) -> Result<StreamedState, Stop> {
        self.streamed
            .remove(&xid)
            .ok_or_else(|| inconsistent("a streamed transaction ends that never began"))
    }

    /// The index of the next change of the WAL record at `lsn`.
    fn next_index(&mut self, lsn: Lsn, count: u32) -> Result<u32, Stop> {
        let index = match (&self.open, self.block) {
            (Some(_), None) => &mut self.index,
            (None, Some(xid)) => &mut self.streamed.entry(xid).or_default().index,
            _ => return Err(inconsistent("a change comes outside of transactions")),
        };
        if lsn == Lsn::INVALID {
            return Err(inconsistent("a change comes without its position"));
        }
        Ok(index.next(lsn, count))
    }

    /// The number of a relation's definition, in the transaction at hand.
    fn number_of(&self, oid: u32) -> Result<u32, Stop> {
        let relations = match self.block {
            Some(xid) => self.streamed.get(&xid).map(|state| &state.relations),
            None => Some(&self.relations),
        };
        relations
            .and_then(|relations| relations.get(&oid))
            .copied()
            .ok_or_else(|| inconsistent("a row came before its relation's definition"))
    }

    fn relation(&mut self, relation: &RelationMessage<'_>, bytes: &[u8]) -> Result<()> {
        // The tag, and in a streamed block the xid.
        let content = &bytes[if self.block.is_some() { 5 } else { 1 }..];
        let changed = self.block.is_none();
        let table = self.dialect.relations();
        let number = self.definitions.number(relation, content, changed, table)?;
        let relations = match self.block {
            Some(xid) => &mut self.streamed.entry(xid).or_default().relations,
            None => &mut self.relations,
        };
        relations.insert(relation.oid, number);
        Ok(())
    }

    /// A logical message outside any transaction.
    fn message_outside(
        &mut self,
        course: &mut Course,
        lsn: Lsn,
        prefix: &str,
        bytes: &Bytes,
    ) -> Step {
        course.before(lsn)?;
        if self.prefixes.passes(prefix) && !course.is_delivered(lsn) {
            records::append(&mut self.gathered, lsn, 0, bytes, 0, &[]);
            let transaction = Arc::new(event::Transaction::of_message(lsn));
            let records = self.gathered.split().freeze();
            course.give(&self.dialect, transaction, records, false, true)?;
        }
        course.after(lsn)
    }

    fn commit(&mut self, course: &mut Course, context: &protocol::Transaction) -> Step {
        course.before(context.end_lsn)?;
        let rows = course.streamed.take(context.xid);
        let rest = self.gathered.split().freeze();
        if !course.is_delivered(context.end_lsn) {
            let transaction = Arc::new(transaction(context));
            if let Some(rows) = rows {
                self.replay(course, rows, &transaction, false)?;
            }
            course.give(&self.dialect, transaction, rest, true, true)?;
        }
        course.after(context.end_lsn)
    }

    fn prepare(&mut self, course: &mut Course, prepare: &PrepareMessage<'_>) -> Step {
        self.keep(course)?;
        let Some(Open {
            origin,
            kind: OpenKind::Prepared(begun, writer),
            ..
        }) = self.open.take()
        else {
            return Err(inconsistent("a transaction is prepared that never began"));
        };
        let prepared = prepared(prepare, origin);
        if begun.gid != prepared.gid || begun.xid != prepared.xid {
            return Err(inconsistent("a transaction is prepared as another"));
        }
        let writer = match writer {
            Some(writer) => *writer,
            None => course.prepared.begin(&self.dialect, &prepared)?,
        };
        course
            .prepared
            .finish(writer, &self.dialect, &prepared, &course.none_aborted)?;
        course.end_prepare(&prepared)
    }

    fn keep_if_much(&mut self, course: &mut Course) -> Result<()> {
        if self.gathered.len() < GATHERED {
            return Ok(());
        }
        self.keep(course)
    }

    /// Puts what is gathered where the transaction at hand is kept.
    fn keep(&mut self, course: &mut Course) -> Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        match (&mut self.open, self.block) {
            (
                Some(Open {
                    origin,
                    kind: OpenKind::Prepared(prepared, writer),
                    ..
                }),
                _,
            ) => {
                let writer = match writer {
                    Some(writer) => writer,
                    None => {
                        prepared.origin = origin.clone();
                        let begun = course.prepared.begin(&self.dialect, prepared)?;
                        writer.insert(Box::new(begun))
                    }
                };
                writer.records(&self.dialect, &self.gathered, false)?;
            }
            (Some(Open { xid, .. }), _) => course.streamed.add(*xid, &self.gathered)?,
            (None, Some(xid)) => {
                course.streamed.add(xid, &self.gathered)?;
            }
            (None, None) => {}
        }
        self.gathered.clear();
        Ok(())
    }

    /// Gives out what was kept of a transaction.
    fn replay(
        &self,
        course: &mut Course,
        rows: InProgress,
        transaction: &Arc<event::Transaction>,
        streamed: bool,
    ) -> Step {
        let aborted = Arc::new(rows.aborted);
        let mut replay = rows.spool.replay()?;
        while let Some(records) = replay.next_frame()? {
            course.dispatch.piece(Piece {
                dialect: Arc::clone(&self.dialect),
                transaction: Arc::clone(transaction),
                records,
                streamed,
                transactional: true,
                aborted: Arc::clone(&aborted),
                ends: false,
            })?;
        }
        Ok(())
    }
}

fn prepared(prepare: &PrepareMessage<'_>, origin: Option<Origin>) -> Prepared {
    Prepared {
        xid: prepare.xid,
        prepare_lsn: prepare.prepare_lsn,
        end_lsn: prepare.end_lsn,
        prepare_time: prepare.time,
        gid: prepare.gid.to_owned(),
        origin,
    }
}

#[cold]
fn inconsistent(what: &'static str) -> Stop {
    Stop::Failed(malformed_message(Malformed(what)))
}

#[cfg(test)]
#[path = "pgoutput_tests.rs"]
mod tests;
