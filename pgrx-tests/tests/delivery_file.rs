//! Delivery into a file: what is in it, and what the slot was told.

mod delivery;

use delivery::{Delivered, Destination, SECONDS};
use walferry_tests::{Server, Streamer, wait_until};

const TABLE: &str = "CREATE TABLE item (id int PRIMARY KEY, note text)";

#[test]
fn committed_changes_are_in_the_file_in_commit_order_and_rolled_back_ones_are_not() {
    let server = Server::start_default();
    let destination = Destination::new();
    server.sql(TABLE);
    server.create_slot("ferry", "walferry");
    let mut streamer = destination.run(&server, "ferry").start();
    server.sql("INSERT INTO item VALUES (1, 'one')");
    server.sql("BEGIN; INSERT INTO item VALUES (2, 'two'); ROLLBACK");
    server.sql(
        "BEGIN; INSERT INTO item VALUES (3, 'three'); SAVEPOINT s; INSERT INTO item VALUES (4, 'four'); \
         ROLLBACK TO s; INSERT INTO item VALUES (5, 'five'); COMMIT",
    );
    server.sql("UPDATE item SET note = 'eins' WHERE id = 1; DELETE FROM item WHERE id = 3");
    let end = server.flushed_lsn();
    wait_until("the slot to be confirmed past the changes", || {
        server.confirmed_flush("ferry") >= Some(end)
    });
    let delivered = destination.delivered();
    assert_eq!(delivered.operations(), ["c 1", "c 3", "c 5", "u 1", "d 3"]);
    delivered.assert_in_commit_order();
    assert!(streamer.is_running());
    streamer.stop().expect_code(0);
}

#[test]
fn a_restart_goes_on_where_it_stopped_with_nothing_lost_or_doubled() {
    let server = Server::start_default();
    let destination = Destination::new();
    server.sql(TABLE);
    server.create_slot("ferry", "walferry");
    for round in 0..4 {
        let streamer = destination.run(&server, "ferry").start();
        for n in 0..10 {
            let id = round * 10 + n;
            server.sql(&format!("INSERT INTO item VALUES ({id}, 'x')"));
        }
        if round % 2 == 0 {
            streamer.stop().expect_code(0);
        } else {
            drop(streamer);
        }
    }
    destination.run_until_now(&server, "ferry");
    let expected: Vec<String> = (0..40).map(|id| format!("c {id}")).collect();
    assert_eq!(destination.delivered().operations(), expected);
}

#[test]
fn a_changed_primary_key_names_the_old_key_too() {
    let server = Server::start_default();
    let destination = Destination::new();
    server.sql(TABLE);
    server.create_slot("ferry", "walferry");
    server.sql("INSERT INTO item VALUES (1, 'one')");
    server.sql("UPDATE item SET id = 7 WHERE id = 1");
    destination.run_until_now(&server, "ferry");
    let delivered = destination.delivered();
    let update = &delivered.events[1];
    assert_eq!(update["op"], "u");
    assert_eq!(update["before"]["id"], 1);
    assert_eq!(update["after"]["id"], 7);
}

#[test]
fn a_terminated_streamer_finishes_and_acknowledges_what_it_received() {
    let server = Server::start_default();
    let destination = Destination::new();
    server.sql(TABLE);
    server.create_slot("ferry", "walferry");
    // So long that only the end can have flushed.
    let mut streamer = destination
        .run(&server, "ferry")
        .args(["--flush-interval", "1h"])
        .start();
    server.sql("INSERT INTO item VALUES (1, 'one')");
    wait_until("the event to be in the file", || {
        destination.delivered().events.len() == 1
    });
    let end = server.flushed_lsn();
    // Two at once, as `timeout` signals the process and then its group: one
    // wish, not an order to drop everything.
    streamer.terminate();
    streamer.signal(libc::SIGINT);
    let exit = streamer.wait(SECONDS * 20).expect_code(0);
    assert!(server.confirmed_flush("ferry") >= Some(end), "{exit:?}");
    assert_eq!(Delivered::read(&destination.file()).operations(), ["c 1"]);
}

#[test]
fn a_second_signal_ends_at_once() {
    let server = Server::start_default();
    server.sql(TABLE);
    server.create_slot("ferry", "walferry");
    server.sql("INSERT INTO item SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n");
    // Nobody reads the pipe, so finishing would take for ever.
    let mut command = Streamer::run(&server.url(), "ferry")
        .args(["--sink", "stdout"])
        .command();
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the slot to be read", || {
        server.slot_active_pid("ferry").is_some()
    });
    std::thread::sleep(SECONDS / 2);
    let signal = || {
        // SAFETY: kill has no memory effects; the child is ours and not waited for yet.
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    };
    signal();
    std::thread::sleep(SECONDS);
    signal();
    wait_until("the streamer to end", || {
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
