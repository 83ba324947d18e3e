//! The output plugins, each read by `pg_recvlogical` into /dev/null.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use walferry_tests::ServerTree;

use crate::walsender::CpuWatch;
use crate::workload::{Loaded, PUBLICATION, Workload};

/// A plugin with its options.
pub struct Contender {
    pub name: &'static str,
    plugin: &'static str,
    /// The workload that it is meant for; all of them without.
    only: Option<Workload>,
    options: &'static [(&'static str, &'static str)],
}

pub const FLOOR: &str = "null plugin (floor)";
pub const BYTE_PER_COMMIT: &str = "null plugin, one byte a commit";
pub const SAME_BYTES: &str = "null plugin, as many bytes";
pub const NONE: &str = "walferry, format none";
pub const NATIVE: &str = "walferry, format native";
pub const PGOUTPUT: &str = "pgoutput";
pub const WAL2JSON: &str = "wal2json, format-version 2";

const CONTENDERS: [Contender; 8] = [
    Contender {
        name: FLOOR,
        plugin: "walferry_null",
        only: None,
        options: &[],
    },
    Contender {
        name: BYTE_PER_COMMIT,
        plugin: "walferry_null",
        only: None,
        options: &[("byte-per-commit", "true")],
    },
    Contender {
        name: SAME_BYTES,
        plugin: "walferry_null",
        only: Some(Workload::Toast),
        // 250 times 32 digits and the columns beside them.
        options: &[("bytes-per-insert", "8048")],
    },
    Contender {
        name: NONE,
        plugin: "walferry",
        only: None,
        options: &[("format", "none")],
    },
    Contender {
        name: NATIVE,
        plugin: "walferry",
        only: None,
        options: &[("format", "native")],
    },
    Contender {
        name: PGOUTPUT,
        plugin: "pgoutput",
        only: None,
        options: &[("proto_version", "1"), ("publication_names", PUBLICATION)],
    },
    Contender {
        name: "test_decoding",
        plugin: "test_decoding",
        only: None,
        options: &[],
    },
    Contender {
        name: WAL2JSON,
        plugin: "wal2json",
        only: None,
        options: &[("format-version", "2")],
    },
];

/// The middle round of a contender.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    /// From starting the reader until it ended.
    pub wall: Duration,
    /// What the walsender used of a CPU.
    pub cpu: Duration,
}

/// Runs every contender once a round, in turn, so that what disturbs the machine disturbs all alike.
pub fn measure_all(
    workload: Workload,
    loaded: &Loaded,
    rounds: usize,
    skip: &[String],
) -> Vec<Row> {
    let tree = loaded.server.tree();
    let contenders: Vec<&Contender> = CONTENDERS
        .iter()
        .filter(|contender| contender.only.is_none_or(|only| only == workload))
        .filter(|contender| {
            !skip
                .iter()
                .any(|part| contender.name.contains(part.as_str()))
        })
        .filter(|contender| {
            let there = tree.has_library(contender.plugin);
            if !there {
                eprintln!("{} is not installed and left out", contender.plugin);
            }
            there
        })
        .collect();
    // Brings WAL and catalogs into memory; not counted.
    measure(loaded, &CONTENDERS[0]);
    let mut runs: Vec<Vec<Row>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (contender, runs) in contenders.iter().zip(&mut runs) {
            runs.push(measure(loaded, contender));
        }
    }
    runs.into_iter().map(middle).collect()
}

fn middle(mut runs: Vec<Row>) -> Row {
    runs.sort_by_key(|row| row.cpu);
    let cpu = runs[runs.len() / 2].cpu;
    runs.sort_by_key(|row| row.wall);
    Row {
        cpu,
        ..runs[runs.len() / 2].clone()
    }
}

fn measure(loaded: &Loaded, contender: &Contender) -> Row {
    const SLOT: &str = "contender";
    loaded.copy_slot(SLOT, contender.plugin);
    let mut command = loaded.server.pg_recvlogical("postgres", SLOT);
    command.args([
        "--start",
        "--no-loop",
        "--file=/dev/null",
        "--endpos",
        &loaded.end.to_string(),
    ]);
    for (name, value) in contender.options {
        command.arg("--option").arg(format!("{name}={value}"));
    }
    let watch = CpuWatch::on(&loaded.server, SLOT);
    let began = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("pg_recvlogical");
    let wall = began.elapsed();
    assert!(
        output.status.success(),
        "{}: pg_recvlogical failed: {}",
        contender.name,
        String::from_utf8_lossy(&output.stderr)
    );
    let cpu = watch.finish().unwrap_or_default();
    let reached = loaded
        .server
        .confirmed_flush(SLOT)
        .expect("the slot that was read");
    assert!(
        reached >= loaded.last_change,
        "{} was read to {reached} only, not to {}",
        contender.name,
        loaded.last_change
    );
    loaded.drop_slot(SLOT);
    eprintln!(
        "  {}: {:.2} s, walsender {:.2} s",
        contender.name,
        wall.as_secs_f64(),
        cpu.as_secs_f64()
    );
    Row {
        name: contender.name,
        wall,
        cpu,
    }
}

/// Builds the null plugin with PGXS and puts it into the server's tree.
pub fn install_null_plugin(tree: &ServerTree) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("null_plugin");
    let build = tempfile::tempdir().expect("a folder to build the null plugin in");
    for name in ["Makefile", "walferry_null.c"] {
        fs::copy(source.join(name), build.path().join(name)).expect("the null plugin's source");
    }
    let output = Command::new("make")
        .arg("--directory")
        .arg(build.path())
        .arg(format!("PG_CONFIG={}", tree.pg_config().display()))
        // LLVM bitcode would only serve inlining into JIT code.
        .arg("with_llvm=no")
        // Those of an outer make would end up in this one.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()
        .expect("make");
    assert!(
        output.status.success(),
        "the null plugin was not built: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let destination = tree.pkglibdir().join("walferry_null.so");
    let beside = destination.with_extension(format!("so.{}", std::process::id()));
    fs::copy(build.path().join("walferry_null.so"), &beside)
        .expect("the null plugin in the server's tree");
    fs::rename(&beside, &destination).expect("the null plugin in the server's tree");
}
