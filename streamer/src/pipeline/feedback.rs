//! Feedback: tells the server how far delivery is. On its own task, which
//! owns the sending half, so that no slow sink keeps it from answering.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::error::Result;
use crate::failpoint;
use crate::ledger::Ledger;
use crate::source::changes::ChangeWriter;

/// The shortest time between two updates that a moved flush LSN causes.
const GAP: Duration = Duration::from_millis(20);

/// What others ask of the feedback task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The server wants an answer now.
    Reply,
    /// Send what is durable, then end the copy.
    Finish,
}

#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// The longest time between two updates.
    pub interval: Duration,
    /// Ask the server for a keepalive this often; for `--until-lsn`, which
    /// would wait for ever on an idle server.
    pub ask_keepalive: Option<Duration>,
}

/// The longest time between two updates: what was asked for, but at most a
/// third of the server's `wal_sender_timeout` (`None`: it has none).
pub fn status_interval(asked: Duration, wal_sender_timeout: Option<Duration>) -> Duration {
    match wal_sender_timeout {
        Some(timeout) => asked.min(timeout / 3).max(Duration::from_millis(50)),
        None => asked,
    }
}

/// Runs until asked to finish; gives the writer back.
pub async fn run(
    mut writer: ChangeWriter,
    ledger: Arc<Ledger>,
    rhythm: Rhythm,
    mut asks: mpsc::Receiver<Ask>,
) -> Result<ChangeWriter> {
    let mut moved = ledger.watch();
    let mut tick = interval(rhythm.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut keepalive = interval(rhythm.ask_keepalive.unwrap_or(Duration::from_secs(3600)));
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        let mut request_reply = false;
        let mut finish = false;
        tokio::select! {
            changed = moved.changed() => {
                // The ledger lives as long as we do.
                let _ = changed;
                sleep_until(last + GAP).await;
                moved.mark_unchanged();
            }
            ask = asks.recv() => finish = ask != Some(Ask::Reply),
            _ = tick.tick() => {}
            _ = keepalive.tick() => request_reply = rhythm.ask_keepalive.is_some(),
        }
        // Written: accepted by the sink. Flushed and applied: durable.
        let flushed = ledger.flush_lsn();
        let written = ledger.accepted_lsn().max(flushed);
        writer
            .standby_status(written, flushed, flushed, request_reply)
            .await?;
        failpoint::reached("after-ack");
        last = Instant::now();
        if finish {
            writer.copy_done().await?;
            return Ok(writer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_stays_below_the_servers_timeout() {
        let seconds = Duration::from_secs;
        assert_eq!(status_interval(seconds(10), Some(seconds(60))), seconds(10));
        assert_eq!(status_interval(seconds(10), Some(seconds(3))), seconds(1));
        assert_eq!(status_interval(seconds(10), None), seconds(10));
    }
}
