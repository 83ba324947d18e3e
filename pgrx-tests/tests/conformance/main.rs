//! One workload through every plugin: the JSON events are the same, ids
//! included, but for the differences that `docs/events.md` lists.
//!
//! Each contender says what it makes of an event of the native plugin
//! ([`Contender::expected`]); whatever else differs is a failure.

#[path = "../delivery/mod.rs"]
mod delivery;
#[path = "../types_match_the_server/literals/mod.rs"]
mod literals;
mod workload;

use std::collections::BTreeMap;

use delivery::{Destination, SECONDS};
use serde_json::Value;
use serde_json::value::RawValue;
use walferry_protocol::Lsn;
use walferry_tests::Server;

const PUBLICATION: &str = "everything";

/// A line of the file. Values are compared as they were written: digits of
/// numbers and the order of columns count.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    source: Value,
    /// `before`, `after`, `op` and the like; not `ts_ms`, which tells when the
    /// event was encoded.
    members: BTreeMap<String, String>,
}

impl Event {
    fn parse(line: &str) -> Event {
        let mut members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        members.remove("ts_ms").expect("ts_ms");
        let source = members.remove("source").expect("source");
        Event {
            source: serde_json::from_str(source.get()).expect("an object"),
            members: members
                .into_iter()
                .map(|(name, value)| (name, value.get().to_owned()))
                .collect(),
        }
    }

    fn op(&self) -> &str {
        self.members["op"].trim_matches('"')
    }
}

/// A way to read the same changes.
struct Contender {
    /// The slot's name.
    slot: &'static str,
    plugin: &'static str,
    /// Further arguments of `walferry run`.
    arguments: &'static [&'static str],
    /// What it gives where the native plugin gives this event; `None`: nothing.
    expected: fn(Event) -> Option<Event>,
}

const NATIVE: Contender = Contender {
    slot: "native",
    plugin: "walferry",
    arguments: &[],
    expected: Some,
};

const CONTENDERS: &[Contender] = &[
    Contender {
        slot: "pgoutput_prepared",
        plugin: "pgoutput",
        arguments: &["--publication", PUBLICATION, "--two-phase"],
        expected: as_pgoutput,
    },
    Contender {
        slot: "pgoutput_root",
        plugin: "pgoutput",
        arguments: &["--publication", "via_root"],
        expected: via_root,
    },
    Contender {
        slot: "pgoutput_binary",
        plugin: "pgoutput",
        arguments: &[
            "--publication",
            "readable",
            "--plugin-option",
            "binary=true",
        ],
        expected: readable,
    },
    Contender {
        slot: "pgoutput",
        plugin: "pgoutput",
        arguments: &["--publication", PUBLICATION],
        expected: as_pgoutput,
    },
    Contender {
        slot: "pgoutput_whole",
        plugin: "pgoutput",
        arguments: &["--publication", PUBLICATION, "--streaming", "off"],
        expected: as_pgoutput_whole,
    },
    Contender {
        slot: "wal2json",
        plugin: "wal2json",
        arguments: &["--missing-identity", "accept"],
        expected: as_wal2json,
    },
    Contender {
        slot: "wal2json_1",
        plugin: "wal2json",
        arguments: &["--plugin-option", "format-version=1"],
        expected: as_wal2json_1,
    },
];

/// A TRUNCATE's options and where a transaction stood at its origin are not
/// told; bytes of a logical message end at the first zero; NaN and the
/// infinities are null (before wal2json 2.6).
fn as_wal2json(mut event: Event) -> Option<Event> {
    if event.source.get("origin_lsn").is_some() {
        event.source["origin_lsn"] = 0.into();
    }
    if let Some(options) = event.members.get_mut("truncate") {
        *options = options.replace("true", "false");
    }
    if let Some(message) = event.members.get_mut("message") {
        // Of the bytes 00 and ff nothing is left.
        *message = message.replace("AP8=", "");
    }
    let table = event.source["table"].as_str().expect("a name");
    if ["float4", "float8", "numeric"]
        .iter()
        .any(|name| table.starts_with(name))
    {
        for image in ["before", "after"] {
            let row = event.members.get_mut(image).expect("an image");
            for value in ["NaN", "Infinity", "-Infinity"] {
                *row = row.replace(&format!("\"v\":\"{value}\""), "\"v\":null");
            }
        }
    }
    Some(event)
}

/// Format-version 1 does not tell of TRUNCATE at all.
fn as_wal2json_1(event: Event) -> Option<Event> {
    if event.op() == "t" {
        return None;
    }
    as_wal2json(event)
}

/// Stored generated columns are not published, and a streamed transaction does
/// not say where at its origin it committed.
fn as_pgoutput(mut event: Event) -> Option<Event> {
    if event.source["schema"] == "streamed" && event.source.get("origin_lsn").is_some() {
        event.source["origin_lsn"] = 0.into();
    }
    as_pgoutput_whole(event)
}

fn as_pgoutput_whole(mut event: Event) -> Option<Event> {
    if event.source["table"] == "generated" {
        for image in ["before", "after"] {
            let row = event.members.get_mut(image).expect("an image");
            if let Some((until, rest)) = row.split_once(",\"twice\":") {
                let end = rest.find([',', '}']).expect("the row's end");
                *row = format!("{until}{}", &rest[end..]);
            }
        }
    }
    Some(event)
}

/// A partition's rows come as its root's.
fn via_root(event: Event) -> Option<Event> {
    let mut event = as_pgoutput(event)?;
    if let Some(root) = event.source.as_object_mut()?.remove("root") {
        event.source["schema"] = root["schema"].clone();
        event.source["table"] = root["table"].clone();
    }
    Some(event)
}

/// Types without a value in binary are left out of the publication; messages
/// come whatever it has.
fn readable(event: Event) -> Option<Event> {
    let source = &event.source;
    let published = workload::readable_in_binary();
    let is_published =
        source["schema"] == "types" && published.iter().any(|table| source["table"] == **table);
    (event.op() == "m" || is_published).then_some(event)
}

fn server() -> Server {
    Server::builder()
        // Makes transactions of a few hundred rows stream.
        .setting("logical_decoding_work_mem", "64kB")
        .setting("max_replication_slots", 20)
        .setting("max_wal_senders", 20)
        .setting("max_prepared_transactions", 10)
        .start()
}

fn read(server: &Server, contender: &Contender, end: Lsn) -> Vec<Event> {
    let destination = Destination::new();
    destination
        .run(server, contender.slot)
        .args(["--plugin", contender.plugin])
        .args(["--until-lsn", &end.to_string()])
        .args(contender.arguments.iter().copied())
        .run(120 * SECONDS)
        .expect_code(0);
    let file = std::fs::read_to_string(destination.file()).expect("the file");
    file.lines().map(Event::parse).collect()
}

/// Fails with the first event that differs.
fn assert_same(contender: &Contender, native: &[Event], events: &[Event]) {
    let expected: Vec<Event> = native
        .iter()
        .cloned()
        .filter_map(contender.expected)
        .collect();
    let differing: Vec<String> = expected
        .iter()
        .zip(events)
        .filter(|(expected, event)| expected != event)
        .take(5)
        .map(|(expected, event)| format!("expected {expected:?}\n     got {event:?}"))
        .collect();
    assert!(
        differing.is_empty(),
        "{}: events differ\n{}",
        contender.slot,
        differing.join("\n")
    );
    assert_eq!(
        events.len(),
        expected.len(),
        "{}: the first event too many or too few: {:?}",
        contender.slot,
        events.get(expected.len()).or(expected.get(events.len()))
    );
}

#[test]
fn every_plugin_gives_the_same_events() {
    let server = server();
    workload::create(&server);
    server.sql(&format!("CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES"));
    server
        .sql("CREATE PUBLICATION via_root FOR ALL TABLES WITH (publish_via_partition_root = true)");
    let tables: Vec<String> = workload::readable_in_binary()
        .iter()
        .map(|table| format!("types.\"{table}\""))
        .collect();
    server.sql(&format!(
        "CREATE PUBLICATION readable FOR TABLE {}",
        tables.join(", ")
    ));
    let contenders: Vec<&Contender> = CONTENDERS
        .iter()
        .filter(|contender| server.tree().has_plugin(contender.plugin))
        .collect();
    for contender in contenders.iter().copied().chain([&NATIVE]) {
        let two_phase = contender.arguments.contains(&"--two-phase");
        server.sql(&format!(
            "SELECT pg_create_logical_replication_slot('{}', '{}', false, {two_phase})",
            contender.slot, contender.plugin
        ));
    }
    workload::run(&server);
    let end = server.flushed_lsn();
    let native = read(&server, &NATIVE, end);
    workload::assert_covered(&native);
    for contender in contenders {
        let events = read(&server, contender, end);
        assert_same(contender, &native, &events);
    }
}
