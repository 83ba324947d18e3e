//! An assembler without threads around it.

use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use tokio::sync::mpsc;
use walferry_protocol::Lsn;

use super::{Assembler, Course, End, Output, Received};
use crate::ledger::Ledger;
use crate::pipeline::budget::Budget;
use crate::pipeline::dispatch::{self, Dispatch, Job};
use crate::state::Identity;
use crate::transaction::prepared::PreparedStore;
use crate::transaction::spill_dir::SpillDir;
use crate::transaction::streamed::Streamed;

/// The server that the state belongs to.
pub const SYSTEM: u64 = 77;

pub fn keepalive(wal_end: u64) -> Received {
    Received::Keepalive {
        wal_end: Lsn(wal_end),
        reply_requested: false,
    }
}

/// What an assembler made of `received`: each piece's end LSN (with `.` when
/// the transaction is whole), each mark's position, and the failure.
pub fn assemble(
    output: Output,
    delivered: u64,
    until: Option<u64>,
    received: Vec<Received>,
) -> (Vec<String>, End) {
    let folder = tempfile::tempdir().unwrap();
    let (jobs_in, jobs) = unbounded();
    let (outputs_in, outputs) = unbounded();
    let spill = Arc::new(SpillDir::open(Some(folder.path()), None).unwrap());
    let identity = Identity {
        system_identifier: SYSTEM,
        timeline: 1,
        database: "d".into(),
        slot: "s".into(),
        plugin: "walferry".into(),
    };
    let ledger = Arc::new(Ledger::new(Lsn(delivered)));
    let prepared = PreparedStore::open(None, folder.path(), &identity, Lsn(delivered), ledger);
    let course = Course::new(
        Dispatch::new(jobs_in, outputs_in, Budget::new(1 << 20)),
        Streamed::new(1 << 20, spill),
        Arc::new(prepared.unwrap()),
        Lsn(delivered),
        until.map(Lsn),
        SYSTEM,
    );
    let assembler = Assembler::new(course, output);
    let (batches, input) = mpsc::channel(received.len() + 1);
    for one in received {
        batches.try_send(vec![one]).unwrap();
    }
    drop(batches);
    let end = assembler.run(input);
    (in_order(&jobs, &outputs), end)
}

fn in_order(jobs: &Receiver<Job>, outputs: &Receiver<(u64, dispatch::Output)>) -> Vec<String> {
    let mut numbered: Vec<(u64, Vec<String>)> = Vec::new();
    for job in jobs {
        let pieces = job.pieces.iter().map(|piece| {
            let end = if piece.ends { "." } else { "" };
            let aborted = if piece.aborted.is_empty() { "" } else { "-" };
            format!("{}{end}{aborted}", piece.transaction.end_lsn.0)
        });
        numbered.push((job.number, pieces.collect()));
    }
    for (number, output) in outputs {
        let text = match output {
            dispatch::Output::Mark(mark) => format!("={}", mark.position.0),
            dispatch::Output::Failed(failure) => format!("{failure}"),
            dispatch::Output::Events(_) => unreachable!("only workers make events"),
        };
        numbered.push((number, vec![text]));
    }
    numbered.sort();
    numbered.into_iter().flat_map(|(_, texts)| texts).collect()
}
