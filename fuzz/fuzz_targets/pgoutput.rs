//! A message of pgoutput: as whoever orders transactions reads it, and as a
//! kept record through to JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((&choice, bytes)) = data.split_first() {
        walferry_fuzz::pgoutput(bytes, choice & 1 != 0);
    }
});
