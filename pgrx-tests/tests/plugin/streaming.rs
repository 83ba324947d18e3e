//! Transactions in progress: blocks, aborts, definitions of their own.

use std::collections::HashSet;

use walferry_tests::Server;

use crate::events::{Reader, assert_unharmed, frames, read};

const ON: [(&str, &str); 1] = [("streaming", "on")];

fn server() -> Server {
    Server::builder()
        .setting("logical_decoding_work_mem", "64kB")
        .start()
}

/// The committed changes, with what was rolled back taken out again.
fn surviving(frames: &[Vec<u8>]) -> Vec<String> {
    use walferry_protocol::{Context, Frame};
    let mut reader = Reader::default();
    let mut pending: Vec<(u32, u32, String)> = Vec::new();
    let mut survived = Vec::new();
    for bytes in frames {
        let (lines, positions) = (reader.lines.len(), reader.positions.len());
        reader.frame(bytes);
        match Frame::decode(bytes).unwrap().context {
            Context::Streamed(streamed) => {
                let records = reader.lines[lines..]
                    .iter()
                    .filter(|line| *line != "STREAM");
                for (line, position) in records.zip(&reader.positions[positions..]) {
                    pending.push((streamed.xid, position.0.unwrap(), line.clone()));
                }
            }
            Context::StreamAbort(abort) => pending.retain(|(xid, subxid, _)| {
                *xid != abort.xid || (abort.xid != abort.subxid && *subxid != abort.subxid)
            }),
            Context::StreamCommit(commit) => {
                let (committed, rest) = pending
                    .into_iter()
                    .partition(|(xid, ..)| *xid == commit.xid);
                pending = rest;
                let committed: Vec<(u32, u32, String)> = committed;
                survived.extend(committed.into_iter().map(|(_, _, line)| line));
            }
            Context::Start(_) => {}
            _ => survived.extend(
                reader.lines[lines..]
                    .iter()
                    .filter(|l| !["BEGIN", "COMMIT"].contains(&l.as_str()))
                    .cloned(),
            ),
        }
    }
    assert!(pending.is_empty(), "a streamed transaction has no end");
    survived
}

#[test]
fn streaming_is_off_unless_asked_for() {
    let server = server();
    server.sql("CREATE TABLE t (id int, x text)");
    server.create_slot("s", "walferry");
    server.sql("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 2000) g");
    let found = read(&frames(&server, "s", &[]));
    assert!(!found.start.unwrap().streaming);
    assert_eq!(found.lines.len(), 2002);
}

#[test]
fn a_streamed_transaction_is_what_an_ordinary_one_would_be() {
    let server = server();
    server.sql("CREATE TABLE t (id int, x text); CREATE TABLE u (id int)");
    for slot in ["plain", "s"] {
        server.create_slot(slot, "walferry");
    }
    server.sql(
        "BEGIN;
         INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 1000) g;
         SAVEPOINT a;
         INSERT INTO u SELECT g FROM generate_series(1, 1000) g;
         SELECT pg_logical_emit_message(true, 'gone', 'x');
         SAVEPOINT b;
         ALTER TABLE t ADD COLUMN y int;
         INSERT INTO t SELECT g, repeat('y', 100), g FROM generate_series(1, 1000) g;
         ROLLBACK TO a;
         SELECT pg_logical_emit_message(true, 'kept', 'x');
         INSERT INTO t SELECT g, repeat('z', 100) FROM generate_series(1, 1000) g;
         SAVEPOINT c;
         TRUNCATE u;
         INSERT INTO u SELECT g FROM generate_series(1, 1000) g;
         RELEASE c;
         COMMIT",
    );
    server.sql("INSERT INTO t VALUES (0, 'after')");
    let plain: Vec<_> = read(&frames(&server, "plain", &[]))
        .lines
        .into_iter()
        .filter(|line| !["BEGIN", "COMMIT"].contains(&line.as_str()))
        .collect();
    assert_eq!(plain.len(), 1000 + 1 + 1000 + 1 + 1000 + 1);
    let streamed = frames(&server, "s", &ON);
    let found = read(&streamed);
    assert_eq!(
        found.lines.iter().filter(|line| *line == "STREAM").count(),
        1
    );
    assert!(
        found
            .lines
            .iter()
            .any(|line| line == "STREAM ABORT SUBTRANSACTION")
    );
    assert_eq!(surviving(&streamed), plain);
}

#[test]
fn definitions_of_a_streamed_transaction_serve_no_other() {
    let server = server();
    server.sql("CREATE TABLE t (id int, x text)");
    server.create_slot("s", "walferry");
    let mut one = server.client();
    one.batch_execute(
        "BEGIN; INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 1500) g",
    )
    .unwrap();
    server.sql("INSERT INTO t VALUES (-1, 'between')");
    one.batch_execute(
        "INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 1500) g; COMMIT",
    )
    .unwrap();
    server.sql("INSERT INTO t VALUES (-2, 'after')");
    let all = frames(&server, "s", &ON);
    let found = read(&all);
    // The streamed one has its own; the two ordinary ones share one.
    assert_eq!(found.definitions.len(), 2);
    let fingerprints: HashSet<_> = found.definitions.iter().map(|d| d.fingerprint).collect();
    assert_eq!(fingerprints.len(), 1);
    let survived = surviving(&all);
    assert_eq!(survived.len(), 3002);
    assert_eq!(survived[0], "I t(id=-1, x=between)");
    assert_eq!(survived[3001], "I t(id=-2, x=after)");
}

#[test]
fn a_concurrent_abort_ends_the_block_and_not_the_stream() {
    let server = server();
    server.create_slot("s", "walferry");
    // All of this is rolled back before it is decoded, so the decoder meets
    // aborted catalog rows: those of the tables, and those of the enum, which
    // only the output function reads.
    for _ in 0..3 {
        server.sql(
            "BEGIN;
             CREATE TABLE doomed (id int, x text);
             INSERT INTO doomed SELECT g, repeat('x', 100) FROM generate_series(1, 3000) g;
             ROLLBACK;
             BEGIN;
             CREATE TYPE mood AS ENUM ('sad', 'glad');
             CREATE TABLE doomed (m mood, x text);
             INSERT INTO doomed SELECT 'sad', repeat('x', 100) FROM generate_series(1, 3000) g;
             ROLLBACK",
        );
    }
    server.sql(
        "CREATE TABLE kept (id int, x text);
         BEGIN;
         INSERT INTO kept SELECT g, repeat('x', 100) FROM generate_series(1, 1000) g;
         SAVEPOINT s;
         CREATE TYPE mood AS ENUM ('sad', 'glad');
         ALTER TABLE kept ADD COLUMN m mood DEFAULT 'sad';
         INSERT INTO kept SELECT g, repeat('x', 100), 'glad' FROM generate_series(1, 3000) g;
         ROLLBACK TO s;
         INSERT INTO kept SELECT g, repeat('x', 100) FROM generate_series(1, 1000) g;
         COMMIT",
    );
    server.sql("INSERT INTO kept VALUES (0, 'after')");
    let all = frames(&server, "s", &ON);
    let survived = surviving(&all);
    assert_eq!(survived.len(), 2001);
    assert_eq!(survived[2000], "I kept(id=0, x=after)");
    assert_unharmed(&server);
}

#[test]
fn a_streamed_transaction_can_be_prepared() {
    let server = server();
    server.sql("CREATE TABLE t (id int, x text)");
    server.sql("SELECT pg_create_logical_replication_slot('s', 'walferry', false, true)");
    server.sql(
        "BEGIN; INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 2000) g;
         PREPARE TRANSACTION 'big'",
    );
    server.sql("COMMIT PREPARED 'big'");
    let found = read(&frames(
        &server,
        "s",
        &[("streaming", "on"), ("two_phase", "on")],
    ));
    assert_eq!(found.positions.len(), 2000);
    assert_eq!(
        found.lines[2001..],
        ["STREAM PREPARE big", "COMMIT PREPARED big"]
    );
}

#[test]
fn a_streamed_transaction_of_which_nothing_is_wanted_sends_nothing() {
    let server = server();
    server.sql("CREATE TABLE t (id int, x text)");
    server.create_slot("s", "walferry");
    server.sql("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 3000) g");
    server.sql(
        "BEGIN; INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 3000) g; ROLLBACK",
    );
    let options = [("streaming", "on"), ("exclude_tables", "*.t")];
    assert!(frames(&server, "s", &options).is_empty());
}
