//! Arrays of every element type, nulls and bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| walferry_fuzz::array(data));
