//! Values compressed with LZ4.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walferry_protocol::Compression;
use walferry_streamer::datum::varlena;

fuzz_target!(|data: &[u8]| {
    if let Some((size, bytes)) = data.split_first_chunk::<2>() {
        let raw_size = u32::from(u16::from_le_bytes(*size));
        if let Ok(whole) = varlena::decompress(Compression::Lz4, bytes, raw_size) {
            assert_eq!(whole.len(), raw_size as usize);
        }
    }
});
