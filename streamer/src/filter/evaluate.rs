//! Conditions of one table's definition, ready to be asked of its rows.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::calendar::{self, Span};
use super::cast::cast;
use super::decimal::Arithmetic;
use super::failing::{Failed, Stop};
use super::like::Pattern;
use super::operators::Calculation;
use super::predicate::{Comparison, Function, Target, Truth};
use super::value::{Type, Value};
use crate::event;

/// A row as a condition reads it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'r, 'a> {
    pub image: &'r [event::Value<'a>],
    /// Where a value is looked for that `image` marks as unchanged TOAST.
    pub before: Option<&'r [event::Value<'a>]>,
}

impl<'r, 'a> Row<'r, 'a> {
    fn column(&self, place: usize, kind: Type) -> Result<Value<'r>, Stop> {
        let value = match self.image.get(place) {
            Some(event::Value::UnchangedToast) => self.before.and_then(|image| image.get(place)),
            value => value,
        };
        match value.map(|value| Value::of_column(value, kind)) {
            Some(Ok(Some(value))) => Ok(value),
            Some(Err(malformed)) => Err(Stop::Malformed(place, malformed)),
            Some(Ok(None)) | None => Err(Stop::Unknown(place)),
        }
    }
}

/// An expression whose types are settled.
#[derive(Clone, Debug)]
pub enum Node {
    Constant(Value<'static>),
    Column {
        place: usize,
        kind: Type,
    },
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    Distinct {
        negated: bool,
        left: Box<Node>,
        right: Box<Node>,
    },
    IsNull {
        negated: bool,
        argument: Box<Node>,
    },
    IsTruth {
        negated: bool,
        truth: Truth,
        argument: Box<Node>,
    },
    /// `= ANY` or `<> ALL` of some values.
    In {
        negated: bool,
        argument: Box<Node>,
        list: List,
    },
    Like {
        negated: bool,
        fold_case: bool,
        argument: Box<Node>,
        pattern: PatternNode,
    },
    Arithmetic {
        operation: Arithmetic,
        calculation: Calculation,
        result: Type,
        left: Box<Node>,
        right: Box<Node>,
        infinite_intervals: bool,
    },
    Concatenate((Box<Node>, Type), (Box<Node>, Type)),
    Negate(Box<Node>, Type),
    Cast {
        argument: Box<Node>,
        from: Type,
        target: Target,
    },
    /// char(n) with its blanks.
    Padded(Box<Node>, u32),
    Coalesce(Vec<Node>),
    NullIf {
        result: Box<Node>,
        left: Box<Node>,
        right: Box<Node>,
    },
    Case {
        /// Condition and result.
        branches: Vec<(Node, Node)>,
        otherwise: Box<Node>,
    },
    Call(Function, Box<Node>, Type),
}

/// The values after IN.
#[derive(Clone, Debug)]
pub enum List {
    Nodes(Vec<Node>),
    /// Constants in order, and whether NULL is among them.
    Sorted(Vec<Value<'static>>, bool),
}

#[derive(Clone, Debug)]
pub enum PatternNode {
    Constant(Pattern),
    Node(Box<Node>, Option<char>),
}

type Evaluated<'r> = Result<Value<'r>, Stop>;

fn truth(value: Option<bool>) -> Value<'static> {
    value.map_or(Value::Null, Value::Bool)
}

impl Node {
    pub fn is_null(&self) -> bool {
        matches!(self, Node::Constant(Value::Null))
    }

    /// Whether the row passes: the condition is true, neither false nor null.
    pub fn passes(&self, row: &Row<'_, '_>) -> Result<bool, Stop> {
        Ok(self.truth(row)? == Some(true))
    }

    fn truth(&self, row: &Row<'_, '_>) -> Result<Option<bool>, Stop> {
        Ok(match self.evaluate(row)? {
            Value::Bool(value) => Some(value),
            _ => None,
        })
    }

    pub fn evaluate<'r>(&'r self, row: &Row<'r, '_>) -> Evaluated<'r> {
        Ok(match self {
            Node::Constant(value) => borrowed(value),
            Node::Column { place, kind } => return row.column(*place, *kind),
            Node::Not(argument) => truth(argument.truth(row)?.map(|value| !value)),
            Node::And(list) => truth(junction(list, row, false)?),
            Node::Or(list) => truth(junction(list, row, true)?),
            Node::Compare(comparison, left, right) => {
                let (left, right) = (left.evaluate(row)?, right.evaluate(row)?);
                truth(
                    (!left.is_null() && !right.is_null())
                        .then(|| comparison.holds(left.order(&right))),
                )
            }
            Node::Distinct {
                negated,
                left,
                right,
            } => {
                let (left, right) = (left.evaluate(row)?, right.evaluate(row)?);
                let distinct = match (left.is_null(), right.is_null()) {
                    (false, false) => left.order(&right) != Ordering::Equal,
                    (left, right) => left != right,
                };
                Value::Bool(distinct != *negated)
            }
            Node::IsNull { negated, argument } => {
                Value::Bool(argument.evaluate(row)?.is_null() != *negated)
            }
            Node::IsTruth {
                negated,
                truth,
                argument,
            } => {
                let wanted = match truth {
                    Truth::True => Some(true),
                    Truth::False => Some(false),
                    Truth::Unknown => None,
                };
                Value::Bool((argument.truth(row)? == wanted) != *negated)
            }
            Node::In {
                negated,
                argument,
                list,
            } => {
                let argument = argument.evaluate(row)?;
                if argument.is_null() {
                    return Ok(Value::Null);
                }
                truth(
                    list.contains(&argument, row)?
                        .map(|found| found != *negated),
                )
            }
            Node::Like {
                negated,
                fold_case,
                argument,
                pattern,
            } => {
                let Value::Text(text) = argument.evaluate(row)? else {
                    return Ok(Value::Null);
                };
                let text = if *fold_case {
                    Cow::Owned(text.to_ascii_lowercase())
                } else {
                    text
                };
                let matched = match pattern {
                    PatternNode::Constant(pattern) => pattern.matches(&text)?,
                    PatternNode::Node(pattern, escape) => {
                        let Value::Text(pattern) = pattern.evaluate(row)? else {
                            return Ok(Value::Null);
                        };
                        let pattern = Pattern::new(&pattern, *escape);
                        let pattern = if *fold_case {
                            pattern.folded()
                        } else {
                            pattern
                        };
                        pattern.matches(&text)?
                    }
                };
                Value::Bool(matched != *negated)
            }
            Node::Arithmetic {
                operation,
                calculation,
                result,
                left,
                right,
                infinite_intervals,
            } => {
                let (left, right) = (left.evaluate(row)?, right.evaluate(row)?);
                if left.is_null() || right.is_null() {
                    return Ok(Value::Null);
                }
                calculate(
                    *operation,
                    *calculation,
                    *result,
                    left,
                    right,
                    *infinite_intervals,
                )?
            }
            Node::Concatenate((left, left_kind), (right, right_kind)) => {
                let (left, right) = (left.evaluate(row)?, right.evaluate(row)?);
                if left.is_null() || right.is_null() {
                    return Ok(Value::Null);
                }
                let mut text = left.text(*left_kind)?;
                text.push_str(&right.text(*right_kind)?);
                Value::Text(Cow::Owned(text))
            }
            Node::Negate(argument, kind) => negate(argument.evaluate(row)?, *kind)?,
            Node::Cast {
                argument,
                from,
                target,
            } => {
                let value = argument.evaluate(row)?;
                if value.is_null() {
                    return Ok(Value::Null);
                }
                cast(value, *from, target)?
            }
            Node::Padded(argument, length) => match argument.evaluate(row)? {
                Value::Text(text) => {
                    let missing = (*length as usize).saturating_sub(text.chars().count());
                    Value::Text(Cow::Owned(format!("{text}{}", " ".repeat(missing))))
                }
                other => other,
            },
            Node::Coalesce(list) => {
                for node in list {
                    let value = node.evaluate(row)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Value::Null
            }
            Node::NullIf {
                result,
                left,
                right,
            } => {
                let (left, right) = (left.evaluate(row)?, right.evaluate(row)?);
                if !left.is_null() && !right.is_null() && left.order(&right) == Ordering::Equal {
                    Value::Null
                } else {
                    result.evaluate(row)?
                }
            }
            Node::Case {
                branches,
                otherwise,
            } => {
                for (condition, result) in branches {
                    if condition.passes(row)? {
                        return result.evaluate(row);
                    }
                }
                otherwise.evaluate(row)?
            }
            Node::Call(function, argument, kind) => {
                let value = argument.evaluate(row)?;
                match (function, value) {
                    (_, Value::Null) => Value::Null,
                    // Under the collation C only ASCII has cases.
                    (Function::Lower, Value::Text(text)) => {
                        Value::Text(Cow::Owned(text.to_ascii_lowercase()))
                    }
                    (Function::Upper, Value::Text(text)) => {
                        Value::Text(Cow::Owned(text.to_ascii_uppercase()))
                    }
                    (Function::Length, Value::Text(text)) => {
                        Value::Integer(text.chars().count() as i64)
                    }
                    (Function::Absolute, Value::Integer(value)) => {
                        integer(*kind, i128::from(value).abs())?
                    }
                    (Function::Absolute, Value::Float(value)) => Value::Float(value.abs()),
                    (Function::Absolute, Value::Numeric(value)) => Value::Numeric(value.absolute()),
                    (_, other) => other,
                }
            }
        })
    }
}

fn borrowed<'r>(value: &'r Value<'static>) -> Value<'r> {
    match value {
        Value::Text(text) => Value::Text(Cow::Borrowed(text)),
        Value::Bytea(bytes) => Value::Bytea(Cow::Borrowed(bytes)),
        other => other.clone(),
    }
}

/// AND (`decisive` false) and OR (`decisive` true). What is not known of a
/// row decides nothing as long as another part does.
fn junction(list: &[Node], row: &Row<'_, '_>, decisive: bool) -> Result<Option<bool>, Stop> {
    let mut result = Some(!decisive);
    let mut unknown = None;
    for node in list {
        match node.truth(row) {
            Ok(Some(value)) if value == decisive => return Ok(Some(decisive)),
            Ok(Some(_)) => {}
            Ok(None) => result = None,
            Err(Stop::Unknown(place)) => unknown = Some(place),
            Err(stop) => return Err(stop),
        }
    }
    match unknown {
        Some(place) => Err(Stop::Unknown(place)),
        None => Ok(result),
    }
}

impl Comparison {
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::Unequal => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl List {
    /// Constants are put in order; else they are asked one by one.
    pub fn new(nodes: Vec<Node>) -> Self {
        let mut constants = Vec::with_capacity(nodes.len());
        let mut null = false;
        for node in &nodes {
            match node {
                Node::Constant(Value::Null) => null = true,
                Node::Constant(value) => constants.push(value.clone()),
                _ => return List::Nodes(nodes),
            }
        }
        constants.sort_by(Value::order);
        List::Sorted(constants, null)
    }

    fn contains(&self, value: &Value<'_>, row: &Row<'_, '_>) -> Result<Option<bool>, Stop> {
        let mut null = false;
        match self {
            List::Sorted(constants, with_null) => {
                if constants
                    .binary_search_by(|constant| constant.order(value))
                    .is_ok()
                {
                    return Ok(Some(true));
                }
                null = *with_null;
            }
            List::Nodes(nodes) => {
                for node in nodes {
                    let candidate = node.evaluate(row)?;
                    if candidate.is_null() {
                        null = true;
                    } else if candidate.order(value) == Ordering::Equal {
                        return Ok(Some(true));
                    }
                }
            }
        }
        Ok(if null { None } else { Some(false) })
    }
}

/// A whole number within its type's range.
pub(super) fn integer(kind: Type, value: i128) -> Result<Value<'static>, Failed> {
    let range = match kind {
        Type::Int2 => i128::from(i16::MIN)..=i128::from(i16::MAX),
        Type::Int4 => i128::from(i32::MIN)..=i128::from(i32::MAX),
        _ => i128::from(i64::MIN)..=i128::from(i64::MAX),
    };
    if range.contains(&value) {
        Ok(Value::Integer(value as i64))
    } else {
        Err(Failed::out_of_range(format!(
            "{} out of range",
            kind.name()
        )))
    }
}

fn negate(value: Value<'_>, kind: Type) -> Result<Value<'_>, Failed> {
    Ok(match value {
        Value::Integer(value) => integer(kind, -i128::from(value))?,
        Value::Float(value) => Value::Float(-value),
        Value::Numeric(value) => Value::Numeric(value.negated()),
        Value::Interval(span) => Value::Interval(span.negated()?),
        other => other,
    })
}

fn calculate<'r>(
    operation: Arithmetic,
    calculation: Calculation,
    result: Type,
    left: Value<'r>,
    right: Value<'r>,
    infinite_intervals: bool,
) -> Result<Value<'r>, Failed> {
    let adds = operation == Arithmetic::Add;
    // A date becomes a timestamp once it is known that the interval is not
    // null.
    let start = |value: Value<'r>| match value {
        Value::Date(date)
            if matches!(
                calculation,
                Calculation::TimestampInterval | Calculation::IntervalTimestamp
            ) =>
        {
            calendar::date_to_timestamp(date).map(Value::Timestamp)
        }
        other => Ok(other),
    };
    let (left, right) = (start(left)?, start(right)?);
    let signed = |span: Span| if adds { Ok(span) } else { span.negated() };
    Ok(match (calculation, left, right) {
        (Calculation::Integer, Value::Integer(left), Value::Integer(right)) => {
            let (left, right) = (i128::from(left), i128::from(right));
            if right == 0 && matches!(operation, Arithmetic::Divide | Arithmetic::Modulo) {
                return Err(Failed::division_by_zero());
            }
            integer(
                result,
                match operation {
                    Arithmetic::Add => left + right,
                    Arithmetic::Subtract => left - right,
                    Arithmetic::Multiply => left * right,
                    Arithmetic::Divide => left / right,
                    Arithmetic::Modulo => left % right,
                },
            )?
        }
        (Calculation::Float, Value::Float(left), Value::Float(right)) => {
            Value::Float(float(operation, result == Type::Float4, left, right)?)
        }
        (Calculation::Numeric, Value::Numeric(left), Value::Numeric(right)) => {
            Value::Numeric(left.arithmetic(operation, &right)?)
        }
        (Calculation::DateDays, Value::Date(date), Value::Integer(days)) => Value::Date(
            calendar::date_plus_days(date, if adds { days } else { -days })?,
        ),
        (Calculation::DaysDate, Value::Integer(days), Value::Date(date)) => {
            Value::Date(calendar::date_plus_days(date, days)?)
        }
        (Calculation::DateDate, Value::Date(left), Value::Date(right)) => {
            Value::Integer(calendar::date_minus_date(left, right)?)
        }
        (Calculation::TimestampInterval, Value::Timestamp(start), Value::Interval(span)) => {
            Value::Timestamp(calendar::timestamp_plus(start, signed(span)?)?)
        }
        (Calculation::IntervalTimestamp, Value::Interval(span), Value::Timestamp(start)) => {
            Value::Timestamp(calendar::timestamp_plus(start, span)?)
        }
        (Calculation::TimestampTimestamp, Value::Timestamp(left), Value::Timestamp(right)) => {
            Value::Interval(calendar::timestamp_minus(left, right, infinite_intervals)?)
        }
        (Calculation::IntervalInterval, Value::Interval(left), Value::Interval(right)) => {
            Value::Interval(left.plus(signed(right)?)?)
        }
        (Calculation::TimeInterval, Value::Time(time), Value::Interval(span)) => {
            Value::Time(calendar::time_plus(time, signed(span)?)?)
        }
        (Calculation::IntervalTime, Value::Interval(span), Value::Time(time)) => {
            Value::Time(calendar::time_plus(time, span)?)
        }
        (Calculation::TimeTime, Value::Time(left), Value::Time(right)) => {
            Value::Interval(Span::Finite(event::Interval {
                microseconds: left - right,
                days: 0,
                months: 0,
            }))
        }
        // The compiler pairs no others.
        _ => Value::Null,
    })
}

/// `src/include/utils/float.h`: what leaves the range is an error.
fn float(operation: Arithmetic, single: bool, left: f64, right: f64) -> Result<f64, Failed> {
    let result = match (operation, single) {
        (Arithmetic::Add, false) => left + right,
        (Arithmetic::Subtract, false) => left - right,
        (Arithmetic::Multiply, false) => left * right,
        (Arithmetic::Divide, false) => left / right,
        (Arithmetic::Add, true) => f64::from(left as f32 + right as f32),
        (Arithmetic::Subtract, true) => f64::from(left as f32 - right as f32),
        (Arithmetic::Multiply, true) => f64::from(left as f32 * right as f32),
        (Arithmetic::Divide, true) => f64::from(left as f32 / right as f32),
        // There is no such operator.
        (Arithmetic::Modulo, _) => f64::NAN,
    };
    if operation == Arithmetic::Divide && right == 0.0 && !left.is_nan() {
        return Err(Failed::division_by_zero());
    }
    let infinite = left.is_infinite() || operation != Arithmetic::Divide && right.is_infinite();
    if result.is_infinite() && !infinite {
        return Err(Failed::out_of_range("value out of range: overflow"));
    }
    let vanished = match operation {
        Arithmetic::Multiply => left != 0.0 && right != 0.0,
        Arithmetic::Divide => left != 0.0 && !right.is_infinite(),
        _ => false,
    };
    if result == 0.0 && vanished {
        return Err(Failed::out_of_range("value out of range: underflow"));
    }
    Ok(result)
}
