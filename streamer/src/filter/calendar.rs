//! Dates, timestamps and intervals: how they are compared, added and
//! subtracted (`src/backend/utils/adt/{date,timestamp}.c`), in UTC.

use super::failing::Failed;
use crate::event::Interval;

pub const DAY_US: i64 = 86_400_000_000;

/// `-infinity` and `infinity` of a date.
pub const DATE_NO_BEGIN: i32 = i32::MIN;
pub const DATE_NO_END: i32 = i32::MAX;
/// `-infinity` and `infinity` of a timestamp.
pub const NO_BEGIN: i64 = i64::MIN;
pub const NO_END: i64 = i64::MAX;

/// 4714-11-24 BC to before 5874898-01-01 (`IS_VALID_DATE`).
const DATES: std::ops::Range<i64> = -2_451_545..2_145_031_949;
/// 4714-11-24 BC to before 294277-01-01 (`IS_VALID_TIMESTAMP`).
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// Days from 0000-03-01 to 2000-01-01, proleptic Gregorian.
const DAYS_TO_2000: i64 = 730_425;

/// An interval, or one of the two that are infinite (17 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Finite(Interval),
    Infinite { negative: bool },
}

impl Span {
    /// What intervals are compared by: a month counts 30 days, a day 24 hours
    /// (`interval_cmp_value`).
    pub fn length(self) -> i128 {
        match self {
            Span::Finite(interval) => {
                let days = i64::from(interval.months) * 30 + i64::from(interval.days);
                i128::from(days) * i128::from(DAY_US) + i128::from(interval.microseconds)
            }
            Span::Infinite { negative: true } => i128::MIN,
            Span::Infinite { negative: false } => i128::MAX,
        }
    }

    pub fn negated(self) -> Result<Self, Failed> {
        match self {
            Span::Infinite { negative } => Ok(Span::Infinite {
                negative: !negative,
            }),
            Span::Finite(interval) => {
                let negated = (|| {
                    Some(Interval {
                        microseconds: interval.microseconds.checked_neg()?,
                        days: interval.days.checked_neg()?,
                        months: interval.months.checked_neg()?,
                    })
                })();
                negated.map(Span::Finite).ok_or_else(interval_out_of_range)
            }
        }
    }

    pub fn plus(self, other: Self) -> Result<Self, Failed> {
        match (self, other) {
            (Span::Finite(left), Span::Finite(right)) => {
                let sum = (|| {
                    Some(Interval {
                        microseconds: left.microseconds.checked_add(right.microseconds)?,
                        days: left.days.checked_add(right.days)?,
                        months: left.months.checked_add(right.months)?,
                    })
                })();
                sum.map(Span::Finite).ok_or_else(interval_out_of_range)
            }
            (Span::Infinite { negative }, Span::Infinite { negative: other }) => {
                if negative == other {
                    Ok(self)
                } else {
                    Err(interval_out_of_range())
                }
            }
            (Span::Infinite { .. }, _) => Ok(self),
            (_, Span::Infinite { .. }) => Ok(other),
        }
    }
}

pub fn interval_out_of_range() -> Failed {
    Failed::datetime("interval out of range")
}

fn timestamp_out_of_range() -> Failed {
    Failed::datetime("timestamp out of range")
}

/// Days since 2000-01-01 of a day; the year counts astronomically (0 is 1 BC)
/// and the month may be anything.
pub fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let months = year * 12 + month - 3;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    let era = year.div_euclid(400);
    let year = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - DAYS_TO_2000
}

/// Year (astronomical), month and day of a count of days since 2000-01-01.
pub fn civil_of(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_2000;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let day = day - (153 * march_month + 2) / 5 + 1;
    if march_month < 10 {
        (era * 400 + year, march_month + 3, day)
    } else {
        (era * 400 + year + 1, march_month - 9, day)
    }
}

pub fn days_in_month(year: i64, month: i64) -> i64 {
    days_of(year, month + 1, 1) - days_of(year, month, 1)
}

/// A date from a count of days, if there is such a date.
pub fn date(days: i64) -> Result<i32, Failed> {
    match i32::try_from(days) {
        Ok(date) if DATES.contains(&days) => Ok(date),
        _ => Err(Failed::datetime("date out of range")),
    }
}

/// A timestamp from microseconds, if there is such a timestamp.
pub fn timestamp(microseconds: i128) -> Result<i64, Failed> {
    match i64::try_from(microseconds) {
        Ok(timestamp) if TIMESTAMPS.contains(&timestamp) => Ok(timestamp),
        _ => Err(timestamp_out_of_range()),
    }
}

/// `date_pli`, `date_mii`
pub fn date_plus_days(date_value: i32, days: i64) -> Result<i32, Failed> {
    if matches!(date_value, DATE_NO_BEGIN | DATE_NO_END) {
        return Ok(date_value);
    }
    date(i64::from(date_value) + days)
}

/// `date_mi`
pub fn date_minus_date(left: i32, right: i32) -> Result<i64, Failed> {
    if [left, right]
        .iter()
        .any(|date| matches!(*date, DATE_NO_BEGIN | DATE_NO_END))
    {
        return Err(Failed::datetime("cannot subtract infinite dates"));
    }
    Ok(i64::from(left) - i64::from(right))
}

/// `date2timestamp`
pub fn date_to_timestamp(date: i32) -> Result<i64, Failed> {
    match date {
        DATE_NO_BEGIN => Ok(NO_BEGIN),
        DATE_NO_END => Ok(NO_END),
        _ => timestamp(i128::from(date) * i128::from(DAY_US))
            .map_err(|_| Failed::datetime("date out of range for timestamp")),
    }
}

/// `timestamp_date`
pub fn timestamp_to_date(timestamp: i64) -> i32 {
    match timestamp {
        NO_BEGIN => DATE_NO_BEGIN,
        NO_END => DATE_NO_END,
        _ => timestamp.div_euclid(DAY_US) as i32,
    }
}

/// Where a date and a timestamp stand to each other, without an overflow: a
/// date past the last timestamp is still before infinity.
pub fn instant_of_date(date: i32) -> i128 {
    match date {
        DATE_NO_BEGIN => i128::MIN,
        DATE_NO_END => i128::MAX,
        _ => i128::from(date) * i128::from(DAY_US),
    }
}

/// The same for a timestamp.
pub fn instant(timestamp: i64) -> i128 {
    match timestamp {
        NO_BEGIN => i128::MIN,
        NO_END => i128::MAX,
        _ => i128::from(timestamp),
    }
}

/// `timestamp_pl_interval`: months first, cut to the month's last day, then
/// days, then the time.
pub fn timestamp_plus(start: i64, span: Span) -> Result<i64, Failed> {
    let interval = match span {
        Span::Infinite { negative } => {
            return match (start, negative) {
                (NO_BEGIN, false) | (NO_END, true) => Err(timestamp_out_of_range()),
                (_, true) => Ok(NO_BEGIN),
                (_, false) => Ok(NO_END),
            };
        }
        Span::Finite(interval) => interval,
    };
    if matches!(start, NO_BEGIN | NO_END) {
        return Ok(start);
    }
    let mut result = start;
    if interval.months != 0 {
        let (year, month, day) = civil_of(result.div_euclid(DAY_US));
        let months = year * 12 + (month - 1) + i64::from(interval.months);
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        let day = day.min(days_in_month(year, month));
        result = timestamp(
            i128::from(days_of(year, month, day)) * i128::from(DAY_US)
                + i128::from(result.rem_euclid(DAY_US)),
        )?;
    }
    if interval.days != 0 {
        result = timestamp(i128::from(result) + i128::from(interval.days) * i128::from(DAY_US))?;
    }
    timestamp(i128::from(result) + i128::from(interval.microseconds))
}

/// `timestamp_mi`: whole days apart. From 17 on (`infinite_intervals`) an
/// infinite timestamp leaves an infinite interval.
pub fn timestamp_minus(left: i64, right: i64, infinite_intervals: bool) -> Result<Span, Failed> {
    let sign = |timestamp| match timestamp {
        NO_BEGIN => -1,
        NO_END => 1,
        _ => 0,
    };
    match (sign(left), sign(right)) {
        (0, 0) => {}
        _ if !infinite_intervals => {
            return Err(Failed::datetime("cannot subtract infinite timestamps"));
        }
        (left, right) if left == right => return Err(interval_out_of_range()),
        (left, right) => {
            return Ok(Span::Infinite {
                negative: left < right,
            });
        }
    }
    // Before 17 the difference of two that are too far apart went round.
    let microseconds = match left.checked_sub(right) {
        Some(microseconds) => microseconds,
        None if infinite_intervals => return Err(interval_out_of_range()),
        None => left.wrapping_sub(right),
    };
    Ok(Span::Finite(Interval {
        microseconds: microseconds % DAY_US,
        days: (microseconds / DAY_US) as i32,
        months: 0,
    }))
}

/// `time_pl_interval`: goes round the clock.
pub fn time_plus(time: i64, span: Span) -> Result<i64, Failed> {
    match span {
        Span::Finite(interval) => Ok(((i128::from(time) + i128::from(interval.microseconds))
            .rem_euclid(DAY_US.into())) as i64),
        Span::Infinite { .. } => Err(Failed::datetime("cannot add infinite interval to time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_each_others_inverse() {
        for days in (-2_451_545..3_000_000).step_by(997) {
            let (year, month, day) = civil_of(days);
            assert_eq!(days_of(year, month, day), days);
            assert!((1..=days_in_month(year, month)).contains(&day));
        }
        assert_eq!(days_of(2000, 1, 1), 0);
        assert_eq!(days_of(0, 12, 31), -730_120);
        assert_eq!(days_in_month(2000, 2), 29);
        assert_eq!(days_in_month(1900, 2), 28);
    }

    #[test]
    fn months_are_cut_to_their_last_day() {
        let day = |year, month, day| days_of(year, month, day) * DAY_US;
        let months = |months| {
            Span::Finite(Interval {
                microseconds: 0,
                days: 0,
                months,
            })
        };
        assert_eq!(
            timestamp_plus(day(2023, 1, 31), months(1)),
            Ok(day(2023, 2, 28))
        );
        assert_eq!(
            timestamp_plus(day(2024, 2, 29), months(-12)),
            Ok(day(2023, 2, 28))
        );
        assert!(timestamp_plus(day(294_276, 1, 1), months(12)).is_err());
    }
}
