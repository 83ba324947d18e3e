//! A value as another type, by the casts that the server has.

use std::borrow::Cow;

use super::calendar;
use super::decimal::Decimal;
use super::evaluate::integer;
use super::failing::Failed;
use super::input;
use super::predicate::Target;
use super::value::{Type, Value};

/// A value that is not null, as another type.
pub fn cast<'r>(value: Value<'r>, from: Type, target: &Target) -> Result<Value<'r>, Failed> {
    let to = target.kind;
    if from.is_text() && !to.is_text() {
        return match value {
            Value::Text(text) => fitted(input::read(to, &text)?, target),
            other => Ok(other),
        };
    }
    let converted = match (value, to) {
        (value, Type::Text | Type::Varchar | Type::Bpchar | Type::Name) => match value {
            Value::Text(text) => Value::Text(text),
            other => Value::Text(Cow::Owned(other.text(from)?)),
        },
        (Value::Bool(value), Type::Int4) => Value::Integer(value.into()),
        (Value::Integer(value), Type::Bool) => Value::Bool(value != 0),
        (Value::Integer(value), Type::Int2 | Type::Int4 | Type::Int8) => {
            if from == Type::Oid && to == Type::Int4 {
                Value::Integer((value as u32 as i32).into())
            } else {
                integer(to, value.into())?
            }
        }
        (Value::Integer(value), Type::Oid) => match from {
            Type::Int8 if u32::try_from(value).is_err() => {
                return Err(Failed::out_of_range("OID out of range"));
            }
            _ => Value::Integer((value as u32).into()),
        },
        (Value::Integer(value), Type::Float4) => Value::Float((value as f32).into()),
        (Value::Integer(value), Type::Float8) => Value::Float(value as f64),
        (Value::Integer(value), Type::Numeric) => Value::Numeric(value.into()),
        (Value::Float(value), Type::Int2 | Type::Int4 | Type::Int8) => {
            let rounded = value.round_ties_even();
            let limit = match to {
                Type::Int2 => 32_768.0,
                Type::Int4 => 2_147_483_648.0,
                _ => 9_223_372_036_854_775_808.0,
            };
            if !(-limit..limit).contains(&rounded) {
                return Err(Failed::out_of_range(format!("{} out of range", to.name())));
            }
            Value::Integer(rounded as i64)
        }
        (Value::Float(value), Type::Float4) => {
            let single = value as f32;
            if single.is_infinite() && value.is_finite() {
                return Err(Failed::out_of_range("value out of range: overflow"));
            }
            if single == 0.0 && value != 0.0 {
                return Err(Failed::out_of_range("value out of range: underflow"));
            }
            Value::Float(single.into())
        }
        (Value::Float(value), Type::Numeric) => {
            let digits = if from == Type::Float4 { 6 } else { 15 };
            Value::Numeric(Decimal::from_float(value, digits)?)
        }
        (Value::Numeric(value), Type::Int2 | Type::Int4 | Type::Int8) => match value.to_i64() {
            Some(whole) => integer(to, whole.into())?,
            None if value.is_finite() => {
                return Err(Failed::out_of_range(format!("{} out of range", to.name())));
            }
            None => {
                return Err(Failed::new(
                    "0A000",
                    format!("cannot convert {value} to {}", to.name()),
                ));
            }
        },
        (Value::Numeric(value), Type::Float4) => Value::Float(value.to_f32()?.into()),
        (Value::Numeric(value), Type::Float8) => Value::Float(value.to_f64()?),
        (Value::Date(date), Type::Timestamp | Type::TimestampTz) => {
            Value::Timestamp(calendar::date_to_timestamp(date)?)
        }
        (Value::Timestamp(timestamp), Type::Date) => {
            Value::Date(calendar::timestamp_to_date(timestamp))
        }
        (Value::Timestamp(timestamp), Type::Time) => match timestamp {
            calendar::NO_BEGIN | calendar::NO_END => Value::Null,
            _ => Value::Time(timestamp.rem_euclid(calendar::DAY_US)),
        },
        (value, _) => value,
    };
    fitted(converted, target)
}

/// What the target's length or precision does to a value.
fn fitted<'r>(value: Value<'r>, target: &Target) -> Result<Value<'r>, Failed> {
    Ok(match value {
        Value::Numeric(value) => Value::Numeric(match target.precision {
            Some((precision, scale)) => value.with_precision(precision, scale)?,
            None => value,
        }),
        Value::Text(text) => {
            let text = match target.length {
                Some(length) => match text.char_indices().nth(length as usize) {
                    Some((end, _)) => Cow::Owned(text[..end].to_owned()),
                    None => text,
                },
                None => text,
            };
            Value::Text(match target.kind {
                Type::Bpchar if text.ends_with(' ') => {
                    Cow::Owned(text.trim_end_matches(' ').to_owned())
                }
                Type::Name if text.len() > 63 => Cow::Owned(input::name(&text).to_owned()),
                _ => text,
            })
        }
        other => other,
    })
}
