//! Captured DDL in the stream: schema changes in order with the data, the same
//! through every plugin, to the sink only when they are asked for.

use std::time::Duration;

use serde_json::{Value, json};
use walferry_tests::{Exit, Server, Streamer};

const TIME: Duration = Duration::from_secs(60);

fn reading(server: &Server, slot: &str, arguments: &[&str]) -> Exit {
    let end = server.flushed_lsn().to_string();
    Streamer::run(&server.url(), slot)
        .args(["--sink", "stdout", "--until-lsn", &end])
        .args(arguments.iter().copied())
        .run(TIME)
        .expect_code(0)
}

fn events(exit: &Exit) -> Vec<Value> {
    exit.stdout
        .iter()
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).expect("JSON");
            // When it was encoded.
            event.as_object_mut().expect("an object").remove("ts_ms");
            event
        })
        .collect()
}

/// `c public.t 1`, `s ALTER TABLE: ALTER "public"."t"`, and so on.
fn told(events: &[Value]) -> Vec<String> {
    events
        .iter()
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let source = &event["source"];
            if event["op"] != "s" {
                let row = if event["after"].is_null() {
                    &event["before"]
                } else {
                    &event["after"]
                };
                return format!(
                    "{} {}.{} {}",
                    text(&event["op"]),
                    text(&source["schema"]),
                    text(&source["table"]),
                    row["id"]
                );
            }
            let tables: Vec<String> = event["tableChanges"]
                .as_array()
                .expect("tableChanges")
                .iter()
                .map(|table| format!("{} {}", text(&table["type"]), text(&table["id"])))
                .collect();
            let event_name = match text(&event["event"]).as_str() {
                "ddl_command_end" => "",
                "sql_drop" => "drop, ",
                _ => "rewrite, ",
            };
            format!(
                "s {event_name}{}: {}",
                text(&event["command"]),
                tables.join(", ")
            )
            .trim_end()
            .to_owned()
        })
        .collect()
}

/// What is forged, copied or removed beside the real ones.
const WORKLOAD: &str = "
CREATE TABLE t (id int PRIMARY KEY, n int);
INSERT INTO t VALUES (1, 1);
BEGIN;
INSERT INTO t VALUES (2, 2);
ALTER TABLE t ADD note text DEFAULT 'it''s';
INSERT INTO t VALUES (3, 3, 'x');
SAVEPOINT s;
ALTER TABLE t ADD undone int;
INSERT INTO t VALUES (4, 4, 'y', 4);
ROLLBACK TO s;
INSERT INTO t VALUES (5, 5, 'z');
COMMIT;
ALTER TABLE t ALTER n TYPE numeric(10,2);
CREATE TABLE copied AS SELECT id FROM t WHERE id < 3;
DO $$ BEGIN EXECUTE 'CREATE TABLE hidden (id int PRIMARY KEY, password text)'; END $$;
CREATE TYPE mood AS ENUM ('a', 'b');
BEGIN; CREATE TABLE never (id int); INSERT INTO never VALUES (9); ROLLBACK;
CREATE TEMP TABLE passing (id int);
INSERT INTO t VALUES (6, 6, 'w');
DELETE FROM t WHERE id = 6;
SELECT walferry.heartbeat('beats');
SELECT pg_logical_emit_message(true, 'walferry.ddl_log', '{\"command_tag\": \"DROP TABLE\"}');
INSERT INTO walferry.ddl_log (at, txid, login, event, command_tag, objects, tables)
  VALUES (now(), 7, 'x', 'sql_drop', 'DROP TABLE', '[]', '[]');
DROP TABLE t, copied;
";

/// The workload as it is told.
const EVERYTHING: &[&str] = &[
    "s CREATE TABLE: CREATE \"public\".\"t\"",
    "c public.t 1",
    "c public.t 2",
    "s ALTER TABLE: ALTER \"public\".\"t\"",
    "c public.t 3",
    "c public.t 5",
    "s rewrite, ALTER TABLE:",
    "s ALTER TABLE: ALTER \"public\".\"t\"",
    // Its rows come first.
    "c public.copied 1",
    "c public.copied 2",
    "s CREATE TABLE AS: CREATE \"public\".\"copied\"",
    "s CREATE TABLE: CREATE \"public\".\"hidden\"",
    "s CREATE TYPE:",
    "c public.t 6",
    "d public.t 6",
    "m . null",
    "s drop, DROP TABLE: DROP \"public\".\"copied\", DROP \"public\".\"t\"",
];

#[test]
fn schema_changes_come_in_order_with_the_data_and_the_same_through_every_plugin() {
    let server = Server::start_default();
    server.sql("CREATE EXTENSION walferry; CREATE PUBLICATION everything FOR ALL TABLES");
    // So few that each command removes the one before.
    server.sql("SELECT walferry.ddl_capture_on(keep_rows => 1)");
    let slots: &[(&str, &str, &[&str])] = &[
        ("native", "walferry", &["--schema-changes"]),
        (
            "small_memory",
            "walferry",
            &[
                "--schema-changes",
                "--exclude-tables",
                "walferry.*,*.nothing",
            ],
        ),
        (
            "wal2json_2",
            "wal2json",
            &["--schema-changes", "--exclude-tables", "walferry.*"],
        ),
        (
            "wal2json_1",
            "wal2json",
            &["--schema-changes", "--plugin-option", "format-version=1"],
        ),
        (
            "pgoutput",
            "pgoutput",
            &["--schema-changes", "--publication", "everything"],
        ),
        (
            "binary",
            "pgoutput",
            &[
                "--schema-changes",
                "--publication",
                "everything",
                "--plugin-option",
                "binary=true",
            ],
        ),
        ("without", "walferry", &[]),
        (
            "some",
            "walferry",
            &["--schema-changes", "--tables", "public.copied"],
        ),
        ("own", "walferry", &["--own-events"]),
        ("samples", "walferry", &["--tables", "walferry.wal_samples"]),
        (
            "named",
            "walferry",
            &[
                "--tables",
                "walferry.heartbeats,public.none",
                "--schema-changes",
            ],
        ),
    ];
    for (slot, plugin, _) in slots {
        server.create_slot(slot, plugin);
    }
    server.psql("postgres", WORKLOAD);
    let mut read = slots.iter().map(|(slot, _, arguments)| {
        let exit = reading(&server, slot, arguments);
        (*slot, events(&exit), exit.stderr.join("\n"))
    });

    let (_, native, said) = read.next().unwrap();
    assert_eq!(told(&native), EVERYTHING);
    assert!(
        said.contains("schema changes of database \"postgres\" are captured"),
        "{said}"
    );
    assert!(
        said.contains("was written by something else than the event triggers"),
        "{said}"
    );
    for _ in 0..5 {
        let (slot, events, _) = read.next().unwrap();
        if slot == "wal2json_1" {
            // It does not tell which message is transactional, nor TRUNCATE; of these the order is enough.
            assert_eq!(told(&events), told(&native), "{slot}");
            continue;
        }
        for (one, other) in events.iter().zip(&native) {
            assert_eq!(one, other, "{slot} (left) and the native plugin");
        }
        assert_eq!(events.len(), native.len(), "{slot}");
    }
    let (_, without, _) = read.next().unwrap();
    let rows: Vec<&str> = EVERYTHING
        .iter()
        .filter(|event| !event.starts_with('s'))
        .copied()
        .collect();
    assert_eq!(told(&without), rows);
    // The ids are those that the rows have anyhow.
    let ids = |events: &[Value]| {
        events
            .iter()
            .filter(|event| event["op"] != "s")
            .map(|event| {
                (
                    event["source"]["lsn"].clone(),
                    event["source"]["change_lsn"].clone(),
                    event["source"]["seq"].clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&without), ids(&native));

    let (_, some, _) = read.next().unwrap();
    assert_eq!(
        told(&some),
        [
            "c public.copied 1",
            "c public.copied 2",
            "s CREATE TABLE AS: CREATE \"public\".\"copied\"",
            "s CREATE TYPE:",
            "m . null",
            "s drop, DROP TABLE: DROP \"public\".\"copied\"",
        ]
    );
    let dropped = some.last().unwrap();
    assert_eq!(dropped["ddl"], json!(null));
    assert_eq!(dropped["ddlAbsent"], "it names what is not replicated");

    let (_, own, _) = read.next().unwrap();
    let own = told(&own);
    assert!(
        own.iter()
            .any(|event| event.starts_with("c walferry.ddl_log")),
        "{own:#?}"
    );
    assert!(
        own.iter()
            .any(|event| event.starts_with("c walferry.heartbeats")),
        "{own:#?}"
    );
    assert!(
        !own.iter()
            .any(|event| event.starts_with("d walferry.ddl_log")),
        "{own:#?}"
    );
    assert!(
        own.contains(&"c walferry.wal_samples null".to_owned()),
        "{own:#?}"
    );
    let (_, samples, _) = read.next().unwrap();
    assert_eq!(told(&samples), ["c walferry.wal_samples null", "m . null"]);
    let (_, named, _) = read.next().unwrap();
    assert_eq!(
        told(&named),
        ["s CREATE TYPE:", "c walferry.heartbeats null", "m . null"]
    );

    // One event whole.
    let altered = &native[3];
    assert_eq!(
        altered["ddl"],
        "ALTER TABLE t ADD note text DEFAULT 'it''s'"
    );
    assert_eq!(
        (&altered["before"], &altered["after"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(altered["databaseName"], "postgres");
    assert_eq!(altered["schemaName"], "public");
    assert_eq!(altered["source"]["schema"], "public");
    assert_eq!(altered["source"]["table"], "t");
    assert_eq!(altered["source"]["txId"], native[2]["source"]["txId"]);
    assert_eq!(altered["source"]["lsn"], native[2]["source"]["lsn"]);
    assert_eq!(altered["transaction"], native[2]["transaction"]);
    assert!(altered["source"]["ddl_id"].as_u64().unwrap() > 0);
    let table = &altered["tableChanges"][0]["table"];
    assert_eq!(table["primaryKeyColumnNames"], json!(["id"]));
    assert_eq!(table["replicaIdentityColumnNames"], json!(["id"]));
    assert_eq!(
        table["columns"],
        json!([
            {
                "name": "id", "position": 1, "attnum": 1, "nativeType": 23, "typeName": "integer", "typeExpression": "integer",
                "typeModifier": -1, "length": null, "scale": null, "optional": false, "autoIncremented": false,
                "generated": false, "hasDefaultValue": false, "defaultValueExpression": null
            },
            {
                "name": "n", "position": 2, "attnum": 2, "nativeType": 23, "typeName": "integer", "typeExpression": "integer",
                "typeModifier": -1, "length": null, "scale": null, "optional": true, "autoIncremented": false,
                "generated": false, "hasDefaultValue": false, "defaultValueExpression": null
            },
            {
                "name": "note", "position": 3, "attnum": 3, "nativeType": 25, "typeName": "text", "typeExpression": "text",
                "typeModifier": -1, "length": null, "scale": null, "optional": true, "autoIncremented": false,
                "generated": false, "hasDefaultValue": true, "defaultValueExpression": "'it''s'::text",
                "valueOfOlderRows": "it's"
            },
        ])
    );
    let rewritten = &native[6];
    assert_eq!(
        rewritten["objects"][0]["rewriteReasons"],
        json!(["column type"])
    );
    let numeric = &native[7]["tableChanges"][0]["table"]["columns"][1];
    assert_eq!(
        (&numeric["typeName"], &numeric["length"], &numeric["scale"]),
        (&json!("numeric"), &json!(10), &json!(2))
    );
    assert_eq!(native[11]["ddl"], json!(null));
    assert!(
        native[11]["ddlAbsent"]
            .as_str()
            .unwrap()
            .contains("inside a function")
    );
    assert_eq!(native[12]["objects"][0]["enumValues"], json!(["a", "b"]));
    assert_eq!(native[16]["tableChanges"][0]["table"], json!(null));
}

/// What has to be there for schema changes to come, and what is said when it is not.
#[test]
fn what_keeps_schema_changes_from_coming_is_said_with_its_cure() {
    let server = Server::start_default();
    server.sql("CREATE TABLE item (id int PRIMARY KEY); CREATE PUBLICATION bare FOR TABLE item");
    let end = server.flushed_lsn().to_string();
    let run = |arguments: &[&str]| {
        let exit = Streamer::builder()
            .args([
                "run",
                "--source",
                &server.url(),
                "--sink",
                "stdout",
                "--until-lsn",
                &end,
                "--schema-changes",
            ])
            .args(arguments.iter().copied())
            .run(TIME)
            .expect_code(0);
        exit.stderr.join("\n")
    };
    let check = |arguments: &[&str]| {
        let exit = Streamer::builder()
            .args([
                "check",
                "--source",
                &server.url(),
                "--schema-changes",
                "--json",
            ])
            .args(arguments.iter().copied())
            .run(TIME);
        let report: Value = serde_json::from_str(&exit.stdout.join("\n")).expect("JSON");
        let found = report["findings"].as_array().expect("findings").iter();
        found
            .filter(|finding| finding["code"] == "ddl_capture")
            .map(|finding| {
                format!(
                    "{} {} {}",
                    finding["verdict"], finding["finding"], finding["fix"]
                )
            })
            .collect::<Vec<_>>()
            .join("\n")
    };
    let said = run(&[]);
    assert!(
        said.contains("CREATE EXTENSION walferry; SELECT walferry.ddl_capture_on()"),
        "{said}"
    );
    let found = check(&[]);
    assert!(
        found.contains("\"warn\"") && found.contains("CREATE EXTENSION walferry"),
        "{found}"
    );
    server.sql("CREATE EXTENSION walferry");
    let said = run(&[]);
    assert!(said.contains("is not captured, so no schema changes will come; as a superuser: SELECT walferry.ddl_capture_on()"), "{said}");
    let found = check(&[]);
    assert!(found.contains("DDL is not captured"), "{found}");
    server.sql("SELECT walferry.ddl_capture_on()");
    assert!(!run(&[]).contains("is not captured"));
    let found = check(&[]);
    assert!(
        found.contains("\"pass\"") && found.contains("DDL is captured"),
        "{found}"
    );

    // A publication that is there and does not have the log.
    let pgoutput =
        |publication: &'static str| ["--plugin", "pgoutput", "--publication", publication];
    let cure = "ALTER PUBLICATION \"bare\" ADD TABLE \"walferry\".\"ddl_log\"";
    let said = run(&pgoutput("bare"));
    assert!(said.contains(cure), "{said}");
    let found = check(&pgoutput("bare"));
    assert!(
        found.contains("ALTER PUBLICATION \\\"bare\\\" ADD TABLE walferry.ddl_log"),
        "{found}"
    );
    server.sql(cure);
    let said = run(&pgoutput("bare"));
    assert!(!said.contains("walferry.ddl_log"), "{said}");
    // One that the run makes has it, whatever the tables are; and nothing of ours that is not needed.
    run(&[
        pgoutput("made").as_slice(),
        &["--slot", "made", "--create-slot", "--tables", "public.item"],
    ]
    .concat());
    assert_eq!(
        server.texts_in("postgres", "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = 'made' ORDER BY 1"),
        ["public.item", "walferry.ddl_log", "walferry.heartbeats"]
    );
    server.sql("ALTER TABLE item ADD n int; INSERT INTO item VALUES (1, 2)");
    let told_by = told(&events(&reading(
        &server,
        "made",
        &[
            "--publication",
            "made",
            "--tables",
            "public.item",
            "--schema-changes",
        ],
    )));
    assert_eq!(
        told_by,
        [
            "s ALTER TABLE: ALTER \"public\".\"item\"",
            "c public.item 1"
        ]
    );
}
