//! What one side encodes the other decodes to the same.

use proptest::prelude::*;
use walferry_protocol::*;

fn lsn() -> impl Strategy<Value = Lsn> {
    any::<u64>().prop_map(Lsn)
}

fn origin() -> impl Strategy<Value = Option<Origin>> {
    prop::option::of((".{0,20}", lsn()).prop_map(|(name, lsn)| Origin { name, lsn }))
}

fn transaction() -> impl Strategy<Value = Transaction> {
    (any::<u32>(), lsn(), lsn(), any::<i64>(), origin()).prop_map(
        |(xid, commit_lsn, end_lsn, commit_time, origin)| Transaction {
            xid,
            commit_lsn,
            end_lsn,
            commit_time,
            origin,
        },
    )
}

fn prepared() -> impl Strategy<Value = Prepared> {
    (transaction(), ".{0,50}").prop_map(|(t, gid)| Prepared {
        xid: t.xid,
        prepare_lsn: t.commit_lsn,
        end_lsn: t.end_lsn,
        prepare_time: t.commit_time,
        gid,
        origin: t.origin,
    })
}

fn start() -> impl Strategy<Value = Start> {
    (
        any::<(u32, u64, u32)>(),
        ".{0,63}",
        "[A-Z0-9_]{1,16}",
        any::<(bool, bool, bool)>(),
        "[0-9.]{1,10}",
    )
        .prop_map(
            |(numbers, database, server_encoding, bits, plugin_version)| Start {
                server_version: numbers.0,
                system_identifier: numbers.1,
                database_oid: numbers.2,
                database,
                server_encoding,
                big_endian: bits.0,
                streaming: bits.1,
                two_phase: bits.2,
                plugin_version,
            },
        )
}

fn context() -> impl Strategy<Value = Context> {
    prop_oneof![
        start().prop_map(Context::Start),
        transaction().prop_map(Context::Transaction),
        any::<u32>().prop_map(|xid| Context::Streamed(Streamed { xid })),
        (any::<u32>(), any::<u32>(), lsn()).prop_map(|(xid, subxid, abort_lsn)| {
            Context::StreamAbort(StreamAbort {
                xid,
                subxid,
                abort_lsn,
            })
        }),
        transaction().prop_map(Context::StreamCommit),
        prepared().prop_map(Context::StreamPrepare),
        prepared().prop_map(Context::Prepared),
        (".{0,50}", transaction()).prop_map(|(gid, transaction)| Context::CommitPrepared(
            CommitPrepared { gid, transaction }
        )),
        prepared().prop_map(|p| Context::RollbackPrepared(RollbackPrepared {
            xid: p.xid,
            prepare_end_lsn: p.prepare_lsn,
            end_lsn: p.end_lsn,
            rollback_time: p.prepare_time,
            gid: p.gid,
        })),
        lsn().prop_map(|end_lsn| Context::Message { end_lsn }),
    ]
}

fn column() -> impl Strategy<Value = Column> {
    (
        ".{0,63}",
        any::<(i16, u32, i32, u32, bool)>(),
        ".{0,30}",
        ".{0,30}",
        (0u8..16, storage()),
    )
        .prop_map(
            |(name, numbers, type_schema, type_name, (flags, storage))| Column {
                name,
                attnum: numbers.0,
                type_oid: numbers.1,
                type_schema,
                type_name,
                typmod: numbers.2,
                base_type_oid: numbers.3,
                encoding: if numbers.4 {
                    Encoding::Raw(storage)
                } else {
                    Encoding::Text
                },
                flags: ColumnFlags(flags),
            },
        )
}

fn storage() -> impl Strategy<Value = Storage> {
    let length = prop_oneof![Just(Storage::VARLENA), 1i16..=i16::MAX];
    let align = prop::sample::select(vec![1u8, 2, 4, 8]);
    (length, align).prop_map(|(length, align)| Storage { length, align })
}

/// What a row of tagged values is held against: only their number counts.
fn any_column() -> Column {
    Column {
        name: String::new(),
        attnum: 1,
        type_oid: 0,
        type_schema: String::new(),
        type_name: String::new(),
        typmod: -1,
        base_type_oid: 0,
        encoding: Encoding::Text,
        flags: ColumnFlags(0),
    }
}

fn relation() -> impl Strategy<Value = Relation> {
    (
        any::<(u32, u32, bool)>(),
        ".{0,63}",
        ".{0,63}",
        prop::sample::select(vec![b'r', b'p', b'm', b'f', b'S', b'?']),
        prop::sample::select(vec![b'd', b'n', b'f', b'i']),
        prop::option::of((any::<u32>(), ".{0,63}", ".{0,63}")),
        prop::collection::vec(column(), 0..12),
    )
        .prop_map(|(numbers, schema, name, kind, identity, root, columns)| {
            let mut relation = Relation {
                number: numbers.0,
                oid: numbers.1,
                schema,
                name,
                kind: RelationKind::from_relkind(kind),
                replica_identity: ReplicaIdentity::from_relreplident(identity).unwrap(),
                identity_usable: numbers.2,
                root: root.map(|(oid, schema, name)| Root { oid, schema, name }),
                fingerprint: 0,
                columns,
            };
            relation.seal();
            relation
        })
}

/// A value that owns its bytes.
#[derive(Clone, Debug)]
enum Owned {
    Mark(u8),
    Raw(Vec<u8>),
    Text(Vec<u8>),
    Compressed(bool, u32, Vec<u8>),
}

impl Owned {
    fn borrow(&self) -> Value<'_> {
        match self {
            Owned::Mark(0) => Value::Null,
            Owned::Mark(1) => Value::UnchangedToast,
            Owned::Mark(_) => Value::Absent,
            Owned::Raw(bytes) => Value::Raw(bytes),
            Owned::Text(bytes) => Value::Text(bytes),
            Owned::Compressed(lz4, raw_size, bytes) => Value::Compressed {
                method: if *lz4 {
                    Compression::Lz4
                } else {
                    Compression::Pglz
                },
                raw_size: *raw_size,
                bytes,
            },
        }
    }
}

fn value() -> impl Strategy<Value = Owned> {
    let bytes = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            (250usize..260).prop_map(|length| vec![7; length]),
        ]
    };
    prop_oneof![
        (0u8..3).prop_map(Owned::Mark),
        bytes().prop_map(Owned::Raw),
        bytes().prop_map(Owned::Text),
        (any::<bool>(), 0u32..0x4000_0000, bytes())
            .prop_map(|(a, b, c)| Owned::Compressed(a, b, c)),
    ]
}

fn put_row(out: &mut Vec<u8>, row: &[Owned]) {
    out.put_u16(row.len() as u16);
    for value in row {
        encode_value(out, value.borrow());
    }
}

fn assert_row(found: &Row<'_>, row: &[Owned]) {
    let columns = vec![any_column(); row.len()];
    let found: Vec<_> = found
        .values(&columns, false)
        .collect::<Result<_, _>>()
        .unwrap();
    let expected: Vec<_> = row.iter().map(Owned::borrow).collect();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn frames(context in context(), flags in 0u16..16, relations in prop::collection::vec(relation(), 0..3)) {
        let mut definitions = Vec::new();
        for relation in &relations {
            relation.encode(&mut definitions);
        }
        let bytes = encode_frame(&context, Flags(flags), &definitions, b"rest");
        let frame = Frame::decode(&bytes).unwrap();
        prop_assert_eq!(&frame.context, &context);
        prop_assert_eq!(frame.flags, Flags(flags));
        prop_assert_eq!(frame.definitions().collect::<Result<Vec<_>, _>>().unwrap(), relations);
        prop_assert_eq!(frame.record_bytes(), b"rest");
    }

    #[test]
    fn changes(
        xid in prop::option::of(any::<u32>()),
        lsn in lsn(),
        numbers in any::<(u32, u32)>(),
        rows in prop::collection::vec((prop::collection::vec(value(), 0..10), prop::collection::vec(value(), 0..10), 0u8..5), 1..6),
    ) {
        let (index, number) = numbers;
        let mut bytes = Vec::new();
        for (old, new, shape) in &rows {
            let mut record = Vec::new();
            let tag = match shape {
                0 => RecordTag::Insert,
                1 | 2 => RecordTag::Update,
                _ => RecordTag::Delete,
            };
            open_change(&mut record, tag, xid, lsn, index);
            record.put_u32(number);
            match shape {
                0 => {}
                1 => record.put_u8(OldRow::NONE),
                2 | 3 => { record.put_u8(OldRow::KEY); put_row(&mut record, old); }
                _ => { record.put_u8(OldRow::FULL); put_row(&mut record, old); }
            }
            if *shape <= 2 {
                put_row(&mut record, new);
            }
            close_record(&mut record);
            bytes.append(&mut record);
        }
        let records: Vec<_> = Records::new(&bytes, xid.is_some()).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(records.len(), rows.len());
        for (record, (old_row, new_row, shape)) in records.iter().zip(&rows) {
            prop_assert_eq!((record.xid, record.lsn, record.index), (xid, lsn, index));
            match (&record.change, shape) {
                (Change::Insert { relation, new }, 0)
                | (Change::Update { relation, old: OldRow::None, new }, 1) => {
                    prop_assert_eq!(*relation, number);
                    assert_row(new, new_row);
                }
                (Change::Update { relation, old: OldRow::Key(old), new }, 2) => {
                    prop_assert_eq!(*relation, number);
                    assert_row(old, old_row);
                    assert_row(new, new_row);
                }
                (Change::Delete { relation, old: OldRow::Key(old) }, 3)
                | (Change::Delete { relation, old: OldRow::Full(old) }, 4) => {
                    prop_assert_eq!(*relation, number);
                    assert_row(old, old_row);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
