//! The transactions in progress of one connection.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use walferry_protocol::ProtocolError;

use super::spill_dir::SpillDir;
use super::spool::Spool;
use crate::decode::native::malformed_frame;
use crate::error::Result;

/// A transaction whose commit has not come yet.
#[derive(Debug, Default)]
pub struct InProgress {
    pub spool: Spool,
    /// Its subtransactions that were rolled back: their records are skipped.
    pub aborted: HashSet<u32>,
}

/// All of them, by the top-level transaction's xid.
#[derive(Debug)]
pub struct Streamed {
    transactions: HashMap<u32, InProgress>,
    in_memory: usize,
    /// Bytes that may be in memory, over all of them.
    budget: usize,
    dir: Arc<SpillDir>,
}

impl Streamed {
    pub fn new(budget: usize, dir: Arc<SpillDir>) -> Self {
        Streamed {
            transactions: HashMap::new(),
            in_memory: 0,
            budget,
            dir,
        }
    }

    /// [`Streamed::add`], where the piece says whether it is the `first`.
    pub fn push(&mut self, xid: u32, first: bool, frame: &[u8]) -> Result<()> {
        if first == self.transactions.contains_key(&xid) {
            return Err(malformed_frame(ProtocolError::Inconsistent {
                what: if first {
                    "a streamed transaction begins twice"
                } else {
                    "a streamed transaction goes on that never began"
                },
            }));
        }
        self.add(xid, frame)
    }

    /// A piece of transaction `xid`, which begins with this one if it is new.
    /// Past the budget the largest goes to disk.
    pub fn add(&mut self, xid: u32, frame: &[u8]) -> Result<()> {
        let transaction = self.transactions.entry(xid).or_default();
        let before = transaction.spool.in_memory();
        transaction.spool.push(frame);
        self.in_memory += transaction.spool.in_memory() - before;
        while self.in_memory > self.budget {
            let largest = self
                .transactions
                .values_mut()
                .max_by_key(|transaction| transaction.spool.in_memory());
            let Some(largest) = largest else { break };
            self.in_memory -= largest.spool.in_memory();
            largest.spool.spill(&self.dir)?;
            crate::failpoint::reached("during-spill");
        }
        Ok(())
    }

    /// The (sub)transaction was rolled back. One of which nothing came is
    /// nothing to us.
    pub fn abort(&mut self, xid: u32, subxid: u32) {
        if xid == subxid {
            self.take(xid);
        } else if let Some(transaction) = self.transactions.get_mut(&xid) {
            transaction.aborted.insert(subxid);
        }
    }

    /// Takes a transaction that is finished out of here.
    pub fn take(&mut self, xid: u32) -> Option<InProgress> {
        let transaction = self.transactions.remove(&xid)?;
        self.in_memory -= transaction.spool.in_memory();
        Some(transaction)
    }

    /// How many are in progress.
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed(folder: &tempfile::TempDir, budget: usize) -> Streamed {
        let dir = Arc::new(SpillDir::open(Some(folder.path()), None).unwrap());
        Streamed::new(budget, dir)
    }

    #[test]
    fn the_largest_transaction_is_spilled_and_memory_stays_in_its_budget() {
        let folder = tempfile::tempdir().unwrap();
        let mut streamed = streamed(&folder, 10_000);
        for n in 0..1000u32 {
            let xid = 5 + n % 3;
            streamed
                .push(xid, n < 3, &vec![7; 100 * xid as usize])
                .unwrap();
            assert!(streamed.in_memory <= 10_000);
        }
        for xid in [7, 5, 6] {
            let mut replay = streamed.take(xid).unwrap().spool.replay().unwrap();
            let mut count = 0;
            while let Some(frame) = replay.next_frame().unwrap() {
                assert_eq!(frame.len(), 100 * xid as usize);
                count += 1;
            }
            assert!((333..=334).contains(&count));
        }
        assert_eq!((streamed.in_memory, streamed.dir.used()), (0, 0));
    }

    #[test]
    fn an_abort_of_the_top_drops_all_and_of_a_subtransaction_only_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut streamed = streamed(&folder, 10_000);
        streamed.push(5, true, b"x").unwrap();
        streamed.abort(5, 6);
        streamed.abort(9, 10);
        assert!(streamed.transactions[&5].aborted.contains(&6));
        streamed.abort(5, 5);
        assert!(streamed.is_empty());
        assert_eq!(streamed.in_memory, 0);
    }

    #[test]
    fn pieces_that_do_not_fit_together_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut streamed = streamed(&folder, 10_000);
        assert!(streamed.push(5, false, b"x").is_err());
        streamed.push(5, true, b"x").unwrap();
        assert!(streamed.push(5, true, b"x").is_err());
    }
}
