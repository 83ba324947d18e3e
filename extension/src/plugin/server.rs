//! Small calls into the server that more than one file needs, and what
//! differs between its major versions.

use std::ffi::{CStr, c_int};

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use super::failure::Failure;

/// `MaxAllocSize` (`src/include/utils/memutils.h`), less room for the
/// replication protocol's own header.
const MAX_MESSAGE: usize = 0x3fff_ffff - 1024;

// Not in pgrx's bindings (`src/include/catalog/partition.h`).
unsafe extern "C-unwind" {
    fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
}

/// Sends one message of the output plugin.
pub fn write(ctx: *mut pg_sys::LogicalDecodingContext, parts: &[&[u8]]) {
    // A message of the server cannot be larger than a StringInfo. Only the
    // format json can come near.
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > MAX_MESSAGE {
        Failure::new(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("a change takes {length} bytes, the limit is {MAX_MESSAGE}"),
        )
        .hint("Read the slot with format 'native', which cuts large changes in pieces.")
        .raise();
    }
    // SAFETY: `ctx` is the context whose callback is running; the parts are
    // copied into its StringInfo before the write.
    unsafe {
        pg_sys::OutputPluginPrepareWrite(ctx, true);
        for part in parts {
            if !part.is_empty() {
                pg_sys::appendBinaryStringInfo(
                    (*ctx).out,
                    part.as_ptr().cast(),
                    part.len() as c_int,
                );
            }
        }
        pg_sys::OutputPluginWrite(ctx, true);
    }
}

/// Tells the server that decoding goes on though nothing is written, so that
/// a client is kept from thinking otherwise. `skipped`: a whole transaction
/// was left out.
pub fn update_progress(ctx: *mut pg_sys::LogicalDecodingContext, skipped: bool) {
    // SAFETY: `ctx` is the context whose callback is running.
    unsafe {
        #[cfg(feature = "pg14")]
        {
            let _ = skipped;
            pg_sys::OutputPluginUpdateProgress(ctx);
        }
        #[cfg(not(feature = "pg14"))]
        pg_sys::OutputPluginUpdateProgress(ctx, skipped);
    }
}

/// Runs `body` in a transaction: the one in progress, or one of its own where
/// a callback is called outside of any (the commit of a streamed transaction,
/// COMMIT PREPARED, a non-transactional message).
pub fn in_transaction<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: plain calls of the transaction manager, from the backend's only
    // thread. A raised error aborts the transaction as any error does.
    unsafe {
        if pg_sys::IsTransactionState() {
            return body();
        }
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::StartTransactionCommand();
        let result = body();
        pg_sys::CommitTransactionCommand();
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
        result
    }
}

/// A new memory context under `parent`.
pub fn memory_context(parent: pg_sys::MemoryContext, name: &'static CStr) -> pg_sys::MemoryContext {
    // SAFETY: `parent` is a live context; the name is static, as it must be.
    unsafe {
        pg_sys::AllocSetContextCreateInternal(
            parent,
            name.as_ptr(),
            pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
            pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}

/// Runs `body` with `context` as the current memory context, and empties it
/// afterwards: for server functions whose results are taken over at once.
pub fn in_scratch<T>(context: pg_sys::MemoryContext, body: impl FnOnce() -> T) -> T {
    // SAFETY: `context` is the decoder's own scratch context, which lives as
    // long as the decoder. An error raised in `body` leaves it as it is; the
    // next use empties it.
    unsafe {
        let before = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = context;
        let result = body();
        pg_sys::CurrentMemoryContext = before;
        pg_sys::MemoryContextReset(context);
        result
    }
}

/// The partitioned tables above a partition, its parent first.
pub fn partition_ancestors(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: called within a transaction; the list holds oids only.
    unsafe {
        let list = pg_guard_ffi_boundary(|| get_partition_ancestors(relation));
        if list.is_null() {
            return Vec::new();
        }
        let cells = std::slice::from_raw_parts((*list).elements, (*list).length as usize);
        cells.iter().map(|cell| cell.oid_value).collect()
    }
}

/// The primary key's index, if there is one that may serve as identity.
///
/// # Safety
/// `relation` is an open relation.
pub unsafe fn primary_key_index(relation: pg_sys::Relation) -> pg_sys::Oid {
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(feature = "pg18")]
        return pg_sys::RelationGetPrimaryKeyIndex(relation, false);
        #[cfg(not(feature = "pg18"))]
        return pg_sys::RelationGetPrimaryKeyIndex(relation);
    }
}

/// `TupleDescAttr`: attribute `index`, from 0.
///
/// # Safety
/// `descriptor` is a valid descriptor of more than `index` attributes.
pub unsafe fn attribute<'a>(
    descriptor: pg_sys::TupleDesc,
    index: usize,
) -> &'a pg_sys::FormData_pg_attribute {
    // SAFETY: as the caller promises. Since 18 the compact attributes come
    // first and the full ones follow the last of them.
    unsafe {
        #[cfg(feature = "pg18")]
        {
            let compact = (&raw const (*descriptor).compact_attrs)
                .cast::<pg_sys::CompactAttribute>()
                .add((*descriptor).natts as usize);
            &*compact.cast::<pg_sys::FormData_pg_attribute>().add(index)
        }
        #[cfg(not(feature = "pg18"))]
        {
            &*(&raw const (*descriptor).attrs)
                .cast::<pg_sys::FormData_pg_attribute>()
                .add(index)
        }
    }
}

/// Whether no row has a null in attribute `index`, from 0. Since 18 a NOT NULL
/// constraint may be NOT VALID, and then rows older than it may have.
///
/// # Safety
/// `descriptor` is that of an open relation, of more than `index` attributes.
pub unsafe fn is_not_null(descriptor: pg_sys::TupleDesc, index: usize) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let not_null = attribute(descriptor, index).attnotnull;
        #[cfg(feature = "pg18")]
        {
            let compact = (&raw const (*descriptor).compact_attrs)
                .cast::<pg_sys::CompactAttribute>()
                .add(index);
            not_null && (*compact).attnullability as u8 != pg_sys::ATTNULLABLE_INVALID
        }
        #[cfg(not(feature = "pg18"))]
        not_null
    }
}

#[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
type ChangeTuple = *mut pg_sys::ReorderBufferTupleBuf;
#[cfg(any(feature = "pg17", feature = "pg18"))]
type ChangeTuple = pg_sys::HeapTuple;

/// A change's tuple, null when the WAL has none.
///
/// # Safety
/// `tuple` comes from a `ReorderBufferChange`.
#[inline(always)]
pub unsafe fn heap_tuple(tuple: ChangeTuple) -> *const pg_sys::HeapTupleData {
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    {
        if tuple.is_null() {
            return std::ptr::null();
        }
        // SAFETY: not null, so it is a tuple of the reorder buffer.
        unsafe { &raw const (*tuple).tuple }
    }
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    {
        tuple
    }
}

/// The transaction's commit, prepare or abort time: microseconds since
/// 2000-01-01.
///
/// # Safety
/// `txn` is a live transaction of the reorder buffer.
pub unsafe fn transaction_time(txn: *const pg_sys::ReorderBufferTXN) -> i64 {
    // SAFETY: as the caller promises; the union's members are all the same.
    unsafe {
        #[cfg(feature = "pg14")]
        return (*txn).commit_time;
        #[cfg(not(feature = "pg14"))]
        return (*txn).xact_time.commit_time;
    }
}

/// The top-level transaction's xid of a transaction or subtransaction.
///
/// # Safety
/// `txn` is a live transaction of the reorder buffer.
pub unsafe fn top_xid(txn: *const pg_sys::ReorderBufferTXN) -> u32 {
    // SAFETY: as the caller promises; a subtransaction points at its top one.
    unsafe {
        let top = (*txn).toptxn;
        let top = if top.is_null() { txn } else { top.cast_const() };
        (*top).xid.into_inner()
    }
}
