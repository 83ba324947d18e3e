//! One value of a record becomes a value of the event model.

use std::borrow::Cow;

use walferry_protocol::Value as Wire;

use crate::datum::{Layout, Malformed, ScalarType, Type, varlena};
use crate::decode::text;
use crate::event::Value;

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
        Wire::Text(bytes) => return text::read(bytes, kind, base_type_oid),
    };
    match value {
        Value::Text(padded) if kind == Type::Scalar(ScalarType::Bpchar) => {
            Ok(text::unpadded(padded))
        }
        value => Ok(value),
    }
}
