//! CPU time of a walsender, from outside.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use walferry_tests::Server;

/// Watches the process that holds a slot until it is gone. Its CPU time can't
/// be asked for afterwards (it is the postmaster's child, not ours), so it is
/// sampled every two milliseconds and the last sample counts.
pub struct CpuWatch {
    thread: JoinHandle<Option<Duration>>,
    over: Arc<AtomicBool>,
}

impl CpuWatch {
    /// Begins to look for the process; returns once the watch is ready, so that the reader may be started.
    pub fn on(server: &Server, slot: &str) -> CpuWatch {
        let mut client = server.client();
        let query =
            format!("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}'");
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let statement = client
                .prepare(&query)
                .expect("query for the slot's process");
            ready.send(()).expect("the watch's maker");
            let pid: i32 = loop {
                let row = client
                    .query_one(&statement, &[])
                    .expect("the slot's process");
                if let Some(pid) = row.get(0) {
                    break pid;
                }
                if ended.load(Ordering::SeqCst) {
                    return None;
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            let mut last = None;
            while let Some(used) = cpu_time(pid) {
                last = Some(used);
                std::thread::sleep(Duration::from_millis(2));
            }
            last
        });
        is_ready.recv().expect("the watch to be ready");
        CpuWatch { thread, over }
    }

    /// The process's user and system time; none when it was over before it was found.
    pub fn finish(self) -> Option<Duration> {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().expect("the watch")
    }
}

/// Time on a CPU, in nanoseconds as `/proc/PID/schedstat` has it; `/proc/PID/stat` counts in
/// hundredths of a second only, and serves where a kernel lacks the former.
fn cpu_time(pid: i32) -> Option<Duration> {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/schedstat")) {
        let nanoseconds: u64 = text.split_whitespace().next()?.parse().ok()?;
        if nanoseconds > 0 {
            return Some(Duration::from_nanos(nanoseconds));
        }
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields are counted after the command, which may hold spaces; utime and stime are the 14th and 15th in all.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}
