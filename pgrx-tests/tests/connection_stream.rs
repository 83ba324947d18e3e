//! The replication stream: messages, feedback, errors, memory.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use walferry_protocol::Lsn;
use walferry_streamer::source::connection::{Connection, Replication};
use walferry_streamer::source::conninfo::Conninfo;
use walferry_streamer::source::identity::tables_without_usable_identity;
use walferry_streamer::source::replication::{
    ReplicationReader, ReplicationWriter, ServerMessage, identify_system, start_replication,
    try_start_replication,
};
use walferry_streamer::source::table_filter::TableFilter;
use walferry_tests::{Server, wait_until};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Calls into the harness, whose client may not run inside our event loop.
fn apart<T: Send>(call: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(call).join().unwrap())
}

async fn connect(source: &str) -> Connection {
    let conninfo = Conninfo::parse(Some(source)).unwrap();
    Connection::connect(&conninfo, Replication::Database)
        .await
        .unwrap()
}

async fn start(server: &Server, slot: &str) -> (ReplicationReader, ReplicationWriter) {
    let connection = connect(&server.url()).await;
    start_replication(connection, slot, Lsn::INVALID, &[])
        .await
        .unwrap()
}

/// The next message that is not a keepalive.
async fn data(reader: &mut ReplicationReader) -> String {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), reader.next());
        match next
            .await
            .expect("a message within 30 s")
            .unwrap()
            .expect("the stream goes on")
        {
            ServerMessage::XLogData { data, .. } => {
                return String::from_utf8(data.to_vec()).unwrap();
            }
            ServerMessage::Keepalive { .. } | ServerMessage::NewStart => {}
        }
    }
}

#[test]
fn the_server_says_who_it_is() {
    let server = Server::start_default();
    let identity = block_on(async {
        identify_system(&mut connect(&server.url()).await)
            .await
            .unwrap()
    });
    let expected: i64 = server.value("SELECT system_identifier FROM pg_control_system()");
    assert_eq!(identity.system_identifier, expected as u64);
    assert_eq!(identity.database, "postgres");
    assert_eq!(identity.timeline, 1);
    assert!(identity.xlogpos > Lsn::INVALID);
}

#[test]
fn changes_arrive_and_what_is_confirmed_moves_the_slot() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int PRIMARY KEY)");
    server.create_slot("ferry", "test_decoding");
    block_on(async {
        let (mut reader, mut writer) = start(&server, "ferry").await;
        apart(|| server.sql("INSERT INTO t VALUES (1)"));
        assert!(data(&mut reader).await.starts_with("BEGIN"));
        assert!(data(&mut reader).await.contains("INSERT: id[integer]:1"));
        assert!(data(&mut reader).await.starts_with("COMMIT"));
        let end = apart(|| server.flushed_lsn());
        writer.standby_status(end, end, end, false).await.unwrap();
        apart(|| {
            wait_until("the slot to move", || {
                server.confirmed_flush("ferry") == Some(end)
            });
        });

        // A reply that was asked for comes at once.
        writer.standby_status(end, end, end, true).await.unwrap();
        let asked = Instant::now();
        loop {
            match reader.next().await.unwrap().expect("the stream goes on") {
                // One from before our confirmation may still have been on its way.
                ServerMessage::Keepalive { wal_end, .. } if wal_end >= end => break,
                _ => {}
            }
        }
        assert!(asked.elapsed() < Duration::from_secs(5));

        writer.copy_done().await.unwrap();
        while reader.next().await.unwrap().is_some() {}
        let mut connection = reader.into_connection(writer).await.unwrap();
        let rows = connection.simple_query("SELECT 1 AS one").await.unwrap();
        assert_eq!(rows[0].get("one"), Some("1"));
    });
}

#[test]
fn a_reader_that_answers_is_kept_and_one_that_does_not_is_cut_and_told_so() {
    let server = Server::builder()
        .setting("wal_sender_timeout", "1s")
        .start();
    server.create_slot("answers", "test_decoding");
    server.create_slot("silent", "test_decoding");
    block_on(async {
        let (mut reader, mut writer) = start(&server, "answers").await;
        let mut requests = 0;
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let next = tokio::time::timeout(Duration::from_millis(200), reader.next());
            if let Ok(message) = next.await {
                let message = message.expect("the connection of a reader that answers");
                if let Some(ServerMessage::Keepalive {
                    wal_end,
                    reply_requested: true,
                    ..
                }) = message
                {
                    requests += 1;
                    writer
                        .standby_status(wal_end, wal_end, wal_end, false)
                        .await
                        .unwrap();
                }
            }
        }
        assert!(requests > 0, "the server never asked for a reply");

        let (mut reader, _writer) = start(&server, "silent").await;
        let failure = loop {
            match reader.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the server ended the copy in good order"),
                Err(failure) => break failure,
            }
        };
        assert_eq!(failure.class, walferry_streamer::error::Class::Transient);
    });
}

#[test]
fn an_error_of_the_plugin_leaves_the_connection_usable() {
    let server = Server::start_default();
    server.create_slot("ferry", "test_decoding");
    block_on(async {
        let connection = connect(&server.url()).await;
        let options = [("no-such-option".to_owned(), "it's".to_owned())];
        let Err((failure, connection)) =
            try_start_replication(connection, "ferry", Lsn::INVALID, &options).await
        else {
            panic!("test_decoding took an option it does not have");
        };
        assert!(failure.message.contains("no-such-option"), "{failure}");
        let connection = *connection.expect("the connection again");
        let options = [("include-xids".to_owned(), "off".to_owned())];
        let (mut reader, _writer) = start_replication(connection, "ferry", Lsn::INVALID, &options)
            .await
            .unwrap();
        apart(|| server.sql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)"));
        assert_eq!(data(&mut reader).await, "BEGIN");
    });
}

#[test]
fn a_reader_of_another_protocol_version_is_refused_with_both_ranges() {
    let server = Server::start_default();
    server.create_slot("ferry", "walferry");
    block_on(async {
        let connection = connect(&server.url()).await;
        let options = [("proto_min", "201"), ("proto_max", "202")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let refused = start_replication(connection, "ferry", Lsn::INVALID, &options).await;
        let failure = refused.err().expect("no such version");
        assert_eq!(failure.class, walferry_streamer::error::Class::Definite);
        let detail = failure.detail.unwrap();
        assert!(detail.contains("201 to 202"), "{detail}");
        assert!(failure.hint.unwrap().contains("same release"));
    });
}

#[test]
fn a_server_that_shuts_down_ends_the_stream_without_harm() {
    let server = Server::start_default();
    server.create_slot("ferry", "test_decoding");
    let ended = std::thread::scope(|scope| {
        block_on(async {
            let (mut reader, mut writer) = start(&server, "ferry").await;
            scope.spawn(|| server.stop(walferry_tests::Shutdown::Fast));
            // The server waits until what it sent was confirmed.
            loop {
                match reader.next().await {
                    Ok(Some(ServerMessage::Keepalive { wal_end, .. })) => {
                        let _ = writer
                            .standby_status(wal_end, wal_end, wal_end, false)
                            .await;
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(failure) => return Some(failure),
                }
            }
        })
    });
    if let Some(failure) = ended {
        assert_eq!(
            failure.class,
            walferry_streamer::error::Class::Transient,
            "{failure}"
        );
    }
}

#[test]
fn a_long_message_arrives_whole() {
    let server = Server::start_default();
    server.create_slot("ferry", "test_decoding");
    block_on(async {
        let (mut reader, _writer) = start(&server, "ferry").await;
        apart(|| {
            server.sql("SELECT pg_logical_emit_message(false, 'p', repeat('walferry', 8000000))");
        });
        let text = data(&mut reader).await;
        let content = text.split_once("content:").unwrap().1;
        assert_eq!(content.len(), 64_000_000);
        assert!(content == "walferry".repeat(8_000_000));
    });
}

/// Resident memory of this process in bytes, now and at its highest.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

const LONG: usize = 1000 << 20;

/// Speaks a server's part by hand: it takes no server of 4 GB to send one
/// message of 1 GB.
fn send_long_message(mut socket: UnixStream) {
    let message = |tag: u8, body: &[u8]| {
        let mut bytes = vec![tag];
        bytes.extend(((body.len() + 4) as u32).to_be_bytes());
        bytes.extend(body);
        bytes
    };
    let mut packet = [0; 4096];
    let _ = socket.read(&mut packet).unwrap();
    let mut greeting = message(b'R', &[0; 4]);
    greeting.extend(message(b'S', b"server_version\x0015.20\0"));
    greeting.extend(message(b'K', &[0; 8]));
    greeting.extend(message(b'Z', b"I"));
    socket.write_all(&greeting).unwrap();
    let _ = socket.read(&mut packet).unwrap();
    socket.write_all(&message(b'W', &[0; 3])).unwrap();
    for _ in 0..2 {
        socket.write_all(b"d").unwrap();
        socket
            .write_all(&((4 + 25 + LONG) as u32).to_be_bytes())
            .unwrap();
        socket.write_all(b"w").unwrap();
        socket.write_all(&[0; 24]).unwrap();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..LONG / piece.len() {
            socket.write_all(&piece).unwrap();
        }
    }
    socket.write_all(&message(b'c', b"")).unwrap();
    let _ = socket.read(&mut packet);
}

#[test]
fn a_message_of_a_gigabyte_takes_its_own_memory_once_and_gives_it_back() {
    // In a process of its own: other tests of this file allocate too.
    const CHILD: &str = "WALFERRY_MEMORY_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let name = "a_message_of_a_gigabyte_takes_its_own_memory_once_and_gives_it_back";
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
    let sender = std::thread::spawn(move || send_long_message(listener.accept().unwrap().0));
    block_on(async {
        let connection = connect(&format!("host={} user=u", folder.path().display())).await;
        let (mut reader, _writer) = start_replication(connection, "s", Lsn::INVALID, &[])
            .await
            .unwrap();
        for _ in 0..2 {
            let message = reader.next().await.unwrap();
            let Some(ServerMessage::XLogData { data, .. }) = message else {
                panic!("{message:?}");
            };
            assert_eq!(data.len(), LONG);
            drop(data);
            let (now, peak) = resident();
            assert!(peak < LONG as u64 + (64 << 20), "peak of {} MB", peak >> 20);
            assert!(now < 64 << 20, "{} MB are still held", now >> 20);
        }
        assert_eq!(reader.next().await.unwrap(), None);
    });
    sender.join().unwrap();
}

#[test]
fn tables_without_a_usable_identity_are_found_with_what_happened_to_them() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE keyed (id int PRIMARY KEY); CREATE TABLE whole (id int); ALTER TABLE whole REPLICA IDENTITY FULL;
         CREATE TABLE indexed (id int NOT NULL UNIQUE); ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_id_key;
         CREATE TABLE bare (id int); CREATE TABLE \"Odd\"\"one\" (id int);
         CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
         CREATE TABLE lost_index (id int NOT NULL UNIQUE); ALTER TABLE lost_index REPLICA IDENTITY USING INDEX lost_index_id_key;
         ALTER TABLE lost_index DROP CONSTRAINT lost_index_id_key;
         CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
         CREATE UNLOGGED TABLE unlogged (id int); CREATE TEMP TABLE temporary (id int);
         CREATE SCHEMA walferry; CREATE TABLE walferry.own (id int);
         CREATE TABLE parted (id int) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF parted FOR VALUES FROM (0) TO (9);
         CREATE TABLE archive_bare (id int);
         INSERT INTO bare VALUES (1), (2); INSERT INTO parted VALUES (1);",
    );
    let mut client = server.client();
    client
        .batch_execute("UPDATE bare SET id = 3; DELETE FROM bare")
        .unwrap();
    client.batch_execute("UPDATE parted SET id = 2").unwrap();
    drop(client);
    wait_until("the statistics", || {
        server.value::<i64>("SELECT n_tup_del FROM pg_stat_user_tables WHERE relname = 'bare'") == 2
    });
    let filter = TableFilter::new(&[], &["public.archive_*".to_owned()]).unwrap();
    let found = block_on(async {
        tables_without_usable_identity(&mut connect(&server.url()).await, &filter)
            .await
            .unwrap()
    });
    let names: Vec<&str> = found.iter().map(|table| table.table.as_str()).collect();
    assert_eq!(
        names,
        ["Odd\"one", "bare", "late", "leaf", "lost_index", "nothing"]
    );
    assert_eq!((found[1].updates, found[1].deletes), (2, 2));
    assert_eq!((found[3].updates, found[3].deletes), (1, 0));
    for table in &found {
        let cure = table.cure();
        let statement = cure.rsplit(", or ").next().unwrap();
        server.sql(statement);
    }
    let left = block_on(async {
        tables_without_usable_identity(&mut connect(&server.url()).await, &filter)
            .await
            .unwrap()
    });
    assert_eq!(left, []);
}
