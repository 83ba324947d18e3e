//! The guides from zero to streaming, followed: every SQL statement that
//! `docs/self-managed.md`, `rds.md` and `aurora.md` print is run in its place,
//! by a role with the rights that the page says, and then it streams.

mod delivery;
mod verdicts;

use std::fs;

use delivery::{Destination, SECONDS};
use verdicts::{as_role, check};
use walferry_tests::{Encoding, Server, ServerTree, Shutdown, Streamer, checkout, wait_until};

/// A page's SQL statements, in order.
fn statements(page: &str) -> Vec<String> {
    let text = fs::read_to_string(checkout().join("docs").join(page)).unwrap();
    let mut statements = Vec::new();
    for block in text.split("```sql\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let code: Vec<&str> = block
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"))
            .collect();
        let code = code.join("\n");
        statements.extend(
            code.split(";\n")
                .map(|statement| statement.trim().trim_end_matches(';').to_owned())
                .filter(|statement| !statement.is_empty()),
        );
    }
    assert!(!statements.is_empty(), "{page} has no SQL");
    statements
}

/// The database that the pages speak of, with `owner`'s tables in it.
fn shop(server: &Server, owner: &str) {
    server.create_database("shop", Encoding::Utf8);
    server.sql(&format!("ALTER DATABASE shop OWNER TO {owner}"));
    server.sql_in(
        "shop",
        &format!(
            "SET ROLE {owner}; CREATE SCHEMA shop; CREATE TABLE shop.orders (id int PRIMARY KEY, total numeric); \
             CREATE TABLE shop.visits (token uuid NOT NULL CONSTRAINT visits_token_key UNIQUE); CREATE TABLE shop.log (line text)"
        ),
    );
}

fn in_shop(url: &str) -> String {
    url.replace("/postgres?", "/shop?")
}

/// Makes the slot, and delivers an INSERT, an UPDATE and a DELETE.
fn stream(server: &Server, url: &str, arguments: &[&str]) {
    let destination = Destination::new();
    let run = |until: &str| {
        Streamer::run(url, "ferry")
            .args([
                "--create-slot",
                "--sink",
                &destination.url(),
                "--until-lsn",
                until,
            ])
            .args(arguments.iter().copied())
            .run(60 * SECONDS)
            .expect_code(0)
    };
    run("0/1");
    server.sql_in("shop", "INSERT INTO shop.orders VALUES (1, 19.90)");
    server.sql_in("shop", "UPDATE shop.orders SET total = 20");
    server.sql_in("shop", "DELETE FROM shop.orders");
    run(&server.flushed_lsn().to_string());
    assert_eq!(
        destination.delivered().operations(),
        ["c 1", "u 1", "d 1"],
        "{arguments:?}"
    );
}

#[test]
fn the_guide_for_a_server_of_ones_own_leads_to_a_stream() {
    let server = Server::builder()
        .setting("wal_level", "replica")
        .default_output_plugin_libraries()
        .start();
    shop(&server, "postgres");
    let url = in_shop(&as_role(&server, "ferry"));
    let all = statements("self-managed.md");
    let (last, steps) = all.split_last().unwrap();
    for statement in steps {
        let listed = statement.contains("output_plugin_libraries");
        if !listed || ServerTree::get().has_output_plugin_libraries() {
            server.sql_in("shop", statement);
        }
        if statement.contains("wal_level") {
            server.restart(Shutdown::Fast);
        }
    }
    for plugin in [
        &["--plugin", "walferry"][..],
        &["--plugin", "wal2json"],
        &["--plugin", "pgoutput", "--publication", "walferry"],
    ] {
        if plugin[1] == "wal2json" && !has_wal2json(&server) {
            continue;
        }
        let checked = check(&url, plugin);
        assert_eq!(checked.not_passed(), [""; 0], "{checked}");
    }
    let pgoutput = ["--plugin", "pgoutput", "--publication", "walferry"];
    stream(&server, &url, &pgoutput);
    server.sql_in("shop", last);
    stream(&server, &url, &[]);
    server.sql_in("shop", last);
    assert_eq!(server.confirmed_flush("ferry"), None, "{last}");
}

fn has_wal2json(server: &Server) -> bool {
    server
        .try_sql("postgres", "SELECT pg_drop_replication_slot(slot_name) FROM pg_create_logical_replication_slot('trial', 'wal2json')")
        .is_ok()
}

/// Least-privilege statements for a service where nobody is
/// superuser.
#[test]
fn the_guide_for_rds_leads_to_a_stream_without_a_superuser() {
    let server = Server::builder()
        .setting("rds.logical_replication", "on")
        .start();
    if !has_wal2json(&server) {
        return;
    }
    server.sql(
        "CREATE ROLE rds_superuser; CREATE ROLE rds_replication; CREATE ROLE master LOGIN CREATEROLE CREATEDB; \
         GRANT rds_superuser TO master; GRANT rds_replication TO master WITH ADMIN OPTION",
    );
    shop(&server, "master");
    let run = |statement: &str| {
        server.try_sql(
            "shop",
            &format!("SET SESSION AUTHORIZATION master; {statement}"),
        )
    };
    for page in ["rds.md", "aurora.md"] {
        for statement in statements(page) {
            if statement.contains("pg_create_logical_replication_slot") {
                // What other guides print, refused as the page says.
                assert!(run("ALTER ROLE ferry WITH REPLICATION").is_err());
                assert!(
                    run("SELECT pg_drop_replication_slot('by_hand') WHERE NOT active").is_err()
                );
            }
            let outcome =
                if statement.contains("pg_create_logical") || statement.contains("pg_drop") {
                    // A slot can't be made in a transaction that has written.
                    server.try_sql("shop", &statement)
                } else {
                    run(&statement)
                };
            outcome.unwrap_or_else(|error| panic!("{error:?}\n{statement}"));
        }
        assert_eq!(server.confirmed_flush("by_hand"), None);
        // This server does not know what rds_replication is for; the attribute stands in.
        server.sql("ALTER ROLE ferry REPLICATION");
        let url = in_shop(&as_role(&server, "ferry"));
        for plugin in [
            &["--plugin", "wal2json"][..],
            &["--plugin", "pgoutput", "--publication", "walferry"],
        ] {
            let mut arguments = plugin.to_vec();
            arguments.extend(["--tables", "shop.*", "--exclude-tables", "shop.visits"]);
            let checked = check(&url, &arguments);
            assert_eq!(checked.flavour, "rds");
            assert_eq!(checked.not_passed(), [""; 0], "{checked}");
            stream(&server, &url, &arguments);
            server.sql_in("shop", "SELECT pg_drop_replication_slot('ferry')");
        }
        server.sql_in("shop", "DROP PUBLICATION walferry; DROP OWNED BY ferry");
        server.sql("DROP OWNED BY ferry; DROP ROLE ferry");
        if page == "rds.md" {
            server.sql_in("shop", "DROP TABLE public.replicate_io_cdc_heartbeat");
        }
    }
}

/// The errors that the guides of others list are on our page in the server's
/// own words.
#[test]
fn the_page_of_errors_has_the_texts_that_servers_print() {
    let page = fs::read_to_string(checkout().join("docs/errors.md")).unwrap();
    let create = |url: &str| {
        let exit = Streamer::builder()
            .args([
                "slot",
                "create",
                "refused",
                "--plugin",
                "test_decoding",
                "--source",
                url,
            ])
            .run(30 * SECONDS);
        exit.expect_code(1).stderr.join("\n")
    };
    let known = |text: &str, words: &str| {
        assert!(text.contains(words), "{words:?} is not in {text}");
        assert!(page.contains(words), "{words:?} is not on the page");
    };
    let server = Server::builder()
        .tcp()
        .setting("wal_level", "replica")
        .start();
    server.sql("CREATE ROLE plain LOGIN; CREATE ROLE ferry LOGIN REPLICATION");
    let ferry = as_role(&server, "ferry");
    let major: i32 = server.value("SELECT current_setting('server_version_num')::int / 10000");
    known(
        &create(&ferry),
        if major < 17 {
            "logical decoding requires wal_level >= logical"
        } else {
            "logical decoding requires \"wal_level\" >= \"logical\""
        },
    );
    let refusal = create(&as_role(&server, "plain"));
    known(
        &refusal,
        if major < 16 {
            "must be superuser or replication role to start walsender"
        } else {
            "permission denied to start WAL sender"
        },
    );
    // Over SQL the same right is missed in other words.
    let error = server
        .try_sql(
            "postgres",
            "SET SESSION AUTHORIZATION plain; SELECT pg_create_logical_replication_slot('a', 'test_decoding')",
        )
        .unwrap_err();
    let error = error.as_db_error().unwrap().message().to_owned();
    known(
        &error,
        if major < 16 {
            "must be superuser or replication role to use replication slots"
        } else {
            "permission denied to use replication slots"
        },
    );
    fs::write(
        server.data_dir().join("pg_hba.conf"),
        "local all all trust\n",
    )
    .unwrap();
    server.reload();
    let tcp = server.tcp_url().replace("postgres@", "ferry@");
    wait_until("pg_hba.conf", || {
        server.value::<i64>("SELECT count(*) FROM pg_hba_file_rules") == 1
    });
    known(&create(&tcp), "no pg_hba.conf entry for host");
    known(&create(&tcp), "no encryption");
}
