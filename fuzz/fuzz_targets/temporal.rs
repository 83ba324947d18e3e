//! Dates, times, timestamps, intervals.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walferry_streamer::datum::ScalarType;

const FAMILY: &[ScalarType] = &[
    ScalarType::Date,
    ScalarType::Time,
    ScalarType::TimeTz,
    ScalarType::Timestamp,
    ScalarType::TimestampTz,
    ScalarType::Interval,
];

fuzz_target!(|data: &[u8]| walferry_fuzz::datum(FAMILY, data));
