//! Types and values as a condition sees them.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::calendar::{self, Span};
use super::decimal::Decimal;
use super::failing::Failed;
use super::input;
use crate::datum::{Malformed, ScalarType, float, temporal};
use crate::event::{self, write_hex, write_uuid};

/// A type, by how its values are calculated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    Varchar,
    Bpchar,
    Name,
    Bytea,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    /// A literal in quotes, or NULL, before its place gives it a type.
    Unknown,
    /// Any other: it can only be asked whether it is null.
    Other,
}

impl Type {
    /// Of a column, by `pg_type.oid` of its base type.
    pub fn of_column(base_type_oid: u32) -> Self {
        match ScalarType::from_oid(base_type_oid) {
            Some(scalar) => match scalar {
                ScalarType::Bool => Type::Bool,
                ScalarType::Int2 => Type::Int2,
                ScalarType::Int4 => Type::Int4,
                ScalarType::Int8 => Type::Int8,
                ScalarType::Oid => Type::Oid,
                ScalarType::Float4 => Type::Float4,
                ScalarType::Float8 => Type::Float8,
                ScalarType::Numeric => Type::Numeric,
                ScalarType::Text => Type::Text,
                ScalarType::Varchar => Type::Varchar,
                ScalarType::Bpchar => Type::Bpchar,
                ScalarType::Name => Type::Name,
                ScalarType::Bytea => Type::Bytea,
                ScalarType::Date => Type::Date,
                ScalarType::Time => Type::Time,
                ScalarType::TimeTz => Type::TimeTz,
                ScalarType::Timestamp => Type::Timestamp,
                ScalarType::TimestampTz => Type::TimestampTz,
                ScalarType::Interval => Type::Interval,
                ScalarType::Uuid => Type::Uuid,
                ScalarType::Char | ScalarType::Json | ScalarType::Jsonb => Type::Other,
            },
            None => Type::Other,
        }
    }

    /// As `format_type` names it.
    pub fn name(self) -> &'static str {
        match self {
            Type::Bool => "boolean",
            Type::Int2 => "smallint",
            Type::Int4 => "integer",
            Type::Int8 => "bigint",
            Type::Oid => "oid",
            Type::Float4 => "real",
            Type::Float8 => "double precision",
            Type::Numeric => "numeric",
            Type::Text => "text",
            Type::Varchar => "character varying",
            Type::Bpchar => "character",
            Type::Name => "name",
            Type::Bytea => "bytea",
            Type::Date => "date",
            Type::Time => "time without time zone",
            Type::TimeTz => "time with time zone",
            Type::Timestamp => "timestamp without time zone",
            Type::TimestampTz => "timestamp with time zone",
            Type::Interval => "interval",
            Type::Uuid => "uuid",
            Type::Unknown => "unknown",
            Type::Other => "a type that conditions do not calculate with",
        }
    }

    pub fn is_integer(self) -> bool {
        matches!(self, Type::Int2 | Type::Int4 | Type::Int8)
    }

    pub fn is_float(self) -> bool {
        matches!(self, Type::Float4 | Type::Float8)
    }

    /// A number other than oid.
    pub fn is_number(self) -> bool {
        self.is_integer() || self.is_float() || self == Type::Numeric
    }

    /// Whether a collation has a say in it.
    pub fn is_text(self) -> bool {
        matches!(self, Type::Text | Type::Varchar | Type::Bpchar | Type::Name)
    }
}

/// A value. Which type it has the expression knows.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    /// int2, int4, int8, oid
    Integer(i64),
    /// float4 (a float8 that is one exactly), float8
    Float(f64),
    Numeric(Decimal),
    /// text, varchar, name; char(n) without its padding
    Text(Cow<'a, str>),
    Bytea(Cow<'a, [u8]>),
    Date(i32),
    Time(i64),
    /// Microseconds since midnight, seconds west of UTC.
    TimeTz(i64, i32),
    /// With a zone in UTC.
    Timestamp(i64),
    Interval(Span),
    Uuid([u8; 16]),
}

impl<'a> Value<'a> {
    /// A column's value; `None` for what this image does not have. A decoder
    /// may hand a value of any type as its text.
    pub fn of_column(value: &'a event::Value<'_>, kind: Type) -> Result<Option<Self>, Malformed> {
        Ok(Some(match value {
            event::Value::Absent | event::Value::UnchangedToast => return Ok(None),
            event::Value::Null => Value::Null,
            event::Value::Bool(value) => Value::Bool(*value),
            event::Value::Int2(value) => Value::Integer((*value).into()),
            event::Value::Int4(value) => Value::Integer((*value).into()),
            event::Value::Int8(value) => Value::Integer(*value),
            event::Value::Oid(value) => Value::Integer((*value).into()),
            event::Value::Float4(value) => Value::Float((*value).into()),
            event::Value::Float8(value) => Value::Float(*value),
            event::Value::Numeric(payload) => Value::Numeric(Decimal::read(&payload.numeric()?)?),
            event::Value::Date(days) => Value::Date(*days),
            event::Value::Time(us) => Value::Time(*us),
            event::Value::TimeTz(us, west) => Value::TimeTz(*us, *west),
            event::Value::Timestamp(us) | event::Value::TimestampTz(us) => Value::Timestamp(*us),
            event::Value::Interval(interval) => Value::Interval(Span::Finite(*interval)),
            event::Value::Uuid(bytes) => Value::Uuid(*bytes),
            event::Value::Bytea(bytes) => Value::Bytea(Cow::Borrowed(bytes)),
            event::Value::Text(text) => match kind {
                Type::Text | Type::Varchar | Type::Name => Value::Text(Cow::Borrowed(text)),
                Type::Bpchar => Value::Text(Cow::Borrowed(text.trim_end_matches(' '))),
                // Only whether it is null can be asked.
                Type::Other | Type::Unknown => Value::Bool(true),
                _ => input::read(kind, text)
                    .map_err(|_| Malformed("a value is not of its column's type"))?,
            },
            event::Value::Json(_) | event::Value::Jsonb(_) | event::Value::Array(_) => {
                Value::Bool(true)
            }
        }))
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(value) => Value::Bool(value),
            Value::Integer(value) => Value::Integer(value),
            Value::Float(value) => Value::Float(value),
            Value::Numeric(value) => Value::Numeric(value),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Bytea(bytes) => Value::Bytea(Cow::Owned(bytes.into_owned())),
            Value::Date(value) => Value::Date(value),
            Value::Time(value) => Value::Time(value),
            Value::TimeTz(us, west) => Value::TimeTz(us, west),
            Value::Timestamp(value) => Value::Timestamp(value),
            Value::Interval(span) => Value::Interval(span),
            Value::Uuid(bytes) => Value::Uuid(bytes),
        }
    }

    /// Where two values of types that compare stand to each other. Text by
    /// its bytes, floats with NaN equal to itself and greatest.
    pub fn order(&self, other: &Value<'_>) -> Ordering {
        match (self, other) {
            (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
            (Value::Integer(left), Value::Integer(right)) => left.cmp(right),
            (Value::Float(left), Value::Float(right)) => match (left.is_nan(), right.is_nan()) {
                (false, false) => left.partial_cmp(right).unwrap_or(Ordering::Equal),
                (left, right) => left.cmp(&right),
            },
            (Value::Numeric(left), Value::Numeric(right)) => left.cmp(right),
            (Value::Text(left), Value::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
            (Value::Bytea(left), Value::Bytea(right)) => left.cmp(right),
            (Value::Date(left), Value::Date(right)) => left.cmp(right),
            (Value::Time(left), Value::Time(right)) => left.cmp(right),
            // By the moment in UTC, then by the zone (`timetz_cmp_internal`).
            (Value::TimeTz(left, left_west), Value::TimeTz(right, right_west)) => {
                let moment = |us: i64, west: i32| us + i64::from(west) * 1_000_000;
                moment(*left, *left_west)
                    .cmp(&moment(*right, *right_west))
                    .then(left_west.cmp(right_west))
            }
            (Value::Timestamp(left), Value::Timestamp(right)) => left.cmp(right),
            (Value::Date(left), Value::Timestamp(right)) => {
                calendar::instant_of_date(*left).cmp(&calendar::instant(*right))
            }
            (Value::Timestamp(left), Value::Date(right)) => {
                calendar::instant(*left).cmp(&calendar::instant_of_date(*right))
            }
            (Value::Interval(left), Value::Interval(right)) => left.length().cmp(&right.length()),
            (Value::Uuid(left), Value::Uuid(right)) => left.cmp(right),
            // The compiler pairs no others.
            _ => Ordering::Equal,
        }
    }

    /// What a cast to text gives, under the settings that the streamer's
    /// connections have.
    pub fn text(&self, kind: Type) -> Result<String, Failed> {
        let mut out = Vec::new();
        let malformed = |error: Malformed| Failed::datetime(error.to_string());
        match self {
            Value::Null => {}
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Integer(value) => return Ok(value.to_string()),
            Value::Float(value) if kind == Type::Float4 => {
                float::write_float4(*value as f32, &mut out);
            }
            Value::Float(value) => float::write_float8(*value, &mut out),
            Value::Numeric(value) => return Ok(value.to_string()),
            Value::Text(text) => return Ok(text.clone().into_owned()),
            Value::Bytea(bytes) => {
                out.extend_from_slice(b"\\x");
                write_hex(bytes, &mut out);
            }
            Value::Date(days) => temporal::write_date(*days, &mut out),
            Value::Time(us) => temporal::write_time(*us, &mut out).map_err(malformed)?,
            Value::TimeTz(us, west) => {
                temporal::write_timetz(*us, *west, &mut out).map_err(malformed)?;
            }
            Value::Timestamp(us) => temporal::write_timestamp(
                *us,
                kind == Type::TimestampTz,
                temporal::Form::Postgres,
                &mut out,
            ),
            Value::Interval(Span::Finite(interval)) => interval.write(&mut out),
            Value::Interval(Span::Infinite { negative: true }) => {
                out.extend_from_slice(b"-infinity");
            }
            Value::Interval(Span::Infinite { negative: false }) => {
                out.extend_from_slice(b"infinity");
            }
            Value::Uuid(bytes) => write_uuid(bytes, &mut out),
        }
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}
