//! Which operator and which type the server would choose for operands of
//! given types (`src/backend/parser/parse_oper.c`, `parse_coerce.c`), worked
//! out for the types that conditions know.

use super::decimal::Arithmetic;
use super::value::Type;

/// The types that two operands are compared as; `None`: there is no such
/// operator. A date and a timestamp are compared as they are.
pub fn comparison(left: Type, right: Type) -> Option<(Type, Type)> {
    use Type::*;
    Some(match (left, right) {
        _ if left.is_integer() && right.is_integer() => (left, right),
        (Oid, Oid | Int2 | Int4 | Int8) | (Int2 | Int4 | Int8, Oid) => (Oid, Oid),
        (Float4, Float4) => (Float4, Float4),
        // float8 is the preferred type of numbers.
        _ if left.is_number() && right.is_number() => {
            let kind = if left.is_float() || right.is_float() {
                Float8
            } else {
                Numeric
            };
            (kind, kind)
        }
        (Bpchar, Bpchar | Varchar) | (Varchar, Bpchar) => (Bpchar, Bpchar),
        (Text | Varchar, Text | Varchar | Name) | (Name, Text | Varchar) => (Text, Text),
        (Bpchar, Text) | (Text, Bpchar) => (Text, Text),
        (Date | Timestamp | TimestampTz, Date | Timestamp | TimestampTz) => (left, right),
        (Name, Name)
        | (Bool, Bool)
        | (Bytea, Bytea)
        | (Time, Time)
        | (TimeTz, TimeTz)
        | (Interval, Interval)
        | (Uuid, Uuid) => (left, right),
        _ => return None,
    })
}

/// The type that an untyped literal takes beside an operand it is compared
/// with.
pub fn literal_beside(other: Type) -> Type {
    match other {
        Type::Varchar | Type::Unknown => Type::Text,
        other => other,
    }
}

/// How two operands are calculated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calculation {
    /// Whole numbers, within the range of the result's type.
    Integer,
    Float,
    Numeric,
    /// date ± number of days
    DateDays,
    /// number of days + date
    DaysDate,
    DateDate,
    TimestampInterval,
    IntervalTimestamp,
    TimestampTimestamp,
    IntervalInterval,
    TimeInterval,
    IntervalTime,
    TimeTime,
}

/// What an arithmetic operator does with operands of these types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub left: Type,
    pub right: Type,
    pub result: Type,
    pub calculation: Calculation,
}

/// The wider of two integer types.
fn wider(left: Type, right: Type) -> Type {
    match (left, right) {
        (Type::Int8, _) | (_, Type::Int8) => Type::Int8,
        (Type::Int4, _) | (_, Type::Int4) => Type::Int4,
        _ => Type::Int2,
    }
}

/// `None`: there is no such operator among those that conditions know.
pub fn arithmetic(operation: Arithmetic, left: Type, right: Type) -> Option<Resolved> {
    use Type::*;
    let resolved = |left, right, result, calculation| {
        Some(Resolved {
            left,
            right,
            result,
            calculation,
        })
    };
    let same = |kind, calculation| resolved(kind, kind, kind, calculation);
    match (left, right) {
        _ if left.is_integer() && right.is_integer() => {
            same(wider(left, right), Calculation::Integer)
        }
        (Float4, Float4) if operation != Arithmetic::Modulo => same(Float4, Calculation::Float),
        _ if left.is_number() && right.is_number() => {
            if !left.is_float() && !right.is_float() {
                same(Numeric, Calculation::Numeric)
            } else if operation != Arithmetic::Modulo {
                same(Float8, Calculation::Float)
            } else {
                None
            }
        }
        _ => moments(operation, left, right),
    }
}

/// Dates, times and intervals.
fn moments(operation: Arithmetic, left: Type, right: Type) -> Option<Resolved> {
    use Calculation::*;
    use Type::*;
    let resolved = |left, right, result, calculation| {
        Some(Resolved {
            left,
            right,
            result,
            calculation,
        })
    };
    match (operation, left, right) {
        (Arithmetic::Add | Arithmetic::Subtract, Date, Int2 | Int4) => {
            resolved(Date, Int4, Date, DateDays)
        }
        (Arithmetic::Add, Int2 | Int4, Date) => resolved(Int4, Date, Date, DaysDate),
        (Arithmetic::Subtract, Date, Date) => resolved(Date, Date, Int4, DateDate),
        (Arithmetic::Add | Arithmetic::Subtract, Date, Type::Interval) => {
            resolved(Date, Type::Interval, Timestamp, TimestampInterval)
        }
        (Arithmetic::Add, Type::Interval, Date) => {
            resolved(Type::Interval, Date, Timestamp, IntervalTimestamp)
        }
        (Arithmetic::Add | Arithmetic::Subtract, Timestamp | TimestampTz, Type::Interval) => {
            resolved(left, right, left, TimestampInterval)
        }
        (Arithmetic::Add, Type::Interval, Timestamp | TimestampTz) => {
            resolved(left, right, right, IntervalTimestamp)
        }
        (Arithmetic::Subtract, Date | Timestamp | TimestampTz, Timestamp | TimestampTz)
        | (Arithmetic::Subtract, Timestamp | TimestampTz, Date) => {
            let kind = if left == TimestampTz || right == TimestampTz {
                TimestampTz
            } else {
                Timestamp
            };
            resolved(kind, kind, Type::Interval, TimestampTimestamp)
        }
        (Arithmetic::Add | Arithmetic::Subtract, Type::Interval, Type::Interval) => {
            resolved(left, right, Type::Interval, IntervalInterval)
        }
        (Arithmetic::Add | Arithmetic::Subtract, Time, Type::Interval) => {
            resolved(left, right, Time, TimeInterval)
        }
        (Arithmetic::Add, Type::Interval, Time) => resolved(left, right, Time, IntervalTime),
        (Arithmetic::Subtract, Time, Time) => resolved(left, right, Type::Interval, TimeTime),
        _ => None,
    }
}

/// The type that an untyped literal takes as an operand of an arithmetic
/// operator; `None`: the server could not tell, or it is not known here.
pub fn literal_operand(operation: Arithmetic, other: Type, literal_is_right: bool) -> Option<Type> {
    match other {
        _ if other.is_number() || other == Type::Interval => Some(other),
        Type::Timestamp | Type::TimestampTz if operation == Arithmetic::Add && literal_is_right => {
            Some(Type::Interval)
        }
        Type::Date | Type::Timestamp | Type::TimestampTz | Type::Time
            if operation == Arithmetic::Subtract =>
        {
            Some(other)
        }
        _ => None,
    }
}

/// Whether values of one type become another without being asked to
/// (`pg_cast.castcontext` = i).
pub fn is_implicit(from: Type, to: Type) -> bool {
    use Type::*;
    from == to
        || matches!(
            (from, to),
            (Unknown, _)
                | (Int2, Int4 | Int8 | Float4 | Float8 | Numeric | Oid)
                | (Int4, Int8 | Float4 | Float8 | Numeric | Oid)
                | (Int8, Float4 | Float8 | Numeric | Oid)
                | (Oid, Int8)
                | (Float4, Float8)
                | (Numeric, Float4 | Float8)
                | (Varchar, Text | Bpchar | Name)
                | (Bpchar, Text | Varchar | Name)
                | (Text, Varchar | Bpchar | Name)
                | (Name, Text)
                | (Date, Timestamp | TimestampTz)
                | (Timestamp, TimestampTz)
                | (Time, TimeTz | Interval)
        )
}

/// `pg_type.typcategory`, and whether the type is its preferred one.
fn category(kind: Type) -> (char, bool) {
    match kind {
        Type::Bool => ('B', true),
        Type::Int2 | Type::Int4 | Type::Int8 | Type::Float4 | Type::Numeric => ('N', false),
        Type::Oid | Type::Float8 => ('N', true),
        Type::Text => ('S', true),
        Type::Varchar | Type::Bpchar | Type::Name => ('S', false),
        Type::Date | Type::Time | Type::TimeTz | Type::Timestamp => ('D', false),
        Type::TimestampTz => ('D', true),
        Type::Interval => ('T', true),
        Type::Bytea | Type::Uuid | Type::Other | Type::Unknown => ('U', false),
    }
}

/// The one type for values that stand for each other, as in COALESCE
/// (`select_common_type`). `None`: there is none.
pub fn common(kinds: impl IntoIterator<Item = Type>) -> Option<Type> {
    let mut chosen = Type::Unknown;
    for kind in kinds {
        if kind == Type::Unknown || kind == chosen {
            continue;
        }
        if chosen == Type::Unknown {
            chosen = kind;
            continue;
        }
        let ((class, preferred), (other_class, _)) = (category(chosen), category(kind));
        if class != other_class {
            return None;
        }
        if !preferred && is_implicit(chosen, kind) && !is_implicit(kind, chosen) {
            chosen = kind;
        }
    }
    Some(if chosen == Type::Unknown {
        Type::Text
    } else {
        chosen
    })
}

/// Whether a cast that was written is one that conditions know.
pub fn is_castable(from: Type, to: Type) -> bool {
    use Type::*;
    if from == to || from == Unknown {
        return to != Other;
    }
    match (from, to) {
        (Other, _) | (_, Other | Unknown) => false,
        // Anything has a text.
        (_, Text | Varchar | Bpchar) => true,
        (Text | Varchar | Bpchar, Name) => true,
        (
            Text | Varchar | Bpchar,
            Bool | Int2 | Int4 | Int8 | Oid | Float4 | Float8 | Numeric | Bytea | Uuid,
        ) => true,
        _ if from.is_number() && to.is_number() => true,
        (Bool, Int4) | (Int4, Bool) => true,
        (Int2 | Int4 | Int8, Oid) | (Oid, Int4 | Int8) => true,
        (Date | Timestamp | TimestampTz, Date | Timestamp | TimestampTz) => true,
        (Timestamp | TimestampTz, Time) => true,
        _ => false,
    }
}
