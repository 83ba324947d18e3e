//! A column's value, decoded far enough to be written in any form.

use std::borrow::Cow;

use crate::datum::{
    Layout, Malformed, ScalarType, Type,
    array::Array,
    float, jsonb,
    numeric::Numeric,
    temporal::{self, Form, Interval},
};

/// One column of one row. What it is called and which type it has stands in
/// the relation's definition.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    /// Out of line and untouched by the UPDATE; not NULL.
    UnchangedToast,
    /// Not part of this image (outside the key); not NULL.
    Absent,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Oid(u32),
    Float4(f32),
    Float8(f64),
    Numeric(Payload<'a>),
    /// Days since 2000-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since midnight, and the zone in seconds west of UTC.
    TimeTz(i64, i32),
    /// Microseconds since 2000-01-01.
    Timestamp(i64),
    TimestampTz(i64),
    Interval(Interval),
    Uuid([u8; 16]),
    Bytea(Cow<'a, [u8]>),
    Json(Cow<'a, str>),
    Jsonb(Payload<'a>),
    Array(Payload<'a>),
    /// text, varchar, bpchar, name, "char", and every type that came as text.
    Text(Cow<'a, str>),
}

/// A datum without its varlena header that is read when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    pub bytes: Cow<'a, [u8]>,
    pub layout: Layout,
}

impl<'a> Payload<'a> {
    pub fn numeric(&self) -> Result<Numeric<'_>, Malformed> {
        Numeric::parse(&self.bytes, self.layout)
    }

    pub fn array(&self) -> Result<Array<'_>, Malformed> {
        Array::parse(&self.bytes, self.layout)
    }

    /// Appends a jsonb datum's text.
    pub fn write_jsonb(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        jsonb::write(&self.bytes, self.layout, out)
    }
}

/// A datum of a fixed size.
#[inline]
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes
        .try_into()
        .map_err(|_| Malformed("a value is not of its type's size"))
}

#[inline]
fn utf8(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, Malformed> {
    const NOT_UTF8: Malformed = Malformed("text is not UTF-8");
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|_| NOT_UTF8),
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|_| NOT_UTF8),
    }
}

impl<'a> Value<'a> {
    /// Reads a raw datum. Nested ones (numeric, jsonb, arrays) are looked into
    /// when they are written, and may turn out to be malformed only then.
    #[inline]
    pub fn read(kind: Type, bytes: Cow<'a, [u8]>, layout: Layout) -> Result<Self, Malformed> {
        match kind {
            Type::Scalar(scalar) => Self::read_scalar(scalar, bytes, layout),
            Type::Array(_) => Ok(Value::Array(Payload { bytes, layout })),
            Type::Other | Type::OtherArray => {
                Err(Malformed("a value of a type that is not read came raw"))
            }
        }
    }

    /// The twin of a type's output function, up to the value.
    #[inline]
    pub fn read_scalar(
        scalar: ScalarType,
        bytes: Cow<'a, [u8]>,
        layout: Layout,
    ) -> Result<Self, Malformed> {
        Ok(match scalar {
            ScalarType::Int4 => Value::Int4(layout.u32(fixed(&bytes)?) as i32),
            ScalarType::Int8 => Value::Int8(layout.u64(fixed(&bytes)?) as i64),
            ScalarType::Text | ScalarType::Varchar | ScalarType::Bpchar => {
                Value::Text(utf8(bytes)?)
            }
            ScalarType::Numeric => Value::Numeric(Payload { bytes, layout }),
            ScalarType::Timestamp => Value::Timestamp(layout.u64(fixed(&bytes)?) as i64),
            ScalarType::TimestampTz => Value::TimestampTz(layout.u64(fixed(&bytes)?) as i64),
            ScalarType::Date => Value::Date(layout.u32(fixed(&bytes)?) as i32),
            ScalarType::Bool => match *bytes {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(Malformed("a boolean is neither true nor false")),
            },
            ScalarType::Int2 => Value::Int2(layout.u16(fixed(&bytes)?) as i16),
            ScalarType::Oid => Value::Oid(layout.u32(fixed(&bytes)?)),
            ScalarType::Float4 => Value::Float4(f32::from_bits(layout.u32(fixed(&bytes)?))),
            ScalarType::Float8 => Value::Float8(f64::from_bits(layout.u64(fixed(&bytes)?))),
            ScalarType::Jsonb => Value::Jsonb(Payload { bytes, layout }),
            ScalarType::Json => Value::Json(utf8(bytes)?),
            ScalarType::Bytea => Value::Bytea(bytes),
            ScalarType::Uuid => Value::Uuid(fixed(&bytes)?),
            ScalarType::Time => Value::Time(layout.u64(fixed(&bytes)?) as i64),
            ScalarType::TimeTz => {
                let [a, b, c, d, e, f, g, h, zone @ ..] = fixed::<12>(&bytes)?;
                Value::TimeTz(
                    layout.u64([a, b, c, d, e, f, g, h]) as i64,
                    layout.u32(zone) as i32,
                )
            }
            ScalarType::Interval => {
                let interval = Interval::parse(&fixed(&bytes)?, layout);
                match interval.infinite_text(layout) {
                    Some(text) => Value::Text(Cow::Borrowed(text)),
                    None => Value::Interval(interval),
                }
            }
            ScalarType::Name => Value::Text(name(bytes)?),
            ScalarType::Char => Value::Text(char_text(fixed(&bytes)?)),
        })
    }

    /// Appends what PostgreSQL prints for `value::text` under DateStyle ISO,
    /// IntervalStyle postgres, TimeZone UTC, extra_float_digits 1 and
    /// bytea_output hex. Nothing for what is no value (`Null`, `Absent`,
    /// `UnchangedToast`).
    pub fn write_text(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            // The cast differs from the output function, which says t and f.
            Value::Bool(value) => {
                out.extend_from_slice(if *value { b"true" } else { b"false" });
                Ok(())
            }
            other => other.write_output(out),
        }
    }

    /// Appends what the type's output function prints: the form of an element
    /// inside an array.
    pub fn write_output(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Value::Null | Value::UnchangedToast | Value::Absent => {}
            Value::Bool(value) => out.push(if *value { b't' } else { b'f' }),
            Value::Int2(value) => write_integer(*value, out),
            Value::Int4(value) => write_integer(*value, out),
            Value::Int8(value) => write_integer(*value, out),
            Value::Oid(value) => write_integer(*value, out),
            Value::Float4(value) => float::write_float4(*value, out),
            Value::Float8(value) => float::write_float8(*value, out),
            Value::Numeric(payload) => payload.numeric()?.write(out)?,
            Value::Date(days) => temporal::write_date(*days, out),
            Value::Time(us) => temporal::write_time(*us, out)?,
            Value::TimeTz(us, zone) => temporal::write_timetz(*us, *zone, out)?,
            Value::Timestamp(us) => temporal::write_timestamp(*us, false, Form::Postgres, out),
            Value::TimestampTz(us) => temporal::write_timestamp(*us, true, Form::Postgres, out),
            Value::Interval(interval) => interval.write(out),
            Value::Uuid(bytes) => write_uuid(bytes, out),
            Value::Bytea(bytes) => {
                out.extend_from_slice(b"\\x");
                write_hex(bytes, out);
            }
            Value::Json(text) | Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            Value::Jsonb(payload) => payload.write_jsonb(out)?,
            Value::Array(payload) => write_array(payload, out)?,
        }
        Ok(())
    }
}

/// name: 64 bytes, ended by the first zero.
fn name(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, Malformed> {
    let end = memchr::memchr(0, &bytes).unwrap_or(bytes.len());
    utf8(match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..end]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(end);
            Cow::Owned(bytes)
        }
    })
}

/// "char": zero is the empty string, a byte above 127 is written in octal
/// (`charout` since PostgreSQL 16; before, it was half a character).
fn char_text([byte]: [u8; 1]) -> Cow<'static, str> {
    Cow::Owned(match byte {
        0 => String::new(),
        1..=127 => char::from(byte).to_string(),
        _ => format!("\\{byte:03o}"),
    })
}

#[inline]
pub(crate) fn write_integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub(crate) fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2);
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
    );
}

/// The twin of [`write_hex`], which also takes capitals; `None` when these are
/// no such digits.
pub(crate) fn read_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8))
        .collect()
}

pub(crate) fn write_uuid(bytes: &[u8; 16], out: &mut Vec<u8>) {
    for (place, part) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
        if place > 0 {
            out.push(b'-');
        }
        write_hex(&bytes[part], out);
    }
}

/// Appends an array's text (`array_out`, `src/backend/utils/adt/arrayfuncs.c`).
fn write_array(payload: &Payload<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let array = payload.array()?;
    if array.has_bounds() {
        for (lower, upper) in array.bounds() {
            out.push(b'[');
            write_integer(lower, out);
            out.push(b':');
            write_integer(upper, out);
            out.push(b']');
        }
        out.push(b'=');
    }
    let mut scratch = Vec::new();
    array.write_nested(b'{', b'}', out, |element, out| {
        let Some(bytes) = element else {
            out.extend_from_slice(b"NULL");
            return Ok(());
        };
        let value = Value::read_scalar(array.element, Cow::Borrowed(bytes), array.layout())?;
        scratch.clear();
        value.write_output(&mut scratch)?;
        write_element(&scratch, out);
        Ok(())
    })
}

/// Appends an element, in quotes where it could be read as something else.
fn write_element(text: &[u8], out: &mut Vec<u8>) {
    let needs_quotes = text.is_empty()
        || text.eq_ignore_ascii_case(b"NULL")
        || text.iter().any(|byte| {
            matches!(
                byte,
                b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c
            )
        });
    if !needs_quotes {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::Value;
    use crate::datum::{Layout, Malformed, ScalarType, Type};

    fn text_of(kind: Type, bytes: &[u8], layout: Layout) -> Result<String, Malformed> {
        let mut out = Vec::new();
        Value::read(kind, Cow::Borrowed(bytes), layout)?.write_text(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn scalar(scalar: ScalarType, bytes: &[u8]) -> Result<String, Malformed> {
        text_of(
            Type::Scalar(scalar),
            bytes,
            Layout::of_server(150_000, false),
        )
    }

    #[test]
    fn fixed_size_types_read_in_the_servers_byte_order() {
        for big_endian in [false, true] {
            let layout = Layout::of_server(150_000, big_endian);
            let order = |mut bytes: Vec<u8>| {
                if big_endian {
                    bytes.reverse();
                }
                bytes
            };
            for (kind, bytes, text) in [
                (ScalarType::Int2, order(vec![0xfe, 0xff]), "-2"),
                (ScalarType::Int4, order(vec![0, 0, 0, 0x80]), "-2147483648"),
                (ScalarType::Oid, order(vec![0, 0, 0, 0x80]), "2147483648"),
                (ScalarType::Int8, order(vec![1, 0, 0, 0, 0, 0, 0, 0]), "1"),
                (ScalarType::Float4, order(vec![0, 0, 0x80, 0x3f]), "1"),
                (
                    ScalarType::Float8,
                    order(vec![0, 0, 0, 0, 0, 0, 0xf0, 0xbf]),
                    "-1",
                ),
                (ScalarType::Date, order(vec![1, 0, 0, 0]), "2000-01-02"),
            ] {
                assert_eq!(text_of(Type::Scalar(kind), &bytes, layout).unwrap(), text);
                assert!(text_of(Type::Scalar(kind), &bytes[1..], layout).is_err());
            }
        }
    }

    #[test]
    fn booleans_as_text_differ_from_booleans_in_arrays() {
        assert_eq!(scalar(ScalarType::Bool, &[1]).unwrap(), "true");
        assert!(scalar(ScalarType::Bool, &[2]).is_err());
        // one dimension, no nulls, element type 16, two elements from 1
        let words = [1u32, 0, 16, 2, 1];
        let mut array: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        array.extend([1, 0]);
        let layout = Layout::of_server(150_000, false);
        assert_eq!(
            text_of(Type::Array(ScalarType::Bool), &array, layout).unwrap(),
            "{t,f}"
        );
    }

    #[test]
    fn names_end_at_their_first_zero_and_chars_are_escaped() {
        assert_eq!(
            scalar(ScalarType::Name, b"pg_class\0\0\0x").unwrap(),
            "pg_class"
        );
        assert_eq!(scalar(ScalarType::Char, b"\0").unwrap(), "");
        assert_eq!(scalar(ScalarType::Char, b"\x7f").unwrap(), "\x7f");
        assert_eq!(scalar(ScalarType::Char, b"\xff").unwrap(), "\\377");
        assert!(scalar(ScalarType::Text, b"\xff").is_err());
    }

    #[test]
    fn the_largest_interval_is_infinite_only_where_servers_know_that() {
        let bytes: Vec<u8> = [i64::MAX.to_le_bytes().as_slice(), &i32::MAX.to_le_bytes()]
            .concat()
            .into_iter()
            .chain(i32::MAX.to_le_bytes())
            .collect();
        let read = |version| {
            let layout = Layout::of_server(version, false);
            text_of(Type::Scalar(ScalarType::Interval), &bytes, layout).unwrap()
        };
        assert_eq!(read(170_000), "infinity");
        assert_eq!(
            read(160_000),
            "178956970 years 7 mons 2147483647 days 2562047788:00:54.775807"
        );
    }

    #[test]
    fn uuids_and_bytea_are_hexadecimal() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(
            scalar(ScalarType::Uuid, &bytes).unwrap(),
            "00010203-0405-0607-0809-0a0b0c0d0e0f"
        );
        assert_eq!(scalar(ScalarType::Bytea, &[0, 0xff]).unwrap(), "\\x00ff");
    }
}
