//! Databases whose encoding is not UTF-8.

use walferry_tests::{Encoding, Server};

use crate::events::{frames_in, read, try_frames_in};

fn prepare(server: &Server, encoding: Encoding) {
    server.create_database("other", encoding);
    server.sql_in(
        "other",
        "CREATE TYPE \"Stil ü\" AS ENUM ('grün', 'x');
         CREATE TABLE \"Tür\" (\"schlüssel\" int PRIMARY KEY, t text, v varchar(10), c char(3), j json,
             jb jsonb, a text[], e \"Stil ü\", n name, z bytea, d text DEFAULT 'für')",
    );
    server.create_slot_in("other", "s", "walferry");
}

#[test]
fn text_of_a_latin1_database_arrives_in_utf8() {
    let server = Server::start_default();
    prepare(&server, Encoding::Latin1);
    server.sql_in(
        "other",
        "INSERT INTO \"Tür\" VALUES (1, 'ä' || repeat('ö', 3000), 'ßß', 'ü', '{\"k\": \"é\"}', '{\"k\": \"é\"}',
             '{ñ,NULL}', 'grün', 'name ÿ', '\\xff');
         UPDATE \"Tür\" SET v = 'w';
         SELECT pg_logical_emit_message(true, 'präfix', 'x')",
    );
    let found = read(&frames_in(&server, "other", "s", &[]));
    assert_eq!(found.start.as_ref().unwrap().server_encoding, "LATIN1");
    assert_eq!(found.definitions[0].name, "Tür");
    assert_eq!(found.definitions[0].columns[0].name, "schlüssel");
    let row = &found.lines[1];
    let long = format!("t=ä{}, ", "ö".repeat(3000));
    for part in [
        long.as_str(),
        "v=ßß",
        "c=ü  ",
        "j={\"k\": \"é\"}",
        "jb={\"k\": \"é\"}",
        "a={ñ,NULL}",
        "e=grün",
        "n=name ÿ",
        "z=<1 bytes>",
        "d=für",
    ] {
        assert!(row.contains(part), "{row} has no {part}");
    }
    assert!(found.lines.contains(&"M präfix: x".to_owned()));
}

#[test]
fn text_of_an_euc_jp_database_arrives_in_utf8_however_long() {
    let server = Server::start_default();
    server.create_database("other", Encoding::EucJp);
    server.sql_in(
        "other",
        "CREATE TABLE \"表\" (id int PRIMARY KEY, t text, s text); ALTER TABLE \"表\" ALTER s SET STORAGE EXTERNAL",
    );
    server.create_slot_in("other", "s", "walferry");
    server.sql_in(
        "other",
        "INSERT INTO \"表\" VALUES (1, repeat('日本', 400000), 'x' || repeat('語', 700000))",
    );
    let found = read(&frames_in(&server, "other", "s", &[]));
    assert_eq!(found.definitions[0].name, "表");
    assert_eq!(
        found.lines[1],
        format!(
            "I 表(id=1, t={}, s=x{})",
            "日本".repeat(400_000),
            "語".repeat(700_000)
        )
    );
}

#[test]
fn bytes_that_are_no_text_stop_or_are_escaped() {
    let server = Server::start_default();
    server.create_database("other", Encoding::SqlAscii);
    server.sql_in(
        "other",
        "CREATE TABLE t (id int PRIMARY KEY, x text, y varchar(9))",
    );
    server.create_slot_in("other", "s", "walferry");
    server.sql_in(
        "other",
        "INSERT INTO t VALUES (1, 'plain', convert_from('\\xc3a4', 'SQL_ASCII'))",
    );
    let found = read(&frames_in(&server, "other", "s", &[]));
    assert_eq!(found.lines[1], "I t(id=1, x=plain, y=ä)");

    server.sql_in(
        "other",
        "INSERT INTO t VALUES (2, 'a' || convert_from('\\xff', 'SQL_ASCII') || 'b', '')",
    );
    let error = try_frames_in(&server, "other", "s", &[]).unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "22021");
    assert_eq!(
        error.message(),
        "column \"x\" of type \"pg_catalog\".\"text\" of table \"public\".\"t\" is not valid UTF-8"
    );
    assert!(error.hint().unwrap().contains("invalid_text"), "{error:?}");
    let found = read(&frames_in(
        &server,
        "other",
        "s",
        &[("invalid_text", "escape")],
    ));
    assert_eq!(found.lines[1], "I t(id=2, x=a\\xffb, y=)");
}

#[test]
fn json_of_a_latin1_database_is_ascii() {
    let server = Server::start_default();
    prepare(&server, Encoding::Latin1);
    server.sql_in(
        "other",
        "INSERT INTO \"Tür\" (\"schlüssel\", t) VALUES (1, 'ä')",
    );
    server.flushed_lsn();
    let json = server.texts_in(
        "other",
        "SELECT data FROM pg_logical_slot_get_changes('s', NULL, NULL, 'format', 'json', 'include-types', 'f')",
    );
    assert!(json[1].is_ascii());
    assert!(json[1].contains("\"table\":\"T\\u00fcr\""), "{}", json[1]);
}
