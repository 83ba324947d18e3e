//! A value that came as text, by its type's output function or a cast.

use std::borrow::Cow;

use crate::datum::{Malformed, ScalarType, Type};
use crate::event::Value;

/// `pg_type.oid` of inet.
const INET: u32 = 869;

/// The value that an output function printed, mended where the cast to text
/// says it otherwise. `base_type_oid` stands beside `kind` for the one type
/// whose text is mended.
pub fn read<'a>(bytes: &'a [u8], kind: Type, base_type_oid: u32) -> Result<Value<'a>, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("text is not UTF-8"))?;
    mended(Cow::Borrowed(text), kind, base_type_oid)
}

/// [`read`] of text that was looked at before.
pub fn mended(text: Cow<'_, str>, kind: Type, base_type_oid: u32) -> Result<Value<'_>, Malformed> {
    Ok(match kind {
        Type::Scalar(ScalarType::Bool) => match &*text {
            "t" => Value::Bool(true),
            "f" => Value::Bool(false),
            _ => return Err(Malformed("a boolean is neither true nor false")),
        },
        Type::Scalar(ScalarType::Json) => Value::Json(text),
        // inet's cast always shows the netmask.
        Type::Other if base_type_oid == INET && !text.contains('/') => {
            let bits = if text.contains(':') { "/128" } else { "/32" };
            Value::Text(Cow::Owned(format!("{text}{bits}")))
        }
        Type::Scalar(ScalarType::Bpchar) => unpadded(text),
        _ => Value::Text(text),
    })
}

/// char(n) is stored padded; as text its trailing blanks do not count.
pub fn unpadded(padded: Cow<'_, str>) -> Value<'_> {
    Value::Text(match padded {
        Cow::Borrowed(padded) => Cow::Borrowed(padded.trim_end_matches(' ')),
        Cow::Owned(mut padded) => {
            padded.truncate(padded.trim_end_matches(' ').len());
            Cow::Owned(padded)
        }
    })
}
