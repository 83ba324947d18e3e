//! Progress for people: what was delivered, how far behind it is, and when
//! nothing moves although there is something to do.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use walferry_protocol::Lsn;

use crate::ledger::Ledger;

/// How often the line on a terminal is drawn again.
const DRAW: Duration = Duration::from_millis(500);
/// How often a log line says the same elsewhere.
const LOG: Duration = Duration::from_secs(30);
/// Without progress for this long the watchdog speaks.
const STALL: Duration = Duration::from_secs(60);

/// Counted by whoever does the work.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    /// Events written to the sink.
    pub events: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    pub transactions: AtomicU64,
    /// Bytes of CopyData received.
    pub received: AtomicU64,
    /// The end of WAL the server last told of.
    wal_end: AtomicU64,
    /// Commit time of the last transaction written, microseconds since the
    /// Unix epoch.
    commit_time_us: AtomicI64,
    /// Times a flush was made durable.
    pub flushes: AtomicU64,
    heartbeats: Mutex<Heartbeats>,
}

/// Heartbeats on their way, and how long the last took from its COMMIT, by the
/// server's clock, to being durable in the sink, by this machine's.
#[derive(Debug, Default)]
struct Heartbeats {
    /// End LSN and commit time in microseconds since the Unix epoch, of those that
    /// were written and are not yet durable.
    written: VecDeque<(Lsn, i64)>,
    durable: u64,
    last: Duration,
    longest: Duration,
}

impl Default for Progress {
    fn default() -> Self {
        Progress {
            started: Instant::now(),
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            received: AtomicU64::new(0),
            wal_end: AtomicU64::new(0),
            commit_time_us: AtomicI64::new(0),
            flushes: AtomicU64::new(0),
            heartbeats: Mutex::default(),
        }
    }
}

impl Progress {
    /// The server's WAL ends at `lsn`, as far as it told.
    pub fn server_is_at(&self, lsn: Lsn) {
        self.wal_end.fetch_max(lsn.0, Relaxed);
    }

    pub fn committed(&self, commit_time_us: i64) {
        self.transactions.fetch_add(1, Relaxed);
        if commit_time_us != 0 {
            self.commit_time_us.store(commit_time_us, Relaxed);
        }
    }

    /// A transaction with a heartbeat in it was written to the sink.
    pub fn heartbeat(&self, end_lsn: Lsn, commit_time_us: i64) {
        if commit_time_us != 0 {
            self.heartbeats()
                .written
                .push_back((end_lsn, commit_time_us));
        }
    }

    /// Everything up to `lsn` is durable in the sink.
    pub fn durable(&self, lsn: Lsn) {
        let mut heartbeats = self.heartbeats();
        let now = now_us();
        while let Some((_, committed)) = heartbeats.written.pop_front_if(|(end, _)| *end <= lsn) {
            // Clocks of two machines may differ by more than it took.
            let delay = Duration::from_micros(u64::try_from(now - committed).unwrap_or(0));
            heartbeats.durable += 1;
            heartbeats.last = delay;
            heartbeats.longest = heartbeats.longest.max(delay);
        }
    }

    fn heartbeats(&self) -> MutexGuard<'_, Heartbeats> {
        // What is counted here is only shown.
        self.heartbeats
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn wal_end(&self) -> Lsn {
        Lsn(self.wal_end.load(Relaxed))
    }

    /// WAL between what is durable and the end of the server's, in bytes.
    pub fn lag_bytes(&self, ledger: &Ledger) -> u64 {
        self.wal_end().0.saturating_sub(ledger.flush_lsn().0)
    }

    /// Age of the last transaction written while there is more to come, in
    /// seconds; 0 when there is not.
    fn lag_seconds(&self, ledger: &Ledger) -> f64 {
        let commit = self.commit_time_us.load(Relaxed);
        if commit == 0 || ledger.accepted_lsn() >= self.wal_end() {
            return 0.0;
        }
        ((now_us() - commit) as f64 / 1e6).max(0.0)
    }

    /// The last line of a run.
    pub fn summary(&self, ledger: &Ledger) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let events = self.events.load(Relaxed);
        let heartbeats = self.heartbeats();
        let beats = match heartbeats.durable {
            0 => String::new(),
            count => format!(
                ", {count} heartbeats, the last after {:.1} ms, the longest after {:.1} ms",
                milliseconds(heartbeats.last),
                milliseconds(heartbeats.longest)
            ),
        };
        format!(
            "{events} events of {} transactions ({}) in {seconds:.1} s, {:.0} events/s, acknowledged {}{beats}",
            self.transactions.load(Relaxed),
            size(self.bytes.load(Relaxed)),
            events as f64 / seconds.max(0.001),
            ledger.flush_lsn(),
        )
    }
}

/// The slots that are read, for whoever tells of their progress.
#[derive(Debug, Default)]
pub struct Board(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    /// `None`: there is one slot only.
    slot: Option<String>,
    progress: Arc<Progress>,
    ledger: Arc<Ledger>,
    watchdog: Watchdog,
    last: (Instant, u64),
}

impl Board {
    pub fn add(&self, slot: Option<&str>, progress: &Arc<Progress>, ledger: &Arc<Ledger>) {
        let now = Instant::now();
        self.entries().push(Entry {
            slot: slot.map(str::to_owned),
            progress: Arc::clone(progress),
            ledger: Arc::clone(ledger),
            watchdog: Watchdog::new(now),
            last: (now, 0),
        });
    }

    pub fn remove(&self, ledger: &Arc<Ledger>) {
        self.entries()
            .retain(|entry| !Arc::ptr_eq(&entry.ledger, ledger));
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A poisoned board still only holds what is to be shown.
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Entry {
    fn line(&mut self) -> String {
        let (progress, ledger) = (&self.progress, &self.ledger);
        let events = progress.events.load(Relaxed);
        let seconds = self.last.0.elapsed().as_secs_f64();
        let rate = (events - self.last.1) as f64 / seconds.max(0.001);
        self.last = (Instant::now(), events);
        let heartbeats = progress.heartbeats();
        let beat = match heartbeats.durable {
            0 => String::new(),
            _ => format!(", heartbeat after {:.1} ms", milliseconds(heartbeats.last)),
        };
        drop(heartbeats);
        format!(
            "{}{rate:.0} changes/s, {events} in all, lag {} and {:.1} s, acknowledged {}{beat}",
            self.prefix(),
            size(progress.lag_bytes(ledger)),
            progress.lag_seconds(ledger),
            ledger.flush_lsn(),
        )
    }

    fn prefix(&self) -> String {
        let slot = self.slot.as_ref();
        slot.map_or(String::new(), |slot| format!("{slot}: "))
    }

    fn stalled(&mut self) -> Option<String> {
        let stalled = self.watchdog.look(
            Instant::now(),
            self.progress.received.load(Relaxed),
            self.ledger.accepted_lsn(),
            self.ledger.flush_lsn(),
            self.progress.wal_end(),
        )?;
        Some(format!("{}{stalled}", self.prefix()))
    }
}

/// Draws progress until it is dropped as a task. `draw` asks for a line on
/// standard error where that is a terminal.
pub async fn report(board: &Board, draw: bool) {
    let terminal = draw && std::io::stderr().is_terminal();
    let every = if terminal { DRAW } else { LOG };
    let mut tick = tokio::time::interval(every);
    tick.tick().await;
    loop {
        tick.tick().await;
        let (lines, stalled) = {
            let mut entries = board.entries();
            let lines: Vec<String> = entries.iter_mut().map(Entry::line).collect();
            let stalled: Vec<String> = entries.iter_mut().filter_map(Entry::stalled).collect();
            (lines, stalled)
        };
        if terminal {
            let mut out = std::io::stderr().lock();
            // Progress is for people; a terminal that is gone is not an error.
            let _ = write!(out, "\r\x1b[K{}", lines.join(" | ")).and_then(|()| out.flush());
        } else {
            for line in lines {
                tracing::info!("{line}");
            }
        }
        for line in stalled {
            tracing::warn!("{line}");
        }
    }
}

/// Clears what [`report`] drew.
pub fn end_line(draw: bool) {
    if draw && std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
    }
}

/// Watches for progress, not for packets: keepalives come in while nothing
/// moves.
#[derive(Debug)]
struct Watchdog {
    moved: Instant,
    flushed: Lsn,
    received: u64,
    accepted: Lsn,
    spoke: bool,
}

impl Watchdog {
    fn new(now: Instant) -> Self {
        Watchdog {
            moved: now,
            flushed: Lsn::INVALID,
            received: 0,
            accepted: Lsn::INVALID,
            spoke: false,
        }
    }

    /// What to say, once a stall.
    fn look(
        &mut self,
        now: Instant,
        received: u64,
        accepted: Lsn,
        flushed: Lsn,
        wal_end: Lsn,
    ) -> Option<String> {
        if flushed != self.flushed || wal_end <= flushed {
            *self = Watchdog::new(now);
            self.flushed = flushed;
            self.received = received;
            self.accepted = accepted;
            return None;
        }
        let stalled = now - self.moved;
        if stalled < STALL || self.spoke {
            return None;
        }
        self.spoke = true;
        let why = if accepted > flushed && accepted == self.accepted {
            "the sink does not make its events durable, or a prepared transaction waits for its end"
        } else if received != self.received {
            "changes come in: a large transaction may be on its way"
        } else {
            "the server sends nothing: it may be decoding a large transaction, or the sink takes nothing"
        };
        Some(format!(
            "no progress for {} s: acknowledged {flushed}, the server is at {wal_end}; {why}",
            stalled.as_secs()
        ))
    }
}

/// Microseconds since the Unix epoch, by this machine's clock.
fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} kB", bytes >> 10),
        10_485_760..10_737_418_240 => format!("{} MB", bytes >> 20),
        _ => format!("{} GB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_speaks_once_when_nothing_moves_though_packets_come() {
        let begin = Instant::now();
        let mut watchdog = Watchdog::new(begin);
        let mut at = |seconds, received, flushed| {
            watchdog.look(
                begin + Duration::from_secs(seconds),
                received,
                Lsn(10),
                Lsn(flushed),
                Lsn(100),
            )
        };
        assert_eq!(at(1, 1, 10), None);
        assert_eq!(at(50, 2, 10), None);
        assert!(at(70, 3, 10).unwrap().contains("no progress for 69 s"));
        assert_eq!(at(200, 4, 10), None);
        assert_eq!(at(201, 5, 11), None);
        assert_eq!(at(230, 5, 11), None);
        assert!(at(262, 5, 11).unwrap().contains("sends nothing"));
        assert_eq!(at(300, 5, 100), None);
    }

    #[test]
    fn a_heartbeats_delay_runs_from_its_commit_until_it_is_durable() {
        let progress = Progress::default();
        let ledger = Ledger::new(Lsn(1));
        progress.heartbeat(Lsn(10), now_us() - 3_000_000);
        progress.heartbeat(Lsn(20), now_us() - 1_000_000);
        progress.heartbeat(Lsn(30), now_us() + 60_000_000);
        progress.durable(Lsn(9));
        assert!(!progress.summary(&ledger).contains("heartbeat"));
        progress.durable(Lsn(25));
        let summary = progress.summary(&ledger);
        assert!(
            summary.contains(", 2 heartbeats, the last after 10"),
            "{summary}"
        );
        assert!(summary.contains(" ms, the longest after 30"), "{summary}");
        // A server's clock that is ahead makes no time of less than nothing.
        progress.durable(Lsn(30));
        assert!(progress.summary(&ledger).contains("the last after 0.0 ms"));
    }

    #[test]
    fn an_idle_server_is_not_a_stall() {
        let begin = Instant::now();
        let mut watchdog = Watchdog::new(begin);
        for minutes in 0..10 {
            let now = begin + Duration::from_secs(60 * minutes);
            assert_eq!(watchdog.look(now, 0, Lsn(5), Lsn(5), Lsn(5)), None);
        }
    }
}
