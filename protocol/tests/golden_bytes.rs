//! Every kind of frame, record and value, byte for byte. When one of these
//! fails the format has changed: that takes a new protocol version.

use walferry_protocol::*;

/// Header (version, kind, flags, context length, definitions length) and what
/// follows it, checked in both directions.
#[track_caller]
fn frame(context: Context, flags: u16, header: &[u8], body: &[u8]) {
    let expected = [header, body].concat();
    assert_eq!(encode_frame(&context, Flags(flags), &[], &[]), expected);
    let decoded = Frame::decode(&expected).unwrap();
    assert_eq!(decoded.context, context);
    assert_eq!(decoded.flags, Flags(flags));
    assert_eq!(decoded.definitions().count(), 0);
    assert!(decoded.record_bytes().is_empty());
}

fn transaction() -> Transaction {
    Transaction {
        xid: 0x0102_0304,
        commit_lsn: Lsn(0x11),
        end_lsn: Lsn(0x22),
        commit_time: -2,
        origin: None,
    }
}

const TRANSACTION: &[u8] = b"\x04\x03\x02\x01\x11\0\0\0\0\0\0\0\x22\0\0\0\0\0\0\0\
\xfe\xff\xff\xff\xff\xff\xff\xff\0";

#[test]
fn start() {
    let start = Start {
        server_version: 150_020,
        system_identifier: 0x0807_0605_0403_0201,
        database_oid: 5,
        database: "db".into(),
        server_encoding: "UTF8".into(),
        big_endian: true,
        streaming: true,
        two_phase: true,
        plugin_version: "0.1.0".into(),
    };
    let body = b"\x04\x4a\x02\x00\x01\x02\x03\x04\x05\x06\x07\x08\x05\0\0\0\
\x02\0db\x04\0UTF8\x07\x05\x000.1.0";
    frame(
        Context::Start(start.clone()),
        0,
        b"\x01\x01\0\0\x22\0\0\0\0\0\0\0",
        body,
    );
    // Each bit on its own.
    for (bits, change) in [
        (1, (true, false, false)),
        (2, (false, true, false)),
        (4, (false, false, true)),
    ] {
        let one = Start {
            big_endian: change.0,
            streaming: change.1,
            two_phase: change.2,
            ..start.clone()
        };
        let encoded = encode_frame(&Context::Start(one), Flags(0), &[], &[]);
        assert_eq!(encoded[12 + 26], bits);
    }
}

#[test]
fn transaction_and_stream_commit() {
    frame(
        Context::Transaction(transaction()),
        Flags::FIRST | Flags::LAST,
        b"\x01\x02\x03\0\x1d\0\0\0\0\0\0\0",
        TRANSACTION,
    );
    frame(
        Context::StreamCommit(transaction()),
        Flags::LAST,
        b"\x01\x05\x02\0\x1d\0\0\0\0\0\0\0",
        TRANSACTION,
    );
}

#[test]
fn an_origin_stands_at_the_end_of_its_transaction() {
    let with_origin = Transaction {
        origin: Some(Origin {
            name: "a".into(),
            lsn: Lsn(0x33),
        }),
        ..transaction()
    };
    let body = [&TRANSACTION[..28], b"\x01\x01\0a\x33\0\0\0\0\0\0\0"].concat();
    frame(
        Context::Transaction(with_origin),
        Flags::FIRST,
        b"\x01\x02\x01\0\x28\0\0\0\0\0\0\0",
        &body,
    );
}

#[test]
fn streamed_pieces_and_their_aborts() {
    frame(
        Context::Streamed(Streamed { xid: 0x0102_0304 }),
        Flags::CONTINUED | Flags::CONTINUES,
        b"\x01\x03\x0c\0\x04\0\0\0\0\0\0\0",
        b"\x04\x03\x02\x01",
    );
    frame(
        Context::StreamAbort(StreamAbort {
            xid: 1,
            subxid: 2,
            abort_lsn: Lsn(3),
        }),
        0,
        b"\x01\x04\0\0\x10\0\0\0\0\0\0\0",
        b"\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0",
    );
}

#[test]
fn prepared_transactions() {
    let prepared = Prepared {
        xid: 1,
        prepare_lsn: Lsn(2),
        end_lsn: Lsn(3),
        prepare_time: 4,
        gid: "g".into(),
        origin: None,
    };
    let body = b"\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x01\0g\0";
    frame(
        Context::StreamPrepare(prepared.clone()),
        0,
        b"\x01\x06\0\0\x20\0\0\0\0\0\0\0",
        body,
    );
    frame(
        Context::Prepared(prepared),
        Flags::FIRST,
        b"\x01\x07\x01\0\x20\0\0\0\0\0\0\0",
        body,
    );
    frame(
        Context::CommitPrepared(CommitPrepared {
            gid: "g".into(),
            transaction: transaction(),
        }),
        0,
        b"\x01\x08\0\0\x20\0\0\0\0\0\0\0",
        &[b"\x01\0g", TRANSACTION].concat(),
    );
    frame(
        Context::RollbackPrepared(RollbackPrepared {
            xid: 1,
            prepare_end_lsn: Lsn(2),
            end_lsn: Lsn(3),
            rollback_time: 4,
            gid: "g".into(),
        }),
        0,
        b"\x01\x09\0\0\x1f\0\0\0\0\0\0\0",
        b"\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x01\0g",
    );
}

#[test]
fn a_message_outside_any_transaction() {
    frame(
        Context::Message { end_lsn: Lsn(9) },
        0,
        b"\x01\x0a\0\0\x08\0\0\0\0\0\0\0",
        b"\x09\0\0\0\0\0\0\0",
    );
}

#[test]
fn a_relation_definition() {
    let mut relation = Relation {
        number: 1,
        oid: 0x4000,
        schema: "s".into(),
        name: "t".into(),
        kind: RelationKind::Table,
        replica_identity: ReplicaIdentity::Default,
        identity_usable: true,
        root: Some(Root {
            oid: 2,
            schema: "r".into(),
            name: "u".into(),
        }),
        fingerprint: 0,
        columns: vec![Column {
            name: "id".into(),
            attnum: 1,
            type_oid: 0x4001,
            type_schema: "p".into(),
            type_name: "d".into(),
            typmod: -1,
            base_type_oid: 23,
            encoding: Encoding::Raw(Storage {
                length: 4,
                align: 4,
            }),
            flags: ColumnFlags(
                ColumnFlags::KEY
                    | ColumnFlags::NOT_NULL
                    | ColumnFlags::GENERATED
                    | ColumnFlags::ARRAY,
            ),
        }],
    };
    relation.seal();
    let body = b"\0\x40\0\0\x01\0s\x01\0trd\x03\x02\0\0\0\x01\0r\x01\0u\x01\0\
\x02\0id\x01\0\x01\x40\0\0\x01\0p\x01\0d\xff\xff\xff\xff\x17\0\0\0\x01\x04\0\x04\x0f";
    assert_eq!(relation.fingerprint, 0x426d_e140_2e35_c129);
    let expected = [
        &b"\x42\0\0\0\x01\0\0\0\x29\xc1\x35\x2e\x40\xe1\x6d\x42"[..],
        body,
    ]
    .concat();
    let mut encoded = Vec::new();
    relation.encode(&mut encoded);
    assert_eq!(encoded, expected);
    assert_eq!(
        Relation::decode(&mut Cursor::new(&expected)).unwrap(),
        relation
    );

    let whole = encode_frame(
        &Context::Message { end_lsn: Lsn(9) },
        Flags(0),
        &encoded,
        &[],
    );
    assert_eq!(whole[8..12], (expected.len() as u32).to_le_bytes());
    let frame = Frame::decode(&whole).unwrap();
    assert_eq!(
        frame.definitions().collect::<Result<Vec<_>, _>>().unwrap(),
        [relation]
    );
}

/// tag, length, LSN, index
fn record(tag: u8, streamed_xid: Option<u32>, body: &[u8]) -> Vec<u8> {
    let xid = streamed_xid.map_or(vec![], |xid| xid.to_le_bytes().to_vec());
    let length = (xid.len() + 12 + body.len()) as u32;
    [
        &[tag][..],
        &length.to_le_bytes(),
        &xid,
        b"\x07\0\0\0\0\0\0\0\x03\0\0\0",
        body,
    ]
    .concat()
}

fn written(tag: RecordTag, streamed_xid: Option<u32>, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    open_change(&mut out, tag, streamed_xid, Lsn(7), 3);
    body(&mut out);
    close_record(&mut out);
    out
}

fn one_null(out: &mut Vec<u8>) {
    out.put_u16(1);
    encode_value(out, Value::Null);
}

fn read(bytes: &[u8], streamed: bool) -> Record<'_> {
    let mut records = Records::new(bytes, streamed);
    let record = records.next().unwrap().unwrap();
    assert!(records.next().is_none());
    assert_eq!((record.lsn, record.index), (Lsn(7), 3));
    record
}

/// Columns of int4, as many as asked for.
fn columns(count: usize) -> Vec<Column> {
    vec![column(4, 4); count]
}

fn column(length: i16, align: u8) -> Column {
    Column {
        name: "c".into(),
        attnum: 1,
        type_oid: 23,
        type_schema: "pg_catalog".into(),
        type_name: "int4".into(),
        typmod: -1,
        base_type_oid: 23,
        encoding: Encoding::Raw(Storage { length, align }),
        flags: ColumnFlags(0),
    }
}

fn values(row: &Row<'_>) -> String {
    let columns = columns(row.column_count());
    let values: Result<Vec<_>, _> = row.values(&columns, false).collect();
    format!("{:?}", values.unwrap())
}

#[test]
fn an_insert() {
    let expected = record(b'I', None, b"\x05\0\0\0\x01\0\0");
    let bytes = written(RecordTag::Insert, None, |out| {
        out.put_u32(5);
        one_null(out);
    });
    assert_eq!(bytes, expected);
    match read(&bytes, false).change {
        Change::Insert { relation: 5, new } => assert_eq!(values(&new), "[Null]"),
        other => panic!("{other:?}"),
    }
    // The same in a streamed frame begins with the subtransaction.
    let expected = record(b'I', Some(0x99), b"\x05\0\0\0\x01\0\0");
    let bytes = written(RecordTag::Insert, Some(0x99), |out| {
        out.put_u32(5);
        one_null(out);
    });
    assert_eq!(bytes, expected);
    assert_eq!(read(&bytes, true).xid, Some(0x99));
}

#[test]
fn an_update_with_each_kind_of_old_row() {
    for (kind, old) in [
        (OldRow::NONE, &b""[..]),
        (OldRow::KEY, b"\x01\0\0"),
        (OldRow::FULL, b"\x01\0\0"),
    ] {
        let body = [b"\x05\0\0\0", &[kind][..], old, b"\x01\0\0"].concat();
        let bytes = written(RecordTag::Update, None, |out| {
            out.put_u32(5);
            out.put_u8(kind);
            if kind != OldRow::NONE {
                one_null(out);
            }
            one_null(out);
        });
        assert_eq!(bytes, record(b'U', None, &body));
        let Change::Update {
            relation: 5,
            old,
            new,
        } = read(&bytes, false).change
        else {
            panic!("not an update")
        };
        assert_eq!(values(&new), "[Null]");
        match (kind, old) {
            (OldRow::NONE, OldRow::None) => {}
            (OldRow::KEY, OldRow::Key(row)) | (OldRow::FULL, OldRow::Full(row)) => {
                assert_eq!(values(&row), "[Null]");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_delete() {
    let bytes = written(RecordTag::Delete, None, |out| {
        out.put_u32(5);
        out.put_u8(OldRow::KEY);
        one_null(out);
    });
    assert_eq!(bytes, record(b'D', None, b"\x05\0\0\0\x01\x01\0\0"));
    assert!(matches!(
        read(&bytes, false).change,
        Change::Delete {
            relation: 5,
            old: OldRow::Key(_)
        }
    ));
}

#[test]
fn a_truncate() {
    let truncate = Truncate {
        cascade: true,
        restart_identity: true,
        relations: vec![1, 2],
    };
    let bytes = written(RecordTag::Truncate, None, |out| {
        encode_truncate(out, &truncate)
    });
    assert_eq!(
        bytes,
        record(b'T', None, b"\x03\x02\0\0\0\x01\0\0\0\x02\0\0\0")
    );
    match read(&bytes, false).change {
        Change::Truncate(found) => assert_eq!(found, truncate),
        other => panic!("{other:?}"),
    }
    for (flags, cascade, restart_identity) in [(1, true, false), (2, false, true)] {
        let mut out = Vec::new();
        encode_truncate(
            &mut out,
            &Truncate {
                cascade,
                restart_identity,
                relations: vec![],
            },
        );
        assert_eq!(out, [flags, 0, 0, 0, 0]);
    }
}

#[test]
fn a_logical_message() {
    let message = Message {
        prefix: "pé",
        content: b"\0\xff",
    };
    let bytes = written(RecordTag::Message, None, |out| encode_message(out, message));
    assert_eq!(bytes, record(b'M', None, b"\x03\0\0\0p\xc3\xa9\0\xff"));
    match read(&bytes, false).change {
        Change::Message(found) => assert_eq!(found, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_joined_from_fragments_keeps_its_open_length() {
    let mut bytes = Vec::new();
    open_change(&mut bytes, RecordTag::Insert, None, Lsn(7), 3);
    assert_eq!(bytes[..5], *b"I\xff\xff\xff\xff");
    bytes.put_u32(5);
    one_null(&mut bytes);
    assert!(matches!(
        read(&bytes, false).change,
        Change::Insert { relation: 5, .. }
    ));
}

#[test]
fn every_value_tag() {
    let long = vec![b'x'; 256];
    let long_length = b"\0\x01\0\0";
    for (value, expected) in [
        (Value::Null, b"\0".to_vec()),
        (Value::UnchangedToast, b"\x01".to_vec()),
        (Value::Absent, b"\x02".to_vec()),
        (Value::Raw(b""), b"\x03\0".to_vec()),
        (
            Value::Raw(&long[..255]),
            [b"\x03\xff", &long[..255]].concat(),
        ),
        (
            Value::Raw(&long),
            [b"\x04", &long_length[..], &long].concat(),
        ),
        (
            Value::Compressed {
                method: Compression::Pglz,
                raw_size: 300,
                bytes: b"ab",
            },
            b"\x05\0\x2c\x01\0\0\x02\0\0\0ab".to_vec(),
        ),
        (
            Value::Compressed {
                method: Compression::Lz4,
                raw_size: 1,
                bytes: b"",
            },
            b"\x05\x01\x01\0\0\0\0\0\0\0".to_vec(),
        ),
        (Value::Text(b"ab"), b"\x06\x02ab".to_vec()),
        (
            Value::Text(&long),
            [b"\x07", &long_length[..], &long].concat(),
        ),
    ] {
        let mut encoded = Vec::new();
        encode_value(&mut encoded, value);
        assert_eq!(encoded, expected);
        let bytes = written(RecordTag::Insert, None, |out| {
            out.put_u32(1);
            out.put_u16(1);
            out.put(&expected);
        });
        let Change::Insert { new, .. } = read(&bytes, false).change else {
            panic!("not an insert")
        };
        let columns = columns(1);
        let found: Vec<_> = new
            .values(&columns, false)
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(found, [value]);
    }
}

/// bool, int4, text, text, numeric, int8, text; the fifth is null. In order: a
/// byte, padding to four, four bytes; a short varlena; padding to four and a
/// long one; nothing; padding to eight, eight bytes; a compressed varlena.
#[test]
fn a_heap_tuple() {
    let columns = [
        column(1, 1),
        column(4, 4),
        column(-1, 4),
        column(-1, 4),
        column(-1, 4),
        column(8, 8),
        column(-1, 4),
    ];
    let long = [b'x'; 200];
    let expected = [
        Value::Raw(&[1]),
        Value::Raw(&[42, 0, 0, 0]),
        Value::Raw(b"ab"),
        Value::Raw(&long),
        Value::Null,
        Value::Raw(&[7; 8]),
        Value::Compressed {
            method: Compression::Lz4,
            raw_size: 300,
            bytes: b"zip",
        },
    ];
    // A length of 204 with its header, and of 11, compressed: LZ4's number is
    // in the top bits of the word after.
    for (big_endian, short, plain, compressed, info) in [
        (
            false,
            [7],
            [0x30, 3, 0, 0],
            [0x2e, 0, 0, 0],
            [0x2c, 1, 0, 0x40],
        ),
        (
            true,
            [0x83],
            [0, 0, 0, 204],
            [0x40, 0, 0, 11],
            [0x40, 0, 1, 0x2c],
        ),
    ] {
        let data = [
            &[1, 0, 0, 0, 42, 0, 0, 0][..],
            &short,
            b"ab\0",
            &plain,
            &long,
            &[7; 8],
            &compressed,
            &info,
            b"zip",
        ]
        .concat();
        let tuple = HeapTuple {
            not_null: Some(&[0b0110_1111]),
            data: &data,
        };
        let mut row = Vec::new();
        encode_tuple(&mut row, 7, tuple);
        // Seven columns, a tuple with nulls; its length; the bitmap.
        assert_eq!(row[..7], [7, 0xc0, 235, 0, 0, 0, 0b0110_1111]);
        assert_eq!(row[7..], data);

        // As an old row it ends where it says.
        let bytes = written(RecordTag::Update, None, |out| {
            out.put_u32(5);
            out.put_u8(OldRow::FULL);
            out.put(&row);
            one_null(out);
        });
        let Change::Update {
            old: OldRow::Full(old),
            new,
            ..
        } = read(&bytes, false).change
        else {
            panic!("not an update of a full row")
        };
        let found: Vec<_> = old
            .values(&columns, big_endian)
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(found, expected);
        assert_eq!(values(&new), "[Null]");

        let bytes = written(RecordTag::Insert, None, |out| {
            out.put_u32(5);
            out.put(&row);
        });
        let Change::Insert { new, .. } = read(&bytes, false).change else {
            panic!("not an insert")
        };
        let count = new.values(&columns, big_endian).map(Result::unwrap).count();
        assert_eq!(count, 7);
    }
    let mut row = Vec::new();
    let tuple = HeapTuple {
        not_null: None,
        data: &[42, 0, 0, 0],
    };
    encode_tuple(&mut row, 1, tuple);
    assert_eq!(row, b"\x01\x80\x04\0\0\0\x2a\0\0\0");
}

/// The example at the end of docs/wire-format.md.
#[test]
fn the_page_about_the_format_shows_a_real_frame() {
    let page = include_str!("../../docs/wire-format.md");
    let dump = page.rsplit("```").nth(1).unwrap();
    let shown: Vec<u8> = dump
        .lines()
        .flat_map(|line| {
            line.chars()
                .take(36)
                .collect::<String>()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .map(|byte| u8::from_str_radix(&byte, 16).unwrap())
        .collect();
    let record = {
        let mut out = Vec::new();
        open_change(&mut out, RecordTag::Insert, None, Lsn(0x64), 0);
        out.put_u32(1);
        out.put_u16(2);
        encode_value(&mut out, Value::Raw(&[42, 0, 0, 0]));
        encode_value(&mut out, Value::Null);
        close_record(&mut out);
        out
    };
    let context = Context::Transaction(Transaction {
        xid: 771,
        commit_lsn: Lsn(0x384),
        end_lsn: Lsn(0x3e8),
        commit_time: 1_000_000,
        origin: None,
    });
    let frame = encode_frame(&context, Flags(Flags::FIRST | Flags::LAST), &[], &record);
    assert_eq!(shown, frame);
}
