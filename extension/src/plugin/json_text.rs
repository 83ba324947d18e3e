//! Strings as JSON writes them.

use std::fmt::Write;

use super::failure::Failure;

/// Writing to a String cannot fail.
pub fn push(into: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = into.write_fmt(text);
}

/// A JSON string. `ascii`: nothing beyond ASCII may stand in it.
pub fn escape(into: &mut String, text: &str, ascii: bool) {
    into.push('"');
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let is_plain = c >= ' ' && c != '"' && c != '\\' && (!ascii || c.is_ascii());
        if is_plain {
            continue;
        }
        append(into, &text[plain..at]);
        plain = at + c.len_utf8();
        match c {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            '\u{8}' => into.push_str("\\b"),
            '\u{c}' => into.push_str("\\f"),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    push(into, format_args!("\\u{unit:04x}"));
                }
            }
        }
    }
    append(into, &text[plain..]);
    into.push('"');
}

/// Adds text that may be large, with room for what is written around it.
fn append(into: &mut String, text: &str) {
    let room = text.len() + 1024;
    if into.try_reserve(room).is_err() {
        Failure::out_of_memory(room).raise();
    }
    into.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str, ascii: bool) -> String {
        let mut out = String::new();
        escape(&mut out, text, ascii);
        out
    }

    #[test]
    fn strings_are_escaped_as_the_server_does() {
        assert_eq!(
            escaped("a\"\\/\u{1}\t\u{7f}ü", false),
            "\"a\\\"\\\\/\\u0001\\t\u{7f}ü\""
        );
        assert_eq!(escaped("ü😀", true), "\"\\u00fc\\ud83d\\ude00\"");
    }
}
