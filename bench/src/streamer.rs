//! The streamer on the bulk workload's WAL: changes a second and memory.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use walferry_tests::Streamer;

use crate::workload::Loaded;

/// The middle round of a sink.
#[derive(Clone, Debug)]
pub struct Row {
    pub sink: &'static str,
    pub wall: Duration,
    pub changes_per_second: f64,
    /// Peak resident memory in bytes.
    pub memory: u64,
    /// Bytes written for an event; 0 for `null`.
    pub bytes_per_event: f64,
}

/// Reads the workload into `null` and into a file, in turn.
pub fn measure_all(loaded: &Loaded, rounds: usize) -> Vec<Row> {
    let mut null = Vec::new();
    let mut file = Vec::new();
    for _ in 0..rounds {
        null.push(measure(loaded, "null"));
        file.push(measure(loaded, "file"));
    }
    vec![middle(null), middle(file)]
}

fn middle(mut runs: Vec<Row>) -> Row {
    runs.sort_by_key(|row| row.wall);
    runs[runs.len() / 2].clone()
}

fn measure(loaded: &Loaded, sink: &'static str) -> Row {
    const SLOT: &str = "streamer";
    loaded.copy_slot(SLOT, "walferry");
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
        sink,
        wall,
        changes_per_second: loaded.changes as f64 / wall.as_secs_f64(),
        memory,
        bytes_per_event: size_below(&output) as f64 / loaded.changes as f64,
    };
    eprintln!(
        "  streamer to {sink}: {:.2} s, {:.0} changes/s",
        wall.as_secs_f64(),
        row.changes_per_second
    );
    row
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
