//! What was installed once is updated in place: as an extension, from the managed pack, and through pg_tle.

mod sql_schema;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use sql_schema::{catalogue, install, written};
use tempfile::TempDir;
use walferry_tests::{Server, ServerTree, checkout};

/// The first version's script for the extension.
const FIRST: &str = include_str!("upgrade/0.0.1.sql");

/// The same without the library's functions, as the managed pack had it.
fn first_managed() -> String {
    let (_, views) = FIRST
        .split_once("-- Written by scripts/write-preflight-views")
        .unwrap();
    let managed = |name: &str| {
        fs::read_to_string(checkout().join("sql/managed").join(name))
            .unwrap()
            .replace("@VERSION@", "0.0.1")
    };
    format!(
        "CREATE SCHEMA walferry;\n{}\n{}\n--{views}",
        managed("00_version.sql"),
        managed("01_library.sql")
    )
}

/// Writes something into each table that keeps something.
const FILL: &str = "SELECT walferry.heartbeat('kept'); \
     INSERT INTO walferry.slot_readers VALUES ('s', now(), 1, '0/1', 1)";
const KEPT: &str = "SELECT concat_ws(' ', (SELECT string_agg(source || beats, ',') FROM walferry.heartbeats), \
     (SELECT count(*) FROM walferry.wal_samples), (SELECT count(*) FROM walferry.slot_readers))";

/// A folder that servers of another account can run from.
fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("walferry-tree-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir_in("/tmp")
        .unwrap()
}

fn version(server: &Server, database: &str) -> String {
    server.value_in(
        database,
        "SELECT extversion FROM pg_extension WHERE extname = 'walferry'",
    )
}

#[test]
fn alter_extension_update_makes_what_create_extension_makes_and_keeps_the_rows() {
    let root = folder();
    let tree = ServerTree::without_walferry(root.path());
    let installed = Command::new(checkout().join("scripts/install-extension"))
        .arg(ServerTree::get().pkglibdir().join("walferry.so"))
        .args([tree.pkglibdir(), tree.extensiondir()])
        .status();
    assert!(installed.unwrap().success());
    let server = Server::builder().tree(tree).start();
    server.sql("CREATE DATABASE fresh");
    server.sql_in("fresh", "CREATE EXTENSION walferry");
    let (wanted, now) = (catalogue(&server, "fresh"), version(&server, "fresh"));

    fs::write(tree.extensiondir().join("walferry--0.0.1.sql"), FIRST).unwrap();
    fs::write(
        tree.extensiondir()
            .join(format!("walferry--0.0.1--{now}.sql")),
        written("update"),
    )
    .unwrap();
    server.sql("CREATE EXTENSION walferry VERSION '0.0.1'");
    assert_ne!(catalogue(&server, "postgres"), wanted);
    server.sql(FILL);
    server.sql("ALTER EXTENSION walferry UPDATE");
    assert_eq!(version(&server, "postgres"), now);
    assert_eq!(catalogue(&server, "postgres"), wanted);
    assert_eq!(server.value::<String>(KEPT), "kept1 1 1");
    // What uses it stops the update, and nothing is changed by halves.
    server.sql("DROP EXTENSION walferry; CREATE EXTENSION walferry VERSION '0.0.1'");
    server.sql("CREATE VIEW mine AS SELECT slot_name FROM walferry.slots");
    let stopped = server.try_sql("postgres", "ALTER EXTENSION walferry UPDATE");
    let stopped = format!("{:?}", stopped.unwrap_err());
    assert!(stopped.contains("view public.mine depends on"), "{stopped}");
    assert_eq!(version(&server, "postgres"), "0.0.1");
    server.sql("DROP VIEW mine; ALTER EXTENSION walferry UPDATE");
    server.sql("DROP EXTENSION walferry");
    assert_eq!(
        server.value::<i64>("SELECT count(*) FROM pg_namespace WHERE nspname = 'walferry'"),
        0
    );
}

/// What pg_tle's functions take and keep, by their names and arguments in its documentation. It hands the text to the
/// server as an extension's script, which is what the test does.
const STAND_IN: &str = "
    CREATE SCHEMA pgtle;
    CREATE TABLE pgtle.kept (version text, from_version text, ext text, is_default boolean);
    CREATE FUNCTION pgtle.available_extensions(OUT name name, OUT default_version text) RETURNS SETOF record
        LANGUAGE sql AS $$ SELECT 'walferry', k.version FROM pgtle.kept k WHERE k.is_default $$;
    CREATE FUNCTION pgtle.available_extension_versions(OUT name name, OUT version text) RETURNS SETOF record
        LANGUAGE sql AS $$ SELECT 'walferry', k.version FROM pgtle.kept k WHERE k.from_version IS NULL $$;
    CREATE FUNCTION pgtle.install_extension(name text, version text, description text, ext text, requires text[] DEFAULT NULL)
        RETURNS boolean LANGUAGE sql AS $$ INSERT INTO pgtle.kept VALUES (version, NULL, ext, true) RETURNING true $$;
    CREATE FUNCTION pgtle.install_extension_version_sql(name text, version text, ext text)
        RETURNS boolean LANGUAGE sql AS $$ INSERT INTO pgtle.kept VALUES (version, NULL, ext, false) RETURNING true $$;
    CREATE FUNCTION pgtle.install_update_path(name text, fromvers text, tovers text, ext text)
        RETURNS boolean LANGUAGE sql AS $$ INSERT INTO pgtle.kept VALUES (tovers, fromvers, ext, false) RETURNING true $$;
    CREATE FUNCTION pgtle.set_default_version(name text, version text) RETURNS boolean LANGUAGE sql AS $$
        UPDATE pgtle.kept k SET is_default = k.version = set_default_version.version AND k.from_version IS NULL
        RETURNING true $$;
    GRANT USAGE ON SCHEMA pgtle TO plain;
    GRANT ALL ON ALL TABLES IN SCHEMA pgtle TO plain;";

/// Gives the server as files what the stand-in was handed.
fn place(server: &Server, database: &str) {
    let directory = server.tree().extensiondir();
    let rows = server
        .client_in(database)
        .query(
            "SELECT concat_ws('--', 'walferry', from_version, version) || '.sql', ext, \
                    CASE WHEN is_default THEN version END FROM pgtle.kept",
            &[],
        )
        .unwrap();
    for row in rows {
        let text: String = row.get(1);
        // What an extension's script may not have in it.
        for line in text.lines() {
            assert!(!line.starts_with('\\'), "{line}");
            assert!(
                !["BEGIN;", "COMMIT;", "ROLLBACK;"].contains(&line.trim_start()),
                "{line}"
            );
        }
        fs::write(directory.join(row.get::<_, String>(0)), text).unwrap();
        if let Some(version) = row.get::<_, Option<String>>(2) {
            fs::write(
                directory.join("walferry.control"),
                format!("default_version = '{version}'\nrelocatable = false\nsuperuser = false\n"),
            )
            .unwrap();
        }
    }
}

/// On a server that has nothing of walferry, by a role that owns a database and no more.
#[test]
fn the_managed_pack_and_the_package_for_pg_tle_update_what_is_older() {
    let root = folder();
    let server = Server::builder()
        .tree(ServerTree::without_walferry(root.path()))
        .start();
    server.sql("CREATE ROLE plain LOGIN");
    for database in ["fresh", "managed", "tle", "tle_older"] {
        server.sql(&format!("CREATE DATABASE {database} OWNER plain"));
    }
    let as_plain = |database: &str, statements: &str| {
        server.sql_in(
            database,
            &format!("SET SESSION AUTHORIZATION plain; {statements}"),
        );
    };
    let pack = written("managed");
    server.psql(
        "fresh",
        &format!("SET SESSION AUTHORIZATION plain;\n{pack}"),
    );
    let wanted = catalogue(&server, "fresh");

    install(&server, &first_managed());
    as_plain("managed", FILL);
    assert_ne!(catalogue(&server, "managed"), wanted);
    install(&server, &pack);
    assert_eq!(catalogue(&server, "managed"), wanted);
    assert_eq!(server.value_in::<String>("managed", KEPT), "kept1 1 1");
    // Whoever owns the schema could put his own things under functions that run with their owner's rights.
    let by_superuser = server.try_sql("managed", &pack).unwrap_err();
    assert!(format!("{by_superuser:?}").contains("belongs to role"));

    let tle = format!("SET SESSION AUTHORIZATION plain;\n{}", written("tle"));
    server.sql_in("tle", STAND_IN);
    server.psql("tle", &tle);
    let twice = server.try_sql("tle", &tle).unwrap_err();
    assert!(format!("{twice:?}").contains("already"), "{twice:?}");
    // The statements are the pack's.
    let whole: String = server.value_in("tle", "SELECT ext FROM pgtle.kept");
    let statements = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.replace(" IF NOT EXISTS", ""))
            .collect()
    };
    let (whole, packed) = (statements(&whole), statements(&pack));
    let from = whole
        .iter()
        .position(|line| line.contains("FUNCTION walferry.version"))
        .unwrap();
    let in_pack = packed
        .iter()
        .position(|line| line.contains("FUNCTION walferry.version"))
        .unwrap();
    assert_eq!(whole[from..], packed[in_pack..in_pack + whole.len() - from]);
    place(&server, "tle");
    as_plain("tle", "CREATE EXTENSION walferry");
    assert_eq!(catalogue(&server, "tle"), wanted);
    as_plain("tle", "SELECT walferry.diagnose(); DROP EXTENSION walferry");
    assert_eq!(
        server.value_in::<i64>(
            "tle",
            "SELECT count(*) FROM pg_namespace WHERE nspname = 'walferry'"
        ),
        0
    );

    server.sql_in("tle_older", STAND_IN);
    server
        .client_in("tle_older")
        .execute(
            "INSERT INTO pgtle.kept VALUES ('0.0.1', NULL, $1, true)",
            &[&first_managed()],
        )
        .unwrap();
    server.psql("tle_older", &tle);
    place(&server, "tle_older");
    as_plain("tle_older", "CREATE EXTENSION walferry VERSION '0.0.1'");
    as_plain("tle_older", FILL);
    as_plain("tle_older", "ALTER EXTENSION walferry UPDATE");
    assert_eq!(catalogue(&server, "tle_older"), wanted);
    assert_eq!(server.value_in::<String>("tle_older", KEPT), "kept1 1 1");
}
