//! A file that a streamer delivers into, and what is in it.
#![allow(dead_code)] // each test binary uses a part of it

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use walferry_protocol::Lsn;
use walferry_tests::{Server, Streamer, StreamerBuilder};

pub const SECONDS: Duration = Duration::from_secs(1);

/// A file and a state folder of its own.
pub struct Destination {
    folder: tempfile::TempDir,
}

impl Destination {
    pub fn new() -> Self {
        Destination {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("changes.jsonl")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The sink's URL.
    pub fn url(&self) -> String {
        format!("file://{}", self.file().display())
    }

    /// `walferry run` from a slot into the file.
    pub fn run(&self, server: &Server, slot: &str) -> StreamerBuilder {
        self.run_url(&server.url(), slot)
    }

    pub fn run_url(&self, source: &str, slot: &str) -> StreamerBuilder {
        Streamer::run(source, slot)
            .arg("--sink")
            .arg(self.url())
            .arg("--state-dir")
            .arg(self.state_dir())
    }

    /// Delivers everything that is flushed now; the streamer ends by itself.
    pub fn run_until_now(&self, server: &Server, slot: &str) {
        self.run_until(server, slot, server.flushed_lsn());
    }

    pub fn run_until(&self, server: &Server, slot: &str, end: Lsn) {
        self.run(server, slot)
            .args(["--until-lsn", &end.to_string()])
            .run(120 * SECONDS)
            .expect_code(0);
    }

    pub fn delivered(&self) -> Delivered {
        Delivered::read(&self.file())
    }
}

/// Events out of a file; a torn last line is left out.
pub struct Delivered {
    pub events: Vec<Value>,
}

impl Delivered {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        Self::parse(&bytes)
    }

    pub fn parse(bytes: &[u8]) -> Self {
        let whole = bytes
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let events = bytes[..whole]
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_slice(line)
                    .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(line)))
            })
            .collect();
        Delivered { events }
    }

    /// `op` and the row's `id`, of each event.
    pub fn operations(&self) -> Vec<String> {
        self.events
            .iter()
            .map(|event| {
                let row = if event["after"].is_null() {
                    &event["before"]
                } else {
                    &event["after"]
                };
                format!("{} {}", event["op"].as_str().unwrap_or("?"), row["id"])
            })
            .collect()
    }

    /// Commit positions never go down, and no event's id comes twice.
    pub fn assert_in_commit_order(&self) {
        let mut last = 0;
        let mut seen = std::collections::HashSet::new();
        for event in &self.events {
            let source = &event["source"];
            let lsn = source["lsn"].as_u64().expect("source.lsn");
            assert!(lsn >= last, "{lsn} after {last}: {event}");
            last = lsn;
            let id = (
                lsn,
                source["change_lsn"].to_string(),
                source["seq"].to_string(),
            );
            assert!(seen.insert(id), "delivered twice: {event}");
        }
    }
}
