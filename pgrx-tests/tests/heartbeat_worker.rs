//! The heartbeat from inside the server, with the library preloaded.

mod delivery;

use std::time::{Duration, Instant};

use delivery::{Destination, SECONDS};
use walferry_tests::{Builder, Encoding, Server, Shutdown, wait_until, wait_within};

const SLOT: &str = "ferry";
const BEATS: &str = "SELECT coalesce(sum(beats), 0)::bigint FROM walferry.heartbeats";

fn preloaded(databases: &str) -> Builder {
    Server::builder()
        .setting("shared_preload_libraries", "walferry")
        .setting("walferry.heartbeat_interval", "100ms")
        .setting("walferry.heartbeat_databases", databases)
}

/// A database with the extension.
fn database(server: &Server, name: &str) {
    server.sql(&format!("CREATE DATABASE \"{name}\""));
    server.sql_in(name, "CREATE EXTENSION walferry");
}

fn beats(server: &Server, database: &str) -> i64 {
    server.value_in(database, BEATS)
}

#[track_caller]
fn expect_beats(server: &Server, database: &str) {
    let before = beats(server, database);
    wait_within(20 * SECONDS, "two more beats", || {
        beats(server, database) >= before + 2
    });
}

fn said(server: &Server, text: &str) -> usize {
    server
        .log()
        .lines()
        .filter(|line| line.contains(text))
        .count()
}

#[track_caller]
fn expect_said(server: &Server, text: &str) {
    wait_within(20 * SECONDS, text, || said(server, text) > 0);
}

fn launchers(server: &Server) -> Vec<String> {
    server.texts_in(
        "postgres",
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walferry heartbeat launcher'",
    )
}

fn set(server: &Server, setting: &str) {
    server.sql(&format!("ALTER SYSTEM SET walferry.{setting}"));
    server.reload();
}

#[test]
fn what_goes_wrong_in_one_database_is_said_once_and_the_others_go_on() {
    let server = preloaded("postgres, \"Odd, name\", missing, bare, closed, locked, foreign")
        .setting("max_worker_processes", "12")
        .start();
    // Not there yet, any of them.
    for text in [
        "database \"postgres\": there is no function",
        "database \"missing\": there is no such",
    ] {
        let text = text.replace("database \"postgres\"", "heartbeat in postgres");
        expect_said(&server, &text);
    }
    for name in ["Odd, name", "closed", "locked"] {
        database(&server, name);
    }
    server.sql("CREATE DATABASE bare");
    server.sql("CREATE EXTENSION walferry");
    server.sql("ALTER DATABASE closed ALLOW_CONNECTIONS false");
    // What somebody who is no superuser has put there runs with his rights.
    server.sql("CREATE ROLE plain LOGIN; CREATE ROLE victim");
    server.sql("CREATE DATABASE \"foreign\" OWNER plain");
    server.sql_in(
        "foreign",
        "SET SESSION AUTHORIZATION plain; CREATE SCHEMA walferry; CREATE TABLE walferry.heartbeats (beats int, who text); \
         CREATE FUNCTION walferry.heartbeat(source text) RETURNS pg_lsn LANGUAGE plpgsql AS $$
         BEGIN
            BEGIN
                RESET SESSION AUTHORIZATION; ALTER ROLE plain SUPERUSER;
            EXCEPTION WHEN OTHERS THEN
                INSERT INTO walferry.heartbeats VALUES (1, current_user || ' ' || SQLSTATE);
            END;
            RETURN '0/0';
         END $$",
    );
    for name in ["postgres", "Odd, name", "foreign"] {
        expect_beats(&server, name);
    }
    assert_eq!(
        server.texts_in("foreign", "SELECT DISTINCT who FROM walferry.heartbeats"),
        ["plain 42501"]
    );
    assert!(!server.value::<bool>("SELECT rolsuper FROM pg_roles WHERE rolname = 'plain'"));

    // One that waits for a lock gives up, and does not hold the others up.
    expect_beats(&server, "locked");
    let mut holder = server.client_in("locked");
    holder
        .batch_execute("BEGIN; LOCK TABLE walferry.heartbeats IN EXCLUSIVE MODE")
        .unwrap();
    expect_said(
        &server,
        "heartbeat in locked: canceling statement due to lock timeout",
    );
    expect_beats(&server, "postgres");
    holder.batch_execute("COMMIT").unwrap();
    expect_said(&server, "heartbeat in locked: beats again");
    server.sql("ALTER DATABASE locked SET default_transaction_read_only = on");
    expect_said(&server, "heartbeat in locked: cannot execute");
    server.sql("ALTER DATABASE locked RESET default_transaction_read_only");
    expect_beats(&server, "locked");

    // Beaten in or not, a database can be dropped.
    let began = Instant::now();
    server.sql("DROP DATABASE \"Odd, name\"");
    assert!(began.elapsed() < 5 * SECONDS, "{:?}", began.elapsed());
    expect_said(
        &server,
        "in database \"Odd, name\": there is no such database",
    );
    for _ in 0..5 {
        expect_beats(&server, "postgres");
    }
    for (once, text) in [
        (1, "no heartbeat in database \"missing\""),
        (
            1,
            "no heartbeat in database \"closed\": it takes no connections",
        ),
        (
            1,
            "heartbeat in bare: there is no function walferry.heartbeat(text)",
        ),
        (1, "heartbeat in locked: canceling"),
        (1, "heartbeat in locked: cannot execute"),
        // At first, again or not, as the extension was there before the first try.
        (3, "heartbeat in locked: beats"),
        (
            2,
            "no heartbeat in database \"Odd, name\": there is no such database",
        ),
    ] {
        assert_eq!(said(&server, text), once, "{text}\n{}", server.log());
    }
    // The cure is in the log, and cures.
    let log = server.log();
    assert!(log.contains("HINT:  CREATE EXTENSION walferry;"), "{log}");
    assert!(
        log.contains("HINT:  ALTER DATABASE \"closed\" ALLOW_CONNECTIONS true;"),
        "{log}"
    );
    server.sql("ALTER DATABASE \"closed\" ALLOW_CONNECTIONS true;");
    server.sql_in("bare", "CREATE EXTENSION walferry;");
    for name in ["closed", "bare"] {
        expect_beats(&server, name);
    }
    let noise = "background worker \"walferry heartbeat in";
    assert_eq!(said(&server, noise), 0, "{}", server.log());

    server.configure(&[("max_worker_processes", "2")]);
    server.restart(Shutdown::Fast);
    expect_said(
        &server,
        "in database \"bare\": no background worker is free",
    );
    std::thread::sleep(SECONDS / 2);
    assert_eq!(said(&server, "database \"bare\": no background worker"), 1);
}

/// How often a process has gone to sleep.
fn sleeps(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("a count").trim().parse().expect("a number")
}

#[test]
fn it_is_turned_on_and_off_without_a_restart_and_comes_back_after_each() {
    let server = preloaded("postgres").start();
    server.sql("CREATE EXTENSION walferry");
    expect_beats(&server, "postgres");
    set(&server, "heartbeat_source = 'mine'");
    wait_until("the new source", || {
        server.value::<i64>("SELECT count(*) FROM walferry.heartbeats WHERE source = 'mine'") == 1
    });

    // Off, nothing wakes it.
    set(&server, "heartbeat_interval = 0");
    let [launcher] = &launchers(&server)[..] else {
        panic!("one launcher")
    };
    std::thread::sleep(SECONDS);
    let (slept, before) = (sleeps(launcher), beats(&server, "postgres"));
    std::thread::sleep(2 * SECONDS);
    assert_eq!(
        (sleeps(launcher), beats(&server, "postgres")),
        (slept, before)
    );
    set(&server, "heartbeat_interval = '50ms'");
    expect_beats(&server, "postgres");

    // A long one is cut short by a shorter one.
    set(&server, "heartbeat_interval = '1h'");
    std::thread::sleep(SECONDS / 2);
    let before = beats(&server, "postgres");
    std::thread::sleep(SECONDS / 2);
    assert_eq!(beats(&server, "postgres"), before);
    set(&server, "heartbeat_interval = '100ms'");
    expect_beats(&server, "postgres");

    server.sql(&format!("SELECT pg_terminate_backend({launcher})"));
    expect_beats(&server, "postgres");
    assert!(!launchers(&server).contains(launcher));
    server.crash_and_recover();
    expect_beats(&server, "postgres");
    let began = Instant::now();
    server.stop(Shutdown::Fast);
    assert!(began.elapsed() < 3 * SECONDS, "{:?}", began.elapsed());
    server.start();
    expect_beats(&server, "postgres");

    // A standby has none until it is promoted.
    let standby = preloaded("postgres").start_standby_of(&server);
    assert_eq!(launchers(&standby), [""; 0]);
    standby.promote();
    let after = beats(&standby, "postgres");
    wait_within(20 * SECONDS, "a beat after promotion", || {
        beats(&standby, "postgres") > after
    });
    drop(standby);

    // Without the library preloaded there is neither process nor setting.
    set(&server, "heartbeat_interval = 0");
    server.configure(&[("shared_preload_libraries", "")]);
    server.restart(Shutdown::Fast);
    assert_eq!(launchers(&server), [""; 0]);
    let before = beats(&server, "postgres");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(beats(&server, "postgres"), before);
}

/// An idle database beside a busy one.
#[test]
fn an_idle_databases_slot_moves_on_and_its_delay_is_told() {
    let server = preloaded("postgres").start();
    server.sql("CREATE EXTENSION walferry");
    server.create_database("busy", Encoding::Utf8);
    server.sql_in("busy", "CREATE TABLE item (id int)");
    server.create_slot(SLOT, "walferry");
    let destination = Destination::new();
    let streamer = destination.run(&server, SLOT).start();
    for _ in 0..3 {
        server.sql_in("busy", "INSERT INTO item SELECT generate_series(1, 50000)");
        let end = server.flushed_lsn();
        wait_within(10 * SECONDS, "the slot to move on", || {
            server.confirmed_flush(SLOT) > Some(end)
        });
        server.sql("CHECKPOINT");
    }
    wait_within(20 * SECONDS, "the WAL to be let go", || {
        let kept = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots";
        server.sql("CHECKPOINT");
        server.value::<i64>(kept) < 1 << 20
    });
    assert!(destination.delivered().events.is_empty());
    let exit = streamer.stop().expect_code(0);
    let summary = exit
        .stderr
        .iter()
        .rev()
        .find(|line| line.contains("heartbeats, the last after"));
    let summary = summary.unwrap_or_else(|| panic!("{:#?}", exit.stderr));
    let words: Vec<&str> = summary.split_whitespace().collect();
    let longest: f64 = words[words.len() - 2].parse().unwrap();
    assert!(longest > 0.0 && longest < 10_000.0, "{summary}");
}
