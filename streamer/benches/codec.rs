//! How long a row takes from a frame's bytes to its JSON line, in the shape of
//! the bulk workload: TPC-H's lineitem with a timestamptz and a jsonb.
//!
//! `cargo bench -p walferry-streamer --bench codec`

use std::collections::HashSet;
use std::time::{Duration, Instant};

use walferry_protocol::{
    self as protocol, Column, ColumnFlags, Encoding, HeapTuple, Lsn, Put, RecordTag, Records,
    Relation, RelationKind, ReplicaIdentity, Start, Storage,
};
use walferry_streamer::datum::Type;
use walferry_streamer::decode::RelationTable;
use walferry_streamer::decode::native::decode_records;
use walferry_streamer::encode::Encode;
use walferry_streamer::encode::debezium::{DebeziumJson, DebeziumOptions};
use walferry_streamer::event::{Event, Transaction};

const COLUMNS: [(&str, u32); 18] = [
    ("l_orderkey", 20),
    ("l_partkey", 23),
    ("l_suppkey", 23),
    ("l_linenumber", 23),
    ("l_quantity", 1700),
    ("l_extendedprice", 1700),
    ("l_discount", 1700),
    ("l_tax", 1700),
    ("l_returnflag", 1042),
    ("l_linestatus", 1042),
    ("l_shipdate", 1082),
    ("l_commitdate", 1082),
    ("l_receiptdate", 1082),
    ("l_shipinstruct", 1042),
    ("l_shipmode", 1042),
    ("l_comment", 1043),
    ("l_updated", 1184),
    ("l_attributes", 3802),
];

fn lineitem() -> Relation {
    Relation {
        number: 1,
        oid: 16_384,
        schema: "public".into(),
        name: "lineitem".into(),
        kind: RelationKind::Table,
        replica_identity: ReplicaIdentity::Default,
        identity_usable: true,
        root: None,
        fingerprint: 0,
        columns: COLUMNS
            .iter()
            .zip(1..)
            .map(|(&(name, oid), attnum)| Column {
                name: name.into(),
                attnum,
                type_oid: oid,
                type_schema: "pg_catalog".into(),
                type_name: "any".into(),
                typmod: -1,
                base_type_oid: oid,
                encoding: Encoding::Raw(Type::from_oid(oid).storage()),
                flags: ColumnFlags(if attnum == 1 || attnum == 4 { 1 } else { 0 }),
            })
            .collect(),
    }
}

/// A short numeric with two decimals.
fn numeric(cents: u32) -> Vec<u8> {
    let (whole, fraction) = (cents / 100, cents % 100 * 100);
    let mut digits = vec![];
    let mut weight = -1i16;
    if whole >= 10_000 {
        digits.extend([(whole / 10_000) as u16, (whole % 10_000) as u16]);
        weight = 1;
    } else if whole > 0 {
        digits.push(whole as u16);
        weight = 0;
    }
    if fraction > 0 {
        digits.push(fraction as u16);
    }
    let header = 0x8000 | 2 << 7 | (weight as u16 & 0x7f);
    std::iter::once(header)
        .chain(digits)
        .flat_map(u16::to_le_bytes)
        .collect()
}

/// {"a": 42, "tag": "…", "ok": true}
fn jsonb(tag: &str) -> Vec<u8> {
    let mut out = (0x2000_0000u32 | 3).to_le_bytes().to_vec();
    // keys by length then bytes: "a", "ok", "tag"; values: numeric, true, string
    let mut entry = |bits: u32| out.extend(bits.to_le_bytes());
    entry(0x8000_0000 | 1);
    entry(2);
    entry(3);
    entry(0x1000_0000 | (2 + 8));
    entry(0x3000_0000);
    entry(tag.len() as u32);
    out.extend(b"aoktag\0\0");
    out.extend((8u32 << 2).to_le_bytes());
    out.extend(0x8000u16.to_le_bytes());
    out.extend(42u16.to_le_bytes());
    out.extend(tag.as_bytes());
    out
}

/// The row as the server stores it, each column at its alignment.
fn put_row(out: &mut Vec<u8>, n: u32) {
    let mut data = Vec::new();
    let mut columns = COLUMNS.iter();
    let mut put = |bytes: &[u8]| {
        let (_, oid) = columns.next().expect("a column for each value");
        let storage = Type::from_oid(*oid).storage();
        if storage.length == Storage::VARLENA {
            // The short header, which is not aligned; no value here needs more.
            data.push((bytes.len() as u8 + 1) << 1 | 1);
        } else {
            data.resize(data.len().next_multiple_of(storage.align.into()), 0);
        }
        data.extend_from_slice(bytes);
    };
    put(&i64::from(n).to_le_bytes());
    put(&(n % 200_000).to_le_bytes());
    put(&(n % 10_000).to_le_bytes());
    put(&(n % 7 + 1).to_le_bytes());
    put(&numeric((n % 50 + 1) * 100));
    put(&numeric(
        90_000 + n.wrapping_mul(2_654_435_761) % 10_000_000,
    ));
    put(&numeric(n % 11));
    put(&numeric(n % 9));
    put(b"N");
    put(b"O");
    put(&(8000 + n % 2000).to_le_bytes());
    put(&(8030 + n % 2000).to_le_bytes());
    put(&(8060 + n % 2000).to_le_bytes());
    put(b"DELIVER IN PERSON        ");
    put(b"TRUCK     ");
    put(b"egular courts above the furiously ironic p");
    put(&(848_550_240_123_456i64 + i64::from(n) * 7919).to_le_bytes());
    put(&jsonb("blithely"));
    protocol::encode_tuple(
        out,
        COLUMNS.len() as u16,
        HeapTuple {
            not_null: None,
            data: &data,
        },
    );
}

fn records(count: u32, update: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut record = Vec::new();
    for n in 0..count {
        record.clear();
        let tag = if update {
            RecordTag::Update
        } else {
            RecordTag::Insert
        };
        protocol::open_change(&mut record, tag, None, Lsn(0x1_6b37_4d84 + u64::from(n)), 0);
        record.put_u32(1);
        if update {
            record.put_u8(protocol::OldRow::FULL);
            put_row(&mut record, n);
        }
        put_row(&mut record, n);
        protocol::close_record(&mut record);
        out.extend_from_slice(&record);
    }
    out
}

fn main() {
    const ROWS: u32 = 200;
    const ROUNDS: usize = 600;
    let start = Start {
        server_version: 150_020,
        system_identifier: 1,
        database_oid: 5,
        database: "postgres".into(),
        server_encoding: "UTF8".into(),
        big_endian: false,
        streaming: false,
        two_phase: false,
        plugin_version: "0.1.0".into(),
    };
    let transaction = Transaction {
        xid: 771,
        commit_lsn: Lsn(0x1_6b38_0000),
        end_lsn: Lsn(0x1_6b38_0030),
        commit_time_us: 1_795_235_040_123_456,
        origin: None,
    };
    let table = RelationTable::new();
    table.insert(lineitem());
    let encoder = DebeziumJson::new(&DebeziumOptions {
        database: "postgres".into(),
        ..Default::default()
    });
    for (what, update) in [("insert", false), ("update, full old row", true)] {
        let bytes = records(ROWS, update);
        let mut out = Vec::with_capacity(1 << 20);
        let mut best = [Duration::MAX; 2];
        for _ in 0..ROUNDS {
            for (place, encode) in [(0, false), (1, true)] {
                out.clear();
                let began = Instant::now();
                decode_records(
                    Records::new(&bytes, false),
                    &table,
                    &start,
                    &transaction,
                    true,
                    &HashSet::new(),
                    &mut |event: &Event<'_>| {
                        if encode {
                            encoder.encode(event, &mut out)
                        } else {
                            std::hint::black_box(event);
                            Ok(())
                        }
                    },
                )
                .expect("rows made here decode");
                best[place] = best[place].min(began.elapsed());
            }
        }
        let per_row = |time: Duration| time.as_nanos() / u128::from(ROWS);
        println!(
            "{what}: decode {} ns a row, decode and encode {} ns a row, {} bytes a line",
            per_row(best[0]),
            per_row(best[1]),
            out.len() / ROWS as usize
        );
        if !update {
            print!(
                "{}",
                String::from_utf8_lossy(&out[..out.len() / ROWS as usize])
            );
            println!("…");
        }
    }
}
