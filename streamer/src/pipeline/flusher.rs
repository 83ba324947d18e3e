//! The flusher: sink durable, then state saved, then ledger moved. In that
//! order, on a thread of its own, so that writing goes on meanwhile.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{Failure, Result};
use crate::failpoint;
use crate::ledger::{Candidate, Ledger};
use crate::progress::Progress;
use crate::sink::Flush;
use crate::state::{Identity, State, StateFile};
use crate::transaction::prepared::{Key, PreparedStore};

/// One flush to be done.
pub struct Request {
    /// Taken before the flush began.
    pub candidate: Candidate,
    pub flush: Flush,
    /// Prepared transactions whose end is at or before the candidate.
    pub finished: Vec<Key>,
}

/// Where the state is saved, when there is a place for it.
pub struct StateKeeper {
    pub file: StateFile,
    pub identity: Identity,
}

/// The handle to the flusher's thread.
pub struct Flusher {
    requests: Option<Sender<Request>>,
    done: Receiver<Result<()>>,
    busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub fn start(
        state: Option<StateKeeper>,
        ledger: Arc<Ledger>,
        prepared: Arc<PreparedStore>,
        progress: Arc<Progress>,
    ) -> Result<Self> {
        let (requests, inbox) = bounded::<Request>(1);
        let (outbox, done) = bounded(1);
        let mut worker = Worker {
            state,
            ledger,
            prepared,
            progress,
        };
        let thread = std::thread::Builder::new()
            .name("flusher".into())
            .spawn(move || {
                for request in inbox {
                    if outbox.send(worker.flush(request)).is_err() {
                        return;
                    }
                }
            })
            .map_err(|e| Failure::definite(format!("cannot start a thread: {e}")))?;
        Ok(Flusher {
            requests: Some(requests),
            done,
            busy: false,
            thread: Some(thread),
        })
    }

    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// To be called only when it is not busy.
    pub fn begin(&mut self, request: Request) -> Result<()> {
        let requests = self.requests.as_ref().ok_or_else(ended)?;
        requests.send(request).map_err(|_| ended())?;
        self.busy = true;
        Ok(())
    }

    /// Gives something once a flush is done; to be passed to
    /// [`Flusher::finished`].
    pub fn done(&self) -> &Receiver<Result<()>> {
        &self.done
    }

    /// Takes the result of the flush that was under way.
    pub fn finished(&mut self, result: Result<()>) -> Result<()> {
        self.busy = false;
        result
    }

    /// Waits for the flush under way, if there is one.
    pub fn wait(&mut self) -> Result<()> {
        if !self.busy {
            return Ok(());
        }
        let result = self.done.recv().unwrap_or_else(|_| Err(ended()));
        self.finished(result)
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed; the ledger did not move.
            let _ = thread.join();
        }
    }
}

fn ended() -> Failure {
    Failure::definite("a defect in walferry: the flusher's thread ended")
}

struct Worker {
    state: Option<StateKeeper>,
    ledger: Arc<Ledger>,
    prepared: Arc<PreparedStore>,
    progress: Arc<Progress>,
}

impl Worker {
    fn flush(&mut self, request: Request) -> Result<()> {
        failpoint::reached("before-flush");
        (request.flush.work)()?;
        failpoint::reached("after-flush-before-state");
        if let Some(keeper) = &mut self.state {
            keeper.file.save(&State {
                identity: keeper.identity.clone(),
                position: request.candidate.lsn(),
                sink: request.flush.resume,
            })?;
        }
        failpoint::reached("after-state-before-ack");
        self.ledger.durable_through(request.candidate);
        self.progress.durable(request.candidate.lsn());
        self.progress
            .flushes
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        for key in &request.finished {
            self.prepared.remove(key)?;
        }
        Ok(())
    }
}
