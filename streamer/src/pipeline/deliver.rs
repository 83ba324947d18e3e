//! Delivery: puts the workers' output in order, writes it, accepts positions
//! and has them flushed. One thread, and the only one that touches the sink.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, never, select};
use walferry_protocol::Lsn;

use super::dispatch::{Encoded, Mark, MarkKind, Output};
use super::flusher::{Flusher, Request};
use super::order::InOrder;
use crate::error::{Failure, Result};
use crate::failpoint;
use crate::ledger::Ledger;
use crate::progress::Progress;
use crate::sink::Sink;
use crate::transaction::prepared::Key;

/// A flush begins early once this much is written.
const FLUSH_BYTES: u64 = 64 << 20;
/// Positions without events are made durable this often: each costs a save of
/// the state, and only tells the server that it may forget a little more.
const QUIET_INTERVAL: Duration = Duration::from_secs(1);

/// The sink and what is known of it. Outlives connections.
pub struct Delivery {
    sink: Box<dyn Sink>,
    ledger: Arc<Ledger>,
    flusher: Flusher,
    progress: Arc<Progress>,
    /// The longest time that written events wait for a flush.
    flush_interval: Duration,
    unflushed: Unflushed,
    last_flush: Instant,
    /// The transaction that is written in part.
    open: Option<Partial>,
    /// What a pipe has of a transaction already that comes again after a
    /// reconnect.
    skip: Option<Partial>,
}

/// What was accepted since the last flush began.
#[derive(Default)]
struct Unflushed {
    bytes: u64,
    commits: bool,
    position: bool,
    reply_requested: bool,
    finished: Vec<Key>,
}

#[derive(Clone, Copy, Debug)]
struct Partial {
    end_lsn: Lsn,
    /// Whole events of it in the sink.
    lines: usize,
}

impl Delivery {
    pub fn new(
        sink: Box<dyn Sink>,
        ledger: Arc<Ledger>,
        flusher: Flusher,
        progress: Arc<Progress>,
        flush_interval: Duration,
    ) -> Self {
        Delivery {
            sink,
            ledger,
            flusher,
            progress,
            flush_interval,
            unflushed: Unflushed::default(),
            last_flush: Instant::now(),
            open: None,
            skip: None,
        }
    }

    /// Everything that ends at or before this is in the sink.
    pub fn delivered(&self) -> Lsn {
        self.ledger.accepted_lsn()
    }

    /// Runs until `outputs` ends, then brings what is whole to safety and
    /// drops the rest. The failure, if any, is the first in stream order.
    pub fn run(mut self, outputs: &Receiver<(u64, Output)>) -> (Self, Result<()>) {
        let mut broken_sink = false;
        let delivered = self.deliver(outputs, &mut broken_sink);
        let settled = self.settle(broken_sink);
        (self, delivered.and(settled))
    }

    fn deliver(&mut self, outputs: &Receiver<(u64, Output)>, broken_sink: &mut bool) -> Result<()> {
        let mut order = InOrder::new();
        loop {
            let timer = match self.flush_due(outputs.is_empty()) {
                Some(due) if due.is_zero() => {
                    *broken_sink = true;
                    self.begin_flush()?;
                    *broken_sink = false;
                    continue;
                }
                Some(due) => after(due),
                None => never(),
            };
            select! {
                recv(outputs) -> output => {
                    let Ok((number, output)) = output else {
                        return if order.has_gap() {
                            Err(Failure::definite("a defect in walferry: a worker's thread ended"))
                        } else {
                            Ok(())
                        };
                    };
                    order.insert(number, output);
                    while let Some(output) = order.next_ready() {
                        self.take(output, broken_sink)?;
                    }
                }
                recv(self.flusher.done()) -> done => {
                    *broken_sink = true;
                    let done = done.unwrap_or_else(|_| {
                        Err(Failure::definite("a defect in walferry: the flusher's thread ended"))
                    });
                    self.flusher.finished(done)?;
                    *broken_sink = false;
                }
                recv(timer) -> _ => {}
            }
        }
    }

    fn take(&mut self, output: Output, broken_sink: &mut bool) -> Result<()> {
        match output {
            Output::Failed(failure) => Err(failure),
            Output::Mark(mark) => {
                *broken_sink = true;
                self.mark(mark)?;
                *broken_sink = false;
                Ok(())
            }
            Output::Events(mut encoded) => {
                *broken_sink = true;
                self.events(&encoded)?;
                *broken_sink = false;
                encoded.failure.take().map_or(Ok(()), Err)
            }
        }
    }

    fn events(&mut self, encoded: &Encoded) -> Result<()> {
        failpoint::reached("before-write");
        let mut written = 0;
        let Some(last) = encoded.boundaries.last() else {
            return self.write(&encoded.bytes, encoded.events, encoded.open);
        };
        // One write for all transactions that are whole.
        let first = encoded.boundaries[0];
        if self.skip.is_some() {
            self.write(&encoded.bytes[..first.at], 0, Some(first.end_lsn))?;
            written = first.at;
        }
        self.write(&encoded.bytes[written..last.at], encoded.events, None)?;
        self.whole(last.end_lsn)?;
        failpoint::reached("after-write");
        for boundary in &encoded.boundaries {
            self.progress.committed(boundary.commit_time_us);
            if boundary.heartbeat {
                self.progress
                    .heartbeat(boundary.end_lsn, boundary.commit_time_us);
            }
        }
        self.accept(last.end_lsn);
        self.unflushed.commits = true;
        self.write(&encoded.bytes[last.at..], 0, encoded.open)
    }

    /// Writes events of the transaction that ends at `open`, or of whole ones.
    fn write(&mut self, bytes: &[u8], events: u64, open: Option<Lsn>) -> Result<()> {
        let bytes = self.without_skipped(bytes, open)?;
        self.progress.events.fetch_add(events, Relaxed);
        if bytes.is_empty() {
            return Ok(());
        }
        self.sink.write(bytes)?;
        self.unflushed.bytes += bytes.len() as u64;
        self.progress.bytes.fetch_add(bytes.len() as u64, Relaxed);
        if let Some(end_lsn) = open {
            let partial = self.open.get_or_insert(Partial { end_lsn, lines: 0 });
            partial.lines += memchr::memchr_iter(b'\n', bytes).count();
        }
        Ok(())
    }

    /// Leaves out what a pipe got before the connection broke. The same
    /// transaction comes again with the same events in the same order.
    fn without_skipped<'b>(&mut self, bytes: &'b [u8], open: Option<Lsn>) -> Result<&'b [u8]> {
        let Some(skip) = &mut self.skip else {
            return Ok(bytes);
        };
        if bytes.is_empty() {
            return Ok(bytes);
        }
        if open.is_some_and(|end_lsn| end_lsn != skip.end_lsn) {
            return Err(another_transaction(skip));
        }
        let mut seen = 0;
        let mut cut = bytes.len();
        for at in memchr::memchr_iter(b'\n', bytes) {
            seen += 1;
            if seen == skip.lines {
                cut = at + 1;
                break;
            }
        }
        let end_lsn = skip.end_lsn;
        skip.lines -= seen;
        if skip.lines == 0 {
            self.skip = None;
        }
        let partial = self.open.get_or_insert(Partial { end_lsn, lines: 0 });
        partial.lines += seen;
        Ok(&bytes[cut..])
    }

    fn mark(&mut self, mark: Mark) -> Result<()> {
        match mark.kind {
            MarkKind::Keepalive { reply_requested } => {
                self.unflushed.reply_requested |= reply_requested;
            }
            MarkKind::Commit { commit_time_us } => {
                self.progress.committed(commit_time_us);
                self.unflushed.commits = true;
            }
            MarkKind::Prepared => self.unflushed.commits = true,
            MarkKind::Finished { key } => {
                self.progress.committed(0);
                self.unflushed.commits = true;
                self.unflushed.finished.push(key);
            }
        }
        if mark.position > self.delivered() || !self.unflushed.finished.is_empty() {
            self.whole(mark.position.max(self.delivered()))?;
            self.accept(mark.position);
        }
        Ok(())
    }

    /// Everything written is whole transactions, up to `position`.
    fn whole(&mut self, position: Lsn) -> Result<()> {
        if let Some(skip) = &self.skip
            && skip.end_lsn <= position
        {
            return Err(another_transaction(skip));
        }
        if self.skip.is_none() {
            self.open = None;
        }
        self.sink.boundary(position)
    }

    fn accept(&mut self, position: Lsn) {
        self.ledger.accept(position);
        self.unflushed.position = true;
    }

    /// How long until a flush should begin; zero is now.
    fn flush_due(&self, idle: bool) -> Option<Duration> {
        let unflushed = &self.unflushed;
        if self.flusher.is_busy() || !unflushed.position {
            return None;
        }
        if unflushed.bytes >= FLUSH_BYTES && unflushed.commits {
            return Some(Duration::ZERO);
        }
        let wait = if unflushed.commits {
            self.flush_interval
        } else if unflushed.reply_requested {
            self.flush_interval.min(QUIET_INTERVAL)
        } else {
            QUIET_INTERVAL
        };
        let due = wait.saturating_sub(self.last_flush.elapsed());
        // With more to write at hand, write first unless it is high time.
        if due.is_zero() && !idle && self.last_flush.elapsed() < 2 * wait {
            return Some(wait);
        }
        Some(due)
    }

    fn begin_flush(&mut self) -> Result<()> {
        // Before the flush, so that nothing accepted meanwhile counts as in it.
        let candidate = self.ledger.candidate();
        let flush = self.sink.begin_flush()?;
        let unflushed = std::mem::take(&mut self.unflushed);
        self.last_flush = Instant::now();
        self.flusher.begin(Request {
            candidate,
            flush,
            finished: unflushed.finished,
        })
    }

    /// Ends with a sink that holds whole transactions only, all of them
    /// durable. After a failure of the sink itself nothing more is flushed.
    fn settle(&mut self, broken_sink: bool) -> Result<()> {
        let rewound = self.sink.rewind();
        match rewound {
            Ok(true) => self.open = None,
            Ok(false) => {
                // Half skipped again: what is still to be skipped goes on top.
                let left = self.skip.take();
                self.skip = match (self.open.take(), left) {
                    (Some(open), Some(left)) => Some(Partial {
                        lines: open.lines + left.lines,
                        ..open
                    }),
                    (open, left) => open.or(left),
                };
            }
            Err(failure) if !broken_sink => return Err(failure),
            Err(_) => {}
        }
        self.flusher.wait()?;
        if broken_sink || !self.unflushed.position {
            return Ok(());
        }
        self.begin_flush()?;
        self.flusher.wait()
    }
}

fn another_transaction(skip: &Partial) -> Failure {
    Failure::definite(
        "after a reconnect the server did not send the transaction again that was under way",
    )
    .detail(format!(
        "the sink waits for {} more events that it has of the one that ends at {}",
        skip.lines, skip.end_lsn
    ))
    .hint(
        "was the server replaced? compare its data with what the sink received, then start with a new slot",
    )
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
