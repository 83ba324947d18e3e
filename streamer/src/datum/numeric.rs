//! numeric: base-10,000 digits (`src/backend/utils/adt/numeric.c`).
//!
//! The payload begins with a 16-bit header. Its top bits tell a long form
//! (header = sign and display scale, then a 16-bit weight), a short one (all
//! in the header), or NaN and the infinities; 16-bit digits follow.

use super::{Layout, Malformed, two_digits};

/// A numeric that was read; its digits are looked at when it is written.
#[derive(Clone, Copy, Debug)]
pub enum Numeric<'a> {
    NaN,
    Infinity,
    NegativeInfinity,
    Finite {
        negative: bool,
        /// Power of 10,000 of the first digit.
        weight: i32,
        /// Decimal digits after the point when displayed.
        scale: usize,
        digits: Digits<'a>,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Digits<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl Digits<'_> {
    /// The digit at a place, 0 outside of what is stored.
    #[inline]
    fn get(&self, place: i32) -> Result<u32, Malformed> {
        let Ok(place) = usize::try_from(place) else {
            return Ok(0);
        };
        let digit = match self.bytes.get(place * 2..) {
            Some([a, b, ..]) => self.layout.u16([*a, *b]),
            _ => 0,
        };
        if digit >= 10_000 {
            return Err(Malformed("a numeric has a digit above 9999"));
        }
        Ok(u32::from(digit))
    }
}

impl<'a> Numeric<'a> {
    /// Reads a datum's payload (without its varlena header).
    #[inline]
    pub fn parse(payload: &'a [u8], layout: Layout) -> Result<Self, Malformed> {
        const CUT: Malformed = Malformed("a numeric is cut short");
        let (header, rest) = payload.split_first_chunk::<2>().ok_or(CUT)?;
        let header = layout.u16(*header);
        let (negative, weight, scale, digits) = match header & 0xc000 {
            0xc000 => {
                return match header & 0xf000 {
                    0xc000 => Ok(Numeric::NaN),
                    0xd000 => Ok(Numeric::Infinity),
                    0xf000 => Ok(Numeric::NegativeInfinity),
                    _ => Err(Malformed("a numeric has an unknown special value")),
                };
            }
            0x8000 => {
                // Seven bits, two's complement.
                let weight = i32::from(header & 0x3f) - i32::from(header & 0x40);
                (header & 0x2000 != 0, weight, header >> 7 & 0x3f, rest)
            }
            sign => {
                let (weight, rest) = rest.split_first_chunk::<2>().ok_or(CUT)?;
                let weight = i32::from(layout.u16(*weight) as i16);
                (sign == 0x4000, weight, header & 0x3fff, rest)
            }
        };
        if digits.len() % 2 != 0 {
            return Err(CUT);
        }
        Ok(Numeric::Finite {
            negative,
            weight,
            scale: usize::from(scale),
            digits: Digits {
                bytes: digits,
                layout,
            },
        })
    }

    pub fn is_finite(&self) -> bool {
        matches!(self, Numeric::Finite { .. })
    }

    /// Appends the text, with exactly as many decimals as the display scale
    /// says.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let (negative, weight, scale, digits) = match *self {
            Numeric::NaN => {
                out.extend_from_slice(b"NaN");
                return Ok(());
            }
            Numeric::Infinity => {
                out.extend_from_slice(b"Infinity");
                return Ok(());
            }
            Numeric::NegativeInfinity => {
                out.extend_from_slice(b"-Infinity");
                return Ok(());
            }
            Numeric::Finite {
                negative,
                weight,
                scale,
                digits,
            } => (negative, weight, scale, digits),
        };
        if negative {
            out.push(b'-');
        }
        if weight < 0 {
            out.push(b'0');
        } else {
            let mut buffer = itoa::Buffer::new();
            out.extend_from_slice(buffer.format(digits.get(0)?).as_bytes());
            for place in 1..=weight {
                out.extend_from_slice(&four_digits(digits.get(place)?));
            }
        }
        if scale > 0 {
            out.push(b'.');
            let end = out.len() + scale;
            let mut place = weight + 1;
            while out.len() < end {
                out.extend_from_slice(&four_digits(digits.get(place)?));
                place += 1;
            }
            out.truncate(end);
        }
        Ok(())
    }
}

#[inline]
fn four_digits(digit: u32) -> [u8; 4] {
    let [a, b] = two_digits(digit / 100);
    let [c, d] = two_digits(digit % 100);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::Numeric;
    use crate::datum::{Layout, Malformed};

    fn text(words: &[u16], big_endian: bool) -> Result<String, Malformed> {
        let bytes: Vec<u8> = words
            .iter()
            .flat_map(|word| {
                if big_endian {
                    word.to_be_bytes()
                } else {
                    word.to_le_bytes()
                }
            })
            .collect();
        let mut out = Vec::new();
        Numeric::parse(&bytes, Layout::of_server(150_000, big_endian))?.write(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn numerics_read_as_the_server_prints_them() {
        for (words, expected) in [
            // short: 1234567.8900, weight 1, scale 4
            (&[0x8000 | 4 << 7 | 1, 123, 4567, 8900][..], "1234567.8900"),
            (&[0x8000 | 0x2000 | 2 << 7, 1, 5000], "-1.50"),
            // weight -2 is 0x7e in seven bits
            (&[0x8000 | 8 << 7 | 0x7e, 42], "0.00000042"),
            (&[0x8000], "0"),
            (&[0x8000 | 3 << 7], "0.000"),
            // long: weight 25, positive and negative
            (&[0x0000, 3, 7], "7000000000000"),
            (
                &[0x4000 | 64, 0xffff, 1],
                &format!("-0.0001{}", "0".repeat(60)),
            ),
            (&[0xc000], "NaN"),
            (&[0xd000], "Infinity"),
            (&[0xf000], "-Infinity"),
        ] {
            assert_eq!(text(words, false).unwrap(), expected);
            assert_eq!(text(words, true).unwrap(), expected);
        }
    }

    #[test]
    fn what_no_server_writes_is_refused() {
        assert!(text(&[], false).is_err());
        assert!(text(&[0x0000], false).is_err());
        assert!(text(&[0x8000, 10_000], false).is_err());
        assert!(text(&[0xe000], false).is_err());
    }
}
