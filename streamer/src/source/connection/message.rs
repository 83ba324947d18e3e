//! Cutting the server's bytes into messages, without copying them.

use bytes::{Buf, Bytes, BytesMut};

use super::authentication::lost;
use super::socket::ReadHalf;
use crate::error::{Failure, Result};

/// Bytes read at a time. Many small messages share one such buffer; a walferry
/// frame of 64 KiB fits many times, so that few are cut at a buffer's end and
/// have to be moved to the next.
const CHUNK: usize = 1024 * 1024;

/// No message of a server is longer: `MaxAllocSize` of
/// `src/include/utils/memutils.h`, plus the length word.
const LONGEST: usize = 0x3fff_ffff + 4;

/// Tag and length word.
const HEADER: usize = 5;

/// A message of the server's: its tag and what follows the length.
#[derive(Debug)]
pub struct Message {
    pub tag: u8,
    pub body: Bytes,
}

/// Reads messages from a socket ("Message Formats" in PostgreSQL's protocol
/// documentation).
pub struct MessageReader {
    half: ReadHalf,
    buffer: BytesMut,
}

impl MessageReader {
    pub fn new(half: ReadHalf) -> Self {
        MessageReader {
            half,
            buffer: BytesMut::new(),
        }
    }

    /// The next message; `None` when the server closed the connection between
    /// two messages. May be cancelled at any time without losing anything.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            let wanted = match self.length()? {
                Some(length) if self.buffer.len() >= length => return Ok(Some(self.take(length))),
                Some(length) => length - self.buffer.len(),
                None => HEADER - self.buffer.len(),
            };
            // A message longer than the chunk gets all its space at once: the
            // buffer never grows step by step, which would copy what is there
            // each time.
            if self.buffer.capacity() - self.buffer.len() < wanted {
                self.buffer.reserve(wanted.max(CHUNK));
            }
            let read = self
                .half
                .read(&mut self.buffer)
                .await
                .map_err(|error| lost(&error))?;
            if read == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(Failure::transient(
                        "the server closed the connection in the middle of a message",
                    ))
                };
            }
        }
    }

    /// Length of the message at the buffer's start, header included.
    fn length(&self) -> Result<Option<usize>> {
        if self.buffer.len() < HEADER {
            return Ok(None);
        }
        let length = (&self.buffer[1..HEADER]).get_u32() as usize;
        if !(4..=LONGEST).contains(&length) {
            return Err(Failure::definite(format!(
                "the server sent a message of {length} bytes, which PostgreSQL's protocol does not have"
            ))
            .hint("is this the port of a PostgreSQL server?"));
        }
        Ok(Some(1 + length))
    }

    fn take(&mut self, length: usize) -> Message {
        let mut message = self.buffer.split_to(length);
        if length > CHUNK {
            // What is left shares the long message's memory and would keep it:
            // a new buffer lets it go with the message.
            let rest = std::mem::take(&mut self.buffer);
            self.buffer.reserve(rest.len().max(CHUNK));
            self.buffer.extend_from_slice(&rest);
        }
        let tag = message[0];
        message.advance(HEADER);
        Message {
            tag,
            body: message.freeze(),
        }
    }
}
