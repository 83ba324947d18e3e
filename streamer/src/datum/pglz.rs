//! PostgreSQL's own compression, reading only (`src/common/pg_lzcompress.c`).
//!
//! A control byte announces eight items, lowest bit first: 0 is a literal
//! byte, 1 a match of two or three bytes. A match holds the low four bits of
//! its length less 3, twelve bits of its distance back, and, where the length
//! bits are all ones, a further byte of length.

use super::Malformed;

/// Decompresses exactly `raw_size` bytes, which the caller has bounded.
pub fn decompress(source: &[u8], raw_size: usize) -> Result<Vec<u8>, Malformed> {
    const CORRUPT: Malformed = Malformed("a pglz value is corrupt");
    let mut out: Vec<u8> = Vec::with_capacity(raw_size);
    let mut rest = source;
    while let Some((&control, tail)) = rest.split_first() {
        if out.len() >= raw_size {
            break;
        }
        rest = tail;
        // Eight literals at once: the common case in text that compresses badly.
        if control == 0 && rest.len() >= 8 && raw_size - out.len() >= 8 {
            out.extend_from_slice(&rest[..8]);
            rest = &rest[8..];
            continue;
        }
        for bit in 0..8 {
            if rest.is_empty() || out.len() >= raw_size {
                break;
            }
            if control >> bit & 1 == 0 {
                out.push(rest[0]);
                rest = &rest[1..];
                continue;
            }
            let [first, second, tail @ ..] = rest else {
                return Err(CORRUPT);
            };
            rest = tail;
            let mut length = usize::from(first & 0x0f) + 3;
            let distance = usize::from(first & 0xf0) << 4 | usize::from(*second);
            if length == 18 {
                let [more, tail @ ..] = rest else {
                    return Err(CORRUPT);
                };
                length += usize::from(*more);
                rest = tail;
            }
            if distance == 0 || distance > out.len() {
                return Err(CORRUPT);
            }
            let length = length.min(raw_size - out.len());
            copy_match(&mut out, distance, length);
        }
    }
    if out.len() != raw_size || !rest.is_empty() {
        return Err(CORRUPT);
    }
    Ok(out)
}

/// Appends `length` bytes from `distance` back. They may overlap what is
/// being written: a distance of 1 repeats the last byte.
fn copy_match(out: &mut Vec<u8>, distance: usize, mut length: usize) {
    let start = out.len() - distance;
    while length > 0 {
        // Each round doubles what can be copied at once.
        let available = (out.len() - start).min(length);
        out.extend_from_within(start..start + available);
        length -= available;
    }
}

#[cfg(test)]
mod tests {
    use super::decompress;

    #[test]
    fn literals_and_overlapping_matches_are_read() {
        // "ab", then 6 bytes from 2 back, then 'c'
        let source = [0b0000_0100, b'a', b'b', 0x03, 0x02, b'c'];
        assert_eq!(
            decompress(&source, 9).unwrap(),
            b"abababab".iter().chain(b"c").copied().collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_long_match_takes_a_third_byte() {
        let source = [0b0000_0010, b'x', 0x0f, 0x01, 0xff];
        assert_eq!(decompress(&source, 274).unwrap(), vec![b'x'; 274]);
    }

    #[test]
    fn corrupt_input_is_refused() {
        // a match before any output, distance 0, a cut match, too much, too little
        for (source, size) in [
            (&[0b1, 0x03, 0x01][..], 6),
            (&[0b10, b'a', 0x03, 0x00][..], 7),
            (&[0b10, b'a', 0x03][..], 7),
            (&[0b10, b'a', 0x0f, 0x01][..], 19),
            (&[0b0, b'a', b'b'][..], 1),
            (&[0b0, b'a'][..], 2),
        ] {
            assert!(decompress(source, size).is_err(), "{source:?}");
        }
    }
}
