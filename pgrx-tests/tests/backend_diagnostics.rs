//! The SQL half, by extension and by managed pack: the same schema, for the same few eyes, on every version.

mod sql_schema;

use std::process::Command;

use sql_schema::{catalogue, install, written};
use walferry_tests::{Server, checkout, wait_until};

/// A server with the extension in `postgres` and the pack in `managed`, which
/// belongs to a role with no special right.
fn both() -> (Server, String) {
    let server = Server::start_default();
    let pack = written("managed");
    server.sql("CREATE ROLE plain LOGIN");
    server.sql("CREATE DATABASE managed OWNER plain");
    install(&server, &pack);
    server.sql("CREATE EXTENSION walferry");
    (server, pack)
}

#[test]
fn the_managed_pack_and_the_extension_make_the_same_schema() {
    let (server, pack) = both();
    let (extension, managed) = (
        catalogue(&server, "postgres"),
        catalogue(&server, "managed"),
    );
    assert!(extension.len() > 150, "{extension:#?}");
    for (one, other) in extension.iter().zip(&managed) {
        assert_eq!(one, other);
    }
    assert_eq!(extension.len(), managed.len());
    let version = "SELECT walferry.version()";
    assert_eq!(
        server.value::<String>(version),
        server.value_in::<String>("managed", version)
    );

    // Again and again, and what its tables hold is kept.
    server.sql_in("managed", "SELECT walferry.heartbeat('kept')");
    install(&server, &pack);
    assert_eq!(catalogue(&server, "managed"), managed);
    let kept = "SELECT string_agg(source, ',') FROM walferry.heartbeats";
    assert_eq!(server.value_in::<String>("managed", kept), "kept");
    // One or the other, not both.
    let refused = server.try_sql("postgres", &pack).unwrap_err();
    assert!(format!("{refused:?}").contains("the extension walferry is installed"));

    // Nothing is left behind.
    let everything = "SELECT pg_describe_object(classid, objid, 0) FROM pg_depend \
         UNION SELECT 'schema ' || nspname FROM pg_namespace UNION SELECT 'event ' || evtname FROM pg_event_trigger";
    server.sql("SELECT walferry.ddl_capture_on()");
    let with: Vec<String> = server.texts_in("postgres", everything);
    server.sql("DROP EXTENSION walferry");
    let without = server.texts_in("postgres", everything);
    assert!(with.len() > without.len() + 50);
    assert!(
        !without.iter().any(|one| one.contains("walferry")),
        "{without:?}"
    );
    // Nor is anybody's own schema of that name filled.
    server.sql("CREATE SCHEMA walferry AUTHORIZATION plain");
    let refused = server.try_sql("postgres", "CREATE EXTENSION walferry");
    assert!(format!("{:?}", refused.unwrap_err()).contains("already exists"));
    server.sql("DROP SCHEMA walferry; CREATE EXTENSION walferry");
    assert_eq!(catalogue(&server, "postgres"), extension);
    server.sql_in("managed", "DROP SCHEMA walferry CASCADE");
    assert!(
        !server
            .texts_in("managed", everything)
            .iter()
            .any(|one| one.contains("walferry"))
    );
    install(&server, &pack);
    assert_eq!(catalogue(&server, "managed"), managed);
}

#[test]
fn everything_is_documented_pinned_and_closed_to_the_public() {
    let (server, _) = both();
    server.sql("CREATE ROLE monitor LOGIN IN ROLE pg_monitor; CREATE ROLE nobody LOGIN");
    for database in ["postgres", "managed"] {
        let texts = |query: &str| server.texts_in(database, query);
        assert_eq!(
            texts(
                "SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
                 WHERE p.pronamespace = 'walferry'::regnamespace AND l.lanname <> 'c'
                   AND NOT p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp']"
            ),
            [""; 0],
            "functions without a pinned search_path"
        );
        assert_eq!(
            texts(
                "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'walferry'::regnamespace
                   AND obj_description(p.oid, 'pg_proc') IS NULL
                 UNION ALL SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'walferry'::regnamespace
                   AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL
                 UNION ALL SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                 WHERE c.relnamespace = 'walferry'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0
                   AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL"
            ),
            [""; 0],
            "without a comment"
        );
        for (role, may) in [("nobody", "f"), ("monitor", "t")] {
            assert_eq!(
                texts(&format!(
                    "SELECT DISTINCT may FROM (
                       SELECT has_function_privilege('{role}', p.oid, 'EXECUTE') AS may FROM pg_proc p
                       WHERE p.pronamespace = 'walferry'::regnamespace
                       UNION ALL SELECT has_table_privilege('{role}', c.oid, 'SELECT') FROM pg_class c
                       WHERE c.relnamespace = 'walferry'::regnamespace AND c.relkind IN ('r', 'v')
                       UNION ALL SELECT has_schema_privilege('{role}', 'walferry', 'USAGE')) x"
                )),
                [may],
                "{role} in {database}"
            );
        }
        // Who may look may write only through the functions.
        let forged =
            "SET ROLE monitor; INSERT INTO walferry.heartbeats VALUES ('x', now(), '0/1', 1)";
        assert!(server.try_sql(database, forged).is_err());
        server.sql_in(database, "SET ROLE monitor; SELECT walferry.heartbeat('x')");
        server.sql_in(
            database,
            "SET ROLE monitor; SELECT * FROM walferry.slots, walferry.slot_blockers(), walferry.slot_forecast(), \
             walferry.diagnose(), walferry.preflight(), walferry.replica_identity_audit()",
        );
    }
    // The heartbeat travels: its message, and its row.
    server.create_slot("ferry", "walferry");
    server.sql("SELECT walferry.heartbeat('travels')");
    server.flushed_lsn();
    let decoded = server.texts_in(
        "postgres",
        "SELECT data FROM pg_logical_slot_get_changes('ferry', NULL, NULL, 'format', 'json')",
    );
    let all = |words: &[&str]| {
        let found = decoded
            .iter()
            .any(|row| words.iter().all(|word| row.contains(word)));
        assert!(found, "{words:?} in {decoded:#?}");
    };
    all(&[
        "\"action\":\"M\"",
        "\"transactional\":true",
        "walferry.heartbeat",
    ]);
    all(&["\"action\":\"I\"", "\"table\":\"heartbeats\"", "travels"]);
}

#[test]
fn what_the_pack_cannot_know_is_null_with_a_reason() {
    let (server, _) = both();
    let query = "SELECT concat_ws(' ', free_bytes > 0, total_bytes >= free_bytes, why_null) FROM walferry.wal_space()";
    assert_eq!(server.texts_in("postgres", query), ["t t"]);
    let reason = &server.texts_in("managed", query)[0];
    assert!(reason.contains("can't be seen over SQL"), "{reason}");
    server.create_slot("unread", "walferry");
    let query =
        "SELECT concat_ws(' ', slot_name, changes, why_null) FROM walferry.plugin_statistics";
    let told = &server.texts_in("postgres", query)[0];
    assert!(told.starts_with("unread nobody reads it"), "{told}");
    let reason = "SELECT why_null FROM walferry.decoders()";
    assert_eq!(server.texts_in("postgres", reason), [""; 0]);
    let reason = &server.texts_in("managed", reason)[0];
    assert!(reason.contains("only the extension's library"), "{reason}");
}

#[test]
fn the_views_of_the_preflight_queries_are_written_from_them() {
    let printed = Command::new(checkout().join("scripts/write-preflight-views"))
        .arg("--print")
        .output()
        .unwrap();
    let written = std::fs::read_to_string(checkout().join("sql/10_preflight_facts.sql")).unwrap();
    assert_eq!(
        String::from_utf8(printed.stdout).unwrap(),
        written,
        "run scripts/write-preflight-views"
    );
}

/// Slots that are as they should be with failover in play.
#[test]
fn failover_slots_are_told_only_where_something_is_wrong() {
    let told = |server: &Server| {
        server.texts_in(
            "postgres",
            "SELECT concat_ws(' ', severity, code, object) FROM walferry.diagnose()",
        )
    };
    let server = Server::start_default();
    server.sql("CREATE EXTENSION walferry");
    if server.value::<i32>("SELECT current_setting('server_version_num')::int") < 170_000 {
        server.create_slot("ferry", "walferry");
        assert_eq!(told(&server), [""; 0]);
        return;
    }
    server
        .sql("SELECT pg_create_logical_replication_slot('ferry', 'walferry', false, false, true)");
    server.sql("SELECT pg_create_physical_replication_slot('standby', true)");
    assert_eq!(told(&server), [""; 0]);
    let standby = Server::builder()
        .setting("hot_standby_feedback", "on")
        .setting("primary_slot_name", "standby")
        .setting("sync_replication_slots", "on")
        .start_standby_of(&server);
    let synced = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'ferry' AND synced AND NOT temporary";
    wait_until("the slot to be synchronised", || {
        server.sql("SELECT pg_log_standby_snapshot()");
        server.sql("SELECT pg_replication_slot_advance('ferry', pg_current_wal_flush_lsn())");
        standby.value::<i64>(synced) == 1
    });
    assert_eq!(told(&standby), [""; 0]);
    assert_eq!(told(&server), [""; 0]);
    standby.sql("ALTER SYSTEM SET sync_replication_slots = off");
    standby.sql("SELECT pg_reload_conf()");
    wait_until("it to be told", || {
        told(&standby) == ["warning slot_sync_off ferry"]
    });
    let fix = standby.texts_in("postgres", "SELECT fix FROM walferry.diagnose()");
    for statement in fix[0].lines() {
        standby.sql(statement);
    }
    wait_until("it to be mended", || told(&standby).is_empty());
}
