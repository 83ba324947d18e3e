//! How many bytes may be between the assembler and the sink.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Counts bytes from the moment a job is made until its events are written.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Budget {
            limit,
            used: Mutex::new(0),
            freed: Condvar::new(),
        })
    }

    /// Waits until `bytes` fit. What is larger than the whole budget is let
    /// in alone: a value of 1 GB must pass.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        let mut used = self.lock();
        while *used > 0 && *used + bytes > self.limit {
            used = self.freed.wait(used).unwrap_or_else(|e| e.into_inner());
        }
        *used += bytes;
        Charge {
            budget: Arc::clone(self),
            bytes,
        }
    }

    pub fn used(&self) -> usize {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.used.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Bytes taken out of a budget, given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Corrects the size once it is known, without waiting: whoever holds a
    /// charge must get on, or nobody would.
    pub fn set(&mut self, bytes: usize) {
        let mut used = self.budget.lock();
        *used = *used - self.bytes + bytes;
        self.bytes = bytes;
        drop(used);
        self.budget.freed.notify_one();
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        *self.budget.lock() -= self.bytes;
        self.budget.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_too_large_is_let_in_alone() {
        let budget = Budget::new(100);
        let huge = budget.charge(1000);
        let waiting = std::thread::spawn({
            let budget = Arc::clone(&budget);
            move || budget.charge(10)
        });
        std::thread::sleep(Duration::from_millis(30));
        assert!(!waiting.is_finished());
        drop(huge);
        let small = waiting.join().unwrap();
        assert_eq!(budget.used(), 10);
        drop(small);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_charge_that_grows_holds_back_the_next() {
        let budget = Budget::new(100);
        let mut first = budget.charge(10);
        first.set(95);
        let waiting = std::thread::spawn({
            let budget = Arc::clone(&budget);
            move || budget.charge(10)
        });
        std::thread::sleep(Duration::from_millis(30));
        assert!(!waiting.is_finished());
        first.set(20);
        drop(waiting.join().unwrap());
    }
}
