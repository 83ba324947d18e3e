//! Large values and large rows.

use std::time::Duration;

use walferry_tests::{Received, Server, Walsender};

use crate::events::{assert_unharmed, events, frames, read};

#[test]
fn a_record_larger_than_a_frame_comes_in_fragments() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a bytea, b bytea, p point);
         ALTER TABLE t ALTER a SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL;
         ALTER TABLE t REPLICA IDENTITY FULL",
    );
    server.create_slot("s", "walferry");
    server.sql(
        "BEGIN;
         INSERT INTO t VALUES (1, 'x', 'y', '(1,2)');
         INSERT INTO t VALUES (2, decode(repeat('ab', 7000000), 'hex'), decode(repeat('cd', 3000000), 'hex'), '(3,4)');
         UPDATE t SET id = 3 WHERE id = 2;
         INSERT INTO t VALUES (4, 'x', 'y', NULL);
         COMMIT",
    );
    server.sql("SELECT pg_logical_emit_message(t, 'big', repeat('m', 9000000)) FROM (VALUES (true), (false)) v (t)");
    let all = frames(&server, "s", &[]);
    assert!(
        all.iter().all(|frame| frame.len() < 6 << 20),
        "a frame is larger than 6 MiB"
    );
    let found = read(&all);
    assert!(found.fragment_frames > 20);
    let m = "m".repeat(100);
    assert_eq!(
        found.lines,
        [
            "BEGIN",
            "I t(id=1, a=<1 bytes>, b=<1 bytes>, p=(1,2))",
            "I t(id=2, a=<7000000 bytes>, b=<3000000 bytes>, p=(3,4))",
            "U full t(id=2, a=<7000000 bytes>, b=<3000000 bytes>, p=(3,4)) \
             t(id=3, a=<unchanged>, b=<unchanged>, p=(3,4))",
            "I t(id=4, a=<1 bytes>, b=<1 bytes>, p=null)",
            "COMMIT",
            "OUTSIDE",
            &format!("M big: {m}"),
            "BEGIN",
            &format!("M big: {m}"),
            "COMMIT",
        ]
    );
}

#[test]
fn frames_are_as_large_as_asked_for_and_a_commit_waits_for_none() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int PRIMARY KEY, x text)");
    for slot in ["small", "large"] {
        server.create_slot(slot, "walferry");
    }
    server.sql("INSERT INTO t SELECT g, repeat('x', 50) FROM generate_series(1, 10000) g");
    for (slot, size, least, most) in [
        ("small", "4kB", 4 << 10, 5 << 10),
        ("large", "1MB", 500 << 10, 2 << 20),
    ] {
        let all = frames(&server, slot, &[("frame_size", size)]);
        let largest = all.iter().map(Vec::len).max().unwrap();
        assert!((least..most).contains(&largest), "{size}: {largest}");
        assert_eq!(read(&all).positions.len(), 10000);
    }
    server.sql("INSERT INTO t VALUES (0, 'small')");
    assert_eq!(
        events(&server, "large", &[]),
        ["BEGIN", "I t(id=0, x=small)", "COMMIT"]
    );
}

#[test]
fn a_value_of_900_megabytes_passes_whole_and_stands_in_memory_once() {
    let server = Server::builder().setting("shared_buffers", "128MB").start();
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, x bytea); ALTER TABLE t ALTER x SET STORAGE EXTERNAL",
    );
    server.create_slot("s", "walferry");
    server.sql("INSERT INTO t SELECT 1, convert_to(repeat('walferry!', 100000000), 'UTF8')");
    let mut walsender = Walsender::connect(&server, "postgres");
    walsender.start("s", &[]).expect("the stream");
    let (mut bytes, mut largest, mut peak) = (0, 0, 0);
    let mut end = false;
    while !end {
        match walsender.next(Duration::from_secs(60)) {
            Received::Data { bytes: frame, .. } => {
                let decoded = walferry_protocol::Frame::decode(&frame).expect("a frame");
                bytes += decoded.record_bytes().len();
                largest = largest.max(frame.len());
                peak = peak.max(walsender.private_memory());
                end = decoded.flags.is_last();
            }
            Received::Keepalive { .. } => walsender.status(walferry_protocol::Lsn::INVALID, false),
            other => panic!("{other:?}"),
        }
    }
    assert!((900_000_000..900_001_000).contains(&bytes), "{bytes}");
    assert!(largest < 5 << 20, "a frame of {largest} bytes");
    // The reorder buffer has to put the value together: once. Chunks and the
    // rest of decoding come on top of that, but not another copy of it.
    assert!(
        peak < 1_900 << 20,
        "the walsender's memory rose to {} MiB",
        peak >> 20
    );
    assert_unharmed(&server);
}

#[test]
fn a_wide_old_row_is_sent_whole_under_replica_identity_full() {
    let server = Server::start_default();
    let columns: String = (0..20).map(|i| format!(", c{i} text")).collect();
    let storage: Vec<_> = (0..20)
        .map(|i| format!("ALTER c{i} SET STORAGE EXTERNAL"))
        .collect();
    let storage = storage.join(", ");
    server.sql(&format!(
        "CREATE TABLE t (id int{columns}); ALTER TABLE t REPLICA IDENTITY FULL, {storage}"
    ));
    server.create_slot("s", "walferry");
    let values: String = (0..20)
        .map(|i| format!(", repeat('{i}', 1000000)"))
        .collect();
    server.sql(&format!("INSERT INTO t SELECT 1{values}"));
    server.sql("DELETE FROM t");
    let found = read(&frames(&server, "s", &[]));
    let whole: usize = (0..20).map(|i: i32| i.to_string().len() * 1_000_000).sum();
    let columns: Vec<_> = (0..20)
        .map(|i: i32| format!("c{i}=<{} bytes>", i.to_string().len() * 1_000_000))
        .collect();
    assert_eq!(
        found.lines[4],
        format!("D full t(id=1, {}) ", columns.join(", "))
    );
    assert!(found.fragment_frames > 2 * whole / (1 << 20) - 4);
}
