//! `walferry.diagnose()`: every situation made real on a live server, told to a role with pg_monitor only, and mended by
//! the statement that is printed.

mod findings;

use std::time::{Duration, Instant};

use findings::{Consumer, Monitor, signal, write_wal};

use walferry_tests::{Encoding, Server, Shutdown, Walsender, wait_until};

/// What cries wolf is ignored.
#[test]
fn a_healthy_server_gives_no_finding() {
    let server = Server::start_default();
    let mut monitor = Monitor::of(&server, &[]);
    assert_eq!(monitor.told(), [""; 0]);
    server.sql(
        "CREATE TABLE item (id int PRIMARY KEY, n int); CREATE TABLE quiet (id int); \
         CREATE PUBLICATION shop FOR TABLE item; CREATE PUBLICATION everything FOR ALL TABLES",
    );
    server.create_slot("unread", "walferry");
    server.create_slot("ferry", "walferry");
    server.sql("SELECT pg_create_physical_replication_slot('standby', true)");
    let _consumer = Consumer::of(&server, "ferry");
    let mut other = server.client();
    other
        .batch_execute("BEGIN; INSERT INTO item VALUES (0, 0)")
        .unwrap();
    server.sql("INSERT INTO item SELECT g, g FROM generate_series(1, 10000) g");
    server.sql("UPDATE item SET n = n + 1 WHERE id > 0");
    for _ in 0..3 {
        monitor
            .client()
            .batch_execute("SELECT walferry.heartbeat('mine'); SELECT walferry.sample_wal()")
            .unwrap();
        server.sql("CHECKPOINT");
        assert_eq!(monitor.told(), [""; 0]);
    }
    assert_eq!(
        server.value::<i64>("SELECT beats FROM walferry.heartbeats WHERE source = 'mine'"),
        3
    );
    // Bytes and times are there where they can be told, and a reason where they can't.
    let row = monitor
        .client()
        .query_one(
            "SELECT state, lag_bytes, retained_bytes, reader::text, why_null ->> 'failover', \
                    current_setting('server_version_num')::int >= 170000 \
             FROM walferry.slots WHERE slot_name = 'ferry'",
            &[],
        )
        .unwrap();
    assert_eq!(row.get::<_, String>(0), "streaming");
    assert!(row.get::<_, i64>(1) >= 0 && row.get::<_, i64>(2) > 0);
    assert_eq!(row.get::<_, Option<String>>(3).as_deref(), Some("postgres"));
    assert_eq!(
        row.get::<_, Option<String>>(4).is_none(),
        row.get::<_, bool>(5)
    );
}

#[test]
fn a_slot_that_nobody_reads_is_told_when_it_keeps_wal_or_grows_old() {
    let server = Server::start_default();
    server.create_slot("left", "walferry");
    server.sql("SELECT pg_create_physical_replication_slot('gone', true)");
    let mut monitor = Monitor::of(
        &server,
        &[
            ("retained_wal", "20MB"),
            ("sample_every", "0.1s"),
            ("time_left", "1s"),
        ],
    );
    assert_eq!(monitor.told(), [""; 0]);
    let misspelt = monitor.findings_of("lefft");
    assert_eq!(misspelt.len(), 1);
    assert_eq!(misspelt[0].code, "slot_missing");
    misspelt[0].mend(&server, "postgres");
    let forecast = |monitor: &mut Monitor| -> (Option<f64>, Option<f64>, String) {
        let row = monitor
            .client()
            .query_one(
                "SELECT wal_bytes_per_second::float8, seconds_to_disk_full::float8, why_null::text \
                 FROM walferry.slot_forecast('left')",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    // Nothing is guessed without a sample.
    let (rate, full, why) = forecast(&mut monitor);
    assert_eq!((rate, full), (None, None));
    assert!(why.contains("there is no WAL sample"), "{why}");
    assert!(why.contains("is never given up for its size"), "{why}");
    let sample = "SELECT walferry.sample_wal()";
    assert!(
        monitor
            .client()
            .query_one(sample, &[])
            .unwrap()
            .get::<_, bool>(0)
    );
    std::thread::sleep(Duration::from_millis(1100));
    write_wal(&server, 5);

    // Old by the samples; on 17 and later by the server's own account.
    monitor
        .client()
        .batch_execute("SET walferry.idle_slot = '1s'; SELECT walferry.sample_wal()")
        .unwrap();
    let idle = monitor.expect("slot_idle");
    assert_eq!(idle.severity, "warning");
    let (rate, full, _) = forecast(&mut monitor);
    assert!(rate.unwrap() > 100_000.0, "{rate:?}");
    assert!(full.unwrap() > 0.0);

    write_wal(&server, 30);
    assert_eq!(
        monitor.told(),
        ["critical slot_inactive gone", "critical slot_inactive left"]
    );
    let left = monitor.findings_of("left");
    assert_eq!(left.len(), 1);
    assert!(left[0].text.contains("nobody reads it"), "{left:?}");
    assert!(left[0].evidence["retained_bytes"].as_i64().unwrap() > 20 << 20);
    // The disk would be full in time, at this rate. What the server would keep by itself is not to blame on a slot.
    monitor
        .client()
        .batch_execute("SET walferry.time_left = '100000 days'")
        .unwrap();
    assert!(
        !monitor
            .told()
            .iter()
            .any(|one| one.contains("disk_filling"))
    );
    server.sql("CHECKPOINT");
    let filling = monitor.expect("disk_filling");
    assert!(filling.evidence["free_bytes"].as_i64().unwrap() > 0);
    assert_eq!(
        filling.fix.as_deref(),
        Some("SELECT pg_catalog.pg_drop_replication_slot('gone');")
    );
    filling.mend(&server, "postgres");
    monitor.expect("slot_inactive").mend(&server, "postgres");
    assert_eq!(monitor.told(), [""; 0]);
}

#[test]
fn the_transaction_that_holds_a_slot_is_named_wherever_it_runs() {
    let server = Server::start_default();
    server.create_database("elsewhere", Encoding::Utf8);
    server.sql_in("elsewhere", "CREATE TABLE item (id int)");
    server.create_slot("ferry", "walferry");
    let _consumer = Consumer::of(&server, "ferry");
    let mut monitor = Monitor::of(
        &server,
        &[
            ("retained_wal", "8MB"),
            ("long_transaction", "1s"),
            ("running_xacts_interval", "1s"),
            ("prepared_transaction", "1s"),
        ],
    );
    let busy = || {
        write_wal(&server, 1);
        server.sql("CHECKPOINT");
    };
    let mut idle = server.client_in("elsewhere");
    idle.batch_execute("SET application_name = 'payroll'; BEGIN; INSERT INTO item VALUES (1)")
        .unwrap();
    let pid: i32 = idle
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    let mut named = monitor.expect_while("long_transaction", busy);
    assert_eq!(named.object, Some(format!("pid {pid}")));
    assert_eq!(named.evidence["database"], "elsewhere");
    assert_eq!(named.evidence["application_name"], "payroll");
    assert_eq!(named.evidence["slots"][0], "ferry");
    assert!(named.text.contains("idle in transaction"), "{named:?}");
    // It is all that is wrong; it grows grave with what it keeps.
    while named.severity != "critical" {
        write_wal(&server, 4);
        named = monitor.expect("long_transaction");
    }
    assert_eq!(
        monitor.told(),
        [format!("critical long_transaction pid {pid}")]
    );
    // A young one is to blame too, and no reason to wake anybody.
    monitor
        .client()
        .batch_execute("SET walferry.long_transaction = '1h'")
        .unwrap();
    let young = monitor.expect_while("long_transaction", || server.sql("CHECKPOINT"));
    assert_eq!(young.severity, "warning");
    monitor
        .client()
        .batch_execute("SET walferry.long_transaction = '1s'")
        .unwrap();
    let blockers = monitor
        .client()
        .query(
            "SELECT pid, holds::text FROM walferry.slot_blockers('ferry')",
            &[],
        )
        .unwrap();
    assert_eq!(blockers.len(), 1);
    assert_eq!(blockers[0].get::<_, i32>(0), pid);
    assert_eq!(
        blockers[0].get::<_, String>(1),
        "{restart_lsn,catalog_xmin}"
    );

    // Guessed from its age so far; the WAL itself tells, where it may be read.
    let why_not = |monitor: &mut Monitor| -> String {
        monitor
            .client()
            .query_one("SELECT why_null FROM walferry.slot_wal('ferry')", &[])
            .unwrap()
            .get(0)
    };
    let unread = why_not(&mut monitor);
    assert!(named.evidence["first_record"].is_null());
    if server.has_extension("pg_walinspect") {
        assert!(unread.ends_with("CREATE EXTENSION pg_walinspect;"));
        server.sql(&unread[unread.find("CREATE").unwrap()..]);
        let refused = why_not(&mut monitor);
        server.sql(&refused[refused.find("GRANT").unwrap()..]);
        let kept = monitor
            .client()
            .query(
                "SELECT pid, relation FROM walferry.slot_wal('ferry') WHERE still_open",
                &[],
            )
            .unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].get::<_, i32>(0), pid);
        let relation: String = kept[0].get(1);
        assert!(relation.ends_with(" of database elsewhere"), "{relation}");
        let proved = monitor.expect("long_transaction");
        assert!(proved.evidence["first_record"].is_string(), "{proved:?}");
    } else {
        assert!(!unread.is_empty());
    }
    named.mend(&server, "postgres");
    monitor.expect_gone("long_transaction");
    // What it held is held until the WAL says that it is gone.
    let waiting = monitor.expect("blocker_gone");
    assert_eq!(waiting.severity, "info");
    if server.has_extension("pg_walinspect") {
        let oldest = waiting.evidence["oldest_wal"].as_array().unwrap();
        assert!(
            oldest.iter().any(|one| one["xid"] == named.evidence["xid"]),
            "{waiting:?}"
        );
    }
    monitor.expect_gone_while("blocker_gone", || waiting.mend(&server, "postgres"));
    assert_eq!(monitor.told(), [""; 0]);

    server.sql_in(
        "elsewhere",
        "BEGIN; INSERT INTO item VALUES (2); PREPARE TRANSACTION 'it''s lost'",
    );
    let forgotten = monitor.expect_while("prepared_transaction", busy);
    assert_eq!(forgotten.object.as_deref(), Some("it's lost"));
    // While it stands, the catalogs of the whole cluster can't be cleaned.
    monitor
        .client()
        .batch_execute("SET walferry.catalog_xmin_age = 20")
        .unwrap();
    let old = monitor.expect_while("catalog_xmin_old", || {
        for _ in 0..10 {
            server.sql_in("elsewhere", "INSERT INTO item VALUES (3)");
        }
    });
    assert_eq!(old.object.as_deref(), Some("ferry"));
    assert_eq!(old.evidence["held_by"], "prepared transaction");
    assert_eq!(old.fix, forgotten.fix);
    old.mend(&server, "elsewhere");
    monitor.expect_gone("prepared_transaction");
    monitor.expect_gone_while("catalog_xmin_old", || server.sql("CHECKPOINT"));
}

#[test]
fn a_consumer_that_does_not_confirm_or_does_not_receive_is_told_apart_from_slow_decoding() {
    let server = Server::start_default();
    server.create_slot("ferry", "walferry");
    let mut monitor = Monitor::of(
        &server,
        &[("unconfirmed_wal", "4MB"), ("silent_consumer", "2s")],
    );
    let mut silent = Walsender::connect(&server, "postgres");
    silent.start("ferry", &[]).unwrap();
    // Skipped over by the decoder, and so sent_lsn moves with nothing to read.
    server.sql("CREATE TABLE filler (t text)");
    server.create_database("elsewhere", Encoding::Utf8);
    server.sql_in(
        "elsewhere",
        "CREATE TABLE filler AS SELECT repeat('x', 900) t FROM generate_series(1, 20000)",
    );
    let unconfirmed = monitor.expect("consumer_not_confirming");
    assert_eq!(unconfirmed.evidence["pid"], silent.pid());
    assert!(
        unconfirmed.text.contains("has not confirmed"),
        "{unconfirmed:?}"
    );
    unconfirmed.mend(&server, "postgres");
    monitor.expect_gone("consumer_not_confirming");
    drop(silent);
    drop(Consumer::of(&server, "ferry"));
    wait_until("the slot to be free", || {
        server.slot_active_pid("ferry").is_none()
    });

    let mut deaf = Walsender::connect(&server, "postgres");
    deaf.start("ferry", &[]).unwrap();
    write_wal(&server, 40);
    let mut unreceived = monitor.expect("consumer_not_receiving");
    assert_eq!(unreceived.evidence["pid"], deaf.pid());
    // One that has answered is slow, and cutting it off would not help it.
    if unreceived.text.contains("more slowly") {
        assert!(!unreceived.fix.as_ref().unwrap().contains("terminate"));
        wait_until("it to be silent", || {
            unreceived = monitor.expect("consumer_not_receiving");
            unreceived.text.contains("takes nothing off the connection")
        });
    }
    unreceived.mend(&server, "postgres");
    monitor.expect_gone("consumer_not_receiving");
    drop(deaf);
    wait_until("the slot to be free", || {
        server.slot_active_pid("ferry").is_none()
    });

    let consumer = Consumer::of(&server, "ferry");
    wait_until("the consumer to catch up", || {
        server.value::<i64>("SELECT lag_bytes FROM walferry.slots") < 1 << 20
    });
    assert_eq!(monitor.told(), [""; 0]);
    let walsender = server.slot_active_pid("ferry").unwrap();
    signal("STOP", walsender);
    write_wal(&server, 8);
    let behind = monitor.findings();
    signal("CONT", walsender);
    assert_eq!(behind.len(), 1, "{behind:?}");
    assert_eq!(behind[0].code, "decoding_behind");
    assert_eq!(behind[0].evidence["pid"], walsender);
    behind[0].mend(&server, "postgres");
    monitor.expect_gone("decoding_behind");
    drop(consumer);
    wait_until("the slot to be free", || {
        server.slot_active_pid("ferry").is_none()
    });

    // A session that made itself a temporary slot, and forgot it.
    let mut holder = server.client();
    let pid: i32 = holder
        .query_one(
            "SELECT pg_backend_pid() FROM pg_create_logical_replication_slot('mine', 'walferry', true)",
            &[],
        )
        .unwrap()
        .get(0);
    server.sql("SELECT pg_replication_slot_advance('ferry', pg_current_wal_flush_lsn())");
    assert_eq!(monitor.told(), [""; 0]);
    write_wal(&server, 6);
    let held = monitor.expect("consumer_not_receiving");
    assert_eq!(held.object.as_deref(), Some("mine"));
    assert_eq!(held.evidence["pid"], pid);
    assert!(held.text.contains("reads nothing"), "{held:?}");
    held.mend(&server, "postgres");
    monitor.expect_gone("consumer_not_receiving");
}

/// An open transaction in any database keeps a new slot from being made.
#[test]
fn a_slot_that_cannot_come_to_be_is_told_with_the_transaction_it_waits_for() {
    let server = Server::start_default();
    server.sql("CREATE TABLE item (id int)");
    let mut monitor = Monitor::of(&server, &[("long_transaction", "0.5s")]);
    let mut open = server.client();
    open.batch_execute("BEGIN; INSERT INTO item VALUES (1)")
        .unwrap();
    std::thread::scope(|scope| {
        let made = scope.spawn(|| server.create_slot("ferry", "walferry"));
        let named = monitor.expect("long_transaction");
        assert_eq!(named.evidence["slots"][0], "ferry");
        assert!(named.text.contains("restart_lsn and"), "{named:?}");
        named.mend(&server, "postgres");
        made.join().unwrap();
    });
    monitor.expect_gone("long_transaction");
}

#[test]
fn a_consumer_that_is_cut_off_again_and_again_is_told_the_setting() {
    let server = Server::builder()
        .setting("wal_sender_timeout", "700ms")
        .start();
    server.create_slot("ferry", "walferry");
    server.sql("CREATE TABLE item (id int); INSERT INTO item VALUES (1)");
    let mut monitor = Monitor::of(&server, &[]);
    for _ in 0..3 {
        assert_eq!(monitor.told(), [""; 0]);
        let mut busy = Walsender::connect(&server, "postgres");
        busy.start("ferry", &[]).unwrap();
        monitor
            .client()
            .batch_execute("SELECT walferry.sample_wal()")
            .unwrap();
        wait_until("the server to cut it off", || {
            server.slot_active_pid("ferry").is_none()
        });
    }
    let cut = monitor.expect("walsender_timeout");
    assert_eq!(cut.object.as_deref(), Some("ferry"));
    assert_eq!(cut.evidence["readers"], 3);
    cut.mend(&server, "postgres");
    monitor.expect_gone("walsender_timeout");
    let mut busy = Walsender::connect(&server, "postgres");
    busy.start("ferry", &[]).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(server.slot_active_pid("ferry"), Some(busy.pid()));
}

#[test]
fn spilling_to_disk_is_cured_by_the_memory_that_is_suggested() {
    let server = Server::builder()
        .setting("logical_decoding_work_mem", "64kB")
        .start();
    server.sql("CREATE TABLE item (id int PRIMARY KEY, t text)");
    let mut monitor = Monitor::of(&server, &[("spilled", "1MB")]);
    server.create_slot("ferry", "walferry");
    let transaction = || {
        server.sql(
            "INSERT INTO item SELECT coalesce((SELECT max(id) FROM item), 0) + g, repeat('x', 50) \
             FROM generate_series(1, 30000) g",
        );
        server.flushed_lsn();
        server.sql("SELECT count(*) FROM pg_logical_slot_get_changes('ferry', NULL, NULL, 'format', 'json')");
    };
    transaction();
    let spilled = monitor.expect("spill");
    assert_eq!(spilled.severity, "info");
    assert_eq!(spilled.evidence["logical_decoding_work_mem"], "64kB");
    spilled.mend(&server, "postgres");
    monitor.expect_gone("spill");
    // A reload reaches the sessions to come when the postmaster has read the file.
    wait_until("the new setting", || {
        server.value::<String>("SHOW logical_decoding_work_mem") != "64kB"
    });
    transaction();
    wait_until("the statistics", || {
        server.value::<i64>("SELECT total_txns FROM walferry.slots") > 0
    });
    assert_eq!(
        server.value::<i64>("SELECT spill_bytes FROM walferry.slots"),
        0
    );
}

#[test]
fn a_slot_close_to_invalidation_is_told_in_time_and_a_lost_one_for_what_it_is() {
    let server = Server::builder()
        .initdb_option("--wal-segsize=1")
        .setting("max_slot_wal_keep_size", "32MB")
        .setting("min_wal_size", "2MB")
        .setting("max_wal_size", "4MB")
        .start();
    server.create_slot("ferry", "walferry");
    let mut monitor = Monitor::of(&server, &[]);
    assert_eq!(monitor.told(), [""; 0]);
    write_wal(&server, 27);
    let near = monitor.expect("slot_near_invalidation");
    assert_eq!(near.severity, "critical");
    assert!(
        near.evidence["safe_wal_size"].as_i64().unwrap() < 8 << 20,
        "{near:?}"
    );
    near.mend(&server, "postgres");
    monitor.expect_gone("slot_near_invalidation");

    server.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '2MB'");
    server.sql("SELECT pg_reload_conf()");
    let lost = monitor.expect_while("slot_invalidated", || {
        write_wal(&server, 2);
        server.sql("CHECKPOINT");
    });
    assert_eq!(lost.object.as_deref(), Some("ferry"));
    assert_eq!(monitor.told(), ["critical slot_invalidated ferry"]);
    lost.mend(&server, "postgres");
    assert_eq!(monitor.told(), [""; 0]);
}

#[test]
fn a_server_that_is_set_up_too_small_or_refuses_the_plugin_is_mended() {
    let server = Server::builder()
        .setting("max_replication_slots", 1)
        .setting("max_wal_senders", 1)
        .start();
    let mut monitor = Monitor::of(&server, &[]);
    server.create_slot("ferry", "walferry");
    assert_eq!(monitor.told(), ["warning no_free_slot -"]);
    let mut reader = Walsender::connect(&server, "postgres");
    reader.start("ferry", &[("proto_version", "1")]).ok();
    monitor.expect("no_free_sender").mend(&server, "postgres");
    monitor.expect("no_free_slot").mend(&server, "postgres");
    drop((reader, monitor));
    server.restart(Shutdown::Fast);
    let mut monitor = Monitor::of(&server, &[]);
    assert_eq!(monitor.told(), [""; 0]);

    if server.tree().has_output_plugin_libraries() {
        server.sql("ALTER SYSTEM SET output_plugin_libraries = pgoutput, wal2json");
        server.sql("SELECT pg_reload_conf()");
        let refused = monitor.expect("plugin_not_allowed");
        assert_eq!(refused.object.as_deref(), Some("walferry"));
        assert_eq!(refused.evidence["slots"], "ferry");
        refused.mend(&server, "postgres");
        monitor.expect_gone("plugin_not_allowed");
        let list: String = server.value("SHOW output_plugin_libraries");
        for plugin in ["pgoutput", "wal2json", "walferry"] {
            assert!(list.contains(plugin), "{list}");
        }
        server.create_slot("another", "walferry");
    }
}

#[test]
fn tables_that_cannot_name_their_old_rows_and_empty_publications_are_mended() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE bare (id int); CREATE TABLE unread (id int); \
         CREATE TABLE \"Unique\" (id int NOT NULL UNIQUE); INSERT INTO bare VALUES (1); INSERT INTO \"Unique\" VALUES (1); \
         CREATE PUBLICATION nothing",
    );
    server
        .client()
        .batch_execute("UPDATE bare SET id = 2; DELETE FROM \"Unique\"")
        .unwrap();
    let mut monitor = Monitor::of(&server, &[]);
    // Of no concern where nothing is decoded, or only what is published.
    assert_eq!(monitor.told(), ["warning publication_empty nothing"]);
    server.create_slot("published", "pgoutput");
    wait_until("the statistics", || {
        server.value::<i64>(
            "SELECT count(*) FROM walferry.replica_identity_audit() WHERE verdict = 'fail'",
        ) == 2
    });
    assert_eq!(monitor.told(), ["warning publication_empty nothing"]);
    server.create_slot("ferry", "walferry");
    wait_until("the statistics", || monitor.findings().len() == 3);
    assert_eq!(
        monitor.told(),
        [
            "warning publication_empty nothing",
            "warning replica_identity public.Unique",
            "warning replica_identity public.bare"
        ]
    );
    let audited = monitor
        .client()
        .query(
            "SELECT verdict || ' ' || table_name FROM walferry.replica_identity_audit() ORDER BY 1",
            &[],
        )
        .unwrap();
    let audited: Vec<String> = audited.iter().map(|row| row.get(0)).collect();
    assert_eq!(audited, ["fail Unique", "fail bare", "warn unread"]);
    // Nothing here could be published without refusing UPDATEs from then on.
    let empty = monitor.expect("publication_empty");
    assert!(empty.fix.unwrap().ends_with("\nDROP PUBLICATION nothing;"));
    for finding in monitor.findings() {
        if finding.code == "replica_identity" {
            finding.mend(&server, "postgres");
        }
    }
    assert_eq!(monitor.told(), ["warning publication_empty nothing"]);
    monitor
        .expect("publication_empty")
        .mend(&server, "postgres");
    assert_eq!(monitor.told(), [""; 0]);
    assert_eq!(
        server.texts_in(
            "postgres",
            "SELECT tablename FROM pg_publication_tables WHERE pubname = 'nothing' ORDER BY 1"
        ),
        ["Unique", "bare"]
    );
    // Its tables are to come.
    if server.tree().major() >= 15 {
        server.sql("CREATE SCHEMA shop; CREATE PUBLICATION shop FOR TABLES IN SCHEMA shop");
        assert_eq!(monitor.told(), [""; 0]);
    }
    assert_eq!(
        server.value::<String>(
            "SELECT string_agg(logged, ',' ORDER BY table_name) FROM walferry.preflight_replica_identity"
        ),
        "index,full,none"
    );
}

/// Fixes are run by hand or by script: what others named must not change what they do.
#[test]
fn a_fix_holds_whatever_things_are_called() {
    const NAMES: [&str; 5] = [
        "Upper and space",
        "quote \" and ' and %s %I",
        "back\\slash",
        "line\nDROP TABLE kept; --",
        "return\r\nDROP TABLE kept; --",
    ];
    let name = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let server = Server::start_default();
    server.sql("CREATE TABLE kept (id int PRIMARY KEY)");
    server.create_slot("ferry", "walferry");
    let _consumer = Consumer::of(&server, "ferry");
    for text in NAMES {
        let (schema, table) = (name(text), name(&format!("t {text}")));
        server.sql(&format!("CREATE SCHEMA {schema}"));
        server.sql(&format!(
            "CREATE TABLE {schema}.{table} (id int NOT NULL, CONSTRAINT {} UNIQUE (id)); \
             INSERT INTO {schema}.{table} VALUES (1)",
            name(&format!("k {text}"))
        ));
        server
            .client()
            .batch_execute(&format!("UPDATE {schema}.{table} SET id = 2"))
            .unwrap();
        server.sql(&format!("CREATE PUBLICATION {schema}"));
        server.sql(&format!("CREATE DATABASE {schema}"));
        server.sql(&format!("CREATE ROLE {schema} SUPERUSER"));
        server.sql_in(
            text,
            &format!(
                "SET ROLE {schema}; SELECT txid_current(); PREPARE TRANSACTION '{}'",
                text.replace('\'', "''")
            ),
        );
    }
    let mut monitor = Monitor::of(
        &server,
        &[
            ("prepared_transaction", "0s"),
            ("running_xacts_interval", "0s"),
        ],
    );
    let count = |findings: &[findings::Finding], code: &str| {
        findings.iter().filter(|one| one.code == code).count()
    };
    wait_until("the statistics", || {
        count(&monitor.findings(), "replica_identity") == NAMES.len()
    });
    for finding in monitor.findings() {
        if finding.code == "replica_identity" {
            finding.mend(&server, "postgres");
        }
    }
    // With tables to add, each empty publication gets them.
    let told = monitor.findings();
    assert_eq!(count(&told, "replica_identity"), 0);
    assert_eq!(count(&told, "publication_empty"), NAMES.len());
    for finding in told {
        if finding.code == "publication_empty" {
            finding.mend(&server, "postgres");
        }
    }
    // The oldest holds the slot, then the next.
    for text in NAMES {
        let held = monitor.expect("prepared_transaction");
        assert_eq!(held.object.as_deref(), Some(text));
        held.mend(&server, text);
    }
    assert_eq!(monitor.told(), [""; 0]);
    assert_eq!(server.value::<i64>("SELECT count(*) FROM kept"), 0);
}

/// Who may call a function that writes with its owner's rights sets its limits too.
#[test]
fn samples_can_neither_be_flooded_nor_emptied_nor_come_from_another_server() {
    let server = Server::start_default();
    let mut monitor = Monitor::of(
        &server,
        &[("sample_every", "-1 day"), ("keep_samples", "0s")],
    );
    server.sql(
        "INSERT INTO walferry.wal_samples VALUES \
         (now() - interval '59 min', '0/1'), (now() - interval '59 min 1 s', 'FF/0'), (now() - interval '2 h', '0/1')",
    );
    let sampled: bool = monitor
        .client()
        .query_one("SELECT walferry.sample_wal()", &[])
        .unwrap()
        .get(0);
    assert!(sampled);
    let again: i64 = monitor
        .client()
        .query_one(
            "SELECT count(*) FILTER (WHERE walferry.sample_wal()) FROM generate_series(1, 20)",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(again < 5, "{again}");
    let kept = server.value::<i64>(
        "SELECT count(*) FROM walferry.wal_samples WHERE at < now() - interval '1 min'",
    );
    assert_eq!(kept, 1);
}

/// `walferry check` and `walferry.preflight()` come to the same verdicts.
#[test]
fn preflight_tells_what_mends_a_server() {
    let server = Server::builder()
        .setting("wal_level", "replica")
        .setting("max_slot_wal_keep_size", "64MB")
        .setting("wal_sender_timeout", "0")
        .start();
    server.sql("CREATE EXTENSION walferry");
    let not_passed = || {
        server.texts_in(
            "postgres",
            "SELECT verdict || ' ' || code FROM walferry.preflight() WHERE verdict <> 'pass'",
        )
    };
    assert_eq!(
        not_passed(),
        [
            "fail wal_level",
            "warn max_slot_wal_keep_size",
            "warn wal_sender_timeout"
        ]
    );
    for fix in server.texts_in(
        "postgres",
        "SELECT fix FROM walferry.preflight() WHERE fix IS NOT NULL",
    ) {
        for statement in fix.lines().filter(|line| !line.starts_with("--")) {
            server.sql(statement);
        }
    }
    server.restart(Shutdown::Fast);
    assert_eq!(not_passed(), [""; 0]);

    // Publications, and the list of plugins where the server has one.
    server.sql(
        "CREATE TABLE keyed (id int PRIMARY KEY); CREATE TABLE keyless (a int); \
         CREATE PUBLICATION part FOR TABLE keyed WITH (publish = 'insert, update'); \
         CREATE PUBLICATION everything FOR TABLE keyed, keyless",
    );
    server.create_slot("ferry", "walferry");
    let listed = server.tree().has_output_plugin_libraries();
    if listed {
        server.sql("ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding");
        server.restart(Shutdown::Fast);
    }
    let mut expected = vec![
        "warn replica_identity",
        "warn publication",
        "warn publication_identity",
    ];
    if listed {
        expected.insert(1, "fail output_plugin_libraries");
    }
    assert_eq!(not_passed(), expected);
    for fix in server.texts_in(
        "postgres",
        "SELECT fix FROM walferry.preflight() WHERE fix IS NOT NULL AND code <> 'replica_identity'",
    ) {
        for statement in fix.lines() {
            server.sql(statement);
        }
    }
    server.restart(Shutdown::Fast);
    assert_eq!(not_passed(), [""; 0]);

    server.sql("CREATE ROLE monitor LOGIN IN ROLE pg_monitor");
    let right = "SET ROLE monitor; SELECT fix FROM walferry.preflight() WHERE verdict = 'fail'";
    assert_eq!(
        server.texts_in("postgres", right),
        ["ALTER ROLE monitor REPLICATION;"]
    );
}

/// The time that the quickest of several takes, so that what else runs here does not count.
fn quickest(monitor: &mut Monitor, times: u32) -> Duration {
    (0..times)
        .map(|_| {
            let begin = Instant::now();
            monitor.findings();
            begin.elapsed()
        })
        .min()
        .unwrap()
}

#[test]
fn diagnose_answers_at_once_on_an_ordinary_server() {
    let (slots, tables, most) = if std::env::var_os("WALFERRY_SOAK").is_some() {
        (200, 50_000, Duration::from_millis(500))
    } else {
        (30, 1_000, Duration::from_millis(100))
    };
    let sessions = if slots == 200 { 300 } else { 20 };
    let server = Server::builder()
        .setting("max_replication_slots", slots + 10)
        .setting("max_connections", sessions + 50)
        .setting("max_locks_per_transaction", 4000)
        .start();
    for batch in 0..tables / 1000 {
        server.sql(&format!(
            "DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE t_{batch}_%s (id int PRIMARY KEY)', i); END LOOP; END $$"
        ));
    }
    server.sql("ANALYZE pg_class; ANALYZE pg_index");
    for slot in 0..slots {
        server.create_slot(&format!("slot_{slot}"), "walferry");
    }
    let _sessions: Vec<_> = (0..sessions)
        .map(|_| {
            let mut client = server.client();
            client.batch_execute("BEGIN; SELECT 1").unwrap();
            client
        })
        .collect();
    let mut monitor = Monitor::of(&server, &[]);
    let took = quickest(&mut monitor, 10);
    eprintln!("diagnose(): {took:?} with {slots} slots, {sessions} sessions, {tables} tables");
    assert!(took < most, "{took:?}");
    assert_eq!(monitor.told(), [""; 0]);
}
