//! The output plugin and prepared transactions.

use postgres::Client;
use walferry_protocol::{Kind, Lsn};
use walferry_tests::frames::{Capture, FrameReader, Way};
use walferry_tests::{Server, Statements, Walsender};

const TWO_PHASE: &[(&str, &str)] = &[("two_phase", "on")];

fn server(work_mem: &str) -> Server {
    let server = Server::builder()
        .setting("logical_decoding_work_mem", work_mem)
        .start();
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, v text)",
    );
    server.create_slot("s", "walferry");
    server
}

/// As a connection of its own sees it that confirms nothing.
fn read(server: &Server, options: &[(&str, &str)]) -> Capture {
    Walsender::capture(server, "postgres", "s", options)
}

fn kinds(capture: &Capture) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = capture.frames.iter().map(|frame| frame.kind).collect();
    kinds.dedup();
    kinds
}

fn is_two_phase(server: &Server) -> bool {
    server.value("SELECT two_phase FROM pg_replication_slots WHERE slot_name = 's'")
}

#[test]
fn nothing_is_sent_before_commit_prepared_unless_two_phase_is_asked_for() {
    let server = server("64MB");
    server.sql("BEGIN; INSERT INTO t VALUES (1, 'a'); SAVEPOINT x; INSERT INTO t VALUES (2, 'b'); ROLLBACK TO x; INSERT INTO t VALUES (3, 'c'); PREPARE TRANSACTION 'one'");
    server.sql("BEGIN; INSERT INTO u VALUES (1, 'a'); PREPARE TRANSACTION 'two'");
    assert!(read(&server, &[]).frames.is_empty());
    assert!(
        read(&server, &[("streaming", "on"), ("two_phase", "off")])
            .frames
            .is_empty()
    );
    server.sql("ROLLBACK PREPARED 'two'");
    assert!(read(&server, &[]).frames.is_empty());
    server.sql("COMMIT PREPARED 'one'");
    let capture = read(&server, &[]);
    assert_eq!(kinds(&capture), [Kind::Start, Kind::Transaction]);
    assert_eq!(
        capture.lines(),
        ["INSERT public.t id=1 v=a", "INSERT public.t id=3 v=c"]
    );
    assert!(!is_two_phase(&server), "a slot stays as it was made");
}

#[test]
fn with_two_phase_a_transaction_comes_at_its_prepare_and_its_end_comes_apart() {
    let server = server("64MB");
    let mut client = server.client();
    let gid = format!("{}%s%n 'quoted' 😀", "g".repeat(178));
    assert_eq!(gid.len(), 196);
    let longest = "x".repeat(199);
    let quoted = gid.replace('\'', "''");
    client
        .each(&format!(
            "BEGIN; INSERT INTO t VALUES (1, 'a'); SAVEPOINT x; INSERT INTO t VALUES (2, 'b'); SAVEPOINT y; INSERT INTO t VALUES (9, 'z'); ROLLBACK TO y; RELEASE x; PREPARE TRANSACTION '{quoted}'"
        ))
        .unwrap();
    client
        .each(&format!(
            "BEGIN; INSERT INTO u VALUES (1, 'u'); PREPARE TRANSACTION '{longest}'"
        ))
        .unwrap();
    client.each("INSERT INTO t VALUES (7, 'between')").unwrap();
    let capture = read(&server, TWO_PHASE);
    assert!(is_two_phase(&server));
    assert!(capture.start.as_ref().unwrap().two_phase);
    assert_eq!(capture.prepared.len(), 2);
    assert_eq!(capture.prepared[0].gid, gid);
    assert_eq!(capture.prepared[1].gid, longest);
    assert!(capture.prepared[0].prepare_lsn < capture.prepared[0].end_lsn);
    assert!(capture.prepared[0].end_lsn <= capture.prepared[1].prepare_lsn);
    assert_eq!(capture.lines(), ["INSERT public.t id=7 v=between"]);

    client.each(&format!("COMMIT PREPARED '{quoted}'")).unwrap();
    client
        .each(&format!("ROLLBACK PREPARED '{longest}'"))
        .unwrap();
    client.each("INSERT INTO t VALUES (8, 'after')").unwrap();
    let capture = read(&server, TWO_PHASE);
    assert_eq!(
        capture.lines(),
        [
            "INSERT public.t id=7 v=between",
            "INSERT public.t id=1 v=a",
            "INSERT public.t id=2 v=b",
            "INSERT public.t id=8 v=after",
        ]
    );
    let one = &capture.transactions[1];
    assert_eq!(
        (one.way, one.gid.as_deref()),
        (Way::Prepared, Some(gid.as_str()))
    );
    assert_eq!(capture.rolled_back, [longest]);
    assert_eq!(one.context.xid, capture.prepared[0].xid);
    assert!(one.context.end_lsn > capture.prepared[0].end_lsn);
    for (prepared, bounds) in [(0, 1), (1, 1)] {
        let xid = capture.prepared[prepared].xid;
        let frames = capture
            .frames
            .iter()
            .filter(|f| f.kind == Kind::Prepared && f.xid == Some(xid));
        assert_eq!(frames.count(), bounds);
    }
}

#[test]
fn a_prepare_confirmed_by_the_reader_is_not_sent_again_and_its_commit_is() {
    let server = server("64MB");
    server.sql("INSERT INTO t VALUES (0, 'zero')");
    let mut walsender = Walsender::connect(&server, "postgres");
    walsender.start("s", TWO_PHASE).unwrap();
    let mut reader = FrameReader::default();
    walsender
        .read_until(server.flushed_lsn(), &mut reader)
        .unwrap();
    server.sql("BEGIN; INSERT INTO t VALUES (1, 'a'); PREPARE TRANSACTION 'p'");
    let after: Lsn = server.flushed_lsn();
    walsender.read_until(after, &mut reader).unwrap();
    assert_eq!(reader.finish().prepared.len(), 1);
    walsender.status(after, true);
    walsender.end_copy();
    assert!(server.confirmed_flush("s").unwrap() >= after);
    server.sql("COMMIT PREPARED 'p'; ");
    let capture = read(&server, TWO_PHASE);
    assert_eq!(kinds(&capture), [Kind::Start, Kind::CommitPrepared]);
    assert_eq!(capture.transactions[0].gid.as_deref(), Some("p"));
}

#[test]
fn streamed_transactions_are_prepared_committed_and_rolled_back() {
    let server = server("64kB");
    let mut client = server.client();
    let rows = |table: &str, from: u32, to: u32| {
        format!(
            "INSERT INTO {table} SELECT g, repeat('x', 100) FROM generate_series({from}, {to}) g;"
        )
    };
    client
        .each(&format!(
            "BEGIN; {} SAVEPOINT a; {} ROLLBACK TO a; {} PREPARE TRANSACTION 'kept'",
            rows("t", 1, 2000),
            rows("u", 1, 2000),
            rows("t", 3001, 4000)
        ))
        .unwrap();
    client
        .each(&format!(
            "BEGIN; {} PREPARE TRANSACTION 'gone'",
            rows("u", 1, 2000)
        ))
        .unwrap();
    let both = [("two_phase", "on"), ("streaming", "on")];
    let capture = read(&server, &both);
    assert_eq!(capture.prepared.len(), 2);
    assert!(kinds(&capture).contains(&Kind::StreamPrepare));
    assert!(capture.transactions.is_empty());
    // Prepared transactions reach a reader without streaming, too.
    let capture = read(&server, TWO_PHASE);
    assert_eq!(kinds(&capture), [Kind::Start, Kind::Prepared]);

    client.each("COMMIT PREPARED 'kept'").unwrap();
    client.each("ROLLBACK PREPARED 'gone'").unwrap();
    let streamed = read(&server, &both);
    let whole = read(&server, TWO_PHASE);
    assert_eq!(streamed.transactions[0].way, Way::StreamPrepared);
    assert_eq!(streamed.lines().len(), 3000);
    assert_eq!(streamed.lines(), whole.lines());
    assert_eq!(streamed.ids(), whole.ids());
    assert_eq!(whole.rolled_back, ["gone"]);
}

#[test]
fn a_prepared_transaction_rolled_back_before_it_was_decoded_is_no_error() {
    let server = server("64kB");
    let mut client = server.client();
    for (gid, verb) in [("a", "ROLLBACK"), ("b", "COMMIT"), ("c", "ROLLBACK")] {
        client
            .each(&format!(
                "BEGIN; CREATE TABLE made_{gid} (id int PRIMARY KEY, v text); INSERT INTO made_{gid} SELECT g, repeat('v', 90) FROM generate_series(1, 2000) g; PREPARE TRANSACTION '{gid}'"
            ))
            .unwrap();
        client.each(&format!("{verb} PREPARED '{gid}'")).unwrap();
    }
    client.each("INSERT INTO t VALUES (1, 'after')").unwrap();
    for options in [
        &[("two_phase", "on")][..],
        &[("two_phase", "on"), ("streaming", "on")],
    ] {
        let capture = read(&server, options);
        let lines = capture.lines();
        assert_eq!(lines.len(), 2001);
        assert_eq!(lines[2000], "INSERT public.t id=1 v=after");
        assert!(lines[0].starts_with("INSERT public.made_b id=1 "));
        assert!(
            capture
                .rolled_back
                .iter()
                .all(|gid| gid == "a" || gid == "c")
        );
    }
}

#[test]
fn an_empty_or_filtered_prepared_transaction_is_still_announced_and_ended() {
    let server = server("64MB");
    let mut client = server.client();
    let go = |client: &mut Client, sql: &str| client.each(sql).unwrap();
    go(
        &mut client,
        "BEGIN; INSERT INTO u VALUES (1, 'a'); PREPARE TRANSACTION 'f'",
    );
    go(&mut client, "COMMIT PREPARED 'f'");
    let capture = read(&server, &[("two_phase", "on"), ("tables", "public.t")]);
    assert_eq!(
        kinds(&capture),
        [Kind::Start, Kind::Prepared, Kind::CommitPrepared]
    );
    assert!(capture.lines().is_empty());
}

#[test]
fn a_prepared_transaction_without_any_change_disturbs_none_before_or_after_it() {
    let server = server("64MB");
    let mut client = server.client();
    for round in 0..3 {
        client
            .each(&format!(
                "INSERT INTO t VALUES ({round}, 'before');
                 BEGIN; SELECT id FROM t FOR UPDATE; PREPARE TRANSACTION 'empty_{round}';
                 INSERT INTO u VALUES ({round}, 'between'); COMMIT PREPARED 'empty_{round}'"
            ))
            .unwrap();
    }
    let capture = read(&server, TWO_PHASE);
    // Since 18 the server tells of such a transaction, without a begin_prepare.
    let told = server.tree().major() >= 18;
    let mut expected = vec![Kind::Start];
    for _ in 0..3 {
        expected.push(Kind::Transaction);
        expected.extend(told.then_some(Kind::Prepared));
        expected.push(Kind::Transaction);
        expected.extend(told.then_some(Kind::CommitPrepared));
    }
    let found: Vec<Kind> = capture.frames.iter().map(|frame| frame.kind).collect();
    assert_eq!(found, expected);
    assert_eq!(capture.lines().len(), 6);
}

#[test]
fn ids_of_a_prepared_transaction_are_those_of_the_same_one_sent_at_its_commit() {
    let server = server("64MB");
    let mut client = server.client();
    client
        .each("SELECT pg_create_logical_replication_slot('plain', 'walferry')")
        .unwrap();
    client
        .each("BEGIN; INSERT INTO t SELECT g, 'x' FROM generate_series(1, 50) g; TRUNCATE u; SELECT pg_logical_emit_message(true, 'p', 'q'); PREPARE TRANSACTION 'p'")
        .unwrap();
    client.each("COMMIT PREPARED 'p'").unwrap();
    let at_prepare = read(&server, TWO_PHASE);
    let at_commit = Walsender::capture(&server, "postgres", "plain", &[]);
    assert_eq!(at_prepare.lines(), at_commit.lines());
    assert_eq!(at_prepare.ids(), at_commit.ids());
}
