//! Values as types' send functions write them (pgoutput's option `binary`),
//! made into what the event model holds.
//!
//! Everything is in network byte order, which [`Layout`] takes for a
//! big-endian server's; so fixed-size types read as they stand.

use std::borrow::Cow;

use walferry_protocol::Lsn;

use super::input::Input;
use crate::datum::{Layout, Malformed, ScalarType, Type};
use crate::event::{Payload, Value};

/// `pg_type.oid` of `pg_lsn`.
const PG_LSN: u32 = 3220;

/// The largest array that is taken (`MaxArraySize`).
const MAX_ELEMENTS: usize = 0x3fff_ffff / 8;

pub(super) fn read<'a>(
    bytes: &'a [u8],
    kind: Type,
    base_type_oid: u32,
    layout: Layout,
) -> Result<Value<'a>, Malformed> {
    match kind {
        Type::Other if base_type_oid == PG_LSN => pg_lsn(bytes),
        Type::Scalar(ScalarType::Jsonb) => jsonb(bytes),
        Type::Scalar(ScalarType::Bpchar) => match Value::read(kind, bytes.into(), layout)? {
            Value::Text(padded) => Ok(crate::decode::text::unpadded(padded)),
            value => Ok(value),
        },
        Type::Scalar(ScalarType::Numeric) => Ok(Value::Numeric(Payload {
            bytes: Cow::Owned(numeric(bytes)?),
            layout,
        })),
        Type::Scalar(_) => Value::read(kind, Cow::Borrowed(bytes), layout),
        Type::Array(ScalarType::Jsonb) | Type::Other | Type::OtherArray => Err(Malformed(
            "values of this type are not read in binary; leave --plugin-option binary=true out",
        )),
        Type::Array(element) => Ok(Value::Array(Payload {
            bytes: Cow::Owned(array(bytes, element)?),
            layout,
        })),
    }
}

/// `pg_lsn_send`: walferry's own tables have such a column.
fn pg_lsn(bytes: &[u8]) -> Result<Value<'_>, Malformed> {
    let bytes = bytes
        .try_into()
        .map_err(|_| Malformed("a value is not of its type's size"))?;
    let lsn = Lsn(u64::from_be_bytes(bytes));
    Ok(Value::Text(Cow::Owned(lsn.to_string())))
}

/// `jsonb_send`: a version, then the text.
fn jsonb(bytes: &[u8]) -> Result<Value<'_>, Malformed> {
    let text = bytes
        .strip_prefix(&[1])
        .ok_or(Malformed("a jsonb value is of an unknown version"))?;
    std::str::from_utf8(text)
        .map(|text| Value::Json(Cow::Borrowed(text)))
        .map_err(|_| Malformed("a jsonb string is not UTF-8"))
}

/// `numeric_send`: count of digits, weight, sign, display scale, digits; the
/// datum is the last three in its long form.
fn numeric(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut input = Input::new(bytes);
    let count = input.u16()?;
    let weight: [u8; 2] = input.array()?;
    let sign = input.u16()?;
    let scale = input.u16()?;
    let digits = input.rest();
    if digits.len() != 2 * usize::from(count) {
        return Err(Malformed("a numeric has another number of digits"));
    }
    if sign & 0xc000 == 0xc000 {
        return Ok(sign.to_be_bytes().to_vec());
    }
    if sign & !0x4000 != 0 || scale > 0x3fff {
        return Err(Malformed("a numeric has an unknown sign or scale"));
    }
    let mut datum = Vec::with_capacity(4 + digits.len());
    datum.extend((sign | scale).to_be_bytes());
    datum.extend(weight);
    datum.extend_from_slice(digits);
    Ok(datum)
}

/// `array_send`: dimensions, whether there are nulls, element type, length and
/// lower bound of each dimension, elements each with its length. The datum
/// (see [`crate::datum::array`]) has its elements aligned, and a bitmap of
/// those that are not null.
fn array(bytes: &[u8], element: ScalarType) -> Result<Vec<u8>, Malformed> {
    let mut input = Input::new(bytes);
    let dimensions = input.u32()? as usize;
    let has_nulls = input.u32()? != 0;
    let element_oid = input.u32()?;
    if dimensions > 6 {
        return Err(Malformed("an array has more than six dimensions"));
    }
    if element_oid != element.oid() {
        return Err(Malformed("an array's elements are of another type"));
    }
    let mut count = usize::from(dimensions > 0);
    let (mut lengths, mut bounds) = (Vec::new(), Vec::new());
    for _ in 0..dimensions {
        let length = input.u32()?;
        count = count.saturating_mul(length as usize);
        lengths.extend(length.to_be_bytes());
        bounds.extend(input.u32()?.to_be_bytes());
    }
    // Each has at least its length.
    if count > MAX_ELEMENTS || count > input.rest().len() / 4 {
        return Err(Malformed("an array has more elements than can be"));
    }
    // Offsets count from a header of four bytes that the datum does not have.
    let bitmap_at = 12 + lengths.len() + bounds.len();
    let bitmap = if has_nulls { count.div_ceil(8) } else { 0 };
    let data_at = (4 + bitmap_at + bitmap).next_multiple_of(8) - 4;
    let mut datum = Vec::with_capacity(data_at + bytes.len());
    datum.extend((dimensions as u32).to_be_bytes());
    let data_offset = if has_nulls { data_at as u32 + 4 } else { 0 };
    datum.extend(data_offset.to_be_bytes());
    datum.extend(element_oid.to_be_bytes());
    datum.extend(lengths);
    datum.extend(bounds);
    datum.resize(data_at, 0);
    let (size, alignment) = element.element_layout();
    for place in 0..count {
        let length = input.u32()?;
        if length == u32::MAX {
            if !has_nulls {
                return Err(Malformed("an array without nulls has one"));
            }
            continue;
        }
        if has_nulls {
            datum[bitmap_at + place / 8] |= 1 << (place % 8);
        }
        let value = input.take(length as usize)?;
        while !(datum.len() - data_at).is_multiple_of(alignment) {
            datum.push(0);
        }
        match size {
            Some(64) => {
                // name: as long as its text on the wire.
                datum.extend_from_slice(value.get(..value.len().min(64)).unwrap_or(value));
                datum.resize(datum.len() + 64 - value.len().min(64), 0);
            }
            Some(size) if size == value.len() => datum.extend_from_slice(value),
            Some(_) => return Err(Malformed("a value is not of its type's size")),
            None if element == ScalarType::Numeric => varlena(&numeric(value)?, &mut datum)?,
            None => varlena(value, &mut datum)?,
        }
    }
    input.finish()?;
    Ok(datum)
}

/// A datum with its four-byte header, as a big-endian server writes it.
fn varlena(payload: &[u8], datum: &mut Vec<u8>) -> Result<(), Malformed> {
    let length = payload.len() + 4;
    if length > 0x3fff_ffff {
        return Err(Malformed("an array's element is too large"));
    }
    datum.extend((length as u32).to_be_bytes());
    datum.extend_from_slice(payload);
    Ok(())
}
