//! A message of wal2json, in either format: as whoever orders transactions
//! reads it, and as a record through to JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((&choice, bytes)) = data.split_first() {
        walferry_fuzz::wal2json(bytes, choice);
    }
});
