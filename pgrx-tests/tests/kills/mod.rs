//! Killing the streamer again and again, and what must hold whenever it died.
#![allow(dead_code)] // each test binary uses a part of it

use rand::Rng;
use walferry_protocol::Lsn;
use walferry_streamer::state::{StateDir, StateFile};
use walferry_tests::{Server, Streamer, StreamerBuilder, wait_until};

use super::delivery::{self, Destination};

/// Places of `walferry_streamer::failpoint`, and how often to pass them first.
pub const FAILPOINTS: &[(&str, u32)] = &[
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
pub struct AfterKill {
    place: String,
    confirmed: Lsn,
    /// Bytes of the file that the state calls durable.
    durable: u64,
    pub position: Lsn,
}

/// What the slot and the state say once nobody reads the slot any more.
fn look(server: &Server, slot: &str, destination: &Destination, place: String) -> AfterKill {
    wait_until("the slot to be free", || {
        server.slot_active_pid(slot).is_none()
    });
    let confirmed = server.confirmed_flush(slot).expect("the slot");
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

/// How often to kill, and what.
pub struct Plan<'a> {
    pub slot: &'a str,
    pub kills: usize,
    /// The server is crashed before every so many kills.
    pub crash_every: usize,
    pub places: &'a [(&'a str, u32)],
    /// The streamer with its source, sink and options.
    pub run: &'a dyn Fn() -> StreamerBuilder,
}

/// Kills the streamer as planned.
pub fn kill_again_and_again(
    server: &Server,
    destination: &Destination,
    plan: &Plan<'_>,
) -> Vec<AfterKill> {
    let (kills, crash_every, places) = (plan.kills, plan.crash_every, plan.places);
    let mut random = rand::rng();
    let mut looks = Vec::new();
    let (mut armed, mut fired) = (0, 0);
    while looks.len() < kills {
        let number = looks.len();
        let builder = (plan.run)().args(["--memory-limit", "1MB", "--flush-interval", "20ms"]);
        let (name, most) = places[number % (places.len() + 4) % places.len()];
        let named = number % (places.len() + 4) < places.len();
        let count = random.random_range(1..=most);
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
        looks.push(look(server, plan.slot, destination, place));
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
pub fn assert_never_told_too_much(looks: &[AfterKill], destination: &Destination) {
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
