//! A connection to the server: start-up, simple queries, and the two halves
//! that a replication stream is made of.

mod authentication;
mod cancel;
mod message;
mod socket;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;

pub use cancel::{CancelOnDrop, CancelToken};
pub use message::{Message, MessageReader};
pub use socket::WriteHalf;

pub(in crate::source) use authentication::{closed, lost, malformed};
pub(in crate::source) use socket::io_text;

use super::conninfo::{Address, Conninfo, Host, TargetSessionAttrs};
use super::report::{self, Doing};
use super::tls::{self, Handshake, Secured, SslMode};
use crate::error::{Class, Failure, Result};
use authentication::Authentication;
use socket::{Peer, Stream};
use tokio::net::TcpStream;

/// The oldest server walferry talks to, as `server_version_num`: the first
/// whose logical decoding knows streamed and prepared transactions.
pub const OLDEST_SERVER: u32 = 140_000;

/// Whether the server process is to be a walsender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// A walsender of the database: replication commands and SQL.
    Database,
    /// An ordinary backend.
    Off,
}

/// An open, authenticated connection.
pub struct Connection {
    reader: MessageReader,
    writer: WriteHalf,
    conninfo: Arc<Conninfo>,
    host: Host,
    replication: Replication,
    parameters: HashMap<String, String>,
    cancel: CancelToken,
    /// A command was sent and its ReadyForQuery has not come. Still set when
    /// the next one is to be sent, it means that the caller gave up half-way.
    busy: bool,
}

/// A row of a simple query's result, all values as text.
#[derive(Clone, Debug)]
pub struct Row {
    names: Arc<[String]>,
    values: Vec<Option<String>>,
}

impl Row {
    /// The value of a column; `None` when it is null or there is no such column.
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self.names.iter().position(|known| known == name)?;
        self.values[index].as_deref()
    }

    /// The value of the column at `index`; `None` when null or out of range.
    pub fn at(&self, index: usize) -> Option<&str> {
        self.values.get(index)?.as_deref()
    }

    /// A column that PostgreSQL prints as `t` or `f`; null is false.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("t")
    }

    /// The parsed value of a column, `None` when null, absent or something else.
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }
}

impl Connection {
    /// Connects to the first host of `conninfo` that answers and is what
    /// `target_session_attrs` asks for.
    ///
    /// # Errors
    /// Transient when no host answers or none is of the kind asked for;
    /// definite when a server refuses us.
    pub async fn connect(conninfo: &Conninfo, replication: Replication) -> Result<Self> {
        let conninfo = Arc::new(conninfo.clone());
        let rounds = match conninfo.target_session_attrs {
            TargetSessionAttrs::PreferStandby => {
                &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any][..]
            }
            one => &[one],
        };
        let mut failures: Vec<(String, Failure)> = Vec::new();
        for wanted in rounds {
            failures.clear();
            for host in &conninfo.hosts {
                match Self::connect_host(&conninfo, host, replication).await {
                    Ok(connection) => match connection.lacks(*wanted) {
                        None => return Ok(connection),
                        Some(lack) => failures.push((
                            host.to_string(),
                            Failure::transient(format!("{host} {lack}")).hint(format!(
                                "target_session_attrs={} asks for another server: add it to the hosts",
                                conninfo.target_session_attrs
                            )),
                        )),
                    },
                    // As in libpq, a server that answered and refused us ends
                    // the search: the next would see the same mistake.
                    Err(failure) if failure.class != Class::Transient => return Err(failure),
                    Err(failure) => failures.push((host.to_string(), failure)),
                }
            }
        }
        Err(match failures.as_slice() {
            [(_, only)] => only.clone(),
            several => {
                Failure::transient(format!("none of the {} hosts could be used", several.len()))
                    .detail(
                        several
                            .iter()
                            .map(|(_, failure)| failure.message.as_str())
                            .collect::<Vec<_>>()
                            .join("; "),
                    )
            }
        })
    }

    async fn connect_host(
        conninfo: &Arc<Conninfo>,
        host: &Host,
        replication: Replication,
    ) -> Result<Self> {
        let attempt = Self::start_up(conninfo, host, replication);
        let connection = match conninfo.connect_timeout {
            None => attempt.await?,
            Some(timeout) => tokio::time::timeout(timeout, attempt).await.map_err(|_| {
                Failure::transient(format!(
                    "no connection to {host} within {} s",
                    timeout.as_secs()
                ))
                .hint("a firewall may drop the packets; connect_timeout sets how long to wait")
            })??,
        };
        let version = connection.server_version();
        if version < OLDEST_SERVER {
            return Err(Failure::definite(format!(
                "the server is PostgreSQL {}; walferry needs 14 or later",
                connection.parameter("server_version").unwrap_or("unknown")
            ))
            .hint("upgrade the server, or replicate from one that is newer"));
        }
        Ok(connection)
    }

    /// Connects with TLS or without, as `sslmode` says, and in the other way
    /// where the first was refused and the mode leaves both open.
    async fn start_up(
        conninfo: &Arc<Conninfo>,
        host: &Host,
        replication: Replication,
    ) -> Result<Self> {
        let attempts = match (&host.address, conninfo.tls.mode) {
            // Who can get between the ends of a unix socket has won already.
            (Address::Unix(_), _) | (_, SslMode::Disable) => &[Encryption::None][..],
            (_, SslMode::Allow) => &[Encryption::None, Encryption::IfOffered],
            (_, SslMode::Prefer) => &[Encryption::IfOffered, Encryption::None],
            _ => &[Encryption::Demanded],
        };
        let mut before: Option<Refused> = None;
        for encryption in attempts {
            let refused = match Self::attempt(conninfo, host, replication, *encryption).await {
                Ok(connection) => return Ok(connection),
                Err(refused) => refused,
            };
            let failure = match before.take() {
                None if refused.other_may_do && attempts.len() > 1 => {
                    tracing::debug!(
                        "{host} refused a connection {}: {}",
                        with_or_without(refused.secured),
                        refused.failure.message
                    );
                    before = Some(refused);
                    continue;
                }
                None => refused.failure,
                Some(before) => either(before, refused),
            };
            return Err(failure);
        }
        // Not reached: the last attempt is never followed by another.
        Err(closed())
    }

    async fn attempt(
        conninfo: &Arc<Conninfo>,
        host: &Host,
        replication: Replication,
        encryption: Encryption,
    ) -> Result<Self, Refused> {
        let in_tls = |failure| Refused {
            failure,
            secured: true,
            other_may_do: true,
        };
        // Files are read first: what is wrong with them is said even where the
        // server is out of reach.
        let handshake = match encryption {
            Encryption::None => None,
            _ => Some(Handshake::prepare(&conninfo.tls, host).map_err(in_tls)?),
        };
        let (stream, peer) = socket::open(host, &conninfo.keepalives)
            .await
            .map_err(Refused::final_word)?;
        let (stream, secured) = match (stream, handshake) {
            (Stream::Tcp(stream), Some(handshake)) => {
                Self::secure(conninfo, handshake, stream, encryption)
                    .await
                    .map_err(in_tls)?
            }
            (stream, _) => (stream, None),
        };
        let (read, mut writer) = stream.split();
        let mut reader = MessageReader::new(read);
        let out = start_up_message(conninfo, replication).map_err(Refused::final_word)?;
        if let Err(error) = writer.write_all(&out).await {
            // With TLS 1.3 the server's refusal of our certificate may lie there
            // to be read.
            let failure = match reader.next().await {
                Err(failure) if failure.class == Class::Definite => failure,
                _ => lost(&error),
            };
            return Err(Refused::final_word(failure));
        }
        Authentication {
            conninfo,
            host,
            reader: &mut reader,
            writer: &mut writer,
            secured: secured.as_ref(),
        }
        .perform()
        .await
        .map_err(|failure| Refused {
            // The server's own refusal: pg_hba.conf may have another line for
            // the other way.
            other_may_do: failure.sqlstate.is_some()
                && secured.is_some() == (encryption == Encryption::IfOffered),
            secured: secured.is_some(),
            failure,
        })?;
        let mut connection = Connection {
            reader,
            writer,
            conninfo: Arc::clone(conninfo),
            host: host.clone(),
            replication,
            parameters: HashMap::new(),
            cancel: CancelToken::new(peer.clone(), secured.clone(), 0, 0),
            busy: true,
        };
        connection
            .finish_start_up(peer, secured)
            .await
            .map_err(Refused::final_word)?;
        Ok(connection)
    }

    /// Brings a connection into TLS, or leaves it as it is where the server has
    /// none and that will do.
    async fn secure(
        conninfo: &Conninfo,
        handshake: Handshake,
        mut stream: TcpStream,
        encryption: Encryption,
    ) -> Result<(Stream, Option<Secured>)> {
        if tls::ask(&mut stream).await? {
            let (stream, secured) = handshake.perform(stream).await?;
            return Ok((Stream::Tls(Box::new(stream)), Some(secured)));
        }
        if encryption == Encryption::Demanded {
            return Err(Failure::definite(format!(
                "the server has no TLS, and sslmode={} demands it",
                conninfo.tls.mode
            ))
            .hint("switch it on there (ssl = on, with ssl_cert_file and ssl_key_file), or connect through a private network with sslmode=disable"));
        }
        Ok((Stream::Tcp(stream), None))
    }

    async fn finish_start_up(&mut self, peer: Peer, secured: Option<Secured>) -> Result<()> {
        loop {
            let mut message = self.expect_message().await?;
            match message.tag {
                b'K' if message.body.len() >= 8 => {
                    let process_id = message.body.get_i32();
                    let secret_key = message.body.get_i32();
                    self.cancel =
                        CancelToken::new(peer.clone(), secured.clone(), process_id, secret_key);
                }
                b'Z' => {
                    self.busy = false;
                    return Ok(());
                }
                b'E' => {
                    return Err(report::failure(
                        &message.body,
                        &Doing::Connecting(&self.conninfo),
                    ));
                }
                _ => {}
            }
        }
    }

    /// The next message that is not one the server may send at any time.
    async fn expect_message(&mut self) -> Result<Message> {
        loop {
            let message = self.reader.next().await?.ok_or_else(closed)?;
            match message.tag {
                b'S' => self.note_parameter(&message.body),
                b'N' => report::notice(&message.body)?,
                b'A' => {}
                _ => return Ok(message),
            }
        }
    }

    fn note_parameter(&mut self, body: &[u8]) {
        let mut parts = body.split(|byte| *byte == 0);
        if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            self.parameters.insert(
                String::from_utf8_lossy(name).into_owned(),
                String::from_utf8_lossy(value).into_owned(),
            );
        }
    }

    /// Why the server is not what is wanted, if so. Servers since 14 say both
    /// facts at start-up.
    fn lacks(&self, wanted: TargetSessionAttrs) -> Option<&'static str> {
        let standby = self.parameter("in_hot_standby") == Some("on");
        let read_only = standby || self.parameter("default_transaction_read_only") == Some("on");
        match wanted {
            TargetSessionAttrs::ReadWrite if read_only => Some("is read-only"),
            TargetSessionAttrs::ReadOnly if !read_only => Some("is not read-only"),
            TargetSessionAttrs::Primary if standby => Some("is a standby"),
            TargetSessionAttrs::Standby if !standby => Some("is not a standby"),
            _ => None,
        }
    }

    /// Runs SQL or a replication command and gathers its rows (of all its
    /// statements, one after the other).
    ///
    /// # Errors
    /// The server's own error, with its SQLSTATE; transient when the
    /// connection broke.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<Row>> {
        self.run(sql, &Doing::Query).await
    }

    /// [`Connection::simple_query`], with errors explained by what we were at.
    pub(in crate::source) async fn run(
        &mut self,
        sql: &str,
        doing: &Doing<'_>,
    ) -> Result<Vec<Row>> {
        tracing::debug!("to the source: {sql}");
        self.send_query(sql).await?;
        let mut rows = Vec::new();
        let mut names: Arc<[String]> = Arc::new([]);
        let mut failure = None;
        loop {
            let message = self.expect_message().await?;
            match message.tag {
                b'T' => names = column_names(&message.body)?,
                b'D' => rows.push(Row {
                    names: Arc::clone(&names),
                    values: row_values(&message.body)?,
                }),
                b'E' => {
                    failure = failure.or_else(|| Some(report::failure(&message.body, doing)));
                }
                b'Z' => {
                    self.busy = false;
                    break;
                }
                b'C' | b'I' => {}
                other => {
                    return Err(malformed(&format!(
                        "answer to a query (message {:?})",
                        char::from(other)
                    )));
                }
            }
        }
        failure.map_or(Ok(rows), Err)
    }

    /// Sends one statement whose rows are to come one by one, all columns in
    /// binary: [`Connection::next_row`] until it gives `None` or an error.
    pub(in crate::source) async fn begin_rows(&mut self, sql: &str) -> Result<()> {
        tracing::debug!("to the source: {sql}");
        self.send(|out| {
            frontend::parse("", sql, [], out)?;
            frontend::bind(
                "",
                "",
                [],
                std::iter::empty::<()>(),
                |(), _| Ok(postgres_protocol::IsNull::Yes),
                [1],
                out,
            )
            .map_err(|_| std::io::Error::other("no parameters"))?;
            frontend::execute("", 0, out)?;
            frontend::sync(out);
            Ok(())
        })
        .await
    }

    /// The body of the next DataRow. May be cancelled at any time without
    /// losing one.
    pub(in crate::source) async fn next_row(&mut self, doing: &Doing<'_>) -> Result<Option<Bytes>> {
        loop {
            let message = self.expect_message().await?;
            match message.tag {
                b'D' => return Ok(Some(message.body)),
                b'Z' => {
                    self.busy = false;
                    return Ok(None);
                }
                b'E' => {
                    let failure = report::failure(&message.body, doing);
                    while self.expect_message().await?.tag != b'Z' {}
                    self.busy = false;
                    return Err(failure);
                }
                // ParseComplete, BindComplete, CommandComplete.
                b'1' | b'2' | b'C' | b'I' => {}
                other => {
                    return Err(malformed(&format!(
                        "answer to a query (message {:?})",
                        char::from(other)
                    )));
                }
            }
        }
    }

    async fn send_query(&mut self, sql: &str) -> Result<()> {
        self.send(|out| frontend::query(sql, out)).await
    }

    async fn send(
        &mut self,
        build: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<()> {
        if std::mem::replace(&mut self.busy, true) {
            return Err(Failure::transient(
                "the connection is still busy with a command whose caller went away",
            ));
        }
        let mut out = BytesMut::new();
        build(&mut out)
            .map_err(|_| Failure::usage("a command for the server holds a zero byte"))?;
        // A write that fails is not the last word: a server that ended the
        // connection has said why, and that is still to be read.
        if let Err(error) = self.writer.write_all(&out).await {
            while let Ok(Some(message)) = self.reader.next().await {
                if message.tag == b'E' {
                    return Err(report::failure(&message.body, &Doing::Query));
                }
            }
            return Err(lost(&error));
        }
        Ok(())
    }

    /// Sends a command that starts a CopyBoth and gives its two halves.
    pub(in crate::source) async fn copy_both(
        mut self,
        command: &str,
        doing: &Doing<'_>,
    ) -> Result<(MessageReader, WriteHalf, Residue), (Failure, Option<Box<Self>>)> {
        match self.begin_copy_both(command, doing).await {
            Ok(()) => Ok((
                self.reader,
                self.writer,
                Residue {
                    conninfo: self.conninfo,
                    host: self.host,
                    parameters: self.parameters,
                    cancel: self.cancel,
                },
            )),
            // After an error the server waits for the next command.
            Err(failure) if !self.busy => Err((failure, Some(Box::new(self)))),
            Err(failure) => Err((failure, None)),
        }
    }

    async fn begin_copy_both(&mut self, command: &str, doing: &Doing<'_>) -> Result<()> {
        self.send_query(command).await?;
        let mut failure = None;
        loop {
            let message = self.expect_message().await?;
            match message.tag {
                b'W' => return Ok(()),
                b'E' => failure = Some(report::failure(&message.body, doing)),
                b'Z' => {
                    self.busy = false;
                    return Err(failure.unwrap_or_else(|| malformed("answer to START_REPLICATION")));
                }
                _ => {}
            }
        }
    }

    /// Puts a connection together again after its copy has ended.
    pub(in crate::source) async fn resume(
        reader: MessageReader,
        writer: WriteHalf,
        residue: Residue,
    ) -> Result<Self> {
        let mut connection = Connection {
            reader,
            writer,
            conninfo: residue.conninfo,
            host: residue.host,
            // Only a walsender copies both ways.
            replication: Replication::Database,
            parameters: residue.parameters,
            cancel: residue.cancel,
            busy: true,
        };
        while connection.busy {
            connection.busy = connection.expect_message().await?.tag != b'Z';
        }
        Ok(connection)
    }

    /// Ends the session in good order.
    pub async fn close(mut self) {
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        let _ = self.writer.write_all(&out).await;
    }

    /// The server's version as `server_version_num` has it: 150020 for 15.20.
    pub fn server_version(&self) -> u32 {
        self.parameter("server_version").map_or(0, version_number)
    }

    /// A setting the server reports (ParameterStatus), e.g. `server_encoding`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Whether the server process is a walsender.
    pub fn replication(&self) -> Replication {
        self.replication
    }

    pub fn conninfo(&self) -> &Conninfo {
        &self.conninfo
    }

    /// The host this connection leads to.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What it takes to cancel this connection's command from elsewhere.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// The server process that serves this connection.
    pub fn process_id(&self) -> i32 {
        self.cancel.process_id()
    }
}

/// What one attempt to connect does about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    None,
    /// TLS if the server has it.
    IfOffered,
    Demanded,
}

/// An attempt to connect that failed.
struct Refused {
    failure: Failure,
    /// It was made with TLS.
    secured: bool,
    /// It may work with TLS where this was without, or the other way round.
    other_may_do: bool,
}

impl Refused {
    fn final_word(failure: Failure) -> Self {
        Refused {
            failure,
            secured: false,
            other_may_do: false,
        }
    }
}

fn with_or_without(secured: bool) -> &'static str {
    if secured { "with TLS" } else { "without TLS" }
}

/// Of two refusals the one with TLS, for it tells more, and a word on the other.
fn either(first: Refused, second: Refused) -> Failure {
    let (main, other) = if first.secured {
        (first, second)
    } else {
        (second, first)
    };
    let also = format!(
        "{}: {}",
        with_or_without(other.secured),
        other.failure.message
    );
    let mut failure = main.failure;
    // Both failed: what passes by itself in one way is worth another try.
    if other.failure.class == Class::Transient {
        failure.class = Class::Transient;
    }
    failure.detail = Some(match failure.detail {
        Some(detail) => format!("{detail}; {also}"),
        None => also,
    });
    failure
}

fn start_up_message(conninfo: &Conninfo, replication: Replication) -> Result<BytesMut> {
    let mut parameters = vec![
        ("user", conninfo.user.as_str()),
        ("database", &conninfo.dbname),
        ("application_name", &conninfo.application_name),
        ("client_encoding", "UTF8"),
    ];
    if replication == Replication::Database {
        parameters.push(("replication", "database"));
    }
    if let Some(options) = &conninfo.options {
        parameters.push(("options", options));
    }
    let mut out = BytesMut::new();
    frontend::startup_message(parameters, &mut out)
        .map_err(|_| Failure::usage("a connection setting holds a zero byte"))?;
    Ok(out)
}

/// What a connection is beside its socket, kept while it is in copy mode.
pub(in crate::source) struct Residue {
    conninfo: Arc<Conninfo>,
    host: Host,
    parameters: HashMap<String, String>,
    cancel: CancelToken,
}

/// RowDescription: count, then name and 18 bytes of types a column.
fn column_names(mut body: &[u8]) -> Result<Arc<[String]>> {
    let broken = || malformed("row description");
    let count = body.try_get_u16().map_err(|_| broken())?;
    (0..count)
        .map(|_| {
            let end = body.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
            let name = String::from_utf8_lossy(&body[..end]).into_owned();
            body = body.get(end + 1 + 18..).ok_or_else(broken)?;
            Ok(name)
        })
        .collect()
}

/// DataRow: count, then length (-1: null) and bytes a value.
fn row_values(body: &Bytes) -> Result<Vec<Option<String>>> {
    let broken = || malformed("row");
    let mut body = body.as_ref();
    let count = body.try_get_u16().map_err(|_| broken())?;
    (0..count)
        .map(|_| {
            let length = body.try_get_i32().map_err(|_| broken())?;
            let Ok(length) = usize::try_from(length) else {
                return Ok(None);
            };
            let (value, rest) = body.split_at_checked(length).ok_or_else(broken)?;
            body = rest;
            Ok(Some(String::from_utf8_lossy(value).into_owned()))
        })
        .collect()
}

/// `15.20 (Debian 15.20-1)` → 150020, `18beta1` → 180000.
fn version_number(text: &str) -> u32 {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    let major: u32 = numbers.next().unwrap_or(0);
    let has_minor = text
        .find('.')
        .is_some_and(|dot| text[..dot].bytes().all(|byte| byte.is_ascii_digit()));
    let minor = if has_minor {
        numbers.next().unwrap_or(0)
    } else {
        0
    };
    major * 10_000 + minor
}

/// An identifier in double quotes, for SQL and for replication commands.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL literal, whatever `standard_conforming_strings` is.
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// A literal of a replication command, where a backslash is never special
/// (`src/backend/replication/repl_scanner.l`).
pub(in crate::source) fn quote_replication_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_numbers() {
        assert_eq!(version_number("15.20 (Debian 15.20-0+deb12u1)"), 150_020);
        assert_eq!(version_number("18beta1"), 180_000);
        assert_eq!(version_number("17devel"), 170_000);
        assert_eq!(version_number("9.6.24"), 90_006);
    }

    #[test]
    fn quoting_doubles_quotes() {
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r"a\'b"), r"E'a\\''b'");
        assert_eq!(quote_replication_literal(r"a\'b"), r"'a\''b'");
    }
}
