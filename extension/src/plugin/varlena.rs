//! Variable-length datums as they stand in tuples: the header forms of
//! `src/include/varatt.h` (until 15 in `postgres.h`).

use walferry_protocol::{Compression, Value};

use super::failure::{Failure, Outcome};

/// `VARTAG_INDIRECT`: a pointer into this process's memory. The reorder
/// buffer puts it where it has put a TOASTed value together again.
const TAG_INDIRECT: u8 = 1;
/// `VARTAG_ONDISK`: a pointer into a TOAST table. In a decoded row it means
/// that the UPDATE did not touch the value.
const TAG_ONDISK: u8 = 18;
/// `VARHDRSZ_EXTERNAL`
const EXTERNAL_HEADER: usize = 2;
/// `sizeof(varatt_external)`
const ONDISK_LENGTH: usize = 16;
const INDIRECT_LENGTH: usize = size_of::<usize>();
/// `VARHDRSZ`
const HEADER: usize = 4;
/// `VARHDRSZ_COMPRESSED`
const COMPRESSED_HEADER: usize = 8;

/// How a datum begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One byte of header with the whole length.
    Short(usize),
    /// One byte of header, then a tag: the value is elsewhere.
    External,
    /// Four bytes of header with the whole length.
    Plain(usize),
    /// Four bytes of header with the whole length, four of compression info.
    Compressed(usize),
}

/// `VARATT_IS_1B` and its relatives. A four-byte header needs four bytes.
#[inline(always)]
fn form(bytes: &[u8]) -> Option<Form> {
    let first = *bytes.first()?;
    #[cfg(target_endian = "little")]
    {
        if first & 1 == 1 {
            return Some(if first == 1 {
                Form::External
            } else {
                Form::Short((first >> 1).into())
            });
        }
        let word = u32::from_le_bytes(*bytes.first_chunk::<HEADER>()?);
        let length = (word >> 2) as usize;
        Some(if first & 2 == 0 {
            Form::Plain(length)
        } else {
            Form::Compressed(length)
        })
    }
    #[cfg(target_endian = "big")]
    {
        if first & 0x80 != 0 {
            let short = Form::Short((first & 0x7f).into());
            return Some(if first == 0x80 { Form::External } else { short });
        }
        let word = u32::from_be_bytes(*bytes.first_chunk::<HEADER>()?);
        let length = (word & 0x3fff_ffff) as usize;
        Some(if first & 0x40 == 0 {
            Form::Plain(length)
        } else {
            Form::Compressed(length)
        })
    }
}

/// The short form of a datum's payload, if `bytes` begins with it: by far the
/// most frequent, so it has a way of its own.
#[inline(always)]
pub fn short(bytes: &[u8]) -> Option<&[u8]> {
    let first = *bytes.first()?;
    #[cfg(target_endian = "little")]
    let (is_short, length) = (first & 1 == 1 && first != 1, usize::from(first >> 1));
    #[cfg(target_endian = "big")]
    let (is_short, length) = (
        first & 0x80 != 0 && first != 0x80,
        usize::from(first & 0x7f),
    );
    if is_short { bytes.get(1..length) } else { None }
}

/// The length of the datum that begins at `bytes`, header and all.
#[inline]
pub fn length(bytes: &[u8]) -> Outcome<usize> {
    let (length, least) = match form(bytes) {
        Some(Form::Short(length)) => (length, 1),
        Some(Form::Plain(length)) => (length, HEADER),
        Some(Form::Compressed(length)) => (length, COMPRESSED_HEADER),
        Some(Form::External) => match bytes.get(1) {
            Some(&TAG_INDIRECT) => (EXTERNAL_HEADER + INDIRECT_LENGTH, 0),
            Some(&TAG_ONDISK) => (EXTERNAL_HEADER + ONDISK_LENGTH, 0),
            tag => return Err(unknown_tag(tag.copied())),
        },
        None => return Err(Failure::corrupted("a value's header is cut short")),
    };
    if length < least || length > bytes.len() {
        return Err(Failure::corrupted(format!(
            "a value of length {length} is longer than what is left of its row, {}",
            bytes.len()
        )));
    }
    Ok(length)
}

fn unknown_tag(tag: Option<u8>) -> Failure {
    match tag {
        Some(tag) => Failure::corrupted(format!("a TOAST pointer has the unexpected tag {tag}")),
        None => Failure::corrupted("a TOAST pointer is cut short"),
    }
}

/// Whether the datum is a TOAST pointer that decoding left as it was.
pub fn is_on_disk(bytes: &[u8]) -> bool {
    matches!(form(bytes), Some(Form::External)) && bytes.get(1) == Some(&TAG_ONDISK)
}

/// The same of a datum by its address.
///
/// # Safety
/// `address` leads to a datum.
pub unsafe fn is_on_disk_at(address: *const u8) -> bool {
    // SAFETY: a datum has a first byte, and an external one a second.
    unsafe { form(&[*address]) == Some(Form::External) && *address.add(1) == TAG_ONDISK }
}

/// The value of the datum that `bytes` is, following an indirect pointer.
///
/// # Safety
/// `bytes` is a datum out of a tuple of the reorder buffer, so that an
/// indirect pointer in it leads to a whole datum in this process's memory
/// that lives as long as the tuple.
pub unsafe fn value<'a>(bytes: &'a [u8]) -> Outcome<Value<'a>> {
    match form(bytes) {
        Some(Form::External) if bytes.get(1) == Some(&TAG_INDIRECT) => {
            let Some(address) = bytes
                .get(EXTERNAL_HEADER..)
                .and_then(|rest| rest.first_chunk::<INDIRECT_LENGTH>())
            else {
                return Err(unknown_tag(None));
            };
            let target = usize::from_ne_bytes(*address) as *const u8;
            if target.is_null() {
                return Err(Failure::corrupted("an indirect TOAST pointer is null"));
            }
            // SAFETY: as the caller promises.
            let target = unsafe { datum(target)? };
            match form(target) {
                Some(Form::External) => Err(Failure::corrupted(
                    "an indirect TOAST pointer leads to another pointer",
                )),
                _ => inline(target),
            }
        }
        Some(Form::External) if bytes.get(1) == Some(&TAG_ONDISK) => Ok(Value::UnchangedToast),
        Some(Form::External) => Err(unknown_tag(bytes.get(1).copied())),
        _ => inline(bytes),
    }
}

/// The whole datum at `address`.
///
/// # Safety
/// A whole datum stands there and lives for `'a`.
pub unsafe fn datum<'a>(address: *const u8) -> Outcome<&'a [u8]> {
    // SAFETY: a datum has at least one byte, four where the first is not that
    // of a one-byte header, and two where it is an external one.
    let header = unsafe {
        let first = std::slice::from_raw_parts(address, 1);
        match form(first) {
            Some(Form::Short(_)) => first,
            Some(_) => std::slice::from_raw_parts(address, EXTERNAL_HEADER),
            None => std::slice::from_raw_parts(address, HEADER),
        }
    };
    let length = match form(header) {
        Some(Form::Short(length) | Form::Plain(length) | Form::Compressed(length)) => length,
        Some(Form::External) => match header[1] {
            TAG_INDIRECT => EXTERNAL_HEADER + INDIRECT_LENGTH,
            TAG_ONDISK => EXTERNAL_HEADER + ONDISK_LENGTH,
            tag => return Err(unknown_tag(Some(tag))),
        },
        None => return Err(Failure::corrupted("a value's header is cut short")),
    };
    // SAFETY: the header tells how long the whole datum is.
    Ok(unsafe { std::slice::from_raw_parts(address, length) })
}

/// A datum that is not external, without its header.
fn inline(bytes: &[u8]) -> Outcome<Value<'_>> {
    let cut_short = || Failure::corrupted("a value is cut short");
    match form(bytes) {
        Some(Form::Short(length)) => bytes.get(1..length).map(Value::Raw).ok_or_else(cut_short),
        Some(Form::Plain(length)) => bytes
            .get(HEADER..length)
            .map(Value::Raw)
            .ok_or_else(cut_short),
        Some(Form::Compressed(length)) => {
            let payload = bytes.get(COMPRESSED_HEADER..length).ok_or_else(cut_short)?;
            let info = bytes
                .get(HEADER..)
                .and_then(|rest| rest.first_chunk::<4>())
                .ok_or_else(cut_short)?;
            // `va_tcinfo`: 30 bits of size, 2 bits of method.
            let info = u32::from_ne_bytes(*info);
            let method = match info >> 30 {
                0 => Compression::Pglz,
                1 => Compression::Lz4,
                other => {
                    return Err(Failure::corrupted(format!(
                        "a value is compressed by the unknown method {other}"
                    )));
                }
            };
            Ok(Value::Compressed {
                method,
                raw_size: info & 0x3fff_ffff,
                bytes: payload,
            })
        }
        Some(Form::External) | None => Err(cut_short()),
    }
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_header_is_told_apart() {
        assert_eq!(short(&[0x07, b'a', b'b', 9]), Some(&b"ab"[..]));
        assert_eq!(short(&[0x01, 18]), None);
        assert_eq!(length(&[0x03]).ok(), Some(1));
        assert_eq!(length(&[20, 0, 0, 0, 1]).ok(), Some(5));
        assert!(length(&[20, 0, 0, 0]).is_err());
        assert!(length(&[0x01, 2, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(length(&[]).is_err());
        assert!(length(&[0, 0]).is_err());
        // A plain header that is shorter than itself.
        assert!(length(&[0, 0, 0, 0]).is_err());
        let mut on_disk = [0; 18];
        on_disk[..2].copy_from_slice(&[1, 18]);
        assert_eq!(length(&on_disk).ok(), Some(18));
        assert!(is_on_disk(&on_disk));
    }

    #[test]
    fn an_indirect_pointer_is_followed() {
        let target = [4 << 2 | 0b10, 0, 0, 0, 0, 0, 0, 0];
        // Ten bytes long, compressed by lz4 to 2, 5 bytes raw.
        let mut compressed = vec![10 << 2 | 0b10, 0, 0, 0];
        compressed.extend((1u32 << 30 | 5).to_ne_bytes());
        compressed.extend([7, 8]);
        let pointer = |to: &[u8]| {
            let mut bytes = vec![1, TAG_INDIRECT];
            bytes.extend((to.as_ptr() as usize).to_ne_bytes());
            bytes
        };
        let to_compressed = pointer(&compressed);
        // SAFETY: the pointers lead to whole datums that outlive the call.
        let found = unsafe { value(&to_compressed) };
        assert_eq!(
            found.ok(),
            Some(Value::Compressed {
                method: Compression::Lz4,
                raw_size: 5,
                bytes: &[7, 8]
            })
        );
        let to_pointer = pointer(&to_compressed);
        // SAFETY: as above.
        assert!(unsafe { value(&to_pointer) }.is_err());
        let to_broken = pointer(&target);
        // SAFETY: as above; the datum claims four bytes, which are there.
        assert!(unsafe { value(&to_broken) }.is_err());
    }
}
