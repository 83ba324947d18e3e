//! Text-bearing types.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walferry_streamer::datum::ScalarType;

const FAMILY: &[ScalarType] = &[
    ScalarType::Text,
    ScalarType::Varchar,
    ScalarType::Bpchar,
    ScalarType::Name,
    ScalarType::Char,
    ScalarType::Json,
];

fuzz_target!(|data: &[u8]| walferry_fuzz::datum(FAMILY, data));
