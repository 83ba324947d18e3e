//! What `walferry run` refuses to start with, what it waits for, and what it
//! never prints.

use std::process::Stdio;
use std::time::Duration;

use walferry_tests::{Exit, Server, ServerTree, Streamer, StreamerBuilder, wait_until};

const SECONDS: Duration = Duration::from_secs(60);

/// A run of slot `ferry` to stdout that ends at the WAL's present end.
fn until_now(server: &Server, url: &str) -> StreamerBuilder {
    let end = server.flushed_lsn().to_string();
    Streamer::run(url, "ferry").args(["--sink", "stdout", "--until-lsn", &end])
}

#[track_caller]
fn assert_refused(exit: Exit, parts: &[&str]) {
    let exit = exit.expect_code(1);
    let text = exit.stderr.join("\n");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let errors = exit
        .stderr
        .iter()
        .filter(|line| line.starts_with("walferry: error: "));
    assert_eq!(errors.count(), 1, "{text}");
    assert_eq!(exit.stdout, [""; 0]);
}

#[test]
fn a_missing_slot_stops_the_run_with_the_ways_to_make_it() {
    let server = Server::start_default();
    assert_refused(
        until_now(&server, &server.url()).run(SECONDS),
        &[
            "replication slot \"ferry\" does not exist (SQLSTATE 42704)",
            "walferry slot create ferry",
            "--create-slot",
        ],
    );
    until_now(&server, &server.url())
        .arg("--create-slot")
        .run(SECONDS)
        .expect_code(0);
    assert!(server.confirmed_flush("ferry").is_some());
}

#[test]
fn a_slot_of_another_plugin_stops_the_run() {
    let server = Server::start_default();
    server.create_slot("ferry", "test_decoding");
    assert_refused(
        until_now(&server, &server.url()).run(SECONDS),
        &[
            "slot \"ferry\" belongs to plugin test_decoding, which walferry does not read",
            "hint: choose another slot",
        ],
    );
    assert_refused(
        until_now(&server, &server.url())
            .args(["--plugin", "walferry"])
            .run(SECONDS),
        &[
            "slot \"ferry\" belongs to plugin test_decoding, not walferry",
            "hint: choose another slot",
        ],
    );
}

#[test]
fn a_role_without_replication_and_a_wal_level_too_low_stop_the_run() {
    let server = Server::builder().setting("wal_level", "replica").start();
    server.sql("CREATE ROLE plain LOGIN");
    let url = server.url();
    assert_refused(
        until_now(&server, &url.replace("postgres@", "plain@")).run(SECONDS),
        &["SQLSTATE 42501", "ALTER ROLE \"plain\" REPLICATION"],
    );
    assert_refused(
        until_now(&server, &url).arg("--create-slot").run(SECONDS),
        &["SQLSTATE 55000", "ALTER SYSTEM SET wal_level = logical"],
    );
}

#[test]
fn tables_with_updates_and_no_replica_identity_are_refused_unless_accepted_or_left_out() {
    let server = Server::start_default();
    server.create_slot("ferry", "walferry");
    server.sql(
        "CREATE TABLE bare (id int); CREATE TABLE quiet (id int); INSERT INTO bare VALUES (1), (2)",
    );
    let mut client = server.client();
    client
        .batch_execute("UPDATE bare SET id = 3 WHERE id = 1")
        .unwrap();
    drop(client);
    wait_until("the statistics", || {
        server.value::<i64>("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'bare'") == 1
    });
    assert_refused(
        until_now(&server, &server.url()).run(SECONDS),
        &[
            "a table without a usable replica identity has had UPDATEs or DELETEs",
            "public.bare (1 updates, 0 deletes)",
            "ALTER TABLE \"public\".\"bare\" REPLICA IDENTITY FULL",
            "--missing-identity accept",
        ],
    );
    // Refused before anything was read: the slot has not moved.
    let exit = until_now(&server, &server.url())
        .args(["--missing-identity", "accept"])
        .run(SECONDS)
        .expect_code(0);
    assert_eq!(exit.stdout.len(), 3, "{:?}", exit.stdout);
    let text = exit.stderr.join("\n");
    assert_eq!(text.matches("public.quiet").count(), 1, "{text}");
    until_now(&server, &server.url())
        .args(["--exclude-tables", "public.bare"])
        .run(SECONDS)
        .expect_code(0);
}

#[test]
fn an_option_the_plugin_does_not_know_is_refused_by_name() {
    let server = Server::start_default();
    server.create_slot("ferry", "walferry");
    server.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    assert_refused(
        until_now(&server, &server.url())
            .args(["--plugin-option", "nonsense=1"])
            .run(SECONDS),
        &["unknown option \"nonsense\""],
    );
    let exit = until_now(&server, &server.url())
        .run(SECONDS)
        .expect_code(0);
    assert_eq!(exit.stdout.len(), 1, "nothing was lost: {:?}", exit.stdout);
}

#[test]
fn a_plugin_taken_off_the_servers_list_stops_the_run_with_the_whole_statement() {
    if !ServerTree::get().has_output_plugin_libraries() {
        return;
    }
    let server = Server::start_default();
    server.create_slot("ferry", "walferry");
    server.create_slot("other", "test_decoding");
    server.configure(&[("output_plugin_libraries", "wal2json")]);
    server.reload();
    wait_until("the setting", || {
        server.value::<String>("SHOW output_plugin_libraries") == "wal2json"
    });
    assert_refused(
        until_now(&server, &server.url()).run(SECONDS),
        &[
            "SQLSTATE 42501",
            "ALTER SYSTEM SET output_plugin_libraries = wal2json, test_decoding, walferry; SELECT pg_reload_conf()",
        ],
    );
}

#[test]
fn a_slot_in_use_is_waited_for_and_said_once_or_taken_over() {
    let server = Server::start_default();
    server.create_slot("ferry", "walferry");
    server.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let reading = || {
        let child = server
            .pg_recvlogical("postgres", "ferry")
            .args(["--start", "--no-loop", "-f", "/dev/null"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the slot to be read", || {
            server.slot_active_pid("ferry").is_some()
        });
        child
    };
    let mut child = reading();
    let pid = server.slot_active_pid("ferry").unwrap();
    let mut waiting = until_now(&server, &server.url()).start();
    waiting.wait_for_stderr(&format!("slot \"ferry\" is active for PID {pid}"));
    // Long enough for a second line, were there one for every look.
    std::thread::sleep(Duration::from_millis(1500));
    child.kill().unwrap();
    child.wait().unwrap();
    let exit = waiting.wait(SECONDS).expect_code(0);
    let text = exit.stderr.join("\n");
    assert_eq!(text.matches("is active for PID").count(), 1, "{text}");
    assert!(text.contains("slot \"ferry\" is free"), "{text}");

    let mut child = reading();
    until_now(&server, &server.url())
        .arg("--takeover")
        .run(SECONDS)
        .expect_code(0);
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_run_without_a_slot_leaves_none_behind() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int PRIMARY KEY)");
    let mut streamer = Streamer::builder()
        .args(["run", "--source", &server.url(), "--sink", "stdout"])
        .start();
    wait_until("the temporary slot to be read", || {
        server.value::<i64>("SELECT count(*) FROM pg_replication_slots WHERE temporary AND active AND restart_lsn IS NOT NULL AND EXISTS (SELECT FROM pg_stat_replication)") == 1
    });
    server.sql("INSERT INTO t VALUES (1)");
    streamer.wait_for_stdout_lines(1);
    streamer.stop().expect_code(0);
    wait_until("no slot", || {
        server.value::<i64>("SELECT count(*) FROM pg_replication_slots") == 0
    });
}

#[test]
fn a_password_is_never_printed_however_much_is_logged() {
    let server = Server::builder()
        .tcp()
        .hba("host all ferry 127.0.0.1/32 scram-sha-256")
        .start();
    server.sql("CREATE ROLE ferry LOGIN REPLICATION PASSWORD 'hunter2'; CREATE TABLE t (id int PRIMARY KEY)");
    for (password, code) in [("hunter2", 0), ("hunter22", 1)] {
        let url = format!(
            "postgres://ferry:{password}@127.0.0.1:{}/postgres",
            server.port()
        );
        let exit = until_now(&server, &url)
            .args(["--create-slot", "--log-level", "trace"])
            .run(SECONDS)
            .expect_code(code);
        let text = format!("{}{}", exit.stdout.join("\n"), exit.stderr.join("\n"));
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!server.log().contains("hunter2"));
    }
}
