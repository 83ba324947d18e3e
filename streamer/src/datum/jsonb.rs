//! jsonb: a tree of containers (`src/include/utils/jsonb.h`), written as the
//! server prints it (`JsonbToCString`, `src/backend/utils/adt/jsonb_util.c`).
//!
//! A container is a header (how many elements, which kind), one entry for
//! each element (an object: all keys, then all values) and their data. An
//! entry holds its type and its data's length, or, now and then, where the
//! data ends.

use super::{Layout, Malformed, numeric::Numeric, quote::write_json_string, varlena};

const COUNT_MASK: u32 = 0x0fff_ffff;
const FLAG_SCALAR: u32 = 0x1000_0000;
const FLAG_OBJECT: u32 = 0x2000_0000;
const FLAG_ARRAY: u32 = 0x4000_0000;

const ENTRY_OFFSET_OR_LENGTH: u32 = 0x0fff_ffff;
const ENTRY_TYPE: u32 = 0x7000_0000;
const ENTRY_STRING: u32 = 0x0000_0000;
const ENTRY_NUMERIC: u32 = 0x1000_0000;
const ENTRY_FALSE: u32 = 0x2000_0000;
const ENTRY_TRUE: u32 = 0x3000_0000;
const ENTRY_NULL: u32 = 0x4000_0000;
const ENTRY_CONTAINER: u32 = 0x5000_0000;
const ENTRY_HAS_OFFSET: u32 = 0x8000_0000;

/// A container that is being written.
struct Container<'a> {
    /// From its header to its end.
    bytes: &'a [u8],
    layout: Layout,
    /// Elements of an array, pairs of an object.
    count: usize,
    kind: Kind,
    next: usize,
    /// Where the data of the next key or element begins, and of the next
    /// value, counted from `data`.
    key_offset: usize,
    value_offset: usize,
    /// Where the data begins.
    data: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Object,
    /// A lone scalar is an array of one that is not shown.
    Scalar,
}

const CUT: Malformed = Malformed("a jsonb value reads past its end");

impl<'a> Container<'a> {
    fn open(bytes: &'a [u8], layout: Layout) -> Result<Self, Malformed> {
        let header = layout.u32_at(bytes, 0, CUT.0)?;
        let count = (header & COUNT_MASK) as usize;
        let kind = match header & !COUNT_MASK {
            FLAG_ARRAY => Kind::Array,
            FLAG_OBJECT => Kind::Object,
            flags if flags == FLAG_ARRAY | FLAG_SCALAR && count == 1 => Kind::Scalar,
            _ => return Err(Malformed("a jsonb container is of an unknown kind")),
        };
        let entries = if kind == Kind::Object {
            2 * count
        } else {
            count
        };
        let data = 4 + 4 * entries;
        if data > bytes.len() {
            return Err(CUT);
        }
        let mut container = Container {
            bytes,
            layout,
            count,
            kind,
            next: 0,
            key_offset: 0,
            value_offset: 0,
            data,
        };
        if kind == Kind::Object {
            let mut end = 0;
            for place in 0..count {
                end = container.end_of(place, end)?.1;
            }
            container.value_offset = end;
        }
        Ok(container)
    }

    /// An entry's type and where its data ends, given where it begins. Ends
    /// never go backwards, so no data is read twice.
    #[inline]
    fn end_of(&self, place: usize, begin: usize) -> Result<(u32, usize), Malformed> {
        let entry = self.layout.u32_at(self.bytes, 4 + 4 * place, CUT.0)?;
        let value = (entry & ENTRY_OFFSET_OR_LENGTH) as usize;
        let end = if entry & ENTRY_HAS_OFFSET != 0 {
            value
        } else {
            begin + value
        };
        if end < begin || end > self.bytes.len() - self.data {
            return Err(CUT);
        }
        Ok((entry & ENTRY_TYPE, end))
    }

    fn slice(&self, begin: usize, end: usize) -> Result<&'a [u8], Malformed> {
        self.bytes
            .get(self.data + begin..self.data + end)
            .ok_or(CUT)
    }

    /// Numerics and containers begin at a multiple of four.
    fn aligned_slice(&self, begin: usize, end: usize) -> Result<&'a [u8], Malformed> {
        let begin = begin.next_multiple_of(4);
        if begin > end {
            return Err(CUT);
        }
        self.slice(begin, end)
    }

    fn brackets(&self) -> Option<(u8, u8)> {
        match self.kind {
            Kind::Array => Some((b'[', b']')),
            Kind::Object => Some((b'{', b'}')),
            Kind::Scalar => None,
        }
    }
}

fn write_string(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a jsonb string is not UTF-8"))?;
    write_json_string(text, out);
    Ok(())
}

/// Appends the text of a jsonb datum's payload. Nesting costs heap, not stack:
/// a server with a large `max_stack_depth` stores very deep values.
pub fn write(payload: &[u8], layout: Layout, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut open: Vec<Container<'_>> = Vec::new();
    let mut current = Container::open(payload, layout)?;
    loop {
        if current.next == 0
            && let Some((bracket, _)) = current.brackets()
        {
            out.push(bracket);
        }
        if current.next == current.count {
            if let Some((_, bracket)) = current.brackets() {
                out.push(bracket);
            }
            match open.pop() {
                None => return Ok(()),
                Some(outer) => current = outer,
            }
            continue;
        }
        if current.next > 0 {
            out.extend_from_slice(b", ");
        }
        let place = current.next;
        current.next += 1;
        let (begin, (entry, end)) = if current.kind == Kind::Object {
            let (entry, end) = current.end_of(place, current.key_offset)?;
            if entry != ENTRY_STRING {
                return Err(Malformed("a jsonb key is not a string"));
            }
            write_string(current.slice(current.key_offset, end)?, out)?;
            current.key_offset = end;
            out.extend_from_slice(b": ");
            let begin = current.value_offset;
            let found = current.end_of(current.count + place, begin)?;
            current.value_offset = found.1;
            (begin, found)
        } else {
            let begin = current.key_offset;
            let found = current.end_of(place, begin)?;
            current.key_offset = found.1;
            (begin, found)
        };
        match entry {
            ENTRY_STRING => write_string(current.slice(begin, end)?, out)?,
            ENTRY_NUMERIC => {
                let (payload, _) = varlena::read(current.aligned_slice(begin, end)?, layout)?;
                let numeric = Numeric::parse(payload, layout)?;
                if !numeric.is_finite() {
                    return Err(Malformed("a jsonb number is not finite"));
                }
                numeric.write(out)?;
            }
            ENTRY_FALSE => out.extend_from_slice(b"false"),
            ENTRY_TRUE => out.extend_from_slice(b"true"),
            ENTRY_NULL => out.extend_from_slice(b"null"),
            ENTRY_CONTAINER => {
                let inner = Container::open(current.aligned_slice(begin, end)?, layout)?;
                if inner.kind == Kind::Scalar {
                    return Err(Malformed("a jsonb scalar stands where a container should"));
                }
                open.push(std::mem::replace(&mut current, inner));
            }
            _ => return Err(Malformed("a jsonb entry is of an unknown type")),
        }
    }
}
