//! SIGTERM and SIGINT: the first asks to finish, the second ends at once.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Failure, Result};

/// Signals this soon after the first are the same wish: `timeout`, a service
/// supervisor or a terminal may signal the process and then its whole group.
const SAME_WISH: Duration = Duration::from_millis(500);

/// Becomes true at the first signal.
pub fn stop_on_signals() -> Result<watch::Receiver<bool>> {
    let (tell, stop) = watch::channel(false);
    let failed = |e: std::io::Error| Failure::definite(format!("cannot listen to signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first.is_some_and(|at| at.elapsed() < SAME_WISH) {
                continue;
            }
            first.get_or_insert_with(Instant::now);
            if tell.send_replace(true) {
                // Nothing that is not durable was acknowledged, so this loses
                // nothing; the next start cuts off what is half written.
                eprintln!("walferry: ended at once by a second signal");
                std::process::exit(1);
            }
            tracing::info!("finishing what is in flight; a second signal ends at once");
        }
    });
    Ok(stop)
}
