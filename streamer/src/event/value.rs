//! A column's value, decoded far enough to be written in any form.

use std::borrow::Cow;

/// One column of one row. What it is called and which type it has stands in
/// the relation's definition.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    /// Out of line and untouched by the UPDATE; not NULL.
    UnchangedToast,
    /// Not part of this image (outside the key); not NULL.
    Absent,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Oid(u32),
    Float4(f32),
    Float8(f64),
    /// The datum's payload: header and base-10,000 digits.
    Numeric(Cow<'a, [u8]>),
    /// Days since 2000-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since midnight, and the zone in seconds west of UTC.
    TimeTz(i64, i32),
    /// Microseconds since 2000-01-01.
    Timestamp(i64),
    TimestampTz(i64),
    Interval(Interval),
    Uuid([u8; 16]),
    Bytea(Cow<'a, [u8]>),
    Json(Cow<'a, str>),
    /// The datum's payload (`JsonbContainer`).
    Jsonb(Cow<'a, [u8]>),
    /// The datum's payload after the varlena header (`ArrayType`).
    Array(Cow<'a, [u8]>),
    /// text, varchar, bpchar, name, "char", and every type that came as text.
    Text(Cow<'a, str>),
}

/// `src/include/datatype/timestamp.h`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub microseconds: i64,
    pub days: i32,
    pub months: i32,
}
