//! Having the slot a run needs: waiting for it, taking it over, refusing what
//! can't be read; temporary slots.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use walferry_streamer::error::{Class, Failure};
use walferry_streamer::source::connection::{Connection, Replication};
use walferry_streamer::source::conninfo::Conninfo;
use walferry_streamer::source::slot::{Ensured, SlotRequest, ensure};
use walferry_tests::{Server, wait_until};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

async fn connect(server: &Server) -> Connection {
    let conninfo = Conninfo::parse(Some(&server.url())).unwrap();
    Connection::connect(&conninfo, Replication::Database)
        .await
        .unwrap()
}

const PLUGIN: &str = "test_decoding";

fn request(name: Option<&str>) -> SlotRequest {
    SlotRequest {
        name: name.map(str::to_owned),
        plugin: None,
        create: false,
        takeover: false,
        two_phase: false,
    }
}

fn ensured(server: &Server, request: &SlotRequest) -> Result<Ensured, Failure> {
    block_on(async { ensure(&mut connect(server).await, request, PLUGIN).await })
}

fn reader(server: &Server, slot: &str) -> Command {
    let mut command = server.pg_recvlogical("postgres", slot);
    command
        .args(["--start", "--no-loop", "-f", "/dev/null"])
        .stderr(Stdio::null());
    command
}

#[test]
fn a_missing_slot_is_made_only_when_told_to() {
    let server = Server::start_default();
    let mut request = request(Some("ferry"));
    let failure = ensured(&server, &request).unwrap_err();
    assert_eq!(failure.class, Class::Definite);
    assert_eq!(failure.message, "replication slot \"ferry\" does not exist");
    let hint = failure.hint.unwrap();
    assert!(
        hint.contains("--create-slot")
            && hint.contains("pg_create_logical_replication_slot('ferry', 'walferry')"),
        "{hint}"
    );

    request.create = true;
    let first = ensured(&server, &request).unwrap();
    assert!(first.created && !first.info.temporary);
    let second = ensured(&server, &request).unwrap();
    assert!(!second.created);
    assert_eq!(
        second.info.confirmed_flush_lsn,
        first.info.confirmed_flush_lsn
    );
}

#[test]
fn a_temporary_slot_ends_with_its_connection() {
    let server = Server::start_default();
    block_on(async {
        let mut connection = connect(&server).await;
        let made = ensure(&mut connection, &request(None), PLUGIN)
            .await
            .unwrap();
        assert!(made.created && made.info.temporary);
        let rows = connection
            .simple_query("SELECT slot_name FROM pg_replication_slots WHERE temporary")
            .await
            .unwrap();
        assert_eq!(rows[0].get("slot_name"), Some(made.info.name.as_str()));
        connection.close().await;
    });
    wait_until("the temporary slot to vanish", || {
        server.value::<i64>("SELECT count(*) FROM pg_replication_slots") == 0
    });
}

#[test]
fn a_slot_of_another_plugin_kind_or_database_is_refused_with_the_way_on() {
    let server = Server::start_default();
    server.sql("CREATE DATABASE elsewhere");
    server.sql("SELECT pg_create_physical_replication_slot('whole')");
    server.create_slot("theirs", "pgoutput");
    server.create_slot_in("elsewhere", "far", "test_decoding");
    for (name, message, hint) in [
        (
            "theirs",
            "slot \"theirs\" belongs to plugin pgoutput, not test_decoding",
            "walferry slot drop theirs",
        ),
        (
            "whole",
            "slot \"whole\" is a physical replication slot",
            "choose another name",
        ),
        (
            "far",
            "slot \"far\" belongs to database elsewhere, and the source names postgres",
            "name database elsewhere in --source",
        ),
    ] {
        let failure = ensured(&server, &request(Some(name))).unwrap_err();
        assert_eq!(failure.message, message);
        assert_eq!(failure.class, Class::Definite);
        assert!(failure.hint.as_ref().unwrap().contains(hint), "{failure}");
    }
}

#[test]
fn a_slot_that_is_lost_is_a_definite_error_with_the_way_on() {
    let server = Server::builder()
        .setting("max_slot_wal_keep_size", "1MB")
        .setting("min_wal_size", "32MB")
        .setting("max_wal_size", "32MB")
        .start();
    server.create_slot("ferry", "test_decoding");
    wait_until("the slot to be lost", || {
        server.sql("CREATE TABLE filler AS SELECT repeat('x', 900) FROM generate_series(1, 20000); DROP TABLE filler");
        server
            .client()
            .batch_execute("SELECT pg_switch_wal(); CHECKPOINT")
            .unwrap();
        server.value::<String>("SELECT wal_status FROM pg_replication_slots") == "lost"
    });
    let failure = ensured(&server, &request(Some("ferry"))).unwrap_err();
    assert_eq!(failure.class, Class::Definite);
    assert!(
        failure.message.starts_with("slot \"ferry\" is lost"),
        "{failure}"
    );
    assert!(failure.hint.unwrap().contains("walferry slot drop ferry"));
}

#[test]
fn a_slot_still_held_by_a_dead_reader_is_waited_for() {
    let server = Server::builder()
        .tcp()
        .setting("wal_sender_timeout", "60s")
        .start();
    server.create_slot("ferry", "test_decoding");
    let mut child = reader(&server, "ferry").spawn().unwrap();
    wait_until("the slot to be read", || {
        server.slot_active_pid("ferry").is_some()
    });
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let began = Instant::now();
    let free = ensured(&server, &request(Some("ferry"))).unwrap();
    assert!(began.elapsed() > Duration::from_secs(1), "it did not wait");
    assert_eq!(free.info.reader, None);
    killer.join().unwrap();
}

#[test]
fn a_slot_whose_reader_is_alive_is_given_up_naming_it_or_taken_over() {
    let server = Server::builder()
        .setting("wal_sender_timeout", "1s")
        .start();
    server.create_slot("ferry", "test_decoding");
    let mut child = reader(&server, "ferry")
        .args(["--status-interval", "1"])
        .spawn()
        .unwrap();
    wait_until("the slot to be read", || {
        server.slot_active_pid("ferry").is_some()
    });
    let pid = server.slot_active_pid("ferry").unwrap();
    let mut request = request(Some("ferry"));

    let failure = ensured(&server, &request).unwrap_err();
    assert_eq!(failure.class, Class::Definite);
    assert!(
        failure.message.contains(&format!(
            "active for PID {pid} (pg_recvlogical of role postgres)"
        )),
        "{failure}"
    );
    let hint = failure.hint.unwrap();
    assert!(
        hint.contains("--takeover") && hint.contains(&format!("pg_terminate_backend({pid})")),
        "{hint}"
    );

    request.takeover = true;
    let taken = ensured(&server, &request).unwrap();
    assert_eq!(taken.info.reader, None);
    assert!(!child.wait().unwrap().success());
}
