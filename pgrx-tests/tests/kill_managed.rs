//! Servers where nothing can be installed: the streamer is killed while it
//! reads a plugin that is there already, as a role that is no superuser and
//! got its rights as on Amazon RDS. What was committed is in the file once, in
//! commit order.
//!
//! `WALFERRY_SOAK=1` kills as often as the native plugin's test does.

mod delivery;
mod kills;
mod workload;

use delivery::Destination;
use kills::{FAILPOINTS, Plan, assert_never_told_too_much, kill_again_and_again};
use walferry_tests::{Server, Streamer};
use workload::Workload;

const SLOT: &str = "ferry";

/// On RDS membership in `rds_replication` stands for the attribute, which a
/// server of one's own insists on.
const ROLE: &str = "CREATE ROLE rds_replication NOLOGIN; \
     CREATE ROLE carrier LOGIN REPLICATION IN ROLE rds_replication; \
     REVOKE CREATE ON SCHEMA public FROM PUBLIC; REVOKE CREATE, TEMPORARY ON DATABASE postgres FROM PUBLIC";

fn server() -> Server {
    let server = Server::builder()
        // Makes even small transactions spill, and stream where that is known.
        .setting("logical_decoding_work_mem", "64kB")
        .setting("wal_sender_timeout", "20s")
        .setting("max_prepared_transactions", 20)
        .start();
    server.sql(ROLE);
    workload::create_tables(&server);
    // By the tables' owner, as where the role may not.
    server.sql("CREATE PUBLICATION walferry FOR TABLE item, entry");
    server
}

fn url(server: &Server) -> String {
    server.url().replacen("postgres@", "carrier@", 1)
}

/// Places that a plugin without transactions in progress comes by.
fn places_without_streaming() -> Vec<(&'static str, u32)> {
    let places = FAILPOINTS.iter().copied();
    places.filter(|(name, _)| *name != "during-spill").collect()
}

fn killed_again_and_again(places: &[(&str, u32)], arguments: &[&str], prepared: bool) {
    let server = server();
    let destination = Destination::new();
    let run = || {
        destination
            .run_url(&url(&server), SLOT)
            .args(arguments.iter().copied())
    };
    let until_now = || {
        let end = server.flushed_lsn();
        run()
            .args(["--until-lsn", &end.to_string()])
            .run(120 * delivery::SECONDS)
            .expect_code(0);
    };
    run()
        .args(["--create-slot", "--until-lsn", "0/1"])
        .run(60 * delivery::SECONDS)
        .expect_code(0);
    let workload = Workload::start(&server, 3, prepared);
    let soak = std::env::var_os("WALFERRY_SOAK").is_some();
    let plan = Plan {
        slot: SLOT,
        kills: if soak { 52 } else { 16 },
        crash_every: if soak { 13 } else { 8 },
        places,
        run: &run,
    };
    let looks = kill_again_and_again(&server, &destination, &plan);
    workload.finish();
    workload::end_prepared(&server);
    until_now();
    let delivered = destination.delivered();
    delivered.assert_in_commit_order();
    workload::assert_equal(&server, &delivered);
    assert_never_told_too_much(&looks, &destination);
    let moved = looks
        .windows(2)
        .filter(|two| two[0].position < two[1].position)
        .count();
    assert!(moved > plan.kills / 3, "the workload stood still");
}

#[test]
fn killed_while_it_reads_wal2json_it_delivers_every_commit_once_in_order() {
    killed_again_and_again(
        &places_without_streaming(),
        &["--plugin", "wal2json"],
        false,
    );
}

#[test]
fn killed_while_it_reads_pgoutput_it_delivers_every_commit_once_in_order() {
    let stored = [("prepared-stored", 10)];
    let places: Vec<_> = FAILPOINTS.iter().copied().chain(stored).collect();
    killed_again_and_again(&places, &["--plugin", "pgoutput", "--two-phase"], true);
}

#[test]
fn a_role_without_any_of_the_rights_is_told_what_it_lacks() {
    let server = server();
    server.sql("CREATE ROLE nobody LOGIN");
    let url = server.url().replacen("postgres@", "nobody@", 1);
    let exit = Streamer::run(&url, SLOT)
        .args(["--plugin", "wal2json", "--create-slot", "--sink", "null"])
        .run(30 * delivery::SECONDS)
        .expect_code(1);
    let printed = exit.stderr.join("\n");
    assert!(
        printed.contains("REPLICATION") && printed.contains("rds_replication"),
        "{printed}"
    );
}
