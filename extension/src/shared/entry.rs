//! What one running decoder tells.
//!
//! Only the process that owns an entry writes it, and never waits: a count
//! that is odd while the entry changes lets readers notice, and read again.

use std::ffi::CStr;
use std::sync::atomic::{
    AtomicI32, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    fence,
};

/// `NAMEDATALEN` in words of eight bytes.
const NAME_WORDS: usize = 8;
const WORDS: usize = 14;

/// What a decoder has done since it was started, and the oldest transaction
/// that it follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When the decoder was started, and when this was written: microseconds
    /// since 2000-01-01.
    pub since: i64,
    pub at: i64,
    /// The end of the last WAL record that was decoded.
    pub lsn: u64,
    pub transactions: u64,
    pub changes: u64,
    pub filtered: u64,
    pub origin_filtered: u64,
    pub frames: u64,
    pub bytes: u64,
    /// Nanoseconds.
    pub plugin_time: u64,
    pub write_time: u64,
    /// 0: there is none.
    pub oldest_xid: u64,
    pub oldest_lsn: u64,
    pub oldest_restart_lsn: u64,
}

impl Sample {
    fn words(&self) -> [u64; WORDS] {
        [
            self.since as u64,
            self.at as u64,
            self.lsn,
            self.transactions,
            self.changes,
            self.filtered,
            self.origin_filtered,
            self.frames,
            self.bytes,
            self.plugin_time,
            self.write_time,
            self.oldest_xid,
            self.oldest_lsn,
            self.oldest_restart_lsn,
        ]
    }

    fn of(words: [u64; WORDS]) -> Sample {
        let [
            since,
            at,
            lsn,
            transactions,
            changes,
            filtered,
            origin_filtered,
            frames,
            bytes,
            plugin_time,
            write_time,
            oldest_xid,
            oldest_lsn,
            oldest_restart_lsn,
        ] = words;
        Sample {
            since: since as i64,
            at: at as i64,
            lsn,
            transactions,
            changes,
            filtered,
            origin_filtered,
            frames,
            bytes,
            plugin_time,
            write_time,
            oldest_xid,
            oldest_lsn,
            oldest_restart_lsn,
        }
    }
}

/// What a decoder is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Decoding,
    /// Reads WAL, or waits for more of it.
    Reading,
    /// Hands a frame over, or waits for the consumer to take it.
    Sending,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Decoding => "decoding",
            State::Reading => "reading",
            State::Sending => "sending",
        }
    }
}

/// One place of the array. All zero: free.
#[repr(C)]
pub struct Entry {
    /// Odd while the owner writes.
    version: AtomicU32,
    /// Process id; 0: free.
    owner: AtomicI32,
    /// How often it has been taken.
    generation: AtomicU32,
    database: AtomicU32,
    state: AtomicU32,
    slot: [AtomicU64; NAME_WORDS],
    words: [AtomicU64; WORDS],
}

/// An entry as a reader finds it.
pub struct Published {
    /// In the server's encoding.
    pub slot: Vec<u8>,
    pub pid: i32,
    pub state: State,
    pub sample: Sample,
}

impl Entry {
    pub fn owner(&self) -> i32 {
        self.owner.load(Acquire)
    }

    /// Whether `owner`'s entry (0: nobody's) is `me`'s from now on.
    pub fn take(&self, owner: i32, me: i32) -> bool {
        self.owner
            .compare_exchange(owner, me, AcqRel, Relaxed)
            .is_ok()
    }

    pub fn free(&self, me: i32) {
        let _ = self.owner.compare_exchange(me, 0, AcqRel, Relaxed);
    }

    /// Its owner `me` begins with a slot.
    pub fn begin(&'static self, slot: &CStr, database: u32, me: i32) -> Claimed {
        let mut name = [0; NAME_WORDS * 8];
        let length = slot.to_bytes().len().min(name.len() - 1);
        name[..length].copy_from_slice(&slot.to_bytes()[..length]);
        // The former owner may have been stopped amid a write.
        self.version.store(self.version.load(Relaxed) & !1, Relaxed);
        self.write(|| {
            for (word, bytes) in self.slot.iter().zip(name.chunks_exact(8)) {
                let mut one = [0; 8];
                one.copy_from_slice(bytes);
                word.store(u64::from_ne_bytes(one), Relaxed);
            }
            self.database.store(database, Relaxed);
            for word in &self.words {
                word.store(0, Relaxed);
            }
        });
        self.state.store(State::Decoding as u32, Relaxed);
        let generation = self.generation.load(Relaxed).wrapping_add(1);
        self.generation.store(generation, Relaxed);
        Claimed {
            entry: self,
            generation,
            me,
        }
    }

    #[inline]
    fn write(&self, body: impl FnOnce()) {
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        fence(Release);
        body();
        self.version.store(version.wrapping_add(2), Release);
    }

    /// What is published; none where the entry is free, or was never still
    /// while this looked.
    pub fn read(&self) -> Option<Published> {
        for _ in 0..1000 {
            let before = self.version.load(Acquire);
            let pid = self.owner();
            if pid == 0 {
                return None;
            }
            let slot = self.slot.each_ref().map(|word| word.load(Relaxed));
            let words = self.words.each_ref().map(|word| word.load(Relaxed));
            fence(Acquire);
            if before & 1 == 1
                || self.version.load(Relaxed) != before
                || self.owner.load(Relaxed) != pid
            {
                std::hint::spin_loop();
                continue;
            }
            let mut name: Vec<u8> = slot.iter().flat_map(|word| word.to_ne_bytes()).collect();
            name.truncate(
                name.iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(name.len()),
            );
            return Some(Published {
                slot: name,
                pid,
                state: match self.state.load(Relaxed) {
                    1 => State::Reading,
                    2 => State::Sending,
                    _ => State::Decoding,
                },
                sample: Sample::of(words),
            });
        }
        None
    }
}

/// An entry that is this decoder's until it is dropped.
pub struct Claimed {
    entry: &'static Entry,
    generation: u32,
    me: i32,
}

impl Claimed {
    #[inline]
    pub fn publish(&self, sample: &Sample) {
        self.entry.write(|| {
            for (word, value) in self.entry.words.iter().zip(sample.words()) {
                word.store(value, Relaxed);
            }
        });
    }

    #[inline]
    pub fn state(&self, state: State) {
        self.entry.state.store(state as u32, Relaxed);
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // An error may have kept the decoder alive for longer than its slot, and another in
        // this process has the entry by now.
        if self.entry.generation.load(Relaxed) == self.generation {
            self.entry.free(self.me);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> &'static Entry {
        Box::leak(Box::new(Entry {
            version: AtomicU32::new(0),
            owner: AtomicI32::new(0),
            generation: AtomicU32::new(0),
            database: AtomicU32::new(0),
            state: AtomicU32::new(0),
            slot: [const { AtomicU64::new(0) }; NAME_WORDS],
            words: [const { AtomicU64::new(0) }; WORDS],
        }))
    }

    #[test]
    fn an_entry_has_one_owner_and_is_read_as_it_was_written() {
        let entry = entry();
        assert!(entry.read().is_none());
        assert!(entry.take(0, 7));
        assert!(!entry.take(0, 8));
        let claimed = entry.begin(c"ferry", 5, 7);
        let sample = Sample {
            since: -1,
            changes: 3,
            oldest_restart_lsn: u64::MAX,
            ..Sample::default()
        };
        claimed.publish(&sample);
        claimed.state(State::Sending);
        let read = entry.read().expect("published");
        assert_eq!((read.slot.as_slice(), read.pid), (&b"ferry"[..], 7));
        assert_eq!((read.state, read.sample), (State::Sending, sample));
        // Taken over from one that was stopped amid a write.
        entry.version.store(5, Relaxed);
        assert!(entry.read().is_none());
        assert!(entry.take(7, 9));
        let next = entry.begin(c"other", 5, 9);
        let read = entry.read().expect("published");
        assert_eq!(
            (read.slot.as_slice(), read.sample),
            (&b"other"[..], Sample::default())
        );
        // The former owner's end does not take it from the present one.
        drop(claimed);
        entry.free(8);
        assert_eq!(entry.owner(), 9);
        drop(next);
        assert!(entry.read().is_none());
    }

    #[test]
    fn a_reader_never_sees_half_of_a_sample() {
        let entry = entry();
        entry.take(0, 7);
        let claimed = entry.begin(c"ferry", 5, 7);
        let writer = std::thread::spawn(move || {
            for n in 1..200_000 {
                claimed.publish(&Sample::of([n; WORDS]));
            }
            std::mem::forget(claimed);
        });
        let mut seen = 0;
        while !writer.is_finished() {
            if let Some(read) = entry.read() {
                let words = read.sample.words();
                assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
                seen += 1;
            }
        }
        assert!(seen > 0);
        writer.join().expect("the writer");
    }
}
