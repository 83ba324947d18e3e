//! `--start-lsn`: the first start begins at a position, and says what is left out.

mod delivery;

use delivery::{Destination, SECONDS};
use walferry_protocol::Lsn;
use walferry_tests::{Exit, Server, ServerTree};

const SLOT: &str = "ferry";

/// A slot with rows 1 and 2 before the position, and 3 after it.
fn server_with_rows_around(plugin: &str) -> (Server, Lsn) {
    let server = Server::start_default();
    server
        .sql("CREATE TABLE item (id int PRIMARY KEY); CREATE PUBLICATION walferry FOR TABLE item");
    server.create_slot(SLOT, plugin);
    server.sql("INSERT INTO item VALUES (1)");
    server.sql("INSERT INTO item VALUES (2)");
    let start = server.flushed_lsn();
    server.sql("INSERT INTO item VALUES (3)");
    (server, start)
}

fn run(server: &Server, destination: &Destination, arguments: &[&str]) -> Exit {
    let until = server.flushed_lsn().to_string();
    destination
        .run(server, SLOT)
        .args(["--until-lsn", &until])
        .args(arguments)
        .run(20 * SECONDS)
}

fn said(exit: &Exit) -> String {
    exit.stderr.join("\n")
}

#[test]
fn the_first_start_begins_there_with_every_plugin_and_later_ones_where_the_state_says() {
    for plugin in ["walferry", "pgoutput", "wal2json"] {
        if !ServerTree::get().has_plugin(plugin) {
            continue;
        }
        let (server, start) = server_with_rows_around(plugin);
        let before = server.confirmed_flush(SLOT).unwrap();
        let destination = Destination::new();
        let start = start.to_string();
        let exit = run(&server, &destination, &["--start-lsn", &start]).expect_code(0);
        let told = said(&exit);
        assert!(
            told.contains(&format!("starting at {start}, as start-lsn says"))
                && told.contains(&format!("committed between {before}")),
            "{plugin}: {told}"
        );
        assert_eq!(destination.delivered().operations(), ["c 3"], "{plugin}");

        server.sql("INSERT INTO item VALUES (4)");
        let exit = run(&server, &destination, &["--start-lsn", &start]).expect_code(0);
        assert!(
            said(&exit).contains(&format!("start-lsn {start} was for the first start")),
            "{plugin}: {}",
            said(&exit)
        );
        assert_eq!(
            destination.delivered().operations(),
            ["c 3", "c 4"],
            "{plugin}"
        );
    }
}

#[test]
fn a_transaction_open_at_the_position_comes_whole() {
    let server = Server::start_default();
    server.sql("CREATE TABLE item (id int PRIMARY KEY)");
    server.create_slot(SLOT, "walferry");
    let mut client = server.client();
    let mut open = client.transaction().unwrap();
    open.execute("INSERT INTO item VALUES (1)", &[]).unwrap();
    server.sql("INSERT INTO item VALUES (2)");
    let start = server.flushed_lsn().to_string();
    open.execute("INSERT INTO item VALUES (3)", &[]).unwrap();
    open.commit().unwrap();
    let destination = Destination::new();
    run(&server, &destination, &["--start-lsn", &start]).expect_code(0);
    assert_eq!(destination.delivered().operations(), ["c 1", "c 3"]);
}

#[test]
fn a_position_that_the_slot_does_not_have_is_refused_and_nothing_is_moved() {
    let (server, start) = server_with_rows_around("walferry");
    let destination = Destination::new();
    let begin = server.confirmed_flush(SLOT).unwrap();
    for (asked, message) in [
        ("0/1", "is past start-lsn 0/1: changes may be missing"),
        ("FFFF/0", "past the end of the server's WAL"),
    ] {
        let exit = destination
            .run(&server, SLOT)
            .args(["--start-lsn", asked])
            .run(20 * SECONDS)
            .expect_code(1);
        assert!(said(&exit).contains(message), "{}", said(&exit));
        assert_eq!(server.confirmed_flush(SLOT), Some(begin));
    }

    // A slot that is not there is not made for it.
    let start = start.to_string();
    let exit = destination
        .run(&server, "missing")
        .args(["--create-slot", "--start-lsn", &start])
        .run(20 * SECONDS)
        .expect_code(1);
    assert!(
        said(&exit).contains("a new one has nothing of before it is made"),
        "{}",
        said(&exit)
    );
    assert_eq!(server.confirmed_flush("missing"), None);

    let exit = run(
        &server,
        &destination,
        &["--start-lsn", "0/1", "--accept-gap"],
    )
    .expect_code(0);
    assert!(said(&exit).contains("are not delivered"), "{}", said(&exit));
    assert_eq!(destination.delivered().operations(), ["c 1", "c 2", "c 3"]);

    let usage = run(&server, &destination, &["--start-lsn", "FFFF/0"]).expect_code(2);
    assert!(
        said(&usage).contains("is before the start"),
        "{}",
        said(&usage)
    );
}
