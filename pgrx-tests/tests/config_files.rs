//! `walferry run` as its files say, against a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use walferry_tests::{Exit, Server, Streamer};

const SECONDS: Duration = Duration::from_secs(60);

/// Three tables, a slot that was made before their rows.
fn shop() -> Server {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE public.\"CUSTOMERS\" (\"FB\" int PRIMARY KEY, \"IG\" text, secret text);
         CREATE TABLE public.orders (product int PRIMARY KEY, service text, price numeric);
         CREATE TABLE public.other (id int PRIMARY KEY)",
    );
    server.create_slot("ferry", "walferry");
    server.sql(
        "INSERT INTO public.\"CUSTOMERS\" VALUES (1, 'one', 'hidden');
         INSERT INTO public.orders VALUES (2, 'two', 2.50);
         INSERT INTO public.other VALUES (3)",
    );
    server
}

fn write(server: &Server, name: &str, text: &str) -> PathBuf {
    let path = server.scratch_dir().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// The connection as a mapping, each line after `indent`.
fn connection(server: &Server, indent: &str) -> String {
    [
        format!("host: {}", server.socket_dir().display()),
        format!("port: {}", server.port()),
        "database: postgres".to_owned(),
        "username: postgres".to_owned(),
        "password: ${FERRY_PASSWORD}".to_owned(),
        "max-connections: 30".to_owned(),
        "socket-timeout-s: 60".to_owned(),
        "max-retries: 1".to_owned(),
        "retry-wait-duration-ms: 1_000".to_owned(),
        "replication-slots:".to_owned(),
        "  ferry:".to_owned(),
        "    - walferry".to_owned(),
    ]
    .map(|line| format!("{indent}{line}\n"))
    .concat()
}

fn run(server: &Server, arguments: &[(&str, &Path)]) -> Exit {
    let mut builder = Streamer::builder().env("FERRY_PASSWORD", "hunter2").args([
        "run",
        "--until-lsn",
        &server.flushed_lsn().to_string(),
    ]);
    for (flag, path) in arguments {
        builder = builder.arg(flag).arg(path);
    }
    builder.run(SECONDS)
}

/// `(table, after)` of each row.
fn rows(lines: &[String]) -> Vec<(String, Value)> {
    lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["op"] == "c")
        .map(|event| {
            let table = event["source"]["table"].as_str().unwrap_or_default();
            (table.to_owned(), event["after"].clone())
        })
        .collect()
}

#[test]
fn three_files_connect_and_let_through_what_the_filter_says() {
    let server = shop();
    let connection = write(&server, "connection.yaml", &connection(&server, ""));
    let filter = write(
        &server,
        "filter.yaml",
        "allow:
  catalog: \"postgres\"
  schema: \"public\"
  types: [TABLE]
  allow:
    CUSTOMERS:
      allow: [\"FB, IG\"]
    orders:
",
    );
    let extractor = write(
        &server,
        "extractor.yaml",
        "realtime:\n  threads: 2\n  _traceDBTasks: true\n",
    );
    let exit = run(
        &server,
        &[
            ("--connection", &connection),
            ("--filter", &filter),
            ("--extractor", &extractor),
            ("--sink", Path::new("stdout")),
        ],
    )
    .expect_code(0);
    assert_eq!(
        rows(&exit.stdout),
        [
            (
                "CUSTOMERS".to_owned(),
                serde_json::json!({"FB": 1, "IG": "one"})
            ),
            (
                "orders".to_owned(),
                serde_json::json!({"product": 2, "service": "two", "price": "2.50"})
            ),
        ]
    );
    let log = exit.stderr.join("\n");
    assert!(log.contains("it is read as 2 columns"), "{log}");
    assert!(log.contains("to the source: "), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn one_file_delivers_into_its_sink_and_a_flag_wins_over_it() {
    let server = shop();
    let output = server.scratch_dir().join("shop.jsonl");
    let config = write(
        &server,
        "walferry.yaml",
        &format!(
            "connection:\n{}tables: [public.orders]\nvalues: {{numeric: number}}\nsink: {{file: {{path: {}}}}}\n",
            connection(&server, "  "),
            output.display()
        ),
    );
    run(&server, &[("--config", &config)]).expect_code(0);
    let lines: Vec<String> = fs::read_to_string(&output)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let delivered = rows(&lines);
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0].1["price"].as_f64(), Some(2.5));

    server.sql("INSERT INTO public.other VALUES (4)");
    let exit = run(
        &server,
        &[
            ("--config", &config),
            ("--tables", Path::new("public.other")),
            ("--sink", Path::new("stdout")),
        ],
    )
    .expect_code(0);
    assert_eq!(
        rows(&exit.stdout),
        [("other".to_owned(), serde_json::json!({"id": 4}))]
    );
}
