//! Waiting for a condition, never for a fixed time.

use std::time::{Duration, Instant};

/// Long enough for a busy machine with two cores; a test that needs longer says so with [`wait_within`].
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns once `condition` holds; panics naming `what` after a minute.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, condition);
}

/// Returns once `condition` holds; panics naming `what` after `timeout`.
pub fn wait_within(timeout: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    let mut pause = Duration::from_millis(2);
    while !condition() {
        assert!(began.elapsed() < timeout, "waited {timeout:?} for {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
