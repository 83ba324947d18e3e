//! Reading a slot by polling with SQL, where replication connections are
//! refused.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use walferry_streamer::source::connection::{Connection, Replication};
use walferry_streamer::source::conninfo::Conninfo;
use walferry_streamer::source::polling::{Polling, start_polling};
use walferry_streamer::source::replication::ServerMessage;
use walferry_tests::{Server, Streamer, StreamerBuilder, wait_until};

const SECONDS: Duration = Duration::from_secs(60);

/// A server that lets nobody replicate over the protocol.
fn server() -> Server {
    // A logical walsender matches its database's name, so it is the role that
    // is kept out: without a walsender to spare, no connection is one.
    let server = Server::builder().setting("max_wal_senders", "0").start();
    server.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
    server
}

fn run(server: &Server, sink: &str) -> StreamerBuilder {
    Streamer::run(&server.url(), "ferry").args([
        "--reader",
        "sql",
        "--poll-interval",
        "50ms",
        "--sink",
        sink,
    ])
}

fn file(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn insert(server: &Server, from: u32, to: u32) {
    server.sql(&format!(
        "INSERT INTO t SELECT n, repeat('v', 100) FROM generate_series({from}, {to}) n"
    ));
}

/// The ids in the order of their lines.
fn ids(path: &Path) -> Vec<u64> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|event| event["after"]["id"].as_u64())
        .collect()
}

/// Where the ids stop being one more each.
fn first_difference(ids: &[u64]) -> Option<&[u64]> {
    ids.windows(2).find(|pair| pair[1] != pair[0] + 1)
}

fn through(end: u64) -> Vec<u64> {
    (1..=end).collect()
}

#[test]
fn a_server_without_walsenders_is_read_through_kills_and_crashes_without_loss() {
    let server = server();
    let refused = Streamer::builder()
        .args(["slot", "create", "ferry", "--source", &server.url()])
        .run(SECONDS);
    let error = refused.expect_code(1).stderr.join("\n");
    assert!(error.contains("max_wal_senders"), "{error}");

    let out = server.scratch_dir().join("out.jsonl");
    let mut streamer = run(&server, &file(&out)).arg("--create-slot").start();
    streamer.wait_for_stderr("delivering from");
    insert(&server, 1, 20_000);
    wait_until("the first rows", || ids(&out).len() >= 20_000);
    // Killed in the middle of what comes, several times.
    let mut end = 20_000;
    for round in 0..3 {
        for _ in 0..10 {
            insert(&server, end + 1, end + 2_000);
            end += 2_000;
        }
        std::thread::sleep(Duration::from_millis(150 * round));
        streamer.kill();
        streamer = run(&server, &file(&out)).start();
    }
    // Nothing of what was committed so far is lost with the server's memory.
    server.flushed_lsn();
    // The server crashes: the slot may stand further back than it did.
    server.crash_and_recover();
    insert(&server, end + 1, end + 10);
    let end = u64::from(end) + 10;
    wait_until("the last rows", || ids(&out).last() == Some(&end));
    streamer.stop().expect_code(0);
    assert!(
        ids(&out) == through(end),
        "{:?}",
        first_difference(&ids(&out))
    );
    let position = server.confirmed_flush("ferry").unwrap();
    assert!(position <= server.flushed_lsn());

    // Nothing is told twice, and the end that was asked for is found.
    let until = server.flushed_lsn().to_string();
    run(&server, &file(&out))
        .args(["--until-lsn", &until])
        .run(SECONDS)
        .expect_code(0);
    assert_eq!(ids(&out), through(end));
}

#[test]
fn an_idle_database_lets_go_of_wal_and_a_slow_commit_is_not_passed_by() {
    let server = server();
    let out = server.scratch_dir().join("out.jsonl");
    let mut streamer = run(&server, &file(&out)).arg("--create-slot").start();
    streamer.wait_for_stderr("delivering from");
    let begin = server.confirmed_flush("ferry").unwrap();
    // A transaction that is open while the slot is advanced past its rows.
    let mut client = server.client();
    let mut slow = client.transaction().unwrap();
    slow.execute("INSERT INTO t VALUES (1, 'slow')", &[])
        .unwrap();
    server.create_database("elsewhere", walferry_tests::Encoding::Utf8);
    server.sql_in(
        "elsewhere",
        "CREATE TABLE x AS SELECT generate_series(1, 100000)",
    );
    let written = server.flushed_lsn();
    assert!(written > begin);
    wait_until("the slot to move though nothing is told", || {
        server.confirmed_flush("ferry").unwrap() >= written
    });
    assert!(ids(&out).is_empty());
    slow.commit().unwrap();
    wait_until("the slow transaction", || ids(&out) == [1]);

    // Messages and empty transactions, none twice.
    server.sql("SELECT pg_logical_emit_message(false, 'p', 'one'); SELECT txid_current()");
    server.sql("SELECT pg_logical_emit_message(true, 'p', 'two')");
    insert(&server, 2, 2);
    wait_until("the row after the messages", || ids(&out) == [1, 2]);
    std::thread::sleep(Duration::from_millis(500));
    let text = fs::read_to_string(&out).unwrap();
    assert_eq!(text.matches("\"op\":\"m\"").count(), 2, "{text}");
    streamer.stop().expect_code(0);
}

#[test]
fn transactions_larger_than_a_poll_come_whole_with_every_plugin() {
    let server = server();
    server.sql("CREATE PUBLICATION walferry FOR ALL TABLES");
    let mut plugins = vec!["walferry", "pgoutput", "wal2json"];
    plugins.retain(|plugin| server.tree().has_plugin(plugin));
    for plugin in &plugins {
        server.create_slot(&format!("of_{plugin}"), plugin);
    }
    insert(&server, 1, 5_000);
    for n in 5_001..5_050 {
        insert(&server, n, n);
    }
    let until = server.flushed_lsn().to_string();
    for plugin in plugins {
        let out = server.scratch_dir().join(format!("{plugin}.jsonl"));
        Streamer::run(&server.url(), &format!("of_{plugin}"))
            .args([
                "--reader",
                "sql",
                "--poll-interval",
                "20ms",
                "--poll-rows",
                "7",
            ])
            .args(["--until-lsn", &until, "--sink", &file(&out)])
            .run(SECONDS)
            .expect_code(0);
        assert_eq!(ids(&out), through(5_049), "{plugin}");
        // Everything is acknowledged: the next peek has nothing.
        let left: i64 = server.value(&format!(
            "SELECT count(*) FROM pg_get_replication_slots() WHERE slot_name = 'of_{plugin}' AND confirmed_flush_lsn < '{until}'"
        ));
        assert_eq!(left, 0, "{plugin}");
    }
}

#[test]
fn a_slot_that_somebody_else_moves_or_drops_ends_the_run_with_an_explanation() {
    let server = server();
    let mut streamer = run(&server, "null").arg("--create-slot").start();
    streamer.wait_for_stderr("delivering from");
    // Faster than the poller at least once in a few tries.
    let moved = |streamer: &mut Streamer| {
        for n in 0..200 {
            let _ = server.try_sql(
                "postgres",
                &format!("INSERT INTO t VALUES ({n}, 'x'); SELECT pg_replication_slot_advance('ferry', pg_current_wal_insert_lsn())"),
            );
            if !streamer.is_running() {
                return true;
            }
        }
        false
    };
    assert!(moved(&mut streamer), "the run did not notice");
    let error = streamer.wait(SECONDS).expect_code(1).stderr.join("\n");
    // Seen while it polls, or when it comes back after the slot was in use.
    assert!(
        error.contains("was moved by somebody else") || error.contains("advanced by somebody"),
        "{error}"
    );
    assert!(error.contains("hint: "), "{error}");

    for (arguments, message) in [
        (
            &["--two-phase", "--reader", "sql"][..],
            "--two-phase needs the replication protocol",
        ),
        (&["--poll-rows", "5"], "--poll-rows needs --reader sql"),
    ] {
        let exit = Streamer::run(&server.url(), "ferry")
            .args(arguments.iter().copied())
            .args(["--sink", "null"])
            .run(SECONDS)
            .expect_code(2);
        assert!(exit.stderr.join("\n").contains(message));
    }
}

/// A keepalive says that everything before it was given out, also when the
/// end is asked for while a row waits for room. Whether that row is left
/// behind is chance, so it is tried many times.
#[test]
fn nothing_is_called_complete_once_a_row_was_left_behind() {
    // What fits between the poller and its reader, with the start that comes first.
    const ROOM: usize = 16;
    let server = server();
    let begin = server.create_slot("ferry", "walferry");
    // BEGIN, the rows, COMMIT: one message more than there is room for.
    insert(&server, 1, u32::try_from(ROOM).unwrap() - 2);
    server.flushed_lsn();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let conninfo = Conninfo::parse(Some(&server.url())).unwrap();
    let mut left_behind = 0;
    for _ in 0..60 {
        let polling = Polling {
            slot: "ferry".into(),
            options: vec![("format".into(), "json".into())],
            interval: Duration::from_secs(1),
            rows: None,
            confirmed: begin,
        };
        let messages = runtime.block_on(async {
            let connection = Connection::connect(&conninfo, Replication::Off)
                .await
                .unwrap();
            let Ok((mut reader, writer)) = start_polling(connection, polling).await else {
                panic!("the slot is not polled");
            };
            // Until there is no more room.
            tokio::time::sleep(Duration::from_millis(30)).await;
            writer.finish();
            let mut messages = Vec::new();
            while let Some(message) = reader.next().await.unwrap() {
                messages.push(message);
            }
            messages
        });
        let rows = messages
            .iter()
            .filter(|message| matches!(message, ServerMessage::XLogData { .. }))
            .count();
        let complete = messages
            .iter()
            .any(|message| matches!(message, ServerMessage::Keepalive { .. }));
        assert!(!complete || rows == ROOM, "{messages:?}");
        left_behind += u32::from(rows < ROOM);
    }
    assert!(left_behind > 0, "nothing was asked for in time");
}

#[test]
fn a_start_position_is_kept_and_what_is_before_it_is_let_go() {
    let server = server();
    server.create_slot("ferry", "walferry");
    insert(&server, 1, 10);
    let start = server.flushed_lsn();
    insert(&server, 11, 20);
    let out = server.scratch_dir().join("out.jsonl");
    let until = server.flushed_lsn();
    let exit = run(&server, &file(&out))
        .args(["--start-lsn", &start.to_string()])
        .args(["--until-lsn", &until.to_string()])
        .run(SECONDS)
        .expect_code(0);
    assert!(
        exit.stderr.join("\n").contains("are not delivered"),
        "{:?}",
        exit.stderr
    );
    assert_eq!(ids(&out), (11..=20).collect::<Vec<u64>>());
    assert!(server.confirmed_flush("ferry") >= Some(until));
}
