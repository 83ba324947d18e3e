//! Nothing that is not the format is read as if it were, and nothing panics.

use proptest::prelude::*;
use walferry_protocol::*;

fn relation() -> Relation {
    let column = |name: &str, flags| Column {
        name: name.into(),
        attnum: 1,
        type_oid: 23,
        type_schema: "pg_catalog".into(),
        type_name: "int4".into(),
        typmod: -1,
        base_type_oid: 23,
        encoding: Encoding::Raw(Storage {
            length: 4,
            align: 4,
        }),
        flags: ColumnFlags(flags),
    };
    let mut relation = Relation {
        number: 1,
        oid: 16_400,
        schema: "public".into(),
        name: "orders".into(),
        kind: RelationKind::Table,
        replica_identity: ReplicaIdentity::Full,
        identity_usable: true,
        root: None,
        fingerprint: 0,
        columns: vec![column("id", ColumnFlags::KEY), column("note", 0)],
    };
    relation.seal();
    relation
}

/// Reads everything there is in a frame, down to each value.
fn read_whole(bytes: &[u8]) -> Result<usize, ProtocolError> {
    let columns = relation().columns;
    let frame = Frame::decode(bytes)?;
    for definition in frame.definitions() {
        definition?;
    }
    let mut values = 0;
    let mut read_row = |row: &Row<'_>| -> Result<(), ProtocolError> {
        for value in row.values(&columns, false) {
            value?;
            values += 1;
        }
        Ok(())
    };
    for record in frame.records() {
        match record?.change {
            Change::Insert { new, .. } => read_row(&new)?,
            Change::Update { old, new, .. } => {
                if let OldRow::Key(row) | OldRow::Full(row) = &old {
                    read_row(row)?;
                }
                read_row(&new)?;
            }
            Change::Delete { old, .. } => {
                if let OldRow::Key(row) | OldRow::Full(row) = &old {
                    read_row(row)?;
                }
            }
            Change::Truncate(_) | Change::Message(_) => {}
        }
    }
    Ok(values)
}

fn whole_frame(context: &Context) -> Vec<u8> {
    let streamed = matches!(context, Context::Streamed(_)).then_some(9);
    let mut records = Vec::new();
    let mut record = Vec::new();
    let row = |out: &mut Vec<u8>, second: Value<'_>| {
        out.put_u16(2);
        encode_value(out, Value::Raw(&[1, 0, 0, 0]));
        encode_value(out, second);
    };
    open_change(&mut record, RecordTag::Update, streamed, Lsn(5), 0);
    record.put_u32(1);
    record.put_u8(OldRow::FULL);
    row(&mut record, Value::Null);
    row(
        &mut record,
        Value::Compressed {
            method: Compression::Lz4,
            raw_size: 20,
            bytes: b"abc",
        },
    );
    close_record(&mut record);
    records.append(&mut record);
    open_change(&mut record, RecordTag::Truncate, streamed, Lsn(5), 0);
    encode_truncate(
        &mut record,
        &Truncate {
            cascade: false,
            restart_identity: false,
            relations: vec![1],
        },
    );
    close_record(&mut record);
    records.append(&mut record);
    let mut definitions = Vec::new();
    relation().encode(&mut definitions);
    encode_frame(context, Flags(Flags::FIRST), &definitions, &records)
}

fn contexts() -> Vec<Context> {
    let transaction = Transaction {
        xid: 1,
        commit_lsn: Lsn(2),
        end_lsn: Lsn(3),
        commit_time: 4,
        origin: Some(Origin {
            name: "o".into(),
            lsn: Lsn(5),
        }),
    };
    let prepared = Prepared {
        xid: 1,
        prepare_lsn: Lsn(2),
        end_lsn: Lsn(3),
        prepare_time: 4,
        gid: "g".into(),
        origin: None,
    };
    vec![
        Context::Start(Start {
            server_version: 150_020,
            system_identifier: 1,
            database_oid: 5,
            database: "d".into(),
            server_encoding: "UTF8".into(),
            big_endian: false,
            streaming: true,
            two_phase: false,
            plugin_version: "0.1.0".into(),
        }),
        Context::Transaction(transaction.clone()),
        Context::Streamed(Streamed { xid: 1 }),
        Context::StreamAbort(StreamAbort {
            xid: 1,
            subxid: 1,
            abort_lsn: Lsn(2),
        }),
        Context::StreamCommit(transaction.clone()),
        Context::StreamPrepare(prepared.clone()),
        Context::Prepared(prepared),
        Context::CommitPrepared(CommitPrepared {
            gid: "g".into(),
            transaction,
        }),
        Context::RollbackPrepared(RollbackPrepared {
            xid: 1,
            prepare_end_lsn: Lsn(2),
            end_lsn: Lsn(3),
            rollback_time: 4,
            gid: "g".into(),
        }),
        Context::Message { end_lsn: Lsn(6) },
    ]
}

#[test]
fn a_frame_cut_anywhere_but_between_records_is_refused() {
    for context in contexts() {
        let whole = whole_frame(&context);
        assert_eq!(read_whole(&whole).unwrap(), 4);
        let records = Frame::decode(&whole).unwrap().record_bytes().len();
        let first =
            5 + u32::from_le_bytes(whole[whole.len() - records + 1..][..4].try_into().unwrap())
                as usize;
        for length in 0..whole.len() {
            let at_a_seam =
                length == whole.len() - records || length == whole.len() - records + first;
            let read = read_whole(&whole[..length]);
            assert_eq!(
                read.is_ok(),
                at_a_seam,
                "{:?} cut at {length}",
                context.kind()
            );
        }
    }
}

fn refused(mend: impl FnOnce(&mut Vec<u8>)) -> ProtocolError {
    let mut bytes = whole_frame(&Context::Streamed(Streamed { xid: 1 }));
    mend(&mut bytes);
    read_whole(&bytes).unwrap_err()
}

#[test]
fn another_version_is_refused_with_the_versions_this_build_reads() {
    let error = refused(|bytes| bytes[0] = 2);
    assert_eq!(error, ProtocolError::Version { found: 2 });
    assert_eq!(
        error.to_string(),
        "frame has protocol version 2, this build reads 1"
    );
}

#[test]
fn unknown_kinds_and_bits_are_refused_by_name() {
    assert_eq!(
        refused(|bytes| bytes[1] = 11),
        ProtocolError::Unknown {
            what: "frame kind",
            found: 11
        }
    );
    assert_eq!(
        refused(|bytes| bytes[2] = 0x11),
        ProtocolError::UnknownBits {
            what: "frame",
            found: 0x10
        }
    );
    assert_eq!(
        refused(|bytes| bytes[3] = 0x80),
        ProtocolError::UnknownBits {
            what: "frame",
            found: 0x8000
        }
    );

    let mut start = encode_frame(&contexts()[0], Flags(0), &[], &[]);
    let bits = start.len() - 8;
    start[bits] = 0x0a;
    assert_eq!(
        Frame::decode(&start).unwrap_err(),
        ProtocolError::UnknownBits {
            what: "start",
            found: 8
        }
    );

    let definition = |mend: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        relation().encode(&mut bytes);
        mend(&mut bytes);
        Relation::decode(&mut Cursor::new(&bytes)).unwrap_err()
    };
    // length, number, fingerprint, oid, two names, kind, identity, flags
    let identity = 4 + 4 + 8 + 4 + 8 + 8 + 1;
    assert_eq!(
        definition(&|bytes| bytes[identity] = b'z'),
        ProtocolError::Unknown {
            what: "replica identity",
            found: u64::from(b'z')
        }
    );
    assert_eq!(
        definition(&|bytes| bytes[identity + 1] = 0x42),
        ProtocolError::UnknownBits {
            what: "relation",
            found: 0x40
        }
    );
    assert_eq!(
        definition(&|bytes| *bytes.last_mut().unwrap() = 0x81),
        ProtocolError::UnknownBits {
            what: "column",
            found: 0x80
        }
    );
    // The last column ends with encoding, length, alignment and flags.
    for (from_end, byte, what) in [
        (5, 7, "column encoding"),
        (3, 0xff, "length of a column's type"),
        (2, 3, "alignment"),
    ] {
        let error = definition(&|bytes| {
            let at = bytes.len() - from_end;
            bytes[at] = byte;
        });
        assert!(
            matches!(error, ProtocolError::Unknown { what: found, .. } if found == what),
            "{what}: {error}"
        );
    }
    assert_eq!(
        definition(&|bytes| bytes[identity + 2..identity + 4].copy_from_slice(&[0xff, 0xff])),
        ProtocolError::TooLarge {
            what: "column count",
            found: 65_535,
            limit: 1664
        }
    );
}

/// A row of a heap tuple, read with the columns that are given.
fn tuple_error(columns: &[(i16, u8)], not_null: Option<&[u8]>, data: &[u8]) -> String {
    let mut record = Vec::new();
    open_change(&mut record, RecordTag::Insert, None, Lsn(5), 0);
    record.put_u32(1);
    encode_tuple(
        &mut record,
        columns.len() as u16,
        HeapTuple { not_null, data },
    );
    close_record(&mut record);
    let columns: Vec<_> = columns
        .iter()
        .map(|&(length, align)| Column {
            encoding: match length {
                0 => Encoding::Text,
                _ => Encoding::Raw(Storage { length, align }),
            },
            ..relation().columns[0].clone()
        })
        .collect();
    let record = Records::new(&record, false).next().unwrap().unwrap();
    let Change::Insert { new, .. } = record.change else {
        panic!("not an insert")
    };
    let error = new.values(&columns, false).find_map(Result::err);
    error.unwrap().to_string()
}

#[test]
fn heap_tuples_that_do_not_hold() {
    for (columns, not_null, data, error) in [
        (
            &[(4, 4)][..],
            None,
            &b"\x01\0\0"[..],
            "frame is cut short: value in a heap tuple needs 4 bytes, 3 are left",
        ),
        (
            &[(4, 4)],
            None,
            b"\x01\0\0\0\0",
            "1 bytes are left over after heap tuple",
        ),
        (
            &[(0, 4)],
            None,
            b"\x01",
            "a column that travels as text is in a heap tuple",
        ),
        (
            &[(-1, 4)],
            None,
            b"\x01\x12",
            "a heap tuple holds a value out of line",
        ),
        (
            &[(-1, 4)],
            None,
            b"",
            "frame is cut short: value in a heap tuple needs 1 bytes, 0 are left",
        ),
        (
            &[(-1, 4)],
            None,
            b"\x0bab",
            "frame is cut short: value in a heap tuple needs 4 bytes, 2 are left",
        ),
        (
            &[(-1, 4)],
            None,
            b"\x08\0\0\0",
            "a value in a heap tuple is shorter than its header",
        ),
        (
            &[(-1, 4)],
            None,
            b"\x1e\0\0\0",
            "a value in a heap tuple is shorter than its header",
        ),
        (
            &[(-1, 4)],
            None,
            b"\x22\0\0\0\x09\0\0\x80",
            "unknown compression method 0x2",
        ),
        (
            &[(4, 4), (4, 4)],
            Some(&b"\x01"[..]),
            b"\x01\0\0\0\x02",
            "1 bytes are left over after heap tuple",
        ),
    ] {
        let found = tuple_error(columns, not_null, data);
        assert_eq!(found, error, "{columns:?} {data:?}");
    }
}

fn record_error(tag: u8, body: &[u8]) -> ProtocolError {
    let length = (body.len() + 12) as u32;
    let bytes = [&[tag][..], &length.to_le_bytes(), &[0; 12], body].concat();
    let mut records = Records::new(&bytes, false);
    match records.next().unwrap() {
        Err(error) => error,
        Ok(Record {
            change: Change::Insert { new, .. },
            ..
        }) => {
            let columns = relation().columns;
            let columns = &columns[..new.column_count()];
            new.values(columns, false).find_map(Result::err).unwrap()
        }
        Ok(other) => panic!("{other:?}"),
    }
}

#[test]
fn unknown_parts_of_records_are_refused_by_name() {
    assert_eq!(
        record_error(b'Z', &[]),
        ProtocolError::Unknown {
            what: "record tag",
            found: u64::from(b'Z')
        }
    );
    assert_eq!(
        record_error(b'D', &[0, 0, 0, 0, 3]),
        ProtocolError::Unknown {
            what: "old row kind",
            found: 3
        }
    );
    assert_eq!(
        record_error(b'T', &[4, 0, 0, 0, 0]),
        ProtocolError::UnknownBits {
            what: "truncate",
            found: 4
        }
    );
    assert_eq!(
        record_error(b'I', &[0, 0, 0, 0, 1, 0, 8]),
        ProtocolError::Unknown {
            what: "value tag",
            found: 8
        }
    );
    assert_eq!(
        record_error(b'I', &[0, 0, 0, 0, 1, 0, 5, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
        ProtocolError::Unknown {
            what: "compression method",
            found: 2
        }
    );
    assert_eq!(
        record_error(b'I', &[0, 0, 0, 0, 1, 0, 5, 0, 0, 0, 0, 0x40, 0, 0, 0, 0]),
        ProtocolError::TooLarge {
            what: "raw size of a compressed value",
            found: 0x4000_0000,
            limit: 0x3fff_ffff
        }
    );
    assert_eq!(
        record_error(b'I', &[0, 0, 0, 0, 1, 0, 0, 0]),
        ProtocolError::LeftOver {
            what: "row",
            extra: 1
        }
    );
    assert_eq!(
        record_error(b'M', &[1, 0, 0, 0, 0xff]),
        ProtocolError::NotUtf8 {
            what: "message prefix"
        }
    );
    // A count that the bytes cannot hold is not believed.
    assert!(matches!(
        record_error(b'T', &[0, 0xff, 0xff, 0xff, 0xff]),
        ProtocolError::Short {
            what: "truncated relations",
            ..
        }
    ));
}

#[test]
fn bytes_left_over_in_a_context_or_definition_are_refused() {
    let mut bytes = encode_frame(&Context::Message { end_lsn: Lsn(1) }, Flags(0), &[], &[0]);
    bytes[4] += 1;
    assert_eq!(
        Frame::decode(&bytes).unwrap_err(),
        ProtocolError::LeftOver {
            what: "frame context",
            extra: 1
        }
    );
    let mut definition = Vec::new();
    relation().encode(&mut definition);
    definition[0] += 1;
    definition.push(0);
    assert_eq!(
        Relation::decode(&mut Cursor::new(&definition)).unwrap_err(),
        ProtocolError::LeftOver {
            what: "relation definition",
            extra: 1
        }
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_whole(&bytes);
        let _ = Relation::decode(&mut Cursor::new(&bytes));
        for streamed in [false, true] {
            for record in Records::new(&bytes, streamed) {
                let _ = record;
            }
        }
    }

    #[test]
    fn mutated_frames_never_panic(
        context in prop::sample::select(contexts()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = whole_frame(&context);
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = read_whole(&bytes);
    }
}
