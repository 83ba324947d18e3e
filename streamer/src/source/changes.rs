//! A slot's changes, in whichever way they are read: over the replication
//! protocol ([`super::replication`]) or by polling with SQL ([`super::polling`]).

use walferry_protocol::Lsn;

use super::polling::{PollReader, PollWriter};
use super::replication::{ReplicationReader, ReplicationWriter, ServerMessage};
use crate::error::Result;

/// The receiving half.
pub enum ChangeReader {
    Stream(Box<ReplicationReader>),
    Poll(PollReader),
}

/// The half that says how far delivery is.
pub enum ChangeWriter {
    Stream(ReplicationWriter),
    Poll(PollWriter),
}

impl ChangeReader {
    /// The next message; `None` at the end. May be cancelled at any time
    /// without losing a message.
    pub async fn next(&mut self) -> Result<Option<ServerMessage>> {
        match self {
            ChangeReader::Stream(reader) => reader.next().await,
            ChangeReader::Poll(reader) => reader.next().await,
        }
    }
}

impl ChangeWriter {
    /// See [`ReplicationWriter::standby_status`].
    pub async fn standby_status(
        &mut self,
        written: Lsn,
        flushed: Lsn,
        applied: Lsn,
        request_reply: bool,
    ) -> Result<()> {
        match self {
            ChangeWriter::Stream(writer) => {
                writer
                    .standby_status(written, flushed, applied, request_reply)
                    .await
            }
            ChangeWriter::Poll(writer) => {
                writer.acknowledge(flushed);
                Ok(())
            }
        }
    }

    /// Nothing more is wanted.
    pub async fn copy_done(&mut self) -> Result<()> {
        match self {
            ChangeWriter::Stream(writer) => writer.copy_done().await,
            ChangeWriter::Poll(writer) => {
                writer.finish();
                Ok(())
            }
        }
    }
}
