//! Prepared transactions, with two-phase on and off.

mod delivery;

use delivery::{Destination, SECONDS};
use walferry_tests::{Server, Streamer, StreamerBuilder, wait_until};

const SLOT: &str = "ferry";

fn server(two_phase: bool) -> Server {
    let server = Server::builder()
        .setting("max_prepared_transactions", 10)
        .start();
    server.sql("CREATE TABLE item (id int PRIMARY KEY, note text)");
    server.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{SLOT}', 'walferry', false, {two_phase})"
    ));
    server
}

fn run(destination: &Destination, server: &Server) -> StreamerBuilder {
    destination.run(server, SLOT).arg("--two-phase")
}

fn run_until_now(destination: &Destination, server: &Server) {
    run(destination, server)
        .args(["--until-lsn", &server.flushed_lsn().to_string()])
        .run(30 * SECONDS)
        .expect_code(0);
}

const PREPARE: &str = "BEGIN; INSERT INTO item VALUES (1, 'one'); PREPARE TRANSACTION 'g'";

#[test]
fn with_two_phase_off_nothing_is_sent_before_commit_prepared() {
    let server = server(false);
    let destination = Destination::new();
    server.sql(PREPARE);
    destination.run_until_now(&server, SLOT);
    assert!(destination.delivered().events.is_empty());
    server.sql("COMMIT PREPARED 'g'");
    destination.run_until_now(&server, SLOT);
    assert_eq!(destination.delivered().operations(), ["c 1"]);
}

#[test]
fn a_prepare_that_was_acknowledged_is_delivered_after_a_kill_before_its_commit() {
    let server = server(true);
    let destination = Destination::new();
    let mut streamer = run(&destination, &server).start();
    server.sql(PREPARE);
    let prepared = server.flushed_lsn();
    wait_until("the PREPARE to be acknowledged", || {
        server.confirmed_flush(SLOT) >= Some(prepared)
    });
    assert!(
        destination.delivered().events.is_empty(),
        "sent before COMMIT PREPARED"
    );
    streamer.kill();
    server.sql("INSERT INTO item VALUES (2, 'two')");
    server.sql("COMMIT PREPARED 'g'");
    run_until_now(&destination, &server);
    let delivered = destination.delivered();
    assert_eq!(delivered.operations(), ["c 2", "c 1"]);
    delivered.assert_in_commit_order();
    run_until_now(&destination, &server);
    assert_eq!(destination.delivered().events.len(), 2);
    let left = std::fs::read_dir(destination.state_dir().join("prepared")).unwrap();
    assert_eq!(left.count(), 0, "the stored rows were left behind");
}

#[test]
fn a_prepared_transaction_that_is_rolled_back_is_never_delivered() {
    let server = server(true);
    let destination = Destination::new();
    server.sql(PREPARE);
    run_until_now(&destination, &server);
    server.sql("ROLLBACK PREPARED 'g'");
    server.sql("INSERT INTO item VALUES (2, 'two')");
    run_until_now(&destination, &server);
    assert_eq!(destination.delivered().operations(), ["c 2"]);
    let left = std::fs::read_dir(destination.state_dir().join("prepared")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn a_stored_prepare_is_read_under_the_schema_it_was_written_under() {
    let server = server(true);
    let destination = Destination::new();
    server.sql("CREATE TABLE other (id int PRIMARY KEY, a text, b text)");
    server.sql("BEGIN; INSERT INTO other VALUES (1, 'a', 'b'); PREPARE TRANSACTION 'g'");
    run_until_now(&destination, &server);
    server.sql("COMMIT PREPARED 'g'");
    server.sql("ALTER TABLE other DROP COLUMN a; INSERT INTO other VALUES (2, 'c')");
    run_until_now(&destination, &server);
    let delivered = destination.delivered();
    assert_eq!(delivered.events[0]["after"]["a"], "a");
    assert_eq!(delivered.events[0]["after"]["b"], "b");
    assert_eq!(delivered.events[1]["after"]["b"], "c");
}

#[test]
fn without_a_state_folder_a_prepare_is_not_acknowledged_before_its_commit() {
    let server = server(true);
    let mut streamer = Streamer::run(&server.url(), SLOT)
        .args(["--sink", "stdout", "--two-phase"])
        .start();
    server.sql(PREPARE);
    let prepared = server.flushed_lsn();
    server.sql("INSERT INTO item VALUES (2, 'two')");
    streamer.wait_for_stdout_lines(1);
    std::thread::sleep(2 * SECONDS);
    assert!(server.confirmed_flush(SLOT) < Some(prepared));
    server.sql("COMMIT PREPARED 'g'");
    let end = server.flushed_lsn();
    streamer.wait_for_stdout_lines(2);
    wait_until("all to be acknowledged", || {
        server.confirmed_flush(SLOT) >= Some(end)
    });
    streamer.stop().expect_code(0);
}

#[test]
fn a_commit_prepared_without_stored_rows_is_explained() {
    let server = server(true);
    let destination = Destination::new();
    server.sql(PREPARE);
    run_until_now(&destination, &server);
    for entry in std::fs::read_dir(destination.state_dir().join("prepared")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    server.sql("COMMIT PREPARED 'g'");
    let exit = run(&destination, &server).run(30 * SECONDS).expect_code(1);
    let told = exit.stderr.join("\n");
    assert!(
        told.contains("the rows of prepared transaction \"g\" are missing"),
        "{told}"
    );
}
