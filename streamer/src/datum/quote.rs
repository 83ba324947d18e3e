//! JSON strings, escaped as PostgreSQL escapes them (`escape_json`,
//! `src/backend/utils/adt/json.c`), which is also what our own JSON does.

/// Appends `text` as a JSON string with its quotes.
#[inline]
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    loop {
        let plain = plain_prefix(rest);
        out.extend_from_slice(&rest[..plain]);
        match rest.get(plain) {
            None => break,
            Some(&byte) => escape(byte, out),
        }
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}

#[cold]
fn escape(byte: u8, out: &mut Vec<u8>) {
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

/// How many bytes stand before the first that needs an escape: eight at a
/// time, by the usual test for a byte below or equal to a constant.
#[inline]
fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    const fn each(byte: u8) -> u64 {
        ONES * byte as u64
    }
    let mut chunks = bytes.chunks_exact(8);
    let mut at = 0;
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        let below_space = word.wrapping_sub(each(0x20)) & !word;
        let quote = word ^ each(b'"');
        let backslash = word ^ each(b'\\');
        let found = (below_space
            | (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash))
            & HIGH;
        if found != 0 {
            // A borrow can only mark bytes above a true hit, so the lowest is exact.
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let tail = chunks.remainder();
    at + tail
        .iter()
        .position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')
        .unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::write_json_string;

    fn quoted(text: &str) -> String {
        let mut out = Vec::new();
        write_json_string(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn control_characters_quotes_and_backslashes_are_escaped() {
        assert_eq!(
            quoted("a\"b\\c\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}é😀/%"),
            "\"a\\\"b\\\\c\\b\\f\\n\\r\\t\\u0001\\u001f\u{7f}é😀/%\""
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_a_json_parser(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            prop_assert_eq!(serde_json::from_str::<String>(&quoted(&text)).unwrap(), text);
        }
    }
}
