//! `walferry slot list`, `create`, `drop` and `inspect`.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use walferry_tests::{Exit, Server, Streamer, wait_until, wait_within};

const SECONDS: Duration = Duration::from_secs(30);

fn slot(server: &Server, arguments: &[&str]) -> Exit {
    Streamer::builder()
        .arg("slot")
        .args(arguments.iter().copied())
        .args(["--source", &server.url()])
        .run(SECONDS)
}

fn reading(server: &Server, slot: &str) -> Child {
    let child = server
        .pg_recvlogical("postgres", slot)
        .args(["--start", "--no-loop", "-f", "/dev/null"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the slot to be read", || {
        server.slot_active_pid(slot).is_some()
    });
    child
}

#[test]
fn a_slot_is_made_listed_looked_into_and_dropped() {
    let server = Server::start_default();
    let exit = slot(&server, &["create", "ferry"]).expect_code(0);
    assert!(
        exit.stdout[0].starts_with("created slot ferry in database postgres at 0/"),
        "{exit:?}"
    );
    let plugin: String = server.value(
        "SELECT plugin::text FROM pg_replication_slots WHERE slot_name = 'ferry' AND NOT temporary",
    );
    assert_eq!(plugin, "walferry");

    slot(
        &server,
        &[
            "create",
            "other",
            "--plugin",
            "test_decoding",
            "--two-phase",
        ],
    )
    .expect_code(0);
    assert!(
        server
            .value::<bool>("SELECT two_phase FROM pg_replication_slots WHERE slot_name = 'other'")
    );
    server.sql("SELECT pg_create_physical_replication_slot('whole')");

    let exit = slot(&server, &["list"]).expect_code(0);
    let columns: Vec<Vec<&str>> = exit
        .stdout
        .iter()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(&columns[0][..4], ["SLOT", "PLUGIN", "DATABASE", "STATE"]);
    assert_eq!(
        &columns[1][..4],
        ["ferry", "walferry", "postgres", "inactive"]
    );
    assert_eq!(
        &columns[2][..4],
        ["other", "test_decoding", "postgres", "inactive"]
    );
    assert_eq!(&columns[3][..3], ["whole", "(physical)", "-"]);
    let starts: Vec<_> = exit.stdout[..3]
        .iter()
        .map(|line| line.find("  postgres").or(line.find("  DATABASE")))
        .collect();
    assert_eq!(starts[1], starts[2], "the columns are not aligned");

    let exit = slot(&server, &["list", "--json"]).expect_code(0);
    let listed: Value = serde_json::from_str(&exit.stdout.join("\n")).unwrap();
    assert_eq!(listed[0]["name"], "ferry");
    assert_eq!(listed[0]["plugin"], "walferry");
    assert!(listed[0]["retained_bytes"].is_u64());
    assert_eq!(listed[2]["plugin"], Value::Null);

    let text = slot(&server, &["inspect", "ferry"])
        .expect_code(0)
        .stdout
        .join("\n");
    for part in [
        "confirmed_flush_lsn",
        "WAL retained",
        "read by              nobody",
        "nobody reads it; it keeps",
        "hint: start its reader",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let json = slot(&server, &["inspect", "ferry", "--json"])
        .expect_code(0)
        .stdout
        .join("\n");
    let inspected: Value = serde_json::from_str(&json).unwrap();
    assert!(inspected["verdicts"][0]["cure"].is_string());

    slot(&server, &["drop", "ferry"]).expect_code(0);
    slot(&server, &["drop", "other"]).expect_code(0);
    assert_eq!(
        server.value::<i64>("SELECT count(*) FROM pg_replication_slots"),
        1
    );
}

#[test]
fn a_slot_that_is_not_there_is_told_how_to_make_it_or_what_there_is() {
    let server = Server::start_default();
    for (command, cure) in [
        ("drop", "walferry slot list"),
        ("inspect", "walferry slot create missing"),
    ] {
        let error = slot(&server, &[command, "missing"])
            .expect_code(1)
            .stderr
            .join("\n");
        assert!(
            error.contains(
                "walferry: error: replication slot \"missing\" does not exist (SQLSTATE 42704)"
            ),
            "{error}"
        );
        assert!(error.contains(cure), "{error}");
    }
}

#[test]
fn a_slot_made_twice_and_a_bad_name_are_refused() {
    let server = Server::start_default();
    slot(&server, &["create", "once", "--plugin", "test_decoding"]).expect_code(0);
    let error = slot(&server, &["create", "once", "--plugin", "test_decoding"])
        .expect_code(1)
        .stderr
        .join("\n");
    assert!(
        error.contains("SQLSTATE 42710") && error.contains("walferry slot drop once"),
        "{error}"
    );
    let error = slot(&server, &["create", "Not-A-Name"])
        .expect_code(2)
        .stderr
        .join("\n");
    assert!(
        error.contains("lower-case letters, digits and underscores"),
        "{error}"
    );
    let error = slot(&server, &["create", "x", "--temporary"])
        .expect_code(2)
        .stderr
        .join("\n");
    assert!(
        error.contains("a temporary slot would end with this command"),
        "{error}"
    );
    if server.tree().major() < 17 {
        let error = slot(&server, &["create", "x", "--failover"])
            .expect_code(2)
            .stderr
            .join("\n");
        assert!(
            error.contains("failover slots need PostgreSQL 17"),
            "{error}"
        );
    }
}

#[test]
fn a_slot_in_use_is_dropped_only_when_told_to() {
    let server = Server::start_default();
    server.create_slot("busy", "test_decoding");
    let mut reader = reading(&server, "busy");
    let pid = server.slot_active_pid("busy").unwrap();

    let error = slot(&server, &["drop", "busy"])
        .expect_code(1)
        .stderr
        .join("\n");
    assert!(
        error.contains(&format!(
            "is in use by PID {pid} (pg_recvlogical of role postgres)"
        )),
        "{error}"
    );
    assert!(
        error.contains(&format!("pg_terminate_backend({pid})")),
        "{error}"
    );
    let text = slot(&server, &["inspect", "busy"])
        .expect_code(0)
        .stdout
        .join("\n");
    assert!(
        text.contains(&format!(
            "PID {pid} (pg_recvlogical of role postgres) reads it"
        )),
        "{text}"
    );

    slot(&server, &["drop", "busy", "--terminate"]).expect_code(0);
    assert!(!reader.wait().unwrap().success());
    assert_eq!(
        server.value::<i64>("SELECT count(*) FROM pg_replication_slots"),
        0
    );
}

#[test]
fn making_a_slot_names_the_transaction_it_waits_for() {
    let server = Server::start_default();
    let mut blocker = server.client();
    blocker.batch_execute("SET application_name = 'holder'; CREATE TABLE t (id int); BEGIN; INSERT INTO t VALUES (42)").unwrap();
    let pid: i32 = blocker
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    let mut streamer = Streamer::builder()
        .args([
            "slot",
            "create",
            "patient",
            "--plugin",
            "test_decoding",
            "--source",
            &server.url(),
        ])
        .start();
    streamer.wait_for_stderr(&format!("PID {pid} of role postgres, idle in transaction"));
    let line = streamer.stderr().join("\n");
    assert!(
        line.contains(&format!("SELECT pg_terminate_backend({pid})")),
        "{line}"
    );
    assert!(
        line.contains("last statement: SELECT pg_backend_pid()"),
        "{line}"
    );
    blocker.batch_execute("COMMIT").unwrap();
    streamer.wait(SECONDS).expect_code(0);
    assert_eq!(
        server
            .value::<i64>("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'patient'"),
        1
    );
}

#[test]
fn making_a_slot_names_the_prepared_transaction_it_waits_for() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int)");
    server
        .client()
        .batch_execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left behind'")
        .unwrap();
    let mut streamer = Streamer::builder()
        .args([
            "slot",
            "create",
            "patient",
            "--plugin",
            "test_decoding",
            "--source",
            &server.url(),
        ])
        .start();
    streamer.wait_for_stderr("prepared transaction 'left behind' of role postgres");
    server.sql("ROLLBACK PREPARED 'left behind'");
    streamer.wait(SECONDS).expect_code(0);
}

fn walsenders(server: &Server) -> i64 {
    server.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'")
}

#[test]
fn giving_up_on_a_slot_leaves_no_walsender_and_no_slot() {
    let server = Server::start_default();
    let mut blocker = server.client();
    blocker
        .batch_execute("CREATE TABLE t (id int); BEGIN; INSERT INTO t VALUES (1)")
        .unwrap();
    let create = [
        "slot",
        "create",
        "impatient",
        "--plugin",
        "test_decoding",
        "--source",
    ];
    let gone = |why: &str| {
        wait_within(SECONDS, why, || {
            walsenders(&server) == 0
                && server.value::<i64>("SELECT count(*) FROM pg_replication_slots") == 0
        });
    };

    let exit = Streamer::builder()
        .args(create)
        .arg(server.url())
        .args(["--timeout", "1s"])
        .run(SECONDS)
        .expect_code(1);
    let error = exit.stderr.join("\n");
    assert!(
        error.contains("could not be made within 1s, and its making was cancelled"),
        "{error}"
    );
    gone("the timed-out walsender to be gone");

    let mut streamer = Streamer::builder().args(create).arg(server.url()).start();
    wait_until("the walsender", || walsenders(&server) == 1);
    streamer.terminate();
    let error = streamer.wait(SECONDS).expect_code(1).stderr.join("\n");
    assert!(error.contains("ended by SIGTERM"), "{error}");
    gone("the cancelled walsender to be gone");
    blocker.batch_execute("COMMIT").unwrap();
}

#[test]
fn a_slot_that_keeps_wal_for_an_open_transaction_names_it() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int)");
    server.create_slot("held", "test_decoding");
    let mut holder = server.client();
    holder
        .batch_execute("BEGIN; INSERT INTO t VALUES (1)")
        .unwrap();
    let pid: i32 = holder
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    server.sql("CREATE TABLE big AS SELECT repeat('x', 900) FROM generate_series(1, 90000)");
    server
        .client()
        .execute(
            "SELECT pg_replication_slot_advance('held', pg_current_wal_lsn())",
            &[],
        )
        .unwrap();
    let text = slot(&server, &["inspect", "held"])
        .expect_code(0)
        .stdout
        .join("\n");
    assert!(
        text.contains(&format!(
            "the oldest that writes is PID {pid} of role postgres (idle in transaction"
        )),
        "{text}"
    );
}
