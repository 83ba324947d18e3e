//! What may happen to a stream under way, from outside: a partition comes into
//! being, the slot is given up by the server.

mod delivery;

use delivery::{Destination, SECONDS};
use walferry_tests::{Server, wait_within};

const SLOT: &str = "ferry";

/// A new partition's rows are not dropped in silence,
/// whichever plugin reads them.
#[test]
fn a_partition_made_while_streaming_comes_through_in_every_plugin() {
    let server = Server::start_default();
    for (plugin, more) in [
        ("walferry", &[][..]),
        ("wal2json", &[]),
        ("pgoutput", &["--publication", "shop"]),
    ] {
        let wal2json = "SELECT pg_drop_replication_slot(slot_name) FROM pg_create_logical_replication_slot('trial', 'wal2json')";
        if plugin == "wal2json" && server.try_sql("postgres", wal2json).is_err() {
            continue;
        }
        server.sql(
            "CREATE TABLE log (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); \
             CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (10); CREATE PUBLICATION shop FOR TABLE log",
        );
        server.create_slot(SLOT, plugin);
        let destination = Destination::new();
        let streamer = destination
            .run(&server, SLOT)
            .args(more.iter().copied())
            .start();
        server.sql("INSERT INTO log VALUES (1, 1)");
        wait_within(20 * SECONDS, "the first row", || {
            destination.delivered().events.len() == 1
        });
        server.sql("CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM (10) TO (20)");
        server.sql("INSERT INTO log VALUES (11, 1)");
        server.sql("UPDATE log SET n = 2 WHERE id = 11");
        // From one partition into the other: the old row ends, a new one begins.
        server.sql("UPDATE log SET id = 2 WHERE id = 11");
        wait_within(20 * SECONDS, "the new partition's rows", || {
            destination.delivered().events.len() == 5
        });
        streamer.stop().expect_code(0);
        assert_eq!(
            destination.delivered().operations(),
            ["c 1", "c 11", "u 11", "d 11", "c 2"],
            "{plugin}"
        );
        server.sql("SELECT pg_drop_replication_slot('ferry')");
        server.sql("DROP PUBLICATION shop; DROP TABLE log");
    }
}

/// A slot that the server has given up is the end, said with
/// the way on, not an endless retry.
#[test]
fn a_slot_lost_between_two_runs_ends_the_run_with_the_way_on() {
    let server = Server::builder()
        .setting("max_slot_wal_keep_size", "1MB")
        .setting("min_wal_size", "32MB")
        .setting("max_wal_size", "32MB")
        .start();
    let destination = Destination::new();
    server.create_slot(SLOT, "walferry");
    destination.run_until_now(&server, SLOT);
    wait_within(60 * SECONDS, "the slot to be lost", || {
        server.sql("CREATE TABLE filler AS SELECT repeat('x', 900) FROM generate_series(1, 20000); DROP TABLE filler");
        server
            .client()
            .batch_execute("SELECT pg_switch_wal(); CHECKPOINT")
            .unwrap();
        server.value::<String>("SELECT wal_status FROM pg_replication_slots") == "lost"
    });
    let exit = destination
        .run(&server, SLOT)
        .run(20 * SECONDS)
        .expect_code(1);
    let text = exit.stderr.join("\n");
    assert!(text.contains("slot \"ferry\" is lost"), "{text}");
    assert!(text.contains("walferry slot drop ferry"), "{text}");
    assert!(!text.contains("connecting again"), "{text}");
}
