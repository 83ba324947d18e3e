//! Begin, commit and the two phases of prepared transactions.

use std::ffi::CStr;

use pgrx::pg_sys;
use walferry_protocol::{
    CommitPrepared, Context, Lsn, Origin, Prepared, RollbackPrepared, Transaction,
};

use super::decoder::{Decoder, RecordIndex};
use super::failure::Outcome;
use super::options::Format;
use super::server;
use super::text::Converter;

type Txn = *const pg_sys::ReorderBufferTXN;

/// Where a transaction came from. An origin that has been dropped since goes
/// by its number.
///
/// # Safety
/// `txn` is the callback's transaction.
unsafe fn origin(txn: Txn, converter: Converter) -> Outcome<Option<Origin>> {
    // SAFETY: as the caller promises; the name is copied out of the current
    // memory context.
    unsafe {
        let id = (*txn).origin_id;
        if id == pg_sys::InvalidRepOriginId as pg_sys::RepOriginId {
            return Ok(None);
        }
        let name = server::in_transaction(|| {
            let mut name = std::ptr::null_mut();
            if pg_sys::replorigin_by_oid(id, true, &mut name) {
                converter.c_string(name, "a replication origin's name")
            } else {
                Ok(id.to_string())
            }
        })?;
        Ok(Some(Origin {
            name,
            lsn: Lsn((*txn).origin_lsn),
        }))
    }
}

/// # Safety
/// `txn` is the callback's transaction, and committed.
pub unsafe fn committed(txn: Txn, converter: Converter) -> Outcome<Transaction> {
    // SAFETY: as the caller promises.
    unsafe {
        Ok(Transaction {
            xid: (*txn).xid.into_inner(),
            commit_lsn: Lsn((*txn).final_lsn),
            end_lsn: Lsn((*txn).end_lsn),
            commit_time: server::transaction_time(txn),
            origin: origin(txn, converter)?,
        })
    }
}

/// # Safety
/// `txn` is the callback's transaction, and prepared.
pub unsafe fn prepared(txn: Txn, converter: Converter) -> Outcome<Prepared> {
    // SAFETY: as the caller promises.
    unsafe {
        Ok(Prepared {
            xid: (*txn).xid.into_inner(),
            prepare_lsn: Lsn((*txn).final_lsn),
            end_lsn: Lsn((*txn).end_lsn),
            prepare_time: server::transaction_time(txn),
            gid: gid(txn, converter)?,
            origin: origin(txn, converter)?,
        })
    }
}

/// # Safety
/// `txn` is the callback's transaction.
unsafe fn gid(txn: Txn, converter: Converter) -> Outcome<String> {
    // SAFETY: as the caller promises.
    let gid = unsafe { (*txn).gid };
    if gid.is_null() {
        return Ok(String::new());
    }
    // SAFETY: not null, so it is a C string.
    let gid = unsafe { CStr::from_ptr(gid) }.to_bytes();
    converter.to_utf8_anywhere(gid, || "a prepared transaction's identifier".to_owned())
}

/// Whether the server has passed over this transaction's PREPARE: before 18 it
/// does where nothing changed any row, which is where there is no snapshot to
/// decode with. A reader would look for rows that it was never sent.
///
/// # Safety
/// `txn` is the callback's transaction.
unsafe fn was_never_told(txn: Txn) -> bool {
    // SAFETY: as the caller promises.
    cfg!(not(feature = "pg18")) && unsafe { (*txn).base_snapshot }.is_null()
}

impl Decoder {
    fn begin_replay(&mut self) {
        self.pinned = false;
        self.index = RecordIndex::default();
    }

    /// # Safety
    /// Within the begin callback.
    #[inline]
    pub unsafe fn begin(&mut self, txn: Txn) -> Outcome {
        self.begin_replay();
        match self.options.format {
            Format::Native => {
                // SAFETY: as the caller promises.
                let context = unsafe { committed(txn, self.converter)? };
                self.frames.begin(Context::Transaction(context), false);
                Ok(())
            }
            Format::Json => {
                // SAFETY: as the caller promises.
                unsafe { self.json_begin(txn) };
                Ok(())
            }
            Format::None => Ok(()),
        }
    }

    #[inline]
    pub fn commit(&mut self) -> Outcome {
        self.frames.statistics.transactions += 1;
        let sent = match self.options.format {
            Format::Native => self.frames.finish(false),
            Format::Json => {
                self.json_commit();
                true
            }
            Format::None => return Ok(()),
        };
        server::update_progress(self.ctx, !sent);
        Ok(())
    }

    /// # Safety
    /// Within the begin_prepare callback.
    pub unsafe fn begin_prepare(&mut self, txn: Txn) -> Outcome {
        self.begin_replay();
        match self.options.format {
            Format::Native => {
                // SAFETY: as the caller promises.
                let context = unsafe { prepared(txn, self.converter)? };
                self.frames.begin(Context::Prepared(context), false);
                Ok(())
            }
            Format::Json | Format::None => Ok(()),
        }
    }

    /// A PREPARE is sent even when nothing in it was: the reader then knows
    /// of every transaction whose COMMIT PREPARED comes later.
    ///
    /// # Safety
    /// Within the prepare callback.
    pub unsafe fn prepare(&mut self, txn: Txn) -> Outcome {
        self.frames.statistics.transactions += 1;
        match self.options.format {
            Format::Native => {
                // Since 18 the server calls this for a transaction without any
                // change too, and then without begin_prepare before it.
                if !self.frames.is_open() {
                    // SAFETY: as the caller promises.
                    unsafe { self.begin_prepare(txn)? };
                }
                self.frames.finish(true);
            }
            // Transactions are prepared in the native format only.
            Format::Json | Format::None => return Ok(()),
        }
        server::update_progress(self.ctx, false);
        Ok(())
    }

    /// # Safety
    /// Within the commit_prepared callback.
    pub unsafe fn commit_prepared(&mut self, txn: Txn) -> Outcome {
        // SAFETY: as the caller promises.
        if unsafe { was_never_told(txn) } {
            return Ok(());
        }
        // SAFETY: as the caller promises.
        unsafe {
            match self.options.format {
                Format::Native => {
                    let context = Context::CommitPrepared(CommitPrepared {
                        gid: gid(txn, self.converter)?,
                        transaction: committed(txn, self.converter)?,
                    });
                    self.frames.send_alone(&context, 0, &[]);
                }
                Format::Json | Format::None => return Ok(()),
            }
        }
        server::update_progress(self.ctx, false);
        Ok(())
    }

    /// # Safety
    /// Within the rollback_prepared callback.
    pub unsafe fn rollback_prepared(&mut self, txn: Txn, prepare_end_lsn: u64) -> Outcome {
        // SAFETY: as the caller promises.
        if unsafe { was_never_told(txn) } {
            return Ok(());
        }
        // SAFETY: as the caller promises.
        unsafe {
            match self.options.format {
                Format::Native => {
                    let context = Context::RollbackPrepared(RollbackPrepared {
                        xid: (*txn).xid.into_inner(),
                        prepare_end_lsn: Lsn(prepare_end_lsn),
                        end_lsn: Lsn((*txn).end_lsn),
                        rollback_time: server::transaction_time(txn),
                        gid: gid(txn, self.converter)?,
                    });
                    self.frames.send_alone(&context, 0, &[]);
                }
                Format::Json | Format::None => return Ok(()),
            }
        }
        server::update_progress(self.ctx, false);
        Ok(())
    }
}
