//! Records, rows and values.

use walferry_protocol::*;

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
