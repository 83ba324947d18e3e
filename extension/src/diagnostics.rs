//! What the diagnostics in `sql/` need and SQL can't find out.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::shared;
use crate::shared::entry::Published;

/// The directory of the WAL, or a symbolic link to it, below the data
/// directory, which is a backend's working directory.
const WAL: &CStr = c"pg_wal";

/// `walferry.wal_space()`: bytes of the file system of `pg_wal` that the
/// server's account may still use, and its size, as statvfs(3) has them.
/// Where that fails both are null and the third says why.
#[pg_extern(sql = false)]
fn wal_space() -> TableIterator<
    'static,
    (
        name!(free_bytes, Option<i64>),
        name!(total_bytes, Option<i64>),
        name!(why_null, Option<String>),
    ),
> {
    TableIterator::once(match space(WAL) {
        Ok((free, total)) => (Some(free), Some(total), None),
        Err(error) => (
            None,
            None,
            Some(format!("pg_wal can't be examined: {error}")),
        ),
    })
}

/// `walferry.decoders()`: what each running decoder publishes. Where it can't
/// be known, one row without a slot says why.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn decoders() -> TableIterator<
    'static,
    (
        name!(slot_name, Option<String>),
        name!(pid, Option<i32>),
        name!(state, Option<&'static str>),
        name!(since, Option<TimestampWithTimeZone>),
        name!(sampled_at, Option<TimestampWithTimeZone>),
        name!(sampled_lsn, Option<i64>),
        name!(transactions, Option<i64>),
        name!(changes, Option<i64>),
        name!(filtered, Option<i64>),
        name!(origin_filtered, Option<i64>),
        name!(frames, Option<i64>),
        name!(bytes, Option<i64>),
        name!(plugin_time, Option<f64>),
        name!(write_time, Option<f64>),
        name!(oldest_xid, Option<pg_sys::TransactionId>),
        name!(oldest_lsn, Option<i64>),
        name!(oldest_restart_lsn, Option<i64>),
        name!(why_null, Option<String>),
    ),
> {
    let entries = match shared::entries() {
        Ok(entries) => entries,
        Err(why) => {
            return TableIterator::once((
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                Some(why),
            ));
        }
    };
    let count = |value: u64| i64::try_from(value).ok();
    let milliseconds = |nanoseconds: u64| Some(nanoseconds as f64 / 1e6);
    let rows: Vec<_> = entries
        .iter()
        .filter_map(|entry| entry.read())
        .map(
            |Published {
                 slot,
                 pid,
                 state,
                 sample,
             }| {
                // Letters, digits and underscores (ReplicationSlotValidateName).
                let slot = String::from_utf8_lossy(&slot).into_owned();
                let followed = sample.oldest_xid != 0;
                (
                    Some(slot),
                    Some(pid),
                    Some(state.name()),
                    TimestampWithTimeZone::try_from(sample.since).ok(),
                    TimestampWithTimeZone::try_from(sample.at).ok(),
                    count(sample.lsn),
                    count(sample.transactions),
                    count(sample.changes),
                    count(sample.filtered),
                    count(sample.origin_filtered),
                    count(sample.frames),
                    count(sample.bytes),
                    milliseconds(sample.plugin_time),
                    milliseconds(sample.write_time),
                    followed.then(|| pg_sys::TransactionId::from_inner(sample.oldest_xid as u32)),
                    count(sample.oldest_lsn).filter(|_| followed),
                    count(sample.oldest_restart_lsn).filter(|_| followed),
                    None,
                )
            },
        )
        .collect();
    TableIterator::new(rows)
}

/// Free and total bytes of the file system that `path` lies on.
fn space(path: &CStr) -> std::io::Result<(i64, i64)> {
    let mut found = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` ends in NUL, and `found` has room for what statvfs writes.
    if unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: statvfs returned 0, so it has filled it.
    let found = unsafe { found.assume_init() };
    let bytes =
        |blocks: u64| i64::try_from(blocks.saturating_mul(found.f_frsize)).unwrap_or(i64::MAX);
    Ok((bytes(found.f_bavail), bytes(found.f_blocks)))
}
