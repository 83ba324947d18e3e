//! Literals: the types' input functions (`src/backend/utils/adt`), as far as
//! they do not depend on settings. Dates and times are read in ISO 8601 order
//! only, intervals in the forms `1 year 2 mons 3 days 04:05:06.7` and
//! `P1Y2M3DT4H5M6.7S`; the words that mean the current time are refused.

use std::borrow::Cow;

use super::decimal::Decimal;
use super::failing::Failed;
use super::moment::{clock, date, interval, timestamp, zone};
use super::value::{Type, Value};

/// Reads a literal of a type.
pub fn read(kind: Type, text: &str) -> Result<Value<'static>, Failed> {
    let invalid = || Failed::invalid(kind.name(), text);
    let trimmed = text.trim_matches(is_space);
    Ok(match kind {
        Type::Bool => Value::Bool(boolean(trimmed).ok_or_else(invalid)?),
        Type::Int2 => integer(kind, text, i16::MIN.into(), i16::MAX.into())?,
        Type::Int4 => integer(kind, text, i32::MIN.into(), i32::MAX.into())?,
        Type::Int8 => integer(kind, text, i64::MIN, i64::MAX)?,
        Type::Oid => integer(kind, text, 0, u32::MAX.into())?,
        Type::Float4 => Value::Float(float4(trimmed, text)?),
        Type::Float8 => Value::Float(float8(trimmed, text)?),
        Type::Numeric => Value::Numeric(Decimal::parse(trimmed)?.ok_or_else(invalid)?),
        Type::Text | Type::Varchar => Value::Text(Cow::Owned(text.to_owned())),
        Type::Bpchar => Value::Text(Cow::Owned(text.trim_end_matches(' ').to_owned())),
        Type::Name => Value::Text(Cow::Owned(name(text).to_owned())),
        Type::Bytea => Value::Bytea(Cow::Owned(bytea(text).ok_or_else(invalid)?)),
        Type::Uuid => Value::Uuid(uuid(text).ok_or_else(invalid)?),
        Type::Date => Value::Date(date(trimmed, text)?),
        Type::Timestamp => Value::Timestamp(timestamp(trimmed, text, false)?),
        Type::TimestampTz => Value::Timestamp(timestamp(trimmed, text, true)?),
        Type::Time => {
            let mut rest = trimmed;
            match clock(&mut rest) {
                Some(us) if rest.is_empty() => Value::Time(us),
                _ => return Err(unread(kind, text)),
            }
        }
        Type::TimeTz => {
            let mut rest = trimmed;
            let (time, west) = clock(&mut rest)
                .zip(zone(&mut rest))
                .filter(|_| rest.is_empty())
                .ok_or_else(|| unread(kind, text))?;
            Value::TimeTz(time, west.unwrap_or(0))
        }
        Type::Interval => Value::Interval(interval(trimmed).ok_or_else(|| unread(kind, text))??),
        Type::Unknown | Type::Other => return Err(invalid()),
    })
}

/// The C locale's `isspace`.
pub(super) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// A form of date, time or interval that is not read here: the server may
/// know it.
pub(super) fn unread(kind: Type, text: &str) -> Failed {
    Failed::new(
        "22007",
        format!(
            "\"{text}\" is not {} in a form that conditions read",
            match kind {
                Type::Date => "a date (2026-11-21)",
                Type::Interval => "an interval (1 day 02:30:00)",
                Type::Time => "a time (14:30:00)",
                Type::TimeTz => "a time with its zone (14:30:00+00)",
                _ => "a timestamp (2026-11-21 14:30:00)",
            }
        ),
    )
}

/// `parse_bool_with_len`
fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let prefix_of =
        |word: &str, at_least: usize| lower.len() >= at_least && word.starts_with(&lower);
    if prefix_of("true", 1) || prefix_of("yes", 1) || lower == "on" || lower == "1" {
        Some(true)
    } else if prefix_of("false", 1) || prefix_of("no", 1) || prefix_of("off", 2) || lower == "0" {
        Some(false)
    } else {
        None
    }
}

fn integer(kind: Type, text: &str, least: i64, most: i64) -> Result<Value<'static>, Failed> {
    let trimmed = text.trim_matches(is_space);
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failed::invalid(kind.name(), text));
    }
    match trimmed.parse::<i64>() {
        Ok(value) if (least..=most).contains(&value) => Ok(Value::Integer(value)),
        // oidin takes negative numbers for what their bits say.
        Ok(value) if kind == Type::Oid && value >= i32::MIN.into() && value < 0 => {
            Ok(Value::Integer(i64::from(value as i32 as u32)))
        }
        _ => Err(Failed::out_of_range(format!(
            "value \"{text}\" is out of range for type {}",
            kind.name()
        ))),
    }
}

/// What `strtod` reads, in decimal. `None`: no number.
fn special_float(text: &str) -> Option<f64> {
    let (sign, word) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if word.eq_ignore_ascii_case("infinity") || word.eq_ignore_ascii_case("inf") {
        Some(sign * f64::INFINITY)
    } else if text.eq_ignore_ascii_case("nan") {
        Some(f64::NAN)
    } else {
        None
    }
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'))
}

fn has_digit(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
}

fn float8(trimmed: &str, text: &str) -> Result<f64, Failed> {
    if let Some(special) = special_float(trimmed) {
        return Ok(special);
    }
    let value = (is_decimal(trimmed).then(|| trimmed.parse::<f64>().ok()))
        .flatten()
        .ok_or_else(|| Failed::invalid("double precision", text))?;
    if value.is_infinite() || value == 0.0 && has_digit(trimmed) {
        return Err(Failed::out_of_range(format!(
            "\"{trimmed}\" is out of range for type double precision"
        )));
    }
    Ok(value)
}

fn float4(trimmed: &str, text: &str) -> Result<f64, Failed> {
    if let Some(special) = special_float(trimmed) {
        return Ok(special);
    }
    let value = (is_decimal(trimmed).then(|| trimmed.parse::<f32>().ok()))
        .flatten()
        .ok_or_else(|| Failed::invalid("real", text))?;
    if value.is_infinite() || value == 0.0 && has_digit(trimmed) {
        return Err(Failed::out_of_range(format!(
            "\"{trimmed}\" is out of range for type real"
        )));
    }
    Ok(value.into())
}

/// `namein` cuts to 63 bytes, at a character.
pub fn name(text: &str) -> &str {
    let mut end = text.len().min(63);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `byteain`: hexadecimal after `\x`, else the escape format.
fn bytea(text: &str) -> Option<Vec<u8>> {
    let hex = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let mut out = Vec::new();
    if let Some(digits) = text.strip_prefix("\\x") {
        let mut bytes = digits.bytes();
        while let Some(byte) = bytes.next() {
            if is_space(byte.into()) {
                continue;
            }
            out.push(hex(byte)? << 4 | hex(bytes.next()?)?);
        }
        return Some(out);
    }
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'\\' {
            out.push(*first);
            rest = after;
        } else if let Some(after) = after.strip_prefix(b"\\") {
            out.push(b'\\');
            rest = after;
        } else {
            let ([a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'], after) =
                after.split_first_chunk::<3>()?
            else {
                return None;
            };
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = after;
        }
    }
    Some(out)
}

/// `string_to_uuid`: a hyphen may follow each two bytes, braces may stand
/// around it all.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let inner = match text.strip_prefix('{') {
        Some(inner) => inner.strip_suffix('}')?,
        None => text,
    };
    let mut out = [0; 16];
    let mut rest = inner.as_bytes();
    for (place, byte) in out.iter_mut().enumerate() {
        let ([high, low], after) = rest.split_first_chunk::<2>()?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
        rest = after;
        if place % 2 == 1 && place < 15 {
            rest = rest.strip_prefix(b"-").unwrap_or(rest);
        }
    }
    rest.is_empty().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: Type, literal: &str) -> String {
        match read(kind, literal) {
            Ok(value) => value.text(kind).unwrap(),
            Err(failed) => failed.message,
        }
    }

    #[test]
    fn dates_and_times_are_read_in_iso_order() {
        for (kind, literal, expected) in [
            (Type::Date, "2026-11-21", "2026-11-21"),
            (Type::Date, " 0044-03-15 BC ", "0044-03-15 BC"),
            (Type::Date, "2026-02-28 12:30+05", "2026-02-28"),
            (Type::Date, "-Infinity", "-infinity"),
            (
                Type::Timestamp,
                "2026-11-21T04:24:00.5Z",
                "2026-11-21 04:24:00.5",
            ),
            (Type::Timestamp, "2026-12-31 24:00", "2027-01-01 00:00:00"),
            (
                Type::TimestampTz,
                "2026-11-21 04:24+05:30",
                "2026-11-20 22:54:00+00",
            ),
            (
                Type::TimestampTz,
                "0001-01-01 00:00:00+00 BC",
                "0001-01-01 00:00:00+00 BC",
            ),
            (Type::Time, "7:05", "07:05:00"),
            (Type::TimeTz, "07:05:00-03", "07:05:00-03"),
            (
                Type::Interval,
                "1 year 2 mons -3 days +04:05:06.7",
                "1 year 2 mons -3 days +04:05:06.7",
            ),
            (Type::Interval, "2 weeks ago", "-14 days"),
            (
                Type::Interval,
                "P1Y2M3DT4H5M6.5S",
                "1 year 2 mons 3 days 04:05:06.5",
            ),
        ] {
            assert_eq!(text(kind, literal), expected, "{literal}");
        }
        for (kind, literal) in [
            (Type::Date, "2026-02-29"),
            (Type::Date, "21.11.2026"),
            (Type::Date, "today"),
            (Type::Timestamp, "now"),
            (Type::Timestamp, "2026-11-21 25:00"),
            (Type::Timestamp, "0000-01-01"),
            (Type::Interval, "1.5 days"),
            (Type::Interval, "5"),
            (Type::Interval, ""),
        ] {
            assert!(read(kind, literal).is_err(), "{literal}");
        }
    }

    #[test]
    fn numbers_truths_and_bytes_are_read_as_the_server_reads_them() {
        for (kind, literal, expected) in [
            (Type::Int2, " -32768 ", "-32768"),
            (
                Type::Int4,
                "2147483648",
                "value \"2147483648\" is out of range for type integer",
            ),
            (
                Type::Float8,
                "1e400",
                "\"1e400\" is out of range for type double precision",
            ),
            (Type::Float8, "-inf", "-Infinity"),
            (Type::Numeric, "1.50e1", "15.0"),
            (Type::Bool, "OF", "false"),
            (
                Type::Bool,
                "o",
                "invalid input syntax for type boolean: \"o\"",
            ),
            (Type::Bytea, "\\x0aFF", "\\x0aff"),
            (Type::Bytea, "a\\\\\\001", "\\x615c01"),
            (
                Type::Uuid,
                "{a0eebc999c0b4ef8-bb6d6bb9bd380a11}",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ),
        ] {
            assert_eq!(text(kind, literal), expected, "{literal}");
        }
    }
}
