//! Getting in: authentication methods, and all the places that name the server
//! and hold the password.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walferry_tests::{Exit, Server, Streamer, StreamerBuilder};

/// So odd that it is found wherever it is printed.
const PASSWORD: &str = "s3kr:t'é@/%";
const PASSWORD_IN_URL: &str = "s3kr:t'%C3%A9%40%2F%25";

const SECONDS: Duration = Duration::from_secs(30);

fn server() -> Server {
    let mut builder = Server::builder().tcp().setting("log_disconnections", "on");
    for (role, method) in [
        ("by_scram", "scram-sha-256"),
        ("by_md5", "md5"),
        ("by_password", "password"),
    ] {
        builder = builder
            .hba(&format!("host all {role} 127.0.0.1/32 {method}"))
            .hba(&format!("local all {role} {method}"));
    }
    let server = builder.start();
    let quoted = PASSWORD.replace('\'', "''");
    server.sql(&format!(
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE by_scram LOGIN REPLICATION PASSWORD '{quoted}';
         CREATE ROLE by_password LOGIN REPLICATION PASSWORD '{quoted}';
         SET password_encryption = 'md5'; CREATE ROLE by_md5 LOGIN REPLICATION PASSWORD '{quoted}'"
    ));
    server
}

fn list() -> StreamerBuilder {
    Streamer::builder().args(["--log-level", "trace", "slot", "list"])
}

fn tcp_url(server: &Server, user_info: &str) -> String {
    format!(
        "postgres://{user_info}@127.0.0.1:{}/postgres",
        server.port()
    )
}

fn assert_silent(exit: &Exit, server: &Server) {
    let printed = format!("{}\n{}", exit.stdout.join("\n"), exit.stderr.join("\n"));
    for secret in [PASSWORD, PASSWORD_IN_URL, "s3kr"] {
        assert!(
            !printed.contains(secret),
            "a password was printed:\n{printed}"
        );
        assert!(!server.log().contains(secret), "{}", server.log());
    }
}

fn private_file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn scram_md5_and_cleartext_passwords_are_understood_over_tcp_and_sockets() {
    let server = server();
    for role in ["by_scram", "by_md5", "by_password"] {
        for url in [
            tcp_url(&server, &format!("{role}:{PASSWORD_IN_URL}")),
            format!(
                "postgres://{role}:{PASSWORD_IN_URL}@/postgres?host={}&port={}",
                server.socket_dir().display(),
                server.port()
            ),
        ] {
            let exit = list().args(["--source", &url]).run(SECONDS).expect_code(0);
            assert!(exit.stdout[0].starts_with("SLOT"), "{:?}", exit.stdout);
            assert_silent(&exit, &server);
        }
    }
}

#[test]
fn a_wrong_password_is_definite_and_is_not_shown() {
    let server = server();
    for role in ["by_scram", "by_md5", "by_password"] {
        let url = tcp_url(&server, &format!("{role}:s3kr-wrong"));
        let exit = list().args(["--source", &url]).run(SECONDS).expect_code(1);
        let error = exit.stderr.join("\n");
        assert!(
            error.contains(&format!(
                "walferry: error: password authentication failed for user \"{role}\" (SQLSTATE 28P01)"
            )),
            "{error}"
        );
        assert!(
            error.contains("hint: check the password of role"),
            "{error}"
        );
        assert_silent(&exit, &server);
    }
}

#[test]
fn a_missing_password_names_the_line_that_the_password_file_lacks() {
    let server = server();
    let exit = list()
        .args(["--source", &tcp_url(&server, "by_scram")])
        .env("HOME", server.scratch_dir())
        .run(SECONDS)
        .expect_code(1);
    let error = exit.stderr.join("\n");
    assert!(
        error.contains(&format!(
            "127.0.0.1:{}:postgres:by_scram:PASSWORD",
            server.port()
        )),
        "{error}"
    );
}

#[test]
fn the_password_file_serves_tcp_and_as_localhost_the_socket() {
    let server = server();
    let escaped = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    let line = |host| format!("# comment\n{host}:{}:*:by_scram:{escaped}\n", server.port());
    let folder = server.scratch_dir();
    let socket_url = format!(
        "host={} port={} user=by_scram dbname=postgres",
        server.socket_dir().display(),
        server.port()
    );
    for (host, source) in [
        ("127.0.0.1", tcp_url(&server, "by_scram")),
        ("localhost", socket_url),
    ] {
        private_file(&folder, ".pgpass", &line(host));
        let exit = list()
            .args(["--source", &source])
            .env("HOME", &folder)
            .run(SECONDS)
            .expect_code(0);
        assert_silent(&exit, &server);
    }
    fs::set_permissions(folder.join(".pgpass"), fs::Permissions::from_mode(0o640)).unwrap();
    let exit = list()
        .args(["--source", &tcp_url(&server, "by_scram")])
        .env("HOME", &folder)
        .run(SECONDS)
        .expect_code(1);
    assert!(exit.stderr.join("\n").contains("chmod 0600"), "{exit:?}");
}

#[test]
fn everything_may_come_from_the_environment() {
    let server = server();
    let exit = list()
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", server.port().to_string())
        .env("PGUSER", "by_scram")
        .env("PGPASSWORD", PASSWORD)
        .env("PGDATABASE", "postgres")
        .env("PGAPPNAME", "seen from outside")
        .env("PGOPTIONS", "-c default_transaction_read_only=on")
        .env("PGTARGETSESSIONATTRS", "read-only")
        .run(SECONDS)
        .expect_code(0);
    assert_silent(&exit, &server);
    let log = server.log();
    assert!(log.contains("seen from outside"), "{log}");
}

#[test]
fn a_service_names_the_server_and_a_password_file_of_its_own() {
    let server = server();
    let folder = server.scratch_dir();
    let passfile = private_file(
        &folder,
        "pass",
        &format!("*:*:*:*:{}\n", PASSWORD.replace(':', "\\:")),
    );
    let services = private_file(
        &folder,
        "services",
        &format!(
            "[shop]\nhost=127.0.0.1\nport={}\nuser=by_md5\ndbname=postgres\npassfile={}\n",
            server.port(),
            passfile.display()
        ),
    );
    let exit = list()
        .args(["--source", "service=shop"])
        .env("PGSERVICEFILE", &services)
        .run(SECONDS)
        .expect_code(0);
    assert_silent(&exit, &server);
    list()
        .env("PGSERVICE", "shop")
        .env("PGSERVICEFILE", &services)
        .run(SECONDS)
        .expect_code(0);
    fs::rename(&services, folder.join("pg_service.conf")).unwrap();
    list()
        .env("PGSERVICE", "shop")
        .env("PGSYSCONFDIR", &folder)
        .run(SECONDS)
        .expect_code(0);
}

#[test]
fn of_several_hosts_the_first_that_serves_is_taken() {
    let server = server();
    // A port nobody listens on, then the server.
    let url = |attrs: &str| {
        format!(
            "postgres://postgres@127.0.0.1:1,127.0.0.1:{}/postgres?target_session_attrs={attrs}",
            server.port()
        )
    };
    for attrs in ["any", "read-write", "primary", "prefer-standby"] {
        list()
            .args(["--source", &url(attrs)])
            .run(SECONDS)
            .expect_code(0);
    }
    let exit = list()
        .args(["--source", &url("standby")])
        .run(SECONDS)
        .expect_code(1);
    let error = exit.stderr.join("\n");
    assert!(
        error.contains("none of the 2 hosts could be used"),
        "{error}"
    );
    assert!(error.contains("is not a standby"), "{error}");
    assert!(error.contains("connection refused"), "{error}");
}

#[test]
fn a_method_that_require_auth_forbids_gets_no_password() {
    let server = server();
    let url = format!(
        "{}?require_auth=scram-sha-256",
        tcp_url(&server, &format!("by_password:{PASSWORD_IN_URL}"))
    );
    let exit = list().args(["--source", &url]).run(SECONDS).expect_code(1);
    let error = exit.stderr.join("\n");
    assert!(
        error.contains("authentication method password, which require_auth does not allow"),
        "{error}"
    );
    assert_silent(&exit, &server);
}
