//! Shared memory in which decoders tell what they do, for whoever asks by SQL.
//!
//! One fixed array, an [`Entry`] a running decoder. Where the library is in
//! `shared_preload_libraries` the array is requested and made when the server
//! starts. Else the first process that wants it takes it out of what the
//! server keeps spare in its main segment (about 100 kB in 14 to 18,
//! `CalculateShmemSize` in `src/backend/storage/ipc/ipci.c`), under the same
//! name. Once made it stays until the server stops. Where there is no memory
//! left, the plugin works without, and the functions say why they know nothing.

pub mod entry;

use std::ffi::CStr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire,
    Ordering::Relaxed,
};

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_guard, pg_sys};

use entry::{Claimed, Entry};

/// The array's name in `pg_shmem_allocations`. Another layout takes another
/// name: a library that was replaced on a running server finds no old one.
const NAME: &CStr = c"walferry 1";

/// Entries of an array that is made late: what is spare is the lock tables' too.
const LATE_CAPACITY: u32 = 64;

/// What stands before the entries.
#[repr(C)]
struct Header {
    capacity: AtomicU32,
    /// How the last heartbeat in a database went: its oid, and a code.
    beats: [AtomicU64; BEATS],
}

/// Databases whose heartbeats are remembered.
const BEATS: usize = 64;
/// No heartbeat has been seen in a database.
pub const UNKNOWN: u32 = 0;
/// The last one went well. Any other code is an SQLSTATE, which is larger.
pub const WELL: u32 = 1;

/// The array in this process; null until it was looked for. The postmaster's
/// children inherit it where the library was preloaded.
static ARRAY: AtomicPtr<Header> = AtomicPtr::new(std::ptr::null_mut());
/// Whether this process gives its entries back when it ends.
static LEAVES_NOTHING: AtomicBool = AtomicBool::new(false);

/// Every decoder has a slot of its own, so there are never more.
fn slots() -> u32 {
    // SAFETY: set when the server starts, and not changed any more.
    unsafe { pg_sys::max_replication_slots }.max(1) as u32
}

fn size(capacity: u32) -> usize {
    size_of::<Header>().next_multiple_of(align_of::<Entry>())
        + capacity as usize * size_of::<Entry>()
}

/// The entries, or why there are none.
pub fn entries() -> Result<&'static [Entry], String> {
    let mut header = ARRAY.load(Relaxed);
    if header.is_null() {
        header = attach(slots().min(LATE_CAPACITY))?;
        ARRAY.store(header, Relaxed);
    }
    // SAFETY: `attach` gave a header with as many entries as it says behind it,
    // in memory that stays mapped for the life of this process. They consist of
    // atomics.
    unsafe {
        let capacity = (*header).capacity.load(Acquire) as usize;
        let first = header.byte_add(size(0)).cast::<Entry>().cast_const();
        Ok(std::slice::from_raw_parts(first, capacity))
    }
}

/// Finds the array, or makes it.
fn attach(capacity: u32) -> Result<*mut Header, String> {
    // SAFETY: AddinShmemInitLock (number 21 in 14 to 18, lwlocknames.txt) is
    // what ShmemInitStruct is to be called under. An error of that function is
    // caught with no other lock held; the server has then set the count of
    // held-off interrupts to zero, and releasing the lock counts down, so what
    // it was under the lock is put back.
    unsafe {
        let lock = &raw mut (*pg_sys::MainLWLockArray.add(21)).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let held_off = pg_sys::InterruptHoldoffCount;
        let found = PgTryBuilder::new(AssertUnwindSafe(|| {
            let mut found = false;
            let header = pg_sys::ShmemInitStruct(NAME.as_ptr(), size(capacity), &mut found);
            Ok((header.cast::<Header>(), found))
        }))
        .catch_others(|error| Err(reason(&error)))
        .execute();
        pg_sys::InterruptHoldoffCount = held_off;
        if let Ok((header, false)) = found {
            header.cast::<u8>().write_bytes(0, size(capacity));
            (*header).capacity.store(capacity, Relaxed);
        }
        pg_sys::LWLockRelease(lock);
        found.map(|(header, _)| header)
    }
}

fn reason(error: &CaughtError) -> String {
    let report = match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    };
    format!(
        "no shared memory: {}; put walferry into shared_preload_libraries, and it is set aside when the server starts",
        report.message()
    )
}

/// Notes how a heartbeat went in a database; how the last one before it did.
/// One process at a time beats in a database.
pub fn note_beat(database: pg_sys::Oid, code: u32) -> u32 {
    let Some(beats) = beats() else { return UNKNOWN };
    let noted = u64::from(database.to_u32()) << 32 | u64::from(code);
    for beat in beats {
        let former = beat.load(Relaxed);
        if (former >> 32) as u32 == database.to_u32() {
            beat.store(noted, Relaxed);
            return former as u32;
        }
        if former == 0 && beat.compare_exchange(0, noted, AcqRel, Relaxed).is_ok() {
            return UNKNOWN;
        }
    }
    // Of more databases than there is room for only failures are worth a word, each time.
    if code == WELL { code } else { UNKNOWN }
}

fn beats() -> Option<&'static [AtomicU64]> {
    let header = ARRAY.load(Relaxed);
    // SAFETY: null, or what `attach` gave, which stays mapped and consists of atomics.
    unsafe { header.as_ref() }.map(|header| &header.beats[..])
}

/// Takes an entry for the decoder of a slot, which has at most one.
pub fn claim(slot: &CStr, database: pg_sys::Oid) -> Result<Claimed, String> {
    let entries = entries()?;
    // SAFETY: set once this process has begun.
    let me = unsafe { pg_sys::MyProcPid };
    if !LEAVES_NOTHING.swap(true, Relaxed) {
        // SAFETY: the callback lives as long as the library, which is never unloaded.
        unsafe { pg_sys::on_shmem_exit(Some(leave), pg_sys::Datum::from(0usize)) };
    }
    // One that an error left behind in this very process, one that is free, and
    // one whose process is gone without a word, in this order.
    let taken = entries
        .iter()
        .find(|entry| entry.owner() == me)
        .or_else(|| entries.iter().find(|entry| entry.take(0, me)))
        .or_else(|| {
            entries.iter().find(|entry| {
                let owner = entry.owner();
                // SAFETY: only looks the process up.
                owner != 0
                    && unsafe { pg_sys::BackendPidGetProc(owner) }.is_null()
                    && entry.take(owner, me)
            })
        });
    match taken {
        Some(entry) => Ok(entry.begin(slot, database.to_u32(), me)),
        None => Err(format!("all {} entries are in use", entries.len())),
    }
}

/// The end of a process: its entry is free.
#[pg_guard]
unsafe extern "C-unwind" fn leave(_code: std::ffi::c_int, _arg: pg_sys::Datum) {
    if ARRAY.load(Relaxed).is_null() {
        return;
    }
    // SAFETY: this process' own number.
    let me = unsafe { pg_sys::MyProcPid };
    if let Ok(entries) = entries() {
        for entry in entries.iter().filter(|entry| entry.owner() == me) {
            entry.free(me);
        }
    }
}

/// In `shared_preload_libraries`: has the memory set aside.
pub fn preload() {
    #[cfg(feature = "pg14")]
    // SAFETY: while libraries are preloaded.
    unsafe {
        pg_sys::RequestAddinShmemSpace(size(slots()));
    }
    // SAFETY: while libraries are preloaded, in the postmaster's only thread;
    // the hooks that were there are called by ours.
    unsafe {
        #[cfg(not(feature = "pg14"))]
        {
            FORMER_REQUEST = pg_sys::shmem_request_hook;
            pg_sys::shmem_request_hook = Some(request);
        }
        FORMER_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

#[cfg(not(feature = "pg14"))]
static mut FORMER_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut FORMER_STARTUP: pg_sys::shmem_startup_hook_type = None;

#[cfg(not(feature = "pg14"))]
#[pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: the server calls its hook, and we the one that was there before.
    unsafe {
        if let Some(former) = FORMER_REQUEST {
            pg_sys::ffi::pg_guard_ffi_boundary(|| former());
        }
        pg_sys::RequestAddinShmemSpace(size(slots()));
    }
}

/// Also after a crash, when the server has made its shared memory anew.
#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    // SAFETY: as above.
    unsafe {
        if let Some(former) = FORMER_STARTUP {
            pg_sys::ffi::pg_guard_ffi_boundary(|| former());
        }
    }
    match attach(slots()) {
        Ok(header) => ARRAY.store(header, Relaxed),
        Err(why) => pgrx::log!("walferry: {why}"),
    }
}
