//! What the plugin does, counted where it is done and told through shared
//! memory: before each page of WAL is read and each large frame is sent, thus whenever
//! the walsender comes to rest, and every 100 ms of a long transaction.

use std::ffi::{CStr, c_char, c_int};
use std::time::{Duration, Instant};

use pgrx::{pg_guard, pg_sys};

use super::decoder::Decoder;
use super::server;
use crate::shared;
use crate::shared::entry::{Claimed, Sample, State};

/// Every so many changes one is timed, and stands for all of them: asking the
/// clock takes a good part of the time that a change does.
const TIMED: u64 = 64;
/// A frame of so many bytes may take a while to be sent.
const LARGE: usize = 16 << 10;
/// How often a long transaction tells of itself.
const PUBLISH: Duration = Duration::from_millis(100);

type ReadPage = unsafe extern "C-unwind" fn(
    *mut pg_sys::XLogReaderState,
    pg_sys::XLogRecPtr,
    c_int,
    pg_sys::XLogRecPtr,
    *mut c_char,
) -> c_int;

/// Counts since the decoder was started.
pub struct Statistics {
    pub transactions: u64,
    /// Rows, TRUNCATEs and messages that the plugin was given.
    pub changes: u64,
    /// Of these, what the options left out.
    pub filtered: u64,
    /// WAL records of other origins, left out before they were changes.
    pub origin_filtered: u64,
    frames: u64,
    bytes: u64,
    since: i64,
    time: Duration,
    write_time: Duration,
    last_told: Instant,
    /// As of the last page of WAL: while a transaction is replayed, nothing
    /// is added to the reorder buffer.
    oldest: Oldest,
    read_page: Option<ReadPage>,
    published: Option<Claimed>,
}

#[derive(Clone, Copy, Default)]
struct Oldest {
    xid: u64,
    first_lsn: u64,
    restart_lsn: u64,
    /// The end of the last record decoded then.
    decoded_lsn: u64,
}

impl Statistics {
    pub fn new() -> Self {
        Statistics {
            transactions: 0,
            changes: 0,
            filtered: 0,
            origin_filtered: 0,
            frames: 0,
            bytes: 0,
            // SAFETY: asks the clock.
            since: unsafe { pg_sys::GetCurrentTimestamp() },
            time: Duration::ZERO,
            write_time: Duration::ZERO,
            last_told: Instant::now(),
            oldest: Oldest::default(),
            read_page: None,
            published: None,
        }
    }

    /// Counts one more change; whether it is to be timed.
    #[inline]
    pub fn count(&mut self) -> bool {
        self.changes += 1;
        self.changes.is_multiple_of(TIMED)
    }

    /// Sends one message of the output plugin, which may take until the
    /// consumer has room for it.
    pub fn write(&mut self, ctx: *mut pg_sys::LogicalDecodingContext, parts: &[&[u8]]) {
        let begin = Instant::now();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        // Small transactions are told of with the WAL page: here it would cost each of them.
        if length >= LARGE || begin - self.last_told >= PUBLISH {
            self.publish(begin);
        }
        self.state(State::Sending);
        server::write(ctx, parts);
        self.state(State::Decoding);
        self.write_time += begin.elapsed();
        self.frames += 1;
        self.bytes += length as u64;
    }

    #[inline]
    fn state(&self, state: State) {
        if let Some(published) = &self.published {
            published.state(state);
        }
    }

    fn publish(&mut self, now: Instant) {
        self.last_told = now;
        let Some(published) = &self.published else {
            return;
        };
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        published.publish(&Sample {
            since: self.since,
            // SAFETY: asks the clock.
            at: unsafe { pg_sys::GetCurrentTimestamp() },
            lsn: self.oldest.decoded_lsn,
            transactions: self.transactions,
            changes: self.changes,
            filtered: self.filtered,
            origin_filtered: self.origin_filtered,
            frames: self.frames,
            bytes: self.bytes,
            plugin_time: nanoseconds(self.time),
            write_time: nanoseconds(self.write_time),
            oldest_xid: self.oldest.xid,
            oldest_lsn: self.oldest.first_lsn,
            oldest_restart_lsn: self.oldest.restart_lsn,
        });
    }
}

impl Decoder {
    /// Takes a place in shared memory, and has the WAL reader tell before each
    /// page. Without memory decoding goes on, and nothing is told.
    ///
    /// # Safety
    /// Within the startup callback, with `self` hung into the context.
    pub unsafe fn publish_statistics(&mut self) {
        // SAFETY: a decoding context has a slot and a WAL reader, whose
        // `private_data` is the context (`StartupDecodingContext`, logical.c).
        unsafe {
            let ctx = self.ctx;
            let slot = CStr::from_ptr((&raw const (*(*ctx).slot).data.name.data).cast());
            match shared::claim(slot, pg_sys::MyDatabaseId) {
                Ok(claimed) => self.frames.statistics.published = Some(claimed),
                Err(why) => {
                    pgrx::debug1!("walferry: statistics of this decoder are not published: {why}");
                    return;
                }
            }
            let reader = (*ctx).reader;
            if (*reader).private_data == ctx.cast() {
                self.frames.statistics.read_page = (*reader).routine.page_read;
                (*reader).routine.page_read = Some(read_page);
            }
            self.frames.statistics.publish(Instant::now());
        }
    }

    /// Times what handles a change, but not the writing of frames in it.
    #[cold]
    #[inline(never)]
    pub fn timed<T>(&mut self, body: impl FnOnce(&mut Self) -> T) -> T {
        let (begin, written) = (Instant::now(), self.frames.statistics.write_time);
        let result = body(self);
        let end = Instant::now();
        let statistics = &mut self.frames.statistics;
        let writing = statistics.write_time - written;
        statistics.time += (end - begin).saturating_sub(writing) * TIMED as u32;
        if end - statistics.last_told >= PUBLISH {
            statistics.publish(end);
        }
        result
    }

    /// The oldest transaction that is followed, after whole records only.
    ///
    /// # Safety
    /// `reader` is the WAL reader of `self.ctx`, and no change is being replayed.
    unsafe fn look_for_oldest(&mut self, reader: *const pg_sys::XLogReaderState) {
        // SAFETY: as the caller promises; the transaction is only looked at.
        unsafe {
            let oldest = pg_sys::ReorderBufferGetOldestTXN((*self.ctx).reorder);
            let decoded_lsn = (*reader).EndRecPtr;
            self.frames.statistics.oldest = if oldest.is_null() {
                Oldest {
                    decoded_lsn,
                    ..Oldest::default()
                }
            } else {
                Oldest {
                    xid: (*oldest).xid.into_inner().into(),
                    first_lsn: (*oldest).first_lsn,
                    restart_lsn: (*oldest).restart_decoding_lsn,
                    decoded_lsn,
                }
            };
        }
    }
}

/// Reads a page of WAL as the reader did before, which may wait long for it.
#[pg_guard]
unsafe extern "C-unwind" fn read_page(
    reader: *mut pg_sys::XLogReaderState,
    page: pg_sys::XLogRecPtr,
    length: c_int,
    record: pg_sys::XLogRecPtr,
    buffer: *mut c_char,
) -> c_int {
    // SAFETY: the reader is a decoding context's, as publish_statistics has seen.
    // Pages are read between records, when no callback runs. The decoder goes
    // with the context, and so does the reader; it is found anew after reading,
    // which runs other code of the server.
    unsafe {
        let ctx = (*reader)
            .private_data
            .cast::<pg_sys::LogicalDecodingContext>();
        let Some(decoder) = Decoder::find(ctx) else {
            return -1;
        };
        let Some(original) = decoder.frames.statistics.read_page else {
            return -1;
        };
        decoder.look_for_oldest(reader);
        decoder.frames.statistics.publish(Instant::now());
        decoder.frames.statistics.state(State::Reading);
        let read =
            pg_sys::ffi::pg_guard_ffi_boundary(|| original(reader, page, length, record, buffer));
        if let Some(decoder) = Decoder::find(ctx) {
            decoder.frames.statistics.state(State::Decoding);
        }
        read
    }
}
