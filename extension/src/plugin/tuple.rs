//! From a heap tuple's bytes to a row of the wire format: in one piece where
//! nothing in it needs to be looked at, in one walk otherwise.
//!
//! `heap_deform_tuple` would be a second pass over the same bytes and a
//! guarded server call for every row, so the walk is done here, along the
//! relation's cached [`Layout`]. Every step is checked against the tuple's
//! length.

use std::borrow::Cow;
use std::ffi::CStr;
use std::mem::offset_of;

use pgrx::pg_sys;
use walferry_protocol::{Value, tuple_head};

use super::failure::{Failure, Outcome};
use super::layout::{Attribute, Layout, Step};
use super::printing::print;
use super::text::Converter;
use super::varlena;
use super::writer::{Frames, Room};

/// Which columns a row image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    All,
    /// Only those of the replica identity; the others are absent.
    Key,
}

/// A heap tuple, taken apart as far as its header.
#[derive(Clone, Copy)]
pub struct Tuple<'a> {
    /// From the first attribute on.
    data: &'a [u8],
    /// One bit an attribute, 0 for null; None when nothing is null.
    not_null: Option<&'a [u8]>,
    attributes: usize,
    /// HEAP_HASEXTERNAL: some value is not in the tuple itself. The reorder
    /// buffer marks tuples so too whose values it put together again, for what
    /// it puts there are pointers.
    out_of_line: bool,
}

const NULLS_AT: usize = offset_of!(pg_sys::HeapTupleHeaderData, t_bits);

impl<'a> Tuple<'a> {
    /// # Safety
    /// `tuple` is null or a tuple of the reorder buffer that lives for `'a`:
    /// `t_data` leads to `t_len` bytes.
    #[inline]
    pub unsafe fn new(tuple: *const pg_sys::HeapTupleData) -> Outcome<Option<Tuple<'a>>> {
        if tuple.is_null() {
            return Ok(None);
        }
        // SAFETY: as the caller promises; the header's fields are read only
        // once the tuple is known to be long enough for them.
        let (bytes, header) = unsafe {
            let length = (*tuple).t_len as usize;
            let start = (*tuple).t_data;
            if start.is_null() || length < size_of::<pg_sys::HeapTupleHeaderData>() {
                return Err(Failure::corrupted("a tuple is shorter than its header"));
            }
            (
                std::slice::from_raw_parts(start.cast::<u8>(), length),
                &*start,
            )
        };
        let attributes = usize::from(header.t_infomask2) & pg_sys::HEAP_NATTS_MASK as usize;
        let offset = usize::from(header.t_hoff);
        let short = || Failure::corrupted("a tuple is shorter than its header says");
        let data = bytes.get(offset..).ok_or_else(short)?;
        let not_null = if u32::from(header.t_infomask) & pg_sys::HEAP_HASNULL != 0 {
            let bits = NULLS_AT..NULLS_AT + attributes.div_ceil(8);
            if bits.end > offset {
                return Err(short());
            }
            Some(bytes.get(bits).ok_or_else(short)?)
        } else {
            None
        };
        Ok(Some(Tuple {
            data,
            not_null,
            attributes,
            out_of_line: u32::from(header.t_infomask) & pg_sys::HEAP_HASEXTERNAL != 0,
        }))
    }

    /// How many attributes the tuple has; later ones are younger than it.
    pub fn attributes(&self) -> usize {
        self.attributes
    }

    #[inline(always)]
    pub fn is_null(&self, index: usize) -> bool {
        match self.not_null {
            None => false,
            // The bitmap covers `attributes` attributes, and nobody asks
            // beyond them; if it were short, the attribute would count as null.
            Some(bits) => bits
                .get(index >> 3)
                .is_none_or(|byte| byte & (1 << (index & 7)) == 0),
        }
    }
}

#[cold]
fn beyond_the_end() -> Failure {
    Failure::corrupted("a row ends before its last column")
        .hint("The table's definition and the WAL do not fit together; check the server's log.")
}

/// The bytes of the attribute that begins at or after `offset`, and where
/// they begin: `att_align_pointer` and `att_addlength_pointer` of
/// `src/include/access/tupmacs.h`.
#[inline]
fn extent<'a>(data: &'a [u8], offset: usize, attribute: &Attribute) -> Outcome<(usize, &'a [u8])> {
    let mask = usize::from(attribute.align);
    let aligned = (offset + mask) & !mask;
    match attribute.length {
        -1 => {
            // A byte that is not zero is a header, a zero is padding.
            let start = match data.get(offset) {
                Some(0) => aligned,
                Some(_) => offset,
                None => return Err(beyond_the_end()),
            };
            let rest = data.get(start..).ok_or_else(beyond_the_end)?;
            Ok((start, &rest[..varlena::length(rest)?]))
        }
        -2 => {
            let rest = data.get(aligned..).ok_or_else(beyond_the_end)?;
            let text = CStr::from_bytes_until_nul(rest).map_err(|_| beyond_the_end())?;
            Ok((aligned, text.to_bytes_with_nul()))
        }
        length => {
            let end = aligned + usize::from(length.unsigned_abs());
            Ok((aligned, data.get(aligned..end).ok_or_else(beyond_the_end)?))
        }
    }
}

/// A fixed-width value at or after `*offset`.
#[inline(always)]
fn fixed<'a, const N: usize>(data: &'a [u8], offset: &mut usize, mask: u8) -> Outcome<&'a [u8; N]> {
    let mask = usize::from(mask);
    let start = (*offset + mask) & !mask;
    *offset = start + N;
    data.get(start..)
        .and_then(|rest| rest.first_chunk::<N>())
        .ok_or_else(beyond_the_end)
}

/// Writes a tuple as it is.
#[inline]
fn write_tuple(layout: &Layout, tuple: Tuple<'_>, frames: &mut Frames, room: Room) -> Room {
    // The server makes no tuple beyond MaxAllocSize, which fits a u32.
    let length = tuple.data.len() as u32;
    let head = tuple_head(layout.columns, tuple.not_null.is_some(), length);
    let mut room = room.bytes(frames, &head);
    if let Some(bits) = tuple.not_null {
        room = room.bytes(frames, bits);
    }
    room.bytes(frames, tuple.data)
}

/// Writes a row image. `texts` are the tuple's Text values, in order.
#[inline]
pub fn write_row(
    layout: &Layout,
    tuple: Tuple<'_>,
    image: Image,
    texts: &mut dyn Iterator<Item = TextValue<'_>>,
    frames: &mut Frames,
    mut room: Room,
) -> Outcome<Room> {
    if layout.all_raw
        && image == Image::All
        && !tuple.out_of_line
        && tuple.attributes == layout.attributes.len()
    {
        return Ok(write_tuple(layout, tuple, frames, room));
    }
    room = room.bytes(frames, &layout.columns.to_le_bytes());
    let data = tuple.data;
    let mut offset = 0;
    let present = tuple.attributes.min(layout.attributes.len());
    for (index, attribute) in layout.attributes[..present].iter().enumerate() {
        if tuple.is_null(index) {
            if attribute.step.is_sent() {
                let absent = image == Image::Key && !attribute.key;
                room = room.value(frames, if absent { Value::Absent } else { Value::Null });
            }
            continue;
        }
        match attribute.step {
            Step::Raw1 => {
                let bytes = fixed::<1>(data, &mut offset, attribute.align)?;
                room = room.value(frames, Value::Raw(bytes));
            }
            Step::Raw2 => {
                let bytes = fixed::<2>(data, &mut offset, attribute.align)?;
                room = room.value(frames, Value::Raw(bytes));
            }
            Step::Raw4 => {
                let bytes = fixed::<4>(data, &mut offset, attribute.align)?;
                room = room.value(frames, Value::Raw(bytes));
            }
            Step::Raw8 => {
                let bytes = fixed::<8>(data, &mut offset, attribute.align)?;
                room = room.value(frames, Value::Raw(bytes));
            }
            Step::RawVarlena => {
                if let Some(payload) = data.get(offset..).and_then(varlena::short) {
                    offset += 1 + payload.len();
                    room = room.value(frames, Value::Raw(payload));
                } else {
                    let (start, bytes) = extent(data, offset, attribute)?;
                    offset = start + bytes.len();
                    // SAFETY: the bytes are a whole datum of this tuple.
                    let value = unsafe { varlena::value(bytes)? };
                    room = room.value(frames, value);
                }
            }
            Step::RawFixed => {
                let (start, bytes) = extent(data, offset, attribute)?;
                offset = start + bytes.len();
                room = room.value(frames, Value::Raw(bytes));
            }
            Step::Text { .. } => {
                let (start, bytes) = extent(data, offset, attribute)?;
                offset = start + bytes.len();
                room = match texts.next() {
                    Some(TextValue::Text(text)) => room.value(frames, Value::Text(text.as_bytes())),
                    Some(TextValue::UnchangedToast) => room.value(frames, Value::UnchangedToast),
                    None => return Err(Failure::corrupted("a text value was not prepared")),
                };
            }
            Step::Skip => {
                let (start, bytes) = extent(data, offset, attribute)?;
                offset = start + bytes.len();
            }
        }
    }
    // Attributes that are younger than the tuple.
    for (attribute, missing) in layout.attributes[present..]
        .iter()
        .zip(&layout.missing[present..])
    {
        if !attribute.step.is_sent() {
            continue;
        }
        room = match missing {
            _ if image == Image::Key && !attribute.key => room.value(frames, Value::Absent),
            Some(encoded) => room.bytes(frames, encoded),
            None => room.value(frames, Value::Null),
        };
    }
    Ok(room)
}

/// A Text column's value.
#[derive(Debug)]
pub enum TextValue<'a> {
    Text(Cow<'a, str>),
    UnchangedToast,
}

/// A Text value before its output function has run.
enum Pending<'a> {
    Call { output: u16 },
    Plain { output: u16, bytes: &'a [u8] },
    UnchangedToast,
}

/// The text of all Text columns of a row, before any byte of it is written:
/// output functions may read the catalogs and then fail with a concurrent
/// abort, which must not leave half a record behind.
///
/// Runs in the decoder's scratch context; what it returns lives there.
pub fn texts<'a>(
    layout: &mut Layout,
    tuple: Tuple<'a>,
    converter: Converter,
    place: impl Fn(usize) -> String,
) -> Outcome<Vec<TextValue<'a>>> {
    let mut pending = Vec::with_capacity(layout.outputs.len());
    let mut calls = Vec::with_capacity(layout.outputs.len());
    let mut offset = 0;
    let present = tuple.attributes.min(layout.attributes.len());
    for (index, attribute) in layout.attributes[..present].iter().enumerate() {
        if tuple.is_null(index) {
            continue;
        }
        let (start, bytes) = extent(tuple.data, offset, attribute)?;
        offset = start + bytes.len();
        let Step::Text { output } = attribute.step else {
            continue;
        };
        if attribute.length == -1 && varlena::is_on_disk(bytes) {
            pending.push(Pending::UnchangedToast);
        } else if layout.outputs[usize::from(output)].plain {
            pending.push(Pending::Plain { output, bytes });
        } else {
            let datum = if attribute.by_value {
                by_value(bytes)
            } else {
                pg_sys::Datum::from(bytes.as_ptr().cast_mut())
            };
            calls.push(datum);
            pending.push(Pending::Call { output });
        }
    }
    let mut functions = Vec::with_capacity(calls.len());
    let mut columns = Vec::with_capacity(calls.len());
    for value in &pending {
        if let Pending::Call { output } = value {
            let output = &mut layout.outputs[usize::from(*output)];
            functions.push(&raw mut *output.function);
            columns.push(output.column);
        }
    }
    let printed = print(&functions, &calls, |index| place(columns[index]))?;
    let mut printed = printed.into_iter();
    let mut texts = Vec::with_capacity(pending.len());
    for value in pending {
        texts.push(match value {
            Pending::UnchangedToast => TextValue::UnchangedToast,
            Pending::Plain { output, bytes } => {
                let column = layout.outputs[usize::from(output)].column;
                let payload = plain_payload(bytes)?;
                TextValue::Text(converter.to_utf8(payload, || place(column))?)
            }
            Pending::Call { output } => {
                let column = layout.outputs[usize::from(output)].column;
                let text = printed.next().unwrap_or(std::ptr::null_mut());
                if text.is_null() {
                    return Err(Failure::corrupted("an output function returned nothing"));
                }
                // SAFETY: an output function returns a C string, which stands
                // in the scratch context until the record has been written.
                let bytes: &'a [u8] = unsafe { CStr::from_ptr(text) }.to_bytes();
                TextValue::Text(converter.to_utf8(bytes, || place(column))?)
            }
        });
    }
    Ok(texts)
}

/// A by-value attribute's datum: `fetch_att` of `src/include/access/tupmacs.h`.
pub fn by_value(bytes: &[u8]) -> pg_sys::Datum {
    match *bytes {
        [a] => pg_sys::Datum::from(a as i8 as usize),
        [a, b] => pg_sys::Datum::from(i16::from_ne_bytes([a, b]) as usize),
        [a, b, c, d] => pg_sys::Datum::from(i32::from_ne_bytes([a, b, c, d]) as usize),
        [a, b, c, d, e, f, g, h] => {
            pg_sys::Datum::from(i64::from_ne_bytes([a, b, c, d, e, f, g, h]) as usize)
        }
        _ => pg_sys::Datum::from(0usize),
    }
}

/// The text that a varlena of a plain text type holds.
fn plain_payload(bytes: &[u8]) -> Outcome<&[u8]> {
    // SAFETY: the bytes are a whole datum of a tuple of the reorder buffer;
    // what is detoasted stands in the scratch context, as the printed texts do.
    unsafe {
        let bytes = match varlena::value(bytes)? {
            Value::Raw(payload) => return Ok(payload),
            _ => varlena::datum(
                pg_sys::pg_detoast_datum(bytes.as_ptr().cast_mut().cast()).cast::<u8>(),
            )?,
        };
        match varlena::value(bytes)? {
            Value::Raw(payload) => Ok(payload),
            _ => Err(Failure::corrupted(
                "a value is still TOASTed after detoasting",
            )),
        }
    }
}
