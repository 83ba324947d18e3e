//! A condition becomes one of a table's definition: names become columns,
//! every operand gets its type and collation by the server's rules
//! (`src/backend/parser/parse_expr.c`), and what has no row in it is worked
//! out once.

use super::evaluate::{List, Node, PatternNode, Row, cast};
use super::failing::Stop;
use super::input;
use super::like::Pattern;
use super::operators;
use super::predicate::{
    Comparison, Expression, Function, Place, Predicate, Refusal, Syntax, Target,
};
use super::value::{Type, Value};

/// A table as conditions see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub schema: String,
    pub name: String,
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Type,
    /// The declared type's name, for messages.
    pub type_name: String,
    /// The length of char(n).
    pub length: Option<u32>,
    pub collation: Collation,
}

/// How text is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collation {
    /// The database's own.
    #[default]
    Default,
    /// By bytes: C, POSIX.
    C,
    /// Another. Equal is what has equal bytes, unless it is nondeterministic.
    Other { deterministic: bool },
}

/// What conditions need to know of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// 17 and later.
    pub infinite_intervals: bool,
    /// Whether the database's own collation is C.
    pub default_is_c: bool,
    /// Whether the server's encoding orders text as UTF-8 does.
    pub orders_as_utf8: bool,
    /// Whether the server counts characters, not bytes.
    pub counts_characters: bool,
}

impl Default for Server {
    /// A database about which nothing was found out.
    fn default() -> Self {
        Server {
            infinite_intervals: false,
            default_is_c: false,
            orders_as_utf8: true,
            counts_characters: true,
        }
    }
}

/// Makes a condition one of this table's.
///
/// # Errors
/// A column that the table does not have, an operator that there is not for
/// its types, a literal that cannot be read.
pub fn compile(predicate: &Predicate, table: &Table, server: &Server) -> Result<Node, Refusal> {
    let compiler = Compiler { table, server };
    compiler.boolean(&predicate.root)
}

/// An expression with its type.
struct Typed {
    node: Node,
    kind: Type,
    /// Of char(n).
    length: Option<u32>,
    collation: Option<Collated>,
    /// The text of an untyped literal.
    literal: Option<String>,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collated {
    Implicit(Collation),
    Explicit(Collation),
    /// Two columns' collations differ.
    Conflict,
}

struct Compiler<'c> {
    table: &'c Table,
    server: &'c Server,
}

/// What a condition may look at only through a cast, and why.
fn order_refusal(place: Place, what: &str) -> Refusal {
    Refusal::new(
        place,
        format!("{what} depends on the collation, which only the server knows"),
    )
    .hint("write COLLATE \"C\" behind the text, e.g. name COLLATE \"C\" < 'm'; or = and IN, which compare exactly")
}

impl Compiler<'_> {
    fn compile(&self, expression: &Expression) -> Result<Typed, Refusal> {
        let place = expression.place;
        let boolean = |node| Ok(typed(node, Type::Bool, place));
        match &expression.syntax {
            Syntax::Column { qualifier, name } => self.column(qualifier, name, place),
            Syntax::Number(digits) => number(digits, place),
            Syntax::Text(text) => Ok(Typed {
                literal: Some(text.clone()),
                collation: Some(Collated::Implicit(Collation::Default)),
                ..typed(Node::Constant(Value::Null), Type::Unknown, place)
            }),
            Syntax::Null => Ok(typed(Node::Constant(Value::Null), Type::Unknown, place)),
            Syntax::Truth(value) => boolean(Node::Constant(Value::Bool(*value))),
            Syntax::Not(argument) => {
                let argument = self.boolean(argument)?;
                boolean(folded(Node::Not(Box::new(argument)), place)?)
            }
            Syntax::And(list) => boolean(junction(self.booleans(list)?, false)),
            Syntax::Or(list) => boolean(junction(self.booleans(list)?, true)),
            Syntax::Compare(comparison, left, right) => {
                let (left, right) = (self.compile(left)?, self.compile(right)?);
                boolean(self.compare(*comparison, left, right, place)?)
            }
            Syntax::Between {
                negated,
                argument,
                low,
                high,
            } => {
                use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
                let side = |comparison, bound| {
                    self.compare(
                        comparison,
                        self.compile(argument)?,
                        self.compile(bound)?,
                        place,
                    )
                };
                boolean(if *negated {
                    junction(vec![side(Less, low)?, side(Greater, high)?], true)
                } else {
                    junction(
                        vec![side(GreaterOrEqual, low)?, side(LessOrEqual, high)?],
                        false,
                    )
                })
            }
            Syntax::Distinct {
                negated,
                left,
                right,
            } => {
                let (left, right) = (self.compile(left)?, self.compile(right)?);
                boolean(self.distinct(*negated, left, right, place)?)
            }
            Syntax::IsNull { negated, argument } => {
                let argument = self.compile(argument)?;
                let argument = if argument.kind == Type::Unknown {
                    self.coerced(argument, Type::Text)?.node
                } else {
                    argument.node
                };
                boolean(folded(
                    Node::IsNull {
                        negated: *negated,
                        argument: Box::new(argument),
                    },
                    place,
                )?)
            }
            Syntax::IsTruth {
                negated,
                truth,
                argument,
            } => boolean(folded(
                Node::IsTruth {
                    negated: *negated,
                    truth: *truth,
                    argument: Box::new(self.boolean(argument)?),
                },
                place,
            )?),
            Syntax::In {
                negated,
                argument,
                list,
            } => boolean(self.in_list(*negated, argument, list, place)?),
            Syntax::Like {
                negated,
                fold_case,
                argument,
                pattern,
                escape,
            } => boolean(self.like(*negated, *fold_case, argument, pattern, escape, place)?),
            Syntax::Arithmetic(operation, left, right) => {
                let (left, right) = (self.compile(left)?, self.compile(right)?);
                self.arithmetic(*operation, left, right, place)
            }
            Syntax::Concatenate(left, right) => {
                let (left, right) = (self.compile(left)?, self.compile(right)?);
                self.concatenate(left, right, place)
            }
            Syntax::Negate(argument) | Syntax::Plus(argument) => {
                let argument = self.compile(argument)?;
                let negates = matches!(expression.syntax, Syntax::Negate(_));
                if !(argument.kind.is_number() || negates && argument.kind == Type::Interval) {
                    return Err(no_operator(
                        place,
                        if negates { "-" } else { "+" },
                        &[&argument],
                    ));
                }
                if !negates {
                    return Ok(argument);
                }
                let kind = argument.kind;
                Ok(typed(
                    strict(Node::Negate(Box::new(argument.node), kind), place, true)?,
                    kind,
                    place,
                ))
            }
            Syntax::Cast { argument, target } => {
                let argument = self.compile(argument)?;
                self.explicit_cast(argument, *target, place)
            }
            Syntax::Collate {
                argument,
                collation,
            } => {
                let argument = self.compile(argument)?;
                // An untyped literal stays one, and keeps the collation.
                if !argument.kind.is_text() && argument.kind != Type::Unknown {
                    return Err(Refusal::new(
                        place,
                        format!("{} has no collation", argument.kind.name()),
                    ));
                }
                let collation = match collation.as_str() {
                    "C" | "POSIX" | "ucs_basic" => Collation::C,
                    "default" => Collation::Default,
                    other => {
                        return Err(Refusal::new(
                            place,
                            format!("the collation {other:?} is not known here"),
                        )
                        .hint("COLLATE \"C\" compares by bytes"));
                    }
                };
                Ok(Typed {
                    collation: Some(Collated::Explicit(collation)),
                    ..argument
                })
            }
            Syntax::Coalesce(list) => {
                let list = self.all(list)?;
                let (nodes, result) = self.unified(list, "COALESCE", place)?;
                Ok(Typed {
                    node: coalesced(nodes),
                    ..result
                })
            }
            Syntax::NullIf(left, right) => {
                let (left, right) = (self.compile(left)?, self.compile(right)?);
                self.null_if(left, right, place)
            }
            Syntax::Case {
                operand,
                branches,
                otherwise,
            } => self.case(operand.as_deref(), branches, otherwise.as_deref(), place),
            Syntax::Call(function, argument) => {
                let argument = self.compile(argument)?;
                self.call(*function, argument, place)
            }
        }
    }

    fn all(&self, list: &[Expression]) -> Result<Vec<Typed>, Refusal> {
        list.iter().map(|item| self.compile(item)).collect()
    }

    /// A part that has to be true or false.
    fn boolean(&self, expression: &Expression) -> Result<Node, Refusal> {
        let value = self.compile(expression)?;
        match value.kind {
            Type::Bool => Ok(value.node),
            Type::Unknown => Ok(self.coerced(value, Type::Bool)?.node),
            kind => Err(Refusal::new(
                expression.place,
                format!("a truth is needed here, not {}", kind.name()),
            )),
        }
    }

    fn booleans(&self, list: &[Expression]) -> Result<Vec<Node>, Refusal> {
        list.iter().map(|item| self.boolean(item)).collect()
    }

    fn column(&self, qualifier: &[String], name: &str, place: Place) -> Result<Typed, Refusal> {
        let table = self.table;
        let is_this = match qualifier {
            [] => true,
            [own] => *own == table.name,
            [schema, own] => *own == table.name && *schema == table.schema,
            _ => false,
        };
        if !is_this {
            return Err(Refusal::new(
                place,
                format!(
                    "{}.{name} is no column of {}.{}",
                    qualifier.join("."),
                    table.schema,
                    table.name
                ),
            ));
        }
        let Some((number, column)) =
            (table.columns.iter().enumerate()).find(|(_, column)| column.name == name)
        else {
            let other_case = table
                .columns
                .iter()
                .find(|column| column.name.eq_ignore_ascii_case(name));
            let refusal = Refusal::new(
                place,
                format!("{}.{} has no column {name:?}", table.schema, table.name),
            );
            return Err(match other_case {
                Some(column) => refusal.hint(format!(
                    "names without quotes are in lower case: write \"{}\" in double quotes",
                    column.name
                )),
                None => refusal,
            });
        };
        Ok(Typed {
            length: column.length,
            collation: (column.kind.is_text()).then_some(Collated::Implicit(column.collation)),
            ..typed(
                Node::Column {
                    place: number,
                    kind: column.kind,
                },
                column.kind,
                place,
            )
        })
    }

    /// Gives an untyped literal a type, or converts what the server would
    /// convert without being asked.
    fn coerced(&self, value: Typed, kind: Type) -> Result<Typed, Refusal> {
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
    fn comparable(
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

    fn compare(
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

    fn collation_of(
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

    fn check_equality(
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

    fn check_order(
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
    fn check_cases(
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

    fn check_characters(&self, what: &str, place: Place) -> Result<(), Refusal> {
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

    fn distinct(
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
    fn in_list(
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

    fn in_array(
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

    fn like(
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

    fn arithmetic(
        &self,
        operation: super::decimal::Arithmetic,
        left: Typed,
        right: Typed,
        place: Place,
    ) -> Result<Typed, Refusal> {
        use super::decimal::Arithmetic;
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

    fn concatenate(&self, left: Typed, right: Typed, place: Place) -> Result<Typed, Refusal> {
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

    fn explicit_cast(
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
    fn unified(
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

    fn null_if(&self, left: Typed, right: Typed, place: Place) -> Result<Typed, Refusal> {
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

    fn case(
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
            node: Node::Case {
                branches: conditions.into_iter().zip(nodes).collect(),
                otherwise: Box::new(otherwise),
            },
            ..result
        })
    }

    fn call(&self, function: Function, argument: Typed, place: Place) -> Result<Typed, Refusal> {
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

fn typed(node: Node, kind: Type, place: Place) -> Typed {
    Typed {
        node,
        kind,
        length: None,
        collation: None,
        literal: None,
        place,
    }
}

/// `make_const`: the smallest of int4, int8 and numeric that holds it.
fn number(digits: &str, place: Place) -> Result<Typed, Refusal> {
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    if unsigned.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(value) = digits.parse::<i64>()
    {
        let kind = if i32::try_from(value).is_ok() {
            Type::Int4
        } else {
            Type::Int8
        };
        return Ok(typed(Node::Constant(Value::Integer(value)), kind, place));
    }
    match input::read(Type::Numeric, digits) {
        Ok(value) => Ok(typed(Node::Constant(value), Type::Numeric, place)),
        Err(failed) => Err(Refusal::new(place, failed.message)),
    }
}

fn merged(left: Option<Collated>, right: Option<Collated>) -> Option<Collated> {
    use Collated::{Conflict, Explicit, Implicit};
    match (left, right) {
        (None, other) | (other, None) => other,
        (Some(Explicit(left)), Some(Explicit(right))) if left != right => Some(Conflict),
        (Some(explicit @ Explicit(_)), _) | (_, Some(explicit @ Explicit(_))) => Some(explicit),
        (Some(Conflict), _) | (_, Some(Conflict)) => Some(Conflict),
        (Some(Implicit(left)), Some(Implicit(right))) => Some(match (left, right) {
            (same, other) if same == other && !matches!(same, Collation::Other { .. }) => {
                Implicit(same)
            }
            (Collation::Default, other) | (other, Collation::Default) => Implicit(other),
            // Of two others it is not known whether they are the same one;
            // either way they are compared by bytes, if both are.
            (
                Collation::Other { deterministic },
                Collation::Other {
                    deterministic: other,
                },
            ) => Implicit(Collation::Other {
                deterministic: deterministic && other,
            }),
            _ => Conflict,
        }),
    }
}

fn collated(values: &[&Typed]) -> Option<Collated> {
    values
        .iter()
        .fold(None, |collation, value| merged(collation, value.collation))
}

fn no_operator(place: Place, operator: &str, operands: &[&Typed]) -> Refusal {
    let names: Vec<&str> = operands.iter().map(|operand| operand.kind.name()).collect();
    let refusal = Refusal::new(
        place,
        format!(
            "there is no operator {operator} for {}",
            names.join(" and ")
        ),
    );
    if operands.iter().any(|operand| operand.kind == Type::Unknown) {
        refusal.hint("say the literal's type, e.g. interval '1 day'")
    } else {
        refusal
    }
}

fn no_function(place: Place, name: &str, argument: &Typed) -> Refusal {
    Refusal::new(
        place,
        format!("there is no function {name} of {}", argument.kind.name()),
    )
}

/// Whether the time zone has no say in what two values are to each other.
fn is_fixed_pair(left: Type, right: Type) -> bool {
    (left == Type::TimestampTz) == (right == Type::TimestampTz)
}

/// A conversion; none where the value stays what it is.
fn converted(node: Node, from: Type, target: Target, place: Place) -> Result<Node, Refusal> {
    let to = target.kind;
    let plain = target.length.is_none() && target.precision.is_none();
    let stays = plain
        && (from == to
            || matches!(
                (from, to),
                (Type::Int2, Type::Int4 | Type::Int8)
                    | (Type::Int4, Type::Int8)
                    | (Type::Oid, Type::Int8)
                    | (Type::Float4, Type::Float8)
                    | (Type::Varchar | Type::Bpchar | Type::Name, Type::Text)
                    | (Type::Text | Type::Bpchar, Type::Varchar)
                    | (Type::Timestamp, Type::TimestampTz)
                    | (Type::TimestampTz, Type::Timestamp)
            ));
    if stays {
        return Ok(node);
    }
    let fixed = is_fixed_pair(from, to)
        && !(to.is_text() && matches!(from, Type::Date | Type::Timestamp | Type::TimestampTz));
    strict(
        Node::Cast {
            argument: Box::new(node),
            from,
            target,
        },
        place,
        fixed,
    )
}

/// AND (`decisive` false) or OR (`decisive` true), without the parts that
/// decide nothing; one that decides makes it a constant
/// (`simplify_and_arguments`).
fn junction(parts: Vec<Node>, decisive: bool) -> Node {
    let mut kept = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Node::Constant(Value::Bool(value)) if value == decisive => {
                return Node::Constant(Value::Bool(decisive));
            }
            Node::Constant(Value::Bool(_)) => {}
            part => kept.push(part),
        }
    }
    match kept.len() {
        0 => Node::Constant(Value::Bool(!decisive)),
        1 => kept.remove(0),
        _ if decisive => Node::Or(kept),
        _ => Node::And(kept),
    }
}

/// COALESCE without what is null for sure or comes behind what is not.
fn coalesced(nodes: Vec<Node>) -> Node {
    let mut kept = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node {
            Node::Constant(Value::Null) => {}
            node => {
                let ends = matches!(node, Node::Constant(_));
                kept.push(node);
                if ends {
                    break;
                }
            }
        }
    }
    match kept.len() {
        0 => Node::Constant(Value::Null),
        1 => kept.remove(0),
        _ => Node::Coalesce(kept),
    }
}

/// An operator that is null where an operand is. `fixed`: whether it is worked
/// out without a row; the server does not where a setting such as TimeZone has
/// a say in it (stable functions).
fn strict(node: Node, place: Place, fixed: bool) -> Result<Node, Refusal> {
    if node.operands().iter().any(|operand| operand.is_null()) {
        return Ok(Node::Constant(Value::Null));
    }
    if fixed { folded(node, place) } else { Ok(node) }
}

/// Works out what reads no row, as `eval_const_expressions` does.
///
/// # Errors
/// What fails whatever the row is.
fn folded(node: Node, place: Place) -> Result<Node, Refusal> {
    let constant = node
        .operands()
        .iter()
        .all(|operand| matches!(operand, Node::Constant(_)));
    if !constant {
        return Ok(node);
    }
    let row = Row {
        image: &[],
        before: None,
    };
    match node.evaluate(&row) {
        Ok(value) => Ok(Node::Constant(value.into_owned())),
        Err(Stop::Failed(failed)) => Err(Refusal::new(
            place,
            format!("whatever the row is, it fails: {}", failed.message),
        )),
        Err(Stop::Unknown(_) | Stop::Malformed(..)) => Ok(node),
    }
}

impl Node {
    /// What it is made of, one level down.
    fn operands(&self) -> Vec<&Node> {
        match self {
            Node::Constant(_) | Node::Column { .. } => vec![],
            Node::Not(argument)
            | Node::IsNull { argument, .. }
            | Node::IsTruth { argument, .. }
            | Node::Negate(argument, _)
            | Node::Cast { argument, .. }
            | Node::Padded(argument, _)
            | Node::Call(_, argument, _) => vec![argument],
            Node::And(list) | Node::Or(list) | Node::Coalesce(list) => list.iter().collect(),
            Node::Compare(_, left, right)
            | Node::Distinct { left, right, .. }
            | Node::Arithmetic { left, right, .. }
            | Node::Concatenate((left, _), (right, _)) => vec![left, right],
            Node::NullIf {
                result,
                left,
                right,
            } => vec![result, left, right],
            Node::In { argument, list, .. } => match list {
                List::Nodes(nodes) => std::iter::once(&**argument).chain(nodes).collect(),
                List::Sorted(..) => vec![argument],
            },
            Node::Like {
                argument, pattern, ..
            } => match pattern {
                PatternNode::Constant(_) => vec![argument],
                PatternNode::Node(pattern, _) => vec![argument, pattern],
            },
            Node::Case {
                branches,
                otherwise,
            } => branches
                .iter()
                .flat_map(|(condition, result)| [condition, result])
                .chain(std::iter::once(&**otherwise))
                .collect(),
        }
    }

    /// The places of the columns that are read, each once.
    pub fn columns(&self) -> Vec<usize> {
        let mut places = Vec::new();
        let mut rest = vec![self];
        while let Some(node) = rest.pop() {
            if let Node::Column { place, .. } = node
                && !places.contains(place)
            {
                places.push(*place);
            }
            rest.extend(node.operands());
        }
        places.sort_unstable();
        places
    }
}
