//! Variable-length datums: their headers inside other datums, and compressed
//! ones made whole (`src/include/varatt.h`).

use walferry_protocol::Compression;

use super::{Layout, Malformed, pglz};

/// Reads the varlena that `bytes` begins with: its payload and the bytes it
/// takes with its header. Inside arrays and jsonb only plain and short ones
/// occur; compressed and out-of-line ones are flattened before they get there.
#[inline]
pub fn read(bytes: &[u8], layout: Layout) -> Result<(&[u8], usize), Malformed> {
    const SHORT: Malformed = Malformed("a nested value reads past its end");
    let first = *bytes.first().ok_or(SHORT)?;
    let (is_short, short_length) = if layout.big_endian {
        (first & 0x80 != 0, first & 0x7f)
    } else {
        (first & 0x01 != 0, first >> 1)
    };
    let (header, length) = if is_short {
        (1, usize::from(short_length))
    } else {
        let word = layout.u32_at(bytes, 0, SHORT.0)?;
        let (compressed, length) = if layout.big_endian {
            (word & 0x4000_0000 != 0, word & 0x3fff_ffff)
        } else {
            (word & 0x02 != 0, word >> 2)
        };
        if compressed {
            return Err(Malformed("a nested value is compressed"));
        }
        (4, length as usize)
    };
    // A short length of 0 marks an out-of-line pointer; below the header's
    // own size no length is valid.
    if length < header {
        return Err(Malformed("a nested value has an impossible length"));
    }
    match bytes.get(header..length) {
        Some(payload) => Ok((payload, length)),
        None => Err(SHORT),
    }
}

/// No byte of compressed input makes more output than this: pglz's longest
/// match is 273 bytes from 3 and an eighth, LZ4 adds 255 a byte.
const MAX_EXPANSION: usize = 255;

/// Makes a compressed datum whole. `raw_size` comes off the wire, so it is
/// held against what the input could possibly give before it is allocated.
pub fn decompress(method: Compression, bytes: &[u8], raw_size: u32) -> Result<Vec<u8>, Malformed> {
    let raw_size = raw_size as usize;
    if raw_size > bytes.len().saturating_mul(MAX_EXPANSION) + 64 {
        return Err(Malformed("a compressed value claims an impossible size"));
    }
    match method {
        Compression::Pglz => pglz::decompress(bytes, raw_size),
        Compression::Lz4 => {
            let mut out = vec![0; raw_size];
            match lz4_flex::block::decompress_into(bytes, &mut out) {
                Ok(written) if written == raw_size => Ok(out),
                Ok(_) => Err(Malformed("an lz4 value is shorter than it claims")),
                Err(_) => Err(Malformed("an lz4 value is corrupt")),
            }
        }
    }
}
