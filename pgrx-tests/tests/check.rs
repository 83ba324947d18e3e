//! `walferry check`: every verdict made real on a live
//! server, and what mends it run as it is printed.

mod verdicts;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use verdicts::{as_role, check, mend};
use walferry_tests::{Server, ServerTree, Shutdown, wait_until};

/// A check that cries wolf is ignored.
#[test]
fn a_healthy_server_and_a_role_with_no_more_than_it_needs_pass_in_every_line() {
    let server = Server::start_default();
    server.sql(
        "CREATE ROLE ferry LOGIN REPLICATION; CREATE SCHEMA sales; \
         CREATE TABLE sales.orders (id int PRIMARY KEY, at date); \
         CREATE TABLE sales.log (id int, at date) PARTITION BY RANGE (at); \
         CREATE TABLE sales.log_1 PARTITION OF sales.log (PRIMARY KEY (id)) DEFAULT; \
         CREATE UNLOGGED TABLE sales.scratch (id int); CREATE VIEW sales.seen AS SELECT 1; \
         CREATE PUBLICATION sales FOR TABLE sales.orders, sales.log; \
         GRANT USAGE ON SCHEMA sales TO ferry; \
         GRANT SELECT ON ALL TABLES IN SCHEMA sales TO ferry",
    );
    let url = as_role(&server, "ferry");
    for arguments in [
        &[][..],
        &["--plugin", "walferry"],
        &["--plugin", "wal2json"],
        &["--plugin", "pgoutput", "--publication", "sales"],
        &["--tables", "sales.*"],
        &["--slot", "later", "--create-slot"],
    ] {
        let checked = check(&url, arguments);
        assert_eq!(checked.code, 0, "{arguments:?}\n{checked}");
        assert_eq!(checked.not_passed(), [""; 0], "{arguments:?}\n{checked}");
    }
    // The trial leaves nothing behind.
    assert_eq!(
        server.value::<i64>("SELECT count(*) FROM pg_replication_slots"),
        0
    );
    // Nor does a slot that is there and read make a difference, or one that lags.
    server.create_slot("ferry", "walferry");
    let checked = check(&url, &["--slot", "ferry"]);
    assert_eq!(checked.not_passed(), [""; 0], "{checked}");
    assert!(
        checked
            .one("slot")
            .finding
            .starts_with("plugin walferry, read by nobody"),
        "{checked}"
    );
    let plain = check(&url, &["--mode", "realtime"]);
    assert_eq!(plain.one("server").verdict, "pass");
    assert!(plain.one("server").finding.contains("self-managed"));
    assert!(plain.one("disk").finding.contains("can't be seen"));
}

#[test]
fn settings_that_stop_decoding_are_mended_by_what_is_printed() {
    let server = Server::builder()
        .setting("wal_level", "replica")
        .setting("max_replication_slots", 1)
        .setting("max_wal_senders", 1)
        .setting("max_slot_wal_keep_size", "64MB")
        .setting("wal_sender_timeout", "0")
        .start();
    let url = server.url();
    let first = check(&url, &[]);
    assert_eq!(first.code, 3);
    assert_eq!(
        first.not_passed(),
        [
            "fail wal_level",
            "warn max_slot_wal_keep_size",
            "warn wal_sender_timeout",
            "warn plugin"
        ]
    );
    assert!(
        first
            .stderr
            .contains("replication would not work: wal_level")
    );
    assert_eq!(
        first.one("wal_level").sql(),
        ["ALTER SYSTEM SET wal_level = logical"]
    );
    mend(&server, &first);
    server.restart(Shutdown::Fast);

    server.create_slot("taken", "test_decoding");
    let reader = server
        .pg_recvlogical("postgres", "taken")
        .args(["--start", "--no-loop", "-f", "/dev/null"])
        .stderr(Stdio::null())
        .spawn();
    let mut reader = reader.unwrap();
    wait_until("the slot to be read", || {
        server.slot_active_pid("taken").is_some()
    });
    let full = check(&url, &[]);
    assert_eq!(full.code, 3);
    assert_eq!(
        full.not_passed(),
        [
            "fail wal_senders",
            "fail replication_slots",
            "fail replication_connection",
            "warn plugin"
        ]
    );
    // A slot that is there needs no room for another.
    assert_eq!(
        check(&url, &["--slot", "taken"])
            .one("replication_slots")
            .verdict,
        "pass"
    );
    mend(&server, &full);
    server.restart(Shutdown::Fast);
    let _ = reader.wait();
    let mended = check(&url, &[]);
    assert_eq!(mended.code, 0, "{mended}");
    assert_eq!(mended.not_passed(), [""; 0]);
}

/// A role without the right to replicate; and no secret is shown.
#[test]
fn a_role_without_rights_gets_the_statements_that_give_them() {
    let server = Server::start_default();
    server.sql(
        "CREATE ROLE plain LOGIN PASSWORD 'hunter2'; CREATE SCHEMA shop; CREATE TABLE shop.a (id int PRIMARY KEY); \
         CREATE TABLE b (id int PRIMARY KEY)",
    );
    let url = as_role(&server, "plain");
    let checked = check(&url, &[]);
    assert_eq!(checked.code, 3);
    assert_eq!(
        checked.not_passed(),
        [
            "fail replication_right",
            "warn plugin",
            "warn table_grants",
            "warn table_grants"
        ]
    );
    assert_eq!(
        checked.one("replication_right").sql(),
        ["ALTER ROLE \"plain\" REPLICATION"]
    );
    // Changes need no right to a table, and then there is nothing to warn of.
    let realtime = check(&url, &["--mode", "realtime"]);
    assert_eq!(realtime.one("table_grants").verdict, "pass");
    mend(&server, &checked);
    let mended = check(&url, &[]);
    assert_eq!(mended.not_passed(), [""; 0], "{mended}");
    // A role that row security applies to would copy less than there is.
    server.sql("ALTER TABLE b ENABLE ROW LEVEL SECURITY");
    let hidden = check(&url, &[]);
    assert_eq!(hidden.not_passed(), ["warn row_security"]);
    mend(&server, &hidden);
    assert_eq!(check(&url, &[]).not_passed(), [""; 0]);

    for arguments in [
        &["--slot", "No"][..],
        &["--tables", "orders"],
        &["--mode", "no"],
    ] {
        assert_eq!(check(&url, arguments).code, 2, "{arguments:?}");
    }
    let wrong = check(
        &url.replace("plain@", "plain:hunter2@")
            .replace("/postgres?", "/nowhere?"),
        &[],
    );
    assert_eq!(wrong.code, 3);
    assert_eq!(wrong.not_passed(), ["fail connection"]);
    assert!(wrong.one("connection").finding.contains("3D000"), "{wrong}");
    assert!(!wrong.to_string().contains("hunter2"));
}

#[test]
fn a_host_that_may_not_connect_is_told_the_line_for_pg_hba() {
    let server = Server::builder().hba("local all shut reject").start();
    server.sql("CREATE ROLE shut LOGIN REPLICATION");
    let checked = check(&as_role(&server, "shut"), &[]);
    assert_eq!(checked.not_passed(), ["fail connection"]);
    let note = checked.one("connection").note.clone().unwrap();
    assert!(note.contains("pg_hba.conf"), "{note}");
}

/// A partition has a replica identity of its own.
#[test]
fn tables_that_cannot_name_their_old_rows_are_told_apart_and_mended() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE bare (id int); CREATE TABLE quiet (id int); \
         CREATE TABLE unique_only (id int NOT NULL UNIQUE, n int UNIQUE); \
         CREATE TABLE unset (id int PRIMARY KEY); ALTER TABLE unset REPLICA IDENTITY NOTHING; \
         CREATE TABLE late (id int PRIMARY KEY DEFERRABLE); \
         CREATE TABLE whole (id int); ALTER TABLE whole REPLICA IDENTITY FULL; \
         CREATE TABLE parted (id int) PARTITION BY RANGE (id); \
         CREATE TABLE leaf PARTITION OF parted DEFAULT; ALTER TABLE parted REPLICA IDENTITY FULL; \
         INSERT INTO bare VALUES (1), (2)",
    );
    server
        .client()
        .batch_execute("UPDATE bare SET id = 3 WHERE id = 1")
        .unwrap();
    wait_until("the statistics", || {
        server.value::<i64>("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'bare'") == 1
    });
    let url = server.url();
    let checked = check(&url, &[]);
    assert_eq!(checked.code, 3);
    let of = |object: &str| checked.of("replica_identity", object);
    assert_eq!(of("public.bare").verdict, "fail");
    for (table, statement) in [
        (
            "bare",
            "ALTER TABLE \"public\".\"bare\" REPLICA IDENTITY FULL",
        ),
        (
            "quiet",
            "ALTER TABLE \"public\".\"quiet\" REPLICA IDENTITY FULL",
        ),
        (
            "unique_only",
            "ALTER TABLE \"public\".\"unique_only\" REPLICA IDENTITY USING INDEX \"unique_only_id_key\"",
        ),
        (
            "unset",
            "ALTER TABLE \"public\".\"unset\" REPLICA IDENTITY DEFAULT",
        ),
        (
            "late",
            "ALTER TABLE \"public\".\"late\" REPLICA IDENTITY FULL",
        ),
        // The root's identity is not its partitions'.
        (
            "leaf",
            "ALTER TABLE \"public\".\"leaf\" REPLICA IDENTITY FULL",
        ),
    ] {
        assert_eq!(of(&format!("public.{table}")).sql(), [statement]);
        if table != "bare" {
            assert_eq!(of(&format!("public.{table}")).verdict, "warn");
        }
    }
    assert_eq!(checked.all("replica_identity").len(), 6);
    // The same refusal as run's, lifted in the same ways.
    for arguments in [
        ["--missing-identity", "accept"],
        ["--exclude-tables", "public.bare"],
    ] {
        assert_eq!(check(&url, &arguments).code, 0);
    }
    mend(&server, &checked);
    let mended = check(&url, &[]);
    assert_eq!(mended.not_passed(), [""; 0], "{mended}");
}

/// Partitions that a choice by name leaves out.
#[test]
fn a_choice_of_tables_that_yields_nothing_or_half_is_said() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE \"Orders\" (id int PRIMARY KEY); CREATE VIEW seen AS SELECT 1; \
         CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY); \
         CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id); \
         CREATE TABLE parted_1 PARTITION OF parted DEFAULT",
    );
    let url = server.url();
    let checked = check(&url, &["--tables", "public.orders"]);
    assert_eq!(checked.not_passed(), ["warn tables", "fail tables"]);
    assert_eq!(checked.of("tables", "public.orders").verdict, "warn");
    let checked = check(&url, &["--tables", "public.seen,public.Orders"]);
    assert_eq!(checked.not_passed(), ["fail tables"]);
    assert!(checked.of("tables", "public.seen").finding.contains("view"));
    let checked = check(&url, &["--tables", "public.parted,public.Orders"]);
    assert_eq!(checked.not_passed(), ["fail tables"]);
    let note = checked.of("tables", "public.parted").finding.clone();
    assert!(note.contains("public.parted_1"), "{note}");
    assert_eq!(check(&url, &["--tables", "public.parted*"]).code, 0);
    let checked = check(&url, &["--tables", "public.scratch,public.Orders"]);
    assert_eq!(checked.not_passed(), ["fail tables"]);
    mend(&server, &checked);
    assert_eq!(check(&url, &["--tables", "public.scratch"]).code, 0);
}

#[test]
fn publications_that_are_missing_or_lack_something_are_mended() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE bare (id int); \
         CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id); \
         CREATE TABLE parted_1 PARTITION OF parted DEFAULT",
    );
    let url = server.url();
    let pgoutput = |arguments: &[&str]| {
        let all: Vec<&str> = ["--plugin", "pgoutput", "--exclude-tables", "public.bare"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        check(&url, &all)
    };
    // A run that makes its slot makes the publication too, where its role may.
    assert_eq!(pgoutput(&[]).not_passed(), [""; 0]);
    server.sql("CREATE ROLE ferry LOGIN REPLICATION");
    let unable = check(
        &as_role(&server, "ferry"),
        &[
            "--plugin",
            "pgoutput",
            "--mode",
            "realtime",
            "--tables",
            "public.a,public.parted*",
        ],
    );
    assert_eq!(unable.not_passed(), ["fail publication"]);
    assert_eq!(
        unable.of("publication", "walferry").sql(),
        ["CREATE PUBLICATION \"walferry\" FOR TABLE \"public\".\"a\", \"public\".\"parted\""]
    );
    server.create_slot("old", "pgoutput");
    let late = pgoutput(&["--publication", "shop", "--slot", "old", "--create-slot"]);
    assert_eq!(late.not_passed(), ["fail publication"]);
    assert!(
        late.one("publication")
            .note
            .as_ref()
            .unwrap()
            .contains("then a new slot")
    );
    let missing = pgoutput(&["--publication", "shop", "--slot", "old"]);
    assert_eq!(missing.not_passed(), ["fail publication"]);
    mend(&server, &missing);
    assert_eq!(pgoutput(&["--publication", "shop"]).not_passed(), [""; 0]);

    server.sql("CREATE PUBLICATION half FOR TABLE a WITH (publish = 'insert')");
    let half = pgoutput(&[
        "--publication",
        "half",
        "--tables",
        "public.a,public.b,public.parted_*",
    ]);
    assert_eq!(half.not_passed(), ["fail publication", "warn publication"]);
    mend(&server, &half);
    let half = pgoutput(&[
        "--publication",
        "half",
        "--tables",
        "public.a,public.b,public.parted_*",
    ]);
    assert_eq!(half.not_passed(), [""; 0], "{half}");

    // The server would refuse UPDATEs of what it can't log.
    server.sql("CREATE PUBLICATION everything FOR ALL TABLES");
    let bare = check(
        &url,
        &[
            "--plugin",
            "pgoutput",
            "--publication",
            "everything",
            "--tables",
            "public.bare",
        ],
    );
    assert!(
        server
            .try_sql(
                "postgres",
                "INSERT INTO bare VALUES (1); UPDATE bare SET id = 2"
            )
            .is_err()
    );
    assert_eq!(
        bare.of("publication_identity", "public.bare").verdict,
        "warn"
    );
    mend(&server, &bare);
    server.sql("INSERT INTO bare VALUES (1); UPDATE bare SET id = 2");
}

#[test]
fn slots_that_cannot_be_read_are_told_apart() {
    let server = Server::start_default();
    server.sql("CREATE DATABASE elsewhere");
    server.sql("SELECT pg_create_physical_replication_slot('whole')");
    server.create_slot("theirs", "test_decoding");
    server.create_slot_in("elsewhere", "far", "walferry");
    let url = server.url();
    for (slot, words) in [
        ("whole", "physical slot"),
        ("theirs", "belongs to plugin test_decoding, not walferry"),
        ("far", "belongs to database elsewhere"),
        ("nowhere", "does not exist"),
    ] {
        let checked = check(&url, &["--slot", slot, "--plugin", "walferry"]);
        assert_eq!(checked.not_passed(), ["fail slot"], "{slot}");
        assert!(checked.one("slot").finding.contains(words), "{checked}");
    }
    let missing = check(&url, &["--slot", "nowhere"]);
    assert_eq!(
        missing.one("slot").commands(),
        ["walferry slot create nowhere"]
    );
}

/// A slot that is lost is said to be, with the way on.
#[test]
fn a_lost_slot_fails_with_the_command_that_drops_it() {
    let server = Server::builder()
        .setting("max_slot_wal_keep_size", "1MB")
        .setting("min_wal_size", "32MB")
        .setting("max_wal_size", "32MB")
        .start();
    server.create_slot("ferry", "walferry");
    wait_until("the slot to be lost", || {
        server.sql("CREATE TABLE filler AS SELECT repeat('x', 900) FROM generate_series(1, 20000); DROP TABLE filler");
        server
            .client()
            .batch_execute("SELECT pg_switch_wal(); CHECKPOINT")
            .unwrap();
        server.value::<String>("SELECT wal_status FROM pg_replication_slots") == "lost"
    });
    let checked = check(&server.url(), &["--slot", "ferry"]);
    assert_eq!(checked.code, 3);
    let slot = checked.of("slot", "ferry");
    assert!(slot.finding.contains("lost"), "{checked}");
    assert_eq!(slot.commands(), ["walferry slot drop ferry"]);
}

/// What holds a new slot up is named, with what ends it.
#[test]
fn open_and_prepared_transactions_that_hold_a_new_slot_up_are_named_and_ended() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE ferry LOGIN REPLICATION");
    server.sql("GRANT SELECT ON t TO ferry");
    server.sql("CREATE DATABASE elsewhere");
    let mut open = server.client_in("elsewhere");
    open.batch_execute("BEGIN; SELECT txid_current(), 'the culprit'")
        .unwrap();
    let pid: i32 = open
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    server.sql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s forgotten'");
    let checked = check(&server.url(), &[]);
    assert_eq!(checked.code, 0, "slow, but not stopped\n{checked}");
    assert_eq!(
        checked.not_passed_sorted(),
        ["warn open_transactions", "warn prepared_transactions"]
    );
    let one = checked.of("open_transactions", &format!("PID {pid}"));
    assert!(
        one.finding.contains("role postgres in database elsewhere"),
        "{one:?}"
    );
    assert!(one.finding.contains("pg_backend_pid"), "{one:?}");
    let prepared = checked.of("prepared_transactions", "it's forgotten");
    assert_eq!(prepared.sql(), ["ROLLBACK PREPARED 'it''s forgotten'"]);
    // A role that may not see others' sessions is told as much as it may know.
    let seen = check(&as_role(&server, "ferry"), &[]);
    let one = seen.of("open_transactions", &format!("PID {pid}"));
    assert!(one.finding.contains("role postgres"), "{one:?}");
    assert!(!one.finding.contains("the culprit"), "{one:?}");
    // A slot that is there waits for nobody.
    mend(&server, &checked);
    let mended = check(&server.url(), &[]);
    assert_eq!(mended.not_passed(), [""; 0], "{mended}");
}

#[test]
fn a_plugin_that_is_not_listed_or_not_installed_is_mended_where_it_can_be() {
    let listed = ServerTree::get().has_output_plugin_libraries();
    let server = Server::builder().default_output_plugin_libraries().start();
    server.sql("CREATE ROLE ferry LOGIN REPLICATION");
    server.create_slot("other", "test_decoding");
    let url = server.url();
    let missing = check(&url, &["--plugin", "wal2json"]);
    if !listed {
        assert_eq!(missing.code, 0, "{missing}");
        return;
    }
    assert_eq!(
        missing.not_passed(),
        ["fail output_plugin_libraries", "fail plugin"]
    );
    assert_eq!(
        missing.one("output_plugin_libraries").sql(),
        [
            "ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, wal2json",
            "SELECT pg_reload_conf()"
        ]
    );
    // A role that may not read the list is told that, and never that there is none.
    let hidden = check(&as_role(&server, "ferry"), &["--plugin", "wal2json"]);
    let one = hidden.one("output_plugin_libraries");
    assert!(one.finding.contains("this role can't read"), "{hidden}");
    assert!(
        one.note
            .as_ref()
            .unwrap()
            .contains("SHOW output_plugin_libraries first")
    );
    mend(&server, &missing);
    wait_until("the setting", || {
        server
            .value::<String>("SHOW output_plugin_libraries")
            .contains("wal2json")
    });
    assert_eq!(check(&url, &["--plugin", "wal2json"]).code, 0);
    // The next keeps what was added.
    let walferry = check(&url, &["--plugin", "walferry"]);
    assert_eq!(
        walferry.one("output_plugin_libraries").sql()[0],
        "ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, wal2json, walferry"
    );
    // Left to itself a run would take wal2json; the other's refusal is told by the way.
    let auto = check(&url, &[]);
    assert_eq!(auto.code, 0, "{auto}");
    assert_eq!(auto.one("plugin").object.as_deref(), Some("wal2json"));
}

#[test]
fn a_plugin_without_its_library_is_told_how_to_get_it() {
    let server = Server::builder()
        .setting("dynamic_library_path", "/nowhere")
        .start();
    let url = server.url();
    let checked = check(&url, &[]);
    assert_eq!(checked.code, 3);
    assert_eq!(checked.not_passed(), ["fail plugin"]);
    let plugin = checked.of("plugin", "walferry");
    assert!(plugin.finding.contains("58P01"), "{checked}");
    assert!(
        plugin.commands()[0].starts_with("make install PG_CONFIG="),
        "{checked}"
    );
    let wal2json = check(&url, &["--plugin", "wal2json"]);
    assert!(
        wal2json.one("plugin").commands()[0].ends_with("-wal2json"),
        "{wal2json}"
    );
    server.configure(&[("dynamic_library_path", "$libdir")]);
    server.reload();
    wait_until("the libraries", || {
        server.value::<String>("SHOW dynamic_library_path") == "$libdir"
    });
    assert_eq!(check(&url, &[]).not_passed(), [""; 0]);
}

/// A standby before 16 can't decode; from 16 on it can, and is told what it needs.
#[test]
fn a_standby_is_told_what_it_can_and_cannot() {
    let primary = Server::start_default();
    let standby = Server::builder().start_standby_of(&primary);
    let checked = check(&standby.url(), &[]);
    let major: i32 = standby.value("SELECT current_setting('server_version_num')::int / 10000");
    let one = checked.one("primary");
    if major < 16 {
        assert_eq!(checked.code, 3);
        assert_eq!(one.verdict, "fail");
        assert!(one.note.as_ref().unwrap().contains("primary"), "{checked}");
    } else {
        assert_eq!(one.verdict, "warn");
        for statement in one.sql() {
            standby.sql(statement);
        }
        wait_until("the setting", || {
            standby.value::<String>("SHOW hot_standby_feedback") == "on"
        });
        // A slot there begins at what an idle primary has to be asked to write.
        let waiting = check(&standby.url(), &[]);
        assert_eq!(waiting.not_passed(), ["warn plugin"], "{waiting}");
        let statement = waiting.one("plugin").sql()[0].to_owned();
        let ended = std::sync::atomic::AtomicBool::new(false);
        let passed = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    primary.sql(&statement);
                    std::thread::sleep(std::time::Duration::from_millis(200));
                }
            });
            let checked = check(&standby.url(), &[]);
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
            checked
        });
        assert_eq!(passed.not_passed(), [""; 0], "{passed}");
    }
}

/// On RDS the right is a role, and settings are a parameter group's.
#[test]
fn on_rds_and_aurora_the_parameter_group_and_the_role_are_named() {
    let server = Server::builder()
        .setting("wal_level", "replica")
        .setting("max_replication_slots", 3)
        .setting("rds.logical_replication", "off")
        .setting("rds.iam_auth_for_replication", "off")
        .start();
    server.sql(
        "CREATE ROLE rds_superuser; CREATE ROLE rds_replication; CREATE ROLE rds_iam; \
         CREATE ROLE plain LOGIN; GRANT rds_iam TO plain",
    );
    let url = as_role(&server, "plain");
    let rds = check(&url, &[]);
    assert_eq!(rds.flavour, "rds");
    let wal_level = rds.one("wal_level");
    assert_eq!(wal_level.parameters(), ["rds.logical_replication = 1"]);
    assert!(
        wal_level
            .note
            .as_ref()
            .unwrap()
            .contains("DB parameter group; then reboot")
    );
    assert_eq!(
        rds.one("replication_right").sql(),
        ["GRANT rds_replication TO \"plain\""]
    );
    assert_eq!(
        rds.one("iam_auth_for_replication").parameters(),
        ["rds.iam_auth_for_replication = 1"]
    );
    assert!(!rds.to_string().contains("ALTER SYSTEM"), "{rds}");

    server.sql("SET allow_system_table_mods = on; CREATE FUNCTION pg_catalog.aurora_version() RETURNS text LANGUAGE sql AS 'SELECT ''15.4'''");
    let aurora = check(&url, &[]);
    assert_eq!(aurora.flavour, "aurora");
    assert!(
        aurora
            .one("wal_level")
            .note
            .as_ref()
            .unwrap()
            .contains("cluster parameter group"),
        "{aurora}"
    );

    // Set, and not rebooted since.
    server.configure(&[("rds.logical_replication", "on")]);
    server.reload();
    wait_until("the setting", || {
        server.value::<String>("SHOW rds.logical_replication") == "on"
    });
    let waiting = check(&url, &[]);
    assert!(
        waiting.one("wal_level").finding.contains("not rebooted"),
        "{waiting}"
    );

    // Then it decodes; what can't be installed there is not proposed.
    server.configure(&[
        ("wal_level", "logical"),
        ("rds.iam_auth_for_replication", "on"),
    ]);
    server.restart(Shutdown::Fast);
    server.sql("ALTER ROLE plain REPLICATION");
    assert_eq!(
        check(&url, &["--plugin", "pgoutput"]).code,
        3,
        "no publication"
    );
    let ready = check(&url, &["--plugin", "wal2json", "--mode", "realtime"]);
    assert_eq!(ready.code, 0, "{ready}");
    assert_eq!(ready.not_passed(), [""; 0]);
}

#[test]
fn cloud_sql_and_azure_are_told_by_what_only_they_have() {
    let server = Server::builder()
        .setting("wal_level", "replica")
        .setting("cloudsql.logical_decoding", "off")
        .start();
    let cloud = check(&server.url(), &[]);
    assert_eq!(cloud.flavour, "cloud-sql");
    assert_eq!(
        cloud.one("wal_level").parameters(),
        ["cloudsql.logical_decoding=on"]
    );
    drop(server);
    let server = Server::builder().setting("wal_level", "replica").start();
    server.sql("CREATE ROLE azure_pg_admin");
    let azure = check(&server.url(), &[]);
    assert_eq!(azure.flavour, "azure");
    assert_eq!(azure.one("wal_level").parameters(), ["wal_level = logical"]);
    assert!(
        azure
            .one("wal_level")
            .note
            .as_ref()
            .unwrap()
            .contains("parameters")
    );
}

/// What carries queries but no replication is recognised,
/// before anybody looks for the fault in the server.
#[test]
fn a_pooler_that_answers_queries_and_refuses_replication_is_recognised() {
    let server = Server::start_default();
    let port = pooler(&server);
    let checked = check(
        &format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable"),
        &[],
    );
    assert_eq!(checked.code, 3);
    assert_eq!(
        checked.not_passed(),
        ["warn pooler", "fail replication_connection", "warn plugin"]
    );
    let refused = checked.one("replication_connection");
    assert!(
        refused.note.as_ref().unwrap().contains("connection pooler"),
        "{checked}"
    );
    assert!(
        checked
            .one("pooler")
            .note
            .as_ref()
            .unwrap()
            .contains("own host and port")
    );
}

/// What a pooler does: it gives its clients process ids of its own, and has no
/// place for a walsender (PgBouncer before 1.23, RDS Proxy).
fn pooler(server: &Server) -> u16 {
    let socket = server
        .socket_dir()
        .join(format!(".s.PGSQL.{}", server.port()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let socket = socket.clone();
            std::thread::spawn(move || pool(client, &socket));
        }
    });
    port
}

fn pool(mut client: TcpStream, socket: &std::path::Path) {
    let mut length = [0; 4];
    if client.read_exact(&mut length).is_err() {
        return;
    }
    let mut packet = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut packet).unwrap();
    if packet.windows(12).any(|window| window == b"replication\0") {
        let body = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: replication\0\0";
        let mut answer = vec![b'E'];
        answer.extend((body.len() as u32 + 4).to_be_bytes());
        answer.extend(body);
        let _ = client.write_all(&answer);
        return;
    }
    let mut server = UnixStream::connect(socket).unwrap();
    server.write_all(&length).unwrap();
    server.write_all(&packet).unwrap();
    // Up to ReadyForQuery, with another process id in BackendKeyData.
    loop {
        let mut header = [0; 5];
        server.read_exact(&mut header).unwrap();
        let mut body = vec![0; u32::from_be_bytes(header[1..].try_into().unwrap()) as usize - 4];
        server.read_exact(&mut body).unwrap();
        if header[0] == b'K' {
            body[..4].copy_from_slice(&1_234_567_i32.to_be_bytes());
        }
        client.write_all(&header).unwrap();
        client.write_all(&body).unwrap();
        if header[0] == b'Z' {
            break;
        }
    }
    let (mut from_client, mut to_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Both);
    });
    let _ = std::io::copy(&mut server, &mut client);
}

#[test]
fn a_heartbeat_table_is_looked_at_and_never_stops_anything() {
    let server = Server::start_default();
    server.sql(
        "CREATE ROLE ferry LOGIN REPLICATION; CREATE TABLE a (id int PRIMARY KEY); CREATE PUBLICATION shop FOR TABLE a",
    );
    let url = as_role(&server, "ferry");
    let beat = |arguments: &[&str]| {
        let all: Vec<&str> = ["--heartbeat-table", "public.beat", "--mode", "realtime"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let checked = check(&url, &all);
        assert_eq!(checked.code, 0, "{checked}");
        checked
    };
    let pgoutput = ["--plugin", "pgoutput", "--publication", "shop"];
    assert_eq!(beat(&["--create-heartbeat-table"]).not_passed(), [""; 0]);
    let missing = beat(&[]);
    assert_eq!(missing.not_passed(), ["warn heartbeat"]);
    server.sql("CREATE TABLE beat (\"timestamp\" bigint NOT NULL PRIMARY KEY)");
    let denied = beat(&[]);
    assert_eq!(denied.of("heartbeat", "public.beat").verdict, "warn");
    mend(&server, &denied);
    assert_eq!(beat(&[]).not_passed(), [""; 0]);
    let unpublished = beat(&pgoutput);
    assert_eq!(unpublished.not_passed(), ["warn heartbeat"]);
    mend(&server, &unpublished);
    assert_eq!(beat(&pgoutput).not_passed(), [""; 0]);
    server.sql("DROP TABLE beat");
    mend(&server, &missing);
    assert_eq!(beat(&[]).not_passed(), [""; 0]);
}

#[test]
fn every_slot_of_a_configuration_is_looked_at() {
    let server = Server::builder()
        .setting("max_replication_slots", 3)
        .setting("max_wal_senders", 2)
        .start();
    server.sql("CREATE TABLE t (id int PRIMARY KEY)");
    server.create_slot("first", "wal2json");
    server.create_slot("second", "walferry");
    let file = server.scratch_dir().join("connection.yaml");
    let listed = |slots: &[(&str, &str)], reader: &str| {
        let slots: String = slots
            .iter()
            .map(|(name, plugin)| format!("  {name}: [{plugin}]\n"))
            .collect();
        let text = format!("log-reader-type: {reader}\nreplication-slots:\n{slots}");
        std::fs::write(&file, text).unwrap();
        check(&server.url(), &["--connection", file.to_str().unwrap()])
    };
    let sound = listed(&[("first", "wal2json"), ("second", "walferry")], "STREAM");
    assert_eq!(sound.code, 0, "{sound}");
    assert_eq!(sound.not_passed(), [""; 0], "{sound}");
    let plugins: Vec<&str> = sound.objects("plugin");
    assert_eq!(plugins, ["wal2json", "walferry"], "{sound}");
    assert_eq!(sound.objects("slot"), ["first", "second"], "{sound}");

    // Another plugin than the slot's, one that is missing, one walsender too few.
    let all = [
        ("first", "wal2json"),
        ("second", "wal2json"),
        ("third", "wal2json"),
    ];
    let checked = listed(&all, "STREAM");
    assert_eq!(
        checked.not_passed(),
        ["fail wal_senders", "fail slot", "fail slot"],
        "{checked}"
    );
    assert_eq!(checked.code, 3);
    assert!(
        checked.to_string().contains("3 slots take one each"),
        "{checked}"
    );

    // Polling takes no walsender, and no replication connection.
    let checked = listed(&all[..1], "SQL");
    assert_eq!(checked.not_passed(), [""; 0], "{checked}");
    assert!(
        checked
            .one("replication_connection")
            .finding
            .contains("not needed"),
        "{checked}"
    );
}

#[test]
fn a_server_that_is_polled_needs_the_right_to_replicate_and_nothing_of_walsenders() {
    let server = Server::builder().setting("max_wal_senders", "0").start();
    server.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE ferry LOGIN");
    let url = as_role(&server, "ferry");
    let polled = &["--reader", "sql"][..];
    let streamed = check(&url, &[]);
    assert_eq!(streamed.code, 3, "{streamed}");
    let checked = check(&url, polled);
    assert!(
        checked
            .not_passed()
            .contains(&"fail replication_right".to_owned()),
        "{checked}"
    );
    server.sql("ALTER ROLE ferry REPLICATION");
    let checked = check(&url, &[polled, &["--mode", "realtime"]].concat());
    assert_eq!(checked.not_passed(), [""; 0], "{checked}");
}
