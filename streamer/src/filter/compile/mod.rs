//! A condition becomes one of a table's definition: names become columns,
//! every operand gets its type and collation by the server's rules
//! (`src/backend/parser/parse_expr.c`), and what has no row in it is worked
//! out once.

mod comparison;
mod nodes;
mod operation;

use super::evaluate::Node;
use super::predicate::{Comparison, Expression, Place, Predicate, Refusal, Syntax};
use super::value::{Type, Value};
use nodes::*;

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
}
