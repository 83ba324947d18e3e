//! Transactions streamed while they are in progress.

use pgrx::pg_sys;
use walferry_protocol::{Context, Lsn, StreamAbort, Streamed};

use super::decoder::{Decoder, RecordIndex, StreamedTransaction};
use super::failure::Outcome;
use super::options::Format;
use super::{server, transaction};

type Txn = *const pg_sys::ReorderBufferTXN;

impl Decoder {
    /// A block of the transaction `txn` (the top-level one) begins.
    ///
    /// # Safety
    /// Within the stream_start callback.
    pub unsafe fn stream_start(&mut self, txn: Txn) -> Outcome {
        self.pinned = false;
        self.end_block();
        // SAFETY: as the caller promises.
        let xid = unsafe { server::top_xid(txn) };
        let stream = match self.streams.remove(&xid) {
            Some(stream) => {
                // SAFETY: as the caller promises.
                unsafe { see_own_catalog_changes(txn) };
                stream
            }
            None => StreamedTransaction::default(),
        };
        self.index = stream.index;
        if self.options.format == Format::Native {
            self.frames
                .begin(Context::Streamed(Streamed { xid }), stream.sent);
        }
        self.stream = Some((xid, stream));
        Ok(())
    }

    /// The block ends, for now or, after a concurrent abort, for good.
    pub fn stream_stop(&mut self) {
        if let Some((_, stream)) = &mut self.stream {
            stream.sent = match self.options.format {
                Format::Native => self.frames.pause(),
                _ => stream.sent,
            };
            stream.index = self.index;
        }
        self.end_block();
    }

    /// Puts the block's transaction back among the streamed ones.
    fn end_block(&mut self) {
        if let Some((xid, stream)) = self.stream.take() {
            self.streams.insert(xid, stream);
        }
        self.index = RecordIndex::default();
    }

    /// A streamed transaction or a subtransaction of it was rolled back.
    ///
    /// # Safety
    /// Within the stream_abort callback.
    pub unsafe fn stream_abort(&mut self, txn: Txn, abort_lsn: u64) -> Outcome {
        // SAFETY: as the caller promises.
        let (xid, subxid) = unsafe { (server::top_xid(txn), (*txn).xid.into_inner()) };
        let sent = if xid == subxid {
            self.streams.remove(&xid).is_some_and(|stream| stream.sent)
        } else {
            self.streams.get(&xid).is_some_and(|stream| stream.sent)
        };
        if !sent {
            return Ok(());
        }
        match self.options.format {
            Format::Native => {
                let abort = StreamAbort {
                    xid,
                    subxid,
                    abort_lsn: Lsn(abort_lsn),
                };
                self.frames.send_alone(&Context::StreamAbort(abort), 0, &[]);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// # Safety
    /// Within the stream_commit callback.
    pub unsafe fn stream_commit(&mut self, txn: Txn) -> Outcome {
        self.frames.statistics.transactions += 1;
        // SAFETY: as the caller promises.
        let sent = unsafe {
            let sent = self.forget(txn);
            if sent && self.options.format == Format::Native {
                let context = transaction::committed(txn, self.converter)?;
                self.frames
                    .send_alone(&Context::StreamCommit(context), 0, &[]);
            }
            sent
        };
        server::update_progress(self.ctx, !sent);
        Ok(())
    }

    /// # Safety
    /// Within the stream_prepare callback.
    pub unsafe fn stream_prepare(&mut self, txn: Txn) -> Outcome {
        self.frames.statistics.transactions += 1;
        // SAFETY: as the caller promises.
        unsafe {
            self.forget(txn);
            if self.options.format == Format::Native {
                let context = transaction::prepared(txn, self.converter)?;
                self.frames
                    .send_alone(&Context::StreamPrepare(context), 0, &[]);
            }
        }
        server::update_progress(self.ctx, false);
        Ok(())
    }

    /// Drops what is known of a streamed transaction that has ended; whether
    /// any of it was sent.
    ///
    /// # Safety
    /// `txn` is the callback's transaction.
    unsafe fn forget(&mut self, txn: Txn) -> bool {
        // SAFETY: as the caller promises.
        let xid = unsafe { server::top_xid(txn) };
        self.streams.remove(&xid).is_some_and(|stream| stream.sent)
    }
}

/// Takes out of the server's caches, and ours, what this transaction had
/// changed in the catalogs before this block. Between two of its blocks other
/// transactions were replayed, and filled the caches with what they see; the
/// server executes these invalidations when a block ends, not when the next
/// one begins, so rows of this one would be printed with, say, the old label
/// of an enum value that this transaction has renamed.
///
/// # Safety
/// `txn` is the stream_start callback's transaction.
unsafe fn see_own_catalog_changes(txn: Txn) {
    // SAFETY: as the caller promises: the array has that many messages, and a
    // transaction with a historic snapshot is running.
    unsafe {
        for index in 0..(*txn).ninvalidations as usize {
            pg_sys::LocalExecuteInvalidationMessage((*txn).invalidations.add(index));
        }
    }
}
