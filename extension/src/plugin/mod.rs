//! The output plugin. [`_PG_output_plugin_init`] is its index: each callback
//! below only finds the decoder and hands over to the file of its concern.
//!
//! Every callback is guarded: a Rust panic and a raised [`failure::Failure`]
//! become PostgreSQL errors; an error of the server passes through with its
//! SQLSTATE, so that a concurrent abort (40000) reaches the reorder buffer.

mod change;
mod condition;
mod condition_expression;
mod condition_safety;
mod decoder;
mod definition;
mod failure;
mod filter;
mod invalidation;
mod json;
mod json_names;
mod json_options;
mod json_text;
mod layout;
mod message;
mod options;
mod printing;
mod raw_types;
mod relation_cache;
mod server;
mod settings;
mod startup;
mod statistics;
mod stream;
mod text;
mod transaction;
mod truncate;
mod tuple;
mod varlena;
mod writer;

use std::ffi::{CStr, c_char, c_int};

use pgrx::{pg_guard, pg_sys};

use decoder::Decoder;
use failure::Outcome;
use message::LogicalMessage;

type Ctx = *mut pg_sys::LogicalDecodingContext;
type Txn = *mut pg_sys::ReorderBufferTXN;
type Change = *mut pg_sys::ReorderBufferChange;

/// Where the server finds the callbacks
/// (`src/include/replication/output_plugin.h`).
///
/// # Safety
/// Called by the server with a table to fill in.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn _PG_output_plugin_init(table: *mut pg_sys::OutputPluginCallbacks) {
    // SAFETY: the server passes a table that it has set to zero.
    unsafe {
        (*table).startup_cb = Some(startup);
        (*table).shutdown_cb = Some(shutdown);
        (*table).filter_by_origin_cb = Some(filter_by_origin);

        (*table).begin_cb = Some(begin);
        (*table).change_cb = Some(change);
        (*table).truncate_cb = Some(truncate);
        (*table).message_cb = Some(message);
        (*table).commit_cb = Some(commit);

        (*table).filter_prepare_cb = Some(filter_prepare);
        (*table).begin_prepare_cb = Some(begin_prepare);
        (*table).prepare_cb = Some(prepare);
        (*table).commit_prepared_cb = Some(commit_prepared);
        (*table).rollback_prepared_cb = Some(rollback_prepared);

        (*table).stream_start_cb = Some(stream_start);
        (*table).stream_change_cb = Some(stream_change);
        (*table).stream_truncate_cb = Some(stream_truncate);
        (*table).stream_message_cb = Some(stream_message);
        (*table).stream_stop_cb = Some(stream_stop);
        (*table).stream_abort_cb = Some(stream_abort);
        (*table).stream_prepare_cb = Some(stream_prepare);
        (*table).stream_commit_cb = Some(stream_commit);
    }
}

/// Runs a callback's body on the context's decoder.
///
/// # Safety
/// `ctx` is the context whose callback is running.
#[inline(always)]
unsafe fn with<T>(ctx: Ctx, body: impl FnOnce(&mut Decoder) -> Outcome<T>) -> T {
    // SAFETY: as the caller promises.
    match unsafe { Decoder::of(ctx) }.and_then(body) {
        Ok(result) => result,
        Err(failure) => failure.raise(),
    }
}

// In all of these, the safety of what is called is that the server called.

#[pg_guard]
unsafe extern "C-unwind" fn startup(
    ctx: Ctx,
    output: *mut pg_sys::OutputPluginOptions,
    is_init: bool,
) {
    // SAFETY: within the startup callback.
    if let Err(failure) = unsafe { startup::start(ctx, output, is_init) } {
        failure.raise();
    }
}

/// Nothing to do: the decoder goes with its memory context, which also
/// happens where an error keeps the server from calling this.
#[pg_guard]
unsafe extern "C-unwind" fn shutdown(_ctx: Ctx) {}

#[pg_guard]
unsafe extern "C-unwind" fn filter_by_origin(ctx: Ctx, origin: pg_sys::RepOriginId) -> bool {
    // SAFETY: within this callback. While a slot is created there is no
    // decoder, and nothing to leave out.
    unsafe { Decoder::find(ctx) }.is_some_and(|decoder| {
        let leaves_out = decoder.options.origins.leaves_out(origin);
        decoder.frames.statistics.origin_filtered += u64::from(leaves_out);
        leaves_out
    })
}

#[pg_guard]
unsafe extern "C-unwind" fn begin(ctx: Ctx, txn: Txn) {
    // SAFETY: within this callback.
    unsafe { with(ctx, |decoder| decoder.begin(txn)) }
}

#[pg_guard]
unsafe extern "C-unwind" fn change(
    ctx: Ctx,
    _txn: Txn,
    relation: pg_sys::Relation,
    change: Change,
) {
    // SAFETY: within this callback.
    unsafe {
        with(ctx, |decoder| {
            decoder.counted_change(relation, change, None)
        })
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn truncate(
    ctx: Ctx,
    _txn: Txn,
    count: c_int,
    relations: *mut pg_sys::Relation,
    change: Change,
) {
    // SAFETY: within this callback; the server passes that many relations.
    unsafe {
        let relations = std::slice::from_raw_parts(relations, count as usize);
        with(ctx, |decoder| decoder.truncate(relations, change, None))
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn message(
    ctx: Ctx,
    _txn: Txn,
    lsn: pg_sys::XLogRecPtr,
    transactional: bool,
    prefix: *const c_char,
    size: pg_sys::Size,
    content: *const c_char,
) {
    // SAFETY: within this callback.
    unsafe {
        let message = logical_message(lsn, transactional, prefix, size, content);
        with(ctx, |decoder| decoder.message(&message, None))
    }
}

/// # Safety
/// The arguments are a message callback's: a C string, and `size` bytes.
unsafe fn logical_message<'a>(
    lsn: pg_sys::XLogRecPtr,
    transactional: bool,
    prefix: *const c_char,
    size: pg_sys::Size,
    content: *const c_char,
) -> LogicalMessage<'a> {
    // SAFETY: as the caller promises.
    unsafe {
        LogicalMessage {
            transactional,
            lsn,
            prefix: CStr::from_ptr(prefix).to_bytes(),
            content: if size == 0 {
                &[]
            } else {
                std::slice::from_raw_parts(content.cast(), size)
            },
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn commit(ctx: Ctx, _txn: Txn, _commit_lsn: pg_sys::XLogRecPtr) {
    // SAFETY: within this callback.
    unsafe { with(ctx, |decoder| decoder.commit()) }
}

/// True keeps a transaction from being sent at its PREPARE.
#[pg_guard]
unsafe extern "C-unwind" fn filter_prepare(
    ctx: Ctx,
    _xid: pg_sys::TransactionId,
    _gid: *const c_char,
) -> bool {
    // SAFETY: within this callback; without a decoder as above.
    unsafe { Decoder::find(ctx) }.is_none_or(|decoder| !decoder.options.two_phase)
}

#[pg_guard]
unsafe extern "C-unwind" fn begin_prepare(ctx: Ctx, txn: Txn) {
    // SAFETY: within this callback.
    unsafe { with(ctx, |decoder| decoder.begin_prepare(txn)) }
}

#[pg_guard]
unsafe extern "C-unwind" fn prepare(ctx: Ctx, txn: Txn, _lsn: pg_sys::XLogRecPtr) {
    // SAFETY: within this callback.
    unsafe { with(ctx, |decoder| decoder.prepare(txn)) }
}

#[pg_guard]
unsafe extern "C-unwind" fn commit_prepared(ctx: Ctx, txn: Txn, _lsn: pg_sys::XLogRecPtr) {
    // SAFETY: within this callback.
    unsafe { with(ctx, |decoder| decoder.commit_prepared(txn)) }
}

#[pg_guard]
unsafe extern "C-unwind" fn rollback_prepared(
    ctx: Ctx,
    txn: Txn,
    prepare_end_lsn: pg_sys::XLogRecPtr,
    _prepare_time: pg_sys::TimestampTz,
) {
    // SAFETY: within this callback.
    unsafe {
        with(ctx, |decoder| {
            decoder.rollback_prepared(txn, prepare_end_lsn)
        })
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn stream_start(ctx: Ctx, txn: Txn) {
    // SAFETY: within this callback.
    unsafe { with(ctx, |decoder| decoder.stream_start(txn)) }
}

#[pg_guard]
unsafe extern "C-unwind" fn stream_stop(ctx: Ctx, _txn: Txn) {
    // SAFETY: within this callback.
    unsafe {
        with(ctx, |decoder| {
            decoder.stream_stop();
            Ok(())
        })
    }
}

/// The (sub)transaction that made a change of a streamed block.
///
/// # Safety
/// `change` is a stream callback's change.
#[inline]
unsafe fn change_xid(change: Change) -> u32 {
    // SAFETY: a change belongs to its (sub)transaction.
    unsafe { (*(*change).txn).xid.into_inner() }
}

#[pg_guard]
unsafe extern "C-unwind" fn stream_change(
    ctx: Ctx,
    _txn: Txn,
    relation: pg_sys::Relation,
    change: Change,
) {
    // SAFETY: within this callback.
    unsafe {
        with(ctx, |decoder| {
            decoder.counted_change(relation, change, Some(change_xid(change)))
        })
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn stream_truncate(
    ctx: Ctx,
    _txn: Txn,
    count: c_int,
    relations: *mut pg_sys::Relation,
    change: Change,
) {
    // SAFETY: within this callback; the server passes that many relations.
    unsafe {
        let relations = std::slice::from_raw_parts(relations, count as usize);
        with(ctx, |decoder| {
            decoder.truncate(relations, change, Some(change_xid(change)))
        })
    }
}

/// The server does not pass the subtransaction of a streamed message, only
/// the top-level one. But before each change it notes which (sub)transaction
/// it watches for a concurrent abort; where it watches none, that one has
/// committed, and the top-level one may stand for it.
#[pg_guard]
unsafe extern "C-unwind" fn stream_message(
    ctx: Ctx,
    txn: Txn,
    lsn: pg_sys::XLogRecPtr,
    transactional: bool,
    prefix: *const c_char,
    size: pg_sys::Size,
    content: *const c_char,
) {
    // SAFETY: within this callback.
    unsafe {
        let message = logical_message(lsn, transactional, prefix, size, content);
        let watched = pg_sys::CheckXidAlive;
        let xid = if watched == pg_sys::InvalidTransactionId {
            (*txn).xid
        } else {
            watched
        };
        with(ctx, |decoder| {
            decoder.message(&message, Some(xid.into_inner()))
        })
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn stream_abort(ctx: Ctx, txn: Txn, abort_lsn: pg_sys::XLogRecPtr) {
    // SAFETY: within this callback.
    unsafe { with(ctx, |decoder| decoder.stream_abort(txn, abort_lsn)) }
}

#[pg_guard]
unsafe extern "C-unwind" fn stream_prepare(ctx: Ctx, txn: Txn, _lsn: pg_sys::XLogRecPtr) {
    // SAFETY: within this callback.
    unsafe { with(ctx, |decoder| decoder.stream_prepare(txn)) }
}

#[pg_guard]
unsafe extern "C-unwind" fn stream_commit(ctx: Ctx, txn: Txn, _lsn: pg_sys::XLogRecPtr) {
    // SAFETY: within this callback.
    unsafe { with(ctx, |decoder| decoder.stream_commit(txn)) }
}
