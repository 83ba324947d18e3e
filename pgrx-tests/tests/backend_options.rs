//! The output plugin's options.

use std::time::Duration;

use walferry_tests::frames::{Capture, FrameReader};
use walferry_tests::{Encoding, Received, Server, Statements, Walsender};

fn server() -> Server {
    let server = Server::builder()
        .setting("synchronous_commit", "on")
        .start();
    server.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
    server.create_slot("s", "walferry");
    server
}

fn refusal(server: &Server, options: &[(&str, &str)]) -> (String, String, String) {
    let mut client = server.client();
    let error = match Capture::try_peek(&mut client, "s", options) {
        Ok(_) => panic!("{options:?} was taken"),
        Err(error) => error,
    };
    let error = error.as_db_error().expect("a server error");
    (
        error.code().code().to_owned(),
        error.message().to_owned(),
        format!(
            "{}\n{}",
            error.detail().unwrap_or_default(),
            error.hint().unwrap_or_default()
        ),
    )
}

#[test]
fn bad_options_are_refused_by_name_in_one_line_with_a_way_on() {
    let server = server();
    server.sql("INSERT INTO t VALUES (1, 'x')");
    for (name, value, expected) in [
        ("no_such_option", "1", "22023"),
        ("Format", "native", "22023"),
        ("publication_names", "p", "22023"),
        ("include-xids", "1", "22023"),
        ("", "1", "22023"),
        ("%s%n%s", "%s%n", "22023"),
        ("format", "xml", "22023"),
        ("format", "", "22023"),
        ("format", "JSON", "22023"),
        ("streaming", "perhaps", "22023"),
        ("streaming", "", "22023"),
        ("two_phase", "2", "22023"),
        ("origin", "local", "22023"),
        ("messages", "x", "22023"),
        ("frame_size", "0", "22023"),
        ("frame_size", "-1", "22023"),
        ("frame_size", "4095", "22023"),
        ("frame_size", "17MB", "22023"),
        ("frame_size", "99999999999999999999", "22023"),
        ("frame_size", "18446744073709551615MB", "22023"),
        ("frame_size", "64 apples", "22023"),
        ("frame_size", "64kB64", "22023"),
        ("invalid_text", "drop", "22023"),
        ("proto_min", "2", "0A000"),
        ("proto_max", "0", "0A000"),
        ("proto_min", "256", "22023"),
        ("proto_max", "one", "22023"),
        ("tables", "orders", "22023"),
        ("tables", "", "22023"),
        ("tables", "public.", "22023"),
        ("tables", "public.t,", "22023"),
        ("tables", "public.t extra.x", "22023"),
        ("tables", "a.b.c", "22023"),
        ("tables", "public.\"t", "22023"),
        ("tables", "public.\"\"", "22023"),
        ("exclude_tables", "%s.%n.", "22023"),
        ("columns", "public.t", "22023"),
        ("columns", "public.t()", "22023"),
        ("columns", "public.t(id", "22023"),
        ("columns", "public.t(id,)", "22023"),
        ("message_prefixes", "", "22023"),
    ] {
        let (code, message, rest) = refusal(&server, &[(name, value)]);
        assert_eq!(code, expected, "{name} = {value:?}: {message}");
        assert!(!message.contains('\n') && !message.is_empty());
        assert!(
            message.starts_with(|c: char| c.is_lowercase()),
            "{message} starts in lower case"
        );
        assert!(
            rest.trim().len() > 10,
            "{name} = {value:?} comes without a word of help: {message}"
        );
        if expected == "22023" && !name.is_empty() {
            assert!(message.contains(name), "{message} names {name}");
        }
    }
    // The same over the replication protocol; the connection goes on.
    let mut walsender = Walsender::connect(&server, "postgres");
    let error = walsender
        .start("s", &[("no_such_option", "1")])
        .unwrap_err();
    assert_eq!(error.sqlstate, "22023");
    assert!(error.message.contains("no_such_option"));
    let error = walsender
        .start("s", &[("proto_min", "9"), ("proto_max", "12")])
        .unwrap_err();
    assert_eq!(error.sqlstate, "0A000");
    assert!(error.detail.contains("9 to 12"), "{error:?}");
    let error = walsender
        .start_verbatim("START_REPLICATION SLOT s LOGICAL 0/0 (format)")
        .unwrap_err();
    assert!(error.message.contains("format"), "{error:?}");
    walsender
        .start_verbatim("START_REPLICATION SLOT s LOGICAL 0/0 (streaming)")
        .unwrap();
    let mut reader = FrameReader::default();
    walsender
        .read_until(server.flushed_lsn(), &mut reader)
        .unwrap();
    assert_eq!(reader.finish().lines(), ["INSERT public.t id=1 v=x"]);
    assert!(!server.log().contains("terminated by signal"));
}

#[test]
fn tables_are_chosen_by_quoted_names_and_globs() {
    let server = server();
    let mut client = server.client();
    client
        .each(
            r#"CREATE SCHEMA app; CREATE SCHEMA "A.b"; CREATE SCHEMA "x*y";
            CREATE TABLE app.orders (id int PRIMARY KEY, secret text, total int);
            CREATE TABLE app.orders_2024 (id int PRIMARY KEY, secret text, total int);
            CREATE TABLE app."Orders, %s ""new""" (id int PRIMARY KEY);
            CREATE TABLE "A.b"."c.d" (id int PRIMARY KEY);
            CREATE TABLE "x*y"."z?" (id int PRIMARY KEY); CREATE TABLE "x*y"."zz" (id int PRIMARY KEY);
            CREATE TABLE app."😀" (id int PRIMARY KEY);"#,
        )
        .unwrap();
    server.create_slot("f", "walferry");
    client
        .each(
            r#"INSERT INTO t VALUES (1); INSERT INTO app.orders VALUES (1, 's', 5); INSERT INTO app.orders_2024 VALUES (1, 's', 5);
            INSERT INTO app."Orders, %s ""new""" VALUES (1); INSERT INTO "A.b"."c.d" VALUES (1); INSERT INTO "x*y"."z?" VALUES (1); INSERT INTO "x*y"."zz" VALUES (1);
            INSERT INTO app."😀" VALUES (1);"#,
        )
        .unwrap();
    let mut tables = |options: &[(&str, &str)]| -> Vec<String> {
        Capture::peek(&mut client, "f", options)
            .changes()
            .map(|change| change.table().to_owned())
            .collect()
    };
    assert_eq!(tables(&[]).len(), 8);
    for (pattern, expected) in [
        ("public.*", vec!["t"]),
        ("app.orders", vec!["orders"]),
        ("app.orders*", vec!["orders", "orders_2024"]),
        ("app.orders_????", vec!["orders_2024"]),
        ("app.?", vec!["😀"]),
        (r#"app."Orders, %s ""new""""#, vec![r#"Orders, %s "new""#]),
        (r#""A.b"."c.d", public.t"#, vec!["t", "c.d"]),
        (r#""x*y"."z?""#, vec!["z?"]),
        (r"x\*y.z\?", vec!["z?"]),
        (r#""x*y".z?"#, vec!["z?", "zz"]),
        (" app.orders\t,\n\"A.b\".* ", vec!["orders", "c.d"]),
        ("*.*2*", vec!["orders_2024"]),
        ("APP.ORDERS", vec![]),
        (r#""*".t"#, vec![]),
    ] {
        assert_eq!(tables(&[("tables", pattern)]), expected, "{pattern}");
    }
    assert_eq!(
        tables(&[
            ("tables", "app.*"),
            ("exclude_tables", "*.orders*, *.Orders*")
        ]),
        ["😀"]
    );
    assert_eq!(
        tables(&[("tables", "app.orders"), ("tables", "public.t")]),
        ["t", "orders"]
    );

    // Columns: what no rule names stays whole, key columns always come.
    let lines = Capture::peek(
        &mut client,
        "f",
        &[
            ("columns", "app.orders(total), *.orders_*(\"id\")"),
            ("tables", "app.orders*, public.t"),
        ],
    )
    .lines();
    assert_eq!(
        lines,
        [
            "INSERT public.t id=1 v=NULL",
            "INSERT app.orders id=1 total=5",
            "INSERT app.orders_2024 id=1"
        ]
    );
}

#[test]
fn a_filter_follows_the_name_a_table_had_when_it_was_written() {
    let server = server();
    let mut client = server.client();
    client
        .each(
            "INSERT INTO t VALUES (1, 'a'); ALTER TABLE t RENAME TO other; INSERT INTO other VALUES (2, 'b');
             BEGIN; INSERT INTO other VALUES (3, 'c'); ALTER TABLE other RENAME TO t; INSERT INTO t VALUES (4, 'd'); COMMIT;
             CREATE SCHEMA aside; ALTER TABLE t SET SCHEMA aside; INSERT INTO aside.t VALUES (5, 'e'); ALTER SCHEMA public RENAME TO old; ALTER SCHEMA aside RENAME TO public; INSERT INTO public.t VALUES (6, 'f')",
        )
        .unwrap();
    let ids: Vec<String> = Capture::peek(&mut client, "s", &[("tables", "public.t")])
        .changes()
        .map(|change| change.text("id").to_owned())
        .collect();
    assert_eq!(ids, ["1", "4", "6"]);
}

#[test]
fn origin_none_leaves_out_what_replication_brought_and_any_marks_it() {
    let server = server();
    let mut client = server.client();
    client
        .each(
            "SELECT pg_replication_origin_create('far %s \"away\"');
             INSERT INTO t VALUES (1, 'local');
             SELECT pg_replication_origin_session_setup('far %s \"away\"');",
        )
        .unwrap();
    client
        .each("BEGIN; SELECT pg_replication_origin_xact_setup('16/B374D848', '2020-01-01'); INSERT INTO t VALUES (2, 'remote'); SELECT pg_logical_emit_message(true, 'm', 'remote'); COMMIT")
        .unwrap();
    client
        .each("SELECT pg_logical_emit_message(false, 'm', 'remote')")
        .unwrap();
    client
        .each("SELECT pg_replication_origin_session_reset()")
        .unwrap();
    client.each("INSERT INTO t VALUES (3, 'local')").unwrap();
    let all = Capture::peek(&mut client, "s", &[("origin", "any")]);
    assert_eq!(all.lines().len(), 4);
    assert_eq!(all.messages.len(), 1);
    let origin = all.transactions[1].context.origin.as_ref().unwrap();
    assert_eq!(origin.name, "far %s \"away\"");
    assert_eq!(origin.lsn.to_string(), "16/B374D848");
    assert!(all.transactions[0].context.origin.is_none());
    let local = Capture::peek(&mut client, "s", &[("origin", "none")]);
    assert_eq!(
        local.lines(),
        [
            "INSERT public.t id=1 v=local",
            "INSERT public.t id=3 v=local"
        ]
    );
    assert!(local.messages.is_empty());
    // An origin that is dropped before it is read.
    client
        .each("SELECT pg_replication_origin_drop('far %s \"away\"')")
        .unwrap();
    let all = Capture::peek(&mut client, "s", &[]);
    assert!(all.transactions[1].context.origin.is_some());
    assert_eq!(
        Capture::peek(&mut client, "s", &[("origin", "none")])
            .lines()
            .len(),
        2
    );
}

#[test]
fn messages_are_chosen_by_prefix_and_switched_off() {
    let server = server();
    let mut client = server.client();
    client
        .each(
            r#"SELECT pg_logical_emit_message(false, 'app.audit', 'one'), pg_logical_emit_message(false, 'app', 'two'), pg_logical_emit_message(true, '', 'three'),
                      pg_logical_emit_message(true, '%s%n', E'\\x00ff01'::bytea), pg_logical_emit_message(false, 'empty', ''), pg_logical_emit_message(true, repeat('p', 100000), 'long');"#,
        )
        .unwrap();
    let mut read = |options: &[(&str, &str)]| {
        let capture = Capture::peek(&mut client, "s", options);
        (capture.messages.len(), capture.lines().len())
    };
    assert_eq!(read(&[]), (3, 3));
    assert_eq!(read(&[("messages", "off")]), (0, 0));
    assert_eq!(read(&[("messages", "0")]), (0, 0));
    assert_eq!(read(&[("message_prefixes", "app*")]), (2, 0));
    assert_eq!(read(&[("message_prefixes", "app.*, \"%s%n\"")]), (1, 1));
    assert_eq!(read(&[("message_prefixes", "p*")]), (0, 1));
    let capture = Capture::peek(&mut client, "s", &[]);
    let binary = capture.changes().nth(1).unwrap();
    let walferry_tests::frames::Action::Message { prefix, content } = &binary.action else {
        panic!("{binary}")
    };
    assert_eq!(
        (prefix.as_str(), content.as_slice()),
        ("%s%n", &[0_u8, 255, 1][..])
    );
    // Beyond what a record holds, in and out of a transaction.
    client
        .each("SELECT pg_logical_emit_message(false, 'big', repeat('m', 9000000)); SELECT pg_logical_emit_message(true, 'big', repeat('n', 9000000)); SELECT pg_logical_emit_message(false, 'big', repeat('m', 4194304))")
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[("message_prefixes", "big")]);
    assert_eq!(capture.messages.len(), 2);
    let big = |text: &str, letter: &str, times: usize| {
        text == format!("MESSAGE big: {}", letter.repeat(times))
    };
    assert!(big(&capture.messages[0].1.to_string(), "m", 9_000_000));
    assert!(big(&capture.messages[1].1.to_string(), "m", 4_194_304));
    assert!(big(&capture.lines()[0], "n", 9_000_000));
}

#[test]
fn text_functions_refuse_the_native_format_and_take_json() {
    let server = server();
    let mut client = server.client();
    client
        .each("INSERT INTO t VALUES (1, '%s%n%d \"x\" \\')")
        .unwrap();
    let error = client
        .query(
            "SELECT * FROM pg_logical_slot_peek_changes('s', NULL, NULL)",
            &[],
        )
        .unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "0A000");
    assert!(
        error.message().contains("binary output"),
        "{}",
        error.message()
    );
    let lines: Vec<String> = client
        .query(
            "SELECT data FROM pg_logical_slot_get_changes('s', NULL, NULL, 'format', 'json')",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let actions: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let insert = actions.iter().find(|a| a["action"] == "I").unwrap();
    assert_eq!(insert["table"], "t");
    assert_eq!(insert["columns"][1]["value"], "%s%n%d \"x\" \\");
    assert_eq!(insert["columns"][0]["value"], 1);
    assert!(
        Capture::peek(&mut client, "s", &[]).frames.is_empty(),
        "get has taken it"
    );
}

#[test]
fn format_none_writes_nothing_at_all() {
    let server = server();
    let mut client = server.client();
    client
        .each("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 1000) g; SELECT pg_logical_emit_message(false, 'm', 'x'); TRUNCATE t")
        .unwrap();
    assert!(
        Capture::peek(&mut client, "s", &[("format", "none")])
            .frames
            .is_empty()
    );
    assert!(!Capture::peek(&mut client, "s", &[]).frames.is_empty());
}

#[test]
fn a_large_filtered_transaction_keeps_the_connection_alive() {
    let server = Server::builder()
        .setting("wal_sender_timeout", "2s")
        .start();
    server.sql("CREATE TABLE noise (id int, v text); CREATE TABLE t (id int PRIMARY KEY)");
    server.create_slot("s", "walferry");
    server.sql("INSERT INTO noise SELECT g, repeat('x', 20) FROM generate_series(1, 2500000) g; INSERT INTO t VALUES (1)");
    let end = server.flushed_lsn();
    let mut walsender = Walsender::connect(&server, "postgres");
    walsender.start("s", &[("tables", "public.t")]).unwrap();
    let mut keepalives = 0;
    let mut reader = FrameReader::default();
    // Answers only what the server asks, as a client does that hears nothing else.
    loop {
        match walsender.next(Duration::from_millis(500)) {
            Received::Keepalive { end: reached } => {
                keepalives += 1;
                walsender.status(walferry_protocol::Lsn::INVALID, false);
                if reached >= end {
                    break;
                }
            }
            Received::Data { start, bytes } => reader.read(&bytes, Some(start)),
            Received::Silence => walsender.status(walferry_protocol::Lsn::INVALID, true),
            Received::Failed(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(reader.finish().lines(), ["INSERT public.t id=1"]);
    assert!(keepalives > 0);
    assert!(
        !server
            .log()
            .contains("terminating walsender process due to replication timeout")
    );
}

#[test]
fn two_slots_and_two_databases_are_read_at_once_and_each_sees_its_own() {
    let server = server();
    server.sql("CREATE DATABASE other");
    server.sql_in("other", "CREATE TABLE o (id int PRIMARY KEY)");
    server.create_slot("s2", "walferry");
    server.create_slot_in("other", "so", "walferry");
    let mut one = Walsender::connect(&server, "postgres");
    let mut two = Walsender::connect(&server, "postgres");
    let mut three = Walsender::connect(&server, "other");
    one.start("s", &[]).unwrap();
    two.start("s2", &[("tables", "public.nothing")]).unwrap();
    three.start("so", &[("streaming", "on")]).unwrap();
    for n in 0..50 {
        server.sql(&format!("INSERT INTO t VALUES ({n}, 'x')"));
        server.sql_in("other", &format!("INSERT INTO o VALUES ({n})"));
        if n == 25 {
            server.sql("CREATE DATABASE third");
        }
    }
    let end = server.flushed_lsn();
    let mut lines = Vec::new();
    for walsender in [&mut one, &mut two, &mut three] {
        let mut reader = FrameReader::default();
        walsender.read_until(end, &mut reader).unwrap();
        lines.push(reader.finish().lines());
        walsender.end_copy();
    }
    assert_eq!(lines[0].len(), 50);
    assert!(
        lines[0]
            .iter()
            .all(|line| line.starts_with("INSERT public.t"))
    );
    assert!(lines[1].is_empty());
    assert_eq!(lines[2].len(), 50);
    assert!(
        lines[2]
            .iter()
            .all(|line| line.starts_with("INSERT public.o"))
    );
    // In one session, one slot after the other, with other options each time.
    let mut client = server.client();
    for _ in 0..3 {
        assert_eq!(Capture::peek(&mut client, "s", &[]).lines().len(), 50);
        assert_eq!(
            Capture::peek(&mut client, "s2", &[("columns", "public.t(id)")]).lines()[0],
            "INSERT public.t id=0"
        );
    }
}

#[test]
fn options_in_another_encoding_are_understood() {
    let server = Server::start_default();
    server.create_database("western", Encoding::Latin1);
    let mut client = server.client_in("western");
    client
        .each("CREATE TABLE \"übung\" (id int PRIMARY KEY); CREATE TABLE x (id int PRIMARY KEY)")
        .unwrap();
    server.create_slot_in("western", "w", "walferry");
    client
        .each("INSERT INTO \"übung\" VALUES (1); INSERT INTO x VALUES (1)")
        .unwrap();
    let lines = Capture::peek(&mut client, "w", &[("tables", "public.übung")]).lines();
    assert_eq!(lines, ["INSERT public.übung id=1"]);
    let lines = Capture::peek(&mut client, "w", &[("tables", "public.?bung")]).lines();
    assert_eq!(lines.len(), 1);
}
