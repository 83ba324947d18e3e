//! pgoutput's messages, random and damaged: an answer or an error, never a
//! panic, in bounded memory.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use walferry_protocol::{
    Column, ColumnFlags, Encoding, Lsn, Relation, RelationKind, ReplicaIdentity,
};
use walferry_streamer::datum::ScalarType;
use walferry_streamer::decode::pgoutput::message::Message;
use walferry_streamer::decode::pgoutput::{Pgoutput, records};
use walferry_streamer::encode::Encode;
use walferry_streamer::encode::debezium::{DebeziumJson, DebeziumOptions};
use walferry_streamer::event::Transaction;
use walferry_streamer::pipeline::dispatch::Piece;
use walferry_streamer::transaction::Dialect;

/// Of a table with a column of every type that is read, and one of another.
fn dialect() -> Dialect {
    let oids: Vec<u32> = ScalarType::all()
        .flat_map(|scalar| [scalar.oid(), scalar.array_oid()])
        .chain([600])
        .collect();
    let pgoutput = Pgoutput::new(150_000);
    pgoutput.relations.insert(Relation {
        number: 1,
        oid: 1,
        schema: "s".into(),
        name: "t".into(),
        kind: RelationKind::Table,
        replica_identity: ReplicaIdentity::Full,
        identity_usable: true,
        root: None,
        fingerprint: 0,
        columns: (1..)
            .zip(oids)
            .map(|(attnum, oid)| Column {
                name: format!("c{attnum}"),
                attnum,
                type_oid: oid,
                type_schema: "pg_catalog".into(),
                type_name: "t".into(),
                typmod: -1,
                base_type_oid: oid,
                encoding: Encoding::Text,
                flags: ColumnFlags(u8::from(attnum == 1)),
            })
            .collect(),
    });
    Dialect::Pgoutput(pgoutput)
}

/// The JSON of a piece's events, or the failure's text.
fn decode(dialect: &Arc<Dialect>, records: Vec<u8>, streamed: bool) -> Result<String, String> {
    let piece = Piece {
        dialect: Arc::clone(dialect),
        transaction: Arc::new(Transaction::of_message(Lsn(9))),
        records: Bytes::from(records),
        streamed,
        transactional: true,
        aborted: Arc::new(HashSet::from([5])),
        ends: true,
    };
    let encoder = DebeziumJson::new(&DebeziumOptions::default());
    let mut out = Vec::new();
    let decoded = dialect.decode(&piece, &mut |event| encoder.encode(event, &mut out));
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    decoded
        .map(|()| text)
        .map_err(|failure| failure.to_string())
}

fn record(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    records::append(&mut out, Lsn(7), 0, message, 0, &[]);
    out
}

/// A row of the table, all nulls but one column.
fn row(column: usize, kind: u8, value: &[u8]) -> Vec<u8> {
    let columns = ScalarType::all().count() * 2 + 1;
    let mut row = (columns as u16).to_be_bytes().to_vec();
    for place in 0..columns {
        if place == column {
            row.push(kind);
            row.extend((value.len() as u32).to_be_bytes());
            row.extend_from_slice(value);
        } else {
            row.push(b'n');
        }
    }
    row
}

fn insert(column: usize, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut message = vec![b'I', 0, 0, 0, 1, b'N'];
    message.extend(row(column, kind, value));
    message
}

fn column_of(scalar: ScalarType, array: bool) -> usize {
    let place = ScalarType::all().position(|one| one == scalar).expect("it");
    2 * place + usize::from(array)
}

/// Values as send functions write them, and what the event shows.
fn binary() -> Vec<(usize, Vec<u8>, &'static str)> {
    let words =
        |words: &[u16]| -> Vec<u8> { words.iter().flat_map(|word| word.to_be_bytes()).collect() };
    let longs =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_be_bytes()).collect() };
    let scalar = |scalar| column_of(scalar, false);
    let mut texts = longs(&[1, 1, 25, 3, 1, 1]);
    texts.push(b'a');
    texts.extend(longs(&[u32::MAX, 5]));
    texts.extend(b"b\"c,d");
    let mut numerics = longs(&[1, 0, 1700, 2, 1]);
    for numeric in [
        words(&[2, 0, 0x4000, 2, 12, 3400]),
        words(&[0, 0, 0xc000, 0]),
    ] {
        numerics.extend(longs(&[numeric.len() as u32]));
        numerics.extend(numeric);
    }
    let square = longs(&[2, 0, 21, 2, 1, 2, 1]);
    let square = [
        square,
        longs(&[2]),
        words(&[1]),
        longs(&[2]),
        words(&[2]),
        longs(&[2]),
        words(&[3]),
        longs(&[2]),
        words(&[4]),
    ]
    .concat();
    vec![
        (scalar(ScalarType::Int4), longs(&[7]), "7"),
        (scalar(ScalarType::Bool), vec![1], "true"),
        (
            scalar(ScalarType::Numeric),
            words(&[2, 0, 0x4000, 2, 12, 3400]),
            "\"-12.34\"",
        ),
        (
            scalar(ScalarType::Numeric),
            words(&[0, 0, 0xd000, 0]),
            "\"Infinity\"",
        ),
        (
            scalar(ScalarType::Jsonb),
            b"\x01{\"a\": 1}".to_vec(),
            "{\"a\": 1}",
        ),
        (scalar(ScalarType::Bpchar), b"x  ".to_vec(), "\"x\""),
        (scalar(ScalarType::Name), b"n".to_vec(), "\"n\""),
        (
            column_of(ScalarType::Text, true),
            texts,
            "[\"a\",null,\"b\\\"c,d\"]",
        ),
        (
            column_of(ScalarType::Numeric, true),
            numerics,
            "[\"-12.34\",\"NaN\"]",
        ),
        (column_of(ScalarType::Int2, true), square, "[[1,2],[3,4]]"),
        (column_of(ScalarType::Int8, true), longs(&[0, 0, 20]), "[]"),
    ]
}

#[test]
fn values_in_binary_read_as_their_text_does() {
    let dialect = Arc::new(dialect());
    for (column, value, shown) in binary() {
        let json = decode(&dialect, record(&insert(column, b'b', &value)), false)
            .unwrap_or_else(|failure| panic!("{shown}: {failure}"));
        let wanted = format!("\"c{}\":{shown}", column + 1);
        let found = json.contains(&wanted);
        assert!(found, "{wanted} is not in {json}");
    }
}

#[test]
fn a_type_that_is_not_read_in_binary_is_refused_by_column() {
    let dialect = Arc::new(dialect());
    let point = ScalarType::all().count() * 2;
    let failure = decode(&dialect, record(&insert(point, b'b', &[0; 16])), false).unwrap_err();
    assert!(failure.contains("binary=true"), "{failure}");
}

#[test]
fn columns_outside_the_key_are_absent_and_unchanged_ones_are_listed() {
    let dialect = Arc::new(dialect());
    let columns = ScalarType::all().count() * 2 + 1;
    let mut update = vec![b'U', 0, 0, 0, 1, b'K'];
    update.extend(row(0, b't', b"t"));
    update.push(b'N');
    let mut new = row(0, b't', b"f");
    *new.last_mut().expect("a column") = b'u';
    update.extend(new);
    let json = decode(&dialect, record(&update), false).expect("an event");
    assert!(json.starts_with("{\"before\":{\"c1\":true},"), "{json}");
    assert!(
        json.contains(&format!("\"unchanged\":[\"c{columns}\"]")),
        "{json}"
    );
    assert!(!json.contains(&format!("\"c{columns}\":")), "{json}");
}

fn valid() -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = binary()
        .into_iter()
        .map(|(column, value, _)| insert(column, b'b', &value))
        .collect();
    messages.push(insert(0, b't', b"t"));
    messages.push(
        [
            vec![b'D', 0, 0, 0, 1, b'O'],
            row(3, b't', b"{\"\\\\x00\",NULL}"),
        ]
        .concat(),
    );
    messages.push(vec![b'T', 0, 0, 0, 2, 3, 0, 0, 0, 1, 0, 0, 0, 0]);
    messages.push([&[b'M', 1][..], &[0; 8], b"prefix\0", &[0, 0, 0, 2], b"hi"].concat());
    messages.push(
        [
            &[b'R', 0, 0, 0, 1][..],
            b"s\0t\0d",
            &[0, 1, 1],
            b"id\0",
            &[0, 0, 0, 23],
            &[255; 4],
        ]
        .concat(),
    );
    messages
}

#[test]
fn the_valid_ones_are_valid() {
    let dialect = Arc::new(dialect());
    for message in valid() {
        Message::decode(&message, false).unwrap_or_else(|error| panic!("{error}: {message:?}"));
        if message[0] != b'R' {
            let json = decode(&dialect, record(&message), false);
            assert!(json.is_ok_and(|json| !json.is_empty()), "{message:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_an_error_or_a_message(bytes in prop::collection::vec(any::<u8>(), 0..200), tag in prop::sample::select(b"BCORYIUDTMSEcAbPpKr".to_vec()), streamed: bool) {
        let bytes = [vec![tag], bytes].concat();
        let _ = Message::decode(&bytes, streamed);
        let dialect = Arc::new(dialect());
        let _ = decode(&dialect, record(&bytes), streamed);
        let _ = decode(&dialect, bytes, streamed);
    }

    #[test]
    fn damaged_messages_are_an_error_or_a_message(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8, cut: bool, streamed: bool) {
        let mut message = valid()[which.index(valid().len())].clone();
        let at = at.index(message.len());
        if cut {
            message.truncate(at);
        } else {
            message[at] = byte;
        }
        let _ = Message::decode(&message, streamed);
        let dialect = Arc::new(dialect());
        let _ = decode(&dialect, record(&message), streamed);
    }
}
