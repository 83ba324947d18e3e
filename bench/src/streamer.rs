//! The streamer on the bulk workload's WAL: changes a second and memory.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use walferry_tests::Streamer;

use crate::workload::{Loaded, PUBLICATION};

/// The middle round of a plugin and a sink.
#[derive(Clone, Debug)]
pub struct Row {
    pub plugin: &'static str,
    pub sink: &'static str,
    pub wall: Duration,
    pub changes_per_second: f64,
    /// Peak resident memory in bytes.
    pub memory: u64,
    /// Bytes written for an event; 0 for `null`.
    pub bytes_per_event: f64,
    /// How long `pg_recvlogical` took in the same round, into /dev/null, with the plugin's options that the streamer
    /// gave. Only beside the sink `null`.
    pub received: Option<Duration>,
}

/// What is read into what.
const RUNS: [(&str, &str); 4] = [
    ("walferry", "null"),
    ("walferry", "file"),
    ("pgoutput", "null"),
    ("wal2json", "null"),
];

/// Reads the workload through every plugin, in turn.
pub fn measure_all(loaded: &Loaded, rounds: usize, skip: &[String]) -> Vec<Row> {
    let tree = loaded.server.tree();
    let runs = RUNS.into_iter().filter(|(plugin, _)| {
        tree.has_library(plugin) && !skip.iter().any(|part| plugin.contains(part.as_str()))
    });
    let mut rows: Vec<_> = runs.map(|run| (run, Vec::new())).collect();
    for _ in 0..rounds {
        for ((plugin, sink), rows) in &mut rows {
            rows.push(measure(loaded, plugin, sink));
        }
    }
    rows.into_iter().map(|(_, rows)| middle(rows)).collect()
}

/// Each figure's middle, which need not be of one round.
fn middle(mut runs: Vec<Row>) -> Row {
    runs.sort_by_key(|row| row.received);
    let received = runs[runs.len() / 2].received;
    runs.sort_by_key(|row| row.wall);
    Row {
        received,
        ..runs[runs.len() / 2].clone()
    }
}

const SLOT: &str = "streamer";

fn measure(loaded: &Loaded, plugin: &'static str, sink: &'static str) -> Row {
    loaded.copy_slot(SLOT, plugin);
    let folder =
        tempfile::tempdir_in(loaded.server.scratch_dir()).expect("a folder for the streamer");
    let output = folder.path().join("out");
    fs::create_dir(&output).expect("a folder for the sink");
    let url = match sink {
        "file" => format!("file://{}/bulk.jsonl", output.display()),
        other => other.to_owned(),
    };
    let log = folder.path().join("log");
    let mut command = Streamer::run(&loaded.server.url(), SLOT)
        .args(["--sink", &url, "--until-lsn", &loaded.end.to_string()])
        .args(["--plugin", plugin])
        .args(
            (plugin == "pgoutput")
                .then_some(["--publication", PUBLICATION])
                .into_iter()
                .flatten(),
        )
        .args([
            "--state-dir".as_ref(),
            folder.path().join("state").as_os_str(),
        ])
        .command();
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("the streamer's log"))
        .spawn()
        .expect("the streamer");
    let options = (sink == "null").then(|| plugin_options(loaded));
    let mut memory = 0;
    let status = loop {
        if let Some(status) = child.try_wait().expect("state of the streamer") {
            break status;
        }
        memory = memory.max(peak_memory(child.id()));
        std::thread::sleep(Duration::from_millis(5));
    };
    let wall = began.elapsed();
    assert!(
        status.success(),
        "the streamer failed:\n{}",
        fs::read_to_string(&log).unwrap_or_default()
    );
    let reached = loaded
        .server
        .confirmed_flush(SLOT)
        .expect("the streamer's slot");
    assert!(
        reached >= loaded.last_change,
        "the streamer acknowledged up to {reached} only, not to {}",
        loaded.last_change
    );
    loaded.drop_slot(SLOT);
    let row = Row {
        plugin,
        sink,
        wall,
        changes_per_second: loaded.changes as f64 / wall.as_secs_f64(),
        memory,
        bytes_per_event: size_below(&output) as f64 / loaded.changes as f64,
        received: options.map(|options| receive(loaded, plugin, &options)),
    };
    eprintln!(
        "  streamer, {plugin} to {sink}: {:.2} s, {:.0} changes/s{}",
        wall.as_secs_f64(),
        row.changes_per_second,
        row.received.map_or(String::new(), |received| format!(
            "; pg_recvlogical {:.2} s",
            received.as_secs_f64()
        ))
    );
    row
}

/// What the streamer asked the plugin for, as its walsender shows it.
fn plugin_options(loaded: &Loaded) -> Vec<(String, String)> {
    let mut client = loaded.server.client();
    let mut command = None;
    // The last of what it asks for: a first try may have options that the server does not know. A short run is soon over, so
    // it is looked for often.
    let began = std::time::Instant::now();
    let mut seen = None;
    loop {
        let row = client
            .query_opt(
                "SELECT query FROM pg_stat_activity WHERE backend_type = 'walsender' AND query LIKE 'START_REPLICATION SLOT%'",
                &[],
            )
            .expect("the walsenders");
        let is_there = row.is_some();
        if let Some(row) = row {
            command = Some(row.get::<_, String>(0));
            seen.get_or_insert_with(std::time::Instant::now);
        }
        if seen.is_some_and(|seen| {
            !is_there && seen.elapsed().as_millis() > 100 || seen.elapsed().as_millis() > 300
        }) {
            break;
        }
        assert!(
            began.elapsed().as_secs() < 60,
            "the streamer did not read the slot"
        );
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let command = command.unwrap_or_default();
    let list = command.split_once('(').map_or("", |(_, list)| list);
    // "name" 'value', …: what is within quotes, doubled quotes taken for one.
    let mut words = Vec::new();
    let mut rest = list.chars().peekable();
    while let Some(quote) = rest.find(|c| matches!(c, '"' | '\'')) {
        let mut word = String::new();
        while let Some(c) = rest.next() {
            if c == quote && rest.next_if_eq(&quote).is_none() {
                break;
            }
            word.push(c);
        }
        words.push(word);
    }
    words
        .chunks_exact(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect()
}

/// Reads the same with `pg_recvlogical`.
fn receive(loaded: &Loaded, plugin: &str, options: &[(String, String)]) -> Duration {
    loaded.copy_slot(SLOT, plugin);
    let mut command = loaded.server.pg_recvlogical("postgres", SLOT);
    command.args(["--start", "--no-loop", "--file=/dev/null"]);
    command.args(["--endpos", &loaded.end.to_string()]);
    for (name, value) in options {
        command.arg("--option").arg(format!("{name}={value}"));
    }
    let began = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("pg_recvlogical");
    let wall = began.elapsed();
    assert!(
        output.status.success(),
        "{plugin}: pg_recvlogical failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    loaded.drop_slot(SLOT);
    wall
}

/// VmHWM in bytes; 0 when the process is gone.
fn peak_memory(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kib| kib * 1024)
}

fn size_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("the sink's folder");
    entries
        .flatten()
        .map(|entry| entry.metadata().expect("a file of the sink").len())
        .sum()
}
