//! Arrays of the types that are read (`src/include/utils/array.h`).
//!
//! The payload, counted without its four-byte header: dimensions, offset of
//! the data (0: there are no nulls and no bitmap), element type, the length
//! of each dimension, the lower bound of each, the bitmap, the elements.

use super::{Layout, Malformed, ScalarType, varlena};

/// `MAXDIM`, `src/include/utils/array.h`
const MAX_DIMENSIONS: usize = 6;
/// `MaxArraySize`
const MAX_ELEMENTS: usize = 0x3fff_ffff / 8;
/// Offsets inside an array count from its four-byte header, which is not sent.
const HEADER: usize = 4;

const CUT: Malformed = Malformed("an array reads past its end");

/// An array that was read; its elements are stepped through.
#[derive(Clone, Debug)]
pub struct Array<'a> {
    pub element: ScalarType,
    dimensions: usize,
    lengths: [usize; MAX_DIMENSIONS],
    lower_bounds: [i32; MAX_DIMENSIONS],
    count: usize,
    nulls: Option<&'a [u8]>,
    data: &'a [u8],
    layout: Layout,
}

impl<'a> Array<'a> {
    pub fn parse(payload: &'a [u8], layout: Layout) -> Result<Self, Malformed> {
        let word = |at: usize| layout.u32_at(payload, at - HEADER, CUT.0);
        let dimensions = word(4)? as usize;
        let data_offset = word(8)? as usize;
        let element = ScalarType::from_oid(word(12)?).ok_or(Malformed(
            "an array's elements are of a type that is not read",
        ))?;
        if dimensions > MAX_DIMENSIONS {
            return Err(Malformed("an array has more than six dimensions"));
        }
        let mut lengths = [0; MAX_DIMENSIONS];
        let mut lower_bounds = [0; MAX_DIMENSIONS];
        let mut count = usize::from(dimensions > 0);
        for dimension in 0..dimensions {
            lengths[dimension] = word(16 + 4 * dimension)? as usize;
            lower_bounds[dimension] = word(16 + 4 * (dimensions + dimension))? as i32;
            count = count.saturating_mul(lengths[dimension]);
        }
        if count > MAX_ELEMENTS {
            return Err(Malformed("an array has more elements than can be"));
        }
        let bounds_end = 16 + 8 * dimensions;
        let (nulls, data_offset) = if data_offset == 0 {
            (None, bounds_end.next_multiple_of(8))
        } else {
            let bitmap_end = bounds_end + count.div_ceil(8);
            if data_offset < bitmap_end {
                return Err(Malformed("an array's elements begin inside its header"));
            }
            let bitmap = payload.get(bounds_end - HEADER..bitmap_end - HEADER);
            (Some(bitmap.ok_or(CUT)?), data_offset)
        };
        let data = if count == 0 {
            &[]
        } else {
            payload.get(data_offset - HEADER..).ok_or(CUT)?
        };
        Ok(Array {
            element,
            dimensions,
            lengths,
            lower_bounds,
            count,
            nulls,
            data,
            layout,
        })
    }

    /// The elements' payloads in row-major order; `None` is NULL.
    pub fn elements(&self) -> Elements<'a> {
        let (size, alignment) = self.element.element_layout();
        Elements {
            rest: self.count,
            place: 0,
            nulls: self.nulls,
            data: self.data,
            at: 0,
            size,
            alignment,
            layout: self.layout,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether a lower bound other than 1 has to be shown, with all of them.
    pub fn has_bounds(&self) -> bool {
        !self.is_empty() && self.bounds().any(|(lower, _)| lower != 1)
    }

    /// Lower and upper bound of each dimension.
    pub fn bounds(&self) -> impl Iterator<Item = (i64, i64)> + use<'_> {
        (0..self.dimensions).map(|dimension| {
            let lower = i64::from(self.lower_bounds[dimension]);
            (lower, lower + self.lengths[dimension] as i64 - 1)
        })
    }

    /// Steps through the elements with their nesting: `open` and `close` are
    /// written around each (sub)array, commas between, `element` writes one.
    pub fn write_nested(
        &self,
        open: u8,
        close: u8,
        out: &mut Vec<u8>,
        mut element: impl FnMut(Option<&'a [u8]>, &mut Vec<u8>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if self.is_empty() {
            out.extend_from_slice(&[open, close]);
            return Ok(());
        }
        // How many elements a subarray of each depth holds.
        let mut spans = [1usize; MAX_DIMENSIONS];
        let mut span = 1;
        for dimension in (0..self.dimensions).rev() {
            span *= self.lengths[dimension];
            spans[dimension] = span;
        }
        let spans = &spans[..self.dimensions];
        for (place, found) in self.elements().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            for span in spans {
                if place % span == 0 {
                    out.push(open);
                }
            }
            element(found?, out)?;
            for span in spans {
                if (place + 1) % span == 0 {
                    out.push(close);
                }
            }
        }
        Ok(())
    }
}

/// The elements of an array. An error ends the iteration.
pub struct Elements<'a> {
    rest: usize,
    place: usize,
    nulls: Option<&'a [u8]>,
    data: &'a [u8],
    at: usize,
    size: Option<usize>,
    alignment: usize,
    layout: Layout,
}

impl<'a> Elements<'a> {
    fn read(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let place = self.place;
        self.place += 1;
        if let Some(bitmap) = self.nulls {
            let byte = bitmap.get(place / 8).ok_or(CUT)?;
            if byte >> (place % 8) & 1 == 0 {
                return Ok(None);
            }
        }
        // The data begins at a multiple of eight, so alignment counts from it.
        let aligned = self.at.next_multiple_of(self.alignment);
        let (end, payload) = match self.size {
            Some(size) => {
                let payload = self.data.get(aligned..aligned + size).ok_or(CUT)?;
                (aligned + size, payload)
            }
            None => {
                // A byte that is not padding is a short header, unaligned.
                let first = *self.data.get(self.at).ok_or(CUT)?;
                let begin = if first == 0 { aligned } else { self.at };
                let rest = self.data.get(begin..).ok_or(CUT)?;
                let (payload, length) = varlena::read(rest, self.layout)?;
                (begin + length, payload)
            }
        };
        self.at = end;
        Ok(Some(payload))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Option<&'a [u8]>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.checked_sub(1)?;
        let element = self.read();
        if element.is_err() {
            self.rest = 0;
        }
        Some(element)
    }
}
