//! A database in which nothing happens does not make the server keep WAL.

mod delivery;

use delivery::{Destination, SECONDS};
use walferry_tests::{Encoding, Server, wait_until, wait_within};

const SLOT: &str = "ferry";

#[test]
fn an_idle_database_with_traffic_in_another_does_not_pin_wal() {
    let server = Server::start_default();
    let destination = Destination::new();
    server.create_database("busy", Encoding::Utf8);
    server.sql_in("busy", "CREATE TABLE item (id int)");
    server.create_slot(SLOT, "walferry");
    let streamer = destination.run(&server, SLOT).start();
    wait_until("the slot to be read", || {
        server.slot_active_pid(SLOT).is_some()
    });
    let before = server.restart_lsn(SLOT).unwrap();
    for _ in 0..3 {
        server.sql_in("busy", "INSERT INTO item SELECT generate_series(1, 20000)");
        server.sql_in("busy", "CHECKPOINT");
        let end = server.flushed_lsn();
        wait_within(30 * SECONDS, "the idle slot to be confirmed", || {
            server.confirmed_flush(SLOT) >= Some(end)
        });
    }
    wait_within(30 * SECONDS, "the server to be free to drop WAL", || {
        server.sql_in("busy", "CHECKPOINT");
        server.restart_lsn(SLOT).unwrap().0 > before.0 + 1_000_000
    });
    streamer.stop().expect_code(0);
}

#[test]
fn until_lsn_returns_on_an_idle_server() {
    let server = Server::start_default();
    let destination = Destination::new();
    server.create_slot(SLOT, "walferry");
    for _ in 0..3 {
        destination.run_until_now(&server, SLOT);
    }
    assert!(destination.delivered().events.is_empty());
}

#[test]
fn until_lsn_delivers_what_ends_at_it_and_nothing_after() {
    let server = Server::start_default();
    let destination = Destination::new();
    server.sql("CREATE TABLE item (id int PRIMARY KEY)");
    server.create_slot(SLOT, "walferry");
    server.sql("INSERT INTO item VALUES (1)");
    let end = server.flushed_lsn();
    server.sql("INSERT INTO item VALUES (2)");
    server.sql("INSERT INTO item SELECT generate_series(3, 50000)");
    destination.run_until(&server, SLOT, end);
    assert_eq!(destination.delivered().operations(), ["c 1"]);
    let confirmed = server.confirmed_flush(SLOT).unwrap();
    assert!(
        confirmed <= end,
        "{confirmed} was acknowledged, {end} asked for"
    );
    assert!(confirmed.0 + 8192 > end.0);
    destination.run_until_now(&server, SLOT);
    assert_eq!(destination.delivered().events.len(), 50_000);
}
