//! Nodes as they are made: converted, joined, and worked out where no row is
//! needed.

use super::{Collated, Collation, Typed};
use crate::filter::evaluate::{List, Node, PatternNode, Row};
use crate::filter::failing::Stop;
use crate::filter::input;
use crate::filter::predicate::{Place, Refusal, Target};
use crate::filter::value::{Type, Value};

pub(super) fn typed(node: Node, kind: Type, place: Place) -> Typed {
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
pub(super) fn number(digits: &str, place: Place) -> Result<Typed, Refusal> {
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

pub(super) fn merged(left: Option<Collated>, right: Option<Collated>) -> Option<Collated> {
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

pub(super) fn collated(values: &[&Typed]) -> Option<Collated> {
    values
        .iter()
        .fold(None, |collation, value| merged(collation, value.collation))
}

pub(super) fn no_operator(place: Place, operator: &str, operands: &[&Typed]) -> Refusal {
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

pub(super) fn no_function(place: Place, name: &str, argument: &Typed) -> Refusal {
    Refusal::new(
        place,
        format!("there is no function {name} of {}", argument.kind.name()),
    )
}

/// Whether the time zone has no say in what two values are to each other.
pub(super) fn is_fixed_pair(left: Type, right: Type) -> bool {
    (left == Type::TimestampTz) == (right == Type::TimestampTz)
}

/// A conversion; none where the value stays what it is.
pub(super) fn converted(
    node: Node,
    from: Type,
    target: Target,
    place: Place,
) -> Result<Node, Refusal> {
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
pub(super) fn junction(parts: Vec<Node>, decisive: bool) -> Node {
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
pub(super) fn coalesced(nodes: Vec<Node>) -> Node {
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

/// CASE without the branches that are never taken or come behind one that
/// always is; without any, it is its last result (`eval_const_expressions`,
/// `T_CaseExpr`). Not only for speed: what is a constant by this decides an AND
/// before an operand beside it can fail.
pub(super) fn chosen(branches: impl Iterator<Item = (Node, Node)>, mut otherwise: Node) -> Node {
    let mut kept = Vec::new();
    for (condition, result) in branches {
        match condition {
            Node::Constant(Value::Bool(true)) => {
                otherwise = result;
                break;
            }
            // False or null.
            Node::Constant(_) => {}
            condition => kept.push((condition, result)),
        }
    }
    if kept.is_empty() {
        return otherwise;
    }
    Node::Case {
        branches: kept,
        otherwise: Box::new(otherwise),
    }
}

/// An operator that is null where an operand is. `fixed`: whether it is worked
/// out without a row; the server does not where a setting such as TimeZone has
/// a say in it (stable functions).
pub(super) fn strict(node: Node, place: Place, fixed: bool) -> Result<Node, Refusal> {
    if node.operands().iter().any(|operand| operand.is_null()) {
        return Ok(Node::Constant(Value::Null));
    }
    if fixed { folded(node, place) } else { Ok(node) }
}

/// Works out what reads no row, as `eval_const_expressions` does.
///
/// # Errors
/// What fails whatever the row is.
pub(super) fn folded(node: Node, place: Place) -> Result<Node, Refusal> {
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
