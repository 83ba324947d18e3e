//! How fast wal2json's messages of format-version 2 read, in the shape of the
//! bulk workload: TPC-H's lineitem with a timestamptz and a jsonb.
//!
//! `cargo bench -p walferry-streamer --bench wal2json`

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use walferry_protocol::{
    Column, ColumnFlags, Encoding, Lsn, Relation, RelationKind, ReplicaIdentity,
};
use walferry_streamer::decode::wal2json::record::{Action, Record};
use walferry_streamer::decode::wal2json::{
    Definitions, Filters, Head, Request, ServerEncoding, Wal2json,
};
use walferry_streamer::encode::Encode;
use walferry_streamer::encode::debezium::{DebeziumJson, DebeziumOptions};
use walferry_streamer::error::Result;
use walferry_streamer::event::{Event, Transaction};
use walferry_streamer::source::catalog::{Found, TypeDescription};
use walferry_streamer::source::table_filter::TableFilter;

/// Name, type oid, a value of it as wal2json prints it.
const COLUMNS: [(&str, u32, &str); 18] = [
    ("l_orderkey", 20, "1234567"),
    ("l_partkey", 23, "155190"),
    ("l_suppkey", 23, "7706"),
    ("l_linenumber", 23, "4"),
    ("l_quantity", 1700, "17.00"),
    ("l_extendedprice", 1700, "21168.23"),
    ("l_discount", 1700, "0.04"),
    ("l_tax", 1700, "0.02"),
    ("l_returnflag", 1042, "\"N\""),
    ("l_linestatus", 1042, "\"O\""),
    ("l_shipdate", 1082, "\"1996-03-13\""),
    ("l_commitdate", 1082, "\"1996-02-12\""),
    ("l_receiptdate", 1082, "\"1996-03-22\""),
    ("l_shipinstruct", 1042, "\"DELIVER IN PERSON        \""),
    ("l_shipmode", 1042, "\"TRUCK     \""),
    (
        "l_comment",
        1043,
        "\"egular courts above the furiously ironic p\"",
    ),
    ("l_updated", 1184, "\"2026-11-21 04:24:00.123456+00\""),
    (
        "l_attributes",
        3802,
        r#""{\"a\": 42, \"ok\": true, \"tag\": \"blithely\"}""#,
    ),
];

#[derive(Debug)]
struct Lineitem;

impl Definitions for Lineitem {
    fn relation(&self, schema: &str, table: &str) -> Result<Option<Found>> {
        let columns = COLUMNS
            .iter()
            .zip(1..)
            .map(|(&(name, oid, _), attnum)| Column {
                name: name.into(),
                attnum,
                type_oid: oid,
                type_schema: "pg_catalog".into(),
                type_name: "any".into(),
                typmod: -1,
                base_type_oid: oid,
                encoding: Encoding::Text,
                flags: ColumnFlags(u8::from(attnum == 1 || attnum == 4)),
            });
        Ok(Some(Found {
            relation: Relation {
                number: 0,
                oid: 16_384,
                schema: schema.into(),
                name: table.into(),
                kind: RelationKind::Table,
                replica_identity: ReplicaIdentity::Default,
                identity_usable: true,
                root: None,
                fingerprint: 0,
                columns: columns.collect(),
            },
            out_of_line: COLUMNS
                .iter()
                .map(|(_, oid, _)| !matches!(oid, 20 | 23 | 1082 | 1184))
                .collect(),
        }))
    }

    fn types(&self, _oids: &[u32]) -> Result<HashMap<u32, TypeDescription>> {
        Ok(HashMap::new())
    }

    fn origin_name(&self, _origin: u32) -> Result<Option<String>> {
        Ok(None)
    }
}

/// A row's message, with the members that the reader's options ask for.
fn message(n: u32, update: bool) -> String {
    let columns: Vec<String> = COLUMNS
        .iter()
        .zip(1..)
        .map(|((name, oid, value), position)| {
            format!(r#"{{"name":"{name}","typeoid":{oid},"value":{value},"position":{position}}}"#)
        })
        .collect();
    let (action, identity) = if update {
        let key = r#"{"name":"l_orderkey","typeoid":20,"value":1234567},{"name":"l_linenumber","typeoid":23,"value":4}"#;
        ("U", format!(r#","identity":[{key}]"#))
    } else {
        ("I", String::new())
    };
    format!(
        r#"{{"action":"{action}","xid":787,"timestamp":"2026-11-21 07:55:52.135824+00","origin":0,"lsn":"1/{:X}","schema":"public","table":"lineitem","columns":[{}]{identity},"pk":[{{"name":"l_orderkey","typeoid":20}},{{"name":"l_linenumber","typeoid":23}}]}}"#,
        0x6b37_4d84 + n,
        columns.join(",")
    )
}

fn main() {
    const ROWS: u32 = 200;
    const ROUNDS: usize = 600;
    let tables = TableFilter::default();
    let request = Request::new(&tables, &[]).expect("options");
    let wal2json = Wal2json::new(
        &request,
        ServerEncoding::Utf8,
        Filters::default(),
        Arc::new(Lineitem),
    );
    let transaction = Transaction {
        xid: 787,
        commit_lsn: Lsn(0x1_6b38_0000),
        end_lsn: Lsn(0x1_6b38_0030),
        commit_time_us: 1_795_235_040_123_456,
        origin: None,
    };
    let encoder = DebeziumJson::new(&DebeziumOptions {
        database: "postgres".into(),
        ..Default::default()
    });
    for (what, update) in [("insert", false), ("update", true)] {
        let messages: Vec<String> = (0..ROWS).map(|n| message(n, update)).collect();
        let size: usize = messages.iter().map(String::len).sum();
        let mut best = [Duration::MAX; 3];
        let mut out = Vec::with_capacity(1 << 20);
        for _ in 0..ROUNDS {
            // What the assembler does: heads, and records for the workers.
            let began = Instant::now();
            let mut records = Vec::new();
            for message in &messages {
                let message = message.as_bytes();
                let head = Head::read(black_box(message)).expect("a message");
                Record {
                    action: if update {
                        Action::Update
                    } else {
                        Action::Insert
                    },
                    lsn: head.lsn.expect("an LSN"),
                    index: 0,
                    message,
                    rest: head.rest,
                }
                .push(&mut records);
            }
            best[0] = best[0].min(began.elapsed());
            for (place, encode) in [(1, false), (2, true)] {
                out.clear();
                let began = Instant::now();
                wal2json
                    .decode_records(&records, &transaction, true, &mut |event: &Event<'_>| {
                        if encode {
                            encoder.encode(event, &mut out)
                        } else {
                            black_box(event);
                            Ok(())
                        }
                    })
                    .expect("rows made here decode");
                best[place] = best[place].min(began.elapsed());
            }
        }
        let rate = |time: Duration| size as f64 / time.as_secs_f64() / 1e6;
        println!(
            "{what}: {} bytes a message; heads {:.0} MB/s, rows {:.0} MB/s, both {:.0} MB/s, all with encoding {:.0} MB/s ({} ns a row)",
            size / ROWS as usize,
            rate(best[0]),
            rate(best[1]),
            rate(best[0] + best[1]),
            rate(best[0] + best[2]),
            (best[0] + best[2]).as_nanos() / u128::from(ROWS)
        );
    }
}
