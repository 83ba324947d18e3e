//! Receiving: CopyData messages off the socket, in batches of what is there.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::assembler::Received;
use super::feedback::Ask;
use crate::error::{Failure, Result};
use crate::progress::Progress;
use crate::source::changes::ChangeReader;
use crate::source::replication::ServerMessage;

/// A batch is handed on once it holds this much.
const BATCH_BYTES: usize = 128 << 10;
const BATCH_MESSAGES: usize = 1024;

/// Reads until the stream ends or nobody takes what is read. Always ends with
/// a reason when it is the server or the network; `Ok` when the assembler no
/// longer takes anything.
pub async fn run(
    reader: &mut ChangeReader,
    batches: mpsc::Sender<Vec<Received>>,
    asks: &mpsc::Sender<Ask>,
    progress: &Arc<Progress>,
) -> Result<()> {
    loop {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut message = Some(reader.next().await?);
        while let Some(next) = message {
            let Some(next) = next else {
                // What came before it counts; the end is told after.
                let _ = batches.send(batch).await;
                return Err(
                    Failure::transient("the server ended the replication stream")
                        .detail("it does when it is shut down"),
                );
            };
            match next {
                ServerMessage::XLogData {
                    start,
                    wal_end,
                    data,
                    ..
                } => {
                    progress.server_is_at(wal_end);
                    progress.received.fetch_add(data.len() as u64, Relaxed);
                    bytes += data.len();
                    batch.push(Received::Frame { start, bytes: data });
                }
                ServerMessage::NewStart => batch.push(Received::NewStart),
                ServerMessage::Keepalive {
                    wal_end,
                    reply_requested,
                    ..
                } => {
                    progress.server_is_at(wal_end);
                    if reply_requested {
                        // A full queue holds a reply already.
                        match asks.try_send(Ask::Reply) {
                            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {}
                        }
                    }
                    batch.push(Received::Keepalive {
                        wal_end,
                        reply_requested,
                    });
                }
            }
            message = if bytes < BATCH_BYTES && batch.len() < BATCH_MESSAGES {
                at_hand(reader).await?
            } else {
                None
            };
        }
        if batches.send(batch).await.is_err() {
            return Ok(());
        }
    }
}

/// The next message if it needs no waiting.
async fn at_hand(reader: &mut ChangeReader) -> Result<Option<Option<ServerMessage>>> {
    tokio::select! {
        biased;
        message = reader.next() => message.map(Some),
        () = std::future::ready(()) => Ok(None),
    }
}
