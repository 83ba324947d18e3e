//! The bars that walferry is held to, and whether a report reaches them.

use std::time::Duration;

use crate::contender::{BYTE_PER_COMMIT, FLOOR, NATIVE, NONE, PGOUTPUT, SAME_BYTES, WAL2JSON};
use crate::report::Report;
use crate::workload::Workload;

/// A bar and what was measured against it.
pub struct Verdict {
    /// What the bar says, with its limit.
    pub bar: String,
    pub measured: String,
    pub reached: bool,
}

/// Judges every bar that the report has both sides of.
pub fn judge(report: &Report) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (workload, _, _, _) in &report.plugins {
        let name = workload.name();
        let mut wall = |what: &str, one: &str, other: &str, most: f64| {
            if let (Some(one), Some(other)) =
                (report.row(*workload, one), report.row(*workload, other))
            {
                verdicts.push(at_most(
                    format!("{name}: {what}"),
                    seconds(one.wall) / seconds(other.wall),
                    most,
                ));
            }
        };
        if *workload == Workload::Oltp {
            wall(
                "wall, native ≤ 1.3 × one byte a commit",
                NATIVE,
                BYTE_PER_COMMIT,
                1.3,
            );
        } else {
            wall("wall, format none ≤ 1.03 × floor", NONE, FLOOR, 1.03);
            wall("wall, native ≤ 1.25 × floor", NATIVE, FLOOR, 1.25);
            // Beside it, what of that is the values' bytes themselves, which somebody has to read at the same time.
            wall(
                "wall, native ≤ 1.25 × as many bytes",
                NATIVE,
                SAME_BYTES,
                1.25,
            );
        }
        // With TOASTed rows most of the time goes into reassembling values, which no plugin can be faster at: pgoutput
        // itself takes half as long again as the floor.
        let faster: &[(&str, f64)] = match workload {
            Workload::Oltp => &[(PGOUTPUT, 1.8)],
            Workload::Toast => &[],
            Workload::Bulk | Workload::Full => &[(PGOUTPUT, 3.5), (WAL2JSON, 8.0)],
        };
        for (rival, least) in faster {
            if let (Some(rival_row), Some(native)) =
                (report.row(*workload, rival), report.row(*workload, NATIVE))
            {
                let ratio = seconds(rival_row.wall) / seconds(native.wall);
                verdicts.push(at_least(
                    format!("{name}: native ≥ {least} × faster than {rival}"),
                    ratio,
                    *least,
                ));
            }
        }
        // The wall time of a busy machine says little of the plugin; its CPU time is steadier, so both are judged.
        let cpu = [
            ("format none ≤ 1.03 × floor", NONE, 1.03),
            ("native ≤ 1.2 × floor", NATIVE, 1.2),
        ];
        for (what, plugin, most) in cpu.into_iter().filter(|_| *workload != Workload::Oltp) {
            if let (Some(row), Some(floor)) =
                (report.row(*workload, plugin), report.row(*workload, FLOOR))
            {
                let ratio = seconds(row.cpu) / seconds(floor.cpu);
                verdicts.push(at_most(
                    format!("{name}: walsender CPU, {what}"),
                    ratio,
                    most,
                ));
            }
        }
    }
    for row in &report.streamer {
        if let Some(received) = row.received.filter(|_| row.plugin != "walferry") {
            verdicts.push(at_least(
                format!(
                    "streamer on {} ≥ 0.9 × pg_recvlogical's changes/s",
                    row.plugin
                ),
                seconds(received) / seconds(row.wall),
                0.9,
            ));
        }
    }
    // `null` is shown beside it: what the sink costs.
    for row in report.streamer.iter().filter(|row| row.sink == "file") {
        verdicts.push(Verdict {
            bar: format!("streamer to {} ≥ 300,000 changes/s", row.sink),
            measured: format!("{:.0}", row.changes_per_second),
            reached: row.changes_per_second >= 300_000.0,
        });
    }
    for row in &report.latency {
        verdicts.push(Verdict {
            bar: format!("latency to {}: 2,000 transactions/s held", row.sink),
            measured: format!("{:.0}", row.held),
            reached: row.held >= 1980.0,
        });
        verdicts.push(within(
            format!("latency to {}: p50 ≤ 2 ms", row.sink),
            row.p50,
            2.0,
        ));
        verdicts.push(within(
            format!("latency to {}: p99 ≤ 15 ms", row.sink),
            row.p99,
            15.0,
        ));
    }
    verdicts
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64().max(1e-9)
}

fn at_most(bar: String, ratio: f64, most: f64) -> Verdict {
    Verdict {
        bar,
        measured: format!("{ratio:.2}"),
        reached: ratio <= most,
    }
}

fn at_least(bar: String, ratio: f64, least: f64) -> Verdict {
    Verdict {
        bar,
        measured: format!("{ratio:.2}"),
        reached: ratio >= least,
    }
}

fn within(bar: String, measured: Duration, most_ms: f64) -> Verdict {
    let ms = measured.as_secs_f64() * 1000.0;
    Verdict {
        bar,
        measured: format!("{ms:.2} ms"),
        reached: ms <= most_ms,
    }
}
