//! The tests' own ground: servers, their ends, and the fault proxy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use walferry_tests::{Encoding, FaultProxy, Server, Shutdown, wait_until};

#[test]
fn a_server_runs_from_the_relocated_tree_and_decodes() {
    let server = Server::start_default();
    let library: String = server.value("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'");
    assert_eq!(library, server.tree().pkglibdir().display().to_string());

    // The one plugin that servers have which came without contrib.
    server.create_slot("sound", "pgoutput");
    server.sql(
        "CREATE TABLE note (id int PRIMARY KEY, text text); CREATE PUBLICATION every_table FOR ALL TABLES;
         INSERT INTO note VALUES (1, 'fürs Erste')",
    );
    let options = [("proto_version", "1"), ("publication_names", "every_table")];
    let received = server.receive_until("postgres", "sound", server.flushed_lsn(), &options);
    assert!(String::from_utf8_lossy(&received).contains("fürs Erste"));
    assert!(server.tree().pkglibdir().join("walferry.so").exists());
}

#[test]
fn a_committed_row_survives_a_crash_and_a_restart() {
    let server = Server::builder()
        .setting("synchronous_commit", "on")
        .start();
    server.sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)");
    server.crash_and_recover();
    assert_eq!(server.value::<i32>("SELECT id FROM kept"), 7);
    assert!(
        server
            .log()
            .contains("database system was not properly shut down")
    );
    server.restart(Shutdown::Fast);
    assert_eq!(server.value::<i32>("SELECT id FROM kept"), 7);
}

#[test]
fn a_server_can_have_any_encoding_and_so_can_its_databases() {
    for encoding in [Encoding::Latin1, Encoding::EucJp, Encoding::SqlAscii] {
        let server = Server::builder().encoding(encoding).start();
        assert_eq!(
            server.value::<String>("SHOW server_encoding"),
            encoding.name()
        );
    }
    let server = Server::start_default();
    server.create_database("western", Encoding::Latin1);
    assert_eq!(
        server.value_in::<String>("western", "SHOW server_encoding"),
        "LATIN1"
    );
}

#[test]
fn servers_are_copies_of_one_initdb_unless_an_identifier_of_their_own_is_asked_for() {
    const IDENTIFIER: &str = "SELECT system_identifier FROM pg_control_system()";
    let one = Server::start_default();
    let other = Server::start_default();
    let own = Server::builder().own_system_identifier().start();
    assert_eq!(one.value::<i64>(IDENTIFIER), other.value::<i64>(IDENTIFIER));
    assert_ne!(one.value::<i64>(IDENTIFIER), own.value::<i64>(IDENTIFIER));
}

#[test]
fn a_standby_follows_its_primary_and_can_be_promoted() {
    let primary = Server::start_default();
    primary.sql("CREATE TABLE followed (id int)");
    let standby = Server::builder().start_standby_of(&primary);
    assert!(standby.value::<bool>("SELECT pg_is_in_recovery()"));
    primary.sql("INSERT INTO followed VALUES (1)");
    wait_until("the row to reach the standby", || {
        standby.value::<i64>("SELECT count(*) FROM followed") == 1
    });
    standby.promote();
    standby.sql("INSERT INTO followed VALUES (2)");
}

#[test]
fn a_dropped_server_leaves_neither_process_nor_folder() {
    let server = Server::start_default();
    let (pid, data) = (server.pid(), server.data_dir());
    drop(server);
    assert!(!data.exists());
    assert!(!alive(pid));
}

#[test]
fn a_server_ends_when_the_process_that_started_it_is_killed() {
    let mut starter = Command::new(env!("CARGO_BIN_EXE_walferry-server"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(starter.stdout.take().unwrap()).lines();
    let mut after = |word: &str| -> String {
        let line = said.next().expect("another line").unwrap();
        line.strip_prefix(word)
            .unwrap_or_else(|| panic!("{line:?}"))
            .to_owned()
    };
    let (_url, data, pid) = (after("url "), after("data "), after("pid "));
    let pid: u32 = pid.parse().unwrap();
    assert!(alive(pid));

    starter.kill().unwrap();
    starter.wait().unwrap();
    wait_until("the orphaned server's end", || !alive(pid));
    wait_until("its folder's removal", || !Path::new(&data).exists());
}

#[test]
fn the_server_to_try_things_on_tells_how_it_is_used_and_starts_nothing() {
    for (argument, code, said) in [
        ("--help", 0, "--set <NAME=VALUE>"),
        ("--port", 2, "Usage: "),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_walferry-server"))
            .arg(argument)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(said) && !text.contains("url "), "{text}");
    }
}

#[test]
fn the_proxy_passes_stalls_and_cuts() {
    let server = Server::start_default();
    let proxy = FaultProxy::before(&server);
    let connect = || postgres::Client::connect(&proxy.url(), postgres::NoTls);
    let mut client = connect().unwrap();
    assert_eq!(
        client.query_one("SELECT 1", &[]).unwrap().get::<_, i32>(0),
        1
    );

    proxy.delay(Duration::from_millis(100));
    let began = Instant::now();
    client.batch_execute("SELECT 1").unwrap();
    assert!(
        began.elapsed() >= Duration::from_millis(200),
        "once each way"
    );
    proxy.delay(Duration::ZERO);

    proxy.stall_from_server(true);
    let mut raw = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    raw.set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    // SSLRequest: the server answers with one byte at once.
    raw.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    assert!(
        raw.read(&mut [0]).is_err(),
        "nothing comes through a stalled proxy"
    );
    proxy.stall_from_server(false);
    raw.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(raw.read(&mut [0]).unwrap(), 1);

    proxy.cut_after(100_000);
    assert!(
        client
            .query(
                "SELECT repeat('x', 1000) FROM generate_series(1, 1000)",
                &[]
            )
            .is_err()
    );
    assert!(connect().is_ok(), "after a cut new connections are taken");
    proxy.refuse(true);
    assert!(connect().is_err());
}

/// A zombie counts as ended: in a container without an init nobody reaps orphans.
fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}
