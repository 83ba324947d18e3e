//! One connection's pipeline: starts the threads, waits for the first of them
//! to end, and winds the others down in order.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::bounded;
use tokio::sync::{mpsc, oneshot, watch};
use walferry_protocol::Lsn;

use super::assembler::{Assembler, Course, End, Output};
use super::budget::Budget;
use super::deliver::Delivery;
use super::dispatch::Dispatch;
use super::feedback::{self, Ask, Rhythm};
use super::{receive, worker};
use crate::encode::Encode;
use crate::error::{Failure, Result};
use crate::filter::RowFilter;
use crate::heartbeat::Ear;
use crate::ledger::Ledger;
use crate::progress::Progress;
use crate::source::changes::{ChangeReader, ChangeWriter};
use crate::transaction::prepared::PreparedStore;
use crate::transaction::spill_dir::SpillDir;
use crate::transaction::streamed::Streamed;

/// How long the server may take to end the copy after we did.
const PARTING: Duration = Duration::from_secs(10);

/// What stays the same over all connections of a run.
#[derive(Clone)]
pub struct Parts {
    pub ledger: Arc<Ledger>,
    pub progress: Arc<Progress>,
    pub prepared: Arc<PreparedStore>,
    pub spill: Arc<SpillDir>,
    /// What goes through; `None`: everything.
    pub filter: Option<RowFilter>,
    pub encoder: Arc<dyn Encode>,
    pub ear: Ear,
    pub workers: usize,
    /// Bytes of changes in memory.
    pub memory_limit: usize,
    pub until: Option<Lsn>,
    pub system_identifier: u64,
}

/// How a connection ended.
#[derive(Debug)]
pub enum Outcome {
    /// Asked to stop: what was in flight is durable and acknowledged.
    Stopped,
    /// Everything up to `--until-lsn` is durable and acknowledged.
    ReachedUntil,
    Failed(Failure),
}

/// Runs one connection to its end. The delivery comes back whatever happened,
/// with whole transactions only in its sink.
pub async fn run(
    parts: &Parts,
    delivery: Delivery,
    output: Output,
    mut reader: ChangeReader,
    writer: ChangeWriter,
    rhythm: Rhythm,
    mut stop: watch::Receiver<bool>,
) -> Result<(Delivery, Outcome)> {
    let (asks, inbox) = mpsc::channel(4);
    let mut feedback = tokio::spawn(feedback::run(
        writer,
        Arc::clone(&parts.ledger),
        rhythm,
        inbox,
    ));
    // Small: a batch is up to 128 kB or one large frame.
    let (batches, input) = mpsc::channel(16);
    let mut threads = Threads::start(parts, delivery, output, input)?;
    let mut feedback_ended = None;
    let ended = tokio::select! {
        received = receive::run(&mut reader, batches, &asks, &parts.progress) => received.err(),
        _ = &mut threads.delivered => None,
        ended = &mut feedback => {
            let failure = match ended {
                Ok(Ok(_)) => None,
                Ok(Err(failure)) => Some(failure),
                Err(e) => Some(Failure::definite(format!("a defect in walferry: {e}"))),
            };
            feedback_ended = Some(());
            failure
        }
        _ = stop.wait_for(|stop| *stop) => None,
    };
    // `batches` is gone with `receive::run`: the assembler comes to its end,
    // then the workers, then delivery.
    let (delivery, delivered, end) = threads.join().await?;
    let server_is_gone = ended.is_some();
    let outcome = match (delivered, ended, end) {
        (Err(failure), _, _) | (Ok(()), Some(failure), _) => Outcome::Failed(failure),
        (Ok(()), None, End::ReachedUntil) => Outcome::ReachedUntil,
        (Ok(()), None, _) => Outcome::Stopped,
    };
    if feedback_ended.is_none() {
        part(asks, feedback, &mut reader, server_is_gone).await;
    }
    Ok((delivery, outcome))
}

/// The last status update, and the end of the copy. What is durable was
/// acknowledged along the way too; here nothing can fail that matters.
async fn part(
    asks: mpsc::Sender<Ask>,
    feedback: tokio::task::JoinHandle<Result<ChangeWriter>>,
    reader: &mut ChangeReader,
    server_is_gone: bool,
) {
    if server_is_gone {
        feedback.abort();
        return;
    }
    let parting = async {
        if asks.send(Ask::Finish).await.is_err() || !matches!(feedback.await, Ok(Ok(_))) {
            return;
        }
        while let Ok(Some(_)) = reader.next().await {}
    };
    if tokio::time::timeout(PARTING, parting).await.is_err() {
        tracing::debug!("the server did not end the copy in time; the connection is closed");
    }
}

struct Threads {
    /// Resolves when delivery is over.
    delivered: oneshot::Receiver<()>,
    assembler: JoinHandle<End>,
    workers: Vec<JoinHandle<()>>,
    delivery: JoinHandle<(Delivery, Result<()>)>,
}

impl Threads {
    fn start(
        parts: &Parts,
        delivery: Delivery,
        output: Output,
        input: mpsc::Receiver<Vec<super::assembler::Received>>,
    ) -> Result<Self> {
        let workers = parts.workers.max(1);
        let (jobs_in, jobs) = bounded(2 * workers);
        let (outputs_in, outputs) = bounded(1024);
        let (delivered_in, delivered) = oneshot::channel();
        // Half for what is between assembler and sink, a quarter for
        // transactions in progress; the rest is what jobs grow by before
        // their size is known, and the sockets'.
        let budget = Budget::new(parts.memory_limit / 2);
        let course = Course::new(
            Dispatch::new(jobs_in, outputs_in.clone(), budget),
            Streamed::new(parts.memory_limit / 4, Arc::clone(&parts.spill)),
            Arc::clone(&parts.prepared),
            delivery.delivered(),
            parts.until,
            parts.system_identifier,
        );
        let assembler = Assembler::new(course, output);
        let mut handles = Vec::with_capacity(workers);
        for number in 0..workers {
            let (jobs, outputs) = (jobs.clone(), outputs_in.clone());
            let (encoder, filter) = (Arc::clone(&parts.encoder), parts.filter.clone());
            let ear = parts.ear.clone();
            handles.push(spawn(format!("worker-{number}"), move || {
                worker::run(&jobs, &outputs, &encoder, filter, &ear);
            })?);
        }
        Ok(Threads {
            delivered,
            assembler: spawn("assembler".into(), move || assembler.run(input))?,
            workers: handles,
            delivery: spawn("delivery".into(), move || {
                let ended = delivery.run(&outputs);
                drop(outputs);
                // Nobody may be waiting any more.
                let _ = delivered_in.send(());
                ended
            })?,
        })
    }

    async fn join(self) -> Result<(Delivery, Result<()>, End)> {
        let joined = tokio::task::spawn_blocking(move || {
            let delivery = self.delivery.join();
            let end = self.assembler.join();
            for worker in self.workers {
                // Its panic was printed; delivery found the gap it left.
                let _ = worker.join();
            }
            (delivery, end)
        });
        let defect = || Failure::definite("a defect in walferry: a thread panicked");
        let (delivery, end) = joined.await.map_err(|_| defect())?;
        let (delivery, delivered) = delivery.map_err(|_| defect())?;
        Ok((delivery, delivered, end.map_err(|_| defect())?))
    }
}

fn spawn<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name)
        .spawn(work)
        .map_err(|e| Failure::definite(format!("cannot start a thread: {e}")))
}
