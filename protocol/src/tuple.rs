//! A whole heap tuple as a row: what the server stored, copied in one piece.
//!
//! Where every attribute travels raw, is there, and none is kept out of line,
//! the plugin has nothing to look at value by value. The tuple's bytes go as
//! they are, and whoever reads them walks along the definition's columns, as
//! `heap_deform_tuple` does (`src/backend/access/common/heaptuple.c`).

use crate::value::Compression;
use crate::{Column, Cursor, Encoding, ProtocolError, Put, Storage, Value};

/// In a row's column count: a heap tuple follows.
const TUPLE: u16 = 0x8000;
/// In a row's column count, beside [`TUPLE`]: with its null bitmap.
const NULLS: u16 = 0x4000;

/// `VARHDRSZ`
const HEADER: usize = 4;
/// `VARHDRSZ_COMPRESSED`
const COMPRESSED_HEADER: usize = 8;
/// In a four-byte header and in the word of compression info: the length.
const LENGTH_MASK: u32 = 0x3fff_ffff;

/// The bytes of a heap tuple after its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapTuple<'a> {
    /// One bit an attribute, 0 for null (`t_bits`); none when nothing is null.
    pub not_null: Option<&'a [u8]>,
    /// From `t_hoff` on; alignment counts from its beginning.
    pub data: &'a [u8],
}

/// What a tuple row begins with, up to its bitmap: the column count with its
/// marks, and the length of the data.
#[inline]
pub fn tuple_head(columns: u16, has_nulls: bool, length: u32) -> [u8; 6] {
    let marks = if has_nulls { TUPLE | NULLS } else { TUPLE };
    let [a, b] = (columns | marks).to_le_bytes();
    let [c, d, e, f] = length.to_le_bytes();
    [a, b, c, d, e, f]
}

/// Writes a row that is a heap tuple of `columns` attributes.
pub fn encode_tuple<P: Put + ?Sized>(out: &mut P, columns: u16, tuple: HeapTuple<'_>) {
    let length = tuple.data.len() as u32;
    out.put(&tuple_head(columns, tuple.not_null.is_some(), length));
    if let Some(bits) = tuple.not_null {
        out.put(bits);
    }
    out.put(tuple.data);
}

impl<'a> HeapTuple<'a> {
    /// What follows a column count with marks. `None`: the count has none.
    #[inline]
    pub(crate) fn decode(
        count: u16,
        input: &mut Cursor<'a>,
    ) -> Result<Option<(u16, HeapTuple<'a>)>, ProtocolError> {
        if count & TUPLE == 0 {
            return Ok(None);
        }
        let columns = count & !(TUPLE | NULLS);
        let length = input.u32("tuple length")?;
        let not_null = if count & NULLS != 0 {
            Some(input.take(usize::from(columns).div_ceil(8), "null bitmap")?)
        } else {
            None
        };
        let data = input.take(length as usize, "tuple")?;
        Ok(Some((columns, HeapTuple { not_null, data })))
    }

    #[inline]
    fn is_null(&self, index: usize) -> bool {
        self.not_null.is_some_and(|bits| {
            bits.get(index >> 3)
                .is_none_or(|byte| byte & (1 << (index & 7)) == 0)
        })
    }
}

/// Walks a tuple's attributes.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'a> {
    tuple: HeapTuple<'a>,
    offset: usize,
    index: usize,
    big_endian: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(tuple: HeapTuple<'a>, big_endian: bool) -> Self {
        Walk {
            tuple,
            offset: 0,
            index: 0,
            big_endian,
        }
    }

    /// The next attribute, which is `column`'s.
    #[inline]
    pub(crate) fn next(&mut self, column: &Column) -> Result<Value<'a>, ProtocolError> {
        let index = self.index;
        self.index += 1;
        if self.tuple.is_null(index) {
            return Ok(Value::Null);
        }
        let Encoding::Raw(storage) = column.encoding else {
            return Err(ProtocolError::Inconsistent {
                what: "a column that travels as text is in a heap tuple",
            });
        };
        let mask = usize::from(storage.align) - 1;
        let aligned = (self.offset + mask) & !mask;
        if storage.length >= 0 {
            let length = usize::from(storage.length.unsigned_abs());
            self.offset = aligned + length;
            return Ok(Value::Raw(self.bytes(aligned, length)?));
        }
        // A byte that is not zero is a header, a zero is padding.
        let start = match self.tuple.data.get(self.offset) {
            Some(0) => aligned,
            _ => self.offset,
        };
        let (length, value) = self.varlena(start)?;
        self.offset = start + length;
        Ok(value)
    }

    /// The datum whose header stands at `start`: its whole length and its
    /// value (`src/include/varatt.h`).
    #[inline]
    fn varlena(&self, start: usize) -> Result<(usize, Value<'a>), ProtocolError> {
        let first = self.bytes(start, 1)?[0];
        let (is_short, short_length) = if self.big_endian {
            (first & 0x80 != 0, usize::from(first & 0x7f))
        } else {
            (first & 1 == 1, usize::from(first >> 1))
        };
        if is_short {
            // A length of nothing marks a pointer to a value out of line.
            let Some(payload) = short_length.checked_sub(1) else {
                return Err(ProtocolError::Inconsistent {
                    what: "a heap tuple holds a value out of line",
                });
            };
            return Ok((short_length, Value::Raw(self.bytes(start + 1, payload)?)));
        }
        let word = self.word(start)?;
        let (length, is_compressed) = if self.big_endian {
            (word & LENGTH_MASK, word & 0x4000_0000 != 0)
        } else {
            (word >> 2, word & 2 != 0)
        };
        let length = length as usize;
        let header = if is_compressed {
            COMPRESSED_HEADER
        } else {
            HEADER
        };
        let Some(payload) = length.checked_sub(header) else {
            return Err(ProtocolError::Inconsistent {
                what: "a value in a heap tuple is shorter than its header",
            });
        };
        let bytes = self.bytes(start + header, payload)?;
        if !is_compressed {
            return Ok((length, Value::Raw(bytes)));
        }
        let info = self.word(start + HEADER)?;
        let method = Compression::decode((info >> 30) as u8)?;
        Ok((
            length,
            Value::Compressed {
                method,
                raw_size: info & LENGTH_MASK,
                bytes,
            },
        ))
    }

    #[inline]
    fn bytes(&self, start: usize, length: usize) -> Result<&'a [u8], ProtocolError> {
        let rest = self.tuple.data.get(start..).unwrap_or_default();
        rest.get(..length).ok_or(ProtocolError::Short {
            what: "value in a heap tuple",
            needed: length,
            left: rest.len(),
        })
    }

    #[inline]
    fn word(&self, start: usize) -> Result<u32, ProtocolError> {
        let bytes = self.bytes(start, 4)?;
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        Ok(if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    /// Refuses bytes after the last attribute.
    pub(crate) fn finish(&self) -> Result<(), ProtocolError> {
        match self.tuple.data.len().checked_sub(self.offset) {
            None | Some(0) => Ok(()),
            Some(extra) => Err(ProtocolError::LeftOver {
                what: "heap tuple",
                extra,
            }),
        }
    }
}

impl Storage {
    /// A variable-length type's `attlen`.
    pub const VARLENA: i16 = -1;

    pub(crate) fn encode<P: Put + ?Sized>(self, out: &mut P) {
        out.put_u16(self.length as u16);
        out.put_u8(self.align);
    }

    pub(crate) fn decode(input: &mut Cursor<'_>) -> Result<Self, ProtocolError> {
        let length = input.u16("length of a column's type")? as i16;
        if length < 1 && length != Self::VARLENA {
            return Err(ProtocolError::Unknown {
                what: "length of a column's type",
                found: u64::from(length as u16),
            });
        }
        let align = input.u8("alignment")?;
        if !matches!(align, 1 | 2 | 4 | 8) {
            return Err(ProtocolError::Unknown {
                what: "alignment",
                found: align.into(),
            });
        }
        Ok(Storage { length, align })
    }
}
