//! Every kind of frame, record and value, byte for byte. When one of these
//! fails the format has changed: that takes a new protocol version.

mod records;

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

/// The example at the end of docs/wire-format.md.
#[test]
fn the_page_about_the_format_shows_a_real_frame() {
    let page = include_str!("../../../docs/wire-format.md");
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
