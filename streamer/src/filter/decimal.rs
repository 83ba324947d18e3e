//! numeric's arithmetic, exactly (`src/backend/utils/adt/numeric.c`): a whole
//! number and how many of its decimal digits stand after the point. A division
//! keeps as many digits as the server would; nothing passes through a float.

use std::cmp::Ordering;

use num_bigint::{BigInt, BigUint, Sign};

use super::failing::Failed;
use crate::datum::{Malformed, numeric::Numeric};

/// Digits after the point that a numeric can have (`NUMERIC_DSCALE_MAX`).
const SCALE_MAX: u32 = 16_383;
/// Digits before the point that a numeric can have (`NUMERIC_WEIGHT_MAX`).
const WHOLE_DIGITS_MAX: u64 = 131_072;

#[derive(Clone, Debug)]
pub enum Decimal {
    NegativeInfinity,
    Finite(Finite),
    Infinity,
    /// Equal to itself and greater than everything else.
    NaN,
}

/// `unscaled` × 10^-`scale`
#[derive(Clone, Debug)]
pub struct Finite {
    unscaled: BigInt,
    scale: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

fn power_of_ten(exponent: u32) -> BigUint {
    BigUint::from(10u8).pow(exponent)
}

impl Finite {
    /// The unscaled number under a larger scale.
    fn at_scale(&self, scale: u32) -> BigInt {
        match scale.checked_sub(self.scale) {
            None | Some(0) => self.unscaled.clone(),
            Some(more) => &self.unscaled * BigInt::from(power_of_ten(more)),
        }
    }

    /// Rounded half away from zero to `scale` digits after the point.
    fn rounded(&self, scale: u32) -> Finite {
        if scale >= self.scale {
            return Finite {
                unscaled: self.at_scale(scale),
                scale,
            };
        }
        let unit = power_of_ten(self.scale - scale);
        let magnitude = (self.unscaled.magnitude() * 2u8 + &unit) / (unit * 2u8);
        Finite {
            unscaled: BigInt::from_biguint(sign(&self.unscaled), magnitude),
            scale,
        }
    }

    /// The first digit to base 10,000 and its place, as the server stores
    /// them; both 0 for zero.
    fn leading(&self) -> (u32, i64) {
        let digits = self.unscaled.magnitude().to_string();
        if digits == "0" {
            return (0, 0);
        }
        // Digits before the point; below 1 it counts zeros after it.
        let whole = digits.len() as i64 - i64::from(self.scale);
        let weight = (whole - 1).div_euclid(4);
        let count = (whole - weight * 4) as usize;
        let mut first = 0;
        for place in 0..count {
            let digit = digits.as_bytes().get(place).map_or(0, |byte| byte - b'0');
            first = first * 10 + u32::from(digit);
        }
        (first, weight)
    }
}

fn sign(number: &BigInt) -> Sign {
    match number.sign() {
        Sign::Minus => Sign::Minus,
        _ => Sign::Plus,
    }
}

/// What numeric.c's `make_result` refuses.
fn checked(finite: Finite) -> Result<Decimal, Failed> {
    let finite = if finite.scale > SCALE_MAX {
        finite.rounded(SCALE_MAX)
    } else {
        finite
    };
    // bits × log10(2) is a cheap upper bound; only near the limit it is exact.
    let bits = finite.unscaled.bits();
    if bits > (WHOLE_DIGITS_MAX + u64::from(finite.scale)) * 332 / 100 {
        let digits = finite.unscaled.magnitude().to_string().len() as u64;
        if digits > WHOLE_DIGITS_MAX + u64::from(finite.scale) {
            return Err(Failed::out_of_range("value overflows numeric format"));
        }
    }
    Ok(Decimal::Finite(finite))
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Decimal::Finite(Finite {
            unscaled: value.into(),
            scale: 0,
        })
    }
}

impl Decimal {
    pub fn read(numeric: &Numeric<'_>) -> Result<Self, Malformed> {
        let mut text = Vec::new();
        numeric.write(&mut text)?;
        std::str::from_utf8(&text)
            .ok()
            .and_then(|text| Decimal::parse(text).ok().flatten())
            .ok_or(Malformed("a numeric cannot be read"))
    }

    /// `numeric_in` without its blanks around. `None`: no number.
    pub fn parse(text: &str) -> Result<Option<Self>, Failed> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let special = |name: &str| rest.eq_ignore_ascii_case(name);
        if special("nan") {
            // With a sign it is none.
            return Ok((rest.len() == text.len()).then_some(Decimal::NaN));
        }
        if special("infinity") || special("inf") {
            return Ok(Some(if negative {
                Decimal::NegativeInfinity
            } else {
                Decimal::Infinity
            }));
        }
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            None => (rest, 0),
            Some((mantissa, exponent)) => match exponent.parse::<i32>() {
                // What the server takes for overflow wherever it stands.
                Ok(exponent) if exponent.abs() < i32::MAX / 2 => (mantissa, i64::from(exponent)),
                _ => return Ok(None),
            },
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty()
            || !(whole.bytes().chain(fraction.bytes())).all(|byte| byte.is_ascii_digit())
        {
            return Ok(None);
        }
        let digits = [whole, fraction].concat();
        let scale = fraction.len() as i64 - exponent;
        let Some(mut unscaled) = BigUint::parse_bytes(digits.as_bytes(), 10) else {
            return Ok(None);
        };
        let overflow = || Failed::out_of_range("value overflows numeric format");
        let scale = if scale < 0 {
            if unscaled != BigUint::ZERO {
                let more = u32::try_from(-scale)
                    .ok()
                    .filter(|more| u64::from(*more) <= WHOLE_DIGITS_MAX)
                    .ok_or_else(overflow)?;
                unscaled *= power_of_ten(more);
            }
            0
        } else {
            u32::try_from(scale)
                .ok()
                .filter(|scale| *scale <= SCALE_MAX)
                .ok_or_else(overflow)?
        };
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        checked(Finite {
            unscaled: BigInt::from_biguint(sign, unscaled),
            scale,
        })
        .map(Some)
    }

    /// float8 and float4 to numeric: the number that `%.15g` (`%.6g`) prints.
    pub fn from_float(value: f64, digits: usize) -> Result<Self, Failed> {
        if value.is_nan() {
            return Ok(Decimal::NaN);
        }
        if value.is_infinite() {
            return Ok(if value > 0.0 {
                Decimal::Infinity
            } else {
                Decimal::NegativeInfinity
            });
        }
        let text = format!("{:.*e}", digits - 1, value);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa = if mantissa.contains('.') {
            mantissa.trim_end_matches('0').trim_end_matches('.')
        } else {
            mantissa
        };
        let read = Decimal::parse(&format!("{mantissa}e{exponent}"))?;
        read.ok_or_else(|| Failed::out_of_range("a float cannot be read as numeric"))
    }

    /// The nearest float8, as the server reads it from the number's text.
    pub fn to_f64(&self) -> Result<f64, Failed> {
        let value = match self {
            Decimal::NaN => return Ok(f64::NAN),
            Decimal::Infinity => return Ok(f64::INFINITY),
            Decimal::NegativeInfinity => return Ok(f64::NEG_INFINITY),
            Decimal::Finite(_) => self.to_string().parse().unwrap_or(f64::NAN),
        };
        if value.is_finite() && (value != 0.0 || self.is_zero()) {
            Ok(value)
        } else {
            Err(Failed::out_of_range(format!(
                "\"{self}\" is out of range for type double precision"
            )))
        }
    }

    /// The nearest float4, likewise.
    pub fn to_f32(&self) -> Result<f32, Failed> {
        let value: f32 = match self {
            Decimal::NaN => return Ok(f32::NAN),
            Decimal::Infinity => return Ok(f32::INFINITY),
            Decimal::NegativeInfinity => return Ok(f32::NEG_INFINITY),
            Decimal::Finite(_) => self.to_string().parse().unwrap_or(f32::NAN),
        };
        if value.is_finite() && (value != 0.0 || self.is_zero()) {
            Ok(value)
        } else {
            Err(Failed::out_of_range(format!(
                "\"{self}\" is out of range for type real"
            )))
        }
    }

    /// The nearest whole number, halves away from zero. `None`: none in `i64`.
    pub fn to_i64(&self) -> Option<i64> {
        match self {
            Decimal::Finite(finite) => i64::try_from(&finite.rounded(0).unscaled).ok(),
            _ => None,
        }
    }

    pub fn is_finite(&self) -> bool {
        matches!(self, Decimal::Finite(_))
    }

    fn is_zero(&self) -> bool {
        matches!(self, Decimal::Finite(finite) if finite.unscaled.sign() == Sign::NoSign)
    }

    /// -1, 0 or 1. NaN counts as positive.
    fn signum(&self) -> i32 {
        match self {
            Decimal::NegativeInfinity => -1,
            Decimal::Infinity | Decimal::NaN => 1,
            Decimal::Finite(finite) => match finite.unscaled.sign() {
                Sign::Minus => -1,
                Sign::NoSign => 0,
                Sign::Plus => 1,
            },
        }
    }

    fn infinity(sign: i32) -> Self {
        match sign {
            0 => Decimal::NaN,
            1.. => Decimal::Infinity,
            _ => Decimal::NegativeInfinity,
        }
    }

    pub fn negated(self) -> Self {
        match self {
            Decimal::NaN => Decimal::NaN,
            Decimal::Infinity => Decimal::NegativeInfinity,
            Decimal::NegativeInfinity => Decimal::Infinity,
            Decimal::Finite(Finite { unscaled, scale }) => Decimal::Finite(Finite {
                unscaled: -unscaled,
                scale,
            }),
        }
    }

    pub fn absolute(self) -> Self {
        if self.signum() < 0 {
            self.negated()
        } else {
            self
        }
    }

    /// Fits into `numeric(precision, scale)` (`apply_typmod`).
    pub fn with_precision(self, precision: u32, scale: i32) -> Result<Self, Failed> {
        let overflow = || {
            Failed::out_of_range("numeric field overflow").detail(format!(
                "a field with precision {precision}, scale {scale} must round to an absolute value less than 10^{}",
                i64::from(precision) - i64::from(scale)
            ))
        };
        let finite = match &self {
            Decimal::NaN => return Ok(Decimal::NaN),
            Decimal::Finite(finite) => finite,
            _ => return Err(overflow()),
        };
        let rounded = match u32::try_from(scale) {
            Ok(scale) => finite.rounded(scale),
            // Rounds before the point (15 and later).
            Err(_) => {
                let shift = power_of_ten(scale.unsigned_abs());
                let shifted = Finite {
                    unscaled: finite.unscaled.clone(),
                    scale: finite.scale + scale.unsigned_abs(),
                };
                Finite {
                    unscaled: shifted.rounded(0).unscaled * BigInt::from(shift),
                    scale: 0,
                }
            }
        };
        let limit = i64::from(precision) - i64::from(scale) + i64::from(rounded.scale);
        let fits = u32::try_from(limit)
            .is_ok_and(|limit| *rounded.unscaled.magnitude() < power_of_ten(limit));
        if fits || rounded.unscaled.sign() == Sign::NoSign {
            Ok(Decimal::Finite(rounded))
        } else {
            Err(overflow())
        }
    }

    pub fn arithmetic(&self, operation: Arithmetic, other: &Self) -> Result<Self, Failed> {
        match (self, other) {
            (Decimal::Finite(left), Decimal::Finite(right)) => finite(operation, left, right),
            _ => self.arithmetic_of_specials(operation, other),
        }
    }

    /// At least one of the two is not finite.
    fn arithmetic_of_specials(&self, operation: Arithmetic, other: &Self) -> Result<Self, Failed> {
        if matches!(self, Decimal::NaN) || matches!(other, Decimal::NaN) {
            return Ok(Decimal::NaN);
        }
        Ok(match operation {
            Arithmetic::Add => match (self, other) {
                (Decimal::Infinity, Decimal::NegativeInfinity)
                | (Decimal::NegativeInfinity, Decimal::Infinity) => Decimal::NaN,
                (infinity, Decimal::Finite(_)) | (_, infinity) => infinity.clone(),
            },
            Arithmetic::Subtract => {
                return self.arithmetic_of_specials(Arithmetic::Add, &other.clone().negated());
            }
            Arithmetic::Multiply => Decimal::infinity(self.signum() * other.signum()),
            Arithmetic::Divide => match (self.is_finite(), other.is_finite()) {
                (false, false) => Decimal::NaN,
                (false, true) if other.is_zero() => return Err(Failed::division_by_zero()),
                (false, true) => Decimal::infinity(self.signum() * other.signum()),
                (true, _) => Decimal::from(0),
            },
            Arithmetic::Modulo => match (self.is_finite(), other.is_zero()) {
                (false, true) => return Err(Failed::division_by_zero()),
                (false, false) => Decimal::NaN,
                (true, _) => self.clone(),
            },
        })
    }
}

fn finite(operation: Arithmetic, left: &Finite, right: &Finite) -> Result<Decimal, Failed> {
    let scale = left.scale.max(right.scale);
    checked(match operation {
        Arithmetic::Add => Finite {
            unscaled: left.at_scale(scale) + right.at_scale(scale),
            scale,
        },
        Arithmetic::Subtract => Finite {
            unscaled: left.at_scale(scale) - right.at_scale(scale),
            scale,
        },
        Arithmetic::Multiply => Finite {
            unscaled: &left.unscaled * &right.unscaled,
            scale: left.scale + right.scale,
        },
        Arithmetic::Divide => divided(left, right)?,
        Arithmetic::Modulo => {
            if right.unscaled.sign() == Sign::NoSign {
                return Err(Failed::division_by_zero());
            }
            Finite {
                // Truncates, so that the sign is the dividend's.
                unscaled: left.at_scale(scale) % right.at_scale(scale),
                scale,
            }
        }
    })
}

fn divided(left: &Finite, right: &Finite) -> Result<Finite, Failed> {
    if right.unscaled.sign() == Sign::NoSign {
        return Err(Failed::division_by_zero());
    }
    // `select_div_scale`: at least 16 significant digits, and no fewer after
    // the point than either operand shows.
    let ((first, weight), (other_first, other_weight)) = (left.leading(), right.leading());
    let quotient_weight = weight - other_weight - i64::from(first <= other_first);
    let scale = (16 - quotient_weight * 4)
        .max(i64::from(left.scale))
        .max(i64::from(right.scale))
        .clamp(0, 1000) as u32;
    // left / right × 10^scale, rounded half away from zero
    let mut dividend = left.unscaled.magnitude().clone();
    let mut divisor = right.unscaled.magnitude().clone();
    let shift = i64::from(scale) + i64::from(right.scale) - i64::from(left.scale);
    match u32::try_from(shift) {
        Ok(shift) => dividend *= power_of_ten(shift),
        Err(_) => divisor *= power_of_ten(shift.unsigned_abs() as u32),
    }
    let quotient = (dividend * 2u8 + &divisor) / (divisor * 2u8);
    let sign = if sign(&left.unscaled) == sign(&right.unscaled) {
        Sign::Plus
    } else {
        Sign::Minus
    };
    Ok(Finite {
        unscaled: BigInt::from_biguint(sign, quotient),
        scale,
    })
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    /// By value: 1.0 is as much as 1.00.
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |decimal: &Decimal| match decimal {
            Decimal::NegativeInfinity => 0,
            Decimal::Finite(_) => 1,
            Decimal::Infinity => 2,
            Decimal::NaN => 3,
        };
        match (self, other) {
            (Decimal::Finite(left), Decimal::Finite(right)) => {
                match self.signum().cmp(&other.signum()) {
                    Ordering::Equal if left.scale == right.scale => {
                        left.unscaled.cmp(&right.unscaled)
                    }
                    Ordering::Equal => {
                        let scale = left.scale.max(right.scale);
                        left.at_scale(scale).cmp(&right.at_scale(scale))
                    }
                    unequal => unequal,
                }
            }
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finite { unscaled, scale } = match self {
            Decimal::NaN => return f.write_str("NaN"),
            Decimal::Infinity => return f.write_str("Infinity"),
            Decimal::NegativeInfinity => return f.write_str("-Infinity"),
            Decimal::Finite(finite) => finite,
        };
        let scale = *scale as usize;
        let digits = unscaled.magnitude().to_string();
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        if unscaled.sign() == Sign::Minus {
            f.write_str("-")?;
        }
        f.write_str(whole)?;
        if scale > 0 {
            write!(f, ".{fraction}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap().unwrap()
    }

    fn calculated(left: &str, operation: Arithmetic, right: &str) -> String {
        match decimal(left).arithmetic(operation, &decimal(right)) {
            Ok(result) => result.to_string(),
            Err(failed) => failed.message,
        }
    }

    #[test]
    fn arithmetic_has_the_servers_digits() {
        use Arithmetic::*;
        for (left, operation, right, expected) in [
            ("0.1", Add, "0.20", "0.30"),
            ("1", Subtract, "1.000", "0.000"),
            ("1.5", Multiply, "-2.25", "-3.375"),
            ("1", Divide, "3", "0.33333333333333333333"),
            ("10", Divide, "4", "2.5000000000000000"),
            ("100000000000000000000", Divide, "3", "33333333333333333333"),
            ("-7.5", Modulo, "2", "-1.5"),
            ("1", Divide, "0", "division by zero"),
            ("NaN", Divide, "0", "NaN"),
            ("Infinity", Multiply, "0", "NaN"),
            ("Infinity", Subtract, "Infinity", "NaN"),
            ("5", Divide, "-Infinity", "0"),
            ("5", Modulo, "Infinity", "5"),
        ] {
            assert_eq!(
                calculated(left, operation, right),
                expected,
                "{left} {operation:?} {right}"
            );
        }
    }

    #[test]
    fn values_are_ordered_whatever_their_scale() {
        let mut values: Vec<Decimal> = ["NaN", "1.50", "-Infinity", "1.5", "Infinity", "-2", "0"]
            .map(decimal)
            .into();
        values.sort();
        let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["-Infinity", "-2", "0", "1.50", "1.5", "Infinity", "NaN"]
        );
        assert_eq!(decimal("1.50").cmp(&decimal("1.5")), Ordering::Equal);
    }

    #[test]
    fn a_precision_rounds_and_bounds() {
        let fit = |text: &str, precision, scale| {
            decimal(text)
                .with_precision(precision, scale)
                .map(|fits| fits.to_string())
                .map_err(|failed| failed.message)
        };
        assert_eq!(fit("1.255", 4, 2).unwrap(), "1.26");
        assert_eq!(fit("-1.255", 4, 2).unwrap(), "-1.26");
        assert_eq!(fit("99.995", 4, 2).unwrap_err(), "numeric field overflow");
        assert_eq!(fit("12345", 3, -2).unwrap(), "12300");
        assert!(fit("Infinity", 3, 0).is_err());
    }
}
