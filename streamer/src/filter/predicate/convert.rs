//! sqlparser's tree becomes our own; what has no place in it is refused by name.

use sqlparser::ast::{
    self, BinaryOperator, CastKind, CharacterLength, DataType, DateTimeField, ExactNumberInfo,
    FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Spanned, TimezoneInfo,
    UnaryOperator,
};

use super::{Comparison, Expression, Function, MOST_DEPTH, Place, Refusal, Syntax, Target, Truth};
use crate::filter::decimal::Arithmetic;
use crate::filter::value::Type;

pub(super) fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

pub(super) fn place(expression: &ast::Expr) -> Place {
    expression.span().start.into()
}

pub(super) fn refuse(expression: &ast::Expr, what: &str) -> Refusal {
    Refusal::new(place(expression), format!("{what} is not known here"))
}

pub(super) fn convert(expression: &ast::Expr, depth: usize) -> Result<Expression, Refusal> {
    if depth > MOST_DEPTH {
        return Err(Refusal::new(
            place(expression),
            "the condition is nested too deeply",
        ));
    }
    let boxed = |expression: &ast::Expr| convert(expression, depth + 1).map(Box::new);
    let all = |expressions: &[ast::Expr]| {
        expressions
            .iter()
            .map(|expression| convert(expression, depth + 1))
            .collect::<Result<Vec<_>, _>>()
    };
    let is_truth = |argument, truth, negated| {
        Ok::<_, Refusal>(Syntax::IsTruth {
            negated,
            truth,
            argument: boxed(argument)?,
        })
    };
    let syntax = match expression {
        ast::Expr::Identifier(name) => column(std::slice::from_ref(name))?,
        ast::Expr::CompoundIdentifier(parts) => column(parts)?,
        ast::Expr::Nested(inner) => return convert(inner, depth + 1),
        ast::Expr::Value(value) => literal(&value.value)
            .ok_or_else(|| refuse(expression, &format!("the literal {}", value.value)))?,
        ast::Expr::TypedString(typed) => {
            let ast::Value::SingleQuotedString(text) = &typed.value.value else {
                return Err(refuse(expression, "this kind of literal"));
            };
            let at = Place::from(typed.value.span.start);
            Syntax::Cast {
                target: target(&typed.data_type, at)?,
                argument: Box::new(Expression {
                    place: at,
                    syntax: Syntax::Text(text.clone()),
                }),
            }
        }
        ast::Expr::Interval(interval) => interval_literal(expression, interval)?,
        ast::Expr::IsNull(argument) => Syntax::IsNull {
            negated: false,
            argument: boxed(argument)?,
        },
        ast::Expr::IsNotNull(argument) => Syntax::IsNull {
            negated: true,
            argument: boxed(argument)?,
        },
        ast::Expr::IsTrue(argument) => is_truth(argument, Truth::True, false)?,
        ast::Expr::IsNotTrue(argument) => is_truth(argument, Truth::True, true)?,
        ast::Expr::IsFalse(argument) => is_truth(argument, Truth::False, false)?,
        ast::Expr::IsNotFalse(argument) => is_truth(argument, Truth::False, true)?,
        ast::Expr::IsUnknown(argument) => is_truth(argument, Truth::Unknown, false)?,
        ast::Expr::IsNotUnknown(argument) => is_truth(argument, Truth::Unknown, true)?,
        ast::Expr::IsDistinctFrom(left, right) => Syntax::Distinct {
            negated: false,
            left: boxed(left)?,
            right: boxed(right)?,
        },
        ast::Expr::IsNotDistinctFrom(left, right) => Syntax::Distinct {
            negated: true,
            left: boxed(left)?,
            right: boxed(right)?,
        },
        ast::Expr::InList {
            expr,
            list,
            negated,
        } => {
            if list.is_empty() {
                return Err(Refusal::new(place(expr), "the list after IN is empty"));
            }
            Syntax::In {
                negated: *negated,
                argument: boxed(expr)?,
                list: all(list)?,
            }
        }
        ast::Expr::Between {
            expr,
            negated,
            low,
            high,
        } => Syntax::Between {
            negated: *negated,
            argument: boxed(expr)?,
            low: boxed(low)?,
            high: boxed(high)?,
        },
        ast::Expr::Like {
            negated,
            any: false,
            expr,
            pattern,
            escape_char,
        }
        | ast::Expr::ILike {
            negated,
            any: false,
            expr,
            pattern,
            escape_char,
        } => Syntax::Like {
            negated: *negated,
            fold_case: matches!(expression, ast::Expr::ILike { .. }),
            argument: boxed(expr)?,
            pattern: boxed(pattern)?,
            escape: escape_char.as_deref().map(escape).transpose()?,
        },
        ast::Expr::UnaryOp { op, expr } => match op {
            UnaryOperator::Not => Syntax::Not(boxed(expr)?),
            UnaryOperator::Plus => Syntax::Plus(boxed(expr)?),
            UnaryOperator::Minus => match convert(expr, depth + 1)? {
                // A sign is part of its number, as in the server's grammar.
                Expression {
                    syntax: Syntax::Number(digits),
                    ..
                } => Syntax::Number(match digits.strip_prefix('-') {
                    Some(positive) => positive.to_owned(),
                    None => format!("-{digits}"),
                }),
                operand => Syntax::Negate(Box::new(operand)),
            },
            other => return Err(refuse(expression, &format!("the operator {other}"))),
        },
        ast::Expr::BinaryOp { left, op, right } => {
            return binary(expression, left, op, right, depth);
        }
        ast::Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
            ..
        } => Syntax::Cast {
            target: target(data_type, place(expr))?,
            argument: boxed(expr)?,
        },
        ast::Expr::Collate { expr, collation } => Syntax::Collate {
            argument: boxed(expr)?,
            collation: name_of(collation)
                .and_then(|mut parts| parts.pop())
                .ok_or_else(|| refuse(expression, &format!("the collation {collation}")))?,
        },
        ast::Expr::Case {
            operand,
            conditions,
            else_result,
            ..
        } => Syntax::Case {
            operand: operand.as_deref().map(&boxed).transpose()?,
            branches: conditions
                .iter()
                .map(|when| {
                    Ok((
                        convert(&when.condition, depth + 1)?,
                        convert(&when.result, depth + 1)?,
                    ))
                })
                .collect::<Result<_, Refusal>>()?,
            otherwise: else_result.as_deref().map(&boxed).transpose()?,
        },
        ast::Expr::Function(function) => call(expression, function, depth)?,
        other => return Err(refuse(other, &construct(other))),
    };
    Ok(Expression {
        place: place(expression),
        syntax,
    })
}

/// What to call something that is not in the subset.
pub(super) fn construct(expression: &ast::Expr) -> String {
    match expression {
        ast::Expr::SimilarTo { .. } => "SIMILAR TO".into(),
        ast::Expr::Like { .. } | ast::Expr::ILike { .. } => "LIKE ANY".into(),
        ast::Expr::AnyOp { .. } => "ANY".into(),
        ast::Expr::AllOp { .. } => "ALL".into(),
        ast::Expr::InSubquery { .. } | ast::Expr::Subquery(_) => "a subquery".into(),
        ast::Expr::Exists { .. } => "EXISTS".into(),
        ast::Expr::Extract { .. } => "EXTRACT".into(),
        ast::Expr::Position { .. } => "the function position".into(),
        ast::Expr::Substring { .. } => "the function substring".into(),
        ast::Expr::Trim { .. } => "the function trim".into(),
        ast::Expr::Overlay { .. } => "the function overlay".into(),
        ast::Expr::Ceil { .. } => "the function ceil".into(),
        ast::Expr::Floor { .. } => "the function floor".into(),
        ast::Expr::AtTimeZone { .. } => "AT TIME ZONE".into(),
        ast::Expr::Tuple(_) => "a row of values".into(),
        ast::Expr::Array(_) => "an array".into(),
        ast::Expr::CompoundFieldAccess { .. } => "a subscript".into(),
        ast::Expr::IsJson { .. } => "IS JSON".into(),
        other => {
            let text = other.to_string();
            let shown: String = text.chars().take(60).collect();
            format!("{shown:?}")
        }
    }
}

pub(super) fn binary(
    expression: &ast::Expr,
    left: &ast::Expr,
    op: &BinaryOperator,
    right: &ast::Expr,
    depth: usize,
) -> Result<Expression, Refusal> {
    if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
        // A chain is one node, however long it is.
        let mut chain = vec![convert(right, depth + 1)?];
        let mut rest = left;
        while let ast::Expr::BinaryOp {
            left,
            op: same,
            right,
        } = rest
            && same == op
        {
            chain.push(convert(right, depth + 1)?);
            rest = left;
        }
        chain.push(convert(rest, depth + 1)?);
        chain.reverse();
        return Ok(Expression {
            place: chain[0].place,
            syntax: if *op == BinaryOperator::And {
                Syntax::And(chain)
            } else {
                Syntax::Or(chain)
            },
        });
    }
    let parts = (
        Box::new(convert(left, depth + 1)?),
        Box::new(convert(right, depth + 1)?),
    );
    let compare = |comparison, (left, right)| Syntax::Compare(comparison, left, right);
    let calculate = |operation, (left, right)| Syntax::Arithmetic(operation, left, right);
    let syntax = match op {
        BinaryOperator::Eq => compare(Comparison::Equal, parts),
        BinaryOperator::NotEq => compare(Comparison::Unequal, parts),
        BinaryOperator::Lt => compare(Comparison::Less, parts),
        BinaryOperator::LtEq => compare(Comparison::LessOrEqual, parts),
        BinaryOperator::Gt => compare(Comparison::Greater, parts),
        BinaryOperator::GtEq => compare(Comparison::GreaterOrEqual, parts),
        BinaryOperator::Plus => calculate(Arithmetic::Add, parts),
        BinaryOperator::Minus => calculate(Arithmetic::Subtract, parts),
        BinaryOperator::Multiply => calculate(Arithmetic::Multiply, parts),
        BinaryOperator::Divide => calculate(Arithmetic::Divide, parts),
        BinaryOperator::Modulo => calculate(Arithmetic::Modulo, parts),
        BinaryOperator::StringConcat => Syntax::Concatenate(parts.0, parts.1),
        BinaryOperator::PGLikeMatch
        | BinaryOperator::PGNotLikeMatch
        | BinaryOperator::PGILikeMatch
        | BinaryOperator::PGNotILikeMatch => Syntax::Like {
            negated: matches!(
                op,
                BinaryOperator::PGNotLikeMatch | BinaryOperator::PGNotILikeMatch
            ),
            fold_case: matches!(
                op,
                BinaryOperator::PGILikeMatch | BinaryOperator::PGNotILikeMatch
            ),
            argument: parts.0,
            pattern: parts.1,
            escape: None,
        },
        other => {
            return Err(Refusal::new(
                place(left),
                format!("the operator {other} is not known here"),
            ));
        }
    };
    Ok(Expression {
        place: place(expression),
        syntax,
    })
}

/// An unquoted name is folded as the server folds it.
pub(super) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() {
        name.value.clone()
    } else {
        name.value.to_ascii_lowercase()
    }
}

pub(super) fn column(parts: &[Ident]) -> Result<Syntax, Refusal> {
    let mut names: Vec<String> = parts.iter().map(folded).collect();
    let place = parts
        .first()
        .map(|name| Place::from(name.span.start))
        .unwrap_or_default();
    let unquoted = |word: &str| matches!(parts, [only] if only.quote_style.is_none() && only.value.eq_ignore_ascii_case(word));
    for word in [
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
        "current_user",
        "session_user",
        "user",
    ] {
        if unquoted(word) {
            return Err(volatile(place, word));
        }
    }
    match names.pop() {
        Some(name) if names.len() <= 2 => Ok(Syntax::Column {
            qualifier: names,
            name,
        }),
        _ => Err(Refusal::new(place, "a name has too many parts")),
    }
}

pub(super) fn volatile(place: Place, word: &str) -> Refusal {
    Refusal::new(
        place,
        format!("{word} differs from moment to moment, so a condition cannot use it"),
    )
}

pub(super) fn literal(value: &ast::Value) -> Option<Syntax> {
    Some(match value {
        ast::Value::Number(digits, false)
            if digits.bytes().all(|byte| {
                byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')
            }) =>
        {
            Syntax::Number(digits.clone())
        }
        ast::Value::SingleQuotedString(text) => Syntax::Text(text.clone()),
        ast::Value::DollarQuotedString(text) => Syntax::Text(text.value.clone()),
        ast::Value::Boolean(truth) => Syntax::Truth(*truth),
        ast::Value::Null => Syntax::Null,
        _ => return None,
    })
}

pub(super) fn escape(expression: &ast::Expr) -> Result<String, Refusal> {
    if let ast::Expr::Value(value) = expression
        && let ast::Value::SingleQuotedString(text) = &value.value
        && text.chars().count() <= 1
    {
        return Ok(text.clone());
    }
    Err(Refusal::new(
        place(expression),
        "ESCAPE takes a text of one character or none",
    ))
}

pub(super) fn interval_literal(
    expression: &ast::Expr,
    interval: &ast::Interval,
) -> Result<Syntax, Refusal> {
    let ast::Expr::Value(value) = interval.value.as_ref() else {
        return Err(refuse(expression, "an interval without quotes"));
    };
    let ast::Value::SingleQuotedString(text) = &value.value else {
        return Err(refuse(expression, "an interval without quotes"));
    };
    let plain = interval.leading_precision.is_none()
        && interval.last_field.is_none()
        && interval.fractional_seconds_precision.is_none();
    let text = match &interval.leading_field {
        None if plain => text.clone(),
        // A bare number counts the field.
        Some(
            field @ (DateTimeField::Year
            | DateTimeField::Month
            | DateTimeField::Day
            | DateTimeField::Hour
            | DateTimeField::Minute
            | DateTimeField::Second),
        ) if plain && text.trim().parse::<i64>().is_ok() => format!("{} {field}", text.trim()),
        _ => {
            return Err(refuse(expression, "this form of interval")
                .hint("write the units into the text: interval '1 day 02:30:00'"));
        }
    };
    let at = Place::from(value.span.start);
    Ok(Syntax::Cast {
        argument: Box::new(Expression {
            place: at,
            syntax: Syntax::Text(text),
        }),
        target: Target {
            kind: Type::Interval,
            length: None,
            precision: None,
        },
    })
}

/// The parts of a name, folded.
pub(super) fn name_of(name: &ObjectName) -> Option<Vec<String>> {
    name.0
        .iter()
        .map(|part| part.as_ident().map(folded))
        .collect()
}

pub(super) fn call(
    expression: &ast::Expr,
    function: &ast::Function,
    depth: usize,
) -> Result<Syntax, Refusal> {
    let mut parts = name_of(&function.name).unwrap_or_default();
    if parts.len() == 2 && parts[0] == "pg_catalog" {
        parts.remove(0);
    }
    let name = parts.join(".");
    let at = function.name.span().start.into();
    if matches!(
        name.as_str(),
        "now"
            | "current_date"
            | "current_time"
            | "current_timestamp"
            | "localtime"
            | "localtimestamp"
            | "clock_timestamp"
            | "statement_timestamp"
            | "transaction_timestamp"
            | "timeofday"
            | "random"
            | "current_user"
            | "session_user"
            | "user"
    ) {
        return Err(volatile(at, &name));
    }
    let unknown = || Refusal::new(at, format!("the function {name} is not known here"));
    let FunctionArguments::List(list) = &function.args else {
        return Err(unknown());
    };
    let plain = list.duplicate_treatment.is_none()
        && list.clauses.is_empty()
        && function.over.is_none()
        && function.filter.is_none()
        && function.within_group.is_empty()
        && function.null_treatment.is_none()
        && !function.uses_odbc_syntax
        && matches!(function.parameters, FunctionArguments::None);
    if !plain {
        return Err(unknown());
    }
    let mut arguments = list
        .args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => convert(argument, depth + 1),
            _ => Err(unknown()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let count = arguments.len();
    let mut only = |function| match arguments.pop() {
        Some(argument) if count == 1 => Ok(Syntax::Call(function, Box::new(argument))),
        _ => Err(Refusal::new(at, format!("{name} takes one argument"))),
    };
    match name.as_str() {
        "lower" => only(Function::Lower),
        "upper" => only(Function::Upper),
        "length" | "char_length" | "character_length" => only(Function::Length),
        "abs" => only(Function::Absolute),
        "coalesce" if count > 0 => Ok(Syntax::Coalesce(arguments)),
        "nullif" => match (arguments.pop(), arguments.pop(), count) {
            (Some(right), Some(left), 2) => Ok(Syntax::NullIf(Box::new(left), Box::new(right))),
            _ => Err(Refusal::new(at, "nullif takes two arguments")),
        },
        _ => Err(match expression {
            ast::Expr::Function(_) => unknown(),
            _ => refuse(expression, "this"),
        }),
    }
}

/// A cast's type.
pub(super) fn target(data_type: &DataType, at: Place) -> Result<Target, Refusal> {
    let refused = || Refusal::new(at, format!("a cast to {data_type} is not known here"));
    let plain = |kind| {
        Ok(Target {
            kind,
            length: None,
            precision: None,
        })
    };
    let sized = |kind, length: &Option<CharacterLength>, default| match length {
        None => Ok(Target {
            kind,
            length: default,
            precision: None,
        }),
        Some(CharacterLength::IntegerLength { length, unit: None })
            if (1..=10_485_760).contains(length) =>
        {
            Ok(Target {
                kind,
                length: Some(*length as u32),
                precision: None,
            })
        }
        Some(_) => Err(refused()),
    };
    match data_type {
        DataType::Bool | DataType::Boolean => plain(Type::Bool),
        DataType::SmallInt(None) | DataType::Int2(None) => plain(Type::Int2),
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => plain(Type::Int4),
        DataType::BigInt(None) | DataType::Int8(None) => plain(Type::Int8),
        DataType::Real | DataType::Float4 | DataType::Float(ExactNumberInfo::Precision(1..=24)) => {
            plain(Type::Float4)
        }
        DataType::Float8
        | DataType::DoublePrecision
        | DataType::Float(ExactNumberInfo::None | ExactNumberInfo::Precision(25..=53)) => {
            plain(Type::Float8)
        }
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => {
            let precision = match *info {
                ExactNumberInfo::None => None,
                ExactNumberInfo::Precision(precision) => Some((precision, 0)),
                ExactNumberInfo::PrecisionAndScale(precision, scale) => Some((precision, scale)),
            };
            if let Some((precision, scale)) = precision
                && !((1..=1000).contains(&precision) && (0..=precision as i64).contains(&scale))
            {
                return Err(refused());
            }
            Ok(Target {
                kind: Type::Numeric,
                length: None,
                precision: precision.map(|(precision, scale)| (precision as u32, scale as i32)),
            })
        }
        DataType::Text => plain(Type::Text),
        DataType::Varchar(length)
        | DataType::CharacterVarying(length)
        | DataType::CharVarying(length) => sized(Type::Varchar, length, None),
        DataType::Char(length) | DataType::Character(length) => {
            sized(Type::Bpchar, length, Some(1))
        }
        DataType::Uuid => plain(Type::Uuid),
        DataType::Bytea => plain(Type::Bytea),
        DataType::Date => plain(Type::Date),
        DataType::Time(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            plain(Type::Time)
        }
        DataType::Time(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => plain(Type::TimeTz),
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            plain(Type::Timestamp)
        }
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            plain(Type::TimestampTz)
        }
        DataType::Interval {
            fields: None,
            precision: None,
        } => plain(Type::Interval),
        DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            let name = name_of(name).and_then(|mut parts| {
                (parts.len() == 1 || parts.len() == 2 && parts[0] == "pg_catalog")
                    .then(|| parts.pop())
                    .flatten()
            });
            match name.as_deref() {
                Some("oid") => plain(Type::Oid),
                Some("name") => plain(Type::Name),
                Some("bpchar") => plain(Type::Bpchar),
                _ => Err(refused()),
            }
        }
        _ => Err(refused()),
    }
}
