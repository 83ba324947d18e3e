//! A connection to the server: simple queries, and the two halves that a
//! replication stream is made of.

mod authentication;
mod cancel;
mod message;
mod quote;
mod row;
mod socket;
mod start_up;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::frontend;

pub use cancel::{CancelOnDrop, CancelToken};
pub use message::{Message, MessageReader};
pub use quote::{quote_identifier, quote_literal};
pub use row::Row;
pub use socket::WriteHalf;

pub(in crate::source) use authentication::{closed, lost, malformed};
pub(in crate::source) use quote::quote_replication_literal;
pub(in crate::source) use socket::io_text;

use super::conninfo::{Conninfo, Host, TargetSessionAttrs};
use super::report::{self, Doing};
use crate::error::{Failure, Result};
use row::{column_names, row_values};

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
impl Connection {
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
/// What a connection is beside its socket, kept while it is in copy mode.
pub(in crate::source) struct Residue {
    conninfo: Arc<Conninfo>,
    host: Host,
    parameters: HashMap<String, String>,
    cancel: CancelToken,
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
}
