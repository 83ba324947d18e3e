//! The page about events shows what really comes out.

use serde_json::{Value as Json, json};
use walferry_streamer::encode::Encode;
use walferry_streamer::encode::debezium::{DebeziumJson, DebeziumOptions};
use walferry_tests::Server;

use crate::native_reader::read_slot;
use crate::session;

const PAGE: &str = include_str!("../../../docs/events.md");

/// The page's fenced blocks: what follows the fence on its line, and the text.
fn blocks() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGE.split("\n```")
        .skip(1)
        .step_by(2)
        .map(|block| block.split_once('\n').expect("a block has lines"))
}

/// Sets what differs from run to run to nothing, after looking at it.
fn still(mut event: Json) -> Json {
    assert!(
        event["ts_ms"]
            .as_u64()
            .is_some_and(|ms| ms > 1_700_000_000_000)
    );
    event["ts_ms"] = json!(0);
    let id = format!("{}:{}", event["source"]["txId"], event["source"]["lsn"]);
    assert_eq!(event["transaction"]["id"], id);
    event["transaction"]["id"] = json!("");
    let source = &mut event["source"];
    assert!(source["change_lsn"].as_u64() < source["lsn"].as_u64());
    let microseconds = source["ts_us"].as_u64().expect("a time");
    assert_eq!(source["ts_ms"], microseconds / 1000);
    for member in ["txId", "lsn", "change_lsn", "ts_us", "ts_ms"] {
        source[member] = json!(0);
    }
    event
}

#[test]
fn the_page_about_events_shows_what_comes_out() {
    let server = Server::start_default();
    let mut client = session(&server, "postgres");
    let encoder = DebeziumJson::new(&DebeziumOptions {
        database: "postgres".into(),
        ..Default::default()
    });
    let mut waiting = std::collections::VecDeque::new();
    let mut compared = 0;
    for (kind, text) in blocks() {
        match kind {
            "sql setup" => {
                client.batch_execute(text).expect("setup");
                server.create_slot("page", "walferry");
            }
            "sql" => {
                assert!(waiting.is_empty(), "the page does not show {waiting:?}");
                client.batch_execute(text).expect("the page's SQL");
                read_slot(&mut client, "page", |event| {
                    let mut line = Vec::new();
                    encoder.encode(event, &mut line).expect("JSON");
                    waiting.push_back(serde_json::from_slice::<Json>(&line).expect("JSON"));
                });
            }
            "json" => {
                let shown: Json = serde_json::from_str(text).expect("the page's JSON");
                let found = waiting
                    .pop_front()
                    .expect("as many events as the page shows");
                assert_eq!(still(found), still(shown));
                compared += 1;
            }
            other => panic!("a block of {other:?}"),
        }
    }
    assert!(waiting.is_empty(), "the page does not show {waiting:?}");
    assert_eq!(compared, 9);
}
