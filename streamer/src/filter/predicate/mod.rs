//! A condition's text as a tree of what walferry knows. Parsing is
//! sqlparser's; what is not in the documented subset (docs/filters.md) is
//! refused here, by name and place, before any table is looked at.

mod convert;

use std::fmt;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, Tokenizer};

use crate::error::{Failure, Result};
use crate::filter::decimal::Arithmetic;
use crate::filter::value::Type;
use convert::*;

/// Names, operators and parentheses in one condition. Lists of values do not
/// count, so that they may be long.
const MOST_TOKENS: usize = 4000;
/// How deep operators may be nested.
const MOST_DEPTH: usize = 100;

/// Where something stands in a condition, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Place {
            line: location.line,
            column: location.column,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (_, 0) => Ok(()),
            (1, column) => write!(f, " at character {column}"),
            (line, column) => write!(f, " at line {line}, character {column}"),
        }
    }
}

/// What is wrong with a condition, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub place: Place,
    pub message: String,
    pub hint: Option<String>,
}

impl Refusal {
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Refusal {
            place,
            message: message.into(),
            hint: None,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.message, self.place)
    }
}

/// A condition that was read, not yet of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicate {
    pub text: String,
    pub root: Expression,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    pub place: Place,
    pub syntax: Syntax,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Lower,
    Upper,
    Length,
    Absolute,
}

/// A type as a cast names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: Type,
    /// The length of varchar(n) and char(n).
    pub length: Option<u32>,
    /// Of numeric(p, s).
    pub precision: Option<(u32, i32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Syntax {
    Column {
        /// Schema and table, as far as they were written.
        qualifier: Vec<String>,
        name: String,
    },
    /// Digits, a point, an exponent; a sign where one stood before it.
    Number(String),
    Text(String),
    Truth(bool),
    Null,
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Compare(Comparison, Box<Expression>, Box<Expression>),
    Arithmetic(Arithmetic, Box<Expression>, Box<Expression>),
    Concatenate(Box<Expression>, Box<Expression>),
    Negate(Box<Expression>),
    Plus(Box<Expression>),
    Distinct {
        negated: bool,
        left: Box<Expression>,
        right: Box<Expression>,
    },
    IsNull {
        negated: bool,
        argument: Box<Expression>,
    },
    IsTruth {
        negated: bool,
        truth: Truth,
        argument: Box<Expression>,
    },
    In {
        negated: bool,
        argument: Box<Expression>,
        list: Vec<Expression>,
    },
    Between {
        negated: bool,
        argument: Box<Expression>,
        low: Box<Expression>,
        high: Box<Expression>,
    },
    Like {
        negated: bool,
        fold_case: bool,
        argument: Box<Expression>,
        pattern: Box<Expression>,
        /// `None`: a backslash; empty: nothing escapes.
        escape: Option<String>,
    },
    Cast {
        argument: Box<Expression>,
        target: Target,
    },
    Collate {
        argument: Box<Expression>,
        collation: String,
    },
    Coalesce(Vec<Expression>),
    NullIf(Box<Expression>, Box<Expression>),
    Case {
        operand: Option<Box<Expression>>,
        branches: Vec<(Expression, Expression)>,
        otherwise: Option<Box<Expression>>,
    },
    Call(Function, Box<Expression>),
}

impl Predicate {
    /// Reads a condition.
    ///
    /// # Errors
    /// Usage: what cannot be read or is not known, by name and place.
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(text).map_err(|refusal| {
            let hint = refusal.hint.clone().unwrap_or_else(|| {
                "docs/filters.md lists what conditions may say; filter the rest behind walferry"
                    .to_owned()
            });
            Failure::usage(format!("the condition {text:?} cannot be used"))
                .detail(refusal.to_string())
                .hint(hint)
        })
    }

    /// Reads a condition; the refusal is the bare one.
    pub fn read(text: &str) -> Result<Self, Refusal> {
        let dialect = PostgreSqlDialect {};
        let tokens = Tokenizer::new(&dialect, text)
            .tokenize_with_location()
            .map_err(|error| Refusal::new(error.location.into(), error.message))?;
        let counted = tokens.iter().filter(|token| {
            !matches!(
                token.token,
                Token::Whitespace(_)
                    | Token::Comma
                    | Token::Number(..)
                    | Token::SingleQuotedString(_)
                    | Token::Minus
            )
        });
        if counted.count() > MOST_TOKENS {
            return Err(Refusal::new(
                Place::default(),
                format!("a condition has at most {MOST_TOKENS} names and operators"),
            ));
        }
        let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
        let syntax_error = |error| {
            let message = match error {
                sqlparser::parser::ParserError::TokenizerError(message)
                | sqlparser::parser::ParserError::ParserError(message) => message,
                sqlparser::parser::ParserError::RecursionLimitExceeded => {
                    "it is nested too deeply".to_owned()
                }
            };
            if message.contains("keyword: COLLATE") {
                return Refusal::new(
                    Place::default(),
                    "COLLATE behind a cast or a function needs parentheses: (x::text) COLLATE \"C\"",
                );
            }
            // sqlparser ends its messages with the place in its own words.
            Refusal::new(Place::default(), lower_first(&message))
        };
        let parsed = parser.parse_expr().map_err(syntax_error)?;
        let next = parser.peek_token();
        if next.token != Token::EOF {
            return Err(Refusal::new(
                next.span.start.into(),
                format!(
                    "the condition should end before {:?}",
                    next.token.to_string()
                ),
            ));
        }
        Ok(Predicate {
            text: text.to_owned(),
            root: convert(&parsed, 0)?,
        })
    }

    /// The columns that it reads, each once.
    pub fn columns(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.root.visit(&mut |expression| {
            if let Syntax::Column { name, .. } = &expression.syntax
                && !names.contains(&name.as_str())
            {
                names.push(name.as_str());
            }
        });
        names
    }
}

impl Expression {
    /// Calls `each` for this and everything below.
    fn visit<'e>(&'e self, each: &mut impl FnMut(&'e Expression)) {
        each(self);
        match &self.syntax {
            Syntax::Column { .. }
            | Syntax::Number(_)
            | Syntax::Text(_)
            | Syntax::Truth(_)
            | Syntax::Null => {}
            Syntax::Not(argument)
            | Syntax::Negate(argument)
            | Syntax::Plus(argument)
            | Syntax::IsNull { argument, .. }
            | Syntax::IsTruth { argument, .. }
            | Syntax::Cast { argument, .. }
            | Syntax::Collate { argument, .. }
            | Syntax::Call(_, argument) => argument.visit(each),
            Syntax::And(list) | Syntax::Or(list) | Syntax::Coalesce(list) => {
                list.iter().for_each(|item| item.visit(each));
            }
            Syntax::Compare(_, left, right)
            | Syntax::Arithmetic(_, left, right)
            | Syntax::Concatenate(left, right)
            | Syntax::Distinct { left, right, .. }
            | Syntax::NullIf(left, right) => {
                left.visit(each);
                right.visit(each);
            }
            Syntax::In { argument, list, .. } => {
                argument.visit(each);
                list.iter().for_each(|item| item.visit(each));
            }
            Syntax::Between {
                argument,
                low,
                high,
                ..
            } => [argument, low, high]
                .into_iter()
                .for_each(|part| part.visit(each)),
            Syntax::Like {
                argument, pattern, ..
            } => {
                argument.visit(each);
                pattern.visit(each);
            }
            Syntax::Case {
                operand,
                branches,
                otherwise,
            } => {
                for part in operand.iter().chain(otherwise) {
                    part.visit(each);
                }
                for (condition, result) in branches {
                    condition.visit(each);
                    result.visit(each);
                }
            }
        }
    }

    /// Whether it reads a column.
    pub fn reads_columns(&self) -> bool {
        let mut reads = false;
        self.visit(&mut |expression| {
            reads |= matches!(expression.syntax, Syntax::Column { .. });
        });
        reads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Predicate::read(text).expect_err(text).to_string()
    }

    #[test]
    fn the_columns_of_a_condition_are_named_as_the_server_would() {
        let predicate = Predicate::read(
            "Price > 5 AND orders.\"Odd\" IS NULL OR lower(price::text) IN ('a', b)",
        )
        .unwrap();
        assert_eq!(predicate.columns(), ["price", "Odd", "b"]);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name_and_place() {
        for (text, expected) in [
            (
                "a = soundex(b)",
                "the function soundex is not known here at character 5",
            ),
            ("a ~ 'x'", "the operator ~ is not known here at character 1"),
            (
                "a IN (SELECT 1)",
                "a subquery is not known here at character 1",
            ),
            (
                "a::inet = '::1'",
                "a cast to inet is not known here at character 1",
            ),
            (
                "t < now()",
                "now differs from moment to moment, so a condition cannot use it at character 5",
            ),
            (
                "t < current_date",
                "current_date differs from moment to moment, so a condition cannot use it at character 5",
            ),
            (
                "a = 1 b",
                "the condition should end before \"b\" at character 7",
            ),
            (
                "a SIMILAR TO 'x'",
                "SIMILAR TO is not known here at character 1",
            ),
            (
                "a = E'x'",
                "the literal E'x' is not known here at character 5",
            ),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
        }
        for text in ["", "a >", "(a = 1", "a IN ()", "a = 'x", "count(*) > 1"] {
            assert!(Predicate::read(text).is_err(), "{text}");
        }
        assert!(refusal(&"(".repeat(300)).contains("nested"));
        assert!(Predicate::read(&format!("a{}", "+a".repeat(200))).is_err());
        assert!(Predicate::read(&vec!["a = 1"; 1000].join(" OR ")).is_ok());
        assert!(Predicate::read(&format!("a IN ({})", vec!["-7"; 50_000].join(","))).is_ok());
    }

    #[test]
    fn a_sign_belongs_to_its_number() {
        let number = |text| match Predicate::read(text).unwrap().root.syntax {
            Syntax::Number(digits) => digits,
            other => panic!("{other:?}"),
        };
        assert_eq!(number("-9223372036854775808"), "-9223372036854775808");
        assert_eq!(number("- -5"), "5");
    }
}
