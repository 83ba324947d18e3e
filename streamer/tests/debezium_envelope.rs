//! Whole records in, JSON lines out.

use std::collections::HashSet;

use serde_json::{Value as Json, json};
use walferry_protocol::{
    self as protocol, Column, ColumnFlags, Context, Encoding, Flags, Frame, Lsn, OldRow, Origin,
    Put, RecordTag, Relation, RelationKind, ReplicaIdentity, Root, Start, Truncate, Value,
};
use walferry_streamer::datum::Type;
use walferry_streamer::decode::RelationTable;
use walferry_streamer::decode::native::{decode_records, transaction};
use walferry_streamer::encode::debezium::{DebeziumJson, DebeziumOptions};
use walferry_streamer::encode::{ByteaForm, Encode, Int8Form, JsonForm, NumericForm, ValueForms};
use walferry_streamer::error::Result;
use walferry_streamer::event::Event;

fn start() -> Start {
    Start {
        server_version: 150_020,
        system_identifier: 7,
        database_oid: 5,
        database: "shop".into(),
        server_encoding: "UTF8".into(),
        big_endian: false,
        streaming: false,
        two_phase: false,
        plugin_version: "0.1.0".into(),
    }
}

fn column(name: &str, base_type_oid: u32, flags: u8) -> Column {
    Column {
        name: name.into(),
        attnum: 1,
        type_oid: base_type_oid,
        type_schema: "pg_catalog".into(),
        type_name: "some".into(),
        typmod: -1,
        base_type_oid,
        encoding: Encoding::Raw(Type::from_oid(base_type_oid).storage()),
        flags: ColumnFlags(flags),
    }
}

/// orders (id int4 key, note text, flag "char")
fn orders() -> Relation {
    let mut relation = Relation {
        number: 1,
        oid: 16_400,
        schema: "public".into(),
        name: "orders".into(),
        kind: RelationKind::Table,
        replica_identity: ReplicaIdentity::Default,
        identity_usable: true,
        root: None,
        fingerprint: 0,
        columns: vec![
            column("id", 23, ColumnFlags::KEY),
            column("note", 25, 0),
            column("\"quoted\".é😀%", 20, 0),
        ],
    };
    relation.seal();
    relation
}

struct Change(Vec<u8>);

impl Change {
    fn open(tag: RecordTag, relation: Option<u32>) -> Self {
        let mut bytes = Vec::new();
        protocol::open_change(&mut bytes, tag, None, Lsn(100), 3);
        if let Some(number) = relation {
            bytes.put_u32(number);
        }
        Change(bytes)
    }
    fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }
    fn row(mut self, values: &[Value<'_>]) -> Self {
        self.0.put_u16(values.len() as u16);
        for value in values {
            protocol::encode_value(&mut self.0, *value);
        }
        self
    }
    fn close(mut self) -> Vec<u8> {
        protocol::close_record(&mut self.0);
        self.0
    }
}

fn encode_with(
    relation: Relation,
    records: &[u8],
    origin: Option<Origin>,
    options: &DebeziumOptions,
) -> Result<Vec<Json>> {
    let context = Context::Transaction(protocol::Transaction {
        xid: 771,
        commit_lsn: Lsn(900),
        end_lsn: Lsn(1000),
        commit_time: 848_550_240_123_456,
        origin,
    });
    let mut definitions = Vec::new();
    relation.encode(&mut definitions);
    let bytes = protocol::encode_frame(
        &context,
        Flags(Flags::FIRST | Flags::LAST),
        &definitions,
        records,
    );
    let frame = Frame::decode(&bytes).unwrap();
    let table = RelationTable::new();
    for definition in frame.definitions() {
        table.insert(definition.unwrap());
    }
    let Context::Transaction(context) = &frame.context else {
        unreachable!()
    };
    let encoder = DebeziumJson::new(options);
    let mut out = Vec::new();
    decode_records(
        frame.records(),
        &table,
        &start(),
        &transaction(context),
        true,
        &HashSet::new(),
        &mut |event: &Event<'_>| encoder.encode(event, &mut out),
    )?;
    Ok(String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect())
}

fn encode(relation: Relation, records: &[u8]) -> Result<Vec<Json>> {
    let options = DebeziumOptions {
        database: "shop".into(),
        ..Default::default()
    };
    encode_with(relation, records, None, &options)
}

fn int4(value: i32) -> [u8; 4] {
    value.to_le_bytes()
}

#[test]
fn an_insert_has_no_before_and_names_its_source_exactly() {
    let record = Change::open(RecordTag::Insert, Some(1))
        .row(&[
            Value::Raw(&int4(42)),
            Value::Raw("tab\there".as_bytes()),
            Value::Raw(&(-1i64).to_le_bytes()),
        ])
        .close();
    let options = DebeziumOptions {
        database: "shop".into(),
        name: Some("ferry".into()),
        ..Default::default()
    };
    let origin = Origin {
        name: "node a".into(),
        lsn: Lsn(77),
    };
    let mut events = encode_with(orders(), &record, Some(origin), &options).unwrap();
    let event = events[0].as_object_mut().unwrap();
    assert!(event.remove("ts_ms").unwrap().as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(
        events,
        [json!({
            "before": null,
            "after": {"id": 42, "note": "tab\there", "\"quoted\".é😀%": -1},
            "source": {
                "connector": "walferry", "version": env!("CARGO_PKG_VERSION"), "name": "ferry",
                "db": "shop", "schema": "public", "table": "orders", "txId": 771, "lsn": 1000,
                "change_lsn": 100, "seq": 3, "ts_us": 1_795_235_040_123_456u64,
                "ts_ms": 1_795_235_040_123u64, "snapshot": "false", "origin": "node a",
                "origin_lsn": 77
            },
            "op": "c",
            "transaction": {"id": "771:1000"}
        })]
    );
}

#[test]
fn an_update_tells_null_unchanged_toast_and_old_key_apart() {
    let eight = 8i64.to_le_bytes();
    let unchanged = Change::open(RecordTag::Update, Some(1))
        .byte(OldRow::NONE)
        .row(&[Value::Raw(&int4(1)), Value::UnchangedToast, Value::Null])
        .close();
    let key = Change::open(RecordTag::Update, Some(1))
        .byte(OldRow::KEY)
        .row(&[Value::Raw(&int4(1)), Value::Absent, Value::Absent])
        .row(&[
            Value::Raw(&int4(2)),
            Value::UnchangedToast,
            Value::Raw(&eight),
        ])
        .close();
    let full = Change::open(RecordTag::Update, Some(1))
        .byte(OldRow::FULL)
        .row(&[Value::Raw(&int4(1)), Value::Raw(b"long"), Value::Null])
        .row(&[
            Value::Raw(&int4(1)),
            Value::UnchangedToast,
            Value::Raw(&eight),
        ])
        .close();
    let events = encode(orders(), &[unchanged, key, full].concat()).unwrap();
    let name = "\"quoted\".é😀%";

    assert_eq!(events[0]["op"], "u");
    assert_eq!(events[0]["before"], json!(null));
    assert_eq!(events[0]["after"], json!({"id": 1, name: null}));
    assert_eq!(events[0]["source"]["unchanged"], json!(["note"]));
    assert_eq!(events[0]["source"]["identity"], "key");

    assert_eq!(events[1]["before"], json!({"id": 1}));
    assert_eq!(events[1]["after"], json!({"id": 2, name: 8}));
    assert_eq!(events[1]["source"]["unchanged"], json!(["note"]));

    assert_eq!(
        events[2]["before"],
        json!({"id": 1, "note": "long", name: null})
    );
    assert_eq!(
        events[2]["after"],
        json!({"id": 1, "note": "long", name: 8})
    );
    assert_eq!(events[2]["source"].get("unchanged"), None);
    assert_eq!(events[2]["source"]["identity"], "full");
}

#[test]
fn a_row_without_a_replica_identity_is_delivered_marked() {
    let mut relation = orders();
    relation.identity_usable = false;
    let update = Change::open(RecordTag::Update, Some(1))
        .byte(OldRow::NONE)
        .row(&[Value::Raw(&int4(1)), Value::Null, Value::Null])
        .close();
    let delete = Change::open(RecordTag::Delete, Some(1))
        .byte(OldRow::NONE)
        .close();
    let events = encode(relation, &[update, delete].concat()).unwrap();
    for event in &events {
        assert_eq!(event["source"]["identity"], "none");
        assert_eq!(event["before"], json!(null));
    }
    assert_eq!(events[1]["op"], "d");
    assert_eq!(events[1]["after"], json!(null));
}

#[test]
fn a_truncate_gives_one_event_for_each_relation_of_it() {
    let mut record = Vec::new();
    protocol::open_change(&mut record, RecordTag::Truncate, None, Lsn(100), 0);
    protocol::encode_truncate(
        &mut record,
        &Truncate {
            cascade: true,
            restart_identity: false,
            relations: vec![1, 1],
        },
    );
    protocol::close_record(&mut record);
    let mut partition = orders();
    partition.root = Some(Root {
        oid: 9,
        schema: "sales".into(),
        name: "all.orders".into(),
    });
    let events = encode(partition, &record).unwrap();
    assert_eq!(events.len(), 2);
    for (seq, event) in events.iter().enumerate() {
        assert_eq!(event["op"], "t");
        assert_eq!(event["source"]["seq"], seq);
        assert_eq!(
            event["truncate"],
            json!({"cascade": true, "restart_identity": false})
        );
        assert_eq!(
            event["source"]["root"],
            json!({"schema": "sales", "table": "all.orders"})
        );
    }
}

#[test]
fn a_message_carries_its_content_as_base64() {
    let mut record = Vec::new();
    protocol::open_change(&mut record, RecordTag::Message, None, Lsn(100), 0);
    protocol::encode_message(
        &mut record,
        protocol::Message {
            prefix: "audit\n",
            content: &[0, 255, 1, 2],
        },
    );
    protocol::close_record(&mut record);
    let events = encode(orders(), &record).unwrap();
    assert_eq!(events[0]["op"], "m");
    assert_eq!(
        events[0]["message"],
        json!({"prefix": "audit\n", "content": "AP8BAg==", "transactional": true})
    );
    assert_eq!(events[0]["source"]["table"], "");
}

#[test]
fn values_take_the_form_that_the_options_ask_for() {
    let mut relation = orders();
    relation.columns = vec![
        column("n", 1700, 0),
        column("i", 20, 0),
        column("j", 114, 0),
        column("b", 17, 0),
        column("f", 701, 0),
        column("t", 1184, 0),
        column("d", 1082, 0),
        column("nan", 1700, 0),
    ];
    let numeric = [0x00u8, 0x81, 1, 0, 0x88, 0x13]; // 1.50
    let record = Change::open(RecordTag::Insert, Some(1))
        .row(&[
            Value::Raw(&numeric),
            Value::Raw(&9_007_199_254_740_993i64.to_le_bytes()),
            Value::Raw(b"{\"a\":\r\n [1, 2]}"),
            Value::Raw(&[1, 2, 255]),
            Value::Raw(&f64::NAN.to_le_bytes()),
            Value::Raw(&848_550_240_123_456i64.to_le_bytes()),
            Value::Raw(&i32::MAX.to_le_bytes()),
            Value::Raw(&[0x00, 0xc0]),
        ])
        .close();
    let events = encode(relation.clone(), &record).unwrap();
    assert_eq!(
        events[0]["after"],
        json!({
            "n": "1.50", "i": 9_007_199_254_740_993i64, "j": {"a": [1, 2]}, "b": "AQL/",
            "f": "NaN", "t": "2026-11-21T04:24:00.123456Z", "d": "infinity", "nan": "NaN"
        })
    );
    let options = DebeziumOptions {
        values: ValueForms {
            int8: Int8Form::String,
            numeric: NumericForm::Number,
            json: JsonForm::String,
            bytea: ByteaForm::Hex,
        },
        ..Default::default()
    };
    let events = encode_with(relation, &record, None, &options).unwrap();
    assert_eq!(
        events[0]["after"],
        json!({
            "n": 1.5, "i": "9007199254740993", "j": "{\"a\":\r\n [1, 2]}", "b": "0102ff",
            "f": "NaN", "t": "2026-11-21T04:24:00.123456Z", "d": "infinity", "nan": "NaN"
        })
    );
}

#[test]
fn a_value_that_came_as_text_takes_the_same_form_as_a_raw_one() {
    let cases: &[(u32, &str, Json)] = &[
        (23, "-42", json!(-42)),
        (701, "1e+20", json!(1e20)),
        (701, "-Infinity", json!("-Infinity")),
        (1700, "10.00", json!("10.00")),
        (16, "t", json!(true)),
        (
            1184,
            "2026-11-21 04:24:00.5+00",
            json!("2026-11-21T04:24:00.5Z"),
        ),
        (
            1184,
            "0044-03-15 00:00:00+00 BC",
            json!("0044-03-15 00:00:00+00 BC"),
        ),
        (1114, "10000-01-01 00:00:00", json!("10000-01-01T00:00:00")),
        (17, "\\x0102ff", json!("AQL/")),
        (3802, "{\"a\": 1}", json!({"a": 1})),
        (1042, "ab   ", json!("ab")),
        (
            1007,
            "[0:1][2:3]={{1,NULL},{-3,4}}",
            json!([[1, null], [-3, 4]]),
        ),
        (
            1009,
            "{a,\"b \\\"c\\\\\",NULL,\"NULL\",\"\",é}",
            json!(["a", "b \"c\\", null, "NULL", "", "é"]),
        ),
        (1009, "{}", json!([])),
        (869, "10.0.0.1", json!("10.0.0.1/32")),
        (600, "(1,2)", json!("(1,2)")),
    ];
    for (oid, text, expected) in cases {
        let mut relation = orders();
        relation.columns = vec![column("v", *oid, 0)];
        let record = Change::open(RecordTag::Insert, Some(1))
            .row(&[Value::Text(text.as_bytes())])
            .close();
        let events = encode(relation, &record).unwrap();
        assert_eq!(events[0]["after"]["v"], *expected, "{text}");
    }
}

#[test]
fn an_array_of_a_type_that_is_not_known_is_an_array_of_strings() {
    let mut relation = orders();
    relation.columns = vec![column("v", 16_500, ColumnFlags::ARRAY)];
    let record = Change::open(RecordTag::Insert, Some(1))
        .row(&[Value::Text(b"{{happy,\"(1,\\\"a b\\\")\"},{NULL,7}}")])
        .close();
    let events = encode(relation, &record).unwrap();
    assert_eq!(
        events[0]["after"]["v"],
        json!([["happy", "(1,\"a b\")"], [null, "7"]])
    );
}

#[test]
fn a_malformed_value_names_its_table_and_column() {
    for (oid, bytes) in [
        (23, &b"abc"[..]),
        (25, b"\xff"),
        (3802, b"\x01"),
        (1007, b"\x01"),
    ] {
        let mut relation = orders();
        relation.columns[1] = column("note", oid, 0);
        let record = Change::open(RecordTag::Insert, Some(1))
            .row(&[Value::Raw(&int4(42)), Value::Raw(bytes), Value::Null])
            .close();
        let failure = encode(relation, &record).unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.message.contains("public.orders"), "{failure}");
        assert!(failure.detail.unwrap().contains("\"note\""));
    }
}
