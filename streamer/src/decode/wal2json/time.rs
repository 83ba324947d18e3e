//! A commit's time, as wal2json prints it (`timestamptz_to_str`: ISO, in the
//! session's time zone, which is pinned to UTC).

use crate::datum::Malformed;

/// `2026-11-21 07:55:52.135824+00` in microseconds since the Unix epoch.
pub fn read(text: &[u8]) -> Result<i64, Malformed> {
    timestamp(text).ok_or(Malformed("a timestamp is not written as one"))
}

fn timestamp(text: &[u8]) -> Option<i64> {
    let mut rest = text;
    let year = digits(&mut rest, 4..=6)?;
    let month = after(&mut rest, b'-')?;
    let day = after(&mut rest, b'-')?;
    let hour = after(&mut rest, b' ')?;
    let minute = after(&mut rest, b':')?;
    let second = after(&mut rest, b':')?;
    let mut microsecond = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        rest = fraction;
        microsecond = digits(&mut rest, 1..=6)?;
        let written = fraction.len() - rest.len();
        microsecond *= 10_i64.pow(6 - written as u32);
    }
    let sign = match rest.split_first()? {
        (b'+', zone) => {
            rest = zone;
            1
        }
        (b'-', zone) => {
            rest = zone;
            -1
        }
        _ => return None,
    };
    let mut zone = digits(&mut rest, 2..=2)? * 3600;
    for unit in [60, 1] {
        if !rest.is_empty() {
            zone += after(&mut rest, b':')? * unit;
        }
    }
    let valid = rest.is_empty()
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    if !valid {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - sign * zone) * 1_000_000 + microsecond)
}

/// Two digits after a separator.
fn after(rest: &mut &[u8], separator: u8) -> Option<i64> {
    *rest = rest.strip_prefix(&[separator])?;
    digits(rest, 2..=2)
}

fn digits(rest: &mut &[u8], count: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let found = rest
        .iter()
        .take(*count.end())
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if !count.contains(&found) {
        return None;
    }
    let (digits, others) = rest.split_at(found);
    *rest = others;
    Some(
        digits
            .iter()
            .fold(0, |value, digit| value * 10 + i64::from(digit - b'0')),
    )
}

/// Days since 1970-01-01 in the Gregorian calendar. Years begin in March here,
/// so that the leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn timestamps_count_from_the_unix_epoch() {
        for (text, microseconds) in [
            ("1970-01-01 00:00:00+00", 0),
            ("2026-11-21 07:55:52.135824+00", 1_795_247_752_135_824),
            ("2000-02-29 23:59:59.5+00", 951_868_799_500_000),
            ("2026-11-21 13:25:52.1+05:30", 1_795_247_752_100_000),
            ("1969-12-31 19:00:00-05", 0),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(microseconds), "{text}");
        }
        for wrong in [
            "",
            "2026-11-21",
            "2026-11-21 07:55:52",
            "2026-13-21 07:55:52+00",
            "2026-11-21 07:55:52.+00",
            "2026-11-21 07:55:52+00x",
            "infinity",
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
