//! How long to wait before connecting again.

use std::time::{Duration, Instant};

use crate::cli::Retries;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(15);
/// A connection that held this long was a good one.
const GOOD: Duration = Duration::from_secs(30);

/// Doubles from failure to failure, until a connection holds; or as the user
/// said.
#[derive(Debug)]
pub struct Backoff {
    retries: Retries,
    /// In a row.
    failures: u32,
    next: Duration,
    since: Option<Instant>,
}

impl Backoff {
    pub fn new(retries: Retries) -> Self {
        Backoff {
            retries,
            failures: 0,
            next: FIRST,
            since: None,
        }
    }

    /// Changes are streaming.
    pub fn connected(&mut self) {
        self.since = Some(Instant::now());
    }

    /// The wait, and whether this failure is the first of its row and so worth
    /// a word; `None` when there were enough.
    pub fn failed(&mut self) -> Option<(Duration, bool)> {
        let held = self.since.take().map(|since| since.elapsed());
        if held.is_some_and(|held| held >= GOOD) {
            self.next = FIRST;
            self.failures = 0;
        }
        if self.retries.most.is_some_and(|most| self.failures >= most) {
            return None;
        }
        let first = held.is_some() || self.failures == 0;
        self.failures = self.failures.saturating_add(1);
        let wait = self.retries.wait.unwrap_or(self.next);
        self.next = (self.next * 2).min(LONGEST);
        Some((wait, first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_its_limit_and_says_it_once() {
        let mut backoff = Backoff::new(Retries::default());
        assert_eq!(backoff.failed(), Some((FIRST, true)));
        assert_eq!(backoff.failed(), Some((FIRST * 2, false)));
        for _ in 0..20 {
            backoff.failed();
        }
        assert_eq!(backoff.failed(), Some((LONGEST, false)));
        backoff.connected();
        assert!(backoff.failed().is_some_and(|(_, first)| first));
    }

    #[test]
    fn it_gives_up_after_as_many_retries_as_the_user_said() {
        let wait = Duration::from_secs(1);
        let mut backoff = Backoff::new(Retries {
            most: Some(2),
            wait: Some(wait),
        });
        assert_eq!(backoff.failed(), Some((wait, true)));
        assert_eq!(backoff.failed(), Some((wait, false)));
        assert_eq!(backoff.failed(), None);
    }
}
