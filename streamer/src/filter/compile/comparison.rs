//! What is compared: both sides of one type, in a collation whose order is
//! known here.

use super::nodes::*;
use super::{Collated, Collation, Compiler, Typed, order_refusal};
use crate::filter::evaluate::{List, Node, PatternNode};
use crate::filter::input;
use crate::filter::like::Pattern;
use crate::filter::operators;
use crate::filter::predicate::{Comparison, Expression, Place, Refusal, Target};
use crate::filter::value::{Type, Value};

impl Compiler<'_> {
    /// Gives an untyped literal a type, or converts what the server would
    /// convert without being asked.
    pub(super) fn coerced(&self, value: Typed, kind: Type) -> Result<Typed, Refusal> {
        if value.kind == kind {
            return Ok(value);
        }
        if value.kind == Type::Unknown {
            let collation = kind.is_text().then_some(match value.collation {
                Some(explicit @ Collated::Explicit(_)) => explicit,
                _ => Collated::Implicit(Collation::Default),
            });
            let node = match &value.literal {
                None => Node::Constant(Value::Null),
                Some(text) => match input::read(kind, text) {
                    Ok(value) => Node::Constant(value),
                    Err(failed) => return Err(Refusal::new(value.place, failed.message)),
                },
            };
            return Ok(Typed {
                collation,
                ..typed(node, kind, value.place)
            });
        }
        let target = Target {
            kind,
            length: None,
            precision: None,
        };
        Ok(Typed {
            node: converted(value.node, value.kind, target, value.place)?,
            kind,
            length: None,
            ..value
        })
    }

    /// Two operands as the types that they are compared as.
    pub(super) fn comparable(
        &self,
        operator: &str,
        left: Typed,
        right: Typed,
        place: Place,
    ) -> Result<(Typed, Typed), Refusal> {
        let (left, right) = match (left.kind, right.kind) {
            (Type::Unknown, Type::Unknown) => (
                self.coerced(left, Type::Text)?,
                self.coerced(right, Type::Text)?,
            ),
            (Type::Unknown, other) if other != Type::Other => {
                (self.coerced(left, operators::literal_beside(other))?, right)
            }
            (other, Type::Unknown) if other != Type::Other => {
                (left, self.coerced(right, operators::literal_beside(other))?)
            }
            _ => (left, right),
        };
        let Some((left_kind, right_kind)) = operators::comparison(left.kind, right.kind) else {
            return Err(no_operator(place, operator, &[&left, &right]));
        };
        Ok((
            self.coerced(left, left_kind)?,
            self.coerced(right, right_kind)?,
        ))
    }

    pub(super) fn compare(
        &self,
        comparison: Comparison,
        left: Typed,
        right: Typed,
        place: Place,
    ) -> Result<Node, Refusal> {
        let symbol = match comparison {
            Comparison::Equal => "=",
            Comparison::Unequal => "<>",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        };
        let (left, right) = self.comparable(symbol, left, right, place)?;
        let fixed = is_fixed_pair(left.kind, right.kind);
        let collation = collated(&[&left, &right]);
        if matches!(comparison, Comparison::Equal | Comparison::Unequal) {
            self.check_equality(left.kind, collation, place)?;
        } else {
            self.check_order(left.kind, collation, symbol, place)?;
        }
        strict(
            Node::Compare(comparison, Box::new(left.node), Box::new(right.node)),
            place,
            fixed,
        )
    }

    pub(super) fn collation_of(
        &self,
        collation: Option<Collated>,
        place: Place,
    ) -> Result<Collation, Refusal> {
        match collation {
            Some(Collated::Implicit(collation) | Collated::Explicit(collation)) => {
                Ok(match collation {
                    Collation::Default if self.server.default_is_c => Collation::C,
                    other => other,
                })
            }
            None => Ok(Collation::C),
            Some(Collated::Conflict) => Err(Refusal::new(
                place,
                "the two columns have different collations",
            )
            .hint("say which to use, e.g. COLLATE \"C\"")),
        }
    }

    pub(super) fn check_equality(
        &self,
        kind: Type,
        collation: Option<Collated>,
        place: Place,
    ) -> Result<(), Refusal> {
        if !kind.is_text() {
            return Ok(());
        }
        match self.collation_of(collation, place)? {
            Collation::Other {
                deterministic: false,
            } => Err(Refusal::new(
                place,
                "the column's collation is nondeterministic: what is equal in it only the server knows",
            )
            .hint("write COLLATE \"C\" behind the text to compare exactly")),
            _ => Ok(()),
        }
    }

    pub(super) fn check_order(
        &self,
        kind: Type,
        collation: Option<Collated>,
        symbol: &str,
        place: Place,
    ) -> Result<(), Refusal> {
        if !kind.is_text() {
            return Ok(());
        }
        if self.collation_of(collation, place)? != Collation::C {
            return Err(order_refusal(place, &format!("{symbol} on text")));
        }
        if !self.server.orders_as_utf8 {
            return Err(Refusal::new(
                place,
                format!(
                    "{symbol} on text depends on the bytes of the server's encoding, which are not at hand"
                ),
            ));
        }
        Ok(())
    }

    /// Case is folded as the collation C does it: ASCII only.
    pub(super) fn check_cases(
        &self,
        collation: Option<Collated>,
        what: &str,
        place: Place,
    ) -> Result<(), Refusal> {
        if self.collation_of(collation, place)? == Collation::C {
            Ok(())
        } else {
            Err(Refusal::new(
                place,
                format!("{what} depends on the collation, which only the server knows"),
            )
            .hint("write COLLATE \"C\" behind the text, which folds the letters A to Z"))
        }
    }

    pub(super) fn check_characters(&self, what: &str, place: Place) -> Result<(), Refusal> {
        if self.server.counts_characters {
            Ok(())
        } else {
            Err(Refusal::new(
                place,
                format!(
                    "{what} counts bytes in a database with the encoding SQL_ASCII, which are not at hand"
                ),
            ))
        }
    }

    pub(super) fn distinct(
        &self,
        negated: bool,
        left: Typed,
        right: Typed,
        place: Place,
    ) -> Result<Node, Refusal> {
        // Beside NULL it asks for null only, whatever the type is.
        let is_null = |value: &Typed| value.kind == Type::Unknown && value.literal.is_none();
        for (value, other) in [(&left, &right), (&right, &left)] {
            if is_null(value) {
                let argument = match &other.literal {
                    Some(_) => Node::Constant(Value::Bool(true)),
                    None => other.node.clone(),
                };
                return folded(
                    Node::IsNull {
                        negated: !negated,
                        argument: Box::new(argument),
                    },
                    place,
                );
            }
        }
        let (left, right) = self.comparable("IS DISTINCT FROM", left, right, place)?;
        self.check_equality(left.kind, collated(&[&left, &right]), place)?;
        let fixed = is_fixed_pair(left.kind, right.kind);
        let node = Node::Distinct {
            negated,
            left: Box::new(left.node),
            right: Box::new(right.node),
        };
        if fixed { folded(node, place) } else { Ok(node) }
    }

    /// Several values without columns are an array of their common type, as in
    /// `transformAExprIn`; everything else is one comparison each.
    pub(super) fn in_list(
        &self,
        negated: bool,
        argument: &Expression,
        list: &[Expression],
        place: Place,
    ) -> Result<Node, Refusal> {
        let (variable, fixed): (Vec<_>, Vec<_>) =
            list.iter().partition(|item| item.reads_columns());
        let mut parts = Vec::new();
        let mut single: Vec<&Expression> = list.iter().collect();
        if fixed.len() > 1 {
            let left = self.compile(argument)?;
            let values: Vec<Typed> = fixed
                .iter()
                .map(|item| self.compile(item))
                .collect::<Result<_, _>>()?;
            let kinds = std::iter::once(left.kind).chain(values.iter().map(|value| value.kind));
            let common = operators::common(kinds.clone()).filter(|common| {
                kinds
                    .clone()
                    .all(|kind| operators::is_implicit(kind, *common))
            });
            if let Some(common) = common.filter(|common| *common != Type::Other) {
                parts.push(self.in_array(negated, left, values, common, place)?);
                single = variable;
            }
        }
        let comparison = if negated {
            Comparison::Unequal
        } else {
            Comparison::Equal
        };
        for item in single {
            let (left, right) = (self.compile(argument)?, self.compile(item)?);
            parts.push(self.compare(comparison, left, right, place)?);
        }
        Ok(junction(parts, !negated))
    }

    pub(super) fn in_array(
        &self,
        negated: bool,
        left: Typed,
        values: Vec<Typed>,
        common: Type,
        place: Place,
    ) -> Result<Node, Refusal> {
        let left = if left.kind == Type::Unknown {
            self.coerced(left, common)?
        } else {
            left
        };
        let Some((left_kind, item_kind)) = operators::comparison(left.kind, common) else {
            return Err(Refusal::new(
                place,
                format!(
                    "there is no operator to find {} in a list",
                    left.kind.name()
                ),
            ));
        };
        let mut collation = left.collation;
        let mut items = Vec::with_capacity(values.len());
        for value in values {
            collation = merged(collation, value.collation);
            let value = self.coerced(value, common)?;
            items.push(self.coerced(value, item_kind)?.node);
        }
        self.check_equality(left_kind, collation, place)?;
        let left = self.coerced(left, left_kind)?;
        if left.node.is_null() {
            return Ok(Node::Constant(Value::Null));
        }
        let node = Node::In {
            negated,
            argument: Box::new(left.node),
            list: List::new(items),
        };
        if is_fixed_pair(left_kind, item_kind) {
            folded(node, place)
        } else {
            Ok(node)
        }
    }

    pub(super) fn like(
        &self,
        negated: bool,
        fold_case: bool,
        argument: &Expression,
        pattern: &Expression,
        escape: &Option<String>,
        place: Place,
    ) -> Result<Node, Refusal> {
        let what = if fold_case { "ILIKE" } else { "LIKE" };
        let (argument, pattern) = (self.compile(argument)?, self.compile(pattern)?);
        let textual = |value: &Typed| value.kind.is_text() || value.kind == Type::Unknown;
        if !textual(&argument) || !textual(&pattern) {
            return Err(no_operator(place, what, &[&argument, &pattern]));
        }
        let collation = collated(&[&argument, &pattern]);
        self.check_equality(Type::Text, collation, place)?;
        if fold_case {
            self.check_cases(collation, what, place)?;
        }
        let argument = if argument.kind == Type::Bpchar {
            // Here the blanks of char(n) count.
            let Some(length) = argument.length else {
                return Err(Refusal::new(
                    place,
                    format!(
                        "{what} on a character of no length counts blanks that are not at hand"
                    ),
                )
                .hint("cast it to text"));
            };
            folded(Node::Padded(Box::new(argument.node), length), place)?
        } else {
            self.coerced(argument, Type::Text)?.node
        };
        let pattern = self.coerced(pattern, Type::Text)?;
        let escape = match escape {
            None => Some('\\'),
            Some(text) => text.chars().next(),
        };
        let pattern = match pattern.node {
            Node::Constant(Value::Text(text)) => {
                if text.contains('_') {
                    self.check_characters("_ in a pattern", place)?;
                }
                let pattern = Pattern::new(&text, escape);
                PatternNode::Constant(if fold_case { pattern.folded() } else { pattern })
            }
            Node::Constant(_) => return Ok(Node::Constant(Value::Null)),
            node => {
                self.check_characters("_ in a pattern", place)?;
                PatternNode::Node(Box::new(node), escape)
            }
        };
        if argument.is_null() {
            return Ok(Node::Constant(Value::Null));
        }
        folded(
            Node::Like {
                negated,
                fold_case,
                argument: Box::new(argument),
                pattern,
            },
            place,
        )
    }
}
