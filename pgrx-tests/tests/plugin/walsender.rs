//! A walsender spoken to directly, so that what a connection goes through
//! (an error, another START_REPLICATION) can be tested.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use walferry_tests::{Encoding, Server, wait_until};

use crate::events::{Reader, assert_unharmed};

pub struct Walsender {
    stream: UnixStream,
    pid: u32,
}

/// A message of the server: its type and body.
type Message = (u8, Vec<u8>);

impl Walsender {
    /// Connects with `replication=database`.
    pub fn connect(server: &Server, database: &str) -> Walsender {
        let path = server
            .socket_dir()
            .join(format!(".s.PGSQL.{}", server.port()));
        let mut stream = UnixStream::connect(path).expect("the server's socket");
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for (name, value) in [
            ("user", "postgres"),
            ("database", database),
            ("replication", "database"),
        ] {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
            body.extend_from_slice(value.as_bytes());
            body.push(0);
        }
        body.push(0);
        stream
            .write_all(&(body.len() as u32 + 4).to_be_bytes())
            .unwrap();
        stream.write_all(&body).unwrap();
        let mut walsender = Walsender { stream, pid: 0 };
        for (kind, body) in walsender.until_ready() {
            if kind == b'K' {
                walsender.pid = u32::from_be_bytes(body[..4].try_into().unwrap());
            }
        }
        walsender
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let mut message = vec![kind];
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message).unwrap();
    }

    fn message(&mut self) -> Message {
        let mut head = [0; 5];
        self.stream
            .read_exact(&mut head)
            .expect("a message of the server");
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a message's body");
        (head[0], body)
    }

    fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.message();
            let ready = message.0 == b'Z';
            messages.push(message);
            if ready {
                return messages;
            }
        }
    }

    /// Runs a command to its end.
    pub fn command(&mut self, command: &str) -> Vec<Message> {
        self.send(b'Q', &[command.as_bytes(), &[0]].concat());
        self.until_ready()
    }

    /// Starts reading the slot; what refuses it is returned by [`Walsender::frame`].
    pub fn start_replication(&mut self, slot: &str, options: &[(&str, &str)]) {
        let options: Vec<_> = options
            .iter()
            .map(|(name, value)| format!("\"{name}\" '{value}'"))
            .collect();
        let options = if options.is_empty() {
            String::new()
        } else {
            format!(" ({})", options.join(", "))
        };
        let command = format!("START_REPLICATION SLOT {slot} LOGICAL 0/0{options}\0");
        self.send(b'Q', command.as_bytes());
    }

    /// The next frame, or the SQLSTATE and text of the error that ended the stream.
    pub fn frame(&mut self) -> Result<Vec<u8>, (String, String)> {
        loop {
            match self.message() {
                (b'd', body) if body[0] == b'w' => return Ok(body[25..].to_vec()),
                (b'E', body) => {
                    let field = |wanted: u8| {
                        body.split(|byte| *byte == 0)
                            .find(|field| field.first() == Some(&wanted))
                            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
                            .unwrap_or_default()
                    };
                    let error = (field(b'C'), field(b'M'));
                    self.until_ready();
                    return Err(error);
                }
                // A keepalive: answered, as a client that lives does.
                (b'd', body) if body[0] == b'k' => self.status(0, false),
                (b'Z', _) => return Err((String::new(), "the stream has ended".to_owned())),
                _ => {}
            }
        }
    }

    /// A standby status update that confirms `lsn`; `ask` for an answer.
    fn status(&mut self, lsn: u64, ask: bool) {
        let mut status = vec![b'r'];
        for _ in 0..3 {
            status.extend_from_slice(&lsn.to_be_bytes());
        }
        status.extend_from_slice(&[0; 8]);
        status.push(ask.into());
        self.send(b'd', &status);
    }

    /// The next keepalive's position: where the server has read to.
    pub fn keepalive(&mut self) -> u64 {
        loop {
            if let (b'd', body) = self.message()
                && body[0] == b'k'
            {
                return u64::from_be_bytes(body[1..9].try_into().unwrap());
            }
        }
    }

    /// Ends the stream from this side.
    pub fn stop(&mut self) {
        self.send(b'c', &[]);
        self.until_ready();
    }

    /// The walsender's highest resident memory, without what it shares, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("its status");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .expect("VmHWM");
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }
}

/// Frames until the commit of `count` transactions.
fn commits(walsender: &mut Walsender, reader: &mut Reader, count: usize) {
    let ends = |reader: &Reader| reader.lines.iter().filter(|line| *line == "COMMIT").count();
    let before = ends(reader);
    while ends(reader) < before + count {
        let frame = walsender
            .frame()
            .unwrap_or_else(|error| panic!("{error:?}"));
        reader.frame(&frame);
    }
}

#[test]
fn after_an_error_the_same_connection_starts_clean() {
    let server = Server::start_default();
    server.create_database("other", Encoding::SqlAscii);
    server.sql_in(
        "other",
        "CREATE TABLE t (id int PRIMARY KEY, x text); CREATE TABLE u (id int)",
    );
    server.create_slot_in("other", "s", "walferry");
    server.sql_in(
        "other",
        "BEGIN; INSERT INTO u VALUES (1); INSERT INTO t VALUES (1, convert_from('\\xff', 'SQL_ASCII')); COMMIT",
    );
    server.flushed_lsn();
    let mut walsender = Walsender::connect(&server, "other");
    for _ in 0..5 {
        walsender.start_replication("s", &[]);
        let (code, message) = walsender.frame().unwrap_err();
        assert_eq!(code, "22021", "{message}");
        walsender.start_replication("s", &[("no_such", "x")]);
        assert_eq!(walsender.frame().unwrap_err().0, "22023");
    }
    walsender.start_replication("s", &[("invalid_text", "escape")]);
    let mut reader = Reader::default();
    commits(&mut walsender, &mut reader, 1);
    assert_eq!(
        reader.lines,
        ["BEGIN", "I u(id=1)", "I t(id=1, x=\\xff)", "COMMIT"]
    );
    // The connection serves SQL as well, afterwards.
    walsender.stop();
    assert!(
        walsender
            .command("SELECT 1")
            .iter()
            .any(|(kind, _)| *kind == b'D')
    );
    assert_unharmed(&server);
}

#[test]
fn a_long_filtered_stretch_keeps_the_connection_alive() {
    let server = Server::builder()
        .setting("wal_sender_timeout", "2s")
        .setting("logical_decoding_work_mem", "1GB")
        .start();
    server.sql("CREATE TABLE t (id int, x text); CREATE TABLE wanted (id int)");
    server.create_slot("s", "walferry");
    server.sql(
        "BEGIN; INSERT INTO wanted VALUES (1);
         INSERT INTO t SELECT g, repeat('x', 20) FROM generate_series(1, 600000) g;
         INSERT INTO wanted VALUES (2); COMMIT",
    );
    server.flushed_lsn();
    let mut walsender = Walsender::connect(&server, "postgres");
    walsender.start_replication("s", &[("tables", "public.wanted")]);
    let mut reader = Reader::default();
    // Keepalives come while the transaction is being replayed or before; the
    // stream then goes on to its end.
    commits(&mut walsender, &mut reader, 1);
    assert_eq!(
        reader.lines,
        ["BEGIN", "I wanted(id=1)", "I wanted(id=2)", "COMMIT"]
    );
    assert!(
        !server
            .log()
            .contains("terminating walsender process due to replication timeout")
    );
}

#[test]
fn a_skipped_transaction_still_moves_the_stream_on() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int)");
    server.create_slot("s", "walferry");
    let mut walsender = Walsender::connect(&server, "postgres");
    walsender.start_replication("s", &[("exclude_tables", "*.t")]);
    server.sql("INSERT INTO t VALUES (1)");
    let end = server.flushed_lsn();
    wait_until("the walsender to pass the skipped transaction", || {
        server.value::<bool>(&format!(
            "SELECT sent_lsn >= '{end}' FROM pg_stat_replication WHERE pid = {}",
            walsender.pid
        ))
    });
    // A status update that asks for an answer gets where the server is.
    walsender.status(0, true);
    let mut seen = 0;
    while seen < end.0 {
        seen = walsender.keepalive();
    }
}
