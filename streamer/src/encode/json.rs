//! Values as JSON, by the rules of docs/events.md.

use std::borrow::Cow;

use crate::datum::{
    Malformed, ScalarType, Type,
    array::Array,
    float,
    numeric::Numeric,
    quote::write_json_string,
    temporal::{self, Form},
};
use crate::event::{Payload, Value, read_hex, write_hex, write_integer, write_uuid};

/// How int8 is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Int8Form {
    #[default]
    Number,
    /// For readers whose numbers are doubles.
    String,
}

/// How numeric is written. NaN and the infinities are strings either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumericForm {
    #[default]
    String,
    Number,
}

/// How json and jsonb are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JsonForm {
    #[default]
    Embedded,
    /// A string that holds the value's text.
    String,
}

/// How bytea is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteaForm {
    #[default]
    Base64,
    /// Digits only, without `\x`.
    Hex,
}

/// The choices a user has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueForms {
    pub int8: Int8Form,
    pub numeric: NumericForm,
    pub json: JsonForm,
    pub bytea: ByteaForm,
}

impl ValueForms {
    /// Appends a value. `kind` tells what a value that came as text is; the
    /// marks that are no value (`Absent`, `UnchangedToast`) must not come here
    /// and are written as null.
    #[inline]
    pub(super) fn write(
        &self,
        value: &Value<'_>,
        kind: Type,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        match value {
            Value::Null | Value::Absent | Value::UnchangedToast => out.extend_from_slice(b"null"),
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Int2(value) => write_integer(*value, out),
            Value::Int4(value) => write_integer(*value, out),
            Value::Int8(value) => match self.int8 {
                Int8Form::Number => write_integer(*value, out),
                Int8Form::String => quoted(out, |out| write_integer(*value, out)),
            },
            Value::Oid(value) => write_integer(*value, out),
            Value::Float4(value) if value.is_finite() => float::write_float4(*value, out),
            Value::Float4(value) => quoted(out, |out| float::write_float4(*value, out)),
            Value::Float8(value) if value.is_finite() => float::write_float8(*value, out),
            Value::Float8(value) => quoted(out, |out| float::write_float8(*value, out)),
            Value::Numeric(payload) => self.write_numeric(&payload.numeric()?, out)?,
            Value::Date(days) => quoted(out, |out| temporal::write_date(*days, out)),
            Value::Time(us) => quoted(out, |out| temporal::write_time(*us, out))?,
            Value::TimeTz(us, zone) => quoted(out, |out| temporal::write_timetz(*us, *zone, out))?,
            Value::Timestamp(us) => quoted(out, |out| {
                temporal::write_timestamp(*us, false, Form::Iso8601, out);
            }),
            Value::TimestampTz(us) => quoted(out, |out| {
                temporal::write_timestamp(*us, true, Form::Iso8601, out);
            }),
            Value::Interval(interval) => quoted(out, |out| interval.write(out)),
            Value::Uuid(bytes) => quoted(out, |out| write_uuid(bytes, out)),
            Value::Bytea(bytes) => self.write_bytea(bytes, out),
            Value::Json(text) => self.write_json(text, out),
            Value::Jsonb(payload) => self.write_jsonb(payload, out)?,
            Value::Array(payload) => self.write_array(&payload.array()?, out)?,
            Value::Text(text) => self.write_text(text, kind, out)?,
        }
        Ok(())
    }

    fn write_numeric(&self, numeric: &Numeric<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.numeric == NumericForm::Number && numeric.is_finite() {
            numeric.write(out)
        } else {
            quoted(out, |out| numeric.write(out))
        }
    }

    fn write_bytea(&self, bytes: &[u8], out: &mut Vec<u8>) {
        quoted(out, |out| match self.bytea {
            ByteaForm::Hex => write_hex(bytes, out),
            ByteaForm::Base64 => write_base64(bytes, out),
        });
    }

    /// The json type keeps its text as it was written, line breaks included.
    /// Inside strings those are always escaped, so each one that is found
    /// stands between tokens and can go.
    fn write_json(&self, text: &str, out: &mut Vec<u8>) {
        if self.json == JsonForm::String {
            return write_json_string(text, out);
        }
        let mut rest = text.as_bytes();
        while let Some(place) = memchr::memchr2(b'\n', b'\r', rest) {
            out.extend_from_slice(&rest[..place]);
            rest = &rest[place + 1..];
        }
        out.extend_from_slice(rest);
    }

    fn write_jsonb(&self, payload: &Payload<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self.json {
            JsonForm::Embedded => payload.write_jsonb(out),
            JsonForm::String => {
                let mut text = Vec::new();
                payload.write_jsonb(&mut text)?;
                let text = std::str::from_utf8(&text)
                    .map_err(|_| Malformed("a jsonb string is not UTF-8"))?;
                write_json_string(text, out);
                Ok(())
            }
        }
    }

    fn write_array(&self, array: &Array<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let kind = Type::Scalar(array.element);
        array.write_nested(b'[', b']', out, |element, out| match element {
            None => {
                out.extend_from_slice(b"null");
                Ok(())
            }
            Some(bytes) => {
                let value =
                    Value::read_scalar(array.element, Cow::Borrowed(bytes), array.layout())?;
                self.write(&value, kind, out)
            }
        })
    }

    /// A value that came as text takes the same JSON form as one that came
    /// raw: which way it came depends on the plugin and the server's encoding.
    fn write_text(&self, text: &str, kind: Type, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match kind {
            Type::Scalar(scalar) => self.write_scalar_text(text, scalar, out),
            Type::Array(element) => self.write_array_text(text, Some(element), out),
            Type::OtherArray => self.write_array_text(text, None, out),
            Type::Other => {
                write_json_string(text, out);
                Ok(())
            }
        }
    }

    fn write_scalar_text(
        &self,
        text: &str,
        scalar: ScalarType,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let number = match scalar {
            ScalarType::Int2 | ScalarType::Int4 | ScalarType::Oid => true,
            ScalarType::Int8 => self.int8 == Int8Form::Number,
            ScalarType::Numeric => self.numeric == NumericForm::Number,
            ScalarType::Float4 | ScalarType::Float8 => true,
            _ => false,
        };
        match scalar {
            _ if number && !text.ends_with(['N', 'y']) => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let plausible = digits.starts_with(|first: char| first.is_ascii_digit())
                    && digits
                        .bytes()
                        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'+' | b'-'));
                if !plausible {
                    return Err(Malformed("a number is not written as one"));
                }
                out.extend_from_slice(text.as_bytes());
            }
            ScalarType::Bool => out.extend_from_slice(match text {
                "t" | "true" => b"true",
                "f" | "false" => b"false",
                _ => return Err(Malformed("a boolean is neither true nor false")),
            }),
            ScalarType::Json | ScalarType::Jsonb => self.write_json(text, out),
            ScalarType::Timestamp | ScalarType::TimestampTz
                if !text.ends_with("BC") && !text.ends_with("infinity") =>
            {
                let (date, time) = text
                    .split_once(' ')
                    .ok_or(Malformed("a timestamp is not written as one"))?;
                let (time, zone) = match time.strip_suffix("+00") {
                    Some(time) if scalar == ScalarType::TimestampTz => (time, "Z"),
                    _ => (time, ""),
                };
                write_json_string(&[date, "T", time, zone].concat(), out);
            }
            ScalarType::Bytea => {
                let bytes = text
                    .strip_prefix("\\x")
                    .and_then(|digits| read_hex(digits.as_bytes()))
                    .ok_or(Malformed("a bytea is not written in hex"))?;
                self.write_bytea(&bytes, out);
            }
            _ => write_json_string(text, out),
        }
        Ok(())
    }

    /// Reads an array's text (`array_out`), bounds left out. Elements of a type
    /// that is not known are strings.
    fn write_array_text(
        &self,
        text: &str,
        element: Option<ScalarType>,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        const WRONG: Malformed = Malformed("an array is not written as one");
        let write = |item: &str, out: &mut Vec<u8>| match element {
            Some(element) => self.write_scalar_text(item, element, out),
            None => {
                write_json_string(item, out);
                Ok(())
            }
        };
        let mut rest = match text.strip_prefix('[') {
            Some(bounds) => bounds.split_once('=').ok_or(WRONG)?.1,
            None => text,
        };
        let mut depth = 0usize;
        let mut item = String::new();
        while let Some(first) = rest.chars().next() {
            match first {
                '{' => {
                    depth += 1;
                    out.push(b'[');
                    rest = &rest[1..];
                }
                '}' => {
                    depth = depth.checked_sub(1).ok_or(WRONG)?;
                    out.push(b']');
                    rest = &rest[1..];
                }
                ',' => {
                    out.push(b',');
                    rest = &rest[1..];
                }
                '"' => {
                    item.clear();
                    let mut chars = rest[1..].char_indices();
                    let end = loop {
                        match chars.next().ok_or(WRONG)? {
                            (at, '"') => break at,
                            (_, '\\') => item.push(chars.next().ok_or(WRONG)?.1),
                            (_, other) => item.push(other),
                        }
                    };
                    write(&item, out)?;
                    rest = &rest[end + 2..];
                }
                _ => {
                    let end = rest.find([',', '}']).ok_or(WRONG)?;
                    match &rest[..end] {
                        "NULL" => out.extend_from_slice(b"null"),
                        item => write(item, out)?,
                    }
                    rest = &rest[end..];
                }
            }
        }
        if depth == 0 { Ok(()) } else { Err(WRONG) }
    }
}

/// Writes something between double quotes that needs no escapes.
#[inline]
fn quoted<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    out.push(b'"');
    let result = write(out);
    out.push(b'"');
    result
}

pub(super) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exactly what padded base64 takes, so this cannot fail.
    let written = STANDARD
        .encode_slice(bytes, &mut out[start..])
        .unwrap_or_default();
    debug_assert_eq!(written, out.len() - start);
}
