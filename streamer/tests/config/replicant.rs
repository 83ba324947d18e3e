//! Files in the format that users of Arcion Replicant have.

use std::time::Duration;

use walferry_streamer::cli::Plugin;
use walferry_streamer::config::Kind;
use walferry_streamer::config::connection::LogReader;
use walferry_streamer::config::filter::{ObjectType, Table};
use walferry_streamer::source::tls::SslMode;

use crate::{messages, read, understood};

const CONNECTION: &str = r#"type: POSTGRESQL

host: shop.eu-central-1.rds.amazonaws.com
port: 5432

database: "shop"
username: "alex"
password: "alex12345"

max-connections: 30
socket-timeout-s: 60
max-retries: 10
retry-wait-duration-ms: 1000

replication-slots:
  io_replicate:
    - wal2json
  io_replicate1:
    - wal2json

log-reader-type: STREAM
"#;

#[test]
fn a_connection_file_means_what_it_says() {
    let (configuration, report) = understood(Kind::Connection, CONNECTION);
    let connection = &configuration.connection;
    assert_eq!(
        connection.host.as_deref(),
        Some("shop.eu-central-1.rds.amazonaws.com")
    );
    assert_eq!(connection.port.map(u16::from), Some(5432));
    assert_eq!(connection.database.as_deref(), Some("shop"));
    assert_eq!(connection.username.as_deref(), Some("alex"));
    assert_eq!(
        connection
            .password
            .as_ref()
            .map(|password| password.expose()),
        Some("alex12345")
    );
    assert_eq!(connection.max_connections.map(u32::from), Some(30));
    assert_eq!(connection.socket_timeout, Some(Duration::from_secs(60)));
    assert_eq!(connection.max_retries, Some(10));
    assert_eq!(connection.retry_wait, Some(Duration::from_secs(1)));
    assert_eq!(connection.log_reader, Some(LogReader::Stream));
    let slots: Vec<_> = connection
        .slots
        .iter()
        .map(|slot| (slot.name.as_str(), slot.plugin))
        .collect();
    assert_eq!(
        slots,
        [
            ("io_replicate", Some(Plugin::Wal2json)),
            ("io_replicate1", Some(Plugin::Wal2json))
        ]
    );
    assert_eq!(report.warnings, []);
    assert_eq!(report.later, []);
}

#[test]
fn a_piece_of_a_file_is_known_by_its_keys() {
    for (text, kind) in [
        (
            "replication-slots:\n  a:\n    - wal2json\n",
            Kind::Connection,
        ),
        ("ssl:\n  root-cert: /c\n", Kind::Connection),
        ("allow:\n  schema: public\n", Kind::Filter),
        ("snapshot:\n  threads: 1\n", Kind::Extractor),
        ("realtime:\n  threads: 1\n", Kind::Extractor),
        ("delta-snapshot:\n  update-key: [k]\n", Kind::Extractor),
        ("connection:\n  host: a\nsink: stdout\n", Kind::Job),
    ] {
        let (found, _, report) = read(None, text);
        assert_eq!(found, kind, "{text}");
        assert_eq!(report.errors, [], "{text}");
    }
}

#[test]
fn the_sql_log_reader_is_understood() {
    let (configuration, report) = understood(Kind::Connection, "log-reader-type: SQL\n");
    assert_eq!(configuration.connection.log_reader, Some(LogReader::Sql));
    assert!(report.later.is_empty());
}

#[test]
fn ssl_with_a_root_certificate_verifies_the_server() {
    let text = "ssl:\n  ssl-cert: /etc/ferry/client.crt\n  root-cert: /etc/ferry/rds.pem\n  ssl-key: /etc/ferry/client.pk8\n";
    let (configuration, report) = understood(Kind::Connection, text);
    let ssl = configuration.connection.ssl.as_ref().expect("ssl");
    assert_eq!(ssl.mode, SslMode::VerifyFull);
    assert_eq!(ssl.root_certificate, Some("/etc/ferry/rds.pem".into()));
    assert_eq!(ssl.certificate, Some("/etc/ferry/client.crt".into()));
    assert_eq!(ssl.key, Some("/etc/ferry/client.pk8".into()));
    assert!(report.later.is_empty());
    let dsn = configuration.connection.dsn();
    for part in [
        "sslmode='verify-full'",
        "sslrootcert='/etc/ferry/rds.pem'",
        "sslcert='/etc/ferry/client.crt'",
        "sslkey='/etc/ferry/client.pk8'",
    ] {
        assert!(dsn.expose().contains(part), "{part}");
    }
}

fn condition(table: &Table) -> Option<&str> {
    table
        .condition
        .as_ref()
        .map(|condition| condition.text.as_str())
}

const FILTER: &str = r#"allow:
  catalog: "postgres"
  schema: "public"
  types: [TABLE]

  allow:
    CUSTOMERS:
      allow: ["FB, IG"]


    ORDERS:  
      allow: ["product", "service"]
      conditions: "o_orderkey < 5000"

    RETURNS:
"#;

#[test]
fn a_filter_file_means_what_it_says() {
    let (configuration, report) = understood(Kind::Filter, FILTER);
    let allow = &configuration.filter.allow[0];
    assert_eq!(
        allow.catalog.as_ref().map(|catalog| catalog.name.as_str()),
        Some("postgres")
    );
    assert_eq!(allow.types, [ObjectType::Table]);
    let tables = allow.tables.as_ref().expect("tables");
    let columns = |index: usize| tables[index].columns.clone().unwrap_or_default();
    assert_eq!(columns(0), ["FB", "IG"]);
    assert_eq!(columns(1), ["product", "service"]);
    assert_eq!(condition(&tables[1]), Some("o_orderkey < 5000"));
    assert_eq!(tables[2].columns, None);
    assert_eq!(
        messages(&report.warnings),
        [
            "f.yaml:8:15: allow: \"FB, IG\" is one text with commas; it is read as 2 columns: \"FB\", \"IG\" | write [\"FB\", \"IG\"]"
        ]
    );
    assert_eq!(messages(&report.later), [] as [&str; 0]);
}

#[test]
fn a_filter_becomes_options_of_the_plugin() {
    let (configuration, _) = understood(Kind::Filter, FILTER);
    assert_eq!(
        configuration.filter.table_patterns(),
        ["public.CUSTOMERS", "public.ORDERS", "public.RETURNS"]
    );
    assert_eq!(
        configuration.filter.column_rules(&[]).as_deref(),
        Some("public.CUSTOMERS(FB,IG),public.ORDERS(product,service,o_orderkey)")
    );
}

#[test]
fn a_filter_without_a_schema_is_for_every_schema_and_misspelt_conditions_are_read() {
    let text = r#"allow:
  catalog: shop
  types: TABLE


  allow:
    customers:
      allow: ["name"]
      condtions: "id < 7"

    orders:  
      allow: ["total"]
      conditions: "id < 9"

    returns:
"#;
    let (configuration, report) = understood(Kind::Filter, text);
    let tables = configuration.filter.allow[0]
        .tables
        .as_ref()
        .expect("tables");
    assert_eq!(condition(&tables[0]), Some("id < 7"));
    assert_eq!(condition(&tables[1]), Some("id < 9"));
    assert_eq!(
        configuration.filter.table_patterns(),
        ["*.customers", "*.orders", "*.returns"]
    );
    assert_eq!(
        messages(&report.warnings),
        ["f.yaml:9:18: \"condtions\" is read as \"conditions\" | write conditions"]
    );
    assert_eq!(report.later, []);
}

const SNAPSHOT: &str = "snapshot:
  threads: 16
  fetch-size-rows: 5_000

  _traceDBTasks: true
  min-job-size-rows: 1_000_000
  max-jobs-per-chunk: 32

  per-table-config:
  - catalog: tpch
    schema: public
    tables:
      lineitem:
        row-identifier-key: [l_orderkey, l_linenumber]
        split-key: l_orderkey
        split-hints:
          row-count-estimate: 15000
          split-key-min-value: 1
          split-key-max-value: 60_00
";

#[test]
fn a_snapshot_section_means_what_it_says() {
    let (configuration, report) = understood(Kind::Extractor, SNAPSHOT);
    let snapshot = configuration.extractor.snapshot.as_ref().expect("snapshot");
    assert_eq!(snapshot.jobs.threads.map(u32::from), Some(16));
    assert_eq!(snapshot.jobs.fetch_size_rows.map(u32::from), Some(5_000));
    assert!(snapshot.jobs.trace_statements);
    assert_eq!(
        snapshot.jobs.min_job_size_rows.map(u64::from),
        Some(1_000_000)
    );
    assert_eq!(snapshot.jobs.max_jobs_per_chunk.map(u32::from), Some(32));
    let table = &snapshot.tables[0];
    assert_eq!(table.name.table, "lineitem");
    assert_eq!(table.row_identifier_key, ["l_orderkey", "l_linenumber"]);
    assert_eq!(table.split_key.as_deref(), Some("l_orderkey"));
    assert_eq!(table.row_count_estimate, Some(15_000));
    assert_eq!(
        (table.split_key_min, table.split_key_max),
        (Some(1), Some(6_000))
    );
    assert_eq!(report.warnings, []);
    assert_eq!(configuration.unused_sections(), ["snapshot"]);
}

#[test]
fn a_realtime_section_means_what_it_says() {
    let text = r#"    realtime:
      threads: 4 
      fetch-size-rows: 10000
      fetch-duration-per-extractor-slot-s: 3
      _traceDBTasks: true

      heartbeat:
        enable: true
        catalog: "postgres"
        schema: "public"
        table-name: replicate_io_cdc_heartbeat
        column-name: timestamp
    
      start-position:
        start-lsn: 0/3261270
"#;
    let (configuration, report) = understood(Kind::Extractor, text);
    let realtime = configuration.extractor.realtime.expect("realtime");
    assert_eq!(realtime.threads, Some(4));
    assert_eq!(realtime.fetch_size_rows.map(u32::from), Some(10_000));
    assert_eq!(realtime.fetch_duration, Some(Duration::from_secs(3)));
    assert!(realtime.trace_statements);
    let beat = realtime.heartbeat.expect("heartbeat");
    assert_eq!(beat.schema, "public");
    assert_eq!(beat.table, "replicate_io_cdc_heartbeat");
    assert_eq!(beat.column, "timestamp");
    assert_eq!(
        realtime.start_lsn.map(|lsn| lsn.to_string()).as_deref(),
        Some("0/3261270")
    );
    assert_eq!(report.later, []);
    let warned: Vec<&str> = report
        .warnings
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    assert_eq!(
        warned,
        [
            "fetch-duration-per-extractor-slot-s has no effect: each slot has a reader of its own, which stays with it"
        ]
    );
}

#[test]
fn a_delta_snapshot_section_means_what_it_says() {
    let text = "delta-snapshot:
  row-identifier-key: [orderkey,suppkey]
  update-key: [partkey]
  replicate-deletes: true

  per-table-config:
  - catalog: tpch
    schema: public
    tables:
      lineitem1:
        row-identifier-key: [l_orderkey, l_linenumber]
        split-key: l_orderkey
        replicate-deletes: false
";
    let (configuration, _) = understood(Kind::Extractor, text);
    let delta = configuration
        .extractor
        .delta_snapshot
        .as_ref()
        .expect("delta-snapshot");
    assert_eq!(delta.row_identifier_key, ["orderkey", "suppkey"]);
    assert_eq!(delta.update_key, ["partkey"]);
    assert_eq!(delta.replicate_deletes, Some(true));
    let table = &delta.tables[0];
    assert_eq!(table.name.table, "lineitem1");
    assert_eq!(table.row_identifier_key, ["l_orderkey", "l_linenumber"]);
    assert_eq!(table.split_key.as_deref(), Some("l_orderkey"));
    assert_eq!(table.replicate_deletes, Some(false));
}

#[test]
fn a_placeholder_that_is_not_filled_in_is_a_mistake() {
    let (_, _, report) = read(Some(Kind::Connection), "log-reader-type: {STREAM|SQL}\n");
    assert_eq!(
        report.errors[0].to_string(),
        "f.yaml:1:18: expected one plain value"
    );
    let (_, _, report) = read(Some(Kind::Connection), "port: PORT_NUMBER\n");
    assert_eq!(
        report.errors[0].to_string(),
        "f.yaml:1:7: port: expected a number from 1 to 65535, not \"PORT_NUMBER\""
    );
}
