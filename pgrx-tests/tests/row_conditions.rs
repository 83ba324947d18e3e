//! Which of a table's changes a filter lets through: rows by a condition, with
//! what moves across it; UPDATEs by their columns; operations.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use walferry_tests::{Exit, Server, Streamer, StreamerBuilder};

const SECONDS: Duration = Duration::from_secs(60);

/// A run of slot `ferry` to stdout that ends at the WAL's present end.
fn until_now(server: &Server) -> StreamerBuilder {
    let end = server.flushed_lsn().to_string();
    Streamer::run(&server.url(), "ferry").args(["--sink", "stdout", "--until-lsn", &end])
}

fn write(server: &Server, name: &str, text: &str) -> PathBuf {
    let path = server.scratch_dir().join(name);
    fs::write(&path, text).expect("a file");
    path
}

/// Each event as its operation and what it shows of the row: `u {"id":1}`.
fn told(exit: &Exit) -> Vec<String> {
    exit.stdout
        .iter()
        .map(|line| {
            let event: Value = serde_json::from_str(line).expect("a JSON object");
            let op = event["op"].as_str().unwrap_or_default();
            let row = if op == "d" { "before" } else { "after" };
            format!("{op} {}", event[row])
        })
        .collect()
}

fn log(exit: &Exit) -> String {
    exit.stderr.join("\n")
}

#[test]
fn a_row_that_moves_across_the_condition_comes_and_goes() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE public.orders (id int PRIMARY KEY, price numeric, note text);
         ALTER TABLE public.orders REPLICA IDENTITY FULL;
         ALTER TABLE public.orders ALTER note SET STORAGE EXTERNAL;
         CREATE TABLE public.other (id int PRIMARY KEY)",
    );
    server.create_slot("ferry", "walferry");
    server.sql(
        "INSERT INTO public.orders VALUES (1, 5, 'low'), (2, 50.5, 'high'), (3, NULL, repeat('x', 9000));
         UPDATE public.orders SET price = 6 WHERE id = 1;
         UPDATE public.orders SET price = 60 WHERE id = 1;
         UPDATE public.orders SET note = 'more' WHERE id = 1;
         UPDATE public.orders SET price = 7 WHERE id = 2;
         UPDATE public.orders SET price = 100 WHERE id = 3;
         DELETE FROM public.orders WHERE id = 2;
         DELETE FROM public.orders WHERE id = 1;
         TRUNCATE public.orders;
         INSERT INTO public.other VALUES (9)",
    );
    let run = |condition: &str| {
        let exit = until_now(&server)
            .args(["--where", condition])
            .run(SECONDS)
            .expect_code(0);
        exit.stdout
            .iter()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect::<Vec<Value>>()
    };
    let events = run("public.orders: price >= 50 AND length(note) < 10000");
    let shown: Vec<(&str, &Value, &Value)> = events
        .iter()
        .map(|event| {
            (
                event["op"].as_str().unwrap_or_default(),
                &event["before"]["id"],
                &event["after"]["id"],
            )
        })
        .collect();
    let (null, one, two, three, nine) = (&json!(null), &json!(1), &json!(2), &json!(3), &json!(9));
    assert_eq!(
        shown,
        [
            ("c", null, two),
            ("c", null, one),
            ("u", one, one),
            ("d", two, null),
            ("c", null, three),
            ("d", one, null),
            ("t", null, null),
            ("c", null, nine),
        ]
    );
    // Came in by an UPDATE that did not touch the value out of line.
    assert_eq!(events[4]["after"]["note"], json!("x".repeat(9000)));
    assert_eq!(events[4]["source"]["unchanged"], json!(null));
    // The ids are those of the changes, whatever the filter is.
    let all = {
        let exit = Streamer::builder()
            .args(["slot", "create", "--source", &server.url(), "again"])
            .run(SECONDS);
        exit.expect_code(0);
        server.sql("INSERT INTO public.orders VALUES (4, 1, ''), (5, 70, ''), (6, 80, '')");
        let end = server.flushed_lsn().to_string();
        let seq = |arguments: &[&str], slot: &str| {
            let exit = Streamer::run(&server.url(), slot)
                .args(["--sink", "stdout", "--until-lsn", &end])
                .args(arguments.iter().copied())
                .run(SECONDS)
                .expect_code(0);
            exit.stdout
                .iter()
                .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
                .map(|event| {
                    let source = &event["source"];
                    (
                        event["after"]["id"].clone(),
                        source["change_lsn"].clone(),
                        source["seq"].clone(),
                    )
                })
                .collect::<Vec<_>>()
        };
        let filtered = seq(&["--where", "public.orders: price > 50"], "ferry");
        (filtered, seq(&[], "again"))
    };
    assert_eq!(all.0, all.1[1..]);
}

#[test]
fn a_filter_file_chooses_rows_operations_updates_and_columns() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE public.\"ORDERS\" (id int PRIMARY KEY, o_orderkey int, product text, service text);
         CREATE TABLE public.stock (id int PRIMARY KEY, amount int, place text, touched int);
         CREATE TABLE public.log (id int PRIMARY KEY, line text);
         ALTER TABLE public.\"ORDERS\" REPLICA IDENTITY FULL;
         ALTER TABLE public.stock REPLICA IDENTITY FULL",
    );
    server.create_slot("ferry", "walferry");
    server.sql(
        "INSERT INTO public.\"ORDERS\" VALUES (1, 4999, 'a', 'b'), (2, 5000, 'c', 'd');
         UPDATE public.\"ORDERS\" SET o_orderkey = 1 WHERE id = 2;
         INSERT INTO public.stock VALUES (1, 10, 'x', 0);
         UPDATE public.stock SET touched = 1;
         UPDATE public.stock SET amount = 11;
         UPDATE public.stock SET amount = 12, place = 'y';
         INSERT INTO public.log VALUES (1, 'one');
         UPDATE public.log SET line = 'two';
         DELETE FROM public.log;
         TRUNCATE public.log",
    );
    let filter = |stock: &str| {
        let text = format!(
            "allow:
  schema: public
  allow:
    ORDERS:
      allow: [\"product\", \"service\"]
      condtions: \"o_orderkey < 5000\"
    stock:
      {stock}: [amount, place]
    log:
      operations: [INSERT, TRUNCATE]
"
        );
        write(&server, "filter.yaml", &text)
    };
    let exit = until_now(&server)
        .arg("--filter")
        .arg(filter("allow-update-any"))
        .run(SECONDS)
        .expect_code(0);
    assert_eq!(
        told(&exit),
        [
            r#"c {"id":1,"product":"a","service":"b"}"#,
            r#"c {"id":2,"product":"c","service":"d"}"#,
            r#"c {"amount":10,"id":1,"place":"x","touched":0}"#,
            r#"u {"amount":11,"id":1,"place":"x","touched":1}"#,
            r#"u {"amount":12,"id":1,"place":"y","touched":1}"#,
            r#"c {"id":1,"line":"one"}"#,
            "t null",
        ]
    );
    assert!(!exit.stdout[0].contains("o_orderkey"), "{}", exit.stdout[0]);
    assert!(log(&exit).contains("is read as \"conditions\""));
    server.sql(
        "UPDATE public.stock SET amount = 1;
         UPDATE public.stock SET amount = 2, place = 'z'",
    );
    let exit = until_now(&server)
        .arg("--filter")
        .arg(filter("allow-update-all"))
        .run(SECONDS)
        .expect_code(0);
    assert_eq!(
        told(&exit),
        [r#"u {"amount":2,"id":1,"place":"z","touched":1}"#]
    );
}

#[test]
fn without_the_whole_old_row_nothing_is_left_out_and_the_start_says_so() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE public.t (id int PRIMARY KEY, n int, note text);
         ALTER TABLE public.t ALTER note SET STORAGE EXTERNAL",
    );
    server.create_slot("ferry", "walferry");
    server.sql(
        "INSERT INTO public.t VALUES (1, 1, ''), (2, 20, ''), (30, 30, repeat('y', 9000));
         UPDATE public.t SET n = 21 WHERE id = 2;
         UPDATE public.t SET n = 2 WHERE id = 1;
         UPDATE public.t SET id = 3 WHERE id = 30;
         UPDATE public.t SET id = 31 WHERE id = 3;
         DELETE FROM public.t WHERE id = 1",
    );
    // Statistics reach the view when the session ends or goes idle.
    let had_updates = || {
        let row = server.client().query_one(
            "SELECT pg_stat_get_tuples_updated('public.t'::regclass)",
            &[],
        );
        row.expect("a row").get::<_, i64>(0) > 0
    };
    walferry_tests::wait_until("the table's statistics", had_updates);
    // Over the key alone it is exact.
    let on_key = write(
        &server,
        "filter.yaml",
        "allow: {schema: public, allow: {t: {conditions: id < 10}}}\n",
    );
    let refused = until_now(&server)
        .args(["--where", "public.t: n > 10"])
        .run(SECONDS)
        .expect_code(1);
    let text = log(&refused);
    assert!(
        text.contains("public.t (n): 4 updates, 1 deletes"),
        "{text}"
    );
    assert!(
        text.contains(
            "ALTER TABLE \"public\".\"t\" REPLICA IDENTITY FULL; or --missing-identity accept"
        ),
        "{text}"
    );
    let exit = until_now(&server)
        .args([
            "--where",
            "public.t: n > 10",
            "--missing-identity",
            "accept",
        ])
        .run(SECONDS)
        .expect_code(0);
    let shown = |exit: &Exit| {
        exit.stdout
            .iter()
            .map(|line| {
                let event: Value = serde_json::from_str(line).expect("JSON");
                let op = event["op"].as_str().unwrap_or_default();
                let row = if op == "d" { "before" } else { "after" };
                format!("{op}{}", event[row]["id"])
            })
            .collect::<Vec<_>>()
    };
    // What may have passed before goes as it is now, or as a DELETE.
    assert_eq!(shown(&exit), ["c2", "c30", "u2", "d1", "u3", "u31", "d1"]);
    assert!(
        log(&exit).contains("REPLICA IDENTITY FULL"),
        "{}",
        log(&exit)
    );

    server.sql(
        "INSERT INTO public.t VALUES (4, 4, '');
         UPDATE public.t SET n = 5 WHERE id = 4;
         UPDATE public.t SET id = 40 WHERE id = 4;
         UPDATE public.t SET id = 5 WHERE id = 31;
         DELETE FROM public.t WHERE id = 40;
         DELETE FROM public.t WHERE id = 5",
    );
    let exit = until_now(&server)
        .arg("--filter")
        .arg(&on_key)
        .run(SECONDS)
        .expect_code(0);
    assert_eq!(shown(&exit), ["c4", "u4", "d4", "c5", "d5"]);
    let came_in: Value = serde_json::from_str(&exit.stdout[3]).expect("JSON");
    assert_eq!(came_in["source"]["unchanged"], json!(["note"]));
}

/// A filter of UPDATEs is for rows that stay; whether this one does is not
/// known, so it may be the only word of a row that came in.
#[test]
fn a_row_that_may_have_come_in_is_told_whatever_changed_in_it() {
    let server = Server::start_default();
    server.sql("CREATE TABLE public.t (id int PRIMARY KEY, status text, note text)");
    server.create_slot("ferry", "walferry");
    let filter = write(
        &server,
        "filter.yaml",
        "allow: {schema: public, allow: {t: {conditions: \"status = 'paid'\", allow-update-any: [id]}}}\n",
    );
    server.sql(
        "INSERT INTO public.t VALUES (1, 'new', ''), (2, 'paid', '');
         UPDATE public.t SET status = 'paid' WHERE id = 1",
    );
    let run = || {
        until_now(&server)
            .arg("--filter")
            .arg(&filter)
            .args(["--missing-identity", "accept"])
            .run(SECONDS)
            .expect_code(0)
    };
    assert_eq!(
        told(&run()),
        [
            r#"c {"id":2,"note":"","status":"paid"}"#,
            r#"u {"id":1,"note":"","status":"paid"}"#
        ]
    );
    // With the old row it is known, and the UPDATE of a row that stays is left out.
    server.sql(
        "ALTER TABLE public.t REPLICA IDENTITY FULL;
         UPDATE public.t SET note = 'seen' WHERE id = 1;
         UPDATE public.t SET status = 'new' WHERE id = 1;
         UPDATE public.t SET status = 'paid' WHERE id = 1",
    );
    assert_eq!(
        told(&run()),
        [
            r#"d {"id":1,"note":"seen","status":"paid"}"#,
            r#"c {"id":1,"note":"seen","status":"paid"}"#
        ]
    );
}

#[test]
fn a_condition_that_can_not_be_used_stops_the_run_and_loses_nothing() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE public.t (id int PRIMARY KEY, n int, name text COLLATE \"und-x-icu\", doc jsonb, \"Big\" int)",
    );
    server.create_slot("ferry", "walferry");
    server.sql("INSERT INTO public.t VALUES (1, 1, 'a', '{}', 1)");
    for (condition, code, parts) in [
        (
            "public.t: name ~ 'a'",
            2,
            &["the operator ~ is not known here at character 1"][..],
        ),
        (
            "public.t: id = 1 AND missing > 1",
            1,
            &["public.t has no column \"missing\" at character 12"],
        ),
        ("public.t: big = 1", 1, &["write \"Big\" in double quotes"]),
        (
            "public.t: name < 'm'",
            1,
            &["< on text depends on the collation", "COLLATE \"C\""],
        ),
        ("public.t: doc = '{}'", 1, &["there is no operator = for"]),
        (
            "public.t: id = 'one'",
            1,
            &["invalid input syntax for type integer: \"one\" at character 6"],
        ),
        (
            "public.t: 10 / (n - 1) > 1",
            1,
            &[
                "the condition on public.t raised an error on a row: division by zero (SQLSTATE 22012)",
                "the row (id=1) of transaction",
            ],
        ),
    ] {
        let exit = until_now(&server)
            .args(["--where", condition])
            .run(SECONDS)
            .expect_code(code);
        for part in parts {
            assert!(
                log(&exit).contains(part),
                "{condition}: no {part:?} in\n{}",
                log(&exit)
            );
        }
        assert_eq!(exit.stdout, [""; 0], "{condition}");
    }
    let exit = until_now(&server)
        .args([
            "--where",
            "public.t: CASE WHEN n <> 1 THEN 10 / (n - 1) > 1 ELSE name COLLATE \"C\" < 'm' END",
        ])
        .run(SECONDS)
        .expect_code(0);
    assert_eq!(exit.stdout.len(), 1, "nothing was lost");
    // A definition that comes later may not fit either.
    server.sql(
        "ALTER TABLE public.t ALTER n TYPE text; INSERT INTO public.t VALUES (2, 'x', '', '{}', 1);
                ALTER TABLE public.t ALTER n TYPE int USING length(n)",
    );
    let exit = until_now(&server)
        .args(["--where", "public.t: n > 0"])
        .run(SECONDS)
        .expect_code(1);
    assert!(
        log(&exit).contains("the condition on public.t does not fit the table"),
        "{}",
        log(&exit)
    );
}

#[test]
fn a_filter_means_the_same_with_every_plugin() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE public.\"ORDERS\" (id int PRIMARY KEY, o_orderkey int, price numeric, at timestamptz,
           product text, service char(4), note text);
         ALTER TABLE public.\"ORDERS\" REPLICA IDENTITY FULL;
         ALTER TABLE public.\"ORDERS\" ALTER note SET STORAGE EXTERNAL;
         CREATE PUBLICATION ferry FOR ALL TABLES",
    );
    let plugins = ["walferry", "wal2json", "pgoutput"];
    for plugin in plugins {
        server.create_slot(plugin, plugin);
    }
    server.sql(
        "INSERT INTO public.\"ORDERS\" VALUES
           (1, 4999, 10, '2026-11-21 10:00+00', 'a', 'b', repeat('n', 9000)),
           (2, 5000, 123456789012345678901234567890.5, 'infinity', 'c', 'd', NULL),
           (3, 1, 0.1, '0044-03-15 10:00+00 BC', 'e', 'f', 'g'),
           (4, NULL, 1e20, NULL, NULL, NULL, NULL);
         UPDATE public.\"ORDERS\" SET o_orderkey = 1 WHERE id = 2;
         UPDATE public.\"ORDERS\" SET price = 11.50 WHERE id = 1;
         UPDATE public.\"ORDERS\" SET product = 'z' WHERE id = 1;
         UPDATE public.\"ORDERS\" SET service = 'x', price = 3 WHERE id = 1;
         UPDATE public.\"ORDERS\" SET at = at - interval '3000 years' WHERE id = 3;
         UPDATE public.\"ORDERS\" SET o_orderkey = 7000 WHERE id = 2;
         DELETE FROM public.\"ORDERS\" WHERE id = 1;
         DELETE FROM public.\"ORDERS\" WHERE id = 4",
    );
    let filter = write(
        &server,
        "filter.yaml",
        "allow:
  schema: public
  allow:
    ORDERS:
      allow: [product, service]
      conditions: \"o_orderkey < 5000 AND price > 0.1 AND at >= '0044-01-01 BC' AND length(note) IS DISTINCT FROM 1\"
      allow-update-any: [product, service]
",
    );
    let mut told_by = Vec::new();
    for plugin in plugins {
        let end = server.flushed_lsn().to_string();
        let publication: &[&str] = match plugin {
            "pgoutput" => &["--publication", "ferry"],
            _ => &[],
        };
        let exit = Streamer::run(&server.url(), plugin)
            .args(["--sink", "stdout", "--until-lsn", &end, "--plugin", plugin])
            .args(publication.iter().copied())
            .arg("--filter")
            .arg(&filter)
            .run(SECONDS)
            .expect_code(0);
        let events: Vec<String> = exit
            .stdout
            .iter()
            .map(|line| {
                let event: Value = serde_json::from_str(line).expect("JSON");
                let source = &event["source"];
                format!(
                    "{} {} {} {}",
                    event["op"], event["before"], event["after"], source["lsn"]
                )
            })
            .collect();
        told_by.push((plugin, events));
    }
    let (_, native) = &told_by[0];
    let ops: Vec<&str> = native.iter().map(|event| &event[1..2]).collect();
    assert_eq!(ops, ["c", "c", "u", "u", "d", "d"], "{native:#?}");
    for (plugin, events) in &told_by[1..] {
        assert_eq!(events, native, "{plugin} (left) and the native plugin");
    }
}

/// A misspelt table would be delivered as nothing, and a misspelt condition
/// would hold nothing back.
#[test]
fn names_that_no_table_has_are_said_at_the_start() {
    let server = Server::start_default();
    server.sql("CREATE TABLE public.orders (id int PRIMARY KEY)");
    server.create_slot("ferry", "walferry");
    let exit = until_now(&server)
        .args(["--tables", "public.orders,public.Order", "--tables", "x.*"])
        .args(["--where", "public.orders: id > 5"])
        .args(["--where", "public.ordres: id > 5"])
        .run(SECONDS)
        .expect_code(0);
    let told = log(&exit);
    for said in [
        "no table is there that matches public.Order, x.*: nothing of it comes",
        "no table is there that matches public.ordres: its filter holds nothing back",
    ] {
        assert!(told.contains(said), "{told}");
    }
}
