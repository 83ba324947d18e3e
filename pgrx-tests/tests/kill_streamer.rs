//! The streamer is killed with SIGKILL at named places and at random moments,
//! the server crashed, all under load: what was committed is in the file once,
//! in commit order, and the slot was never told more than was safe.

mod delivery;
mod kills;
mod workload;

use delivery::Destination;
use kills::{FAILPOINTS, Plan, assert_never_told_too_much, kill_again_and_again};
use walferry_tests::{Server, wait_within};
use workload::Workload;

const SLOT: &str = "ferry";

fn server(two_phase: bool) -> Server {
    let server = Server::builder()
        // Makes even small transactions stream.
        .setting("logical_decoding_work_mem", "64kB")
        .setting("max_prepared_transactions", 20)
        .setting("wal_sender_timeout", "20s")
        .start();
    workload::create_tables(&server);
    let option = if two_phase { ", false, true" } else { "" };
    server.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{SLOT}', 'walferry'{option})"
    ));
    server
}

#[test]
fn killed_at_any_place_under_load_it_delivers_every_commit_once_in_order() {
    let server = server(false);
    let destination = Destination::new();
    let workload = Workload::start(&server, 3, false);
    let plan = Plan {
        slot: SLOT,
        kills: 52,
        crash_every: 13,
        places: FAILPOINTS,
        run: &|| destination.run(&server, SLOT),
    };
    let looks = kill_again_and_again(&server, &destination, &plan);
    workload.finish();
    destination.run_until_now(&server, SLOT);
    let delivered = destination.delivered();
    delivered.assert_in_commit_order();
    workload::assert_equal(&server, &delivered);
    assert_never_told_too_much(&looks, &destination);
    let moved = looks
        .windows(2)
        .filter(|two| two[0].position < two[1].position);
    assert!(moved.count() > 20, "the workload stood still");
}

#[test]
fn killed_between_prepare_and_commit_prepared_it_delivers_the_rows_once() {
    let server = server(true);
    let destination = Destination::new();
    let workload = Workload::start(&server, 3, true);
    let prepared = [("prepared-stored", 10), ("prepared-stored", 3)];
    let plan = Plan {
        slot: SLOT,
        kills: 20,
        crash_every: 10,
        places: &[FAILPOINTS, &prepared].concat(),
        run: &|| destination.run(&server, SLOT).arg("--two-phase"),
    };
    let looks = kill_again_and_again(&server, &destination, &plan);
    workload.finish();
    workload::end_prepared(&server);
    let end = server.flushed_lsn();
    destination
        .run(&server, SLOT)
        .args(["--two-phase", "--until-lsn", &end.to_string()])
        .run(120 * delivery::SECONDS)
        .expect_code(0);
    let delivered = destination.delivered();
    delivered.assert_in_commit_order();
    workload::assert_equal(&server, &delivered);
    assert_never_told_too_much(&looks, &destination);
    let left =
        std::fs::read_dir(destination.state_dir().join("prepared")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "stored rows were left behind");
}

#[test]
fn a_streamer_that_stays_survives_servers_that_crash() {
    let server = server(false);
    let destination = Destination::new();
    let workload = Workload::start(&server, 3, false);
    let mut streamer = destination
        .run(&server, SLOT)
        .args(["--memory-limit", "1MB"])
        .start();
    for _ in 0..5 {
        std::thread::sleep(delivery::SECONDS);
        server.crash_and_recover();
    }
    workload.finish();
    let end = server.flushed_lsn();
    wait_within(
        60 * delivery::SECONDS,
        "everything to be acknowledged",
        || server.confirmed_flush(SLOT) >= Some(end),
    );
    assert!(streamer.is_running());
    streamer.stop().expect_code(0);
    let delivered = destination.delivered();
    delivered.assert_in_commit_order();
    workload::assert_equal(&server, &delivered);
}
