//! The three files that a guide for Arcion Replicant prints, with their
//! placeholders filled in: two slots of wal2json over TLS, a filter, a
//! heartbeat and a start position, by STREAM and by SQL.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use walferry_protocol::Lsn;
use walferry_tests::{Server, Streamer, wait_until};

const SLOTS: [&str; 2] = ["io_replicate", "io_replicate1"];

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

fn connection(server: &Server, files: &Path, reader: &str) -> String {
    format!(
        r#"type: POSTGRESQL

host: 127.0.0.1
port: {}

database: "postgres"
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

log-reader-type: {reader}

ssl:
  ssl-cert: {files}/postgresql.crt
  root-cert: {files}/ca.crt
  ssl-key: {files}/postgresql.pk8
"#,
        server.port(),
        files = files.display()
    )
}

fn extractor(start: Lsn) -> String {
    format!(
        r#"    realtime:
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
        start-lsn: {start}
"#
    )
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl");
    assert!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority, the server's certificate, the client's, and the client's key
/// in the guide's other format, PKCS #8 DER.
fn certificates(folder: &Path) {
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        folder,
        &format!("req -x509 {new} -days 30 -subj /CN=ca -keyout ca.key -out ca.crt"),
    );
    fs::write(
        folder.join("extensions"),
        "subjectAltName=IP:127.0.0.1,DNS:db\n",
    )
    .unwrap();
    for name in ["server", "postgresql"] {
        openssl(
            folder,
            &format!("req {new} -subj /CN=alex -keyout {name}.key -out {name}.csr"),
        );
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile extensions -out {name}.crt"
            ),
        );
    }
    openssl(
        folder,
        "pkcs8 -topk8 -inform PEM -in postgresql.key -outform DER -out postgresql.pk8 -nocrypt",
    );
}

/// A server as the guide has it set up: the role, its grants, the slots, the
/// heartbeat's table. It lets `alex` in with both password and certificate.
fn server(files: &Path) -> Server {
    certificates(files);
    let server = Server::builder()
        .tcp()
        .hba("hostssl all alex 127.0.0.1/32 scram-sha-256 clientcert=verify-ca")
        .start();
    for name in ["ca.crt", "server.crt", "server.key"] {
        server.write_private_file(name, &fs::read_to_string(files.join(name)).unwrap());
    }
    for (setting, value) in [
        ("ssl_ca_file", "ca.crt"),
        ("ssl_cert_file", "server.crt"),
        ("ssl_key_file", "server.key"),
        ("ssl", "on"),
    ] {
        server.sql(&format!("ALTER SYSTEM SET {setting} = '{value}'"));
    }
    server.sql("SELECT pg_reload_conf()");
    wait_until("TLS", || server.value::<String>("SHOW ssl") == "on");
    server.sql(
        r#"CREATE ROLE alex LOGIN PASSWORD 'alex12345';
           CREATE TABLE "CUSTOMERS" (id int PRIMARY KEY, "FB" text, "IG" text, secret text);
           CREATE TABLE "ORDERS" (o_orderkey int PRIMARY KEY, product text, service text, note text);
           CREATE TABLE "RETURNS" (id int PRIMARY KEY, why text);
           CREATE TABLE other (id int PRIMARY KEY);
           CREATE TABLE "postgres"."public"."replicate_io_cdc_heartbeat"("timestamp" INT8 NOT NULL, PRIMARY  KEY("timestamp"));
           GRANT USAGE ON SCHEMA "public" TO alex;
           GRANT SELECT ON ALL TABLES IN SCHEMA "public" TO alex;
           GRANT INSERT, UPDATE, DELETE ON replicate_io_cdc_heartbeat TO alex;
           ALTER ROLE alex WITH REPLICATION"#,
    );
    for slot in SLOTS {
        server.sql(&format!(
            "SELECT 'init' FROM pg_create_logical_replication_slot('{slot}', 'wal2json')"
        ));
    }
    server
}

/// A row of each table, and one more order that the filter's condition keeps back.
fn write(server: &Server, n: u32) {
    server.sql(&format!(
        r#"INSERT INTO "CUSTOMERS" VALUES ({n}, 'f{n}', 'i{n}', 's3cret');
           INSERT INTO "ORDERS" VALUES ({n}, 'p{n}', 'v{n}', 'n'), ({n} + 5000, 'p', 'v', 'n');
           INSERT INTO "RETURNS" VALUES ({n}, 'w{n}');
           INSERT INTO other VALUES ({n})"#
    ));
}

/// What `write` gives after the filter: table and row, which keeps its key.
fn expected(n: u32) -> Vec<(String, Value)> {
    vec![
        (
            "CUSTOMERS".into(),
            serde_json::json!({"id": n, "FB": format!("f{n}"), "IG": format!("i{n}")}),
        ),
        (
            "ORDERS".into(),
            serde_json::json!({"o_orderkey": n, "product": format!("p{n}"), "service": format!("v{n}")}),
        ),
        (
            "RETURNS".into(),
            serde_json::json!({"id": n, "why": format!("w{n}")}),
        ),
    ]
}

fn delivered(folder: &Path) -> Vec<(String, Value)> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = files
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let lines: Vec<Value> = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            lines
        })
        .map(|event| {
            let table = event["source"]["table"].as_str().unwrap_or_default();
            (table.to_owned(), event["after"].clone())
        })
        .collect()
}

#[test]
fn the_guides_files_as_they_stand_are_read_by_stream_and_by_sql() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path();
    let server = server(files);
    let mut numbers = 1..;
    for reader in ["STREAM", "SQL"] {
        let before = numbers.next().unwrap();
        write(&server, before);
        let start = server.flushed_lsn();
        let first = numbers.next().unwrap();
        write(&server, first);
        let given: BTreeMap<&str, String> = [
            ("connection", connection(&server, files, reader)),
            ("filter", FILTER.to_owned()),
            ("extractor", extractor(start)),
        ]
        .into();
        for (name, text) in &given {
            fs::write(files.join(format!("{name}.yaml")), text).unwrap();
        }
        server.sql("TRUNCATE replicate_io_cdc_heartbeat");
        let out = files.join(reader);
        let mut command = Streamer::builder().arg("run");
        for name in given.keys() {
            command = command
                .arg(format!("--{name}"))
                .arg(files.join(format!("{name}.yaml")));
        }
        let streamer = command
            .args(["--sink", &format!("file://{}/", out.display())])
            .start();
        let all = |rows: &[u32]| -> Vec<_> { rows.iter().flat_map(|n| expected(*n)).collect() };
        wait_until("what is after the start position", || {
            SLOTS
                .iter()
                .all(|slot| delivered(&out.join(slot)).len() >= 3)
        });
        // By TLS only, and as whom the file says.
        let unencrypted: i64 = server.value(
            "SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE usename = 'alex' AND NOT ssl",
        );
        let readers: i64 = server.value(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'alex' AND backend_type {} 'walsender'",
            if reader == "STREAM" { "=" } else { "<>" }
        ));
        assert_eq!(unencrypted, 0);
        assert!(readers >= 2, "{reader}: {readers}");
        wait_until("a beat", || {
            server.value::<i64>("SELECT count(*) FROM replicate_io_cdc_heartbeat") == 1
        });
        let second = numbers.next().unwrap();
        write(&server, second);
        wait_until("what comes while it runs", || {
            SLOTS
                .iter()
                .all(|slot| delivered(&out.join(slot)).len() >= 6)
        });
        let exit = streamer.stop().expect_code(0);
        for slot in SLOTS {
            assert_eq!(
                delivered(&out.join(slot)),
                all(&[first, second]),
                "{reader} {slot}"
            );
        }
        let said = exit.stderr.join("\n");
        assert_eq!(
            said.matches(&format!("starting at {start}, as start-lsn says"))
                .count(),
            SLOTS.len(),
            "{said}"
        );
        assert!(said.contains("to the source: "), "{said}");
        assert!(!said.contains("alex12345"), "{said}");
    }
}
