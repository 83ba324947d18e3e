//! Logical messages (`pg_logical_emit_message`).

use walferry_protocol::{
    Context, Flags, Lsn, Message, RecordTag, close_record, encode_message, open_change,
};

use super::decoder::Decoder;
use super::failure::{Failure, Outcome};
use super::options::Format;
use super::writer::{RECORD_LIMIT, Room};

/// A message as the server hands it over.
pub struct LogicalMessage<'a> {
    pub transactional: bool,
    pub lsn: u64,
    /// In the server's encoding.
    pub prefix: &'a [u8],
    pub content: &'a [u8],
}

impl Decoder {
    /// `streamed`: in a streamed block, the (sub)transaction's xid.
    pub fn message(&mut self, message: &LogicalMessage<'_>, streamed: Option<u32>) -> Outcome {
        self.frames.statistics.count();
        if self.options.format == Format::None {
            return Ok(());
        }
        let index = if message.transactional {
            self.count_change();
            self.index.next(message.lsn, 1)
        } else {
            0
        };
        if !self.options.messages {
            self.frames.statistics.filtered += 1;
            return Ok(());
        }
        let converter = self.converter;
        let place = || "a logical message's prefix".to_owned();
        let prefix = converter.to_utf8_anywhere(message.prefix, place)?;
        if !self.options.prefixes.passes(&prefix) {
            self.frames.statistics.filtered += 1;
            return Ok(());
        }
        if self.options.format == Format::Json {
            return self.json_message(message, &prefix);
        }
        if !message.transactional {
            return self.send_message(message, &prefix);
        }
        let mut head = Vec::new();
        open_change(
            &mut head,
            RecordTag::Message,
            streamed,
            Lsn(message.lsn),
            index,
        );
        encode_message(
            &mut head,
            Message {
                prefix: &prefix,
                content: &[],
            },
        );
        let frames = &mut self.frames;
        let room: Room = frames.open();
        let room = room.bytes(frames, &head);
        let room = room.bytes(frames, message.content);
        frames.close(room);
        Ok(())
    }

    /// A message outside any transaction: a frame of its own, at once, or
    /// several where it is larger than a record may be.
    fn send_message(&mut self, message: &LogicalMessage<'_>, prefix: &str) -> Outcome {
        let context = Context::Message {
            end_lsn: Lsn(message.lsn),
        };
        let mut head = Vec::new();
        open_change(&mut head, RecordTag::Message, None, Lsn(message.lsn), 0);
        encode_message(
            &mut head,
            Message {
                prefix,
                content: &[],
            },
        );
        let once = Flags::FIRST | Flags::LAST;
        if message.content.len() <= RECORD_LIMIT {
            let length = head.len() + message.content.len();
            head.try_reserve(length)
                .map_err(|_| Failure::out_of_memory(length))?;
            head.extend_from_slice(message.content);
            close_record(&mut head);
            self.frames.send_alone(&context, once, &head);
            return Ok(());
        }
        self.frames
            .send_alone(&context, Flags::FIRST | Flags::CONTINUES, &head);
        let mut pieces = message.content.chunks(RECORD_LIMIT).peekable();
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_some() {
                Flags::CONTINUES
            } else {
                Flags::LAST
            };
            self.frames
                .send_alone(&context, Flags::CONTINUED | last, piece);
        }
        Ok(())
    }
}
