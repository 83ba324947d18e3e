//! What the diagnostics in `sql/` need and SQL can't find out.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use pgrx::prelude::*;

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
