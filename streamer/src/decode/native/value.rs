//! One value of a record becomes a value of the event model.

use std::borrow::Cow;

use walferry_protocol::Value as Wire;

use crate::datum::{Layout, Malformed, ScalarType, Type, varlena};
use crate::event::Value;

/// `pg_type.oid` of inet.
const INET: u32 = 869;

/// `base_type_oid` stands beside `kind` for the one type whose text is mended.
#[inline]
pub(super) fn decode<'a>(
    wire: Wire<'a>,
    kind: Type,
    base_type_oid: u32,
    layout: Layout,
) -> Result<Value<'a>, Malformed> {
    let value = match wire {
        Wire::Null => Value::Null,
        Wire::UnchangedToast => Value::UnchangedToast,
        Wire::Absent => Value::Absent,
        Wire::Raw(bytes) => Value::read(kind, Cow::Borrowed(bytes), layout)?,
        Wire::Compressed {
            method,
            raw_size,
            bytes,
        } => {
            let whole = varlena::decompress(method, bytes, raw_size)?;
            Value::read(kind, Cow::Owned(whole), layout)?
        }
        Wire::Text(bytes) => text(bytes, kind, base_type_oid)?,
    };
    // char(n) is stored padded; as text its trailing blanks do not count.
    if kind == Type::Scalar(ScalarType::Bpchar)
        && let Value::Text(padded) = value
    {
        return Ok(Value::Text(match padded {
            Cow::Borrowed(padded) => Cow::Borrowed(padded.trim_end_matches(' ')),
            Cow::Owned(mut padded) => {
                padded.truncate(padded.trim_end_matches(' ').len());
                Cow::Owned(padded)
            }
        }));
    }
    Ok(value)
}

/// What an output function printed, where the cast to text says it otherwise.
fn text<'a>(bytes: &'a [u8], kind: Type, base_type_oid: u32) -> Result<Value<'a>, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("text is not UTF-8"))?;
    Ok(match kind {
        Type::Scalar(ScalarType::Bool) => match text {
            "t" => Value::Bool(true),
            "f" => Value::Bool(false),
            _ => return Err(Malformed("a boolean is neither true nor false")),
        },
        Type::Scalar(ScalarType::Json) => Value::Json(Cow::Borrowed(text)),
        // inet's cast always shows the netmask.
        Type::Other if base_type_oid == INET && !text.contains('/') => {
            let bits = if text.contains(':') { "/128" } else { "/32" };
            Value::Text(Cow::Owned(format!("{text}{bits}")))
        }
        _ => Value::Text(Cow::Borrowed(text)),
    })
}
