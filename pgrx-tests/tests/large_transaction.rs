//! Size: a transaction far larger than memory may be, and one huge value.
//!
//! `make test` takes a transaction of 1 GB and a value of 200 MB; `make soak`
//! (`WALFERRY_SOAK`) takes 5 GB and 900 MB.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use walferry_protocol::Lsn;
use walferry_tests::{Server, Streamer};

const MIB: u64 = 1 << 20;

fn soak() -> bool {
    std::env::var_os("WALFERRY_SOAK").is_some()
}

fn server() -> Server {
    Server::builder()
        .setting("max_wal_size", "16GB")
        .setting("wal_sender_timeout", "60s")
        .start()
}

/// Reads the slot up to `end` into `file` and returns the streamer's peak of resident memory, in bytes.
fn deliver(server: &Server, slot: &str, end: Lsn, file: &Path, further: &[&str]) -> u64 {
    let mut streamer = Streamer::run(&server.url(), slot)
        .args([
            "--sink",
            &format!("file://{}", file.display()),
            "--until-lsn",
            &end.to_string(),
        ])
        .args([
            "--state-dir".as_ref(),
            file.with_extension("state").as_os_str(),
        ])
        .args(further.iter().copied())
        .start();
    let began = Instant::now();
    let mut peak = 0;
    while streamer.is_running() {
        // It may end, and its /proc entry empty, between the question and the look.
        peak = peak.max(streamer.peak_memory_if_alive().unwrap_or(0));
        assert!(
            began.elapsed() < Duration::from_secs(1800),
            "the streamer takes too long"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    streamer.wait(Duration::from_secs(1)).expect_code(0);
    peak
}

#[test]
fn a_transaction_larger_than_memory_passes_in_256_mib_whole_and_in_order() {
    let rows: u64 = if soak() { 5_000_000 } else { 1_000_000 };
    let server = server();
    server.sql("CREATE TABLE big (id bigint PRIMARY KEY, filler text NOT NULL)");
    server.create_slot("streamed", "walferry");
    server.create_slot("whole", "walferry");
    // A kilobyte a row, too short to be compressed or moved out of line.
    server.sql(&format!(
        "INSERT INTO big SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, {rows}) n"
    ));
    let end = server.flushed_lsn();
    assert!(
        end.0 > rows * 1000,
        "the transaction is as large as it was meant to be"
    );

    for (slot, streaming) in [("streamed", "on"), ("whole", "off")] {
        let file = server.scratch_dir().join(format!("{slot}.jsonl"));
        let peak = deliver(&server, slot, end, &file, &["--streaming", streaming]);
        println!(
            "{rows} rows in one transaction, streaming {streaming}: {} MiB at most",
            peak / MIB
        );
        assert!(
            peak <= 256 * MIB,
            "streaming {streaming}: {} MiB resident",
            peak / MIB
        );

        let mut seen = 0;
        for line in BufReader::new(File::open(&file).unwrap()).split(b'\n') {
            seen += 1;
            let line = line.unwrap();
            let wanted = format!("\"after\":{{\"id\":{seen},");
            let head = String::from_utf8_lossy(&line[..line.len().min(100)]);
            assert!(
                head.contains(&wanted),
                "streaming {streaming}, event {seen}: {head}"
            );
        }
        assert_eq!(seen, rows, "streaming {streaming}");
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
fn a_huge_value_passes_with_memory_in_proportion_to_it() {
    let megabytes: u64 = if soak() { 900 } else { 200 };
    let server = server();
    server.sql(
        "CREATE TABLE huge (id int PRIMARY KEY, value text);
         ALTER TABLE huge ALTER value SET STORAGE EXTERNAL",
    );
    server.create_slot("huge", "walferry");
    server.sql(&format!(
        "INSERT INTO huge VALUES (1, repeat('0123456789', {megabytes} * 100000))"
    ));
    let end = server.flushed_lsn();

    let file = server.scratch_dir().join("huge.jsonl");
    let peak = deliver(&server, "huge", end, &file, &[]);
    println!("a value of {megabytes} MB: {} MiB at most", peak / MIB);
    // Assembled from its fragments once, and once more as JSON text; the buffers of both may double as they grow.
    assert!(
        peak <= 256 * MIB + 3 * megabytes * 1_000_000,
        "{} MiB resident",
        peak / MIB
    );

    let line = std::fs::read_to_string(&file).unwrap();
    let value = line
        .split_once("\"value\":\"")
        .unwrap()
        .1
        .split_once('"')
        .unwrap()
        .0;
    assert_eq!(value.len() as u64, megabytes * 1_000_000);
    assert!(
        value
            .as_bytes()
            .chunks(10)
            .all(|part| part == b"0123456789")
    );
}
