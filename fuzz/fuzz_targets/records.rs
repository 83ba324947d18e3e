//! Records of a table with a column of every kind, through to JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

const COLUMNS: [u32; 8] = [23, 25, 1700, 3802, 1007, 1009, 1184, 600];

fuzz_target!(|data: &[u8]| {
    if let Some((&choice, bytes)) = data.split_first() {
        walferry_fuzz::records(&COLUMNS, bytes, choice & 1 != 0, choice & 2 != 0);
    }
});
