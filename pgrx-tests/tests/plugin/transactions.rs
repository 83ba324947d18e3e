//! Transactions: what makes one, prepared ones, messages, origins.

use walferry_protocol::{Context, Frame};
use walferry_tests::Server;

use crate::events::{events, frames, read};

#[test]
fn a_transaction_of_which_nothing_is_wanted_sends_nothing() {
    let server = Server::start_default();
    server.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
    server.create_slot("s", "walferry");
    server.sql("INSERT INTO b VALUES (1)");
    server.sql("CREATE TABLE later (id int)");
    server.sql("BEGIN; INSERT INTO b VALUES (2); TRUNCATE b; COMMIT");
    server.sql("SELECT pg_logical_emit_message(true, 'unwanted', 'x')");
    let options = [("tables", "public.a"), ("message_prefixes", "want*")];
    assert!(frames(&server, "s", &options).is_empty());
    server.sql("BEGIN; INSERT INTO b VALUES (3); INSERT INTO a VALUES (4); COMMIT");
    server.sql("SELECT pg_logical_emit_message(true, 'wanted', 'x')");
    assert_eq!(
        events(&server, "s", &options),
        [
            "BEGIN",
            "I a(id=4)",
            "COMMIT",
            "BEGIN",
            "M wanted: x",
            "COMMIT"
        ]
    );
}

#[test]
fn ids_of_changes_are_the_same_under_any_filter_and_when_streamed() {
    let server = Server::builder()
        .setting("logical_decoding_work_mem", "64kB")
        .start();
    server.sql("CREATE TABLE a (id int, t text); CREATE TABLE b (id int, t text)");
    for slot in ["all", "some", "streamed"] {
        server.create_slot(slot, "walferry");
    }
    // COPY writes many rows with one WAL record.
    server.sql(
        "CREATE TEMP TABLE source AS SELECT g, repeat('x', 50) FROM generate_series(1, 3000) g;
         COPY source TO '/tmp/walferry-ids.copy';
         BEGIN;
         COPY a FROM '/tmp/walferry-ids.copy';
         SAVEPOINT one;
         COPY b FROM '/tmp/walferry-ids.copy';
         ROLLBACK TO one;
         SELECT pg_logical_emit_message(true, 'p', 'm');
         COPY b FROM '/tmp/walferry-ids.copy';
         TRUNCATE a, b;
         COMMIT",
    );
    let _ = std::fs::remove_file("/tmp/walferry-ids.copy");
    let strip = |reader: crate::events::Reader| {
        let changes = reader
            .lines
            .into_iter()
            .filter(|line| !line.starts_with(['B', 'C', 'S']))
            .collect();
        (changes, reader.positions)
    };
    let (lines, all): (Vec<_>, _) = strip(read(&frames(&server, "all", &[])));
    assert_eq!(lines.len(), 3000 + 1 + 3000 + 1);
    let ids: std::collections::HashSet<_> =
        all.iter().map(|(_, lsn, index)| (lsn, index)).collect();
    assert_eq!(ids.len(), all.len(), "two changes share an id");
    assert!(
        all.iter().any(|(_, _, index)| *index > 10),
        "no WAL record held many rows"
    );

    let (some_lines, some) = strip(read(&frames(
        &server,
        "some",
        &[("tables", "public.b"), ("messages", "off")],
    )));
    let wanted: Vec<_> = lines
        .iter()
        .zip(&all)
        .filter(|(line, _)| line.starts_with("I b"))
        .map(|(_, position)| *position)
        .collect();
    assert_eq!(some[..3000], wanted);
    assert_eq!(some_lines[3000], "T b");
    assert_eq!(some[3000].2, all[all.len() - 1].2 + 1);

    let streamed = read(&frames(&server, "streamed", &[("streaming", "on")]));
    assert!(streamed.lines.contains(&"STREAM COMMIT".to_owned()));
    let streamed: std::collections::HashSet<_> = streamed
        .positions
        .iter()
        .map(|(_, lsn, index)| (lsn, index))
        .collect();
    assert!(ids.is_subset(&streamed));
}

#[test]
fn prepared_transactions_are_sent_at_prepare_only_when_asked_for() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int PRIMARY KEY)");
    server.create_slot("late", "walferry");
    server.sql("SELECT pg_create_logical_replication_slot('early', 'walferry', false, true)");
    server.sql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'one'");
    server.sql("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'two'");
    assert!(events(&server, "late", &[]).is_empty());
    let early = [("two_phase", "on")];
    assert_eq!(
        events(&server, "early", &early),
        [
            "BEGIN one",
            "I t(id=1)",
            "PREPARE one",
            "BEGIN two",
            "I t(id=2)",
            "PREPARE two"
        ]
    );
    server.sql("COMMIT PREPARED 'one'");
    server.sql("ROLLBACK PREPARED 'two'");
    assert_eq!(
        events(&server, "early", &early),
        ["COMMIT PREPARED one", "ROLLBACK PREPARED two"]
    );
    assert_eq!(
        events(&server, "late", &[]),
        ["BEGIN", "I t(id=1)", "COMMIT"]
    );
    // A slot that was made without stays without.
    assert!(
        !server
            .value::<bool>("SELECT two_phase FROM pg_replication_slots WHERE slot_name = 'late'")
    );
}

#[test]
fn a_commit_frame_says_where_and_when_and_from_whom() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int PRIMARY KEY)");
    for slot in ["any", "local", "json"] {
        server.create_slot(slot, "walferry");
    }
    server.sql("INSERT INTO t VALUES (1)");
    let before: i64 =
        server.value("SELECT (extract(epoch FROM now()) * 1e6)::int8 - 946684800000000");
    server.sql("SELECT pg_replication_origin_create('elsewhere ü')");
    server.sql(
        "SELECT pg_replication_origin_session_setup('elsewhere ü');
         BEGIN; SELECT pg_replication_origin_xact_setup('1/2A', now()); INSERT INTO t VALUES (2); COMMIT",
    );
    let frames_of_any = frames(&server, "any", &[]);
    let contexts: Vec<_> = frames_of_any
        .iter()
        .map(|frame| Frame::decode(frame).unwrap().context)
        .filter_map(|context| match context {
            Context::Transaction(transaction) => Some(transaction),
            _ => None,
        })
        .collect();
    assert_eq!(contexts.len(), 2);
    assert!(contexts[0].origin.is_none());
    let origin = contexts[1].origin.clone().unwrap();
    assert_eq!(
        (origin.name.as_str(), origin.lsn.0),
        ("elsewhere ü", (1 << 32) + 0x2a)
    );
    for transaction in &contexts {
        assert!(transaction.commit_lsn < transaction.end_lsn);
        assert!(transaction.end_lsn <= server.wal_lsn());
        assert!(transaction.xid > 0);
    }
    assert!((contexts[1].commit_time - before).abs() < 60_000_000);
    assert_eq!(
        events(&server, "local", &[("origin", "none")]),
        ["BEGIN", "I t(id=1)", "COMMIT"]
    );
    let id: String = server.value("SELECT roident::text FROM pg_replication_origin");
    let json = server.texts_in(
        "postgres",
        &format!(
            "SELECT data FROM pg_logical_slot_get_changes('json', NULL, NULL,
             'format', 'json', 'filter-origins', '{id}', 'include-transaction', 'off')"
        ),
    );
    assert_eq!(json.len(), 1, "{json:?}");
}

#[test]
fn messages_stand_in_their_transaction_or_by_themselves() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int PRIMARY KEY)");
    server.create_slot("s", "walferry");
    server.sql(
        "BEGIN;
         INSERT INTO t VALUES (1);
         SELECT pg_logical_emit_message(false, 'outside', 'at once');
         SELECT pg_logical_emit_message(true, 'inside %s', 'with it');
         SELECT pg_logical_emit_message(true, 'empty', '');
         COMMIT;
         BEGIN; SELECT pg_logical_emit_message(true, 'rolled back', ''),
                       pg_logical_emit_message(false, 'kept', ''); ROLLBACK",
    );
    let found = read(&frames(&server, "s", &[]));
    assert_eq!(
        found.lines,
        [
            "OUTSIDE",
            "M outside: at once",
            "BEGIN",
            "I t(id=1)",
            "M inside %s: with it",
            "M empty: ",
            "COMMIT",
            "OUTSIDE",
            "M kept: ",
        ]
    );
}
