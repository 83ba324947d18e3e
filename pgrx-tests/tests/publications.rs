//! The publication that pgoutput reads: made on demand, used when it is there,
//! never dropped; and what is said when it is not as it should be.

mod delivery;

use delivery::{Destination, SECONDS};
use walferry_tests::{Server, Streamer, wait_until};

fn server() -> Server {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE lines (id int PRIMARY KEY); \
         CREATE TABLE audit (note text); \
         CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); \
         CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10); \
         CREATE ROLE owner LOGIN REPLICATION; ALTER TABLE orders OWNER TO owner; ALTER TABLE parts OWNER TO owner; ALTER TABLE parts_low OWNER TO owner",
    );
    server
}

fn as_owner(server: &Server) -> String {
    server.url().replacen("postgres@", "owner@", 1)
}

fn published(server: &Server, name: &str) -> Vec<String> {
    server.texts_in(
        "postgres",
        &format!("SELECT tablename FROM pg_publication_tables WHERE pubname = '{name}' ORDER BY 1"),
    )
}

#[test]
fn a_publication_is_made_with_the_slot_of_what_the_role_owns_and_the_rest_is_said() {
    let server = server();
    let destination = Destination::new();
    let run = |arguments: &[&str]| {
        destination
            .run_url(&as_owner(&server), "ferry")
            .args(["--plugin", "pgoutput", "--until-lsn", "0/1"])
            .args(arguments.iter().copied())
            .run(30 * SECONDS)
    };
    // Without the right to make one.
    let exit = run(&["--create-slot"]).expect_code(1);
    let printed = exit.stderr.join("\n");
    assert!(printed.contains("GRANT CREATE ON DATABASE"), "{printed}");
    assert!(
        printed.contains("FOR TABLE \"public\".\"orders\""),
        "{printed}"
    );
    assert_eq!(
        server.confirmed_flush("ferry"),
        None,
        "a slot was left behind"
    );

    server.sql("GRANT CREATE ON DATABASE postgres TO owner");
    let exit = run(&["--create-slot"]).expect_code(0);
    let printed = exit.stderr.join("\n");
    // A root stands for its partitions, so that a new one's rows come too; a
    // table without an identity would be broken by being published.
    assert_eq!(published(&server, "walferry"), ["orders", "parts_low"]);
    for part in [
        "created publication \"walferry\" for public.orders, public.parts",
        "ALTER PUBLICATION \"walferry\" ADD TABLE \"public\".\"lines\"",
        "without a replica identity the server would refuse their UPDATEs and DELETEs: public.audit",
    ] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    server.sql(
        "CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (20); \
         INSERT INTO orders VALUES (1); INSERT INTO lines VALUES (2); INSERT INTO parts VALUES (3), (13)",
    );
    let end = server.flushed_lsn().to_string();
    destination
        .run_url(&as_owner(&server), "ferry")
        .args(["--until-lsn", &end])
        .run(30 * SECONDS)
        .expect_code(0);
    assert_eq!(destination.delivered().operations(), ["c 1", "c 3", "c 13"]);
}

#[test]
fn a_slot_that_is_there_gets_no_publication_younger_than_itself() {
    let server = server();
    server.create_slot("ferry", "pgoutput");
    let exit = Streamer::run(&server.url(), "ferry")
        .args(["--create-slot", "--sink", "null"])
        .run(30 * SECONDS)
        .expect_code(1);
    let printed = exit.stderr.join("\n");
    for part in [
        "reading with plugin pgoutput: it is the slot's",
        "publication \"walferry\" does not exist",
        "hint: add --create-slot with a new slot",
        "CREATE PUBLICATION \"walferry\" FOR ALL TABLES",
    ] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
}

#[test]
fn a_publication_dropped_while_it_is_read_stops_the_run_and_loses_nothing() {
    for reader in ["stream", "sql"] {
        dropped_while_it_is_read(reader);
    }
}

fn dropped_while_it_is_read(reader: &str) {
    let server = server();
    // Where warnings are kept from clients, one that matters comes all the same.
    server.sql("ALTER ROLE postgres SET client_min_messages = 'error'");
    server.sql("DROP TABLE audit; CREATE PUBLICATION one FOR ALL TABLES; CREATE PUBLICATION two FOR ALL TABLES");
    let destination = Destination::new();
    let run = |publication: &str| {
        destination
            .run(&server, "ferry")
            .args([
                "--plugin",
                "pgoutput",
                "--create-slot",
                "--publication",
                publication,
            ])
            .args(["--tables", "public.orders", "--reader", reader])
    };
    let mut streamer = run("one").start();
    streamer.wait_for_stderr("delivering from");
    server.sql("INSERT INTO orders VALUES (1); INSERT INTO lines VALUES (1)");
    wait_until("the first row", || {
        !destination.delivered().events.is_empty()
    });
    server.sql("DROP PUBLICATION one; INSERT INTO orders VALUES (2)");
    let exit = streamer.wait(30 * SECONDS).expect_code(1);
    let printed = exit.stderr.join("\n");
    for part in [
        "error: publication \"one\" does not exist",
        "nothing of what could not be read was acknowledged",
    ] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    let end = server.flushed_lsn().to_string();
    run("two")
        .args(["--until-lsn", &end])
        .run(30 * SECONDS)
        .expect_code(0);
    assert_eq!(destination.delivered().operations(), ["c 1", "c 2"]);
}

#[test]
fn the_columns_and_prefixes_of_a_filter_hold_although_pgoutput_sends_all() {
    let server = server();
    server.sql("CREATE TABLE wide (id int PRIMARY KEY, shown text, hidden text); CREATE PUBLICATION walferry FOR TABLE wide");
    server.create_slot("ferry", "pgoutput");
    server.sql(
        "INSERT INTO wide VALUES (1, 's', 'h'); \
         SELECT pg_logical_emit_message(true, 'audit', 'm'), pg_logical_emit_message(false, 'other', 'm')",
    );
    let destination = Destination::new();
    let filter = destination.folder().join("filter.yaml");
    std::fs::write(
        &filter,
        "allow:\n  schema: public\n  allow:\n    wide:\n      allow: [shown]\n",
    )
    .expect("the filter");
    let end = server.flushed_lsn().to_string();
    destination
        .run(&server, "ferry")
        .arg("--filter")
        .arg(&filter)
        .args([
            "--until-lsn",
            &end,
            "--plugin-option",
            "message_prefixes=aud*",
        ])
        .run(30 * SECONDS)
        .expect_code(0);
    let delivered = destination.delivered();
    assert_eq!(delivered.operations(), ["c 1", "m null"]);
    assert_eq!(
        delivered.events[0]["after"],
        serde_json::json!({"id": 1, "shown": "s"})
    );
    assert_eq!(delivered.events[1]["message"]["prefix"], "audit");
}
