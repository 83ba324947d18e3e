//! The streamer is killed with SIGKILL at named places and at random moments,
//! the server crashed, all under load: what was committed is in the file once,
//! in commit order, and the slot was never told more than was safe.

mod delivery;
mod workload;

use delivery::Destination;
use rand::Rng;
use walferry_protocol::Lsn;
use walferry_streamer::state::{StateDir, StateFile};
use walferry_tests::{Server, Streamer, wait_until, wait_within};
use workload::Workload;

const SLOT: &str = "ferry";

/// Places of `walferry_streamer::failpoint`, and how often to pass them first.
const FAILPOINTS: &[(&str, u32)] = &[
    ("after-receive", 400),
    ("before-write", 60),
    ("after-write", 60),
    ("before-flush", 6),
    ("after-flush-before-state", 6),
    ("after-state-before-ack", 6),
    ("after-ack", 6),
    ("during-spill", 8),
];

/// What was known right after a kill.
struct AfterKill {
    place: String,
    confirmed: Lsn,
    /// Bytes of the file that the state calls durable.
    durable: u64,
    position: Lsn,
}

fn server(two_phase: bool) -> Server {
    let server = Server::builder()
        // Makes even small transactions stream.
        .setting("logical_decoding_work_mem", "64kB")
        .setting("max_prepared_transactions", 20)
        .setting("wal_sender_timeout", "20s")
        .start();
    workload::create_tables(&server);
    let option = if two_phase { ", false, true" } else { "" };
    server.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{SLOT}', 'walferry'{option})"
    ));
    server
}

/// What the slot and the state say once nobody reads the slot any more.
fn look(server: &Server, destination: &Destination, place: String) -> AfterKill {
    wait_until("the slot to be free", || {
        server.slot_active_pid(SLOT).is_none()
    });
    let confirmed = server.confirmed_flush(SLOT).expect("the slot");
    let dir = StateDir::open(&destination.state_dir()).expect("the state folder is free");
    let state = StateFile::open(&dir).expect("the state is whole").1;
    let (durable, position) = state.map_or((0, Lsn(0)), |state| {
        (state.sink.map_or(0, |sink| sink.offset), state.position)
    });
    AfterKill {
        place,
        confirmed,
        durable,
        position,
    }
}

/// Kills the streamer `kills` times, and crashes the server before every
/// `crash_every`th.
fn kill_again_and_again(
    server: &Server,
    destination: &Destination,
    kills: usize,
    crash_every: usize,
    further: &[(&str, u32)],
    arguments: &[&str],
) -> Vec<AfterKill> {
    let mut random = rand::rng();
    let places: Vec<_> = FAILPOINTS.iter().chain(further).collect();
    let mut looks = Vec::new();
    let (mut armed, mut fired) = (0, 0);
    while looks.len() < kills {
        let number = looks.len();
        let builder = destination
            .run(server, SLOT)
            .args(["--memory-limit", "1MB", "--flush-interval", "20ms"])
            .args(arguments.iter().copied());
        let (name, most) = places[number % (places.len() + 4) % places.len()];
        let named = number % (places.len() + 4) < places.len();
        let count = random.random_range(1..=*most);
        let (mut streamer, place) = if named {
            let place = format!("{name}:{count}");
            (builder.env("WALFERRY_FAILPOINT", &place).start(), place)
        } else {
            (builder.start(), "a random moment".to_owned())
        };
        if number % crash_every == crash_every - 1 {
            std::thread::sleep(delivery::SECONDS / 5);
            server.crash_and_recover();
        }
        let patience = std::time::Duration::from_millis(if named {
            8000
        } else {
            random.random_range(20..900)
        });
        let by_itself = killed(&mut streamer, patience);
        armed += usize::from(named);
        fired += usize::from(named && by_itself);
        looks.push(look(server, destination, place));
    }
    assert!(
        fired * 2 > armed,
        "only {fired} of {armed} failpoints were reached"
    );
    looks
}

/// Waits for the failpoint, or kills after `patience`; whether it was the
/// failpoint.
fn killed(streamer: &mut Streamer, patience: std::time::Duration) -> bool {
    let end = std::time::Instant::now() + patience;
    while streamer.is_running() && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    if streamer.is_running() {
        streamer.kill();
        return false;
    }
    true
}

/// Nothing that the slot was told lies outside of what was durable then.
fn assert_never_told_too_much(looks: &[AfterKill], destination: &Destination) {
    let bytes = std::fs::read(destination.file()).expect("the file");
    let mut ends: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        at += line.len() as u64;
        let event: serde_json::Value = serde_json::from_slice(line).expect("an event");
        ends.push((event["source"]["lsn"].as_u64().expect("lsn"), at));
    }
    for look in looks {
        assert!(
            look.confirmed <= look.position || look.position == Lsn(0),
            "killed at {}: the slot was told {}, the state says {}",
            look.place,
            look.confirmed,
            look.position
        );
        let acknowledged = ends
            .iter()
            .take_while(|(lsn, _)| *lsn <= look.confirmed.0)
            .last();
        if let Some((lsn, end)) = acknowledged {
            assert!(
                *end <= look.durable,
                "killed at {}: {} was acknowledged, but the file was durable to {} only, and {} ends at {end}",
                look.place,
                look.confirmed,
                look.durable,
                Lsn(*lsn)
            );
        }
    }
}

#[test]
fn killed_at_any_place_under_load_it_delivers_every_commit_once_in_order() {
    let server = server(false);
    let destination = Destination::new();
    let workload = Workload::start(&server, 3, false);
    let looks = kill_again_and_again(&server, &destination, 52, 13, &[], &[]);
    workload.finish();
    destination.run_until_now(&server, SLOT);
    let delivered = destination.delivered();
    delivered.assert_in_commit_order();
    workload::assert_equal(&server, &delivered);
    assert_never_told_too_much(&looks, &destination);
    let moved = looks
        .windows(2)
        .filter(|two| two[0].position < two[1].position);
    assert!(moved.count() > 20, "the workload stood still");
}

#[test]
fn killed_between_prepare_and_commit_prepared_it_delivers_the_rows_once() {
    let server = server(true);
    let destination = Destination::new();
    let workload = Workload::start(&server, 3, true);
    let looks = kill_again_and_again(
        &server,
        &destination,
        20,
        10,
        &[("prepared-stored", 10), ("prepared-stored", 3)],
        &["--two-phase"],
    );
    workload.finish();
    workload::end_prepared(&server);
    let end = server.flushed_lsn();
    destination
        .run(&server, SLOT)
        .args(["--two-phase", "--until-lsn", &end.to_string()])
        .run(120 * delivery::SECONDS)
        .expect_code(0);
    let delivered = destination.delivered();
    delivered.assert_in_commit_order();
    workload::assert_equal(&server, &delivered);
    assert_never_told_too_much(&looks, &destination);
    let left =
        std::fs::read_dir(destination.state_dir().join("prepared")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "stored rows were left behind");
}

#[test]
fn a_streamer_that_stays_survives_servers_that_crash() {
    let server = server(false);
    let destination = Destination::new();
    let workload = Workload::start(&server, 3, false);
    let mut streamer = destination
        .run(&server, SLOT)
        .args(["--memory-limit", "1MB"])
        .start();
    for _ in 0..5 {
        std::thread::sleep(delivery::SECONDS);
        server.crash_and_recover();
    }
    workload.finish();
    let end = server.flushed_lsn();
    wait_within(
        60 * delivery::SECONDS,
        "everything to be acknowledged",
        || server.confirmed_flush(SLOT) >= Some(end),
    );
    assert!(streamer.is_running());
    streamer.stop().expect_code(0);
    let delivered = destination.delivered();
    delivered.assert_in_commit_order();
    workload::assert_equal(&server, &delivered);
}
