//! One column's value, and a row of them. Values describe themselves, so that
//! a row can be stepped over without its relation.

use crate::tuple::{HeapTuple, Walk};
use crate::{Column, Cursor, ProtocolError, Put};

/// How a compressed datum was compressed (`ToastCompressionId`,
/// `src/include/access/toast_compression.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Compression {
    Pglz = 0,
    Lz4 = 1,
}

impl Compression {
    pub(crate) fn decode(method: u8) -> Result<Self, ProtocolError> {
        match method {
            0 => Ok(Compression::Pglz),
            1 => Ok(Compression::Lz4),
            found => Err(ProtocolError::Unknown {
                what: "compression method",
                found: found.into(),
            }),
        }
    }
}

/// A column's value as the plugin saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// An out-of-line value that the UPDATE did not touch, so the server did
    /// not log it. Not NULL: the row still has it.
    UnchangedToast,
    /// Not part of this row image (a column outside the key in a key-only old
    /// row). Not NULL either.
    Absent,
    /// The datum's bytes without any length header, in the server's byte
    /// order; what they mean follows from the column's [`crate::Encoding`].
    Raw(&'a [u8]),
    /// A varlena datum still compressed as the server stored it. `raw_size`
    /// is the size after decompression, without a header, at most 1 GiB.
    Compressed {
        method: Compression,
        raw_size: u32,
        bytes: &'a [u8],
    },
    /// The type's output function's text, in UTF-8.
    Text(&'a [u8]),
}

pub(crate) mod tag {
    pub const NULL: u8 = 0;
    pub const UNCHANGED_TOAST: u8 = 1;
    pub const ABSENT: u8 = 2;
    pub const RAW_SHORT: u8 = 3;
    pub const RAW_LONG: u8 = 4;
    pub const COMPRESSED: u8 = 5;
    pub const TEXT_SHORT: u8 = 6;
    pub const TEXT_LONG: u8 = 7;
}

/// No datum is larger (`MaxAllocSize`, `src/include/utils/memutils.h`).
const MAX_DATUM: u64 = 0x3fff_ffff;

/// Writes a value: a tag, then for bytes of up to 255 a `u8` length, for more
/// a `u32` length.
#[inline]
pub fn encode_value<P: Put + ?Sized>(out: &mut P, value: Value<'_>) {
    match value {
        Value::Null => out.put_u8(tag::NULL),
        Value::UnchangedToast => out.put_u8(tag::UNCHANGED_TOAST),
        Value::Absent => out.put_u8(tag::ABSENT),
        Value::Raw(bytes) => encode_bytes(out, tag::RAW_SHORT, tag::RAW_LONG, bytes),
        Value::Text(bytes) => encode_bytes(out, tag::TEXT_SHORT, tag::TEXT_LONG, bytes),
        Value::Compressed {
            method,
            raw_size,
            bytes,
        } => {
            out.put_u8(tag::COMPRESSED);
            out.put_u8(method as u8);
            out.put_u32(raw_size);
            out.put_u32(bytes.len() as u32);
            out.put(bytes);
        }
    }
}

#[inline]
fn encode_bytes<P: Put + ?Sized>(out: &mut P, short: u8, long: u8, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(length) => out.put(&[short, length]),
        Err(_) => {
            out.put_u8(long);
            out.put_u32(bytes.len() as u32);
        }
    }
    out.put(bytes);
}

/// The twin of [`encode_value`].
#[inline]
pub(crate) fn decode_value<'a>(input: &mut Cursor<'a>) -> Result<Value<'a>, ProtocolError> {
    Ok(match input.u8("value tag")? {
        tag::NULL => Value::Null,
        tag::UNCHANGED_TOAST => Value::UnchangedToast,
        tag::ABSENT => Value::Absent,
        tag::RAW_SHORT => Value::Raw(short_bytes(input)?),
        tag::RAW_LONG => Value::Raw(long_bytes(input)?),
        tag::TEXT_SHORT => Value::Text(short_bytes(input)?),
        tag::TEXT_LONG => Value::Text(long_bytes(input)?),
        tag::COMPRESSED => {
            let method = Compression::decode(input.u8("compression method")?)?;
            let raw_size = input.u32("raw size")?;
            if u64::from(raw_size) > MAX_DATUM {
                return Err(ProtocolError::TooLarge {
                    what: "raw size of a compressed value",
                    found: raw_size.into(),
                    limit: MAX_DATUM,
                });
            }
            Value::Compressed {
                method,
                raw_size,
                bytes: long_bytes(input)?,
            }
        }
        found => {
            return Err(ProtocolError::Unknown {
                what: "value tag",
                found: found.into(),
            });
        }
    })
}

#[inline]
fn short_bytes<'a>(input: &mut Cursor<'a>) -> Result<&'a [u8], ProtocolError> {
    let length = input.u8("value length")?;
    input.take(usize::from(length), "value")
}

fn long_bytes<'a>(input: &mut Cursor<'a>) -> Result<&'a [u8], ProtocolError> {
    // Text may be up to four times a datum (an encoding conversion); the frame
    // bounds it anyway, for nothing is allocated from this length.
    let length = input.u32("value length")?;
    input.take(length as usize, "value")
}

/// A row image: one value for each column of its relation's definition, in
/// that order.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    columns: u16,
    form: Form<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Form<'a> {
    /// One after the other, each with its tag.
    Values(&'a [u8]),
    Tuple(HeapTuple<'a>),
}

impl<'a> Row<'a> {
    /// Reads a row (`u16` column count, then the values or the tuple) by
    /// stepping over it.
    pub(crate) fn decode(input: &mut Cursor<'a>) -> Result<Self, ProtocolError> {
        let count = input.u16("column count")?;
        if let Some(row) = Self::tuple(count, input)? {
            return Ok(row);
        }
        let values = input.rest();
        for _ in 0..count {
            decode_value(input)?;
        }
        Ok(Row {
            columns: count,
            form: Form::Values(&values[..values.len() - input.rest().len()]),
        })
    }

    /// The row that ends the input: it takes all that is left, unread. What is
    /// wrong with it shows when its values are read.
    #[inline]
    pub(crate) fn decode_last(input: &mut Cursor<'a>) -> Result<Self, ProtocolError> {
        let count = input.u16("column count")?;
        if let Some(row) = Self::tuple(count, input)? {
            return Ok(row);
        }
        let values = input.take(input.rest().len(), "row")?;
        Ok(Row {
            columns: count,
            form: Form::Values(values),
        })
    }

    #[inline]
    fn tuple(count: u16, input: &mut Cursor<'a>) -> Result<Option<Self>, ProtocolError> {
        Ok(
            HeapTuple::decode(count, input)?.map(|(columns, tuple)| Row {
                columns,
                form: Form::Tuple(tuple),
            }),
        )
    }

    pub fn column_count(&self) -> usize {
        usize::from(self.columns)
    }

    /// The values in column order. `columns` are those of the row's relation
    /// definition, as many as [`Row::column_count`] says; `big_endian` is the
    /// server's byte order ([`crate::Start`]). An error ends the iteration;
    /// after the last value, bytes that are left over are an error too.
    #[inline]
    pub fn values<'c>(
        &self,
        columns: &'c [Column],
        big_endian: bool,
    ) -> impl Iterator<Item = Result<Value<'a>, ProtocolError>> + use<'a, 'c> {
        let mut reader = match self.form {
            Form::Values(values) => Reader::Values(Cursor::new(values)),
            Form::Tuple(tuple) => Reader::Tuple(Walk::new(tuple, big_endian)),
        };
        let fits = columns.len() == self.column_count();
        let mut columns = columns.iter();
        let mut over = false;
        std::iter::from_fn(move || {
            if over {
                return None;
            }
            if !fits {
                over = true;
                return Some(Err(ProtocolError::Inconsistent {
                    what: "a row has other columns than its definition",
                }));
            }
            let Some(column) = columns.next() else {
                over = true;
                return reader.finish().err().map(Err);
            };
            let value = match &mut reader {
                Reader::Values(input) => decode_value(input),
                Reader::Tuple(walk) => walk.next(column),
            };
            over = value.is_err();
            Some(value)
        })
    }
}

#[derive(Clone, Debug)]
enum Reader<'a> {
    Values(Cursor<'a>),
    Tuple(Walk<'a>),
}

impl Reader<'_> {
    fn finish(&self) -> Result<(), ProtocolError> {
        match self {
            Reader::Values(input) => (*input).finish("row"),
            Reader::Tuple(walk) => walk.finish(),
        }
    }
}
