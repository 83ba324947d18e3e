//! Output plugins and the streamer measured side by side on the same WAL.
//!
//! `make bench` builds everything in release and runs this.

mod bars;
mod contender;
mod latency;
mod report;
mod streamer;
mod walsender;
mod workload;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use report::Report;
use workload::Workload;

/// Measures output plugins and the streamer against each other, on throw-away servers.
#[derive(Parser)]
#[command(name = "walferry-bench")]
struct Arguments {
    /// What to measure; everything without it.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,

    /// Size of the workloads; 1 is the size that the bars are stated for.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,

    /// Rounds over all contenders; the middle one counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Leaves out the contenders whose name contains one of these, e.g. `wal2json,test_decoding`.
    #[arg(long, value_delimiter = ',')]
    skip: Vec<String>,

    /// One JSON object instead of the table.
    #[arg(long)]
    json: bool,

    /// Exit code 1 when a bar is missed.
    #[arg(long)]
    strict: bool,
}

/// A part of the measurement.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// 1.4 million changes in transactions of 1,000 rows, through every plugin.
    Bulk,
    /// Rows whose text is kept out of line, through every plugin.
    Toast,
    /// The bulk workload with REPLICA IDENTITY FULL, through every plugin.
    Full,
    /// pgbench's transactions, through every plugin.
    Oltp,
    /// The bulk workload through the streamer.
    Streamer,
    /// COMMIT's return to bytes written, at 2,000 transactions a second.
    Latency,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut report = Report::new(arguments.scale, arguments.rounds);
    let plugins = [
        (Part::Bulk, Workload::Bulk),
        (Part::Toast, Workload::Toast),
        (Part::Full, Workload::Full),
        (Part::Oltp, Workload::Oltp),
    ];
    for (part, workload) in plugins {
        let streamer = part == Part::Bulk && arguments.wants(Part::Streamer);
        if !arguments.wants(part) && !streamer {
            continue;
        }
        let loaded = workload.load(arguments.scale);
        if arguments.wants(part) {
            let rows = contender::measure_all(workload, &loaded, arguments.rounds, &arguments.skip);
            report
                .plugins
                .push((workload, loaded.changes, loaded.wal_bytes, rows));
        }
        if streamer {
            report.streamer = streamer::measure_all(&loaded, arguments.rounds, &arguments.skip);
        }
    }
    if arguments.wants(Part::Latency) {
        report.latency = latency::measure_all(arguments.scale);
    }
    let verdicts = bars::judge(&report);
    if arguments.json {
        println!("{}", report.json(&verdicts));
    } else {
        print!("{}", report.table(&verdicts));
    }
    let missed = verdicts.iter().any(|verdict| !verdict.reached);
    if arguments.strict && missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
