//! What is wal2json's own: tables that it can't tell about, filters and ids,
//! a schema that changes while rows are read, server encodings.

mod delivery;

use delivery::{Destination, SECONDS};
use serde_json::Value;
use walferry_protocol::Lsn;
use walferry_tests::{Encoding, Exit, Server};

fn read(server: &Server, slot: &str, arguments: &[&str]) -> (Vec<Value>, Exit) {
    let destination = Destination::new();
    let end = server.flushed_lsn();
    let exit = destination
        .run(server, slot)
        .args(["--plugin", "wal2json", "--until-lsn", &end.to_string()])
        .args(arguments.iter().copied())
        .run(60 * SECONDS);
    (destination.delivered().events, exit)
}

/// LSNs and index of an event, with its operation and table.
fn id(event: &Value) -> (u64, u64, u64, String) {
    let source = &event["source"];
    let number = |name: &str| source[name].as_u64().expect("a number");
    let what = format!("{} {}", event["op"], source["table"]);
    (number("lsn"), number("change_lsn"), number("seq"), what)
}

#[test]
fn tables_it_can_not_tell_about_are_refused_at_start_and_left_out_once_accepted() {
    let server = Server::start_default();
    server.sql("CREATE TABLE keyless (a int); CREATE TABLE keyed (id int PRIMARY KEY)");
    server.create_slot("s", "wal2json");
    server.sql("INSERT INTO keyless VALUES (1)");
    server.sql("UPDATE keyless SET a = 2");
    server.sql("DELETE FROM keyless");
    server.sql("INSERT INTO keyed VALUES (1)");
    // The statistics come when a session ends, or at its leisure.
    walferry_tests::wait_until("the statistics", || {
        server.value::<i64>("SELECT pg_stat_get_tuples_deleted('keyless'::regclass)") > 0
    });
    let (events, exit) = read(&server, "s", &[]);
    let printed = exit.expect_code(1).stderr.join("\n");
    assert!(events.is_empty());
    for part in [
        "public.keyless (1 updates, 1 deletes)",
        "REPLICA IDENTITY FULL",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
    let (events, exit) = read(&server, "s", &["--missing-identity", "accept"]);
    let printed = exit.expect_code(0).stderr.join("\n");
    let operations: Vec<String> = events.iter().map(|event| id(event).3).collect();
    assert_eq!(operations, [r#""c" "keyless""#, r#""c" "keyed""#]);
    for part in [
        "wal2json leaves out UPDATEs and DELETEs",
        "no tuple identifier for UPDATE in table",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
}

#[test]
fn ids_are_the_same_with_filters_and_after_rollbacks_to_savepoints() {
    let server = Server::start_default();
    server.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE ab (id int PRIMARY KEY)");
    for slot in ["all", "plain", "glob", "without", "native"] {
        let plugin = if slot == "native" {
            "walferry"
        } else {
            "wal2json"
        };
        server.create_slot(slot, plugin);
    }
    server.sql(
        "BEGIN; COPY a FROM PROGRAM 'seq 1 40'; SAVEPOINT s; COPY b FROM PROGRAM 'seq 1 40'; ROLLBACK TO s; \
         COPY b FROM PROGRAM 'seq 101 140'; SELECT pg_logical_emit_message(true, 'p', 'm'); COPY ab FROM PROGRAM 'seq 1 9'; TRUNCATE b; COMMIT",
    );
    let ids = |slot: &str, arguments: &[&str]| -> Vec<_> {
        let (events, exit) = read(&server, slot, arguments);
        exit.expect_code(0);
        events.iter().map(id).collect()
    };
    let all = ids("all", &[]);
    assert_eq!(all.len(), 40 + 40 + 1 + 9 + 1);
    let destination = Destination::new();
    destination.run_until_now(&server, "native");
    let native: Vec<_> = destination.delivered().events.iter().map(id).collect();
    assert_eq!(all, native);
    let of = |tables: &[&str]| -> Vec<_> {
        let kept = |id: &&(u64, u64, u64, String)| {
            let table = id.3.split_whitespace().last().expect("a table");
            tables.contains(&table)
        };
        all.iter().filter(kept).cloned().collect()
    };
    // Left to the plugin, and not.
    assert_eq!(
        ids(
            "plain",
            &["--tables", "public.b", "--plugin-option", "messages=off"]
        ),
        of(&[r#""b""#])
    );
    assert_eq!(
        ids("glob", &["--tables", "*.a*"]),
        of(&[r#""a""#, r#""ab""#, r#""""#])
    );
    assert_eq!(
        ids("without", &["--exclude-tables", "public.a"]),
        of(&[r#""b""#, r#""ab""#, r#""""#])
    );
}

#[test]
fn rows_are_read_right_while_their_table_changes() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a text, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
    );
    server.create_slot("s", "wal2json");
    let destination = Destination::new();
    let streamer = destination
        .run(&server, "s")
        .args(["--plugin", "wal2json", "--flush-interval", "20ms"])
        .start();
    let delivered = |statements: &str| -> Value {
        server.sql(statements);
        let end: Lsn = server.flushed_lsn();
        walferry_tests::wait_until("the rows", || server.confirmed_flush("s") >= Some(end));
        let events = destination.delivered().events;
        let event = events.last().expect("an event");
        serde_json::json!([
            event["after"],
            event["before"],
            event["source"]["unchanged"]
        ])
    };
    let big = "z".repeat(3000);
    for (statements, row) in [
        (
            "INSERT INTO t VALUES (1, 'x', repeat('z', 3000))",
            serde_json::json!([{"id": 1, "a": "x", "big": big}, null, null]),
        ),
        (
            "UPDATE t SET a = 'y'",
            serde_json::json!([{"id": 1, "a": "y"}, null, ["big"]]),
        ),
        (
            "ALTER TABLE t ADD n numeric DEFAULT 1.50; UPDATE t SET a = NULL",
            serde_json::json!([{"id": 1, "a": null, "n": "1.50"}, null, ["big"]]),
        ),
        (
            "ALTER TABLE t DROP a, ADD a int; UPDATE t SET a = 3",
            serde_json::json!([{"id": 1, "n": "1.50", "a": 3}, null, ["big"]]),
        ),
        (
            "ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET a = 4",
            serde_json::json!([
                {"id": 1, "big": big, "n": "1.50", "a": 4},
                {"id": 1, "big": big, "n": "1.50", "a": 3},
                null
            ]),
        ),
        (
            "ALTER TABLE t REPLICA IDENTITY DEFAULT, DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a); DELETE FROM t",
            serde_json::json!([null, {"a": 4}, null]),
        ),
    ] {
        assert_eq!(delivered(statements), row, "{statements}");
    }
    streamer.stop().expect_code(0);
}

#[test]
fn text_of_other_encodings_is_converted_or_refused_by_name() {
    let server = Server::start_default();
    for (name, encoding, text) in [
        ("latin", Encoding::Latin1, "é"),
        ("japanese", Encoding::EucJp, "あ"),
    ] {
        server.create_database(name, encoding);
        server.sql_in(name, "CREATE TABLE t (id int PRIMARY KEY, v text)");
        server.create_slot_in(name, name, "wal2json");
        server.sql_in(name, &format!("INSERT INTO t VALUES (1, '{text}')"));
    }
    let end = server.flushed_lsn();
    let read = |name: &str| {
        let destination = Destination::new();
        let exit = destination
            .run_url(&server.url_of(name), name)
            .args(["--plugin", "wal2json", "--until-lsn", &end.to_string()])
            .run(60 * SECONDS);
        (destination.delivered().events, exit)
    };
    let (events, exit) = read("latin");
    exit.expect_code(0);
    assert_eq!(events[0]["after"]["v"], "é");
    let (_, exit) = read("japanese");
    let printed = exit.expect_code(1).stderr.join("\n");
    assert!(
        printed.contains("EUC_JP") && printed.contains("--plugin pgoutput"),
        "{printed}"
    );
}
