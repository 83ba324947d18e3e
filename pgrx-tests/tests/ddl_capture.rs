//! DDL capture inside the database: what leaves a row of `walferry.ddl_log`, what is in it, and that no command ever
//! fails for it. What the streamer makes of the rows: `ddl_events.rs`.

use std::process::Command;

use serde_json::{Value, json};
use walferry_tests::{Server, checkout};

/// A database of its own with the extension, capturing.
fn capturing(server: &Server, database: &str) {
    if database != "postgres" {
        server.sql(&format!("CREATE DATABASE {database}"));
    }
    server.sql_in(
        database,
        "CREATE EXTENSION walferry; SELECT walferry.ddl_capture_on()",
    );
}

/// Runs one statement and tells the rows it left: event, tag, object, and the tables with what happened to them.
fn captured(server: &Server, database: &str, statement: &str) -> Vec<String> {
    let mut client = server.client_in(database);
    let last: i64 = client
        .query_one("SELECT coalesce(max(id), 0) FROM walferry.ddl_log", &[])
        .unwrap()
        .get(0);
    client
        .batch_execute(statement)
        .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    let rows = client
        .query(
            "SELECT concat_ws(' | ', CASE event WHEN 'ddl_command_end' THEN 'end' WHEN 'sql_drop' THEN 'drop' ELSE 'rewrite' END,
                    command_tag, concat_ws(' ', object_type, concat_ws('.', schema_name, object_name)),
                    (SELECT string_agg(concat_ws(' ', t ->> 'change', concat_ws('.', t ->> 'schema', t ->> 'name')), ', ')
                     FROM jsonb_array_elements(tables) t))
             FROM walferry.ddl_log WHERE id > $1 ORDER BY id",
            &[&last],
        )
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// The last row's column, as JSON.
fn last(server: &Server, database: &str, expression: &str) -> Value {
    let text: String = server.value_in(
        database,
        &format!(
            "SELECT to_jsonb({expression})::text FROM walferry.ddl_log ORDER BY id DESC LIMIT 1"
        ),
    );
    serde_json::from_str(&text).unwrap()
}

#[test]
fn each_command_that_shapes_tables_leaves_its_rows() {
    let server = Server::start_default();
    capturing(&server, "postgres");
    let none: &[&str] = &[];
    for (statement, rows) in [
        (
            "CREATE SCHEMA shop",
            &["end | CREATE SCHEMA | schema shop"][..],
        ),
        (
            "CREATE TYPE shop.mood AS ENUM ('sad', 'ok')",
            &["end | CREATE TYPE | type shop.mood"],
        ),
        (
            "ALTER TYPE shop.mood ADD VALUE 'glad'",
            &["end | ALTER TYPE | type shop.mood"],
        ),
        (
            "CREATE DOMAIN shop.price AS numeric(10,2)",
            &["end | CREATE DOMAIN | type shop.price"],
        ),
        (
            "CREATE TABLE shop.t (id serial PRIMARY KEY, n int, m shop.mood, p shop.price)",
            &["end | CREATE TABLE | table shop.t | CREATE shop.t"],
        ),
        (
            "ALTER TABLE shop.t ADD added int DEFAULT 7",
            &["end | ALTER TABLE | table shop.t | ALTER shop.t"],
        ),
        (
            "ALTER TABLE shop.t ADD rolled float8 DEFAULT random()",
            &[
                "rewrite | ALTER TABLE | table shop.t",
                "end | ALTER TABLE | table shop.t | ALTER shop.t",
            ],
        ),
        (
            "ALTER TABLE shop.t ALTER n TYPE text",
            &[
                "rewrite | ALTER TABLE | table shop.t",
                "end | ALTER TABLE | table shop.t | ALTER shop.t",
            ],
        ),
        (
            "ALTER TABLE shop.t RENAME n TO note",
            &["end | ALTER TABLE | table column shop.t | ALTER shop.t"],
        ),
        (
            "ALTER TABLE shop.t DROP COLUMN rolled",
            &[
                "drop | ALTER TABLE | table column shop.t",
                "end | ALTER TABLE | table shop.t | ALTER shop.t",
            ],
        ),
        (
            "ALTER TABLE shop.t RENAME TO \"T x\"",
            &["end | ALTER TABLE | table shop.T x | ALTER shop.T x"],
        ),
        (
            "ALTER TABLE shop.\"T x\" SET SCHEMA public",
            &["end | ALTER TABLE | table public.T x | ALTER public.T x"],
        ),
        (
            "ALTER TABLE \"T x\" REPLICA IDENTITY FULL",
            &["end | ALTER TABLE | table public.T x | ALTER public.T x"],
        ),
        (
            "CREATE INDEX CONCURRENTLY note ON \"T x\" (note)",
            &["end | CREATE INDEX | index public.note"],
        ),
        (
            "DROP INDEX note",
            &["drop | DROP INDEX | index public.note"],
        ),
        // What a CASCADE takes from a table that stays.
        (
            "DROP TYPE shop.mood CASCADE",
            &["drop | DROP TYPE | type shop.mood | ALTER public.T x"],
        ),
        (
            "CREATE VIEW v AS SELECT id FROM \"T x\"",
            &["end | CREATE VIEW | view public.v"],
        ),
        (
            "DROP TABLE \"T x\" CASCADE",
            &["drop | DROP TABLE | table public.T x | DROP public.T x"],
        ),
        (
            "CREATE TABLE copied AS SELECT 1 AS a",
            &["end | CREATE TABLE AS | table public.copied | CREATE public.copied"],
        ),
        (
            "SELECT * INTO selected FROM copied",
            &["end | SELECT INTO | table public.selected | CREATE public.selected"],
        ),
        (
            "CREATE MATERIALIZED VIEW mv AS SELECT * FROM copied",
            &["end | CREATE MATERIALIZED VIEW | materialized view public.mv"],
        ),
        // Partitions, and what reaches them.
        (
            "CREATE TABLE log (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
            &["end | CREATE TABLE | table public.log | CREATE public.log"],
        ),
        (
            "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
            &["end | CREATE TABLE | table public.log_1 | CREATE public.log_1"],
        ),
        (
            "ALTER TABLE log ADD line text",
            &["end | ALTER TABLE | table public.log | ALTER public.log, ALTER public.log_1"],
        ),
        (
            "ALTER TABLE log DETACH PARTITION log_1",
            &["end | ALTER TABLE | table public.log | ALTER public.log"],
        ),
        (
            "DROP TABLE log, log_1",
            &["drop | DROP TABLE | table public.log_1 | DROP public.log_1, DROP public.log"],
        ),
        (
            "CREATE UNLOGGED TABLE u (); ALTER TABLE u SET LOGGED",
            &[
                "end | CREATE TABLE | table public.u | CREATE public.u",
                "rewrite | ALTER TABLE | table public.u",
                "end | ALTER TABLE | table public.u | ALTER public.u",
            ],
        ),
        // Many at once, and whole schemas.
        (
            "CREATE SCHEMA two CREATE TABLE a (id int) CREATE TABLE b (id int)",
            &["end | CREATE SCHEMA | table two.a | CREATE two.a, CREATE two.b"],
        ),
        (
            "ALTER SCHEMA two RENAME TO deux",
            &["end | ALTER SCHEMA | schema deux | ALTER deux.a, ALTER deux.b"],
        ),
        (
            "DROP SCHEMA deux CASCADE",
            &["drop | DROP SCHEMA | schema deux | DROP deux.a, DROP deux.b"],
        ),
        // Inside others.
        (
            "DO $$ BEGIN CREATE TABLE inside (id int); DROP TABLE inside; END $$",
            &[
                "end | CREATE TABLE | table public.inside | CREATE public.inside",
                "drop | DROP TABLE | table public.inside | DROP public.inside",
            ],
        ),
        (
            "BEGIN; SAVEPOINT s; CREATE TABLE undone (); ROLLBACK TO s; CREATE TABLE done (); COMMIT",
            &["end | CREATE TABLE | table public.done | CREATE public.done"],
        ),
        // Nothing.
        ("BEGIN; CREATE TABLE gone (); ROLLBACK", none),
        (
            "CREATE TEMP TABLE t (id serial PRIMARY KEY); ALTER TABLE t ADD x int DEFAULT random(); DROP TABLE t",
            none,
        ),
        (
            "CREATE TEMP VIEW tv AS SELECT 1; CREATE TEMP TABLE tt AS SELECT 2; SELECT 3 AS three INTO TEMP ttt",
            none,
        ),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION f()",
            none,
        ),
        (
            "COMMENT ON TABLE done IS 'x'; GRANT SELECT ON done TO pg_monitor; TRUNCATE done; ANALYZE done",
            none,
        ),
        ("REFRESH MATERIALIZED VIEW mv; VACUUM FULL done", none),
        (
            "CREATE TABLE walferry.own (id int); DROP TABLE walferry.own",
            none,
        ),
        ("SELECT walferry.heartbeat()", none),
    ] {
        // psql's way with several: each by itself, unless a transaction is opened.
        let mut told = Vec::new();
        if statement.starts_with("BEGIN") {
            told = captured(&server, "postgres", statement);
        } else {
            let parts: Vec<&str> = match statement.starts_with("DO ") {
                true => vec![statement],
                false => statement.split("; ").collect(),
            };
            if statement.contains("TEMP") {
                told = captured(&server, "postgres", statement);
            } else {
                for part in parts {
                    told.extend(captured(&server, "postgres", part));
                }
            }
        }
        assert_eq!(told, rows, "{statement}");
    }
    assert_eq!(
        server.value::<i64>(
            "SELECT count(*) FROM walferry.ddl_log WHERE txid <= 0 OR login <> 'postgres'"
        ),
        0
    );
    let reasons: Vec<String> = server.texts_in(
        "postgres",
        "SELECT objects -> 0 ->> 'reasons' FROM walferry.ddl_log WHERE event = 'table_rewrite' ORDER BY id",
    );
    assert_eq!(
        reasons,
        [r#"["default"]"#, r#"["column type"]"#, r#"["persistence"]"#]
    );
    assert_eq!(
        server.texts_in(
            "postgres",
            "SELECT objects -> 0 ->> 'labels' FROM walferry.ddl_log WHERE command_tag = 'ALTER TYPE'"
        ),
        [r#"["sad", "ok", "glad"]"#]
    );
}

#[test]
fn columns_are_told_as_they_are_afterwards() {
    let server = Server::start_default();
    capturing(&server, "postgres");
    server.sql(
        "CREATE SCHEMA \"Odd\"; CREATE TYPE \"Odd\".mood AS ENUM ('a''b', 'c'); CREATE DOMAIN code AS char(3);
         CREATE TABLE other (id int PRIMARY KEY)",
    );
    server.sql(
        "CREATE TABLE \"Odd\".\"T\" (
           b bigint GENERATED BY DEFAULT AS IDENTITY, a int GENERATED ALWAYS AS IDENTITY, gone int,
           \"n \"\" x\" numeric(12,3)[] DEFAULT '{1.5}', m \"Odd\".mood NOT NULL DEFAULT 'c', c code,
           s text COLLATE \"C\" GENERATED ALWAYS AS (c || 'x') STORED, at timestamptz(3) DEFAULT now(),
           PRIMARY KEY (a, b))",
    );
    server.sql("ALTER TABLE \"Odd\".\"T\" DROP gone");
    // Text that depends on settings of the session does not.
    server.sql(
        "SET datestyle = 'German'; SET quote_all_identifiers = on; SET search_path = \"Odd\", public;
         ALTER TABLE \"T\" ADD late date DEFAULT '2026-11-21', ADD later text DEFAULT 'it''s'",
    );
    let table = &last(&server, "postgres", "tables")[0];
    let oid = server.value::<u32>("SELECT '\"Odd\".\"T\"'::regclass::oid");
    assert_eq!(table["oid"], json!(oid));
    assert_eq!(table["change"], "ALTER");
    assert_eq!(table["kind"], "table");
    assert_eq!(
        (&table["schema"], &table["name"]),
        (&json!("Odd"), &json!("T"))
    );
    assert_eq!(table["primary_key"], json!(["a", "b"]));
    assert_eq!(table["identity_columns"], json!(["a", "b"]));
    assert_eq!(table["replica_identity"], "default");
    let columns = table["columns"].as_array().unwrap();
    let named = |name: &str| {
        columns
            .iter()
            .find(|column| column["name"] == name)
            .unwrap()
    };
    let order: Vec<_> = columns
        .iter()
        .map(|column| format!("{} {} {}", column["attnum"], column["name"], column["type"]))
        .collect();
    assert_eq!(
        order,
        [
            r#"1 "b" "bigint""#,
            r#"2 "a" "integer""#,
            r#"4 "n \" x" "numeric(12,3)[]""#,
            r#"5 "m" "\"Odd\".mood""#,
            r#"6 "c" "public.code""#,
            r#"7 "s" "text""#,
            r#"8 "at" "timestamp(3) with time zone""#,
            r#"9 "late" "date""#,
            r#"10 "later" "text""#,
        ]
    );
    assert_eq!(named("b")["identity"], "by default");
    assert_eq!(named("a")["identity"], "always");
    assert_eq!(named("a")["primary_key"], true);
    assert_eq!(named("a")["not_null"], true);
    assert_eq!(named("at")["primary_key"], false);
    assert_eq!(named("at")["typmod"], 3);
    assert_eq!(named("at")["default"], "now()");
    assert_eq!(named("m")["enum"], json!(["a'b", "c"]));
    assert_eq!(named("m")["default"], "'c'::\"Odd\".mood");
    assert_eq!(named("m")["type_schema"], "\"Odd\"");
    assert_eq!(named("n \" x")["dimensions"], 1);
    assert_eq!(named("c")["base_type_oid"], 1042);
    assert_eq!(named("s")["generated"], "stored");
    assert_eq!(named("s")["generation"], "((c)::text || 'x'::text)");
    assert_eq!(named("s")["collation"], "pg_catalog.\"C\"");
    // Rows that were there have this, and no event says so.
    assert_eq!(named("late")["of_older_rows"], "2026-11-21");
    assert_eq!(named("late")["default"], "'2026-11-21'::date");
    assert_eq!(named("later")["of_older_rows"], "it's");
    assert_eq!(named("b").get("of_older_rows"), None);

    server.sql("CREATE UNIQUE INDEX u ON \"Odd\".\"T\" (m)");
    server.sql("ALTER TABLE \"Odd\".\"T\" REPLICA IDENTITY USING INDEX u");
    let table = &last(&server, "postgres", "tables")[0];
    assert_eq!(table["replica_identity"], "index");
    assert_eq!(table["identity_columns"], json!(["m"]));
    server.sql("ALTER TABLE other REPLICA IDENTITY NOTHING");
    let table = &last(&server, "postgres", "tables")[0];
    assert_eq!(table["identity_columns"], json!([]));
    assert_eq!(
        server.value::<String>(
            "SELECT walferry.table_structure('other'::regclass) ->> 'replica_identity'"
        ),
        "nothing"
    );
}

#[test]
fn a_statement_is_kept_only_where_it_is_what_ran_and_holds_no_secret() {
    let server = Server::start_default();
    capturing(&server, "postgres");
    let mut client = server.client();
    // Statement, and what is kept of it or a part of why nothing is.
    for (number, (sent, kept)) in [
        (
            "CREATE TABLE plain (id int)",
            Ok("CREATE TABLE plain (id int)"),
        ),
        (
            "  create\n  unlogged\ttable u (id int) ; ",
            Ok("create\n  unlogged\ttable u (id int)"),
        ),
        (
            "ALTER TABLE plain ADD note text DEFAULT 'x'",
            Ok("ALTER TABLE plain ADD note text DEFAULT 'x'"),
        ),
        (
            "SELECT 1 AS one INTO chosen",
            Ok("SELECT 1 AS one INTO chosen"),
        ),
        (
            "CREATE UNIQUE INDEX CONCURRENTLY i ON plain (id)",
            Ok("CREATE UNIQUE INDEX CONCURRENTLY i ON plain (id)"),
        ),
        ("DROP TABLE chosen", Ok("DROP TABLE chosen")),
        (
            "DO $$ BEGIN CREATE TABLE in_do (id int); END $$",
            Err("inside a function"),
        ),
        ("SELECT make('in_function')", Err("inside a function")),
        ("SELECT make_sql()", Err("inside a function")),
        (
            "INSERT INTO makes VALUES ('in_trigger')",
            Err("inside a function"),
        ),
        (
            "CREATE TABLE one (id int); SELECT 'hunter2'",
            Err("several statements"),
        ),
        ("CREATE TABLE semi (t text DEFAULT 'a;b')", Err("semicolon")),
        (
            "/* leading */ CREATE TABLE commented (id int)",
            Err("does not begin as this command"),
        ),
        (
            "CREATE EXTENSION probe_of_ddl_capture",
            Err("inside a function"),
        ),
        ("CREATE TABLE secret (Password text)", Err("secret")),
        (
            "CREATE TABLE link AS SELECT 'postgres://me:hunter2@db/x' AS url",
            Err("secret"),
        ),
        (
            "CREATE FOREIGN TABLE far (id int) SERVER away OPTIONS (user_key 'hunter2')",
            Err("secret"),
        ),
        (
            "CREATE VIEW keyed AS SELECT 'hunter2' AS api_key",
            Err("secret"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        if number == 0 {
            // An extension whose script creates something.
            let folder = server.tree().extensiondir();
            std::fs::write(
                folder.join("probe_of_ddl_capture.control"),
                "default_version = '1'\n",
            )
            .unwrap();
            std::fs::write(
                folder.join("probe_of_ddl_capture--1.sql"),
                "CREATE TABLE of_extension (id int);\n",
            )
            .unwrap();
            server.sql(
                "CREATE FUNCTION make(name text) RETURNS void LANGUAGE plpgsql AS
                   $$ BEGIN EXECUTE format('CREATE TABLE %I (id int)', name); END $$;
                 CREATE FUNCTION make_sql() RETURNS void LANGUAGE sql AS 'CREATE TABLE in_sql (id int)';
                 CREATE TABLE makes (name text);
                 CREATE FUNCTION make_new() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN EXECUTE format('CREATE TABLE %I (id int)', new.name); RETURN new; END $$;
                 CREATE TRIGGER makes AFTER INSERT ON makes FOR EACH ROW EXECUTE FUNCTION make_new();
                 CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER away FOREIGN DATA WRAPPER nowhere",
            );
        }
        let before: i64 = server.value("SELECT max(id) FROM walferry.ddl_log");
        client
            .batch_execute(sent)
            .unwrap_or_else(|error| panic!("{sent}: {error:?}"));
        let row = client
            .query_one(
                "SELECT statement, why_null FROM walferry.ddl_log WHERE id > $1 ORDER BY id LIMIT 1",
                &[&before],
            )
            .unwrap_or_else(|error| panic!("{sent}: {error:?}"));
        let (statement, why): (Option<String>, Option<String>) = (row.get(0), row.get(1));
        match kept {
            Ok(text) => assert_eq!((statement.as_deref(), why), (Some(text), None), "{sent}"),
            Err(reason) => {
                assert_eq!(statement, None, "{sent}");
                assert!(why.unwrap_or_default().contains(reason), "{sent}");
            }
        }
    }
    // The extended protocol, whose text is the prepared statement's.
    client
        .execute("CREATE TABLE extended (id int)", &[])
        .unwrap();
    assert_eq!(
        last(&server, "postgres", "statement"),
        "CREATE TABLE extended (id int)"
    );
    let leaked = "SELECT count(*) FROM walferry.ddl_log l WHERE l::text ~ 'hunter2'";
    assert_eq!(server.value::<i64>(leaked), 0);
}

/// Whatever is wrong with the log, the command is done, with a warning.
#[test]
fn a_command_never_fails_for_the_log() {
    let server = Server::start_default();
    capturing(&server, "postgres");
    let done = |database: &str, name: &str| {
        server.value_in::<bool>(
            database,
            &format!("SELECT to_regclass('{name}') IS NOT NULL"),
        )
    };
    // Under any isolation level, of a role that may do nothing with the log.
    server.sql("CREATE ROLE plain LOGIN; CREATE SCHEMA mine AUTHORIZATION plain");
    for (number, level) in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
        .iter()
        .enumerate()
    {
        let rows = captured(
            &server,
            "postgres",
            &format!(
                "SET SESSION AUTHORIZATION plain;
                 BEGIN ISOLATION LEVEL {level}; CREATE TABLE mine.t{number} (id int); COMMIT; RESET SESSION AUTHORIZATION"
            ),
        );
        assert_eq!(rows.len(), 1, "{level}");
        assert_eq!(last(&server, "postgres", "login"), "plain");
    }
    assert_eq!(
        captured(
            &server,
            "postgres",
            "SET session_replication_role = replica; CREATE TABLE replicated (id int)"
        )
        .len(),
        1,
        "ENABLE ALWAYS"
    );
    for forged in [
        "INSERT INTO walferry.ddl_log (at, txid, login, event, command_tag, objects, tables) VALUES (now(), 1, 'x', 'x', 'x', '[]', '[]')",
        "DELETE FROM walferry.ddl_log",
        "SELECT walferry.ddl_capture_off()",
        "SELECT walferry.capture_ddl()",
    ] {
        let as_plain = format!("SET SESSION AUTHORIZATION plain; {forged}");
        assert!(server.try_sql("postgres", &as_plain).is_err(), "{forged}");
    }

    // Somebody holds the log: the wait is short.
    let mut holder = server.client();
    holder
        .batch_execute("BEGIN; LOCK TABLE walferry.ddl_log IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let told = server.psql("postgres", "CREATE TABLE while_held (id int);");
    assert!(done("postgres", "while_held"), "{told}");
    // A cancelled command is cancelled.
    let refused = server
        .try_sql(
            "postgres",
            "SET statement_timeout = '300ms'; CREATE TABLE cancelled (id int)",
        )
        .unwrap_err();
    assert_eq!(
        refused.code().map(|code| code.code().to_owned()).as_deref(),
        Some("57014")
    );
    assert!(!done("postgres", "cancelled"));
    holder.batch_execute("ROLLBACK").unwrap();

    for (database, breaking) in [
        (
            "filled",
            "ALTER TABLE walferry.ddl_log ADD CHECK (false) NOT VALID",
        ),
        ("other", "ALTER TABLE walferry.ddl_log RENAME at TO when_"),
        (
            "none",
            "ALTER EXTENSION walferry DROP TABLE walferry.ddl_log; DROP TABLE walferry.ddl_log CASCADE",
        ),
    ] {
        capturing(&server, database);
        server.sql_in(database, breaking);
        server.sql_in(
            database,
            "CREATE TABLE t (id int); ALTER TABLE t ADD n float8 DEFAULT random(); CREATE TABLE kept (id int); DROP TABLE t",
        );
        assert!(done(database, "kept") && !done(database, "t"), "{database}");
    }
    let warned = server.log();
    for part in [
        "walferry did not capture this CREATE TABLE",
        "did not capture this DROP TABLE",
        "lock timeout",
    ] {
        assert!(warned.contains(part), "{part:?} in\n{warned}");
    }
}

#[test]
fn old_rows_are_removed_and_the_setting_is_not_a_sessions() {
    let server = Server::start_default();
    capturing(&server, "postgres");
    assert!(!server.value::<bool>("SELECT walferry.ddl_capture_on(keep_rows => 3)"));
    for number in 0..6 {
        server.sql(&format!("CREATE TABLE t{number} (id int)"));
    }
    let kept = || {
        server.texts_in(
            "postgres",
            "SELECT object_name FROM walferry.ddl_log ORDER BY id",
        )
    };
    assert_eq!(kept(), ["t3", "t4", "t5"]);
    server.sql("SELECT walferry.ddl_capture_on(keep => '1h')");
    server.sql("UPDATE walferry.ddl_log SET at = now() - interval '2 h' WHERE object_name <> 't5'");
    // Rows that another transaction is at are left to it.
    let mut other = server.client();
    other
        .batch_execute("BEGIN; SELECT FROM walferry.ddl_log WHERE object_name = 't4' FOR UPDATE")
        .unwrap();
    server.sql("CREATE TABLE t6 (id int)");
    assert_eq!(kept(), ["t4", "t5", "t6"]);
    other.batch_execute("ROLLBACK").unwrap();
    let now = server.texts_in(
        "postgres",
        "SELECT concat_ws(' ', is_on, why_off, keep, keep_rows, last_captured IS NOT NULL) FROM walferry.ddl_capture",
    );
    assert_eq!(now, ["t 01:00:00 3 t"]);
}

#[test]
fn capture_goes_on_and_off_and_goes_with_the_extension_or_the_pack() {
    let server = Server::start_default();
    server.sql("CREATE EXTENSION walferry");
    let triggers = |database: &str| -> i64 {
        server.value_in(database, "SELECT count(*) FROM pg_event_trigger")
    };
    let on = "SELECT walferry.ddl_capture_on()";
    let off = "SELECT walferry.ddl_capture_off()";
    let is_on = "SELECT concat_ws(': ', is_on, why_off) FROM walferry.ddl_capture";
    assert_eq!(
        server.texts_in("postgres", is_on),
        ["f: it is off: SELECT walferry.ddl_capture_on();"]
    );
    for (call, changed, count) in [
        (on, true, 3),
        (on, false, 3),
        (off, true, 0),
        (off, false, 0),
        (on, true, 3),
    ] {
        assert_eq!(server.value::<bool>(call), changed, "{call}");
        assert_eq!(triggers("postgres"), count, "{call}");
    }
    server.sql("ALTER EVENT TRIGGER walferry_sql_drop DISABLE");
    assert_eq!(
        server.texts_in("postgres", is_on),
        ["f: an event trigger is missing or disabled: SELECT walferry.ddl_capture_on();"]
    );
    assert!(server.value::<bool>(on));
    assert_eq!(server.texts_in("postgres", is_on), ["t"]);
    server.sql("DROP EXTENSION walferry");
    assert_eq!(triggers("postgres"), 0);
    server.sql("CREATE TABLE free (id int); CREATE EXTENSION walferry");

    // The pack: by a role that may make event triggers, and by one that may not.
    let pack = server.scratch_dir().join("pack.sql");
    let written = Command::new(checkout().join("scripts/managed-pack"))
        .arg(&pack)
        .output()
        .unwrap();
    assert!(written.status.success(), "{written:?}");
    let pack = std::fs::read_to_string(pack).unwrap();
    for statement in [
        "CREATE ROLE plain LOGIN",
        "CREATE DATABASE plain OWNER plain",
        "CREATE DATABASE managed",
    ] {
        server.sql(statement);
    }
    server.psql(
        "plain",
        &format!("SET SESSION AUTHORIZATION plain;\n{pack}"),
    );
    let refused = server
        .try_sql("plain", &format!("SET SESSION AUTHORIZATION plain; {on}"))
        .unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!(refused.code().code(), "42501");
    assert_eq!(
        refused.message(),
        "DDL capture can't be turned on by role \"plain\""
    );
    assert!(
        refused
            .detail()
            .unwrap()
            .contains("permission denied to create event trigger")
    );
    assert!(refused.hint().unwrap().contains("Call it as a superuser."));
    // Nor by a superuser, for one who could change what runs for everybody.
    let refused = server.try_sql("plain", on).unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!(refused.code().code(), "42501");
    assert!(
        refused
            .detail()
            .unwrap()
            .contains("Schema walferry belongs to role \"plain\"")
    );
    assert_eq!(triggers("plain"), 0);

    server.psql("managed", &pack);
    assert!(server.value_in::<bool>("managed", on));
    assert_eq!(
        captured(&server, "managed", "CREATE TABLE t (id int)").len(),
        1
    );
    // Another version over it: what was captured stays, and capture goes on.
    let said = server.psql("managed", &pack);
    assert!(!said.contains("WARNING"), "{said}");
    assert_eq!(triggers("managed"), 3);
    assert_eq!(
        server.value_in::<i64>("managed", "SELECT count(*) FROM walferry.ddl_log"),
        1
    );
    assert_eq!(captured(&server, "managed", "DROP TABLE t").len(), 1);
    server.sql_in("managed", "DROP SCHEMA walferry CASCADE");
    assert_eq!(triggers("managed"), 0);
    server.sql_in("managed", "CREATE TABLE free (id int)");
    assert!(
        !server.log().contains("walferry did not capture"),
        "{}",
        server.log()
    );
}
