//! The ack ledger: the only source of the LSNs in a standby status update.
//!
//! Who sets which LSN, and why:
//!
//! | LSN | set by | meaning |
//! | --- | --- | --- |
//! | accepted | the sink's thread, with [`Ledger::accept`], in commit order | the sink took every event up to here; a crash may still lose them. Sent as the status update's *write* LSN |
//! | candidate | the sink's thread, with [`Ledger::candidate`], **before** it begins a flush | what that flush will have made durable; what is accepted while it runs is not in it |
//! | flush | [`Ledger::durable`] and [`Ledger::durable_through`], after the flush returned and the state was saved | safe for ever: the server may forget it. Sent as *flush* and *apply* |
//! | hold | the assembler, at a PREPARE whose rows are safe nowhere yet | the flush LSN does not pass it |
//!
//! Positions come only from inside frames (a commit's or a message's end LSN)
//! or from a keepalive that travelled through the same ordered queue, so that
//! everything the server sent before it was accepted before it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;
use walferry_protocol::Lsn;

/// What a flush that begins now will make durable: everything accepted so far.
/// Only [`Ledger::candidate`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate(Lsn);

impl Candidate {
    pub fn lsn(self) -> Lsn {
        self.0
    }
}

/// One accepted position, to be reported durable by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted(u64);

#[derive(Debug)]
struct Outstanding {
    serial: u64,
    position: Lsn,
    durable: bool,
}

#[derive(Debug)]
struct Inner {
    /// In commit order; the front is the oldest that is not durable.
    outstanding: VecDeque<Outstanding>,
    next_serial: u64,
    accepted: Lsn,
    durable: Lsn,
    holds: Vec<(u64, Lsn)>,
    reported: Lsn,
}

impl Inner {
    fn settle(&mut self) {
        while self.outstanding.front().is_some_and(|o| o.durable) {
            if let Some(done) = self.outstanding.pop_front() {
                self.durable = self.durable.max(done.position);
            }
        }
        let held = self.holds.iter().map(|(_, at)| *at).min();
        let limit = held.unwrap_or(self.durable).min(self.durable);
        // Never backwards: a hold below what was reported came too late to
        // matter, the server sends that transaction again by itself.
        self.reported = self.reported.max(limit);
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Ledger {
    inner: Mutex<Inner>,
    moved: watch::Sender<Lsn>,
}

impl Ledger {
    /// `start`: where delivery starts; everything before it is durable.
    pub fn new(start: Lsn) -> Self {
        Ledger {
            inner: Mutex::new(Inner {
                outstanding: VecDeque::new(),
                next_serial: 0,
                accepted: start,
                durable: start,
                holds: Vec::new(),
                reported: start,
            }),
            moved: watch::Sender::new(start),
        }
    }

    /// The sink took everything up to `position`. Called in commit order; a
    /// position below an earlier one (a keepalive of before) changes nothing.
    pub fn accept(&self, position: Lsn) -> Accepted {
        let mut inner = self.lock();
        let serial = inner.next_serial;
        inner.next_serial += 1;
        inner.accepted = inner.accepted.max(position);
        let position = inner.accepted;
        inner.outstanding.push_back(Outstanding {
            serial,
            position,
            durable: false,
        });
        Accepted(serial)
    }

    /// To be taken before a flush begins, never after.
    pub fn candidate(&self) -> Candidate {
        Candidate(self.lock().accepted)
    }

    /// This one position is durable. May come out of order: the flush LSN is
    /// the minimum over everything outstanding.
    pub fn durable(&self, accepted: Accepted) {
        self.change(|inner| {
            let at = inner
                .outstanding
                .iter_mut()
                .find(|o| o.serial == accepted.0);
            if let Some(outstanding) = at {
                outstanding.durable = true;
            }
        });
    }

    /// A flush that began with `candidate` ended well.
    pub fn durable_through(&self, candidate: Candidate) {
        self.change(|inner| {
            for outstanding in &mut inner.outstanding {
                if outstanding.position > candidate.0 {
                    break;
                }
                outstanding.durable = true;
            }
        });
    }

    /// Keeps the flush LSN at or below `at` until [`Ledger::release`] with the
    /// same key. `at` is the LSN at which a PREPARE record starts: the server
    /// sends a transaction again when that is not below the start point.
    pub fn hold(&self, key: u64, at: Lsn) {
        self.change(|inner| {
            inner.holds.retain(|(held, _)| *held != key);
            inner.holds.push((key, at));
        });
    }

    /// Takes a hold back; without one of that key nothing happens.
    pub fn release(&self, key: u64) {
        self.change(|inner| inner.holds.retain(|(held, _)| *held != key));
    }

    /// What the server may forget. Never moves backwards.
    pub fn flush_lsn(&self) -> Lsn {
        self.lock().reported
    }

    /// The last position the sink took.
    pub fn accepted_lsn(&self) -> Lsn {
        self.lock().accepted
    }

    /// Wakes whenever the flush LSN moved.
    pub fn watch(&self) -> watch::Receiver<Lsn> {
        self.moved.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        change(&mut inner);
        inner.settle();
        let reported = inner.reported;
        drop(inner);
        self.moved.send_if_modified(|last| {
            let moved = reported > *last;
            if moved {
                *last = reported;
            }
            moved
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; a poisoned ledger still only holds
        // positions that were durable.
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_alone_acknowledges_nothing() {
        let ledger = Ledger::new(Lsn(100));
        ledger.accept(Lsn(200));
        assert_eq!(ledger.flush_lsn(), Lsn(100));
        assert_eq!(ledger.accepted_lsn(), Lsn(200));
    }

    #[test]
    fn durability_out_of_order_acknowledges_the_minimum() {
        let ledger = Ledger::new(Lsn(0));
        let first = ledger.accept(Lsn(10));
        let second = ledger.accept(Lsn(20));
        let third = ledger.accept(Lsn(30));
        ledger.durable(third);
        assert_eq!(ledger.flush_lsn(), Lsn(0));
        ledger.durable(first);
        assert_eq!(ledger.flush_lsn(), Lsn(10));
        ledger.durable(second);
        assert_eq!(ledger.flush_lsn(), Lsn(30));
    }

    #[test]
    fn what_is_accepted_while_a_flush_runs_is_not_part_of_it() {
        let ledger = Ledger::new(Lsn(0));
        ledger.accept(Lsn(10));
        let candidate = ledger.candidate();
        ledger.accept(Lsn(20));
        ledger.durable_through(candidate);
        assert_eq!(ledger.flush_lsn(), Lsn(10));
        ledger.durable_through(ledger.candidate());
        assert_eq!(ledger.flush_lsn(), Lsn(20));
    }

    #[test]
    fn a_keepalive_of_before_does_not_move_anything_back() {
        let ledger = Ledger::new(Lsn(0));
        ledger.accept(Lsn(50));
        ledger.accept(Lsn(40));
        ledger.durable_through(ledger.candidate());
        assert_eq!(ledger.flush_lsn(), Lsn(50));
    }

    #[test]
    fn a_hold_keeps_the_flush_lsn_at_its_prepare_until_it_is_released() {
        let ledger = Ledger::new(Lsn(0));
        ledger.accept(Lsn(10));
        ledger.durable_through(ledger.candidate());
        ledger.hold(7, Lsn(15));
        ledger.accept(Lsn(40));
        ledger.durable_through(ledger.candidate());
        assert_eq!(ledger.flush_lsn(), Lsn(15));
        ledger.release(7);
        assert_eq!(ledger.flush_lsn(), Lsn(40));
    }

    #[test]
    fn the_flush_lsn_never_moves_back_even_for_a_late_hold() {
        let ledger = Ledger::new(Lsn(0));
        ledger.accept(Lsn(40));
        ledger.durable_through(ledger.candidate());
        ledger.hold(1, Lsn(15));
        assert_eq!(ledger.flush_lsn(), Lsn(40));
        ledger.accept(Lsn(60));
        ledger.durable_through(ledger.candidate());
        assert_eq!(ledger.flush_lsn(), Lsn(40));
    }

    #[test]
    fn watchers_wake_only_when_the_flush_lsn_moves() {
        let ledger = Ledger::new(Lsn(0));
        let watch = ledger.watch();
        ledger.accept(Lsn(10));
        assert!(!watch.has_changed().unwrap());
        ledger.durable_through(ledger.candidate());
        assert!(watch.has_changed().unwrap());
    }
}
