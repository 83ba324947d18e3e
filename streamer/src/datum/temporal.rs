//! Dates and times as text: DateStyle ISO, IntervalStyle postgres, UTC
//! (`src/backend/utils/adt/datetime.c`). Integers only.

use super::{Layout, Malformed, two_digits};

const DAY_US: i64 = 86_400_000_000;

/// Days from 0000-03-01 to 2000-01-01, proleptic Gregorian.
const DAYS_TO_2000: i64 = 730_425;

/// `DATEVAL_NOBEGIN`, `DATEVAL_NOEND` (`src/include/utils/date.h`).
const DATE_NO_BEGIN: i32 = i32::MIN;
const DATE_NO_END: i32 = i32::MAX;

/// `DT_NOBEGIN`, `DT_NOEND` (`src/include/datatype/timestamp.h`).
const TIMESTAMP_NO_BEGIN: i64 = i64::MIN;
const TIMESTAMP_NO_END: i64 = i64::MAX;

/// How a timestamp is set out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `2026-11-21 04:24:00.5+00`
    Postgres,
    /// `2026-11-21T04:24:00.5Z`; infinity and years before 1 as above.
    Iso8601,
}

/// `src/include/datatype/timestamp.h`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub microseconds: i64,
    pub days: i32,
    pub months: i32,
}

impl Interval {
    pub(crate) fn parse(bytes: &[u8; 16], layout: Layout) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
        let [i, j, k, l, m, n, o, p] = rest;
        Interval {
            microseconds: layout.u64([a, b, c, d, e, f, g, h]) as i64,
            days: layout.u32([i, j, k, l]) as i32,
            months: layout.u32([m, n, o, p]) as i32,
        }
    }

    const NO_BEGIN: Interval = Interval {
        microseconds: i64::MIN,
        days: i32::MIN,
        months: i32::MIN,
    };
    const NO_END: Interval = Interval {
        microseconds: i64::MAX,
        days: i32::MAX,
        months: i32::MAX,
    };

    /// The text of an infinite interval, where the server knows those.
    pub(crate) fn infinite_text(self, layout: Layout) -> Option<&'static str> {
        match self {
            _ if !layout.infinite_intervals => None,
            Self::NO_BEGIN => Some("-infinity"),
            Self::NO_END => Some("infinity"),
            _ => None,
        }
    }

    /// Appends the text. A part after a negative one shows its sign, and the
    /// time part is left out where it is zero and something else is not.
    pub fn write(self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut after_negative = false;
        for (value, unit) in [
            (self.months / 12, "year"),
            (self.months % 12, "mon"),
            (self.days, "day"),
        ] {
            if value == 0 {
                continue;
            }
            if out.len() > start {
                out.push(b' ');
            }
            if after_negative && value > 0 {
                out.push(b'+');
            }
            write_integer(value, out);
            out.push(b' ');
            out.extend_from_slice(unit.as_bytes());
            if value != 1 {
                out.push(b's');
            }
            after_negative = value < 0;
        }
        if out.len() > start {
            if self.microseconds == 0 {
                return;
            }
            out.push(b' ');
        }
        if self.microseconds < 0 {
            out.push(b'-');
        } else if after_negative {
            out.push(b'+');
        }
        write_clock(self.microseconds.unsigned_abs(), out);
    }
}

#[inline]
fn write_integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Year, month and day of a count of days since 2000-01-01. The year counts
/// astronomically: 0 is 1 BC.
#[inline]
fn civil(days: i64) -> (i64, u32, u32) {
    // Years that begin in March put the leap day last; 400 of them are an era
    // of 146,097 days.
    let days = days + DAYS_TO_2000;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097) as u32;
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let day = day - (153 * march_month + 2) / 5 + 1;
    let (month, carry) = if march_month < 10 {
        (march_month + 3, 0)
    } else {
        (march_month - 9, 1)
    };
    (era * 400 + i64::from(year) + carry, month, day)
}

/// Appends year-month-day, the year in at least four digits, counted from 1 in
/// either direction.
#[inline]
fn write_civil((year, month, day): (i64, u32, u32), out: &mut Vec<u8>) {
    let year = if year > 0 { year } else { 1 - year };
    if year < 10_000 {
        let year = year as u32;
        let [a, b] = two_digits(year / 100);
        let [c, d] = two_digits(year % 100);
        let [e, f] = two_digits(month);
        let [g, h] = two_digits(day);
        out.extend_from_slice(&[a, b, c, d, b'-', e, f, b'-', g, h]);
    } else {
        let [e, f] = two_digits(month);
        let [g, h] = two_digits(day);
        write_integer(year, out);
        out.extend_from_slice(&[b'-', e, f, b'-', g, h]);
    }
}

/// Appends a date: days since 2000-01-01.
pub fn write_date(days: i32, out: &mut Vec<u8>) {
    match days {
        DATE_NO_BEGIN => out.extend_from_slice(b"-infinity"),
        DATE_NO_END => out.extend_from_slice(b"infinity"),
        _ => {
            let date = civil(i64::from(days));
            write_civil(date, out);
            if date.0 <= 0 {
                out.extend_from_slice(b" BC");
            }
        }
    }
}

/// Appends hours, minutes, seconds and as much of the fraction as is not
/// zero. Hours may have more than two digits (intervals).
#[inline]
fn write_clock(microseconds: u64, out: &mut Vec<u8>) {
    let seconds = microseconds / 1_000_000;
    let fraction = (microseconds % 1_000_000) as u32;
    let hours = seconds / 3600;
    let rest = (seconds % 3600) as u32;
    if hours < 100 {
        out.extend_from_slice(&two_digits(hours as u32));
    } else {
        write_integer(hours, out);
    }
    let [a, b] = two_digits(rest / 60);
    let [c, d] = two_digits(rest % 60);
    out.extend_from_slice(&[b':', a, b, b':', c, d]);
    if fraction != 0 {
        let [a, b] = two_digits(fraction / 10_000);
        let [c, d] = two_digits(fraction / 100 % 100);
        let [e, f] = two_digits(fraction % 100);
        let text = [b'.', a, b, c, d, e, f];
        let mut end = text.len();
        while text[end - 1] == b'0' {
            end -= 1;
        }
        out.extend_from_slice(&text[..end]);
    }
}

/// Appends a time: microseconds since midnight, 24:00:00 included.
pub fn write_time(microseconds: i64, out: &mut Vec<u8>) -> Result<(), Malformed> {
    match u64::try_from(microseconds) {
        Ok(microseconds) if microseconds <= DAY_US as u64 => {
            write_clock(microseconds, out);
            Ok(())
        }
        _ => Err(Malformed("a time is not within a day")),
    }
}

/// Appends a time with its zone, which is stored in seconds west of UTC.
pub fn write_timetz(microseconds: i64, west: i32, out: &mut Vec<u8>) -> Result<(), Malformed> {
    write_time(microseconds, out)?;
    out.push(if west <= 0 { b'+' } else { b'-' });
    let seconds = west.unsigned_abs();
    if seconds >= 100 * 3600 {
        return Err(Malformed("a time zone is not within a day"));
    }
    out.extend_from_slice(&two_digits(seconds / 3600));
    if !seconds.is_multiple_of(3600) {
        out.push(b':');
        out.extend_from_slice(&two_digits(seconds / 60 % 60));
        if !seconds.is_multiple_of(60) {
            out.push(b':');
            out.extend_from_slice(&two_digits(seconds % 60));
        }
    }
    Ok(())
}

/// Appends a timestamp: microseconds since 2000-01-01 00:00, in UTC when it
/// has a zone.
#[inline]
pub fn write_timestamp(microseconds: i64, with_zone: bool, form: Form, out: &mut Vec<u8>) {
    match microseconds {
        TIMESTAMP_NO_BEGIN => return out.extend_from_slice(b"-infinity"),
        TIMESTAMP_NO_END => return out.extend_from_slice(b"infinity"),
        _ => {}
    }
    let date = civil(microseconds.div_euclid(DAY_US));
    let before_christ = date.0 <= 0;
    let form = if before_christ { Form::Postgres } else { form };
    write_civil(date, out);
    out.push(match form {
        Form::Postgres => b' ',
        Form::Iso8601 => b'T',
    });
    write_clock(microseconds.rem_euclid(DAY_US) as u64, out);
    if with_zone {
        out.extend_from_slice(match form {
            Form::Postgres => b"+00",
            Form::Iso8601 => b"Z",
        });
    }
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, Interval, write_date, write_time, write_timestamp, write_timetz};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_read_as_the_server_prints_them() {
        for (days, expected) in [
            (0, "2000-01-01"),
            (59, "2000-02-29"),
            (9821, "2026-11-21"),
            (-730_119, "0001-01-01"),
            (-730_120, "0001-12-31 BC"),
            (-730_485, "0001-01-01 BC"),
            (-2_451_545, "4714-11-24 BC"),
            (2_145_031_948, "5874897-12-31"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(text(|out| write_date(days, out)), expected);
        }
    }

    #[test]
    fn timestamps_have_two_forms() {
        for (us, postgres, iso) in [
            (0, "2000-01-01 00:00:00+00", "2000-01-01T00:00:00Z"),
            (
                -1,
                "1999-12-31 23:59:59.999999+00",
                "1999-12-31T23:59:59.999999Z",
            ),
            (
                848_550_240_500_000,
                "2026-11-21 04:24:00.5+00",
                "2026-11-21T04:24:00.5Z",
            ),
            (
                -63_082_368_000_000_000,
                "0001-12-31 00:00:00+00 BC",
                "0001-12-31 00:00:00+00 BC",
            ),
            (i64::MAX, "infinity", "infinity"),
            (i64::MIN, "-infinity", "-infinity"),
            (
                9_223_371_331_199_999_999,
                "294276-12-31 23:59:59.999999+00",
                "294276-12-31T23:59:59.999999Z",
            ),
            (
                -211_813_488_000_000_000,
                "4714-11-24 00:00:00+00 BC",
                "4714-11-24 00:00:00+00 BC",
            ),
        ] {
            assert_eq!(
                text(|out| write_timestamp(us, true, Form::Postgres, out)),
                postgres
            );
            assert_eq!(
                text(|out| write_timestamp(us, true, Form::Iso8601, out)),
                iso
            );
        }
        assert_eq!(
            text(|out| write_timestamp(0, false, Form::Iso8601, out)),
            "2000-01-01T00:00:00"
        );
    }

    #[test]
    fn times_reach_to_24_hours_and_zones_to_seconds() {
        assert_eq!(
            text(|out| write_time(86_400_000_000, out).unwrap()),
            "24:00:00"
        );
        assert!(write_time(86_400_000_001, &mut Vec::new()).is_err());
        assert!(write_time(-1, &mut Vec::new()).is_err());
        for (west, expected) in [
            (0, "00:00:00.1+00"),
            (-19_800, "00:00:00.1+05:30"),
            (18_000, "00:00:00.1-05"),
            (57_599, "00:00:00.1-15:59:59"),
            (-1, "00:00:00.1+00:00:01"),
        ] {
            assert_eq!(
                text(|out| write_timetz(100_000, west, out).unwrap()),
                expected
            );
        }
    }

    #[test]
    fn intervals_show_every_combination_of_signs() {
        for (months, days, microseconds, expected) in [
            (0, 0, 0, "00:00:00"),
            (14, 3, 14_706_789_000, "1 year 2 mons 3 days 04:05:06.789"),
            (
                -14,
                -3,
                -14_706_789_000,
                "-1 years -2 mons -3 days -04:05:06.789",
            ),
            (-1, 1, 0, "-1 mons +1 day"),
            (1, -1, 1, "1 mon -1 days +00:00:00.000001"),
            (-10, 0, 3_600_000_000, "-10 mons +01:00:00"),
            (0, 1, -1_000_000, "1 day -00:00:01"),
            (0, 0, 3_600_000_000_000, "1000:00:00"),
            (
                i32::MIN,
                i32::MIN,
                i64::MIN,
                "-178956970 years -8 mons -2147483648 days -2562047788:00:54.775808",
            ),
        ] {
            let interval = Interval {
                microseconds,
                days,
                months,
            };
            assert_eq!(text(|out| interval.write(out)), expected);
        }
    }
}
