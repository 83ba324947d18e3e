//! A bare replication client that shows every message as the server sent it.
//!
//! Tests of the output plugin read with this instead of the streamer's own
//! client, so that neither hides a mistake of the other.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use walferry_protocol::Lsn;

use crate::frames::{Capture, FrameReader};
use crate::server::Server;

/// How long a test waits for the server to say anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// A replication connection to one database, as superuser, over the socket.
pub struct Walsender {
    socket: UnixStream,
    received: Vec<u8>,
    parsed: usize,
    pid: i32,
}

/// What the server reported with an ErrorResponse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    pub sqlstate: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
    pub context: String,
}

/// One message while a slot is being read.
#[derive(Debug)]
pub enum Received {
    /// XLogData: one output plugin write.
    Data {
        start: Lsn,
        bytes: Vec<u8>,
    },
    Keepalive {
        end: Lsn,
    },
    /// The server ended the copy with an error and takes commands again.
    Failed(ServerError),
    /// Nothing came within the time.
    Silence,
}

impl Walsender {
    pub fn connect(server: &Server, database: &str) -> Walsender {
        let path = server
            .socket_dir()
            .join(format!(".s.PGSQL.{}", server.port()));
        let socket = UnixStream::connect(&path)
            .unwrap_or_else(|error| panic!("cannot connect to {}: {error}", path.display()));
        let mut walsender = Walsender {
            socket,
            received: Vec::new(),
            parsed: 0,
            pid: 0,
        };
        let mut startup = Vec::new();
        startup.extend(196_608_i32.to_be_bytes());
        for text in [
            "user",
            "postgres",
            "database",
            database,
            "replication",
            "database",
            "application_name",
            "backend tests",
            "",
        ] {
            startup.extend(text.as_bytes());
            startup.push(0);
        }
        let length = (startup.len() + 4) as i32;
        walsender.send_bytes(&[&length.to_be_bytes(), &startup]);
        loop {
            match walsender.expect_message() {
                (b'Z', _) => return walsender,
                (b'K', body) => walsender.pid = i32::from_be_bytes(body[..4].try_into().unwrap()),
                (b'E', body) => panic!("the server refused: {:?}", server_error(&body)),
                _ => {}
            }
        }
    }

    /// Process id of the walsender.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Resident memory of the walsender in bytes, without what it shares
    /// (RssAnon).
    pub fn private_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))
            .expect("the walsender's /proc entry");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .expect("RssAnon of a live process");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("kB");
        kib * 1024
    }

    /// Runs a replication command or SQL.
    pub fn command(&mut self, text: &str) -> Result<(), ServerError> {
        self.send_query(text);
        let mut outcome = Ok(());
        loop {
            match self.expect_message() {
                (b'Z', _) => return outcome,
                (b'E', body) => outcome = Err(server_error(&body)),
                _ => {}
            }
        }
    }

    /// START_REPLICATION from where the slot stands.
    pub fn start(&mut self, slot: &str, options: &[(&str, &str)]) -> Result<(), ServerError> {
        let options: Vec<String> = options
            .iter()
            .map(|(name, value)| {
                let name = name.replace('"', "\"\"");
                format!("\"{name}\" '{}'", value.replace('\'', "''"))
            })
            .collect();
        let list = if options.is_empty() {
            String::new()
        } else {
            format!(" ({})", options.join(", "))
        };
        self.start_verbatim(&format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL 0/0{list}"
        ))
    }

    /// START_REPLICATION in the caller's own words.
    pub fn start_verbatim(&mut self, statement: &str) -> Result<(), ServerError> {
        self.send_query(statement);
        let mut failure = None;
        loop {
            match self.expect_message() {
                (b'W', _) => return Ok(()),
                (b'E', body) => failure = Some(server_error(&body)),
                (b'Z', _) => return Err(failure.expect("an error before ReadyForQuery")),
                _ => {}
            }
        }
    }

    /// The next message, or silence after `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Received {
        let until = Instant::now() + timeout;
        loop {
            match self.message(until) {
                None => return Received::Silence,
                Some((b'd', body)) if body[0] == b'w' => {
                    return Received::Data {
                        start: lsn_at(&body, 1),
                        bytes: body[25..].to_vec(),
                    };
                }
                Some((b'd', body)) => {
                    return Received::Keepalive {
                        end: lsn_at(&body, 1),
                    };
                }
                Some((b'E', body)) => {
                    let failure = server_error(&body);
                    while self.expect_message().0 != b'Z' {}
                    return Received::Failed(failure);
                }
                Some((b'c', _)) => panic!("the server ended the copy"),
                Some(_) => {}
            }
        }
    }

    /// Reads until the server has decoded everything up to `end`.
    pub fn read_until(&mut self, end: Lsn, reader: &mut FrameReader) -> Result<(), ServerError> {
        let began = Instant::now();
        loop {
            match self.next(Duration::from_millis(20)) {
                Received::Data { start, bytes } => reader.read(&bytes, Some(start)),
                Received::Keepalive { end: reached } if reached >= end => return Ok(()),
                Received::Keepalive { .. } => {}
                Received::Failed(error) => return Err(error),
                Received::Silence => {
                    assert!(
                        began.elapsed() < PATIENCE,
                        "waited {PATIENCE:?} for the server to decode up to {end}"
                    );
                    self.status(Lsn::INVALID, true);
                }
            }
        }
    }

    /// Starts on a slot, reads all there is, and closes the connection
    /// without confirming anything.
    pub fn capture(
        server: &Server,
        database: &str,
        slot: &str,
        options: &[(&str, &str)],
    ) -> Capture {
        let end = server.flushed_lsn();
        let mut reader = FrameReader::default();
        let mut walsender = Walsender::connect(server, database);
        walsender
            .start(slot, options)
            .and_then(|()| walsender.read_until(end, &mut reader))
            .unwrap_or_else(|error| panic!("{error:?}"));
        reader.finish()
    }

    /// A standby status update; an invalid `flushed` confirms nothing.
    pub fn status(&mut self, flushed: Lsn, reply: bool) {
        let mut body = vec![b'r'];
        for lsn in [flushed.0, flushed.0, flushed.0, 0] {
            body.extend(lsn.to_be_bytes());
        }
        body.push(u8::from(reply));
        let length = (body.len() + 4) as i32;
        self.send_bytes(&[b"d", &length.to_be_bytes(), &body]);
    }

    /// Ends the copy from this side; the connection takes commands again (but
    /// no second START_REPLICATION: the server forgets to take back that it is
    /// done). What was still on its way is thrown away.
    pub fn end_copy(&mut self) {
        self.send_bytes(&[b"c", &4_i32.to_be_bytes()]);
        while self.expect_message().0 != b'Z' {}
    }

    fn send_query(&mut self, text: &str) {
        let length = (text.len() + 5) as i32;
        self.send_bytes(&[b"Q", &length.to_be_bytes(), text.as_bytes(), b"\0"]);
    }

    fn send_bytes(&mut self, parts: &[&[u8]]) {
        // An ended connection shows at the next read, with the reason.
        let _ = self.socket.write_all(&parts.concat());
    }

    fn expect_message(&mut self) -> (u8, Vec<u8>) {
        self.message(Instant::now() + PATIENCE)
            .unwrap_or_else(|| panic!("the server said nothing for {PATIENCE:?}"))
    }

    fn message(&mut self, until: Instant) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((tag, whole)) = self.buffered() {
                let body = self.received[self.parsed + 5..self.parsed + whole].to_vec();
                self.parsed += whole;
                return Some((tag, body));
            }
            self.received.drain(..self.parsed);
            self.parsed = 0;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .expect("a read timeout");
            let length = self.received.len();
            self.received.resize(length + (256 << 10), 0);
            let read = self.socket.read(&mut self.received[length..]);
            self.received
                .truncate(length + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => panic!("the server closed the connection"),
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => panic!("the replication connection broke: {error}"),
            }
        }
    }

    /// Tag and length of the message that stands whole in the buffer.
    fn buffered(&self) -> Option<(u8, usize)> {
        let rest = &self.received[self.parsed..];
        let length = i32::from_be_bytes(rest.get(1..5)?.try_into().ok()?) as usize;
        (rest.len() > length).then(|| (rest[0], length + 1))
    }
}

fn lsn_at(body: &[u8], at: usize) -> Lsn {
    Lsn(u64::from_be_bytes(
        body[at..at + 8].try_into().expect("eight bytes"),
    ))
}

fn server_error(body: &[u8]) -> ServerError {
    let mut error = ServerError::default();
    for field in body.split(|byte| *byte == 0).filter(|f| !f.is_empty()) {
        let text = String::from_utf8_lossy(&field[1..]).into_owned();
        match field[0] {
            b'C' => error.sqlstate = text,
            b'M' => error.message = text,
            b'D' => error.detail = text,
            b'H' => error.hint = text,
            b'W' => error.context = text,
            _ => {}
        }
    }
    error
}
