//! The heartbeat: an idle database's slot moves on, the run does not care what
//! happens to the heartbeat, and the sink sees it only when asked for.

mod delivery;

use delivery::{Destination, SECONDS};
use walferry_tests::{Encoding, Server, Streamer, wait_until, wait_within};

const SLOT: &str = "ferry";
const TABLE: &str = "replicate_io_cdc_heartbeat";

fn beat(server: &Server) -> i64 {
    server.value(&format!(
        "SELECT coalesce(max(\"timestamp\"), 0) FROM public.{TABLE}"
    ))
}

/// The URL for a role with the right to replicate and nothing else.
fn ferry(server: &Server) -> String {
    server.sql("CREATE ROLE ferry LOGIN REPLICATION");
    server.url().replace("postgres@", "ferry@")
}

/// How often a text was said.
fn said(streamer: &Streamer, text: &str) -> usize {
    streamer
        .stderr()
        .iter()
        .filter(|line| line.contains(text))
        .count()
}

/// An idle database must not pin WAL: with Arcion's table and
/// exactly the rights that its documentation grants.
#[test]
fn a_row_beats_in_an_idle_database_beside_a_busy_one_and_stays_out_of_the_sink() {
    let server = Server::start_default();
    server.create_database("busy", Encoding::Utf8);
    server.sql_in("busy", "CREATE TABLE item (id int)");
    let url = ferry(&server);
    server.sql(&format!(
        "CREATE TABLE \"postgres\".\"public\".\"{TABLE}\"(\"timestamp\" INT8 NOT NULL, PRIMARY  KEY(\"timestamp\")); \
         GRANT INSERT, UPDATE, DELETE ON {TABLE} TO ferry; CREATE TABLE item (id int PRIMARY KEY)"
    ));
    server.create_slot(SLOT, "walferry");
    let destination = Destination::new();
    let extractor = destination.folder().join("extractor.yaml");
    std::fs::write(
        &extractor,
        "realtime:\n  heartbeat:\n    enable: true\n    catalog: \"postgres\"\n    schema: \"public\"\n    \
         table-name: replicate_io_cdc_heartbeat\n    column-name: timestamp\n    interval-ms: 100\n",
    )
    .unwrap();
    let start = |more: &[&str]| {
        destination
            .run_url(&url, SLOT)
            .args(["--extractor", extractor.to_str().unwrap()])
            .args(more.iter().copied())
            .start()
    };
    let mut streamer = start(&[]);
    streamer.wait_for_stderr("heartbeat: table public.replicate_io_cdc_heartbeat every 100ms");
    for _ in 0..3 {
        server.sql_in("busy", "INSERT INTO item SELECT generate_series(1, 5000)");
        let (before, end) = (beat(&server), server.flushed_lsn());
        wait_within(10 * SECONDS, "another beat", || beat(&server) > before);
        wait_within(10 * SECONDS, "the slot to move on", || {
            server.confirmed_flush(SLOT) > Some(end)
        });
    }
    assert_eq!(
        server.value::<i64>(&format!("SELECT count(*) FROM {TABLE}")),
        1,
        "one row, whatever was there"
    );
    server.sql("INSERT INTO item VALUES (1)");
    wait_within(10 * SECONDS, "the change", || {
        destination.delivered().events.len() == 1
    });
    streamer.stop().expect_code(0);
    assert_eq!(destination.delivered().operations(), ["c 1"]);

    // Asked for, they come: as rows of their table.
    let streamer = start(&["--own-events"]);
    wait_within(10 * SECONDS, "beats in the sink", || {
        destination.delivered().events.len() > 4
    });
    streamer.stop().expect_code(0);
    let delivered = destination.delivered();
    delivered.assert_in_commit_order();
    let event = delivered.events.last().unwrap();
    assert_eq!(event["source"]["table"], TABLE);
    let lsn = event["source"]["lsn"].as_u64().unwrap();
    assert!(server.confirmed_flush(SLOT).unwrap().0 >= lsn);
}

/// Only a transactional message moves what the slot requires.
#[test]
fn a_message_beats_where_no_table_may_exist() {
    let server = Server::start_default();
    let url = ferry(&server);
    server.create_slot(SLOT, "walferry");
    let destination = Destination::new();
    let start = |more: &[&str]| {
        destination
            .run_url(&url, SLOT)
            .args(["--heartbeat", "100ms"])
            .args(more.iter().copied())
            .start()
    };
    let mut streamer = start(&[]);
    streamer.wait_for_stderr("heartbeat: logical message walferry.heartbeat every 100ms");
    let (restart, end) = (server.restart_lsn(SLOT).unwrap(), server.flushed_lsn());
    wait_within(20 * SECONDS, "the slot to require less", || {
        server.sql("CHECKPOINT");
        server.confirmed_flush(SLOT) > Some(end) && server.restart_lsn(SLOT).unwrap() > restart
    });
    // Others' messages are not the heartbeat's.
    server.sql("SELECT pg_logical_emit_message(true, 'audit', 'seen')");
    wait_within(10 * SECONDS, "the message", || {
        destination.delivered().events.len() == 1
    });
    streamer.stop().expect_code(0);
    assert_eq!(destination.delivered().events.len(), 1);

    let streamer = start(&["--own-events"]);
    wait_within(10 * SECONDS, "beats in the sink", || {
        destination.delivered().events.len() > 2
    });
    streamer.stop().expect_code(0);
    let delivered = destination.delivered();
    let event = delivered.events.last().unwrap();
    assert_eq!(event["op"], "m");
    assert!(event["source"]["txId"].as_u64().unwrap() > 0, "{event}");
}

#[test]
fn whatever_happens_to_the_table_is_said_once_and_the_run_goes_on() {
    let server = Server::start_default();
    let url = ferry(&server);
    server.sql("CREATE TABLE item (id int PRIMARY KEY); CREATE SCHEMA own AUTHORIZATION ferry");
    server.create_slot(SLOT, "walferry");
    let destination = Destination::new();
    let table = "own.beat";
    let start = |more: &[&str]| {
        destination
            .run_url(&url, SLOT)
            .args(["--heartbeat", "100ms", "--heartbeat-table", table])
            .args(more.iter().copied())
            .start()
    };
    // Missing, and not to be made.
    let mut streamer = start(&[]);
    streamer.wait_for_stderr("the heartbeat fails");
    streamer.wait_for_stderr(
        "hint: CREATE TABLE IF NOT EXISTS \"own\".\"beat\" (\"timestamp\" bigint NOT NULL PRIMARY KEY); or --create-heartbeat-table",
    );
    // Made by hand, as the hint says.
    server.sql(
        "CREATE TABLE IF NOT EXISTS \"own\".\"beat\" (\"timestamp\" bigint NOT NULL PRIMARY KEY)",
    );
    // Still not the role's to write to; that is another attempt of the same failure.
    server.sql("GRANT INSERT, DELETE ON \"own\".\"beat\" TO \"ferry\"");
    streamer.wait_for_stderr("the heartbeat beats again");
    // Dropped under way.
    server.sql("DROP TABLE own.beat");
    wait_until("the second failure", || {
        said(&streamer, "the heartbeat fails") == 2
    });
    server.sql("INSERT INTO item VALUES (1)");
    wait_within(10 * SECONDS, "the change", || {
        destination.delivered().events.len() == 1
    });
    std::thread::sleep(3 * SECONDS);
    assert_eq!(
        said(&streamer, "the heartbeat fails"),
        2,
        "said once a time"
    );
    streamer.stop().expect_code(0);

    // Made on request; the grant that is missing then is named.
    let mut streamer = start(&["--create-heartbeat-table"]);
    streamer.wait_for_stderr("made the heartbeat table own.beat");
    streamer.wait_for_stderr("heartbeat: table own.beat");
    server.sql("ALTER TABLE own.beat OWNER TO postgres");
    streamer.wait_for_stderr(
        "hint: as its owner GRANT INSERT, DELETE ON \"own\".\"beat\" TO \"ferry\"",
    );
    server.sql("GRANT INSERT, DELETE ON \"own\".\"beat\" TO \"ferry\"");
    streamer.wait_for_stderr("the heartbeat beats again");
    // It finds the server again as the stream does.
    server.restart(walferry_tests::Shutdown::Fast);
    let before: i64 = server.value("SELECT max(\"timestamp\") FROM own.beat");
    wait_within(20 * SECONDS, "beats after the restart", || {
        server.value::<i64>("SELECT max(\"timestamp\") FROM own.beat") > before
    });
    server.sql("INSERT INTO item VALUES (2)");
    wait_within(20 * SECONDS, "the change", || {
        destination.delivered().events.len() == 2
    });
    streamer.stop().expect_code(0);
    assert_eq!(destination.delivered().operations(), ["c 1", "c 2"]);
}

#[test]
fn a_table_that_is_not_published_is_said_once_and_the_slot_moves_all_the_same() {
    let server = Server::start_default();
    server.sql(&format!(
        "CREATE TABLE item (id int PRIMARY KEY); CREATE PUBLICATION shop FOR TABLE item; \
         CREATE TABLE {TABLE} (\"timestamp\" bigint PRIMARY KEY)"
    ));
    server.create_slot(SLOT, "pgoutput");
    let destination = Destination::new();
    let start = || {
        destination
            .run(&server, SLOT)
            .args([
                "--publication",
                "shop",
                "--heartbeat",
                "100ms",
                "--own-events",
            ])
            .args(["--heartbeat-table", TABLE])
            .start()
    };
    let mut streamer = start();
    streamer.wait_for_stderr(&format!(
        "the heartbeat table public.{TABLE} is not in publication shop"
    ));
    streamer.wait_for_stderr(&format!(
        "ALTER PUBLICATION \"shop\" ADD TABLE \"public\".\"{TABLE}\""
    ));
    let end = server.flushed_lsn();
    wait_within(15 * SECONDS, "the slot to move on", || {
        server.confirmed_flush(SLOT) > Some(end)
    });
    assert_eq!(said(&streamer, "is not in publication shop"), 1);
    streamer.stop().expect_code(0);
    assert_eq!(destination.delivered().events.len(), 0);

    server.sql(&format!(
        "ALTER PUBLICATION \"shop\" ADD TABLE \"public\".\"{TABLE}\""
    ));
    let streamer = start();
    wait_within(15 * SECONDS, "beats in the sink", || {
        destination.delivered().events.len() > 3
    });
    assert_eq!(said(&streamer, "is not in publication shop"), 0);
    streamer.stop().expect_code(0);
}

#[test]
fn what_makes_no_heartbeat_is_refused() {
    for arguments in [
        &["--create-heartbeat-table"][..],
        &["--heartbeat", "0s"],
        &["--heartbeat", "10s", "--create-heartbeat-table"],
        &["--heartbeat-table", ".beat"],
    ] {
        let exit = Streamer::builder()
            .args(["run", "--source", "postgres://u@/d", "--sink", "null"])
            .args(arguments.iter().copied())
            .run(30 * SECONDS);
        exit.expect_code(2);
    }
}
