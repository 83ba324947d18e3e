//! What the server is told, and when.

mod delivery;

use std::io::Read;
use std::process::Stdio;

use delivery::{Destination, SECONDS};
use walferry_tests::{FaultProxy, Server, Streamer, wait_until, wait_within};

const SLOT: &str = "ferry";
const TABLE: &str = "CREATE TABLE item (id int PRIMARY KEY, note text)";

#[test]
fn a_stalled_reader_of_stdout_does_not_cost_the_connection() {
    let server = Server::builder()
        .setting("wal_sender_timeout", "2s")
        .start();
    server.sql(TABLE);
    server.create_slot(SLOT, "walferry");
    server.sql("INSERT INTO item SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n");
    let mut command = Streamer::run(&server.url(), SLOT)
        .args(["--sink", "stdout", "--memory-limit", "1MB"])
        .command();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the slot to be read", || {
        server.slot_active_pid(SLOT).is_some()
    });
    let pid = server.slot_active_pid(SLOT);
    std::thread::sleep(7 * SECONDS);
    assert_eq!(
        server.slot_active_pid(SLOT),
        pid,
        "the server cut the connection"
    );
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut lines = 0;
        let mut buffer = vec![0; 1 << 16];
        while lines < 20000 {
            let count = out.read(&mut buffer).unwrap();
            assert!(count > 0, "the streamer ended");
            lines += buffer[..count].iter().filter(|b| **b == b'\n').count();
        }
        (lines, out)
    });
    let (lines, _out) = reader.join().unwrap();
    assert_eq!(lines, 20000);
    assert_eq!(server.slot_active_pid(SLOT), pid);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_large_transaction_of_which_nothing_is_wanted_does_not_cost_the_connection() {
    let server = Server::builder()
        .setting("wal_sender_timeout", "1s")
        .start();
    let destination = Destination::new();
    server.sql(TABLE);
    server.sql("CREATE TABLE dull (id int PRIMARY KEY, note text)");
    server.create_slot(SLOT, "walferry");
    let mut streamer = destination
        .run(&server, SLOT)
        .args(["--tables", "public.item", "--streaming", "off"])
        .start();
    wait_until("the slot to be read", || {
        server.slot_active_pid(SLOT).is_some()
    });
    let pid = server.slot_active_pid(SLOT);
    server.sql("INSERT INTO dull SELECT n, repeat('x', 100) FROM generate_series(1, 600000) n");
    server.sql("INSERT INTO item VALUES (1, 'x')");
    let end = server.flushed_lsn();
    wait_within(60 * SECONDS, "everything to be acknowledged", || {
        server.confirmed_flush(SLOT) >= Some(end)
    });
    assert_eq!(server.slot_active_pid(SLOT), pid, "the connection was cut");
    assert!(streamer.is_running());
    assert_eq!(destination.delivered().operations(), ["c 1"]);
}

#[test]
fn a_moved_position_is_acknowledged_promptly_and_not_before_the_flush() {
    let server = Server::start_default();
    let destination = Destination::new();
    server.sql(TABLE);
    server.create_slot(SLOT, "walferry");
    let _streamer = destination
        .run(&server, SLOT)
        .args(["--flush-interval", "3s", "--status-interval", "1h"])
        .start();
    wait_until("the slot to be read", || {
        server.slot_active_pid(SLOT).is_some()
    });
    // The first flush of a quiet streamer is at once, the next after the interval.
    for id in 1..=2 {
        server.sql(&format!("INSERT INTO item VALUES ({id}, 'x')"));
        std::thread::sleep(SECONDS / 2);
    }
    let end = server.flushed_lsn();
    wait_until("the events to be in the file", || {
        destination.delivered().events.len() == 2
    });
    assert!(
        server.confirmed_flush(SLOT) < Some(end),
        "acknowledged before the flush"
    );
    wait_within(6 * SECONDS, "the acknowledgement", || {
        server.confirmed_flush(SLOT) >= Some(end)
    });
}

#[test]
fn a_cut_connection_is_made_again_and_nothing_is_lost_or_doubled() {
    let server = Server::start_default();
    let destination = Destination::new();
    server.sql(TABLE);
    server.create_slot(SLOT, "walferry");
    let proxy = FaultProxy::before(&server);
    let mut streamer = destination.run_url(&proxy.url(), SLOT).start();
    for round in 0..6_u64 {
        server.sql(&format!(
            "INSERT INTO item SELECT n, repeat('x', 200) FROM generate_series({}, {}) n",
            round * 10_000,
            round * 10_000 + 9_999
        ));
        std::thread::sleep(SECONDS / 20 * round as u32);
        proxy.cut_after(100_000 * round + 1);
    }
    let end = server.flushed_lsn();
    wait_within(60 * SECONDS, "everything to be acknowledged", || {
        server.confirmed_flush(SLOT) >= Some(end)
    });
    assert!(streamer.is_running());
    streamer.stop().expect_code(0);
    let delivered = destination.delivered();
    delivered.assert_in_commit_order();
    assert_eq!(delivered.events.len(), 60_000);
}
