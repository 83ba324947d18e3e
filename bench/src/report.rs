//! What was measured, as one table or as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::bars::Verdict;
use crate::contender::{self, FLOOR};
use crate::workload::Workload;
use crate::{latency, streamer};

pub struct Report {
    scale: f64,
    rounds: usize,
    /// Workload, its row changes, its bytes of WAL, and a row a contender.
    pub plugins: Vec<(Workload, u64, u64, Vec<contender::Row>)>,
    pub streamer: Vec<streamer::Row>,
    pub latency: Vec<latency::Row>,
}

impl Report {
    pub fn new(scale: f64, rounds: usize) -> Report {
        Report {
            scale,
            rounds,
            plugins: Vec::new(),
            streamer: Vec::new(),
            latency: Vec::new(),
        }
    }

    /// A contender's row in a workload.
    pub fn row(&self, workload: Workload, name: &str) -> Option<&contender::Row> {
        let (_, _, _, rows) = self
            .plugins
            .iter()
            .find(|(measured, ..)| *measured == workload)?;
        rows.iter().find(|row| row.name == name)
    }

    /// The table for people.
    pub fn table(&self, verdicts: &[Verdict]) -> String {
        let mut text = String::new();
        let out = &mut text;
        let _ = writeln!(
            out,
            "scale {}, the middle of {} rounds",
            self.scale, self.rounds
        );
        for (workload, changes, wal_bytes, rows) in &self.plugins {
            let _ = writeln!(
                out,
                "\n{}: {changes} changes, {} MB of WAL",
                workload.name(),
                wal_bytes / 1_000_000
            );
            let _ = writeln!(
                out,
                "  {:<32} {:>8} {:>10} {:>12} {:>8} {:>8}",
                "plugin", "wall s", "CPU s", "changes/s", "wall ×", "CPU ×"
            );
            let floor = self.row(*workload, FLOOR);
            for row in rows {
                let (wall, cpu) = (row.wall.as_secs_f64(), row.cpu.as_secs_f64());
                let _ = write!(
                    out,
                    "  {:<32} {wall:>8.2} {cpu:>10.2} {:>12.0}",
                    row.name,
                    *changes as f64 / wall
                );
                if let Some(floor) = floor {
                    let (wall_ratio, cpu_ratio) = (
                        wall / floor.wall.as_secs_f64(),
                        cpu / floor.cpu.as_secs_f64(),
                    );
                    let _ = write!(out, " {wall_ratio:>8.2} {cpu_ratio:>8.2}");
                }
                let _ = writeln!(out);
            }
        }
        if !self.streamer.is_empty() {
            let _ = writeln!(out, "\nstreamer, bulk workload");
            let _ = writeln!(
                out,
                "  {:<32} {:>8} {:>12} {:>12} {:>14} {:>16}",
                "plugin, sink",
                "wall s",
                "changes/s",
                "memory MiB",
                "bytes/event",
                "pg_recvlogical ×"
            );
            for row in &self.streamer {
                let _ = write!(
                    out,
                    "  {:<32} {:>8.2} {:>12.0} {:>12.1} {:>14.0}",
                    format!("{}, {}", row.plugin, row.sink),
                    row.wall.as_secs_f64(),
                    row.changes_per_second,
                    row.memory as f64 / f64::from(1 << 20),
                    row.bytes_per_event
                );
                if let Some(received) = row.received {
                    let _ = write!(
                        out,
                        " {:>16.2}",
                        row.wall.as_secs_f64() / received.as_secs_f64()
                    );
                }
                let _ = writeln!(out);
            }
        }
        if !self.latency.is_empty() {
            let _ = writeln!(
                out,
                "\nCOMMIT's return to bytes written, synchronous_commit on, fsync off on the server"
            );
            let _ = writeln!(
                out,
                "  {:<32} {:>10} {:>10} {:>10} {:>10}",
                "sink", "held/s", "p50 ms", "p99 ms", "max ms"
            );
            for row in &self.latency {
                let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
                let _ = writeln!(
                    out,
                    "  {:<32} {:>10.0} {:>10.2} {:>10.2} {:>10.2}",
                    row.sink,
                    row.held,
                    ms(row.p50),
                    ms(row.p99),
                    ms(row.max)
                );
            }
        }
        let _ = writeln!(out, "\nbars");
        for verdict in verdicts {
            let word = if verdict.reached { "PASS" } else { "FAIL" };
            let _ = writeln!(
                out,
                "  {word}  {} (measured {})",
                verdict.bar, verdict.measured
            );
        }
        text
    }

    /// The same for programs; times in seconds, memory in bytes.
    pub fn json(&self, verdicts: &[Verdict]) -> Value {
        let plugins: Vec<Value> = self
            .plugins
            .iter()
            .flat_map(|(workload, changes, wal_bytes, rows)| {
                rows.iter().map(move |row| {
                    json!({
                        "workload": workload.name(),
                        "changes": changes,
                        "wal_bytes": wal_bytes,
                        "plugin": row.name,
                        "wall": row.wall.as_secs_f64(),
                        "cpu": row.cpu.as_secs_f64(),
                    })
                })
            })
            .collect();
        let streamer: Vec<Value> = self
            .streamer
            .iter()
            .map(|row| {
                json!({
                    "plugin": row.plugin,
                    "sink": row.sink,
                    "wall": row.wall.as_secs_f64(),
                    "pg_recvlogical": row.received.map(|received| received.as_secs_f64()),
                    "changes_per_second": row.changes_per_second,
                    "memory": row.memory,
                    "bytes_per_event": row.bytes_per_event,
                })
            })
            .collect();
        let latency: Vec<Value> = self
            .latency
            .iter()
            .map(|row| {
                json!({
                    "sink": row.sink,
                    "held_per_second": row.held,
                    "p50": row.p50.as_secs_f64(),
                    "p99": row.p99.as_secs_f64(),
                    "max": row.max.as_secs_f64(),
                })
            })
            .collect();
        let bars: Vec<Value> = verdicts
            .iter()
            .map(|verdict| json!({"bar": verdict.bar, "measured": verdict.measured, "reached": verdict.reached}))
            .collect();
        json!({
            "scale": self.scale,
            "rounds": self.rounds,
            "plugins": plugins,
            "streamer": streamer,
            "latency": latency,
            "bars": bars,
        })
    }
}
