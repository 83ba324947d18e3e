//! The output plugin in databases of other encodings, and who it says it is.

use walferry_protocol::Kind;
use walferry_tests::frames::{Action, Capture, Cell, table_rows};
use walferry_tests::{Encoding, Server, Statements};

#[test]
fn databases_in_latin1_and_euc_jp_arrive_in_utf8() {
    let server = Server::start_default();
    for (encoding, text, raw) in [
        (Encoding::Latin1, "äöüß§", "E'\\xe4'"),
        (Encoding::EucJp, "漢字かな", "'漢'"),
    ] {
        let database = encoding.name().to_lowercase();
        server.create_database(&database, encoding);
        let mut client = server.client_in(&database);
        client
            .each(&format!(
                "SET client_encoding = UTF8; CREATE TYPE \"{text}_e\" AS ENUM ('{text}');
                 CREATE TABLE \"{text}\" (\"id{text}\" text PRIMARY KEY, v varchar, c char(12), j json, jb jsonb, nm name, a text[], e \"{text}_e\", ch \"char\", n numeric, by bytea, big text)"
            ))
            .unwrap();
        server.create_slot_in(&database, &database, "walferry");
        client
            .each(&format!(
                "INSERT INTO \"{text}\" VALUES ('{text}', '{text}', '{text}', '{{\"{text}\": \"{text}\"}}', '{{\"{text}\": [\"{text}\"]}}', '{text}', '{{{text},NULL}}', '{text}', 'x', 1.5, '\\xe4ff', repeat('{text}', 300000));
                 UPDATE \"{text}\" SET \"id{text}\" = 'neu{text}'; SELECT pg_logical_emit_message(true, '{text}', '{text}'::text)"
            ))
            .unwrap();
        let _ = raw;
        let capture = Capture::peek(&mut client, &database, &[]);
        let expected = table_rows(&mut client, &format!("\"{text}\""), "1").remove(0);
        let changes: Vec<_> = capture.changes().collect();
        assert_eq!(changes[0].table(), text);
        for (place, cell) in changes[1].row().iter().enumerate() {
            assert!(
                *cell == expected[place] || *cell == Cell::UnchangedToast,
                "{cell:?} {:?}",
                expected[place]
            );
        }
        assert_eq!(*changes[0].cell("big"), Cell::Text(text.repeat(300_000)));
        assert_eq!(changes[1].old_row().unwrap()[0], Cell::Text(text.into()));
        assert_eq!(
            capture.start.as_ref().unwrap().server_encoding,
            encoding.name()
        );
        let Action::Message { prefix, .. } = &changes[2].action else {
            panic!("{:?}", changes[2])
        };
        assert_eq!(prefix, text);
        let tables = format!("public.{text}");
        let filtered = Capture::peek(&mut client, &database, &[("tables", &tables)]);
        assert_eq!(
            filtered.changes().filter(|c| c.relation.is_some()).count(),
            2
        );
    }
}

#[test]
fn sql_ascii_text_that_is_not_utf8_stops_with_its_place_or_is_escaped() {
    let server = Server::builder().encoding(Encoding::SqlAscii).start();
    let mut client = server.client();
    client
        .each("CREATE TABLE raw (id int PRIMARY KEY, t text, a text[], jb jsonb)")
        .unwrap();
    server.create_slot("s", "walferry");
    client
        .each(r"INSERT INTO raw VALUES (1, 'gr' || chr(195) || chr(188) || 'n', '{ok}', '{}')")
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    assert_eq!(capture.changes().next().unwrap().text("t"), "grün");
    client
        .each(r"INSERT INTO raw VALUES (2, 'x' || chr(255) || 'y', ARRAY[chr(254)], NULL)")
        .unwrap();
    let error = Capture::try_peek(&mut client, "s", &[]).unwrap_err();
    let error = error.as_db_error().expect("a server error");
    assert_eq!(error.code().code(), "22021", "{error:?}");
    assert!(
        error.message().contains("\"raw\"") && error.message().contains("\"t\""),
        "{}",
        error.message()
    );
    assert!(error.hint().unwrap().contains("invalid_text"));
    let capture = Capture::peek(&mut client, "s", &[("invalid_text", "escape")]);
    let second = capture.changes().nth(1).unwrap();
    assert_eq!(second.text("t"), r"x\xffy");
    assert_eq!(*second.cell("jb"), Cell::Null);
}

#[test]
fn the_start_frame_tells_who_the_server_is() {
    let server = Server::start_default();
    let mut client = server.client();
    client.each("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    server.create_slot("s", "walferry");
    client.each("INSERT INTO t VALUES (1)").unwrap();
    let capture = Capture::peek(&mut client, "s", &[("streaming", "on")]);
    let start = capture.start.unwrap();
    let number: i32 = server.value("SELECT current_setting('server_version_num')::int");
    assert_eq!(start.server_version, number as u32);
    let identifier: i64 = server.value("SELECT system_identifier FROM pg_control_system()");
    assert_eq!(start.system_identifier, identifier as u64);
    assert_eq!(start.database, "postgres");
    let oid: u32 = server.value("SELECT oid FROM pg_database WHERE datname = 'postgres'");
    assert_eq!(start.database_oid, oid);
    assert_eq!(start.big_endian, cfg!(target_endian = "big"));
    assert!(start.streaming && !start.two_phase);
    assert_eq!(capture.frames[0].kind, Kind::Start);
    assert_eq!(start.plugin_version, env!("CARGO_PKG_VERSION"));
}
