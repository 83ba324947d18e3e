//! The output plugin and transactions streamed while in progress.

use postgres::Client;
use walferry_protocol::{Kind, Lsn};
use walferry_tests::frames::{Action, Capture, Cell, FrameReader, Way};
use walferry_tests::{Server, Statements, Walsender};

const STREAMING: &[(&str, &str)] = &[("streaming", "on")];

/// A server that streams after 64 kB, with two tables and a slot.
fn server() -> Server {
    let server = Server::builder()
        .setting("logical_decoding_work_mem", "64kB")
        .start();
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, v text)",
    );
    server.create_slot("s", "walferry");
    server
}

/// The events of both ways of reading are the same, ids and all.
fn same_streamed_or_not(client: &mut Client, slot: &str) -> Capture {
    let whole = Capture::peek(client, slot, &[]);
    let streamed = Capture::peek(client, slot, STREAMING);
    assert_eq!(whole.lines(), streamed.lines());
    assert_eq!(whole.ids(), streamed.ids());
    assert!(streamed.open.is_empty(), "still open: {:?}", streamed.open);
    streamed
}

fn ways(capture: &Capture) -> Vec<Way> {
    capture.transactions.iter().map(|t| t.way).collect()
}

fn insert(table: &str, from: u32, to: u32) -> String {
    format!(
        "INSERT INTO {table} SELECT g, repeat('x', 100) || g FROM generate_series({from}, {to}) g;"
    )
}

#[test]
fn subtransactions_aborted_at_several_depths_take_exactly_their_own_changes_back() {
    let server = server();
    let mut client = server.client();
    let (a, b, c, d, e, f, g) = (
        insert("t", 1, 1500),
        insert("t", 10_001, 11_500),
        insert("t", 20_001, 21_500),
        insert("u", 30_001, 31_500),
        insert("t", 40_001, 41_500),
        insert("u", 50_001, 51_500),
        insert("t", 60_001, 61_500),
    );
    client
        .each(&format!(
            "BEGIN; {a} SAVEPOINT one; {b} SAVEPOINT two; {c} SAVEPOINT three; {d} RELEASE three; ROLLBACK TO two;
             {e} SAVEPOINT four; {f} RELEASE four; RELEASE one; SAVEPOINT five; {g} ROLLBACK TO five;
             SAVEPOINT six; INSERT INTO t VALUES (-1, 'six'); RELEASE six; COMMIT"
        ))
        .unwrap();
    let capture = same_streamed_or_not(&mut client, "s");
    assert_eq!(ways(&capture), [Way::Streamed]);
    assert!(!capture.aborts.is_empty());
    assert_eq!(capture.changes().count(), 4 * 1500 + 1);
    assert_eq!(capture.changes().filter(|c| c.table() == "u").count(), 1500);
    assert!(
        capture
            .changes()
            .all(|c| !c.text("id").starts_with('2') || c.table() != "t" || c.text("id").len() < 5)
    );
}

#[test]
fn interleaved_streamed_transactions_stay_apart_and_come_in_commit_order() {
    let server = server();
    let (mut one, mut two, mut three) = (server.client(), server.client(), server.client());
    one.each("BEGIN").unwrap();
    two.each("BEGIN").unwrap();
    three.each("BEGIN").unwrap();
    for round in 0..6 {
        let base = round * 1000;
        one.each(&insert("t", base + 1, base + 300)).unwrap();
        two.each(&insert("t", 100_000 + base, 100_000 + base + 300))
            .unwrap();
        three.each(&insert("u", base, base + 300)).unwrap();
        server.sql(&format!(
            "INSERT INTO t VALUES ({}, 'small')",
            200_000 + round
        ));
    }
    two.each("COMMIT").unwrap();
    three.each("ROLLBACK").unwrap();
    one.each("COMMIT").unwrap();
    let mut client = server.client();
    let capture = same_streamed_or_not(&mut client, "s");
    let mut expected = vec![Way::Whole; 6];
    expected.extend([Way::Streamed, Way::Streamed]);
    assert_eq!(ways(&capture), expected);
    assert!(
        capture.transactions[6].changes[0]
            .text("id")
            .starts_with("100")
    );
    assert!(capture.transactions[7].changes[0].text("id") == "1");
    assert_eq!(capture.changes().filter(|c| c.table() == "u").count(), 0);
}

#[test]
fn a_concurrent_abort_while_streaming_is_an_abort_and_no_error() {
    let server = server();
    let mut client = server.client();
    // Everything is in the WAL, rolled back, before decoding looks at it. The
    // new tables make the plugin read a catalog whose writer has aborted.
    let make = |n: u32| {
        format!(
            "CREATE TABLE new{n} (id int PRIMARY KEY, m mood{n}, v text); INSERT INTO new{n} SELECT g, 'fine', repeat('y', 100) FROM generate_series(1, 2000) g;"
        )
    };
    for n in 1..=4 {
        client
            .each(&format!("CREATE TYPE mood{n} AS ENUM ('fine')"))
            .unwrap();
    }
    client
        .each(&format!(
            "BEGIN; {} {} ROLLBACK",
            insert("t", 1, 2000),
            make(1)
        ))
        .unwrap();
    client
        .each(&format!(
            "BEGIN; {} SAVEPOINT a; {} SAVEPOINT b; {} ROLLBACK TO a; {} COMMIT",
            insert("t", 5001, 7000),
            make(2),
            make(3),
            make(4)
        ))
        .unwrap();
    client.each("INSERT INTO u VALUES (1, 'after')").unwrap();
    let capture = same_streamed_or_not(&mut client, "s");
    assert_eq!(ways(&capture), [Way::Streamed, Way::Whole]);
    assert_eq!(capture.transactions[0].changes.len(), 4000);
    assert_eq!(
        capture.changes().filter(|c| c.table() == "new4").count(),
        2000
    );
    let log = server.log();
    assert!(!log.contains("PANIC") && !log.contains("terminated by signal"));

    // And over the replication protocol, while the transaction is open.
    let mut walsender = Walsender::connect(&server, "postgres");
    let mut reader = FrameReader::default();
    walsender.start("s", STREAMING).unwrap();
    let mut writer = server.client();
    writer
        .each(&format!("BEGIN; {}", insert("t", 10_001, 14_000)))
        .unwrap();
    walsender
        .read_until(server.flushed_lsn(), &mut reader)
        .unwrap();
    assert!(
        reader
            .capture()
            .frames
            .iter()
            .any(|f| f.kind == Kind::Streamed)
    );
    writer.each("ROLLBACK").unwrap();
    walsender
        .read_until(server.flushed_lsn(), &mut reader)
        .unwrap();
    let capture = reader.finish();
    assert!(capture.open.is_empty());
    assert_eq!(capture.lines().len(), 4001);
}

#[test]
fn copy_and_toast_split_over_stream_blocks_arrive_whole_with_the_same_ids() {
    let server = server();
    let mut client = server.client();
    client
        .each(
            "CREATE TABLE big (id int PRIMARY KEY, v text, w text); ALTER TABLE big ALTER v SET STORAGE EXTERNAL;
             CREATE FUNCTION noise(size int) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(md5(g::text || size), '') FROM generate_series(1, size / 32) g $$",
        )
        .unwrap();
    client.each("BEGIN").unwrap();
    let mut copy = client.copy_in("COPY t FROM STDIN").unwrap();
    for n in 0..3000 {
        use std::io::Write;
        writeln!(copy, "{n}\t{}", "c".repeat(20 + n % 50)).unwrap();
    }
    copy.finish().unwrap();
    client
        .each(
            "INSERT INTO big SELECT g, noise(g * 5000), noise(g * 2500) FROM generate_series(1, 60) g;
             SAVEPOINT s; UPDATE big SET v = noise(100000) WHERE id < 10; ROLLBACK TO s;
             UPDATE big SET w = w || 'more' WHERE id > 55; UPDATE big SET id = -id WHERE id < 5; DELETE FROM big WHERE id = 20;
             INSERT INTO big VALUES (100, repeat('long', 2000000), '');
             COMMIT",
        )
        .unwrap();
    let capture = same_streamed_or_not(&mut client, "s");
    assert_eq!(ways(&capture), [Way::Streamed]);
    let changes = &capture.transactions[0].changes;
    assert_eq!(changes.len(), 3000 + 60 + 5 + 4 + 1 + 1);
    // A multi-insert's rows share an LSN and count up.
    assert!(
        changes[..3000]
            .windows(2)
            .any(|p| p[0].lsn == p[1].lsn && p[0].index + 1 == p[1].index)
    );
    let expected: String =
        server.value("SELECT md5(string_agg(v, '' ORDER BY id)) FROM big WHERE id > 20");
    let mut joined = String::new();
    for change in changes {
        if let (Action::Insert { new }, "big") = (&change.action, change.table())
            && let (Cell::Text(id), Cell::Text(v)) = (&new[0], &new[1])
            && id.parse::<i32>().unwrap() > 20
        {
            joined.push_str(v);
        }
    }
    let mut client = server.client();
    let got: String = client
        .query_one("SELECT md5($1::text)", &[&joined])
        .unwrap()
        .get(0);
    assert_eq!(got, expected);
    assert_eq!(*changes[3060].cell("v"), Cell::UnchangedToast);
}

#[test]
fn a_definition_inside_a_streamed_transaction_is_seen_by_that_transaction_alone() {
    let server = server();
    let (mut ddl, mut other) = (server.client(), server.client());
    server.sql("INSERT INTO t VALUES (-1, 'before')");
    ddl.each(&format!(
        "BEGIN; {} CREATE TABLE fresh (id int PRIMARY KEY); INSERT INTO fresh SELECT generate_series(1, 3000);
         ALTER TABLE u ADD extra int DEFAULT 5; {}",
        insert("t", 1, 1000),
        "INSERT INTO u SELECT g, repeat('x', 50), g FROM generate_series(1, 2000) g;"
    ))
    .unwrap();
    for n in 0..20 {
        other
            .each(&format!("INSERT INTO t VALUES ({}, 'other')", 50_000 + n))
            .unwrap();
    }
    ddl.each("ALTER TABLE u RENAME extra TO \"more\"; INSERT INTO u SELECT g, '', g FROM generate_series(5001, 7000) g; COMMIT").unwrap();
    other.each("INSERT INTO u VALUES (-1, 'last', 9)").unwrap();
    // A second one of the same kind that is rolled back.
    ddl.each(
        "BEGIN; ALTER TABLE u DROP \"more\", ADD gone text; INSERT INTO u SELECT g, '', 'gone' FROM generate_series(10001, 13000) g",
    )
    .unwrap();
    ddl.each("ROLLBACK").unwrap();
    other
        .each("INSERT INTO u VALUES (-2, 'very last', 9)")
        .unwrap();
    let capture = same_streamed_or_not(&mut ddl, "s");
    let of = |name: &str| -> Vec<usize> {
        let mut widths: Vec<usize> = capture
            .changes()
            .filter(|c| c.table() == name)
            .map(|c| c.row().len())
            .collect();
        widths.dedup();
        widths
    };
    assert_eq!(of("fresh"), [1]);
    assert_eq!(of("u"), [3]);
    assert_eq!(of("t"), [2]);
    let lines = capture.lines();
    assert!(
        lines.contains(
            &"INSERT public.u id=1 v="
                .to_owned()
                .replace("v=", &format!("v={} extra=1", "x".repeat(50)))
        )
    );
    assert!(lines.contains(&"INSERT public.u id=5001 v= more=5001".to_owned()));
    assert!(lines.contains(&"INSERT public.u id=-1 v=last more=9".to_owned()));
    assert_eq!(
        lines.last().unwrap(),
        "INSERT public.u id=-2 v=very last more=9"
    );
}

#[test]
fn concurrent_transactions_keep_the_old_definition_until_the_alter_commits() {
    let server = server();
    server.sql("CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TYPE label AS ENUM ('x'); CREATE TABLE e (id int PRIMARY KEY, l label)");
    let (mut ddl, mut other) = (server.client(), server.client());
    // A rename of the type does not lock the table that uses it.
    other.each("INSERT INTO e VALUES (1, 'x')").unwrap();
    ddl.each(&format!(
        "BEGIN; ALTER TYPE label RENAME TO tag; {}",
        insert("t", 1, 3000)
    ))
    .unwrap();
    other.each("INSERT INTO e VALUES (2, 'x')").unwrap();
    ddl.each(&format!(
        "INSERT INTO e VALUES (3, 'x'); {}",
        insert("t", 5001, 7000)
    ))
    .unwrap();
    other.each("INSERT INTO e VALUES (4, 'x')").unwrap();
    ddl.each("COMMIT").unwrap();
    other.each("INSERT INTO e VALUES (5, 'x')").unwrap();
    let capture = same_streamed_or_not(&mut ddl, "s");
    let mut seen: Vec<(String, String)> = capture
        .changes()
        .filter(|c| c.table() == "e")
        .map(|c| {
            let kind = &c.relation.as_ref().unwrap().definition.columns[1].type_name;
            (c.text("id").to_owned(), kind.clone())
        })
        .collect();
    seen.sort();
    let expected = [
        ("1", "label"),
        ("2", "label"),
        ("3", "tag"),
        ("4", "label"),
        ("5", "tag"),
    ];
    assert_eq!(
        seen,
        expected.map(|(id, kind)| (id.to_owned(), kind.to_owned()))
    );
}

#[test]
fn a_streamed_row_has_the_enum_label_of_its_own_transaction_not_of_those_between() {
    let server = server();
    server.sql("CREATE TYPE label AS ENUM ('old'); CREATE TABLE e (id int PRIMARY KEY, l label)");
    let (mut ddl, mut other) = (server.client(), server.client());
    other.each("INSERT INTO e VALUES (1, 'old')").unwrap();
    ddl.each(&format!(
        "BEGIN; ALTER TYPE label RENAME VALUE 'old' TO 'new'; {}",
        insert("t", 1, 3000)
    ))
    .unwrap();
    other.each("INSERT INTO e VALUES (2, 'old')").unwrap();
    ddl.each(&format!(
        "INSERT INTO e VALUES (3, 'new'); {}",
        insert("t", 5001, 7000)
    ))
    .unwrap();
    other.each("INSERT INTO e VALUES (4, 'old')").unwrap();
    ddl.each("COMMIT").unwrap();
    other.each("INSERT INTO e VALUES (5, 'new')").unwrap();
    let capture = same_streamed_or_not(&mut ddl, "s");
    let lines: Vec<String> = capture
        .lines()
        .into_iter()
        .filter(|line| line.contains("public.e "))
        .collect();
    assert_eq!(
        lines,
        [
            "INSERT public.e id=1 l=old",
            "INSERT public.e id=2 l=old",
            "INSERT public.e id=4 l=old",
            "INSERT public.e id=3 l=new",
            "INSERT public.e id=5 l=new",
        ]
    );
}

#[test]
fn messages_and_truncates_in_a_stream_belong_to_their_subtransaction() {
    let server = server();
    let mut client = server.client();
    client
        .each(&format!(
            "BEGIN; {} SELECT pg_logical_emit_message(true, 'kept', 'one');
             SAVEPOINT a; {} SELECT pg_logical_emit_message(true, 'gone', 'two'); TRUNCATE u; ROLLBACK TO a;
             SAVEPOINT b; SELECT pg_logical_emit_message(true, 'kept', 'three'); SELECT pg_logical_emit_message(false, 'at once', 'four'); RELEASE b;
             TRUNCATE t, u RESTART IDENTITY CASCADE; {} SELECT pg_logical_emit_message(true, 'kept', repeat('m', 300000)); COMMIT",
            insert("t", 1, 2000),
            insert("u", 1, 2000),
            insert("t", 5001, 7000),
        ))
        .unwrap();
    let capture = same_streamed_or_not(&mut client, "s");
    let special: Vec<String> = capture
        .lines()
        .into_iter()
        .filter(|line| !line.starts_with("INSERT"))
        .map(|line| line.chars().take(60).collect())
        .collect();
    assert_eq!(
        special,
        [
            "MESSAGE kept: one".to_owned(),
            "MESSAGE kept: three".into(),
            "TRUNCATE public.t cascade restart".into(),
            "TRUNCATE public.u cascade restart".into(),
            format!("MESSAGE kept: {}", "m".repeat(46)),
        ]
    );
    assert_eq!(capture.messages.len(), 1);
    assert_eq!(capture.messages[0].1.to_string(), "MESSAGE at once: four");
}

#[test]
fn event_ids_stay_the_same_under_filters_restarts_and_streaming() {
    let server = server();
    let mut client = server.client();
    client
        .each(&format!(
            "SELECT pg_logical_emit_message(true, 'm', 'alone');
             BEGIN; {} SELECT pg_logical_emit_message(true, 'm', 'in'); {} SAVEPOINT a; {} ROLLBACK TO a; TRUNCATE u, t; {} INSERT INTO u VALUES (9, 'x'); COMMIT;
             INSERT INTO u SELECT g, 'small' FROM generate_series(10, 20) g; SELECT pg_logical_emit_message(true, 'n', 'x'); UPDATE u SET v = 'y'; DELETE FROM u WHERE id = 12",
            insert("t", 1, 2000),
            insert("u", 1, 2),
            insert("u", 5001, 7000),
            insert("t", 5001, 7000),
        ))
        .unwrap();
    let all = same_streamed_or_not(&mut client, "s");
    let ids = |capture: &Capture| -> Vec<(String, (Lsn, Lsn, u32))> {
        capture.lines().into_iter().zip(capture.ids()).collect()
    };
    let of_all = ids(&all);
    for options in [
        vec![("tables", "public.u")],
        vec![("tables", "public.u"), ("streaming", "on")],
        vec![("exclude_tables", "public.t"), ("messages", "off")],
        vec![("message_prefixes", "n"), ("streaming", "on")],
        vec![("columns", "public.u(id)"), ("frame_size", "4096")],
    ] {
        let filtered = Capture::peek(&mut client, "s", &options);
        assert!(filtered.lines().len() < of_all.len() || options[0].0 == "columns");
        for (line, id) in ids(&filtered) {
            let at = of_all.iter().find(|(_, candidate)| *candidate == id);
            let (whole, _) =
                at.unwrap_or_else(|| panic!("{options:?} gives {line} an id of its own"));
            assert!(
                whole.starts_with(&line),
                "{options:?}: {whole} is now {line}"
            );
        }
    }
    // Half confirmed, server restarted: the rest keeps its ids.
    let half = all.transactions[1].context.end_lsn;
    client
        .execute(
            "SELECT pg_replication_slot_advance('s', $1::text::pg_lsn)",
            &[&half.to_string()],
        )
        .unwrap();
    assert_eq!(server.confirmed_flush("s"), Some(half));
    server.sql("CHECKPOINT");
    drop(client);
    server.crash_and_recover();
    let again = Capture::peek(&mut server.client(), "s", STREAMING);
    let rest: Vec<_> = of_all
        .iter()
        .filter(|(_, id)| id.0 > half)
        .cloned()
        .collect();
    assert_eq!(ids(&again), rest);
}

#[test]
fn the_mode_that_streams_every_change_gives_the_same_events() {
    let server = server();
    let name = match server.tree().major() {
        16.. => "debug_logical_replication_streaming",
        _ => return,
    };
    server.sql(&format!("ALTER SYSTEM SET {name} = 'immediate'"));
    server.reload();
    let mut client = server.client();
    client
        .each(
            "BEGIN; INSERT INTO t VALUES (1, 'a'); SAVEPOINT s; INSERT INTO t VALUES (2, 'b'); SAVEPOINT s2; INSERT INTO t VALUES (3, 'c');
             ROLLBACK TO s; CREATE TABLE n (id int PRIMARY KEY); INSERT INTO n VALUES (1); ALTER TABLE n ADD x int; INSERT INTO n VALUES (2, 3); COMMIT;
             INSERT INTO t VALUES (4, repeat('d', 5000))",
        )
        .unwrap();
    let capture = same_streamed_or_not(&mut client, "s");
    assert!(ways(&capture).iter().all(|way| *way == Way::Streamed));
    assert_eq!(capture.changes().count(), 4);
}

#[test]
fn a_filtered_streamed_transaction_says_nothing() {
    let server = server();
    let mut client = server.client();
    client
        .each(&format!(
            "BEGIN; {} COMMIT; BEGIN; {} ROLLBACK",
            insert("t", 1, 3000),
            insert("t", 5000, 8000)
        ))
        .unwrap();
    let capture = Capture::peek(
        &mut client,
        "s",
        &[("streaming", "on"), ("tables", "public.u")],
    );
    assert!(capture.frames.is_empty(), "{:?}", capture.frames);
}

#[test]
fn streaming_is_off_unless_asked_for() {
    let server = server();
    let mut client = server.client();
    client.each(&insert("t", 1, 3000)).unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    assert_eq!(ways(&capture), [Way::Whole]);
    let mut walsender = Walsender::connect(&server, "postgres");
    walsender.start("s", &[]).unwrap();
    let mut reader = FrameReader::default();
    walsender
        .read_until(server.flushed_lsn(), &mut reader)
        .unwrap();
    assert_eq!(ways(&reader.finish()), [Way::Whole]);
}

#[test]
fn a_stream_cut_by_a_disconnect_comes_again_whole() {
    let server = server();
    let mut writer = server.client();
    writer
        .each(&format!("BEGIN; {}", insert("t", 1, 4000)))
        .unwrap();
    let mut walsender = Walsender::connect(&server, "postgres");
    walsender.start("s", STREAMING).unwrap();
    let mut reader = FrameReader::default();
    walsender
        .read_until(server.flushed_lsn(), &mut reader)
        .unwrap();
    assert_eq!(reader.finish().open.len(), 1);
    walsender.end_copy();
    writer
        .each(&format!("{} COMMIT", insert("t", 5000, 6000)))
        .unwrap();
    let mut walsender = Walsender::connect(&server, "postgres");
    walsender.start("s", STREAMING).unwrap();
    let mut reader = FrameReader::default();
    walsender
        .read_until(server.flushed_lsn(), &mut reader)
        .unwrap();
    let capture = reader.finish();
    assert_eq!(capture.changes().count(), 5001);
}
