//! A JSON value becomes a value of the event model.
//!
//! wal2json prints what the type's output function gives: bare where the
//! declared type is a number or a boolean (a number that is none, NaN, as
//! null, or with `numeric-data-types-as-string` in quotes), else as a string;
//! bytea without its `\x`.

use std::borrow::Cow;

use super::scan::Scalar;
use crate::datum::{Malformed, ScalarType, Type};
use crate::decode::text;
use crate::event::{Value, read_hex};

#[inline]
pub fn read<'a>(
    scalar: Scalar<'a>,
    kind: Type,
    base_type_oid: u32,
) -> Result<Value<'a>, Malformed> {
    match scalar {
        Scalar::Null => Ok(Value::Null),
        Scalar::Bool(value) if kind == Type::Scalar(ScalarType::Bool) => Ok(Value::Bool(value)),
        Scalar::Bool(_) => Err(Malformed("a boolean stands for something else")),
        Scalar::Number(digits) if is_number(kind) => {
            // Its digits are kept, however many they are.
            std::str::from_utf8(digits)
                .map(|digits| Value::Text(Cow::Borrowed(digits)))
                .map_err(|_| Malformed("a number is not written as one"))
        }
        Scalar::Number(_) => Err(Malformed("a number stands for something else")),
        Scalar::String(raw) => {
            let text = raw.text()?;
            if kind == Type::Scalar(ScalarType::Bytea) {
                // A domain's value has the prefix.
                return read_hex(text.strip_prefix("\\x").unwrap_or(&text).as_bytes())
                    .map(|bytes| Value::Bytea(Cow::Owned(bytes)))
                    .ok_or(Malformed("a bytea is not written in hex"));
            }
            text::mended(text, kind, base_type_oid)
        }
    }
}

/// Whether wal2json prints values of the type as JSON numbers, so that one
/// that is none becomes null.
pub fn is_number(kind: Type) -> bool {
    matches!(
        kind,
        Type::Scalar(
            ScalarType::Int2
                | ScalarType::Int4
                | ScalarType::Int8
                | ScalarType::Oid
                | ScalarType::Float4
                | ScalarType::Float8
                | ScalarType::Numeric
        )
    )
}

#[cfg(test)]
mod tests {
    use super::super::scan::Raw;
    use super::*;

    fn string(bytes: &str) -> Scalar<'_> {
        Scalar::String(Raw {
            bytes: bytes.as_bytes(),
            escaped: bytes.contains('\\'),
        })
    }

    #[test]
    fn values_take_their_text_as_the_cast_gives_it() {
        let text = |text: &'static str| Value::Text(Cow::Borrowed(text));
        for (scalar, type_oid, value) in [
            (Scalar::Null, 23, Value::Null),
            (
                Scalar::Number(b"12345678901234567890.10"),
                1700,
                text("12345678901234567890.10"),
            ),
            (string("NaN"), 701, text("NaN")),
            (Scalar::Bool(true), 16, Value::Bool(true)),
            (string("f"), 16, Value::Bool(false)),
            (string("deAD"), 17, Value::Bytea(Cow::Borrowed(b"\xde\xad"))),
            (
                string(r"\\xdead"),
                17,
                Value::Bytea(Cow::Borrowed(b"\xde\xad")),
            ),
            (string("ab   "), 1042, text("ab")),
            (string("ab   "), 25, text("ab   ")),
            (string("1.2.3.4"), 869, text("1.2.3.4/32")),
            (string("::1"), 869, text("::1/128")),
            (string(r"a\nb"), 25, text("a\nb")),
            (
                string(r#"{\"a\": 1}"#),
                114,
                Value::Json(Cow::Borrowed("{\"a\": 1}")),
            ),
            (string("{1,NULL}"), 1007, text("{1,NULL}")),
        ] {
            let kind = Type::from_oid(type_oid);
            assert_eq!(read(scalar, kind, type_oid).unwrap(), value);
        }
        for (scalar, type_oid) in [
            (Scalar::Bool(true), 25),
            (Scalar::Number(b"1"), 25),
            (string("yes"), 16),
            (string("abc"), 17),
            (string("zz"), 17),
        ] {
            assert!(read(scalar, Type::from_oid(type_oid), type_oid).is_err());
        }
    }
}
