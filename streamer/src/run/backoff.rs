//! How long to wait before connecting again.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(15);
/// A connection that held this long was a good one.
const GOOD: Duration = Duration::from_secs(30);

/// Doubles from failure to failure, until a connection holds.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    since: Option<Instant>,
}

impl Backoff {
    pub fn new() -> Self {
        Backoff {
            next: FIRST,
            since: None,
        }
    }

    /// Changes are streaming.
    pub fn connected(&mut self) {
        self.since = Some(Instant::now());
    }

    /// The wait, and whether this failure is the first of its row and so worth
    /// a word.
    pub fn failed(&mut self) -> (Duration, bool) {
        let held = self.since.take().map(|since| since.elapsed());
        if held.is_some_and(|held| held >= GOOD) {
            self.next = FIRST;
        }
        let first = held.is_some() || self.next == FIRST;
        let wait = self.next;
        self.next = (self.next * 2).min(LONGEST);
        (wait, first)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_its_limit_and_says_it_once() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.failed(), (FIRST, true));
        assert_eq!(backoff.failed(), (FIRST * 2, false));
        for _ in 0..20 {
            backoff.failed();
        }
        assert_eq!(backoff.failed(), (LONGEST, false));
        backoff.connected();
        assert!(backoff.failed().1);
    }
}
