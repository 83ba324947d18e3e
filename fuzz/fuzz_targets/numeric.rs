//! numeric.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walferry_streamer::datum::ScalarType;

const FAMILY: &[ScalarType] = &[ScalarType::Numeric];

fuzz_target!(|data: &[u8]| walferry_fuzz::datum(FAMILY, data));
