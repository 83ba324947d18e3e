//! Files and flags together: flags win.

use std::path::PathBuf;
use std::process::Command;

use clap::Parser;
use walferry_streamer::cli::{self, Cli, RunOptions};
use walferry_streamer::error::{Failure, Result};

/// Files of one test, in a folder of its own.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        Files(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What `walferry run` makes of these arguments; a word with a dot is a file.
    fn run(&self, arguments: &str) -> Result<RunOptions> {
        let mut words = vec!["walferry".into(), "run".into()];
        for word in arguments.split_whitespace() {
            if word.ends_with(".yaml") {
                words.push(self.path(word).into_os_string());
            } else {
                words.push(word.into());
            }
        }
        let mut cli = Cli::try_parse_from(words).expect(arguments);
        cli::configure(&mut cli)?;
        match cli.command {
            cli::Command::Run(arguments) => arguments.validate(),
            other => panic!("{other:?}"),
        }
    }

    fn refused(&self, arguments: &str) -> Failure {
        let failure = self.run(arguments).expect_err(arguments);
        assert_eq!(failure.exit_code(), 2);
        failure
    }
}

const WHOLE: &str = "\
connection:
  host: db.example
  port: 6000
  database: shop
  username: ferry
  password: it's \\ a secret
  socket-timeout-s: 12
  max-retries: 3
  retry-wait-duration-ms: 250
  replication-slots:
    ferry: walferry
filter:
  allow:
    schema: sales
    allow:
      orders: {allow: [id, total]}
      returns:
exclude-tables: sales.tmp_*
extractor:
  realtime:
    threads: 2
create-slot: true
sink:
  file:
    path: /var/lib/ferry/a b/
    rotate-size: 1GB
    rotate-every: 1h
    compress: zstd
state-dir: /var/lib/ferry/state
values: {int8: string}
memory-limit: 32MB
status-interval: 5s
flush-interval: 20ms
streaming: false
plugin-options: {message_prefixes: 'audit*'}
progress: false
";

#[test]
fn one_file_says_everything() {
    let files = Files::new(&[("walferry.yaml", WHOLE)]);
    let options = files.run("--config walferry.yaml").expect("options");
    assert_eq!(options.conninfo.to_string(), "ferry@db.example:6000/shop");
    assert_eq!(
        options
            .conninfo
            .given_password()
            .map(|password| password.expose().to_owned())
            .as_deref(),
        Some("it's \\ a secret")
    );
    assert_eq!(
        options.conninfo.connect_timeout.map(|time| time.as_secs()),
        Some(12)
    );
    assert_eq!(
        options
            .conninfo
            .keepalives
            .user_timeout
            .map(|time| time.as_secs()),
        Some(12)
    );
    assert_eq!(options.slot.name.as_deref(), Some("ferry"));
    assert!(options.slot.create && !options.streaming && !options.progress);
    assert_eq!(options.workers, Some(2));
    assert_eq!(options.memory_limit, 32 << 20);
    assert_eq!(options.status_interval.as_secs(), 5);
    assert_eq!(options.flush_interval.as_millis(), 20);
    assert_eq!(options.retries.most, Some(3));
    assert_eq!(options.retries.wait.map(|wait| wait.as_millis()), Some(250));
    assert_eq!(options.state_dir, Some("/var/lib/ferry/state".into()));
    assert!(options.sink.name().contains("/var/lib/ferry/a b"));
    assert!(options.tables.passes("sales", "orders"));
    assert!(!options.tables.passes("sales", "other"));
    assert_eq!(
        options.further_plugin_options,
        [("message_prefixes".to_owned(), "audit*".to_owned())]
    );
    assert_eq!(
        options.pushed_columns.as_deref(),
        Some("sales.orders(id,total)")
    );
}

#[test]
fn flags_win_over_the_file() {
    let files = Files::new(&[("walferry.yaml", WHOLE)]);
    let options = files
        .run(
            "--config walferry.yaml --source postgres://u@other/d --slot mine --sink null \
             --tables a.* --memory-limit 16MB --streaming on --flush-interval 1s --workers 7 \
             --plugin-option columns=a.b(c)",
        )
        .expect("options");
    assert_eq!(options.conninfo.to_string(), "u@other:5432/d");
    assert_eq!(options.slot.name.as_deref(), Some("mine"));
    assert_eq!(options.sink.name(), "null");
    assert!(options.tables.passes("a", "x") && !options.tables.passes("sales", "orders"));
    assert_eq!(options.memory_limit, 16 << 20);
    assert!(options.streaming);
    assert_eq!(options.flush_interval.as_secs(), 1);
    assert_eq!(options.workers, Some(7));
    assert_eq!(
        options.further_plugin_options[0],
        ("columns".to_owned(), "a.b(c)".to_owned())
    );
    assert_eq!(options.pushed_columns, None);
}

#[test]
fn three_files_say_the_same_as_one() {
    let files = Files::new(&[
        (
            "connection.yaml",
            "type: POSTGRESQL\nhost: h\nport: 5433\ndatabase: d\nusername: u\npassword: p\nreplication-slots:\n  ferry:\n    - walferry\n",
        ),
        ("filter.yaml", "allow:\n  catalog: d\n  schema: s\n"),
        ("extractor.yaml", "realtime:\n  threads: 3\n"),
    ]);
    let options = files
        .run("--connection connection.yaml --filter filter.yaml --extractor extractor.yaml --sink null")
        .expect("options");
    assert_eq!(options.conninfo.to_string(), "u@h:5433/d");
    assert_eq!(options.slot.name.as_deref(), Some("ferry"));
    assert!(options.tables.passes("s", "any") && !options.tables.passes("t", "any"));
    assert_eq!(options.workers, Some(3));
}

#[test]
fn a_section_and_a_file_for_it_are_one_too_many() {
    let files = Files::new(&[
        (
            "walferry.yaml",
            "filter: {allow: {schema: a}}\nsink: 'null'\n",
        ),
        ("filter.yaml", "allow: {schema: b}\n"),
    ]);
    let failure = files.refused("--config walferry.yaml --filter filter.yaml");
    assert!(
        failure
            .message
            .ends_with("there is a section filter, and a file with one")
    );
    assert_eq!(
        failure.hint.as_deref(),
        Some("leave the section out, or --filter")
    );
}

#[test]
fn what_this_version_can_not_run_stops_the_run() {
    for (text, expected) in [
        ("extractor: {snapshot: {threads: 1}}\n", "section snapshot"),
        (
            "extractor: {delta-snapshot: {update-key: [a]}}\n",
            "section delta-snapshot",
        ),
        ("mode: full\n", "mode full"),
    ] {
        let files = Files::new(&[("walferry.yaml", text)]);
        let failure = files.refused("--config walferry.yaml --sink null");
        assert!(failure.message.contains(expected), "{text}: {failure}");
        assert!(failure.message.contains("later"), "{text}: {failure}");
        assert!(failure.hint.is_some(), "{text}");
    }
}

#[test]
fn a_snapshot_section_is_passed_over_only_when_the_mode_is_said() {
    let text = "extractor: {snapshot: {threads: 1}}\nsink: 'null'\n";
    let files = Files::new(&[("walferry.yaml", text)]);
    assert!(files.run("--config walferry.yaml --mode realtime").is_ok());
    let text = format!("{text}mode: realtime\n");
    let files = Files::new(&[("walferry.yaml", &text)]);
    assert!(files.run("--config walferry.yaml").is_ok());
}

#[test]
fn a_slot_that_is_typed_is_the_one_that_is_read() {
    let text = "connection: {replication-slots: {a: wal2json, b: wal2json}}\nsink: 'null'\n";
    let files = Files::new(&[("walferry.yaml", text)]);
    let options = files
        .run("--config walferry.yaml --slot mine")
        .expect("options");
    assert_eq!(options.slot.name.as_deref(), Some("mine"));
}

#[test]
fn a_catalog_is_the_database_that_is_connected_to() {
    let text = "connection: {host: h, database: d}\nfilter:\n  allow:\n    catalog: other\n";
    let files = Files::new(&[("walferry.yaml", text)]);
    let failure = files.refused("--config walferry.yaml --sink null");
    assert!(
        failure.message.ends_with(
            "walferry.yaml:4:14: catalog \"other\" is not the database that is connected to, \"d\""
        ),
        "{failure}"
    );
    let same = "--config walferry.yaml --sink null --source postgres://u@h/other";
    assert!(files.run(same).is_ok());
}

#[test]
fn no_sink_is_a_mistake_with_a_cure() {
    let files = Files::new(&[("walferry.yaml", "slot: a\n")]);
    let failure = files.refused("--config walferry.yaml");
    assert_eq!(failure.message, "no sink is named");
}

#[test]
fn null_without_quotes_is_the_sink_of_that_name() {
    let files = Files::new(&[("walferry.yaml", "sink: null\n")]);
    let sink = files
        .run("--config walferry.yaml")
        .map(|options| options.sink.name());
    assert_eq!(sink.ok().as_deref(), Some("null"));
}

#[test]
fn a_retry_count_of_the_file_reaches_the_run() {
    let folder = Files::new(&[(
        "walferry.yaml",
        // A port that refuses; a named slot, so that the run would come back to it.
        "connection: {host: 127.0.0.1, port: 1, database: d, username: u, max-retries: 2, retry-wait-duration-ms: 10}\nslot: s\nsink: null\n",
    )]);
    let output = Command::new(env!("CARGO_BIN_EXE_walferry"))
        .args(["run", "--config"])
        .arg(folder.path("walferry.yaml"))
        .env_remove("RUST_LOG")
        .arg("--state-dir")
        .arg(folder.path("state"))
        .output()
        .expect("run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("giving up after 2 retries"), "{errors}");
}

#[test]
fn validate_says_what_it_understood_and_hides_the_password() {
    let files = Files::new(&[(
        "walferry.yaml",
        &WHOLE.replace("it's \\ a secret", "hunter2"),
    )]);
    let output = Command::new(env!("CARGO_BIN_EXE_walferry"))
        .args(["config", "validate"])
        .arg(files.path("walferry.yaml"))
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in [
        "source: database shop on db.example:6000 as ferry, with a password",
        "slot: ferry with plugin walferry, made if it is missing",
        "table: sales.orders, columns id, total",
        "table: sales.returns, whole",
        "left out: sales.tmp_*",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("hunter2"));
}

#[test]
fn validate_exits_2_with_every_mistake() {
    let files = Files::new(&[(
        "walferry.yaml",
        "connection: {port: x, password: hunter2}\nmode: y\n",
    )]);
    let output = Command::new(env!("CARGO_BIN_EXE_walferry"))
        .args(["config", "validate"])
        .arg(files.path("walferry.yaml"))
        .output()
        .expect("run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors.contains("walferry.yaml:1:20: port: expected"),
        "{errors}"
    );
    assert!(
        errors.contains("walferry.yaml:2:7: mode: expected"),
        "{errors}"
    );
    assert!(
        errors.contains("the configuration has 2 mistakes"),
        "{errors}"
    );
    assert!(!errors.contains("hunter2"));
}
