//! Integers, floats, booleans, uuid, bytea.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walferry_streamer::datum::ScalarType;

const FAMILY: &[ScalarType] = &[
    ScalarType::Bool,
    ScalarType::Int2,
    ScalarType::Int4,
    ScalarType::Int8,
    ScalarType::Oid,
    ScalarType::Float4,
    ScalarType::Float8,
    ScalarType::Uuid,
    ScalarType::Bytea,
];

fuzz_target!(|data: &[u8]| walferry_fuzz::datum(FAMILY, data));
