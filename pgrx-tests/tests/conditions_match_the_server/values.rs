//! The columns of the table that predicates are about, and their values.

use rand::Rng;
use rand::rngs::StdRng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Number,
    Text,
    Date,
    Timestamp,
    Time,
    TimeTz,
    Interval,
    Uuid,
    Bytea,
    Json,
}

pub struct Column {
    pub name: &'static str,
    pub declared: &'static str,
    pub kind: Kind,
    pub values: &'static [&'static str],
}

pub const INT2: &[&str] = &["0", "1", "-1", "2", "32767", "-32768", "7", "100"];
pub const INT4: &[&str] = &[
    "0",
    "1",
    "-1",
    "3",
    "2147483647",
    "-2147483648",
    "40",
    "32768",
];
pub const INT8: &[&str] = &[
    "0",
    "1",
    "-1",
    "5",
    "9223372036854775807",
    "-9223372036854775808",
    "2147483648",
    "4294967296",
];
pub const FLOAT4: &[&str] = &[
    "0",
    "-0",
    "1",
    "0.1",
    "-2.5",
    "3.4028235e38",
    "1e-45",
    "NaN",
    "Infinity",
    "-Infinity",
    "16777217",
    "0.5",
    "1.5",
];
pub const FLOAT8: &[&str] = &[
    "0",
    "-0",
    "1",
    "0.1",
    "-2.5",
    "1.7976931348623157e308",
    "5e-324",
    "NaN",
    "Infinity",
    "-Infinity",
    "9007199254740993",
    "2147483647.5",
    "0.5",
    "1e15",
];
pub const NUMERIC: &[&str] = &[
    "0",
    "0.000",
    "1",
    "1.0",
    "-1",
    "0.1",
    "0.3333",
    "-7.50",
    "123456789012345678901234567890.123456789",
    "1e-30",
    "1e130",
    "NaN",
    "Infinity",
    "-Infinity",
    "9223372036854775807.5",
    "99999999.99995",
    "0.00012",
    "10000",
    "2.5",
];
pub const TEXT: &[&str] = &[
    "", " ", "a", "A", "ab", "abc", "a%", "a_c", "b ", "é", "日本", "😀", "10", "1.5", "true",
    "\\", "a\\%", "z",
];
pub const CHAR: &[&str] = &["", "a", "ab   ", "abcde", "A", "é", "10"];
pub const DATE: &[&str] = &[
    "2000-01-01",
    "1999-12-31",
    "2024-02-29",
    "0001-01-01",
    "0044-03-15 BC",
    "4714-11-24 BC",
    "5874897-12-31",
    "infinity",
    "-infinity",
    "294277-01-01",
];
pub const TIMESTAMP: &[&str] = &[
    "2000-01-01 00:00:00",
    "1999-12-31 23:59:59.999999",
    "2024-02-29 12:30:00",
    "2024-01-31 00:00:00",
    "0044-03-15 10:00:00 BC",
    "4714-11-24 00:00:00 BC",
    "294276-12-31 23:59:59.999999",
    "infinity",
    "-infinity",
];
pub const TIME: &[&str] = &["00:00:00", "24:00:00", "12:30:00.5", "23:59:59.999999"];
pub const TIMETZ: &[&str] = &[
    "00:00:00+00",
    "12:30:00+05:30",
    "07:00:00+00",
    "24:00:00-15:59",
];
pub const INTERVAL: &[&str] = &[
    "00:00:00",
    "1 mon",
    "30 days",
    "1 day",
    "24:00:00",
    "-1 years -2 mons +3 days -04:05:06.789",
    "178000000 years",
    "00:00:00.000001",
    "1 year 2 mons 3 days",
];
pub const UUID: &[&str] = &[
    "00000000-0000-0000-0000-000000000000",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];
pub const BYTEA: &[&str] = &["\\x", "\\x00", "\\xff", "\\x6162", "\\x61"];

pub const fn column(
    name: &'static str,
    declared: &'static str,
    kind: Kind,
    values: &'static [&'static str],
) -> Column {
    Column {
        name,
        declared,
        kind,
        values,
    }
}

pub const COLUMNS: &[Column] = &[
    column("b", "bool", Kind::Bool, &["true", "false"]),
    column("i2", "int2", Kind::Number, INT2),
    column("i4", "int4", Kind::Number, INT4),
    column("i8", "int8", Kind::Number, INT8),
    column("f4", "float4", Kind::Number, FLOAT4),
    column("f8", "float8", Kind::Number, FLOAT8),
    column("n", "numeric", Kind::Number, NUMERIC),
    column(
        "n2",
        "numeric(12,2)",
        Kind::Number,
        &["0", "1.25", "-99.99", "1e9", "NaN"],
    ),
    column("t", "text", Kind::Text, TEXT),
    column("v", "varchar(20)", Kind::Text, TEXT),
    column("c", "char(5)", Kind::Text, CHAR),
    column("na", "name", Kind::Text, TEXT),
    column("d", "date", Kind::Date, DATE),
    column("ts", "timestamp", Kind::Timestamp, TIMESTAMP),
    column("tz", "timestamptz", Kind::Timestamp, TIMESTAMP),
    column("ti", "time", Kind::Time, TIME),
    column("tt", "timetz", Kind::TimeTz, TIMETZ),
    column("iv", "interval", Kind::Interval, INTERVAL),
    column("u", "uuid", Kind::Uuid, UUID),
    column("by", "bytea", Kind::Bytea, BYTEA),
    column("j", "jsonb", Kind::Json, &["{}", "[1]", "null"]),
];

pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A value to be stored, or NULL.
pub fn stored(column: &Column, random: &mut StdRng) -> String {
    if random.random_ratio(1, 8) {
        return "NULL".into();
    }
    quoted(column.values[random.random_range(0..column.values.len())])
}
