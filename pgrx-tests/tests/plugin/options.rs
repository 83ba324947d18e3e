//! Options, understood and refused.

use walferry_tests::{Server, ServerTree};

use crate::events::{events, frames, read, try_frames_in};

/// The refusal of options: SQLSTATE, message, detail, hint.
fn refusal(server: &Server, options: &[(&str, &str)]) -> (String, String, String, String) {
    let error = try_frames_in(server, "postgres", "s", options).unwrap_err();
    let error = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
    (
        error.code().code().to_owned(),
        error.message().to_owned(),
        error.detail().unwrap_or_default().to_owned(),
        error.hint().unwrap_or_default().to_owned(),
    )
}

#[test]
fn what_is_wrong_with_an_option_is_said_by_name() {
    let server = Server::start_default();
    server.create_slot("s", "walferry");
    let (code, message, detail, hint) = refusal(&server, &[("table", "a.b")]);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("22023", "unknown option \"table\"")
    );
    assert!(detail.contains("tables, exclude_tables"), "{detail}");
    let (_, message, _, hint2) = refusal(&server, &[("include-xids", "1")]);
    assert_eq!(message, "unknown option \"include-xids\"");
    assert!(hint2.contains("format 'json'"), "{hint} {hint2}");

    for (name, value, complaint) in [
        ("format", "xml", "native, json and none"),
        ("tables", "orders", "Expected '.' at character 7"),
        ("columns", "public.t", "Expected '('"),
        ("streaming", "perhaps", "on and off"),
        ("frame_size", "10", "4096 to 16777216"),
        ("frame_size", "1GB", "B, kB and MB"),
        ("origin", "some", "any and none"),
        ("invalid_text", "drop", "refuse and escape"),
        ("proto_min", "300", "is a number"),
    ] {
        let (code, message, detail, _) = refusal(&server, &[(name, value)]);
        assert_eq!(code, "22023");
        assert!(message.contains(name), "{message}");
        assert!(detail.contains(complaint), "{name}: {detail}");
    }
    let (code, message, detail, _) = refusal(&server, &[("proto_min", "2"), ("proto_max", "9")]);
    assert_eq!(code, "0A000");
    assert_eq!(message, "no protocol version in common with the reader");
    assert!(detail.contains("the reader 2 to 9"), "{detail}");
    let (_, _, detail, _) = refusal(&server, &[("format", "json"), ("format-version", "1")]);
    assert!(detail.contains("format-version 2 only"), "{detail}");
    let (_, message, _, _) = refusal(&server, &[("format", "json"), ("streaming", "on")]);
    assert_eq!(message, "option streaming needs the option format 'native'");
    // A refusal leaves the slot usable.
    assert!(events(&server, "s", &[("proto_min", "1"), ("proto_max", "7")]).is_empty());
}

#[test]
fn tables_columns_and_prefixes_are_filtered_by_pattern() {
    let server = Server::start_default();
    server.sql(
        "CREATE SCHEMA shop; CREATE SCHEMA walferry;
         CREATE TABLE shop.orders (id int PRIMARY KEY, total int, secret text);
         CREATE TABLE shop.\"order, items\" (id int PRIMARY KEY);
         CREATE TABLE shop.audit (id int PRIMARY KEY);
         CREATE TABLE public.orders (id int PRIMARY KEY);
         CREATE TABLE walferry.heartbeats (id int PRIMARY KEY)",
    );
    let insert = "INSERT INTO shop.orders VALUES (1, 2, 'x'); INSERT INTO shop.\"order, items\" VALUES (1);
         INSERT INTO shop.audit VALUES (1); INSERT INTO public.orders VALUES (1);
         INSERT INTO walferry.heartbeats VALUES (1); UPDATE shop.orders SET id = 5, secret = 'y';
         SELECT pg_logical_emit_message(true, 'app.one', ''), pg_logical_emit_message(true, 'lib', '')";
    server.create_slot("s", "walferry");
    server.sql(insert);
    assert_eq!(
        events(
            &server,
            "s",
            &[
                ("tables", "shop.*"),
                ("exclude_tables", "*.aud?t"),
                ("columns", "shop.orders(total)"),
                ("message_prefixes", "app.*"),
            ]
        ),
        [
            "BEGIN",
            "I orders(id=1, total=2)",
            "I order, items(id=1)",
            "I heartbeats(id=1)",
            "U key orders(id=1, total=<absent>) orders(id=5, total=2)",
            "M app.one: ",
            "COMMIT",
        ]
    );
    server.sql("TRUNCATE shop.orders, shop.\"order, items\", shop.audit, public.orders");
    assert_eq!(
        events(
            &server,
            "s",
            &[
                ("tables", "shop.\"order, items\", public.orders"),
                ("messages", "off")
            ]
        ),
        ["BEGIN", "T order, items", "T orders", "COMMIT"]
    );
}

#[test]
fn nothing_is_written_in_the_format_none() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int)");
    server.create_slot("s", "walferry");
    server.sql("INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'a', ''), pg_logical_emit_message(false, 'a', '')");
    assert!(frames(&server, "s", &[("format", "none"), ("streaming", "on")]).is_empty());
}

#[test]
fn a_session_that_reads_a_slot_keeps_its_own_settings() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int PRIMARY KEY, r tstzrange, i interval[], c int4range, s timestamptz[], p point)");
    for slot in ["s", "broken"] {
        server.create_slot(slot, "walferry");
    }
    server.sql(
        "SET TimeZone = 'UTC';
         INSERT INTO t VALUES (1, '[2020-01-02 03:04:05+00, infinity]', '{1 day 02:03:04}', '[1,2)', '{2020-06-01 00:00:00+00}', '(0.1,1e100)')",
    );
    let mut client = server.client();
    let settings = "SELECT concat_ws('|', current_setting('DateStyle'), current_setting('IntervalStyle'),
        current_setting('TimeZone'), current_setting('extra_float_digits'), current_setting('bytea_output'))";
    client
        .batch_execute(
            "SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'; SET TimeZone = 'Asia/Tokyo';
             SET extra_float_digits = -5; SET bytea_output = 'escape'",
        )
        .unwrap();
    let before: String = client.query_one(settings, &[]).unwrap().get(0);
    server.flushed_lsn();
    let rows = client
        .query(
            "SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL)",
            &[],
        )
        .unwrap();
    let found = read(&rows.iter().map(|row| row.get(0)).collect::<Vec<Vec<u8>>>());
    assert!(
        found.lines[1].contains("r=[\"2020-01-02 03:04:05+00\",infinity]"),
        "{}",
        found.lines[1]
    );
    assert!(
        found.lines[1].contains("p=(0.1,1e+100)"),
        "{}",
        found.lines[1]
    );
    assert_eq!(
        client.query_one(settings, &[]).unwrap().get::<_, String>(0),
        before
    );

    // Also when decoding fails half way: an output function that raises.
    server.sql(crate::nasty::TRAP);
    server.sql("CREATE TABLE u (t trap); INSERT INTO u VALUES ('1')");
    server.flushed_lsn();
    let mut transaction = client.transaction().unwrap();
    transaction
        .execute("SET LOCAL work_mem = '1MB'", &[])
        .unwrap();
    let failed = transaction.query(
        "SELECT data FROM pg_logical_slot_get_binary_changes('broken', NULL, NULL)",
        &[],
    );
    assert!(failed.is_err(), "{failed:?}");
    drop(transaction);
    assert_eq!(
        client.query_one(settings, &[]).unwrap().get::<_, String>(0),
        before
    );
}

#[test]
fn the_extension_says_its_version_and_only_a_superuser_installs_it() {
    let server = Server::start_default();
    server.sql("CREATE EXTENSION walferry");
    assert_eq!(
        server.value::<String>("SELECT walferry.version()"),
        env!("CARGO_PKG_VERSION")
    );
    server.sql("CREATE ROLE somebody LOGIN; GRANT CREATE ON DATABASE postgres TO somebody; GRANT ALL ON SCHEMA public TO somebody; DROP EXTENSION walferry");
    let refused = server
        .try_sql("postgres", "SET ROLE somebody; CREATE EXTENSION walferry")
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
}

#[test]
fn a_plugin_that_is_not_allowed_is_refused_by_the_server() {
    if !ServerTree::get().has_output_plugin_libraries() {
        return;
    }
    let server = Server::builder().default_output_plugin_libraries().start();
    let refused = server
        .try_sql(
            "postgres",
            "SELECT pg_create_logical_replication_slot('s', 'walferry')",
        )
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
}
