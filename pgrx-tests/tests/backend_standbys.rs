//! `walferry.diagnose()` with standbys in play: what is told on the primary, what on the standby, and that each fix cures.

mod findings;

use findings::{Consumer, Monitor, signal, write_wal};
use walferry_tests::{Server, Shutdown, wait_until};

fn caught_up(primary: &Server, standby: &Server) {
    let end = primary.flushed_lsn();
    wait_until("the standby to replay", || {
        standby.value::<bool>(&format!(
            "SELECT pg_last_wal_replay_lsn() >= '{end}'::pg_lsn"
        ))
    });
}

fn at_least(server: &Server, version: i32) -> bool {
    server.value::<i32>("SELECT current_setting('server_version_num')::int") >= version
}

#[test]
fn a_standby_that_is_behind_keeps_dead_rows_or_is_gone_is_told_and_mended() {
    let primary = Server::builder().setting("wal_sender_timeout", 0).start();
    primary.sql("SELECT pg_create_physical_replication_slot('standby', true)");
    let mut monitor = Monitor::of(
        &primary,
        &[
            ("unconfirmed_wal", "4MB"),
            ("retained_wal", "20MB"),
            ("catalog_xmin_age", "50"),
        ],
    );
    let standby = Server::builder()
        .setting("hot_standby_feedback", "on")
        .setting("wal_receiver_status_interval", "1s")
        .setting("primary_slot_name", "standby")
        .start_standby_of(&primary);
    caught_up(&primary, &standby);
    let mut on_standby = Monitor::existing(&standby, &[]);
    assert_eq!(monitor.told(), [""; 0]);
    assert_eq!(on_standby.told(), [""; 0]);

    let receiver: i32 = standby.value("SELECT pid FROM pg_stat_wal_receiver");
    signal("STOP", receiver);
    write_wal(&primary, 6);
    let behind = monitor.findings();
    signal("CONT", receiver);
    assert_eq!(behind.len(), 1, "{behind:?}");
    assert_eq!(behind[0].code, "standby_behind");
    assert_eq!(behind[0].object.as_deref(), Some("standby"));
    assert!(behind[0].text.contains("behind"), "{behind:?}");
    behind[0].mend(&primary, "postgres");
    monitor.expect_gone("standby_behind");

    // What a query over there may still want to see, is kept here.
    let mut old = standby.client();
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .unwrap();
    let kept = monitor.expect_while("xmin_old", || {
        for _ in 0..10 {
            primary.sql("SELECT txid_current()");
        }
    });
    assert_eq!(kept.object.as_deref(), Some("standby"));
    kept.mend(&standby, "postgres");
    monitor.expect_gone("xmin_old");
    drop(old);

    drop(on_standby);
    standby.stop(Shutdown::Fast);
    write_wal(&primary, 24);
    assert_eq!(monitor.told(), ["critical slot_inactive standby"]);
    let gone = &monitor.findings_of("standby")[0];
    assert!(gone.text.contains("start its standby"), "{gone:?}");
    gone.mend(&primary, "postgres");
    assert_eq!(monitor.told(), [""; 0]);
}

#[test]
fn slots_that_are_synchronised_to_a_standby_are_told_when_they_are_not() {
    let primary = Server::start_default();
    if !at_least(&primary, 170_000) {
        return;
    }
    let limits = [
        ("unconfirmed_wal", "4MB"),
        ("retained_wal", "20MB"),
        ("idle_slot", "1 h"),
    ];
    primary
        .sql("SELECT pg_create_logical_replication_slot('ferry', 'walferry', false, false, true)");
    primary.sql("SELECT pg_create_physical_replication_slot('standby', true)");
    let mut monitor = Monitor::of(&primary, &limits);
    assert_eq!(monitor.told(), [""; 0]);
    let standby = Server::builder()
        .setting("hot_standby_feedback", "off")
        .setting("wal_receiver_status_interval", "1s")
        .setting("primary_slot_name", "standby")
        .setting("sync_replication_slots", "on")
        .start_standby_of(&primary);
    let mut on_standby = Monitor::existing(&standby, &[]);

    // Asked for, and not set up.
    let off = on_standby.expect("slot_sync_off");
    assert!(off.text.contains("hot_standby_feedback is off"), "{off:?}");
    off.mend(&standby, "postgres");
    on_standby.expect_gone("slot_sync_off");

    // The primary's slot was made before this standby's data, and has not moved since.
    let early = on_standby.expect_while("slot_not_synchronised", || {
        primary.sql("SELECT pg_log_standby_snapshot()");
    });
    assert_eq!(early.object.as_deref(), Some("ferry"));
    let consumer = Consumer::of(&primary, "ferry");
    on_standby.expect_gone_while("slot_not_synchronised", || {
        early.mend(&primary, "postgres");
    });
    assert_eq!(on_standby.told(), [""; 0]);
    assert_eq!(monitor.told(), [""; 0]);
    on_standby
        .client()
        .batch_execute("SET walferry.retained_wal = '1kB'; SET walferry.idle_slot = '1us'")
        .unwrap();
    assert_eq!(on_standby.told(), [""; 0], "a copy has no reader");

    standby.sql("ALTER SYSTEM SET sync_replication_slots = off");
    standby.sql("SELECT pg_reload_conf()");
    on_standby
        .expect("slot_sync_off")
        .mend(&standby, "postgres");
    on_standby.expect_gone("slot_sync_off");

    // A standby that is waited for, and gone.
    primary.sql("ALTER SYSTEM SET synchronized_standby_slots = 'standby'");
    primary.sql("SELECT pg_reload_conf()");
    wait_until("the setting", || {
        primary.value::<String>("SHOW synchronized_standby_slots") == "standby"
    });
    assert_eq!(monitor.told(), [""; 0]);
    drop(on_standby);
    standby.stop(Shutdown::Fast);
    let missing = monitor.expect("standby_slot_missing");
    assert_eq!(missing.evidence["slots"], "ferry");
    write_wal(&primary, 8);
    let held = monitor.expect("standby_behind");
    assert_eq!(held.object.as_deref(), Some("ferry"));
    assert!(held.text.contains("slot standby is inactive"), "{held:?}");
    held.mend(&primary, "postgres");
    monitor.expect_gone("standby_behind");
    monitor.expect_gone("standby_slot_missing");
    drop((consumer, monitor));

    // After a promotion the copies are slots as any other, and `synced` means nothing any more.
    primary.stop(Shutdown::Fast);
    standby.start();
    standby.promote();
    assert!(standby.value::<bool>("SELECT synced FROM walferry.slots WHERE slot_name = 'ferry'"));
    let mut promoted = Monitor::existing(&standby, &limits);
    assert_eq!(promoted.told(), [""; 0]);
    write_wal(&standby, 24);
    assert_eq!(promoted.told(), ["critical slot_inactive ferry"]);
    promoted.expect("slot_inactive").mend(&standby, "postgres");
    assert_eq!(promoted.told(), [""; 0]);
}

#[test]
fn a_slot_on_a_standby_is_held_by_the_primarys_transactions() {
    let primary = Server::start_default();
    if !at_least(&primary, 160_000) {
        return;
    }
    primary.sql("SELECT pg_create_physical_replication_slot('standby', true)");
    primary.sql("CREATE TABLE item (id int)");
    drop(Monitor::of(&primary, &[]));
    let standby = Server::builder()
        .setting("hot_standby_feedback", "on")
        .setting("primary_slot_name", "standby")
        .start_standby_of(&primary);
    let making = std::thread::scope(|scope| {
        let made = scope.spawn(|| standby.create_slot("ferry", "walferry"));
        wait_until("the slot", || {
            primary.sql("SELECT pg_log_standby_snapshot()");
            made.is_finished()
        });
        made.join()
    });
    making.unwrap();
    let _consumer = Consumer::of(&standby, "ferry");
    let mut monitor = Monitor::existing(&standby, &[("retained_wal", "4MB")]);
    assert_eq!(monitor.told(), [""; 0]);
    let mut old = primary.client();
    old.batch_execute("BEGIN; INSERT INTO item VALUES (1)")
        .unwrap();
    // Kept for the slot is what lies before a restartpoint.
    let held = monitor.expect_while("held_by_primary", || {
        write_wal(&primary, 1);
        primary.sql("CHECKPOINT");
        caught_up(&primary, &standby);
        standby.sql("CHECKPOINT");
    });
    assert_eq!(held.object.as_deref(), Some("ferry"));
    old.batch_execute("COMMIT").unwrap();
    monitor.expect_gone_while("held_by_primary", || held.mend(&primary, "postgres"));
    assert_eq!(monitor.told(), [""; 0]);
}
