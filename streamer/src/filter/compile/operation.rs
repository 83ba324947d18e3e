//! What is worked out of operands: arithmetic, casts, functions, CASE.

use super::nodes::*;
use super::{Collated, Collation, Compiler, Typed};
use crate::filter::cast::cast;
use crate::filter::decimal;
use crate::filter::evaluate::Node;
use crate::filter::operators;
use crate::filter::predicate::{Comparison, Expression, Function, Place, Refusal, Target};
use crate::filter::value::{Type, Value};

impl Compiler<'_> {
    pub(super) fn arithmetic(
        &self,
        operation: decimal::Arithmetic,
        left: Typed,
        right: Typed,
        place: Place,
    ) -> Result<Typed, Refusal> {
        use decimal::Arithmetic;
        let symbol = match operation {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Modulo => "%",
        };
        let literal =
            |other: &Typed, is_right| operators::literal_operand(operation, other.kind, is_right);
        let (left, right) = match (left.kind, right.kind) {
            (Type::Unknown, _) => match literal(&right, false) {
                Some(kind) => (self.coerced(left, kind)?, right),
                None => return Err(no_operator(place, symbol, &[&left, &right])),
            },
            (_, Type::Unknown) => match literal(&left, true) {
                Some(kind) => {
                    let right = self.coerced(right, kind)?;
                    (left, right)
                }
                None => return Err(no_operator(place, symbol, &[&left, &right])),
            },
            _ => (left, right),
        };
        let Some(resolved) = operators::arithmetic(operation, left.kind, right.kind) else {
            return Err(no_operator(place, symbol, &[&left, &right]));
        };
        let left = self.coerced(left, resolved.left)?;
        let right = self.coerced(right, resolved.right)?;
        let node = strict(
            Node::Arithmetic {
                operation,
                calculation: resolved.calculation,
                result: resolved.result,
                left: Box::new(left.node),
                right: Box::new(right.node),
                infinite_intervals: self.server.infinite_intervals,
            },
            place,
            resolved.result != Type::TimestampTz,
        )?;
        Ok(typed(node, resolved.result, place))
    }

    pub(super) fn concatenate(
        &self,
        left: Typed,
        right: Typed,
        place: Place,
    ) -> Result<Typed, Refusal> {
        let textual = |value: &Typed| value.kind.is_text() || value.kind == Type::Unknown;
        let printable = |value: &Typed| !matches!(value.kind, Type::Bytea | Type::Other);
        if !(textual(&left) || textual(&right)) || !printable(&left) || !printable(&right) {
            return Err(no_operator(place, "||", &[&left, &right]));
        }
        let collation = collated(&[&left, &right]);
        let part = |value: Typed| -> Result<(Box<Node>, Type), Refusal> {
            let value = if value.kind == Type::Unknown {
                self.coerced(value, Type::Text)?
            } else {
                value
            };
            Ok((Box::new(value.node), value.kind))
        };
        let fixed = textual(&left) && textual(&right);
        let (left, right) = (part(left)?, part(right)?);
        Ok(Typed {
            collation: collation.or(Some(Collated::Implicit(Collation::Default))),
            ..typed(
                strict(Node::Concatenate(left, right), place, fixed)?,
                Type::Text,
                place,
            )
        })
    }

    pub(super) fn explicit_cast(
        &self,
        argument: Typed,
        target: Target,
        place: Place,
    ) -> Result<Typed, Refusal> {
        if !operators::is_castable(argument.kind, target.kind) {
            let refusal = Refusal::new(
                place,
                format!(
                    "a cast from {} to {} is not known here",
                    argument.kind.name(),
                    target.kind.name()
                ),
            );
            return Err(refusal);
        }
        let from_literal = argument.kind == Type::Unknown;
        let collation = argument.collation;
        let value = if from_literal {
            let plain = self.coerced(argument, target.kind)?;
            match &plain.node {
                Node::Constant(Value::Null) => plain.node,
                Node::Constant(value) => Node::Constant(
                    cast(value.clone(), target.kind, &target)
                        .map_err(|failed| Refusal::new(place, failed.message))?,
                ),
                _ => plain.node,
            }
        } else {
            converted(argument.node, argument.kind, target, place)?
        };
        Ok(Typed {
            length: (target.kind == Type::Bpchar)
                .then_some(target.length)
                .flatten(),
            collation: (target.kind.is_text())
                .then_some(collation.unwrap_or(Collated::Implicit(Collation::Default))),
            ..typed(value, target.kind, place)
        })
    }

    /// Values that stand for each other, as one type.
    pub(super) fn unified(
        &self,
        list: Vec<Typed>,
        what: &str,
        place: Place,
    ) -> Result<(Vec<Node>, Typed), Refusal> {
        let kinds = || list.iter().map(|value| value.kind);
        let same = kinds().all(|kind| kind == list[0].kind) && list[0].kind != Type::Unknown;
        let common = if same {
            Some(list[0].kind)
        } else {
            operators::common(kinds())
                .filter(|common| kinds().all(|kind| operators::is_implicit(kind, *common)))
        };
        let Some(kind) = common.filter(|kind| *kind != Type::Other) else {
            let names: Vec<&str> = kinds().map(Type::name).collect();
            return Err(Refusal::new(
                place,
                format!(
                    "the types in {what} do not go together: {}",
                    names.join(", ")
                ),
            ));
        };
        let collation = collated(&list.iter().collect::<Vec<_>>());
        let length = (kind == Type::Bpchar)
            .then(|| {
                list[0]
                    .length
                    .filter(|_| list.iter().all(|value| value.length == list[0].length))
            })
            .flatten();
        let nodes = list
            .into_iter()
            .map(|value| Ok(self.coerced(value, kind)?.node))
            .collect::<Result<Vec<_>, Refusal>>()?;
        Ok((
            nodes,
            Typed {
                length,
                collation: kind.is_text().then_some(collation).flatten(),
                ..typed(Node::Constant(Value::Null), kind, place)
            },
        ))
    }

    pub(super) fn null_if(
        &self,
        left: Typed,
        right: Typed,
        place: Place,
    ) -> Result<Typed, Refusal> {
        let own_kind = left.kind;
        let original = left.node.clone();
        let (left, right) = self.comparable("=", left, right, place)?;
        self.check_equality(left.kind, collated(&[&left, &right]), place)?;
        // The value is the first operand as the operator = takes it; float4
        // has an operator of its own beside every other float.
        let (result, kind) = if own_kind == Type::Float4 {
            (original, Type::Float4)
        } else {
            (left.node.clone(), left.kind)
        };
        Ok(Typed {
            node: folded(
                Node::NullIf {
                    result: Box::new(result),
                    left: Box::new(left.node),
                    right: Box::new(right.node),
                },
                place,
            )?,
            kind,
            length: left.length,
            collation: left.collation,
            literal: None,
            place,
        })
    }

    pub(super) fn case(
        &self,
        operand: Option<&Expression>,
        branches: &[(Expression, Expression)],
        otherwise: Option<&Expression>,
        place: Place,
    ) -> Result<Typed, Refusal> {
        let mut conditions = Vec::with_capacity(branches.len());
        // The default result has the first say in the type.
        let mut results = vec![match otherwise {
            Some(otherwise) => self.compile(otherwise)?,
            None => typed(Node::Constant(Value::Null), Type::Unknown, place),
        }];
        for (condition, result) in branches {
            conditions.push(match operand {
                None => self.boolean(condition)?,
                Some(operand) => {
                    let operand = self.compile(operand)?;
                    let operand = if operand.kind == Type::Unknown {
                        self.coerced(operand, Type::Text)?
                    } else {
                        operand
                    };
                    let value = self.compile(condition)?;
                    self.compare(Comparison::Equal, operand, value, place)?
                }
            });
            results.push(self.compile(result)?);
        }
        let (nodes, result) = self.unified(results, "CASE", place)?;
        let mut nodes = nodes.into_iter();
        let otherwise = nodes.next().unwrap_or(Node::Constant(Value::Null));
        Ok(Typed {
            node: chosen(conditions.into_iter().zip(nodes), otherwise),
            ..result
        })
    }

    pub(super) fn call(
        &self,
        function: Function,
        argument: Typed,
        place: Place,
    ) -> Result<Typed, Refusal> {
        let name = match function {
            Function::Lower => "lower",
            Function::Upper => "upper",
            Function::Length => "length",
            Function::Absolute => "abs",
        };
        if function == Function::Absolute {
            if !argument.kind.is_number() {
                return Err(no_function(place, name, &argument));
            }
            let kind = argument.kind;
            let node = Node::Call(function, Box::new(argument.node), kind);
            return Ok(typed(strict(node, place, true)?, kind, place));
        }
        if !argument.kind.is_text() && argument.kind != Type::Unknown {
            return Err(no_function(place, name, &argument));
        }
        let argument = self.coerced(argument, Type::Text)?;
        let collation = argument.collation;
        let kind = if function == Function::Length {
            self.check_characters(name, place)?;
            Type::Int4
        } else {
            self.check_cases(collation, name, place)?;
            Type::Text
        };
        Ok(Typed {
            collation: kind.is_text().then_some(collation).flatten(),
            ..typed(
                strict(
                    Node::Call(function, Box::new(argument.node), Type::Text),
                    place,
                    true,
                )?,
                kind,
                place,
            )
        })
    }
}
