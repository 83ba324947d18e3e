//! The state belongs to one slot of one server, and says so when it does not fit.

mod delivery;

use delivery::{Destination, SECONDS};
use walferry_tests::{Exit, Server, Streamer, wait_until};

const SLOT: &str = "ferry";

fn server_with_a_row() -> (Server, Destination) {
    let server = Server::start_default();
    let destination = Destination::new();
    server.sql("CREATE TABLE item (id int PRIMARY KEY)");
    server.create_slot(SLOT, "walferry");
    server.sql("INSERT INTO item VALUES (1)");
    destination.run_until_now(&server, SLOT);
    (server, destination)
}

fn refused(exit: Exit, message: &str) -> Exit {
    let exit = exit.expect_code(1);
    let told = exit.stderr.join("\n");
    assert!(told.contains(message), "no {message:?} in:\n{told}");
    exit
}

#[test]
fn a_slot_that_was_dropped_and_created_again_is_refused_until_the_gap_is_accepted() {
    let (server, destination) = server_with_a_row();
    server.sql("SELECT pg_drop_replication_slot('ferry')");
    server.sql("INSERT INTO item VALUES (2)");
    server.create_slot(SLOT, "walferry");
    server.sql("INSERT INTO item VALUES (3)");
    let exit = destination.run(&server, SLOT).run(20 * SECONDS);
    let exit = refused(exit, "changes may be missing");
    assert!(exit.stderr.join("\n").contains("--accept-gap"));
    assert_eq!(destination.delivered().operations(), ["c 1"]);
    destination
        .run(&server, SLOT)
        .args([
            "--accept-gap",
            "--until-lsn",
            &server.flushed_lsn().to_string(),
        ])
        .run(20 * SECONDS)
        .expect_code(0);
    assert_eq!(destination.delivered().operations(), ["c 1", "c 3"]);
}

#[test]
fn a_slot_that_somebody_else_read_is_refused() {
    let (server, destination) = server_with_a_row();
    server.sql("INSERT INTO item VALUES (2)");
    let end = server.flushed_lsn();
    server.sql(&format!(
        "SELECT pg_replication_slot_advance('ferry', '{end}')"
    ));
    refused(
        destination.run(&server, SLOT).run(20 * SECONDS),
        "changes may be missing",
    );
}

#[test]
fn a_state_of_another_server_is_refused() {
    let (_server, destination) = server_with_a_row();
    let other = Server::builder().own_system_identifier().start();
    other.create_slot(SLOT, "walferry");
    refused(
        destination.run(&other, SLOT).run(20 * SECONDS),
        "the state belongs to another source",
    );
}

#[test]
fn a_state_of_another_slot_is_refused() {
    let (server, destination) = server_with_a_row();
    server.create_slot("another", "walferry");
    refused(
        destination.run(&server, "another").run(20 * SECONDS),
        "the state belongs to another source",
    );
}

/// A copy of the server's files has its identifier, timeline and slot, and
/// gives new commits positions that were delivered once.
#[test]
fn a_server_that_was_put_back_to_an_older_copy_is_refused() {
    let (server, destination) = server_with_a_row();
    let copy = server.scratch_dir().join("copy");
    let data = server.data_dir();
    let put = |from: &std::path::Path, to: &std::path::Path| {
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([from, to])
            .status();
        assert!(copied.unwrap().success());
    };
    server.stop(walferry_tests::Shutdown::Fast);
    put(&data, &copy);
    server.start();
    server.sql("INSERT INTO item SELECT generate_series(2, 20000)");
    destination.run_until_now(&server, SLOT);
    assert_eq!(destination.delivered().events.len(), 20_000);
    server.stop(walferry_tests::Shutdown::Fast);
    std::fs::remove_dir_all(&data).unwrap();
    put(&copy, &data);
    server.start();
    server.sql("INSERT INTO item VALUES (-1)");
    let exit = refused(
        destination.run(&server, SLOT).run(20 * SECONDS),
        "the server's WAL ends before what was delivered",
    );
    assert!(exit.stderr.join("\n").contains("restored"));
    assert_eq!(destination.delivered().events.len(), 20_000);
}

#[test]
fn a_file_that_was_cut_by_somebody_else_is_refused() {
    let (server, destination) = server_with_a_row();
    std::fs::write(destination.file(), b"").unwrap();
    refused(
        destination.run(&server, SLOT).run(20 * SECONDS),
        "is not as delivery left it",
    );
}

#[test]
fn a_file_that_holds_something_else_is_refused_unless_appending_is_asked_for() {
    let server = Server::start_default();
    let destination = Destination::new();
    server.sql("CREATE TABLE item (id int PRIMARY KEY)");
    server.create_slot(SLOT, "walferry");
    server.sql("INSERT INTO item VALUES (1)");
    std::fs::write(destination.file(), b"{\"mine\":1}\n").unwrap();
    refused(
        destination.run(&server, SLOT).run(20 * SECONDS),
        "the state knows nothing of what is in it",
    );
    assert_eq!(
        std::fs::read(destination.file()).unwrap(),
        b"{\"mine\":1}\n"
    );
    let url = format!("{}?append=true", destination.url());
    let state = destination.folder().join("another");
    Streamer::run(&server.url(), SLOT)
        .args([
            "--sink",
            &url,
            "--until-lsn",
            &server.flushed_lsn().to_string(),
        ])
        .arg("--state-dir")
        .arg(&state)
        .run(20 * SECONDS)
        .expect_code(0);
    assert_eq!(destination.delivered().events.len(), 2);
}

#[test]
fn two_streamers_on_one_state_folder_are_refused() {
    let (server, destination) = server_with_a_row();
    let streamer = destination.run(&server, SLOT).start();
    wait_until("the slot to be read", || {
        server.slot_active_pid(SLOT).is_some()
    });
    refused(
        destination.run(&server, SLOT).run(20 * SECONDS),
        "another streamer uses the state folder",
    );
    streamer.stop().expect_code(0);
}

#[test]
fn a_damaged_state_file_is_refused() {
    let (server, destination) = server_with_a_row();
    std::fs::write(destination.state_dir().join("state"), b"nonsense").unwrap();
    refused(
        destination.run(&server, SLOT).run(20 * SECONDS),
        "is damaged",
    );
}

#[test]
fn a_torn_tail_is_cut_off_and_delivered_again() {
    let (server, destination) = server_with_a_row();
    let mut bytes = std::fs::read(destination.file()).unwrap();
    bytes.extend_from_slice(b"{\"torn\":");
    std::fs::write(destination.file(), &bytes).unwrap();
    server.sql("INSERT INTO item VALUES (2)");
    destination.run_until_now(&server, SLOT);
    assert_eq!(destination.delivered().operations(), ["c 1", "c 2"]);
}

#[test]
fn a_restart_while_transactions_are_in_progress_delivers_them_once_they_commit() {
    let server = Server::builder()
        .setting("logical_decoding_work_mem", "64kB")
        .start();
    let destination = Destination::new();
    server.sql("CREATE TABLE item (id int PRIMARY KEY)");
    server.create_slot(SLOT, "walferry");
    let mut open = server.client();
    open.batch_execute("BEGIN; INSERT INTO item SELECT generate_series(1000, 3000)")
        .unwrap();
    server.sql("INSERT INTO item VALUES (1)");
    destination.run_until_now(&server, SLOT);
    assert_eq!(destination.delivered().operations(), ["c 1"]);
    open.batch_execute("INSERT INTO item VALUES (3001)")
        .unwrap();
    server.sql("INSERT INTO item VALUES (2)");
    destination.run_until_now(&server, SLOT);
    assert_eq!(destination.delivered().operations(), ["c 1", "c 2"]);
    open.batch_execute("COMMIT").unwrap();
    destination.run_until_now(&server, SLOT);
    let delivered = destination.delivered();
    assert_eq!(delivered.events.len(), 2 + 2002);
    delivered.assert_in_commit_order();
}

#[test]
fn after_a_promotion_delivery_goes_on_only_if_the_new_primary_has_everything() {
    let (server, destination) = server_with_a_row();
    server.sql("INSERT INTO item VALUES (2)");
    // A promotion in place: a standby with the same slot exists from 17 on only.
    server.stop(walferry_tests::Shutdown::Fast);
    std::fs::write(server.data_dir().join("standby.signal"), b"").unwrap();
    server.start();
    server.promote();
    wait_until("the promotion", || {
        !server.value::<bool>("SELECT pg_is_in_recovery()")
    });
    server.sql("INSERT INTO item VALUES (3)");
    destination.run_until_now(&server, SLOT);
    assert_eq!(destination.delivered().operations(), ["c 1", "c 2", "c 3"]);
}
