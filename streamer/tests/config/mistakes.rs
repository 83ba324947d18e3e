//! What can't be meant: named with its place, its key and its cure, and never
//! with a secret.

use walferry_streamer::config::Kind;

use crate::{messages, read, understood};

fn mistakes(kind: Kind, text: &str) -> Vec<String> {
    messages(&read(Some(kind), text).2.errors)
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
    for (kind, text, expected) in [
        (
            Kind::Connection,
            "host: a\npasword: b\n",
            "f.yaml:2:1: unknown key \"pasword\" | did you mean \"password\"?",
        ),
        (
            Kind::Connection,
            "Max_Connections: 3\n",
            "f.yaml:1:1: unknown key \"Max_Connections\" | did you mean \"max-connections\"?",
        ),
        (
            Kind::Filter,
            "allow:\n  allow:\n    t:\n      condition: a\n",
            "f.yaml:4:7: unknown key \"condition\" | did you mean \"conditions\"?",
        ),
        (
            Kind::Filter,
            "allow:\n- schema: a\n- shema: b\n",
            "f.yaml:3:3: unknown key \"shema\" | did you mean \"schema\"?",
        ),
        (
            Kind::Extractor,
            "realtime:\n  heartbeat:\n    tablename: x\n",
            "f.yaml:3:5: unknown key \"tablename\" | did you mean \"table-name\"?",
        ),
        (
            Kind::Job,
            "sink:\n  file:\n    pth: /x\n",
            "f.yaml:3:5: unknown key \"pth\" | did you mean \"path\"?",
        ),
        (
            Kind::Job,
            "sink: stdout\nusername: u\n",
            "f.yaml:2:1: unknown key \"username\" | it is a key of connection: write it below that",
        ),
        (
            Kind::Filter,
            "allow:\n  zebra: 1\n",
            "f.yaml:2:3: unknown key \"zebra\" | the keys here are catalog, schema, types, allow",
        ),
        (
            Kind::Filter,
            "host: a\nport: 1\n",
            "f.yaml:1:1: unknown key \"host\" | this looks like a file for --connection; here a filter is expected",
        ),
    ] {
        assert_eq!(mistakes(kind, text), [expected], "{text}");
    }
}

#[test]
fn all_mistaken_values_are_named_at_once_in_the_order_of_the_lines() {
    let text = "\
sink: kafkaa
mode: fast
connection:
  port: 70000
  max-retries: ${NO_NUMBER}
  replication-slots:
    Upper: wal2json
    two: [wal2json, pgoutput]
    three: decoderbufs
values:
  bytea: base32
logging:
  level: loud,=
";
    assert_eq!(
        mistakes(Kind::Job, text),
        [
            "f.yaml:1:7: sink: unknown sink \"kafkaa\" | use stdout, null or file:///dir/or/name.jsonl",
            "f.yaml:2:7: mode: expected full, realtime, snapshot or delta-snapshot, not \"fast\"",
            "f.yaml:4:9: port: expected a number from 1 to 65535, not \"70000\"",
            "f.yaml:5:16: max-retries: expected a whole number, not \"${NO_NUMBER}\"",
            "f.yaml:7:5: replication-slots: \"Upper\" can't be the name of a slot | a slot's name has lower-case letters, digits and underscores, 63 at most",
            "f.yaml:8:5: replication-slots: a slot has one output plugin, the one it was created with | name each slot once, with one plugin below it",
            "f.yaml:9:12: replication-slots: expected auto, walferry, wal2json or pgoutput, not \"decoderbufs\"",
            "f.yaml:11:10: bytea: expected base64 or hex, not \"base32\"",
            "f.yaml:13:10: level: \"loud,=\" is not a log level | the levels are error, warn, info, debug and trace",
        ]
    );
}

#[test]
fn what_is_said_twice_is_a_mistake() {
    for (kind, text, expected) in [
        (
            Kind::Connection,
            "host: a\nhost: b\n",
            "f.yaml:2:1: the key \"host\" is given twice",
        ),
        (
            Kind::Job,
            "source: a\nconnection: {host: b}\n",
            "f.yaml:1:9: there is both a source and a connection | write the source's settings in connection, or its URL in source",
        ),
        (
            Kind::Job,
            "slot: a\nconnection: {replication-slots: {b: wal2json}}\n",
            "f.yaml:1:7: there is both a slot and connection.replication-slots | name the slot once",
        ),
        (
            Kind::Job,
            "tables: a.b\nfilter: {allow: {schema: b}}\n",
            "f.yaml:1:9: there are both tables and a filter | write the tables in filter; exclude-tables goes with either",
        ),
        (
            Kind::Filter,
            "allow:\n  schema: s\n  allow: [t, t]\n",
            "f.yaml:3:14: allow: table \"t\" is given twice",
        ),
        (
            Kind::Filter,
            "allow:\n- {schema: s, allow: {t: {allow: [a]}}}\n- {schema: s*, allow: [t*]}\n",
            "f.yaml:3:24: allow: \"t*\" and \"t\" may be the same table, with different columns | write one rule a table, or the same columns in both",
        ),
    ] {
        assert_eq!(mistakes(kind, text), [expected], "{text}");
    }
}

#[test]
fn one_connection_is_too_few_to_stream_but_enough_to_poll() {
    assert_eq!(
        mistakes(Kind::Connection, "max-connections: 1\n"),
        [
            "f.yaml:1:18: max-connections: 1 is too few: of each slot one connection reads and one asks | write 2 or more"
        ]
    );
    understood(
        Kind::Connection,
        "max-connections: 1\nlog-reader-type: SQL\n",
    );
}

#[test]
fn ssl_that_can_not_work_is_a_mistake() {
    for (text, expected) in [
        (
            "ssl: {ssl-cert: /k}\n",
            "ssl: there is a certificate, but no key",
        ),
        (
            "ssl: {mode: verify-ca}\n",
            "ssl: mode verify-ca needs to know who may sign",
        ),
        (
            "ssl: {mode: verified}\n",
            "mode: expected disable, allow, prefer, require, verify-ca or verify-full, not \"verified\"",
        ),
    ] {
        let found = read(Some(Kind::Connection), text).2.errors;
        assert_eq!(found[0].message, expected, "{text}");
    }
}

#[test]
fn a_missing_variable_is_named() {
    assert_eq!(
        mistakes(Kind::Connection, "host: a\npassword: ${GONE}\n"),
        ["f.yaml:2:11: password: the environment variable GONE is not set"]
    );
    assert_eq!(
        mistakes(Kind::Connection, "password: ${file:/nonexistent/p}\n"),
        [
            "f.yaml:1:11: password: the file /nonexistent/p cannot be read: No such file or directory (os error 2)"
        ]
    );
}

#[test]
fn variables_are_filled_in_in_any_value() {
    let text = "port: ${FERRY_PORT}\npassword: ${FERRY_PASSWORD}\nhost: ${GONE:-localhost}\n";
    let (configuration, _) = understood(Kind::Connection, text);
    let connection = configuration.connection;
    assert_eq!(connection.port.map(u16::from), Some(6543));
    assert_eq!(connection.host.as_deref(), Some("localhost"));
    assert_eq!(
        connection
            .password
            .map(|password| password.expose().to_owned())
            .as_deref(),
        Some("hunter2")
    );
}

#[test]
fn a_password_that_looks_like_a_number_stays_as_it_was_written() {
    for (written, expected) in [
        ("0123", "0123"),
        ("1e3", "1e3"),
        ("yes", "yes"),
        ("'null'", "null"),
    ] {
        let (configuration, _) = understood(Kind::Connection, &format!("password: {written}\n"));
        let password = configuration.connection.password.expect("password");
        assert_eq!(password.expose(), expected);
    }
}

/// A secret near every kind of mistake the parser and the checks can make.
#[test]
fn no_message_shows_a_secret() {
    for text in [
        "password: hunter2\nhots: a\n",
        "hots: a\npassword: hunter2\n",
        "host: [a\npassword: hunter2\n",
        "password: \"hunter2\nhost: a\n",
        "password: 'hunter2\n",
        "password: {hunter2}\n",
        "password: [hunter2]\n",
        "password: {a: hunter2}\n",
        "password: *hunter2\n",
        "password: !hunter2 x\n",
        "password: &hunter2\n",
        "password: @hunter2\n",
        "password: `hunter2\n",
        "password: %hunter2\n",
        "password: a: hunter2\n",
        "password: >hunter2\n",
        "password: |hunter2\n",
        "password: ${hunter2 x}\n",
        "password: ${hunter2\n",
        "password:\n\thunter2\n",
        "password: hunter2\npassword: hunter2\n",
        "password: hunter2\nport: no\n",
        "password: hunter2\nssl: hunter2\n",
        "ssl: [hunter2]\n",
        "replication-slots: hunter2\n",
        "max-retries: ${NO_NUMBER}\n",
        "port: ${FERRY_PASSWORD}\n",
        "log-reader-type: ${FERRY_PASSWORD}\n",
        "password: \"\\hunter2\"\n",
        "--- hunter2\n--- b\n",
        "hunter2\n",
        "- hunter2\n",
    ] {
        for kind in [
            Some(Kind::Connection),
            Some(Kind::Job),
            Some(Kind::Filter),
            None,
        ] {
            for indent in ["", "connection:\n"] {
                let nested: String = if indent.is_empty() {
                    text.to_owned()
                } else {
                    let lines: Vec<String> =
                        text.lines().map(|line| format!("  {line}\n")).collect();
                    format!("{indent}{}", lines.concat())
                };
                let (_, configuration, report) = read(kind, &nested);
                let shown = format!(
                    "{:?} {:?} {configuration:?} {report:?} {:?}",
                    messages(&report.errors),
                    messages(&report.warnings),
                    report.result(),
                );
                assert!(!shown.contains("hunter2"), "{nested}\n{shown}");
            }
        }
    }
}

#[test]
fn the_source_url_is_a_secret_too() {
    let (_, configuration, report) = read(
        Some(Kind::Job),
        "source: postgres://u:hunter2@h/d\nsnik: x\n",
    );
    assert!(!format!("{configuration:?} {report:?}").contains("hunter2"));
    let (configuration, _) = understood(Kind::Job, "source: postgres://u:hunter2@h/d\n");
    assert!(!format!("{configuration:?}").contains("hunter2"));
}

#[test]
fn views_alone_can_not_be_streamed() {
    let (_, report) = understood(Kind::Filter, "allow: {schema: s, types: [VIEW]}\n");
    assert!(report.later[0].message.contains("views can only be copied"));
    let (_, report) = understood(Kind::Filter, "allow: {schema: s, types: [TABLE, VIEW]}\n");
    assert!(
        report.warnings[0]
            .message
            .contains("only tables go through")
    );
    assert_eq!(report.later, []);
}

#[test]
fn filters_by_update_and_operation_become_rules() {
    let text = "allow: {allow: {t: {allow-update-any: [a], allow-update-all: [b], operations: [INSERT]}}}\n";
    let (configuration, report) = understood(Kind::Filter, text);
    let table = &configuration.filter.allow[0]
        .tables
        .as_ref()
        .expect("tables")[0];
    assert_eq!(table.update_any, ["a"]);
    assert_eq!(table.update_all, ["b"]);
    assert_eq!(report.later, []);
    let rules = configuration.filter.rules().unwrap();
    assert!(rules[0].pattern.passes("any", "t"));
    assert!(rules[0].operations.insert && !rules[0].operations.delete);
    assert_eq!(rules[0].reads().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_condition_that_is_not_known_is_a_mistake_in_the_file() {
    for (condition, expected) in [
        (
            "a ~ 'x'",
            "f.yaml:1:33: conditions: the operator ~ is not known here at character 1",
        ),
        (
            "a = soundex(b)",
            "f.yaml:1:33: conditions: the function soundex is not known here at character 5",
        ),
    ] {
        let text = format!("allow: {{allow: {{t: {{conditions: \"{condition}\"}}}}}}\n");
        let messages = mistakes(Kind::Filter, &text);
        assert!(messages[0].starts_with(expected), "{messages:?}");
    }
}

#[test]
fn rules_that_may_be_of_one_table_say_the_same() {
    let text = "allow: {allow: {'t*': {conditions: a > 1}, t1: {conditions: a > 2}}}\n";
    let messages = mistakes(Kind::Filter, text);
    assert!(
        messages[0].contains("with different conditions"),
        "{messages:?}"
    );
}

#[test]
fn names_that_the_plugin_reads_otherwise_are_escaped() {
    let text =
        "allow: {schema: 'Odd.schema', allow: {'a,b (c)': {allow: ['x\"y', plain]}, 't_*': }}\n";
    let (configuration, _) = understood(Kind::Filter, text);
    assert_eq!(
        configuration.filter.table_patterns(),
        [r"Odd\.schema.a\,b\ \(c\)", r"Odd\.schema.t_*"]
    );
    assert_eq!(
        configuration.filter.column_rules(&[]).as_deref(),
        Some(r#"Odd\.schema.a\,b\ \(c\)("x""y",plain)"#)
    );
    let checked = walferry_streamer::source::table_filter::TableFilter::new(
        &configuration.filter.table_patterns(),
        &[],
    )
    .expect("readable");
    assert!(checked.passes("Odd.schema", "a,b (c)"));
    assert!(checked.passes("Odd.schema", "t_1"));
    assert!(!checked.passes("Odd.schema", "a"));
}

#[test]
fn an_inner_allow_may_be_a_list_and_the_outer_one_too() {
    let text = "allow:\n- schema: a\n- schema: b\n  allow:\n  - t\n  - u: {allow: [x]}\n";
    let (configuration, _) = understood(Kind::Filter, text);
    assert_eq!(configuration.filter.table_patterns(), ["a.*", "b.t", "b.u"]);
    assert_eq!(
        configuration.filter.column_rules(&[]).as_deref(),
        Some("b.u(x)")
    );
}

#[test]
fn a_filter_that_lets_nothing_through_is_a_mistake() {
    assert_eq!(
        mistakes(Kind::Filter, "allow:\n  schema: a\n  allow: []\n"),
        [
            "f.yaml:2:11: allow: the list of tables is empty, so nothing would go through | name tables, or leave the inner allow out to take all of them"
        ]
    );
}
