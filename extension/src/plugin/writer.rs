//! The frame buffer: records gather here and leave as frames.
//!
//! Each `OutputPluginWrite` costs a system call and a CopyData message, so
//! the records of a transaction share one frame until it is `frame_size`
//! long; a commit, a prepare and the end of a streamed block send what is
//! there. A record larger than [`RECORD_LIMIT`] leaves in fragments as it is
//! produced, so that a value of a gigabyte never stands here whole.
//!
//! `OutputPluginPrepareWrite`, the bytes and `OutputPluginWrite` always come
//! together: the walsender stamps its header at the first of them.

use pgrx::pg_sys;
use walferry_protocol::{
    Context, Flags, Put, Start, Value, close_record, encode_header, encode_value,
};

use super::failure::{Failure, Outcome};
use super::statistics::Statistics;

/// A record that grows beyond this is cut into fragments.
pub const RECORD_LIMIT: usize = 4 << 20;
/// The length of a fragment.
const FRAGMENT: usize = 1 << 20;
/// Room kept free beyond `frame_size`, so that ordinary records rarely find
/// the buffer full.
const SLACK: usize = 64 << 10;
/// More than any value's tag and lengths take.
const VALUE_OVERHEAD: usize = 16;

/// The free part of the frame buffer, kept in registers while a row is
/// written. It is a value: every write takes it and gives back what is left.
pub struct Room {
    at: *mut u8,
    left: usize,
}

/// Writes without asking for room: only [`Room::value`] makes one, after it
/// has asked.
struct Unchecked(*mut u8);

impl Put for Unchecked {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        // SAFETY: Room::value has checked that the value with its tag and
        // lengths fits what is left, and encode_value writes no more.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0, bytes.len());
            self.0 = self.0.add(bytes.len());
        }
    }
}

impl Room {
    /// Writes one value.
    #[inline(always)]
    pub fn value(self, frames: &mut Frames, value: Value<'_>) -> Room {
        let length = match value {
            Value::Null | Value::UnchangedToast | Value::Absent => 0,
            Value::Raw(bytes) | Value::Text(bytes) | Value::Compressed { bytes, .. } => bytes.len(),
        };
        if self.left < length + VALUE_OVERHEAD {
            return frames.value_without_room(self, value);
        }
        let mut out = Unchecked(self.at);
        encode_value(&mut out, value);
        let written = out.0 as usize - self.at as usize;
        Room {
            at: out.0,
            left: self.left - written,
        }
    }

    /// Writes bytes that were encoded before.
    #[inline]
    pub fn bytes(self, frames: &mut Frames, bytes: &[u8]) -> Room {
        if self.left < bytes.len() {
            return frames.bytes_without_room(self, bytes);
        }
        // SAFETY: `left` bytes are free from `at` on, and this many fit; the new
        // `at` is still within the buffer, or just past its end.
        let at = unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at, bytes.len());
            self.at.add(bytes.len())
        };
        Room {
            at,
            left: self.left - bytes.len(),
        }
    }
}

/// The frames of one connection.
pub struct Frames {
    ctx: *mut pg_sys::LogicalDecodingContext,
    pub statistics: Statistics,
    /// Records; those before `closed` are complete.
    records: Vec<u8>,
    closed: usize,
    /// Definitions that have not been sent yet.
    pub definitions: Vec<u8>,
    header: Vec<u8>,
    /// What is being replayed; every frame repeats it.
    context: Context,
    /// Whether a transaction, or a piece of one, has begun and not ended.
    open: bool,
    /// Whether a frame of this transaction has been sent.
    begun: bool,
    /// Whether fragments of the open record have been sent.
    fragmented: bool,
    frame_size: usize,
    /// The Start frame, until it has been sent.
    start: Option<Start>,
}

impl Frames {
    pub fn new(
        ctx: *mut pg_sys::LogicalDecodingContext,
        frame_size: usize,
        start: Start,
    ) -> Outcome<Self> {
        let mut records = Vec::new();
        let capacity = frame_size + SLACK;
        records
            .try_reserve_exact(capacity)
            .map_err(|_| Failure::out_of_memory(capacity))?;
        Ok(Frames {
            ctx,
            statistics: Statistics::new(),
            records,
            closed: 0,
            definitions: Vec::new(),
            header: Vec::new(),
            context: Context::Message {
                end_lsn: walferry_protocol::Lsn::INVALID,
            },
            open: false,
            begun: false,
            fragmented: false,
            frame_size,
            start: Some(start),
        })
    }

    /// A transaction, or a piece of one, begins. `begun`: frames of it were
    /// sent before (in an earlier streamed block).
    pub fn begin(&mut self, context: Context, begun: bool) {
        self.end_abandoned();
        self.context = context;
        self.open = true;
        self.begun = begun;
        self.records.clear();
        self.closed = 0;
        self.fragmented = false;
    }

    /// Whether a transaction, or a piece of one, has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Ends a prepared transaction that the server left without a word: before
    /// 18 it does so when a subtransaction turns out to be rolled back. Its
    /// ROLLBACK PREPARED follows.
    fn end_abandoned(&mut self) {
        if self.open && matches!(self.context, Context::Prepared(_)) {
            self.finish(true);
        }
    }

    /// Opens a record: what an interrupted callback left behind is dropped.
    #[inline]
    pub fn open(&mut self) -> Room {
        self.records.truncate(self.closed);
        self.fragmented = false;
        self.room()
    }

    /// Completes the open record, and sends the frame once it is full.
    #[inline]
    pub fn close(&mut self, room: Room) {
        self.sync(&room);
        if self.fragmented {
            self.last_fragment();
            return;
        }
        close_record(&mut self.records[self.closed..]);
        self.closed = self.records.len();
        if self.closed >= self.frame_size {
            self.send(0);
        }
    }

    /// Ends a transaction: its last frame goes out. Returns false, and sends
    /// nothing, when nothing of it was ever written, unless `even_if_empty`.
    pub fn finish(&mut self, even_if_empty: bool) -> bool {
        self.open = false;
        if !self.begun && self.closed == 0 && !even_if_empty {
            return false;
        }
        self.send(Flags::LAST);
        true
    }

    /// Ends a streamed block: what is gathered goes out. Returns whether any
    /// frame of the transaction has been sent so far.
    pub fn pause(&mut self) -> bool {
        self.open = false;
        // After a concurrent abort, definitions may stand here without the
        // record that wanted them; they must not go with another transaction.
        if self.closed > 0 || !self.definitions.is_empty() {
            self.send(0);
        }
        self.begun
    }

    /// Sends a frame that is complete in itself, beside whatever is gathered.
    pub fn send_alone(&mut self, context: &Context, flags: u16, records: &[u8]) {
        self.send_start();
        self.header.clear();
        encode_header(&mut self.header, context, Flags(flags), &[]);
        self.statistics.write(self.ctx, &[&self.header, records]);
    }

    /// Sends the closed records.
    fn send(&mut self, flags: u16) {
        self.send_start();
        let first = if self.begun { 0 } else { Flags::FIRST };
        self.header.clear();
        encode_header(
            &mut self.header,
            &self.context,
            Flags(flags | first),
            &self.definitions,
        );
        self.begun = true;
        self.statistics
            .write(self.ctx, &[&self.header, &self.records[..self.closed]]);
        self.definitions.clear();
        // Normally all of it; when a record has just outgrown the frame, its
        // beginning stays.
        self.records.drain(..self.closed);
        self.closed = 0;
    }

    fn send_start(&mut self) {
        if let Some(start) = self.start.take() {
            self.header.clear();
            encode_header(&mut self.header, &Context::Start(start), Flags(0), &[]);
            self.statistics.write(self.ctx, &[&self.header]);
        }
    }

    fn last_fragment(&mut self) {
        let length = self.records.len();
        self.send_fragment(length, Flags::CONTINUED);
        self.fragmented = false;
        self.closed = 0;
    }

    /// Sends `length` bytes of the open record, which stand at the start of
    /// the buffer.
    fn send_fragment(&mut self, length: usize, flags: u16) {
        let first = if self.begun { 0 } else { Flags::FIRST };
        self.send_start();
        self.header.clear();
        encode_header(
            &mut self.header,
            &self.context,
            Flags(flags | first),
            &self.definitions,
        );
        self.begun = true;
        self.statistics
            .write(self.ctx, &[&self.header, &self.records[..length]]);
        self.definitions.clear();
        self.records.drain(..length);
    }

    /// Cuts the open record into fragments once it is too large for a frame.
    fn spill(&mut self) {
        if !self.fragmented {
            if self.records.len() - self.closed <= RECORD_LIMIT {
                return;
            }
            if self.closed > 0 {
                self.send(0);
            }
        }
        while self.records.len() >= FRAGMENT {
            let continued = if self.fragmented { Flags::CONTINUED } else { 0 };
            self.fragmented = true;
            self.send_fragment(FRAGMENT, continued | Flags::CONTINUES);
        }
    }

    /// The free part of the buffer, no more of it than a record may take
    /// before somebody looks at its length.
    fn room(&mut self) -> Room {
        let record = self.records.len() - self.closed;
        let free = self.records.spare_capacity_mut();
        Room {
            at: free.as_mut_ptr().cast(),
            left: free
                .len()
                .min((RECORD_LIMIT + SLACK).saturating_sub(record)),
        }
    }

    /// Takes over what was written into `room`.
    #[inline]
    fn sync(&mut self, room: &Room) {
        let length = room.at as usize - self.records.as_ptr() as usize;
        // SAFETY: a Room is made by `room` only, over this vector's spare
        // capacity, and `at` moves by exactly what was written; the vector is
        // not touched in between (each of its methods that is needed while a
        // row is written takes the Room and gives back a new one).
        unsafe { self.records.set_len(length) };
    }

    #[cold]
    #[inline(never)]
    fn value_without_room(&mut self, room: Room, value: Value<'_>) -> Room {
        self.sync(&room);
        encode_value(self, value);
        self.ensure(SLACK);
        self.room()
    }

    #[cold]
    #[inline(never)]
    fn bytes_without_room(&mut self, room: Room, bytes: &[u8]) -> Room {
        self.sync(&room);
        self.put(bytes);
        self.ensure(SLACK);
        self.room()
    }

    fn ensure(&mut self, bytes: usize) {
        if self.records.try_reserve(bytes).is_err() {
            Failure::out_of_memory(bytes).raise();
        }
    }
}

/// The slow way to write: any length, spilling as it goes.
impl Put for Frames {
    fn put(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(FRAGMENT) {
            self.ensure(piece.len());
            self.records.extend_from_slice(piece);
            self.spill();
        }
    }
}
