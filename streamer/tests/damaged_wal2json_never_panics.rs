//! The fuzz target's ground in every test run: messages of wal2json that are
//! damaged come back as events or as one clear error, in either format.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use walferry_protocol::{
    Column, ColumnFlags, Encoding, Lsn, Relation, RelationKind, ReplicaIdentity,
};
use walferry_streamer::decode::wal2json::message::Kind;
use walferry_streamer::decode::wal2json::record::Record;
use walferry_streamer::decode::wal2json::{
    Chunk, Definitions, Filters, Head, Request, ServerEncoding, Wal2json,
};
use walferry_streamer::encode::Encode;
use walferry_streamer::encode::debezium::{DebeziumJson, DebeziumOptions};
use walferry_streamer::error::{Failure, Result};
use walferry_streamer::event::Transaction;
use walferry_streamer::source::catalog::{Found, TypeDescription};
use walferry_streamer::source::table_filter::TableFilter;

/// One table; of any other there is nothing in the catalog.
#[derive(Debug)]
struct Tables;

impl Definitions for Tables {
    fn relation(&self, schema: &str, table: &str) -> Result<Option<Found>> {
        if table != "t" {
            return Ok(None);
        }
        let columns: Vec<Column> = COLUMNS
            .iter()
            .zip(1..)
            .map(|(&(name, oid, _), attnum)| Column {
                name: name.into(),
                attnum,
                type_oid: oid,
                type_schema: "pg_catalog".into(),
                type_name: "t".into(),
                typmod: -1,
                base_type_oid: oid,
                encoding: Encoding::Text,
                flags: ColumnFlags(u8::from(attnum == 1)),
            })
            .collect();
        Ok(Some(Found {
            out_of_line: columns.iter().map(|column| column.type_oid == 25).collect(),
            relation: Relation {
                number: 0,
                oid: 1,
                schema: schema.into(),
                name: table.into(),
                kind: RelationKind::Table,
                replica_identity: ReplicaIdentity::Default,
                identity_usable: true,
                root: None,
                fingerprint: 0,
                columns,
            },
        }))
    }

    fn types(&self, _oids: &[u32]) -> Result<HashMap<u32, TypeDescription>> {
        Ok(HashMap::new())
    }

    fn origin_name(&self, _origin: u32) -> Result<Option<String>> {
        Ok(None)
    }
}

const COLUMNS: [(&str, u32, &str); 6] = [
    ("id", 23, "7"),
    ("price", 1700, "12345678901234567890.10"),
    ("ok", 16, "true"),
    ("raw", 17, "\"dead\""),
    ("doc", 3802, r#""{\"a\": [1, \"é\"]}""#),
    ("note", 25, r#""a\n\u0001 😀""#),
];

fn version_two() -> Vec<String> {
    let columns: Vec<String> = COLUMNS
        .iter()
        .zip(1..)
        .map(|((name, oid, value), place)| {
            format!(r#"{{"name":"{name}","typeoid":{oid},"value":{value},"position":{place}}}"#)
        })
        .collect();
    let head = r#""xid":7,"timestamp":"2026-11-21 07:55:52.1+00","origin":0,"lsn":"0/1A""#;
    let table = r#""schema":"public","table":"t""#;
    let key =
        r#""identity":[{"name":"id","typeoid":23,"value":8}],"pk":[{"name":"id","typeoid":23}]"#;
    let row = format!(r#""columns":[{}]"#, columns.join(","));
    vec![
        format!(r#"{{"action":"I",{head},{table},{row},"pk":[{{"name":"id","typeoid":23}}]}}"#),
        format!(r#"{{"action":"U",{head},{table},{row},{key}}}"#),
        format!(r#"{{"action":"D",{head},{table},{key}}}"#),
        format!(r#"{{"action":"T",{head},{table}}}"#),
        format!(r#"{{"action":"M",{head},"transactional":false,"prefix":"p","content":"c\"x"}}"#),
    ]
}

fn version_one() -> Vec<String> {
    let list = |each: &dyn Fn(&(&str, u32, &str)) -> String| -> String {
        COLUMNS.iter().map(each).collect::<Vec<_>>().join(",")
    };
    let names = list(&|(name, _, _)| format!("\"{name}\""));
    let types = list(&|(_, oid, _)| oid.to_string());
    let values = list(&|(_, _, value)| (*value).to_owned());
    let row =
        format!(r#""columnnames":[{names}],"columntypeoids":[{types}],"columnvalues":[{values}]"#);
    let key = r#""oldkeys":{"keynames":["id"],"keytypeoids":[23],"keyvalues":[8]},"pk":{"pknames":["id"]}"#;
    vec![
        format!(
            r#"{{"kind":"insert","schema":"public","table":"t",{row},"pk":{{"pknames":["id"]}}}}"#
        ),
        format!(r#",{{"kind":"update","schema":"public","table":"t",{row},{key}}}"#),
        format!(r#",{{"kind":"delete","schema":"public","table":"t",{key}}}"#),
        r#",{"kind":"message","transactional":true,"prefix":"p","content":"c"}"#.to_owned(),
    ]
}

/// A message to its lines, as the assembler and a worker read it.
fn read(message: &[u8], version: &str) -> Result<String> {
    let further = [("format-version".to_owned(), version.to_owned())];
    let request = Request::new(&TableFilter::default(), &further)?;
    let reader = Wal2json::new(
        &request,
        ServerEncoding::Utf8,
        Filters::default(),
        Arc::new(Tables),
    );
    let (action, rest) = if version == "1" {
        match Chunk::read(message, true) {
            Ok(Chunk::Change { action, rest }) => (action, rest),
            Ok(_) => return Ok(String::new()),
            Err(error) => return Err(reader.malformed(error, message)),
        }
    } else {
        match Head::read(message) {
            Ok(Head {
                kind: Kind::Change(action),
                rest,
                ..
            }) => (action, rest),
            Ok(_) => return Ok(String::new()),
            Err(error) => return Err(reader.malformed(error, message)),
        }
    };
    let mut records = Vec::new();
    let (lsn, index) = (Lsn(1), 0);
    Record {
        action,
        lsn,
        index,
        message,
        rest,
    }
    .push(&mut records);
    let encoder = DebeziumJson::new(&DebeziumOptions::default());
    let mut out = Vec::new();
    reader.decode_records(
        &records,
        &Transaction::of_message(Lsn(2)),
        true,
        &mut |event| encoder.encode(event, &mut out),
    )?;
    Ok(String::from_utf8(out).expect("JSON"))
}

fn messages() -> Vec<(String, &'static str)> {
    let two = version_two().into_iter().map(|message| (message, "2"));
    two.chain(version_one().into_iter().map(|message| (message, "1")))
        .collect()
}

#[test]
fn undamaged_messages_read() {
    for (message, version) in messages() {
        let line = read(message.as_bytes(), version).expect("an event");
        let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        if event["op"] == "c" || event["op"] == "u" {
            assert!(
                line.contains(r#""price":"12345678901234567890.10","ok":true,"raw":"3q0=""#),
                "{line}"
            );
            assert_eq!(event["after"]["note"], "a\n\u{1} 😀");
        }
        if event["op"] == "u" || event["op"] == "d" {
            assert_eq!(event["before"], serde_json::json!({"id": 8}));
        }
    }
}

#[test]
fn what_does_not_read_is_one_clear_line() {
    let failure: Failure = read(br#"{"action":"I","xid":7,"schema""#, "2").unwrap_err();
    assert_eq!(failure.exit_code(), 1);
    assert_eq!(
        failure.message,
        "wal2json sent what is not its format-version 2"
    );
    assert!(!failure.message.contains('\n'));
    let detail = failure.detail.unwrap();
    assert!(
        detail.starts_with("a message of 30 bytes that begins with"),
        "{detail}"
    );
    assert!(
        failure
            .hint
            .unwrap()
            .contains("nothing of this transaction was acknowledged")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn damaged_messages(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[],:0-tfn".to_vec())],
        cut in any::<prop::sample::Index>(),
        how in 0..4,
    ) {
        let (message, version) = which.get(&messages()).clone();
        let mut message = message.into_bytes();
        let place = at.index(message.len());
        match how {
            0 => message[place] = byte,
            1 => message.insert(place, byte),
            2 => {
                message.remove(place);
            }
            _ => message.truncate(cut.index(message.len())),
        }
        let _ = read(&message, version);
    }

    #[test]
    fn random_messages(bytes in prop::collection::vec(any::<u8>(), 0..80), version in prop::sample::select(vec!["1", "2"])) {
        let _ = read(&bytes, version);
    }
}
