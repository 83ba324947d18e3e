//! The command line: exit codes, help that teaches, passwords out of sight.

use std::fs;
use std::time::Duration;

use walferry_tests::{Exit, Server, Streamer, wait_until};

const SECONDS: Duration = Duration::from_secs(30);

fn walferry(arguments: &[&str]) -> Exit {
    Streamer::builder()
        .args(arguments.iter().copied())
        .run(SECONDS)
}

#[track_caller]
fn assert_usage_error(arguments: &[&str], parts: &[&str]) {
    let exit = walferry(arguments).expect_code(2);
    let text = exit.stderr.join("\n");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert_eq!(exit.stdout, [""; 0]);
}

#[test]
fn bad_usage_ends_with_2_one_clear_line_and_the_cure() {
    let source = "--source=postgres://u@/d";
    assert_usage_error(&["rum"], &["'rum'", "run"]);
    assert_usage_error(&["run", source], &["--sink"]);
    for (arguments, parts) in [
        (
            &["--mode", "full"][..],
            &[
                "--mode full comes with a later version",
                "hint: use --mode realtime",
            ][..],
        ),
        (
            &["--mode", "delta-snapshot"],
            &["--mode delta-snapshot comes with a later version"],
        ),
        (&["--slot", "No"], &["\"No\" is not a slot's name", "hint:"]),
        (&["--create-slot"], &["--create-slot needs --slot"]),
        (
            &["--until-lsn", "nonsense"],
            &["write it as PostgreSQL does"],
        ),
        (
            &["--tables", "orders"],
            &[
                "has no dot between schema and table",
                "hint: write schema.table",
            ],
        ),
        (&["--memory-limit", "lots"], &["is not a size", "100MB"]),
        (&["--log-level", "a=b=c"], &["is not a log level"]),
    ] {
        let all: Vec<&str> = ["run", source, "--sink", "null"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        assert_usage_error(&all, parts);
    }
    for (source, parts) in [
        (
            "postgres://u@h/d?sslmode=required",
            &["unknown sslmode \"required\"", "verify-full"][..],
        ),
        (
            "postgres://u@h/d?sslmode=verify-full&sslrootcert=/nowhere.pem",
            &["cannot read the root certificate file /nowhere.pem"],
        ),
        (
            "postgres://u@h/d?pasword=x",
            &[
                "unknown connection keyword \"pasword\"",
                "did you mean \"password\"?",
            ],
        ),
        (
            "postgres://u@h:port/d",
            &["a port in the connection settings is not a number"],
        ),
        (
            "mysql://u@h/d",
            &["neither a postgres:// URL nor a connection string"],
        ),
        (
            "service=nowhere",
            &["there is no connection service \"nowhere\"", "[nowhere]"],
        ),
    ] {
        assert_usage_error(&["run", "--sink", "null", "--source", source], parts);
        assert_usage_error(&["slot", "list", "--source", source], parts);
    }
    assert_usage_error(
        &["run", source, "--sink", "carrier-pigeon://"],
        &["unknown sink"],
    );
}

#[test]
fn help_has_examples_and_says_only_what_there_is() {
    let help = walferry(&["--help"]).expect_code(0).stdout.join("\n");
    assert!(help.contains("walferry run --source postgres://"), "{help}");
    assert!(
        help.contains("Exit codes: 0 done, 1 failed while running, 2 bad usage"),
        "{help}"
    );
    for later in ["status", "top", "verify"] {
        assert!(!help.contains(&format!("\n  {later}")), "{help}");
    }
    let help = walferry(&["run", "--help"])
        .expect_code(0)
        .stdout
        .join("\n");
    assert!(
        help.contains("--create-slot") && help.contains("Examples:"),
        "{help}"
    );
    let version = walferry(&["--version"]).expect_code(0).stdout.join("\n");
    assert!(version.starts_with("walferry "), "{version}");
}

#[test]
fn completions_are_printed_for_a_shell() {
    let script = walferry(&["completions", "bash"])
        .expect_code(0)
        .stdout
        .join("\n");
    assert!(script.contains("_walferry()") && script.contains("--create-slot"));
}

#[test]
fn a_complaint_about_the_command_line_does_not_repeat_a_password() {
    for words in [
        &["run", "postgres://u:hunter2@h/d"][..],
        &["run", "--sauce=postgres://u:hunter2@h/d"],
        &[
            "slot",
            "list",
            "--source",
            "postgres://u:hunter2@h/d?sslmode=requires",
        ],
        &[
            "slot",
            "list",
            "--source",
            "host=h password=hunter2 nonsense",
        ],
    ] {
        let exit = walferry(words).expect_code(2);
        let text = exit.stderr.join("\n");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_password_in_the_url_does_not_stay_in_the_process_list() {
    let server = Server::start_default();
    let mut blocker = server.client();
    blocker
        .batch_execute("CREATE TABLE t (id int); BEGIN; INSERT INTO t VALUES (1)")
        .unwrap();
    let url = server.url().replace("postgres@", "postgres:hunter2@");
    // Waits for the open transaction, so that there is time to look.
    let mut streamer = Streamer::builder()
        .args([
            "slot",
            "create",
            "s",
            "--plugin",
            "test_decoding",
            "--source",
            &url,
        ])
        .start();
    wait_until("the walsender", || {
        server
            .value::<i64>("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'")
            == 1
    });
    let shown = fs::read(format!("/proc/{}/cmdline", streamer.pid())).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("postgres://postgres:*******@/"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    streamer.terminate();
    streamer.wait(SECONDS).expect_code(1);
}

#[test]
fn log_lines_can_be_json() {
    let server = Server::start_default();
    let mut blocker = server.client();
    blocker
        .batch_execute("CREATE TABLE t (id int); BEGIN; INSERT INTO t VALUES (1)")
        .unwrap();
    let exit = Streamer::builder()
        .args([
            "--log-format",
            "json",
            "slot",
            "create",
            "s",
            "--plugin",
            "test_decoding",
            "--timeout",
            "3s",
            "--source",
            &server.url(),
        ])
        .run(SECONDS)
        .expect_code(1);
    let line: serde_json::Value = serde_json::from_str(&exit.stderr[0]).unwrap();
    assert_eq!(line["level"], "WARN");
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("waits for a transaction")
    );
}
