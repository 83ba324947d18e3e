//! Several slots in one run: each read on its own, with a position, an output
//! and an end of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use walferry_tests::{Server, Streamer, StreamerBuilder, wait_until};

const SECONDS: Duration = Duration::from_secs(60);

struct Job {
    server: Server,
    folder: PathBuf,
}

impl Job {
    fn new(slots: &[&str]) -> Job {
        let server = Server::start_default();
        server.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
        for slot in slots {
            server.create_slot(slot, "walferry");
        }
        let folder = server.scratch_dir();
        let listed: String = slots
            .iter()
            .map(|slot| format!("  {slot}:\n    - walferry\n"))
            .collect();
        fs::write(
            folder.join("connection.yaml"),
            format!(
                "type: POSTGRESQL\nhost: {}\nport: {}\ndatabase: postgres\nusername: postgres\nmax-connections: 30\nmax-retries: 10\nretry-wait-duration-ms: 100\nreplication-slots:\n{listed}",
                server.socket_dir().display(),
                server.port()
            ),
        )
        .unwrap();
        Job { server, folder }
    }

    fn run(&self, sink: &str) -> StreamerBuilder {
        Streamer::builder()
            .args(["run", "--connection"])
            .arg(self.folder.join("connection.yaml"))
            .args(["--sink", sink])
    }

    fn insert(&self, from: u32, to: u32) {
        self.server.sql(&format!(
            "INSERT INTO t SELECT n, repeat('v', 100) FROM generate_series({from}, {to}) n"
        ));
    }
}

/// The ids of the rows in a text of lines, each of which must be whole.
fn ids(text: &str) -> Vec<u64> {
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line))
        .filter_map(|event| event["after"]["id"].as_u64())
        .collect()
}

fn text_in(folder: &Path) -> String {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect()
}

#[test]
fn each_slot_has_an_output_and_a_state_of_its_own_through_a_kill() {
    let job = Job::new(&["ferry_a", "ferry_b"]);
    let out = job.folder.join("out");
    let sink = format!("file://{}/", out.display());
    job.insert(1, 30_000);
    let mut streamer = job.run(&sink).start();
    wait_until("some output of both", || {
        ["ferry_a", "ferry_b"]
            .iter()
            .all(|slot| out.join(slot).is_dir() && !text_in(&out.join(slot)).is_empty())
    });
    job.insert(30_001, 60_000);
    streamer.kill();
    job.insert(60_001, 61_000);
    let end = job.server.flushed_lsn();
    let exit = job
        .run(&sink)
        .args(["--until-lsn", &end.to_string()])
        .run(SECONDS)
        .expect_code(0);
    let stderr = exit.stderr.join("\n");
    for slot in ["ferry_a", "ferry_b"] {
        assert_eq!(
            ids(&text_in(&out.join(slot))),
            (1..=61_000).collect::<Vec<u64>>(),
            "{slot}"
        );
        assert!(job.server.confirmed_flush(slot) >= Some(end), "{slot}");
        assert!(out.join(slot).join(".walferry/state").exists());
        assert!(
            stderr.contains(&format!("walferry: slot \"{slot}\": ")),
            "{stderr}"
        );
    }

    // Into one standard output go whole lines of both.
    job.insert(61_001, 71_000);
    let end = job.server.flushed_lsn().to_string();
    let exit = job
        .run("stdout")
        .args(["--until-lsn", &end])
        .run(SECONDS)
        .expect_code(0);
    let mut seen = ids(&exit.stdout.join("\n"));
    assert_eq!(seen.len(), 20_000);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (61_001..=71_000).collect::<Vec<u64>>());
}

#[test]
fn a_slot_that_fails_stops_the_others_and_is_named() {
    let job = Job::new(&["ferry_a", "ferry_b"]);
    let sink = format!("file://{}/{{slot}}.jsonl", job.folder.display());
    let mut streamer = job.run(&sink).start();
    let walsenders = || {
        let pids = job.server.texts_in(
            "postgres",
            "SELECT active_pid FROM pg_replication_slots WHERE active_pid IS NOT NULL",
        );
        pids.into_iter().collect::<BTreeSet<_>>().len()
    };
    wait_until("both slots to be read", || walsenders() == 2);
    job.insert(1, 100);
    wait_until("both outputs", || {
        ["ferry_a", "ferry_b"].iter().all(|slot| {
            let file = job.folder.join(format!("{slot}.jsonl"));
            fs::read_to_string(file).is_ok_and(|text| ids(&text).len() == 100)
        })
    });
    // Its reader comes back to a slot that is not there any more.
    let dropped = Streamer::builder()
        .args(["slot", "drop", "ferry_b", "--terminate", "--source"])
        .arg(job.server.url())
        .run(SECONDS);
    dropped.expect_code(0);
    let exit = {
        wait_until("the run to end", || !streamer.is_running());
        streamer.wait(SECONDS)
    };
    let exit = exit.expect_code(1);
    let error = exit.stderr.join("\n");
    assert!(
        error.contains(
            "walferry: error: slot \"ferry_b\": replication slot \"ferry_b\" does not exist"
        ),
        "{error}"
    );
    assert!(error.contains("the other slots stop too"), "{error}");
    // What the other had was brought to its end.
    let confirmed = job.server.confirmed_flush("ferry_a").unwrap();
    let acknowledged = error
        .lines()
        .find(|line| line.contains("walferry: slot \"ferry_a\": "))
        .and_then(|line| line.split("acknowledged ").nth(1))
        .unwrap_or_default();
    assert_eq!(acknowledged, confirmed.to_string());
}

#[test]
fn several_slots_and_one_file_are_refused_with_the_name_that_would_do() {
    let job = Job::new(&["ferry_a", "ferry_b"]);
    let exit = job
        .run(&format!("file://{}/out.jsonl", job.folder.display()))
        .run(SECONDS)
        .expect_code(2);
    let error = exit.stderr.join("\n");
    assert!(
        error.contains("several slots can't be written to one file"),
        "{error}"
    );
    assert!(error.contains("/out.{slot}.jsonl"), "{error}");
    let state = job.folder.join("state");
    job.insert(1, 10);
    let end = job.server.flushed_lsn().to_string();
    job.run("null")
        .arg("--state-dir")
        .arg(&state)
        .args(["--until-lsn", &end])
        .run(SECONDS)
        .expect_code(0);
    for slot in ["ferry_a", "ferry_b"] {
        assert!(state.join(slot).join("state").exists());
    }
}

/// One heartbeat serves every slot of a run; none of their sinks sees it.
#[test]
fn the_heartbeat_stays_out_of_every_slots_sink() {
    let job = Job::new(&["ferry_a", "ferry_b"]);
    let files = ["ferry_a", "ferry_b"].map(|slot| job.folder.join(format!("{slot}.jsonl")));
    let sink = format!("file://{}/{{slot}}.jsonl", job.folder.display());
    let mut streamer = job
        .run(&sink)
        .args(["--heartbeat", "50ms", "--heartbeat-table", "public.beat"])
        .arg("--create-heartbeat-table")
        .start();
    streamer.wait_for_stderr("heartbeat: table public.beat every 50ms");
    let beats = || {
        let now = "SELECT n_tup_ins FROM pg_stat_get_tuples_inserted('beat'::regclass) n_tup_ins";
        job.server.value::<i64>(now)
    };
    wait_until("some beats", || beats() >= 5);
    job.insert(1, 1);
    wait_until("the row in both", || {
        files
            .iter()
            .all(|file| fs::read_to_string(file).is_ok_and(|text| !ids(&text).is_empty()))
    });
    let exit = streamer.stop();
    let exit = exit.expect_code(0);
    assert!(
        !exit.stderr.join("\n").contains("the heartbeat fails"),
        "{:?}",
        exit.stderr
    );
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
