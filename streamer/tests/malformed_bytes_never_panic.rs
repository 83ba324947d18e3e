//! The fuzz targets' ground in every test run: random bytes and damaged valid
//! ones go through the same functions and must come back as an answer or an
//! error, in bounded memory.

use std::borrow::Cow;
use std::collections::HashSet;

use proptest::prelude::*;
use walferry_protocol::{
    self as protocol, Column, ColumnFlags, Compression, Encoding, Lsn, OldRow, Put, RecordTag,
    Records, Relation, RelationKind, ReplicaIdentity, Start,
};
use walferry_streamer::datum::{Layout, ScalarType, Type, pglz, varlena};
use walferry_streamer::decode::RelationTable;
use walferry_streamer::decode::native::decode_records;
use walferry_streamer::encode::Encode;
use walferry_streamer::encode::debezium::{DebeziumJson, DebeziumOptions};
use walferry_streamer::event::{Event, Transaction, Value};

fn layout() -> impl Strategy<Value = Layout> {
    (any::<bool>(), prop::sample::select(vec![150_000, 180_000]))
        .prop_map(|(big_endian, version)| Layout::of_server(version, big_endian))
}

/// Every type and its array.
fn kind() -> impl Strategy<Value = Type> {
    let kinds: Vec<Type> = ScalarType::all()
        .flat_map(|scalar| [Type::Scalar(scalar), Type::Array(scalar)])
        .collect();
    prop::sample::select(kinds)
}

/// Reads and writes a datum; its text is bounded by what numeric zeros can
/// add (131,072 digits before the point, 16,383 after it, for each element).
fn read_and_write(kind: Type, bytes: &[u8], layout: Layout) {
    if let Ok(value) = Value::read(kind, Cow::Borrowed(bytes), layout) {
        let mut out = Vec::new();
        let _ = value.write_text(&mut out);
        assert!(
            out.len() <= (bytes.len() + 1) * 40_000,
            "{} bytes",
            out.len()
        );
    }
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Valid little-endian datums of the nested kinds, to damage.
fn seeds() -> Vec<(Type, Vec<u8>)> {
    let numeric: Vec<u8> = [0x8000u16 | 4 << 7 | 1, 123, 4567, 8900]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let long_numeric: Vec<u8> = [0x4000u16 | 40, 30, 1, 2, 3]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    // {"a": [1, "x", null], "b": {}}
    let mut inner = words(&[0x4000_0003, 0x9000_0000 | 8, 1, 0x4000_0000]);
    inner.extend(words(&[8 << 2]));
    inner.extend([0x00, 0x80, 0x01, 0x00]);
    inner.push(b'x');
    let mut object = words(&[
        0x2000_0002,
        0x8000_0001,
        1,
        0x5000_0000 | (inner.len() as u32 + 2),
        0x5000_0000 | (4 + 3),
    ]);
    object.extend(b"ab\0\0");
    object.extend(&inner);
    object.extend([0; 3]);
    object.extend(words(&[0x2000_0000]));
    // int4[][] of two by two with a null
    let mut array = words(&[2, 40, 23, 2, 2, 1, (-3i32) as u32]);
    array.extend([0b1101, 0, 0, 0, 0, 0, 0, 0]);
    array.extend(words(&[1, 2, 3]));
    // text[] with a short and a plain element
    let mut texts = words(&[1, 0, 25, 2, 1]);
    texts.extend(words(&[6 << 2]));
    texts.extend(b"a,");
    texts.extend([0x07, b'h', b'i']);
    let numerics = {
        let mut bytes = words(&[1, 0, 1700, 1, 1]);
        bytes.extend(words(&[12 << 2]));
        bytes.extend(&numeric);
        bytes
    };
    vec![
        (Type::Scalar(ScalarType::Numeric), numeric),
        (Type::Scalar(ScalarType::Numeric), long_numeric),
        (Type::Scalar(ScalarType::Jsonb), object),
        (Type::Array(ScalarType::Int4), array),
        (Type::Array(ScalarType::Text), texts),
        (Type::Array(ScalarType::Numeric), numerics),
    ]
}

#[test]
fn the_seeds_are_valid_datums() {
    let texts: Vec<String> = seeds()
        .into_iter()
        .map(|(kind, bytes)| {
            let layout = Layout::of_server(150_000, false);
            let value = Value::read(kind, Cow::Owned(bytes), layout).unwrap();
            let mut out = Vec::new();
            value.write_text(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        })
        .collect();
    assert_eq!(texts[0], "1234567.8900");
    assert!(texts[1].starts_with("-1000200030000"));
    assert_eq!(texts[2], "{\"a\": [1, \"x\", null], \"b\": {}}");
    assert_eq!(texts[3], "[1:2][-3:-2]={{1,NULL},{2,3}}");
    assert_eq!(texts[4], "{\"a,\",hi}");
    assert_eq!(texts[5], "{1234567.8900}");
}

#[test]
fn a_container_cannot_be_read_twice_through_overlapping_entries() {
    // An array whose entries all claim the same bytes, nested: read naively
    // its text doubles with each level.
    let mut inner = words(&[0x4000_0000]);
    for _ in 0..40 {
        let end = inner.len() as u32;
        let mut outer = words(&[0x4000_0002, 0xd000_0000 | end, 0xd000_0000 | end]);
        outer.extend(&inner);
        inner = outer;
    }
    let value = Value::read(
        Type::Scalar(ScalarType::Jsonb),
        Cow::Owned(inner),
        Layout::of_server(150_000, false),
    )
    .unwrap();
    assert!(value.write_text(&mut Vec::new()).is_err());
}

#[test]
fn a_deeply_nested_document_costs_no_stack() {
    // [[[…]]], 200,000 deep, far past what a thread's stack would bear.
    const DEPTH: u32 = 200_000;
    let mut bytes = Vec::new();
    for level in 0..DEPTH {
        let inside = (DEPTH - 1 - level) * 8 + 4;
        bytes.extend(words(&[0x4000_0001, 0x5000_0000 | (inside & 0x0fff_ffff)]));
    }
    bytes.extend(words(&[0x4000_0000]));
    let layout = Layout::of_server(150_000, false);
    let value = Value::read(Type::Scalar(ScalarType::Jsonb), Cow::Owned(bytes), layout).unwrap();
    let mut out = Vec::new();
    value.write_text(&mut out).unwrap();
    assert_eq!(out.len(), 2 * (DEPTH as usize + 1));
}

#[test]
fn a_compressed_value_cannot_claim_more_than_its_bytes_could_give() {
    for method in [Compression::Pglz, Compression::Lz4] {
        assert!(varlena::decompress(method, &[0; 10], 0x3fff_ffff).is_err());
    }
}

fn relation(kinds: &[Type]) -> Relation {
    Relation {
        number: 1,
        oid: 1,
        schema: "s".into(),
        name: "t".into(),
        kind: RelationKind::Table,
        replica_identity: ReplicaIdentity::Full,
        identity_usable: true,
        root: None,
        fingerprint: 0,
        columns: kinds
            .iter()
            .map(|kind| {
                let oid = match kind {
                    Type::Scalar(scalar) => scalar.oid(),
                    Type::Array(element) => element.array_oid(),
                    Type::Other | Type::OtherArray => 600,
                };
                Column {
                    name: format!("{kind:?}"),
                    attnum: 1,
                    type_oid: oid,
                    type_schema: "pg_catalog".into(),
                    type_name: "t".into(),
                    typmod: -1,
                    base_type_oid: oid,
                    encoding: Encoding::Raw(kind.storage()),
                    flags: ColumnFlags(0),
                }
            })
            .collect(),
    }
}

/// A record of each kind over the seeds' types.
fn records() -> Vec<u8> {
    let seeds = seeds();
    let row = |out: &mut Vec<u8>| {
        out.put_u16(seeds.len() as u16);
        for (_, bytes) in &seeds {
            protocol::encode_value(out, protocol::Value::Raw(bytes));
        }
    };
    let mut all = Vec::new();
    for tag in [RecordTag::Insert, RecordTag::Update, RecordTag::Delete] {
        let mut record = Vec::new();
        protocol::open_change(&mut record, tag, None, Lsn(1), 0);
        record.put_u32(1);
        if tag != RecordTag::Insert {
            record.put_u8(OldRow::FULL);
            row(&mut record);
        }
        if tag != RecordTag::Delete {
            row(&mut record);
        }
        protocol::close_record(&mut record);
        all.append(&mut record);
    }
    all
}

/// Decodes and encodes records over the seeds' types.
fn decode(
    bytes: &[u8],
    streamed: bool,
    big_endian: bool,
) -> walferry_streamer::error::Result<usize> {
    let table = RelationTable::new();
    let kinds: Vec<Type> = seeds().into_iter().map(|(kind, _)| kind).collect();
    table.insert(relation(&kinds));
    let start = Start {
        server_version: 150_020,
        system_identifier: 1,
        database_oid: 1,
        database: "d".into(),
        server_encoding: "UTF8".into(),
        big_endian,
        streaming: true,
        two_phase: false,
        plugin_version: "0.1.0".into(),
    };
    let transaction = Transaction {
        xid: 1,
        commit_lsn: Lsn(1),
        end_lsn: Lsn(2),
        commit_time_us: 3,
        origin: None,
    };
    let encoder = DebeziumJson::new(&DebeziumOptions::default());
    let mut out = Vec::new();
    let mut events = 0;
    decode_records(
        Records::new(bytes, streamed),
        &table,
        &start,
        &transaction,
        true,
        &HashSet::new(),
        &mut |event: &Event<'_>| {
            events += 1;
            let before = out.len();
            let encoded = encoder.encode(event, &mut out);
            if encoded.is_err() {
                assert_eq!(out.len(), before, "an event that failed left bytes behind");
            }
            encoded
        },
    )?;
    Ok(events)
}

#[test]
fn undamaged_records_decode() {
    assert_eq!(decode(&records(), false, false).unwrap(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30_000))]

    #[test]
    fn random_datums(kind in kind(), bytes in prop::collection::vec(any::<u8>(), 0..80), layout in layout()) {
        read_and_write(kind, &bytes, layout);
    }

    #[test]
    fn damaged_datums(
        seed in prop::sample::select(seeds()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
        layout in layout(),
    ) {
        let (kind, mut bytes) = seed;
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        read_and_write(kind, &bytes, layout);
        bytes.truncate(cut.index(bytes.len()));
        read_and_write(kind, &bytes, layout);
    }

    #[test]
    fn random_compressed_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100), size in 0usize..4096) {
        if let Ok(whole) = pglz::decompress(&bytes, size) {
            prop_assert_eq!(whole.len(), size);
        }
        for method in [Compression::Pglz, Compression::Lz4] {
            if let Ok(whole) = varlena::decompress(method, &bytes, size as u32) {
                prop_assert_eq!(whole.len(), size);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn random_records(bytes in prop::collection::vec(any::<u8>(), 0..200), streamed in any::<bool>()) {
        let _ = decode(&bytes, streamed, false);
    }

    #[test]
    fn damaged_records(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        big_endian in any::<bool>(),
    ) {
        let mut bytes = records();
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = decode(&bytes, false, big_endian);
    }
}
