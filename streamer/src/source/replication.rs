//! The streaming replication protocol: identifying the system, and the
//! CopyBoth stream with its feedback ("Streaming Replication Protocol" in
//! PostgreSQL's documentation).

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use walferry_protocol::Lsn;

use super::connection::{
    Connection, MessageReader, Replication, Residue, WriteHalf, closed, lost, malformed,
    quote_identifier, quote_replication_literal,
};
use super::report::{self, Doing};
use super::slot;
use crate::error::{Failure, Result};

/// Seconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const POSTGRES_EPOCH: u64 = 946_684_800;

/// Who the server is (IDENTIFY_SYSTEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Unique to a cluster from its initdb on, shared by its standbys.
    pub system_identifier: u64,
    pub timeline: u32,
    /// The end of flushed WAL.
    pub xlogpos: Lsn,
    pub database: String,
}

/// What IDENTIFY_SYSTEM tells, for an ordinary backend. A standby knows its
/// timeline only from its control file, as of its last restartpoint.
const IDENTIFY_BY_SQL: &str = "\
    SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()) AS systemid, \
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) \
    ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS timeline, \
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
    ELSE pg_catalog.pg_current_wal_flush_lsn() END AS xlogpos, \
    pg_catalog.current_database() AS dbname";

/// Asks who a connection leads to.
pub async fn identify_system(connection: &mut Connection) -> Result<SystemIdentity> {
    let command = match connection.replication() {
        Replication::Database => "IDENTIFY_SYSTEM",
        Replication::Off => IDENTIFY_BY_SQL,
    };
    let rows = connection.simple_query(command).await?;
    let row = rows.first().ok_or_else(|| malformed("IDENTIFY_SYSTEM"))?;
    let field = |name| {
        row.get(name)
            .ok_or_else(|| malformed(&format!("IDENTIFY_SYSTEM, without {name},")))
    };
    let broken = |name: &str| malformed(&format!("{name} of IDENTIFY_SYSTEM"));
    Ok(SystemIdentity {
        system_identifier: field("systemid")?.parse().map_err(|_| broken("systemid"))?,
        timeline: field("timeline")?.parse().map_err(|_| broken("timeline"))?,
        xlogpos: field("xlogpos")?.parse().map_err(|_| broken("xlogpos"))?,
        database: field("dbname")?.to_owned(),
    })
}

/// Whether WAL that ends at `wal_end` has every record that ends at or before
/// `position`.
///
/// An LSN at the beginning of a page may be written as the page's first byte
/// or as the first byte after the page's header (`XLogBytePosToRecPtr` and
/// `XLogBytePosToEndRecPtr`, `src/backend/access/transam/xlog.c`); no record
/// is between.
pub fn ends_at_or_past(wal_end: Lsn, position: Lsn) -> bool {
    const PAGE: u64 = 8192;
    const LONG_HEADER: u64 = 40;
    wal_end >= position || (wal_end.0.is_multiple_of(PAGE) && position.0 - wal_end.0 <= LONG_HEADER)
}

/// A message of the server's in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// XLogData: what the output plugin wrote.
    XLogData {
        /// Where the plugin was when it began the message. Not a position to
        /// acknowledge: those are inside the frames.
        start: Lsn,
        /// The end of WAL the server knew of.
        wal_end: Lsn,
        /// The server's clock, microseconds since 2000-01-01 UTC.
        server_time_us: i64,
        data: Bytes,
    },
    /// The output plugin starts anew, as at the beginning of a stream: of a
    /// slot that is polled each answer is one of its own.
    NewStart,
    /// Primary keepalive.
    Keepalive {
        /// How far the server has read: every commit that ends before was sent.
        wal_end: Lsn,
        server_time_us: i64,
        /// The server wants a status update at once.
        reply_requested: bool,
    },
}

/// The receiving half of a replication stream.
pub struct ReplicationReader {
    messages: MessageReader,
    slot: String,
    residue: Residue,
}

/// The sending half of a replication stream.
pub struct ReplicationWriter {
    half: WriteHalf,
}

/// Starts reading a logical slot from `start` on, or from where it was last
/// confirmed if that is later ([`Lsn::INVALID`]: from there).
///
/// # Errors
/// What the server or the output plugin refuses, with its cure.
pub async fn start_replication(
    connection: Connection,
    slot: &str,
    start: Lsn,
    options: &[(String, String)],
) -> Result<(ReplicationReader, ReplicationWriter)> {
    try_start_replication(connection, slot, start, options)
        .await
        .map_err(|(failure, _)| failure)
}

/// [`start_replication`], giving the connection back when the server refused
/// but still listens.
pub async fn try_start_replication(
    connection: Connection,
    slot_name: &str,
    start: Lsn,
    options: &[(String, String)],
) -> Result<(ReplicationReader, ReplicationWriter), (Failure, Option<Box<Connection>>)> {
    let command = start_command(slot_name, start, options);
    let doing = Doing::ReadingSlot { slot: slot_name };
    let (messages, half, residue) = match connection.copy_both(&command, &doing).await {
        Ok(parts) => parts,
        Err((failure, None)) => return Err((failure, None)),
        Err((failure, Some(mut connection))) => {
            let failure = slot::cure::explain_reading(&mut connection, failure, slot_name).await;
            return Err((failure, Some(connection)));
        }
    };
    Ok((
        ReplicationReader {
            messages,
            slot: slot_name.to_owned(),
            residue,
        },
        ReplicationWriter { half },
    ))
}

fn start_command(slot: &str, start: Lsn, options: &[(String, String)]) -> String {
    let mut command = format!(
        "START_REPLICATION SLOT {} LOGICAL {start}",
        quote_identifier(slot)
    );
    if !options.is_empty() {
        let options: Vec<String> = options
            .iter()
            .map(|(name, value)| {
                format!(
                    "{} {}",
                    quote_identifier(name),
                    quote_replication_literal(value)
                )
            })
            .collect();
        command.push_str(&format!(" ({})", options.join(", ")));
    }
    command
}

impl ReplicationReader {
    /// The next message; `None` when the server ended the copy, as it does
    /// when it shuts down or after [`ReplicationWriter::copy_done`]. May be
    /// cancelled at any time without losing a message.
    ///
    /// # Errors
    /// The server's error (an output plugin's included), or transient when the
    /// connection broke.
    pub async fn next(&mut self) -> Result<Option<ServerMessage>> {
        loop {
            let message = self.messages.next().await?.ok_or_else(closed)?;
            match message.tag {
                b'd' => return parse(message.body).map(Some),
                b'c' | b'C' => return Ok(None),
                b'E' => {
                    let doing = Doing::ReadingSlot { slot: &self.slot };
                    return Err(report::failure(&message.body, &doing));
                }
                b'N' => report::notice(&message.body)?,
                b'S' | b'A' => {}
                other => {
                    return Err(malformed(&format!(
                        "replication stream (message {:?})",
                        char::from(other)
                    )));
                }
            }
        }
    }

    /// The connection again, once [`ReplicationReader::next`] gave `None` or
    /// the server's error.
    pub async fn into_connection(self, writer: ReplicationWriter) -> Result<Connection> {
        Connection::resume(self.messages, writer.half, self.residue).await
    }
}

/// XLogData ('w') and primary keepalive ('k').
fn parse(mut data: Bytes) -> Result<ServerMessage> {
    match data.first() {
        Some(b'w') if data.len() >= 25 => {
            data.advance(1);
            Ok(ServerMessage::XLogData {
                start: Lsn(data.get_u64()),
                wal_end: Lsn(data.get_u64()),
                server_time_us: data.get_i64(),
                data,
            })
        }
        Some(b'k') if data.len() == 18 => {
            data.advance(1);
            Ok(ServerMessage::Keepalive {
                wal_end: Lsn(data.get_u64()),
                server_time_us: data.get_i64(),
                reply_requested: data.get_u8() != 0,
            })
        }
        _ => Err(malformed("message in the replication stream")),
    }
}

impl ReplicationWriter {
    /// Standby status update: `written` and `applied` are for the server's
    /// views, `flushed` is what the slot may forget.
    pub async fn standby_status(
        &mut self,
        written: Lsn,
        flushed: Lsn,
        applied: Lsn,
        request_reply: bool,
    ) -> Result<()> {
        let mut out = [0_u8; 5 + 34];
        let mut body = &mut out[..];
        body.put_u8(b'd');
        body.put_u32(4 + 34);
        body.put_u8(b'r');
        body.put_u64(written.0);
        body.put_u64(flushed.0);
        body.put_u64(applied.0);
        body.put_i64(now_since_2000());
        body.put_u8(u8::from(request_reply));
        self.half
            .write_all(&out)
            .await
            .map_err(|error| lost(&error))
    }

    /// Tells the server that nothing more is wanted; it ends the copy too.
    pub async fn copy_done(&mut self) -> Result<()> {
        let mut out = BytesMut::new();
        postgres_protocol::message::frontend::copy_done(&mut out);
        self.half
            .write_all(&out)
            .await
            .map_err(|error| lost(&error))
    }
}

/// This machine's clock, microseconds since 2000-01-01 UTC.
fn now_since_2000() -> i64 {
    let since_unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since_unix.as_micros() as i64 - (POSTGRES_EPOCH * 1_000_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_quoted_as_the_replication_grammar_has_it() {
        let options = [
            ("proto_min".to_owned(), "1".to_owned()),
            ("tables".to_owned(), r"pub\.it's".to_owned()),
        ];
        assert_eq!(
            start_command("ferry", Lsn(0x1_0000_00ff), &options),
            r#"START_REPLICATION SLOT "ferry" LOGICAL 1/FF ("proto_min" '1', "tables" 'pub\.it''s')"#
        );
        assert_eq!(
            start_command("s", Lsn::INVALID, &[]),
            r#"START_REPLICATION SLOT "s" LOGICAL 0/0"#
        );
    }

    #[test]
    fn a_keepalive_and_data_are_told_apart_and_junk_is_refused() {
        let mut bytes = BytesMut::new();
        bytes.put_u8(b'k');
        bytes.put_u64(7);
        bytes.put_i64(8);
        bytes.put_u8(1);
        assert_eq!(
            parse(bytes.clone().freeze()).unwrap(),
            ServerMessage::Keepalive {
                wal_end: Lsn(7),
                server_time_us: 8,
                reply_requested: true
            }
        );
        assert!(parse(bytes.freeze().slice(..10)).is_err());
        assert!(parse(Bytes::from_static(b"x")).is_err());
        assert!(parse(Bytes::new()).is_err());
    }
}
