//! float4 and float8 as text: the shortest decimal that reads back as the same
//! number, in the form of PostgreSQL's Ryu (`src/common/d2s.c`, `f2s.c`).

/// Appends a float8's text.
pub fn write_float8(value: f64, out: &mut Vec<u8>) {
    if !write_special(
        value.is_nan(),
        value.is_infinite(),
        value.is_sign_negative(),
        out,
    ) {
        let mut buffer = zmij::Buffer::new();
        let mut decimal = Decimal::parse(buffer.format_finite(value.abs()));
        let bits = value.to_bits();
        let biased = (bits >> 52 & 0x7ff) as i32;
        if biased >= 1075 {
            let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
            decimal.leave_boundary(mantissa, biased - 1075, 17, |precision| {
                format!("{:.*e}", precision, value.abs())
            });
        }
        decimal.write(value.is_sign_negative(), 15, out);
    }
}

/// Appends a float4's text.
pub fn write_float4(value: f32, out: &mut Vec<u8>) {
    if !write_special(
        value.is_nan(),
        value.is_infinite(),
        value.is_sign_negative(),
        out,
    ) {
        let mut buffer = zmij::Buffer::new();
        let mut decimal = Decimal::parse(buffer.format_finite(value.abs()));
        let bits = value.to_bits();
        let biased = (bits >> 23 & 0xff) as i32;
        if biased >= 150 {
            let mantissa = u64::from(bits & ((1 << 23) - 1) | 1 << 23);
            decimal.leave_boundary(mantissa, biased - 150, 9, |precision| {
                format!("{:.*e}", precision, value.abs())
            });
        }
        decimal.write(value.is_sign_negative(), 6, out);
    }
}

fn write_special(nan: bool, infinite: bool, negative: bool, out: &mut Vec<u8>) -> bool {
    let text: &[u8] = match (nan, infinite, negative) {
        (true, _, _) => b"NaN",
        (_, true, false) => b"Infinity",
        (_, true, true) => b"-Infinity",
        _ => return false,
    };
    out.extend_from_slice(text);
    true
}

/// `digits` × 10^`exponent`, without trailing zeros unless it is zero.
struct Decimal {
    digits: u64,
    exponent: i32,
}

impl Decimal {
    /// Reads a positive number in either notation.
    fn parse(text: &str) -> Self {
        let mut digits = 0u64;
        let mut exponent = 0;
        let mut after_point = false;
        let mut bytes = text.bytes();
        for byte in &mut bytes {
            match byte {
                b'0'..=b'9' => {
                    digits = digits * 10 + u64::from(byte - b'0');
                    exponent -= i32::from(after_point);
                }
                b'.' => after_point = true,
                _ => break,
            }
        }
        let mut negative = false;
        let mut scale = 0;
        for byte in bytes {
            match byte {
                b'-' => negative = true,
                b'0'..=b'9' => scale = scale * 10 + i32::from(byte - b'0'),
                _ => {}
            }
        }
        exponent += if negative { -scale } else { scale };
        while digits != 0 && digits.is_multiple_of(10) {
            digits /= 10;
            exponent += 1;
        }
        Decimal { digits, exponent }
    }

    /// PostgreSQL's Ryu takes only decimals strictly between the halfway
    /// points to the neighbouring floats, where others take the halfway point
    /// of an even mantissa too. So where the shortest decimal is such a point
    /// it gives a longer one. That needs a halfway point with few digits,
    /// which only numbers with a binary `exponent` >= 0 have.
    fn leave_boundary(
        &mut self,
        mantissa: u64,
        exponent: i32,
        max_digits: usize,
        round: impl Fn(usize) -> String,
    ) {
        while self.is_halfway(mantissa, exponent) {
            let precision = (self.digits.ilog10() + 1) as usize;
            if precision >= max_digits {
                return;
            }
            // The nearest decimal of one digit more; zeros at its end are no
            // progress, so go on until there is some.
            let mut next = Decimal { ..*self };
            for precision in precision..max_digits {
                next = Decimal::parse(&round(precision));
                if next.digits != self.digits {
                    break;
                }
            }
            if next.digits == self.digits {
                return;
            }
            *self = next;
        }
    }

    /// Whether this is (2 × mantissa ± 1) × 2^(exponent - 1).
    fn is_halfway(&self, mantissa: u64, exponent: i32) -> bool {
        // digits × 5^e × 2^e, whose odd part is at most 2^54 + 1
        if mantissa % 2 == 1 || !(0..=23).contains(&self.exponent) || self.digits == 0 {
            return false;
        }
        let product = u128::from(self.digits) * 5u128.pow(self.exponent as u32);
        let twos = product.trailing_zeros();
        let odd = product >> twos;
        let matches = odd == u128::from(2 * mantissa + 1) || odd == u128::from(2 * mantissa - 1);
        matches && twos as i32 + self.exponent == exponent - 1
    }

    /// Fixed notation where the decimal exponent is in -4 .. `fixed_below`,
    /// else scientific with at least two digits of exponent.
    fn write(&self, negative: bool, fixed_below: i32, out: &mut Vec<u8>) {
        if negative {
            out.push(b'-');
        }
        if self.digits == 0 {
            out.push(b'0');
            return;
        }
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(self.digits).as_bytes();
        let exponent = self.exponent + digits.len() as i32 - 1;
        if (-4..fixed_below).contains(&exponent) {
            if exponent < 0 {
                out.extend_from_slice(&b"0.0000"[..(1 - exponent) as usize]);
                out.extend_from_slice(digits);
            } else {
                let whole = exponent as usize + 1;
                if digits.len() <= whole {
                    out.extend_from_slice(digits);
                    out.resize(out.len() + whole - digits.len(), b'0');
                } else {
                    out.extend_from_slice(&digits[..whole]);
                    out.push(b'.');
                    out.extend_from_slice(&digits[whole..]);
                }
            }
            return;
        }
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        let exponent = exponent.unsigned_abs();
        if exponent >= 100 {
            out.push(b'0' + (exponent / 100) as u8);
        }
        out.extend_from_slice(&super::two_digits(exponent));
    }
}

#[cfg(test)]
mod tests {
    use super::{write_float4, write_float8};

    fn f8(value: f64) -> String {
        let mut out = Vec::new();
        write_float8(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn f4(value: f32) -> String {
        let mut out = Vec::new();
        write_float4(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_read_as_the_server_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (100.0, "100"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1e-05"),
            (123456789012345.0, "123456789012345"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (-1.5e300, "-1.5e+300"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (18014398509481988.0, "1.8014398509481988e+16"),
        ] {
            assert_eq!(f8(value), text);
        }
        for (value, text) in [
            (0.1, "0.1"),
            (123456.0, "123456"),
            (1234567.0, "1.234567e+06"),
            (1e6, "1e+06"),
            (f32::MAX, "3.4028235e+38"),
            (1e-45, "1e-45"),
            (0.0001, "0.0001"),
        ] {
            assert_eq!(f4(value), text);
        }
    }

    #[test]
    fn every_text_reads_back_as_the_same_number() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..200_000 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let bits = state ^ state >> 29;
            let value = f64::from_bits(bits);
            if value.is_finite() {
                assert_eq!(f8(value).parse::<f64>().unwrap().to_bits(), bits);
            }
            // Whole numbers just above 2^53, where halfway points are short.
            let whole = ((1u64 << 53) + (bits >> 8 & 0xff_ffff_ffff)) as f64;
            assert_eq!(f8(whole).parse::<f64>().unwrap(), whole);
            let single = f32::from_bits(bits as u32);
            if single.is_finite() {
                assert_eq!(f4(single).parse::<f32>().unwrap().to_bits(), bits as u32);
            }
        }
    }
}
