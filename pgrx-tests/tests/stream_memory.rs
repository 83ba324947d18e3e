//! Transactions larger than memory, and values as large as the server has.
//!
//! `make test` takes transactions of 1 GB; `make soak` (`WALFERRY_SOAK`) takes 5 GB.

mod delivery;

use std::io::{BufRead, BufReader};

use delivery::{Destination, SECONDS};
use walferry_tests::{Server, Streamer, wait_within};

const SLOT: &str = "ferry";
const MIB: u64 = 1 << 20;

fn server() -> Server {
    let server = Server::builder()
        .setting("logical_decoding_work_mem", "1MB")
        .setting("max_wal_size", "20GB")
        .start();
    server.sql("CREATE TABLE item (id bigint PRIMARY KEY, note text)");
    server.create_slot(SLOT, "walferry");
    server
}

/// Commits rows of about `bytes` in one transaction of which a part is rolled
/// back, and delivers it; the streamer's peak of resident memory.
fn deliver_large(server: &Server, streaming: &str) -> u64 {
    let gigabytes = if std::env::var_os("WALFERRY_SOAK").is_some() {
        5
    } else {
        1
    };
    let rows = (gigabytes << 30) / 1000;
    let destination = Destination::new();
    let mut streamer = destination
        .run(server, SLOT)
        .args(["--streaming", streaming])
        .start();
    let mut client = server.client();
    client
        .batch_execute(&format!(
            "BEGIN; INSERT INTO item SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, {rows}) n; \
             SAVEPOINT s; INSERT INTO item SELECT n, 'rolled back' FROM generate_series({}, {}) n; ROLLBACK TO s; \
             COMMIT",
            rows + 1,
            rows + 5000
        ))
        .unwrap();
    let end = server.flushed_lsn();
    wait_within(
        600 * SECONDS * gigabytes as u32,
        "the transaction to be acknowledged",
        || server.confirmed_flush(SLOT) >= Some(end),
    );
    let peak = streamer.peak_memory();
    assert!(streamer.is_running());
    streamer.stop().expect_code(0);
    let file = std::fs::File::open(destination.file()).unwrap();
    let mut next = 1;
    for line in BufReader::with_capacity(1 << 20, file).split(b'\n') {
        let line = line.unwrap();
        let expected = format!("{{\"before\":null,\"after\":{{\"id\":{next},\"note\":\"");
        assert!(
            line.starts_with(expected.as_bytes()),
            "row {next}: {}",
            String::from_utf8_lossy(&line[..line.len().min(200)])
        );
        next += 1;
    }
    assert_eq!(next, rows + 1);
    println!(
        "{gigabytes} GB in one transaction, streaming {streaming}: {} MiB at most",
        peak / MIB
    );
    peak
}

#[test]
fn a_transaction_larger_than_memory_passes_in_256_mib_while_it_is_in_progress() {
    let peak = deliver_large(&server(), "on");
    assert!(peak < 256 * MIB, "{} MiB", peak / MIB);
}

#[test]
fn a_transaction_larger_than_memory_passes_in_256_mib_once_it_is_committed() {
    let peak = deliver_large(&server(), "off");
    assert!(peak < 256 * MIB, "{} MiB", peak / MIB);
}

#[test]
fn a_full_spill_is_one_clear_line_and_costs_nothing() {
    let server = server();
    let destination = Destination::new();
    let insert =
        "INSERT INTO item SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 20000) n";
    server.sql(insert);
    let end = server.flushed_lsn();
    let exit = destination
        .run(&server, SLOT)
        .args(["--memory-limit", "1MB", "--spill-limit", "2MB"])
        .run(60 * SECONDS)
        .expect_code(1);
    let told = exit.stderr.join("\n");
    assert!(told.contains("spill limit"), "{told}");
    assert!(destination.delivered().events.is_empty());
    destination.run_until(&server, SLOT, end);
    assert_eq!(destination.delivered().events.len(), 20000);
}

#[test]
fn a_value_of_900_mb_passes() {
    let server = server();
    server.sql("ALTER TABLE item ALTER note SET STORAGE EXTERNAL");
    let mut streamer = Streamer::run(&server.url(), SLOT)
        .args(["--sink", "null", "--workers", "2"])
        .start();
    server.sql(
        "INSERT INTO item VALUES (1, repeat('x', 900000000)); INSERT INTO item VALUES (2, 'small')",
    );
    let end = server.flushed_lsn();
    wait_within(300 * SECONDS, "the value to be acknowledged", || {
        server.confirmed_flush(SLOT) >= Some(end)
    });
    let peak = streamer.peak_memory();
    assert!(streamer.is_running());
    // The record and its JSON, each once, and growth by doubling.
    assert!(peak < 4096 * MIB, "{} MiB", peak / MIB);
    streamer.stop().expect_code(0);
}
