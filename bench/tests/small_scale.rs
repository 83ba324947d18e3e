//! The benchmark itself, so small that it says nothing about speed.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_plugin_sink_and_latency_is_measured() {
    let output = Command::new(env!("CARGO_BIN_EXE_walferry-bench"))
        .args(["--scale", "0.005", "--rounds", "1", "--json"])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();

    for workload in [
        "bulk",
        "bulk, TOASTed rows",
        "bulk, REPLICA IDENTITY FULL",
        "OLTP (pgbench TPC-B)",
    ] {
        let plugins: Vec<&str> = report["plugins"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["workload"] == workload)
            .inspect(|row| assert!(row["wall"].as_f64().unwrap() > 0.0))
            .map(|row| row["plugin"].as_str().unwrap())
            .collect();
        for plugin in [
            "null plugin (floor)",
            "walferry, format none",
            "walferry, format native",
            "pgoutput",
        ] {
            assert!(
                plugins.contains(&plugin),
                "{workload} lacks {plugin}: {plugins:?}\n{log}"
            );
        }
    }

    let streamer = report["streamer"].as_array().unwrap();
    assert_eq!(streamer.len(), 4);
    for row in streamer.iter().filter(|row| row["sink"] == "null") {
        assert!(row["pg_recvlogical"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert!(
        streamer[1]["bytes_per_event"].as_f64().unwrap() > 100.0,
        "{streamer:?}"
    );
    let latency = report["latency"].as_array().unwrap();
    assert_eq!(latency.len(), 2);
    for row in latency {
        assert!(row["p99"].as_f64() >= row["p50"].as_f64(), "{row}");
    }
    assert!(report["bars"].as_array().unwrap().len() > 10);
}
