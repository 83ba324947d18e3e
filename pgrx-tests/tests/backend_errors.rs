//! Errors inside the output plugin, and the settings it leaves alone.

use walferry_tests::frames::{Capture, FrameReader};
use walferry_tests::{Server, Statements, Walsender};

fn server() -> Server {
    let server = Server::builder()
        .setting("synchronous_commit", "on")
        .start();
    server.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
    server.create_slot("s", "walferry");
    server
}

/// `fragile.v` is of a type whose output function refuses every value:
/// enum_out, which knows no label of such a number.
fn broken_type(server: &Server) {
    server.sql(
        "CREATE TYPE brittle;
         CREATE FUNCTION brittle_in(cstring) RETURNS brittle LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
         CREATE FUNCTION brittle_out(brittle) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'enum_out';
         CREATE TYPE brittle (INPUT = brittle_in, OUTPUT = brittle_out, LIKE = int4);
         CREATE TABLE fragile (id int PRIMARY KEY, v brittle)",
    );
}

#[test]
fn an_output_function_that_fails_is_one_clear_error_and_the_connection_starts_again() {
    let server = server();
    broken_type(&server);
    let mut client = server.client();
    client
        .each("INSERT INTO t VALUES (1, 'before'); INSERT INTO fragile VALUES (1, NULL); BEGIN; INSERT INTO t VALUES (2, 'same'); INSERT INTO fragile VALUES (2, '42'); COMMIT; INSERT INTO t VALUES (3, 'after')")
        .unwrap();
    let mut walsender = Walsender::connect(&server, "postgres");
    let pid = walsender.pid();
    for _ in 0..5 {
        walsender.start("s", &[]).unwrap();
        let mut reader = FrameReader::default();
        let error = walsender
            .read_until(server.flushed_lsn(), &mut reader)
            .unwrap_err();
        assert_eq!(
            error.sqlstate, "22P03",
            "the output function's own: {error:?}"
        );
        let all = format!("{error:?}");
        assert!(all.contains("brittle"), "the type is named: {all}");
        assert!(all.contains("fragile"), "the table is named: {all}");
        assert_eq!(
            reader.capture().lines(),
            [
                "INSERT public.t id=1 v=before",
                "INSERT public.fragile id=1 v=NULL"
            ]
        );
    }
    // The same connection, without that column.
    walsender
        .start("s", &[("columns", "public.fragile(id)")])
        .unwrap();
    let mut reader = FrameReader::default();
    walsender
        .read_until(server.flushed_lsn(), &mut reader)
        .unwrap();
    assert_eq!(reader.finish().lines().len(), 5);
    assert_eq!(walsender.pid(), pid);
    walsender.end_copy();
    walsender.command("IDENTIFY_SYSTEM").unwrap();
    let log = server.log();
    assert!(
        !log.contains("PANIC")
            && !log.contains("terminated by signal")
            && !log.contains("panicked"),
        "{log}"
    );
}

const SHAPES: [&str; 7] = [
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "extra_float_digits",
    "bytea_output",
    "client_min_messages",
    "search_path",
];

#[test]
fn text_is_pinned_for_output_and_the_callers_settings_survive_success_and_error() {
    let server = server();
    server.sql(
        "ALTER DATABASE postgres SET DateStyle = 'SQL, DMY'; ALTER DATABASE postgres SET TimeZone = 'Asia/Tokyo';
         CREATE TYPE span AS RANGE (subtype = timestamptz); CREATE TYPE mix AS (f float8, i interval, b bytea, d date);
         CREATE TABLE shaped (id int PRIMARY KEY, s span, m mix, ts timestamptz)",
    );
    let mut client = server.client();
    client
        .each(
            "SET DateStyle = 'German, DMY'; SET IntervalStyle = 'iso_8601'; SET TimeZone = 'America/New_York'; SET extra_float_digits = -3; SET bytea_output = 'escape';
             INSERT INTO shaped VALUES (1, '[2020-02-03 04:05:06+00,2021-01-01 00:00:00+00)', ROW(0.1::float8 + 0.2, '1 day 02:03:04', '\\x00ff', '2020-12-31'), '2020-02-03 04:05:06+00')",
        )
        .unwrap();
    let shapes = |client: &mut postgres::Client| -> Vec<String> {
        SHAPES
            .iter()
            .map(|name| {
                client
                    .query_one(&format!("SHOW {name}"), &[])
                    .unwrap()
                    .get(0)
            })
            .collect()
    };
    let before = shapes(&mut client);
    let expected = r#"INSERT public.shaped id=1 s=["2020-02-03 04:05:06+00","2021-01-01 00:00:00+00") m=(0.30000000000000004,"1 day 02:03:04","\\x00ff",2020-12-31) ts=2020-02-03 04:05:06+00"#;
    assert_eq!(Capture::peek(&mut client, "s", &[]).lines(), [expected]);
    assert_eq!(shapes(&mut client), before);
    // Inside the caller's own transaction, too.
    client
        .each("BEGIN; SET LOCAL DateStyle = 'Postgres'")
        .unwrap();
    assert_eq!(Capture::peek(&mut client, "s", &[]).lines(), [expected]);
    let style: String = client.query_one("SHOW DateStyle", &[]).unwrap().get(0);
    assert!(style.starts_with("Postgres"), "{style}");
    client.each("ROLLBACK").unwrap();
    assert_eq!(shapes(&mut client), before);
    // And over the replication protocol, whose session has other settings.
    assert_eq!(
        Walsender::capture(&server, "postgres", "s", &[]).lines(),
        [expected]
    );

    broken_type(&server);
    client.each("INSERT INTO fragile VALUES (1, '42')").unwrap();
    for _ in 0..3 {
        assert!(Capture::try_peek(&mut client, "s", &[]).is_err());
        assert_eq!(shapes(&mut client), before);
    }
    client.each("BEGIN").unwrap();
    client.each("SAVEPOINT a").unwrap();
    assert!(Capture::try_peek(&mut client, "s", &[]).is_err());
    client.each("ROLLBACK TO a").unwrap();
    assert_eq!(shapes(&mut client), before);
    client.each("ROLLBACK").unwrap();
    assert_eq!(shapes(&mut client), before);
}
