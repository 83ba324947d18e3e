//! A scanner of JSON that copies nothing: what it finds are slices of the
//! message. It takes what wal2json prints, with or without white space, and
//! steps over what it is not asked for.

use std::borrow::Cow;

use crate::datum::Malformed;

/// How deep values may nest that nobody asks for.
const DEEPEST: u32 = 64;

/// A position in a message.
#[derive(Clone, Copy, Debug)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A string between its quotes, as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw<'a> {
    pub bytes: &'a [u8],
    /// Whether there is a backslash in it.
    pub escaped: bool,
}

/// A value that is no array and no object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scalar<'a> {
    #[default]
    Null,
    Bool(bool),
    /// Its characters, of which only the alphabet was looked at.
    Number(&'a [u8]),
    String(Raw<'a>),
}

pub type Scan<T> = Result<T, Malformed>;

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Scanner { bytes, at }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Takes `byte` if it comes next.
    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    #[inline]
    pub fn expect(&mut self, byte: u8, otherwise: &'static str) -> Scan<()> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(Malformed(otherwise))
        }
    }

    /// Whether only white space is left.
    pub fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Begins an object or an array: whether there is anything in it.
    #[inline]
    pub fn open(&mut self, open: u8, close: u8, otherwise: &'static str) -> Scan<bool> {
        self.expect(open, otherwise)?;
        Ok(!self.take(close))
    }

    /// After an item: whether another one follows.
    #[inline]
    pub fn more(&mut self, close: u8) -> Scan<bool> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(Malformed("neither a comma nor the end of a list follows")),
        }
    }

    /// A member's name and its colon.
    #[inline]
    pub fn key(&mut self) -> Scan<&'a [u8]> {
        let key = self.string()?;
        self.expect(b':', "a member's name is not followed by a colon")?;
        Ok(key.bytes)
    }

    #[inline]
    pub fn string(&mut self) -> Scan<Raw<'a>> {
        self.expect(b'"', "a string was expected")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(step) = quote_or_backslash(rest) else {
                return Err(Malformed("a string has no end"));
            };
            let found = self.at + step;
            if self.bytes[found] == b'"' {
                self.at = found + 1;
                return Ok(Raw {
                    bytes: &self.bytes[start..found],
                    escaped,
                });
            }
            escaped = true;
            // What is escaped is no end, whatever it is.
            self.at = found + 2;
        }
    }

    #[inline]
    pub fn scalar(&mut self) -> Scan<Scalar<'a>> {
        match self.peek() {
            Some(b'"') => self.string().map(Scalar::String),
            Some(b'n') => self.word(b"null").map(|()| Scalar::Null),
            Some(b't') => self.word(b"true").map(|()| Scalar::Bool(true)),
            Some(b'f') => self.word(b"false").map(|()| Scalar::Bool(false)),
            Some(b'-' | b'0'..=b'9') => Ok(Scalar::Number(self.number())),
            _ => Err(Malformed("a string, number, boolean or null was expected")),
        }
    }

    #[inline]
    fn number(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    #[inline]
    fn word(&mut self, word: &'static [u8]) -> Scan<()> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(Malformed("a bare word is not null, true or false"))
        }
    }

    /// A whole number that is not negative.
    #[inline]
    pub fn integer<T: TryFrom<u64>>(&mut self) -> Scan<T> {
        const WRONG: Malformed = Malformed("a whole number was expected");
        self.peek();
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        let mut value = 0_u64;
        let mut length = 0;
        for byte in rest {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(u64::from(digit)))
                .ok_or(WRONG)?;
            length += 1;
        }
        self.at += length;
        if length == 0 {
            return Err(WRONG);
        }
        T::try_from(value).map_err(|_| WRONG)
    }

    /// Steps over a value of any kind.
    pub fn skip(&mut self) -> Scan<()> {
        self.skip_nested(DEEPEST)
    }

    fn skip_nested(&mut self, deepest: u32) -> Scan<()> {
        let deeper = deepest
            .checked_sub(1)
            .ok_or(Malformed("values nest too deep"))?;
        match self.peek() {
            Some(b'{') => {
                let mut more = self.open(b'{', b'}', "")?;
                while more {
                    self.key()?;
                    self.skip_nested(deeper)?;
                    more = self.more(b'}')?;
                }
                Ok(())
            }
            Some(b'[') => {
                let mut more = self.open(b'[', b']', "")?;
                while more {
                    self.skip_nested(deeper)?;
                    more = self.more(b']')?;
                }
                Ok(())
            }
            _ => self.scalar().map(|_| ()),
        }
    }
}

/// Most strings are short: names, numbers, words.
#[inline]
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const SHORT: usize = 24;
    for (place, byte) in bytes.iter().take(SHORT).enumerate() {
        if matches!(byte, b'"' | b'\\') {
            return Some(place);
        }
    }
    let rest = bytes.get(SHORT..)?;
    memchr::memchr2(b'"', b'\\', rest).map(|place| place + SHORT)
}

impl<'a> Raw<'a> {
    /// The text that is written so.
    ///
    /// # Errors
    /// An escape that JSON does not have, half a surrogate pair, or bytes that
    /// are not UTF-8.
    #[inline]
    pub fn text(self) -> Scan<Cow<'a, str>> {
        const NOT_UTF8: Malformed = Malformed("text is not UTF-8");
        match self.bytes()? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes)
                .map(Cow::Borrowed)
                .map_err(|_| NOT_UTF8),
            Cow::Owned(bytes) => String::from_utf8(bytes)
                .map(Cow::Owned)
                .map_err(|_| NOT_UTF8),
        }
    }

    /// The bytes that are written so, whatever their encoding.
    pub fn bytes(self) -> Scan<Cow<'a, [u8]>> {
        if self.escaped {
            unescape(self.bytes).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(self.bytes))
        }
    }

    /// Whether the text is this one.
    #[inline]
    pub fn is(self, text: &str) -> bool {
        if self.escaped {
            self.bytes().is_ok_and(|bytes| *bytes == *text.as_bytes())
        } else {
            self.bytes == text.as_bytes()
        }
    }
}

fn unescape(mut bytes: &[u8]) -> Scan<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    while let Some(place) = memchr::memchr(b'\\', bytes) {
        out.extend_from_slice(&bytes[..place]);
        let escape = bytes.get(place + 1).copied();
        bytes = bytes.get(place + 2..).unwrap_or_default();
        out.push(match escape {
            Some(plain @ (b'"' | b'\\' | b'/')) => plain,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let character = unicode_escape(&mut bytes)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => {
                return Err(Malformed(
                    "a string holds an escape that JSON does not have",
                ));
            }
        });
    }
    out.extend_from_slice(bytes);
    Ok(out)
}

/// The four digits after `\u`, and the second half of a surrogate pair.
fn unicode_escape(bytes: &mut &[u8]) -> Scan<char> {
    const WRONG: Malformed = Malformed("a string holds a \\u escape that is no character");
    let mut unit = || {
        let (digits, rest) = bytes.split_at_checked(4)?;
        *bytes = rest;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let first = unit().ok_or(WRONG)?;
    let code = if let 0xd800..=0xdbff = first {
        *bytes = bytes.strip_prefix(b"\\u").ok_or(WRONG)?;
        let (digits, rest) = bytes.split_at_checked(4).ok_or(WRONG)?;
        *bytes = rest;
        let second = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .filter(|second| (0xdc00..=0xdfff).contains(second))
            .ok_or(WRONG)?;
        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
    } else {
        first
    };
    char::from_u32(code).ok_or(WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Scan<String> {
        let mut scanner = Scanner::new(json.as_bytes(), 0);
        let text = scanner.string()?.text()?.into_owned();
        assert!(scanner.is_at_end());
        Ok(text)
    }

    #[test]
    fn strings_read_as_serde_json_reads_them() {
        for json in [
            r#""""#,
            r#""plain""#,
            r#""a\"b\\c\/d\b\f\n\r\t""#,
            r#""\u0001\u00e9\ud83d\ude00é😀""#,
            r#""a string that is longer than those that are looked at byte by byte, \"really\" longer""#,
            r#""\\""#,
            r#""\\\"\\""#,
        ] {
            assert_eq!(
                text(json).unwrap(),
                serde_json::from_str::<String>(json).unwrap()
            );
        }
        for wrong in [
            r#"""#,
            r#""\"#,
            r#""\x""#,
            r#""\u12""#,
            r#""\u+123""#,
            r#""\ud800""#,
            r#""\ud800\u0041""#,
            r#""\udc00""#,
            "x",
        ] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
        let not_utf8 = Raw {
            bytes: b"\xff",
            escaped: false,
        };
        assert!(not_utf8.text().is_err());
        assert_eq!(*not_utf8.bytes().unwrap(), *b"\xff");
    }

    #[test]
    fn values_of_every_kind_are_stepped_over() {
        let json = br#" { "a" : [1, -2.5e+3, "]}", {"b": {}}, []], "c": null, "d": true } "#;
        let mut scanner = Scanner::new(json, 0);
        scanner.skip().unwrap();
        assert!(scanner.is_at_end());
        let deep = "[".repeat(1000);
        assert!(Scanner::new(deep.as_bytes(), 0).skip().is_err());
        for wrong in ["", "{", "[1", "[1 2]", "{\"a\"}", "{\"a\":}", "nul", "tru"] {
            assert!(Scanner::new(wrong.as_bytes(), 0).skip().is_err(), "{wrong}");
        }
    }

    #[test]
    fn whole_numbers_are_bounded() {
        assert_eq!(Scanner::new(b"65535", 0).integer::<u16>(), Ok(65535));
        assert!(Scanner::new(b"65536", 0).integer::<u16>().is_err());
        assert!(Scanner::new(b"-1", 0).integer::<u32>().is_err());
        assert!(
            Scanner::new(b"99999999999999999999999", 0)
                .integer::<u64>()
                .is_err()
        );
        assert!(Scanner::new(b"", 7).integer::<u64>().is_err());
    }
}
