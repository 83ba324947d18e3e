use std::sync::Mutex;

use crossbeam_channel::{Sender, unbounded};

use super::super::budget::Budget;
use super::super::dispatch::Boundary;
use super::*;
use crate::sink::Flush;
use crate::state::{Identity, Resume};
use crate::transaction::prepared::PreparedStore;

/// What a sink was told, and what a flush may do.
#[derive(Default)]
struct Told {
    written: Vec<u8>,
    whole: usize,
    flushes: Vec<usize>,
    fail_flush: bool,
    fail_write: bool,
}

struct Recorder {
    told: Arc<Mutex<Told>>,
    rewinds: bool,
}

impl Sink for Recorder {
    fn write(&mut self, events: &[u8]) -> Result<()> {
        let mut told = self.told.lock().unwrap();
        if told.fail_write {
            return Err(Failure::definite("no space"));
        }
        told.written.extend_from_slice(events);
        Ok(())
    }
    fn boundary(&mut self, _position: Lsn) -> Result<()> {
        let mut told = self.told.lock().unwrap();
        told.whole = told.written.len();
        Ok(())
    }
    fn begin_flush(&mut self) -> Result<Flush> {
        let told = Arc::clone(&self.told);
        let whole = told.lock().unwrap().whole;
        Ok(Flush {
            work: Box::new(move || {
                let mut told = told.lock().unwrap();
                if told.fail_flush {
                    return Err(Failure::definite("fsync failed"));
                }
                told.flushes.push(whole);
                Ok(())
            }),
            resume: None,
        })
    }
    fn rewind(&mut self) -> Result<bool> {
        if self.rewinds {
            let mut told = self.told.lock().unwrap();
            let whole = told.whole;
            told.written.truncate(whole);
        }
        Ok(self.rewinds)
    }
    fn resume(&self) -> Option<Resume> {
        None
    }
}

struct Bench {
    told: Arc<Mutex<Told>>,
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    _folder: tempfile::TempDir,
}

fn bench(rewinds: bool) -> (Bench, Delivery) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Arc::new(Ledger::new(Lsn(0)));
    let identity = Identity {
        system_identifier: 1,
        timeline: 1,
        database: "d".into(),
        slot: "s".into(),
        plugin: "walferry".into(),
    };
    let prepared = Arc::new(
        PreparedStore::open(None, folder.path(), &identity, Lsn(0), Arc::clone(&ledger)).unwrap(),
    );
    let progress = Arc::new(Progress::default());
    let flusher = Flusher::start(None, Arc::clone(&ledger), prepared, Arc::clone(&progress));
    let told = Arc::new(Mutex::new(Told::default()));
    let sink = Box::new(Recorder {
        told: Arc::clone(&told),
        rewinds,
    });
    let delivery = Delivery::new(
        sink,
        Arc::clone(&ledger),
        flusher.unwrap(),
        progress,
        Duration::from_millis(5),
    );
    let bench = Bench {
        told,
        ledger,
        budget: Budget::new(1 << 20),
        _folder: folder,
    };
    (bench, delivery)
}

impl Bench {
    /// `text`: events; after each `.` a transaction ends, the nth at LSN
    /// `first` + n. `open`: the transaction after the last.
    fn send(
        &self,
        to: &Sender<(u64, Output)>,
        number: u64,
        text: &str,
        first: u64,
        open: Option<u64>,
    ) {
        let mut bytes = Vec::new();
        let mut boundaries = Vec::new();
        for byte in text.bytes() {
            if byte == b'.' {
                boundaries.push(Boundary {
                    heartbeat: false,
                    at: bytes.len(),
                    end_lsn: Lsn(first + boundaries.len() as u64),
                    commit_time_us: 1,
                });
            } else {
                bytes.extend_from_slice(&[byte, b'\n']);
            }
        }
        let encoded = Encoded {
            bytes,
            boundaries,
            events: 1,
            open: open.map(Lsn),
            failure: None,
            charge: self.budget.charge(1),
        };
        to.send((number, Output::Events(encoded))).unwrap();
    }

    fn written(&self) -> String {
        let told = self.told.lock().unwrap();
        String::from_utf8(told.written.clone())
            .unwrap()
            .replace('\n', "")
    }
}

#[test]
fn output_that_comes_out_of_order_is_written_in_order_and_flushed() {
    let (bench, delivery) = bench(true);
    let (to, from) = unbounded();
    bench.send(&to, 1, "cd.", 20, None);
    bench.send(&to, 2, "e.f.", 30, None);
    bench.send(&to, 0, "ab.", 10, None);
    drop(to);
    let (_, ended) = delivery.run(&from);
    ended.unwrap();
    assert_eq!(bench.written(), "abcdef");
    assert_eq!(bench.ledger.flush_lsn(), Lsn(31));
    assert_eq!(bench.budget.used(), 0);
}

#[test]
fn a_transaction_that_is_not_whole_is_taken_back_and_not_acknowledged() {
    let (bench, delivery) = bench(true);
    let (to, from) = unbounded();
    bench.send(&to, 0, "ab.cd", 10, Some(20));
    drop(to);
    let (delivery, ended) = delivery.run(&from);
    ended.unwrap();
    assert_eq!(bench.written(), "ab");
    assert_eq!(bench.ledger.flush_lsn(), Lsn(10));
    // The next connection sends it again, whole.
    let (to, from) = unbounded();
    bench.send(&to, 0, "cdef.", 20, None);
    drop(to);
    delivery.run(&from).1.unwrap();
    assert_eq!(bench.written(), "abcdef");
    assert_eq!(bench.ledger.flush_lsn(), Lsn(20));
}

#[test]
fn a_pipe_gets_no_event_twice_when_the_connection_breaks_inside_a_transaction() {
    let (bench, delivery) = bench(false);
    let (to, from) = unbounded();
    bench.send(&to, 0, "ab.cd", 10, Some(20));
    bench.send(&to, 1, "e", 0, Some(20));
    drop(to);
    let (delivery, ended) = delivery.run(&from);
    ended.unwrap();
    assert_eq!(
        (bench.written().as_str(), bench.ledger.flush_lsn()),
        ("abcde", Lsn(10))
    );
    // Again it breaks, before and then after what the pipe has.
    let (to, from) = unbounded();
    bench.send(&to, 0, "c", 0, Some(20));
    drop(to);
    let (delivery, ended) = delivery.run(&from);
    ended.unwrap();
    let (to, from) = unbounded();
    bench.send(&to, 0, "cd", 0, Some(20));
    bench.send(&to, 1, "ef", 0, Some(20));
    drop(to);
    let (delivery, ended) = delivery.run(&from);
    ended.unwrap();
    assert_eq!(bench.written(), "abcdef");
    let (to, from) = unbounded();
    bench.send(&to, 0, "cdefg.h.i", 20, Some(30));
    drop(to);
    let (_, ended) = delivery.run(&from);
    ended.unwrap();
    assert_eq!(bench.written(), "abcdefghi");
    assert_eq!(bench.ledger.flush_lsn(), Lsn(21));
}

#[test]
fn a_pipe_that_waits_for_the_rest_of_a_transaction_gets_no_other_one() {
    let (bench, delivery) = bench(false);
    let (to, from) = unbounded();
    bench.send(&to, 0, "ab", 0, Some(20));
    drop(to);
    let (delivery, ended) = delivery.run(&from);
    ended.unwrap();
    let (to, from) = unbounded();
    bench.send(&to, 0, "x.", 15, None);
    drop(to);
    assert!(delivery.run(&from).1.is_err());
    assert_eq!(bench.written(), "ab");
    assert_eq!(bench.ledger.flush_lsn(), Lsn(0));
}

#[test]
fn a_write_that_the_sink_refuses_acknowledges_nothing_of_it() {
    let (bench, delivery) = bench(true);
    bench.told.lock().unwrap().fail_write = true;
    let (to, from) = unbounded();
    bench.send(&to, 0, "ab.", 10, None);
    drop(to);
    assert_eq!(delivery.run(&from).1.unwrap_err().message, "no space");
    assert_eq!(bench.ledger.flush_lsn(), Lsn(0));
}

#[test]
fn a_flush_that_failed_acknowledges_nothing_and_is_not_tried_again() {
    let (bench, delivery) = bench(true);
    bench.told.lock().unwrap().fail_flush = true;
    let (to, from) = unbounded();
    bench.send(&to, 0, "ab.", 10, None);
    let thread = std::thread::spawn(move || delivery.run(&from));
    let (_, ended) = thread.join().unwrap();
    assert_eq!(ended.unwrap_err().message, "fsync failed");
    assert_eq!(bench.ledger.flush_lsn(), Lsn(0));
    assert!(bench.told.lock().unwrap().flushes.is_empty());
}

#[test]
fn what_came_before_a_failure_is_durable_and_nothing_after_it_is_written() {
    let (bench, delivery) = bench(true);
    let (to, from) = unbounded();
    bench.send(&to, 2, "zz.", 30, None);
    to.send((1, Output::Failed(Failure::definite("bad frame"))))
        .unwrap();
    bench.send(&to, 0, "ab.c", 10, Some(20));
    let (_, ended) = delivery.run(&from);
    assert_eq!(ended.unwrap_err().message, "bad frame");
    assert_eq!(bench.written(), "ab");
    assert_eq!(bench.ledger.flush_lsn(), Lsn(10));
}

#[test]
fn a_keepalive_moves_the_flush_lsn_when_nothing_is_outstanding() {
    let (bench, delivery) = bench(true);
    let (to, from) = unbounded();
    for (number, position) in [(0, 50), (1, 40), (2, 60)] {
        let mark = Mark {
            position: Lsn(position),
            kind: MarkKind::Keepalive {
                reply_requested: number == 2,
            },
        };
        to.send((number, Output::Mark(mark))).unwrap();
    }
    drop(to);
    delivery.run(&from).1.unwrap();
    assert_eq!(bench.ledger.flush_lsn(), Lsn(60));
}

#[test]
fn a_number_that_never_comes_is_a_failure() {
    let (bench, delivery) = bench(true);
    let (to, from) = unbounded();
    bench.send(&to, 1, "ab.", 10, None);
    drop(to);
    assert!(delivery.run(&from).1.is_err());
    assert_eq!(bench.written(), "");
}
