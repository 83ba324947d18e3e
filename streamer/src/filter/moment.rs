//! Dates, times and intervals as literals.

use super::calendar::{self, DAY_US, Span};
use super::failing::Failed;
use super::input::{is_space, unread};
use super::value::Type;
use crate::event::Interval;

/// Takes an unsigned number of between `least` and `most` digits.
pub(super) fn number(rest: &mut &str, least: usize, most: usize) -> Option<i64> {
    let count = rest
        .bytes()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if !(least..=most).contains(&count) {
        return None;
    }
    let (digits, after) = rest.split_at(count);
    *rest = after;
    digits.parse().ok()
}

pub(super) fn skip(rest: &mut &str, character: char) -> bool {
    match rest.strip_prefix(character) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

pub(super) fn skip_spaces(rest: &mut &str) -> bool {
    let trimmed = rest.trim_start_matches(is_space);
    let skipped = trimmed.len() < rest.len();
    *rest = trimmed;
    skipped
}

/// A fraction of at most six digits after a point, in millionths.
pub(super) fn fraction(rest: &mut &str) -> Option<i64> {
    if !skip(rest, '.') {
        return Some(0);
    }
    let before = rest.len();
    let value = number(rest, 1, 6)?;
    Some(value * 10i64.pow(6 - (before - rest.len()) as u32))
}

/// `HH:MM[:SS[.fraction]]`, up to 24:00:00, in microseconds.
pub(super) fn clock(rest: &mut &str) -> Option<i64> {
    let hours = number(rest, 1, 2)?;
    if !skip(rest, ':') {
        return None;
    }
    let minutes = number(rest, 1, 2)?;
    let (seconds, micros) = if skip(rest, ':') {
        (number(rest, 1, 2)?, fraction(rest)?)
    } else {
        (0, 0)
    };
    let total = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros;
    (minutes < 60 && seconds <= 60 && hours <= 24 && total <= DAY_US).then_some(total)
}

/// Seconds west of UTC, if there is a zone; `None`: one that is not read.
pub(super) fn zone(rest: &mut &str) -> Option<Option<i32>> {
    let before = *rest;
    skip_spaces(rest);
    for name in ["Z", "z", "UTC", "utc"] {
        if let Some(after) = rest.strip_prefix(name) {
            *rest = after;
            return Some(Some(0));
        }
    }
    let east = if skip(rest, '+') {
        1
    } else if skip(rest, '-') {
        -1
    } else {
        *rest = before;
        return Some(None);
    };
    let hours = number(rest, 2, 2)?;
    let mut parts = [0, 0];
    for part in &mut parts {
        if skip(rest, ':') || rest.starts_with(|c: char| c.is_ascii_digit()) {
            *part = number(rest, 2, 2).filter(|part| *part < 60)?;
        }
    }
    let seconds = (hours * 60 + parts[0]) * 60 + parts[1];
    (hours <= 15).then_some(Some((-east * seconds) as i32))
}

/// A day, the microseconds after its midnight, and the zone.
struct Moment {
    days: i64,
    time: i64,
    west: Option<i32>,
}

/// `YYYY-MM-DD[{ |T}time[zone]][ BC]`
fn moment(text: &str) -> Option<Moment> {
    let mut rest = text;
    let year = number(&mut rest, 4, 7)?;
    let mut part = || {
        skip(&mut rest, '-')
            .then(|| number(&mut rest, 1, 2))
            .flatten()
    };
    let (month, day) = (part()?, part()?);
    let mut time = 0;
    let mut west = None;
    let mut after = rest;
    if skip(&mut after, 'T') || skip_spaces(&mut after) {
        if after.starts_with(|c: char| c.is_ascii_digit()) {
            rest = after;
            time = clock(&mut rest)?;
            west = zone(&mut rest)?;
        } else if rest.starts_with('T') {
            return None;
        }
    }
    skip_spaces(&mut rest);
    let before_christ = match rest.to_ascii_uppercase().as_str() {
        "" | "AD" => false,
        "BC" => true,
        _ => return None,
    };
    let year_in_era = year;
    let year = if before_christ { 1 - year } else { year };
    let exists = year_in_era > 0
        && (1..=12).contains(&month)
        && (1..=calendar::days_in_month(year, month)).contains(&day);
    exists.then(|| Moment {
        days: calendar::days_of(year, month, day),
        time,
        west,
    })
}

pub(super) fn date(trimmed: &str, text: &str) -> Result<i32, Failed> {
    match trimmed.to_ascii_lowercase().as_str() {
        "infinity" => return Ok(calendar::DATE_NO_END),
        "-infinity" => return Ok(calendar::DATE_NO_BEGIN),
        "epoch" => return Ok(-10_957),
        _ => {}
    }
    // A time after it does not count.
    let moment = moment(trimmed).ok_or_else(|| unread(Type::Date, text))?;
    calendar::date(moment.days)
}

pub(super) fn timestamp(trimmed: &str, text: &str, with_zone: bool) -> Result<i64, Failed> {
    match trimmed.to_ascii_lowercase().as_str() {
        "infinity" => return Ok(calendar::NO_END),
        "-infinity" => return Ok(calendar::NO_BEGIN),
        "epoch" => return Ok(-10_957 * DAY_US),
        _ => {}
    }
    let moment = moment(trimmed).ok_or_else(|| unread(Type::Timestamp, text))?;
    // Without a zone in its type, one in the text does not count.
    let west = if with_zone {
        moment.west.unwrap_or(0)
    } else {
        0
    };
    calendar::timestamp(
        i128::from(moment.days) * i128::from(DAY_US)
            + i128::from(moment.time)
            + i128::from(west) * 1_000_000,
    )
}

/// Gathers an interval's fields.
#[derive(Default)]
struct Fields {
    months: i64,
    days: i64,
    microseconds: i128,
}

impl Fields {
    fn add(&mut self, value: i64, unit: &str) -> Option<()> {
        let value = i128::from(value);
        let times = |factor: i128| i64::try_from(value * factor).ok();
        let months = |factor| self.months.checked_add(times(factor)?);
        let days = |factor| self.days.checked_add(times(factor)?);
        match unit {
            "millennium" | "millennia" | "mil" | "mils" => self.months = months(12_000)?,
            "century" | "centuries" | "cent" | "c" => self.months = months(1200)?,
            "decade" | "decades" | "dec" | "decs" => self.months = months(120)?,
            "year" | "years" | "yr" | "yrs" | "y" => self.months = months(12)?,
            "month" | "months" | "mon" | "mons" => self.months = months(1)?,
            "week" | "weeks" | "w" => self.days = days(7)?,
            "day" | "days" | "d" => self.days = days(1)?,
            "hour" | "hours" | "hr" | "hrs" | "h" => self.microseconds += value * 3_600_000_000,
            "minute" | "minutes" | "min" | "mins" | "m" => self.microseconds += value * 60_000_000,
            "second" | "seconds" | "sec" | "secs" | "s" => self.microseconds += value * 1_000_000,
            "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => {
                self.microseconds += value * 1000;
            }
            "microsecond" | "microseconds" | "usec" | "usecs" | "us" => self.microseconds += value,
            _ => return None,
        }
        Some(())
    }

    fn interval(self, sign: i64) -> Result<Span, Failed> {
        let fields = (|| {
            Some(Interval {
                microseconds: i64::try_from(self.microseconds * i128::from(sign)).ok()?,
                days: i32::try_from(self.days * sign).ok()?,
                months: i32::try_from(self.months * sign).ok()?,
            })
        })();
        (fields.map(Span::Finite))
            .ok_or_else(|| Failed::datetime("interval field value out of range"))
    }
}

/// `None`: a form that is not read.
pub(super) fn interval(text: &str) -> Option<Result<Span, Failed>> {
    match text.to_ascii_lowercase().as_str() {
        "infinity" => return Some(Ok(Span::Infinite { negative: false })),
        "-infinity" => return Some(Ok(Span::Infinite { negative: true })),
        _ => {}
    }
    if let Some(designators) = text.strip_prefix('P') {
        return iso_interval(designators);
    }
    let lower = text.to_ascii_lowercase();
    let mut rest = lower.as_str();
    let mut fields = Fields::default();
    let mut sign = 1;
    let mut any = false;
    if skip(&mut rest, '@') {
        skip_spaces(&mut rest);
    }
    while !rest.is_empty() {
        if any && rest.trim_end_matches(is_space) == "ago" {
            sign = -1;
            break;
        }
        any = true;
        let negative = if skip(&mut rest, '-') {
            true
        } else {
            skip(&mut rest, '+');
            false
        };
        let signed = |value: i64| if negative { -value } else { value };
        let value = number(&mut rest, 1, 18)?;
        if skip(&mut rest, ':') {
            let minutes = number(&mut rest, 1, 2).filter(|minutes| *minutes < 60)?;
            let (seconds, micros) = if skip(&mut rest, ':') {
                (
                    number(&mut rest, 1, 2).filter(|seconds| *seconds <= 60)?,
                    fraction(&mut rest)?,
                )
            } else {
                (0, 0)
            };
            let time = (i128::from(value) * 3600 + i128::from(minutes * 60 + seconds)) * 1_000_000
                + i128::from(micros);
            fields.microseconds += if negative { -time } else { time };
        } else {
            let micros = fraction(&mut rest)?;
            skip_spaces(&mut rest);
            let end = rest
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(rest.len());
            let (unit, after) = rest.split_at(end);
            rest = after;
            if micros != 0 && !matches!(unit, "second" | "seconds" | "sec" | "secs" | "s") {
                return None;
            }
            fields.add(signed(value), unit)?;
            fields.microseconds += i128::from(signed(micros));
        }
        skip_spaces(&mut rest);
    }
    any.then(|| fields.interval(sign))
}

/// ISO 8601 with designators, after the P.
pub(super) fn iso_interval(text: &str) -> Option<Result<Span, Failed>> {
    let mut rest = text;
    let mut fields = Fields::default();
    let (mut in_time, mut any) = (false, false);
    while !rest.is_empty() {
        if !in_time && skip(&mut rest, 'T') {
            in_time = true;
            continue;
        }
        let negative = skip(&mut rest, '-');
        let value = number(&mut rest, 1, 18)?;
        let micros = fraction(&mut rest)?;
        let unit = rest.chars().next()?;
        rest = &rest[unit.len_utf8()..];
        let unit = match (in_time, unit) {
            (false, 'Y') => "year",
            (false, 'M') => "month",
            (false, 'W') => "week",
            (false, 'D') => "day",
            (true, 'H') => "hour",
            (true, 'M') => "minute",
            (true, 'S') => "second",
            _ => return None,
        };
        if micros != 0 && unit != "second" {
            return None;
        }
        fields.add(if negative { -value } else { value }, unit)?;
        fields.microseconds += i128::from(if negative { -micros } else { micros });
        any = true;
    }
    any.then(|| fields.interval(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_add_up_past_any_interval_are_out_of_range() {
        let field = "999999999999999999 mons ";
        for text in [field.repeat(10), field.replace("mons", "days").repeat(10)] {
            assert!(!matches!(interval(text.trim()), Some(Ok(_))), "{text}");
        }
        assert!(matches!(
            interval("1 mon 2 mons"),
            Some(Ok(Span::Finite(Interval { months: 3, .. })))
        ));
    }
}
