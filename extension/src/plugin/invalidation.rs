//! What the server says has changed in its catalogs.
//!
//! Invalidation callbacks can neither be unregistered nor fail, and they may
//! come at any moment, also while a cache entry is being built. So they are
//! registered once a backend and only write into a log of fixed size, the one
//! static of this plugin; each decoding context remembers how far it has read
//! and catches up before it trusts its cache.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use pgrx::{pg_guard, pg_sys};

/// How many invalidations a reader may lag behind before it has to drop all
/// it knows.
const CAPACITY: usize = 256;

/// Every relation (`InvalidOid` in the relcache callback).
const ALL: u32 = 0;
/// Some type: an oid that no relation has (`pg_type` rows begin above it).
const TYPES: u32 = 1;

static LOG: [AtomicU32; CAPACITY] = [const { AtomicU32::new(0) }; CAPACITY];
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static REGISTERED: AtomicBool = AtomicBool::new(false);

fn write(entry: u32) {
    let position = WRITTEN.load(Relaxed);
    LOG[(position % CAPACITY as u64) as usize].store(entry, Relaxed);
    WRITTEN.store(position.wrapping_add(1), Relaxed);
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    write(relation.to_u32());
}

#[pg_guard]
unsafe extern "C-unwind" fn type_changed(
    _arg: pg_sys::Datum,
    _cache: std::ffi::c_int,
    _hash: pg_sys::uint32,
) {
    write(TYPES);
}

#[pg_guard]
unsafe extern "C-unwind" fn namespace_changed(
    _arg: pg_sys::Datum,
    _cache: std::ffi::c_int,
    _hash: pg_sys::uint32,
) {
    write(ALL);
}

/// Asks the server for its invalidations, once a backend.
pub fn register() {
    if REGISTERED.swap(true, Relaxed) {
        return;
    }
    let none = pg_sys::Datum::from(0usize);
    // SAFETY: the callbacks have the types the server calls them with, live as
    // long as the library (which is never unloaded) and only write the log.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), none);
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::TYPEOID as _,
            Some(type_changed),
            none,
        );
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as _,
            Some(namespace_changed),
            none,
        );
    }
}

/// One change in the catalogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidation {
    All,
    Types,
    Relation(u32),
}

/// How far one decoding context has read the log.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    read: u64,
}

impl Reader {
    /// A reader with nothing to catch up on.
    pub fn at_end() -> Self {
        Reader {
            read: WRITTEN.load(Relaxed),
        }
    }

    #[inline(always)]
    pub fn is_current(&self) -> bool {
        self.read == WRITTEN.load(Relaxed)
    }

    /// The next invalidation not seen yet.
    pub fn next(&mut self) -> Option<Invalidation> {
        let written = WRITTEN.load(Relaxed);
        if self.read == written {
            return None;
        }
        if written.wrapping_sub(self.read) > CAPACITY as u64 {
            self.read = written;
            return Some(Invalidation::All);
        }
        let entry = LOG[(self.read % CAPACITY as u64) as usize].load(Relaxed);
        self.read = self.read.wrapping_add(1);
        Some(match entry {
            ALL => Invalidation::All,
            TYPES => Invalidation::Types,
            relation => Invalidation::Relation(relation),
        })
    }
}
