//! What the assembler gives out: jobs for the workers, and marks that go
//! straight to delivery, all numbered in one order.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Sender;
use walferry_protocol::Lsn;

use super::budget::{Budget, Charge};
use crate::error::Failure;
use crate::event::Transaction;
use crate::transaction::Dialect;
use crate::transaction::prepared::Key;

/// A job is sent once it holds this much; less when nothing more has arrived.
const JOB_BYTES: usize = 64 << 10;
/// What a piece costs beside its records.
const PIECE_BYTES: usize = 128;

/// Records of one transaction, ready to be decoded.
#[derive(Debug)]
pub struct Piece {
    pub dialect: Arc<Dialect>,
    pub transaction: Arc<Transaction>,
    pub records: Bytes,
    /// Whether each record carries its subtransaction's xid.
    pub streamed: bool,
    /// `false` for a logical message outside any transaction.
    pub transactional: bool,
    /// Subtransactions that were rolled back.
    pub aborted: Arc<HashSet<u32>>,
    /// Whether the transaction is whole with this piece.
    pub ends: bool,
}

/// Pieces that one worker turns into events.
#[derive(Debug)]
pub struct Job {
    pub number: u64,
    pub pieces: Vec<Piece>,
    pub charge: Charge,
}

/// A position without events of its own. Everything before it was sent before.
#[derive(Debug)]
pub struct Mark {
    /// An end LSN from inside a frame, or a keepalive's WAL end.
    pub position: Lsn,
    pub kind: MarkKind,
}

#[derive(Debug)]
pub enum MarkKind {
    /// Nothing was sent for the WAL up to here.
    Keepalive { reply_requested: bool },
    /// The transaction whose pieces came before is whole.
    Commit { commit_time_us: i64 },
    /// The rows of a PREPARE are kept.
    Prepared,
    /// Like `Commit` (or nothing, for a ROLLBACK PREPARED), and its stored
    /// rows can go once this position is durable.
    Finished { key: Key },
}

/// What a worker made of a job.
#[derive(Debug)]
pub struct Encoded {
    pub bytes: Vec<u8>,
    /// Where in `bytes` transactions end, in order.
    pub boundaries: Vec<Boundary>,
    pub events: u64,
    /// The transaction that goes on after the last boundary: its end LSN.
    pub open: Option<Lsn>,
    /// What stopped the worker before the end of the job.
    pub failure: Option<Failure>,
    pub charge: Charge,
}

#[derive(Clone, Copy, Debug)]
pub struct Boundary {
    pub at: usize,
    pub end_lsn: Lsn,
    /// Microseconds since the Unix epoch; 0 for a message outside any
    /// transaction.
    pub commit_time_us: i64,
    /// A heartbeat is in it.
    pub heartbeat: bool,
}

#[derive(Debug)]
pub enum Output {
    Events(Encoded),
    Mark(Mark),
    /// Everything before it is fine; nothing after it may be acknowledged.
    Failed(Failure),
}

/// The threads after the assembler have ended; why, they tell themselves.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

/// Numbers jobs and marks.
#[derive(Debug)]
pub struct Dispatch {
    next: u64,
    jobs: Sender<Job>,
    outputs: Sender<(u64, Output)>,
    budget: Arc<Budget>,
    pieces: Vec<Piece>,
    bytes: usize,
}

impl Dispatch {
    pub fn new(jobs: Sender<Job>, outputs: Sender<(u64, Output)>, budget: Arc<Budget>) -> Self {
        Dispatch {
            next: 0,
            jobs,
            outputs,
            budget,
            pieces: Vec::new(),
            bytes: 0,
        }
    }

    /// Waits when the budget is used up.
    pub fn piece(&mut self, piece: Piece) -> Result<(), Gone> {
        self.bytes += piece.records.len() + PIECE_BYTES;
        self.pieces.push(piece);
        if self.bytes >= JOB_BYTES {
            self.send_pieces()?;
        }
        Ok(())
    }

    pub fn mark(&mut self, mark: Mark) -> Result<(), Gone> {
        self.output(Output::Mark(mark))
    }

    pub fn fail(&mut self, failure: Failure) -> Result<(), Gone> {
        self.output(Output::Failed(failure))
    }

    /// Sends what is gathered: nothing more is there to join it.
    pub fn send_pieces(&mut self) -> Result<(), Gone> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let job = Job {
            number: self.number(),
            pieces: std::mem::take(&mut self.pieces),
            charge: self.budget.charge(std::mem::take(&mut self.bytes)),
        };
        self.jobs.send(job).map_err(|_| Gone)
    }

    fn output(&mut self, output: Output) -> Result<(), Gone> {
        self.send_pieces()?;
        let number = self.number();
        self.outputs.send((number, output)).map_err(|_| Gone)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}
