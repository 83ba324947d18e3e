//! What a server refuses: one clear line, the statement that mends it, the
//! documented exit code.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use walferry_tests::{Exit, Server, ServerTree, Streamer};

const SECONDS: Duration = Duration::from_secs(30);

/// Runs `walferry slot create` of a slot with this plugin.
fn create(source: &str, plugin: &str) -> Exit {
    Streamer::builder()
        .args([
            "slot", "create", "refused", "--plugin", plugin, "--source", source,
        ])
        .run(SECONDS)
}

#[track_caller]
fn assert_refused(exit: Exit, parts: &[&str]) {
    let exit = exit.expect_code(1);
    let text = exit.stderr.join("\n");
    assert!(exit.stderr[0].starts_with("walferry: error: "), "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn a_role_without_replication_is_told_the_statement() {
    let server = Server::start_default();
    server.sql("CREATE ROLE plain LOGIN");
    let source = server.url().replace("postgres@", "plain@");
    assert_refused(
        create(&source, "test_decoding"),
        &[
            "SQLSTATE 42501",
            "ALTER ROLE \"plain\" REPLICATION",
            "GRANT rds_replication TO \"plain\"",
        ],
    );
}

#[test]
fn a_wal_level_too_low_is_told_the_setting() {
    let server = Server::builder().setting("wal_level", "replica").start();
    assert_refused(
        create(&server.url(), "test_decoding"),
        &[
            "SQLSTATE 55000",
            "ALTER SYSTEM SET wal_level = logical",
            "restart",
        ],
    );
}

#[test]
fn no_free_slot_and_no_free_sender_are_told_the_setting() {
    let server = Server::builder()
        .setting("max_replication_slots", 1)
        .setting("max_wal_senders", 1)
        .start();
    server.create_slot("taken", "test_decoding");
    assert_refused(
        create(&server.url(), "test_decoding"),
        &[
            "SQLSTATE 53400",
            "raise max_replication_slots",
            "walferry slot list",
        ],
    );
    let mut reader = server
        .pg_recvlogical("postgres", "taken")
        .args(["--start", "-f", "/dev/null"])
        .spawn()
        .unwrap();
    walferry_tests::wait_until("the slot to be read", || {
        server.slot_active_pid("taken").is_some()
    });
    assert_refused(
        create(&server.url(), "test_decoding"),
        &["SQLSTATE 53300", "raise max_wal_senders"],
    );
    reader.kill().unwrap();
    reader.wait().unwrap();
}

#[test]
fn a_missing_plugin_library_is_told_how_to_install_it() {
    let mut builder = Server::builder();
    if ServerTree::get().has_output_plugin_libraries() {
        builder = builder.setting("output_plugin_libraries", "pgoutput, no_such_plugin");
    }
    let server = builder.start();
    assert_refused(
        create(&server.url(), "no_such_plugin"),
        &["SQLSTATE 58P01", "install the output plugin no_such_plugin"],
    );
}

#[test]
fn a_plugin_that_is_not_listed_is_told_a_statement_that_evicts_nothing() {
    if !ServerTree::get().has_output_plugin_libraries() {
        return;
    }
    let server = Server::builder()
        .setting(
            "output_plugin_libraries",
            "pgoutput, wal2json, test_decoding",
        )
        .start();
    server.create_slot("other", "wal2json");
    server.configure(&[("output_plugin_libraries", "pgoutput")]);
    server.reload();
    let whole = "ALTER SYSTEM SET output_plugin_libraries = pgoutput, wal2json, test_decoding";
    walferry_tests::wait_until("the plugin to be refused", || {
        let exit = create(&server.url(), "test_decoding");
        if exit.code == Some(0) {
            server.sql("SELECT pg_drop_replication_slot('refused')");
            return false;
        }
        assert_refused(exit, &["SQLSTATE 42501", whole, "pg_reload_conf()"]);
        true
    });

    // A role that may not read the setting must not be told a statement as if
    // it were known, nor that there is no such setting.
    server.sql("CREATE ROLE ferry LOGIN REPLICATION");
    assert_refused(
        create(
            &server.url().replace("postgres@", "ferry@"),
            "test_decoding",
        ),
        &[
            "SQLSTATE 42501",
            "only a superuser may read it",
            "SHOW output_plugin_libraries",
            "output_plugin_libraries = pgoutput, test_decoding, wal2json",
        ],
    );
}

#[test]
fn a_database_that_is_not_there_and_a_role_that_is_not_are_named() {
    let server = Server::start_default();
    assert_refused(
        create(&server.url_of("nowhere"), "test_decoding"),
        &["\"nowhere\" does not exist (SQLSTATE 3D000)", "psql -l"],
    );
    assert_refused(
        create(
            &server.url().replace("postgres@", "nobody@"),
            "test_decoding",
        ),
        &[
            "\"nobody\" does not exist (SQLSTATE 28000)",
            "CREATE ROLE \"nobody\" LOGIN REPLICATION",
        ],
    );
}

#[test]
fn a_host_based_refusal_is_told_the_line_to_add() {
    let server = Server::builder().hba("local all shut reject").start();
    server.sql("CREATE ROLE shut LOGIN REPLICATION");
    assert_refused(
        create(&server.url().replace("postgres@", "shut@"), "test_decoding"),
        &[
            "SQLSTATE 28000",
            "add a line to pg_hba.conf",
            "postgres shut samenet scram-sha-256",
        ],
    );
}

#[test]
fn a_server_that_is_not_there_is_told_what_to_look_at() {
    assert_refused(
        create("postgres://u@127.0.0.1:1/d", "walferry"),
        &[
            "cannot connect to 127.0.0.1:1: connection refused",
            "listen_addresses",
        ],
    );
    assert_refused(
        create("host=/nowhere user=u", "walferry"),
        &[
            "/nowhere/.s.PGSQL.5432: no such file or directory",
            "unix_socket_directories",
        ],
    );
    assert_refused(
        create("postgres://u@no-such-host.invalid/d", "walferry"),
        &["cannot find host \"no-such-host.invalid\"", "spelling"],
    );
}

/// Answers one start-up packet with these bytes; has no TLS.
fn listener(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut packet = [0; 1024];
        // SSLRequest: 1234 5679 in the place of the protocol's version.
        while socket.read(&mut packet).is_ok_and(|length| length == 8)
            && packet[4..8] == 80_877_103_u32.to_be_bytes()
        {
            let _ = socket.write_all(b"N");
        }
        let _ = socket.write_all(&answer);
        if !answer.is_empty() {
            // Reset by our going away, the answer could be lost.
            let _ = socket.read(&mut packet);
        }
    });
    format!("postgres://u@127.0.0.1:{port}/d")
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(((body.len() + 4) as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

#[test]
fn a_pooler_in_between_is_recognised() {
    // What PgBouncer 1.18 sends back to replication=database.
    let body = b"SFATAL\0C08P01\0Munsupported startup parameter: replication\0\0";
    assert_refused(
        create(&listener(message(b'E', body)), "walferry"),
        &[
            "unsupported startup parameter",
            "connection pooler",
            "the PostgreSQL server itself",
        ],
    );
}

#[test]
fn a_server_too_old_is_told_the_oldest_that_will_do() {
    let mut answer = message(b'R', &[0, 0, 0, 0]);
    answer.extend(message(b'S', b"server_version\x0013.9\0"));
    answer.extend(message(b'K', &[0; 8]));
    answer.extend(message(b'Z', b"I"));
    assert_refused(
        create(&listener(answer), "walferry"),
        &["the server is PostgreSQL 13.9; walferry needs 14 or later"],
    );
}

#[test]
fn what_is_no_postgresql_server_is_not_taken_for_one() {
    let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    assert_refused(
        create(&listener(answer), "walferry"),
        &["is this the port of a PostgreSQL server?"],
    );
    assert_refused(
        create(&listener(Vec::new()), "walferry"),
        &["the server closed the connection"],
    );
}
