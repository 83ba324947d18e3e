//! Conditions that walferry's own plugin can evaluate where rows are decoded
//! (docs/plugin-options.md, `conditions_mode` `thin`).
//!
//! All conditions are given to the plugin. It decides for each definition of a
//! table whether it can evaluate them exactly, leaves out only rows that the
//! stage would leave out, and sends all others as they are, so that the events
//! are the same with it and without. What is worked out here is only what the
//! plugin will do with the tables that are there, to say it at the start.

use super::compile::{self, Server};
use super::evaluate::{List, Node, PatternNode};
use super::examine::Knowledge;
use super::rules::{Rules, TableRule};
use super::stage::table_of;
use super::value::Type;
use crate::event::Relation;

/// `FirstNormalObjectId`: oids from here on are not the server's own.
const FIRST_USER_OID: u32 = 16384;

/// Names told at most, so that the line stays one.
const MOST_TABLES: usize = 20;

/// The plugin options that give it the conditions.
pub fn plugin_options(rules: &Rules) -> Vec<(String, String)> {
    let mut options: Vec<(String, String)> = rules
        .tables
        .iter()
        .filter_map(|rule| {
            let condition = rule.condition.as_ref()?;
            let tables = rule.pattern.included_as_text();
            Some((
                "conditions".to_owned(),
                format!("{tables}: {}", condition.text),
            ))
        })
        .collect();
    if !options.is_empty() {
        options.push(("conditions_mode".to_owned(), "thin".to_owned()));
    }
    options
}

/// Where the conditions of the tables that are there will be evaluated.
#[derive(Clone, Debug, Default)]
pub struct Places {
    on_server: Vec<String>,
    /// With the reason.
    here: Vec<(String, &'static str)>,
}

impl Places {
    /// Notes a table whose rules were tried on it and fit.
    pub fn add<'r>(
        &mut self,
        relation: &Relation,
        rules: impl Iterator<Item = &'r TableRule>,
        knowledge: &Knowledge,
    ) {
        let mut conditions = rules.filter_map(|rule| rule.condition.as_ref()).peekable();
        if conditions.peek().is_none() {
            return;
        }
        let table = table_of(relation, knowledge);
        // The plugin knows of no collation but C whether it orders by bytes.
        let server = Server {
            default_is_c: false,
            ..knowledge.server
        };
        let reason =
            conditions.find_map(
                |condition| match compile::compile(condition, &table, &server) {
                    Err(_) => Some("text is ordered by the database's collation"),
                    Ok(node) => of_own_type(&node, relation).or_else(|| may_fail(&node)),
                },
            );
        match reason {
            None => self.on_server.push(relation.display_name()),
            Some(reason) => self.here.push((relation.display_name(), reason)),
        }
    }

    /// One line for people; `None` where no table has a condition.
    pub fn told(&self) -> Option<String> {
        let listed = |names: Vec<String>| {
            let more = names.len().saturating_sub(MOST_TABLES);
            let mut text = names[..names.len() - more].join(", ");
            if more > 0 {
                text.push_str(&format!(" and {more} more"));
            }
            text
        };
        let mut parts = Vec::new();
        if !self.on_server.is_empty() {
            parts.push(format!("on the server: {}", listed(self.on_server.clone())));
        }
        if !self.here.is_empty() {
            let names = self.here.iter();
            let names = names.map(|(name, reason)| format!("{name} ({reason})"));
            parts.push(format!("here: {}", listed(names.collect())));
        }
        (!parts.is_empty()).then(|| format!("conditions are evaluated {}", parts.join("; ")))
    }
}

/// A domain, an enum and the like, which the plugin leaves alone.
fn of_own_type(node: &Node, relation: &Relation) -> Option<&'static str> {
    let columns = &relation.definition.columns;
    node.columns()
        .into_iter()
        .filter_map(|place| columns.get(place))
        .any(|column| column.type_oid >= FIRST_USER_OID)
        .then_some("a column's type is not built in")
}

/// Why a condition could raise an error on a row, or does not mean the same in
/// every session; `None`: it can't and does.
fn may_fail(node: &Node) -> Option<&'static str> {
    let all = |nodes: &[Node]| nodes.iter().find_map(may_fail);
    match node {
        Node::Constant(_) => None,
        Node::Column { kind, .. } => match kind {
            Type::Other | Type::Name | Type::Oid => Some("a column's type is not compared there"),
            _ => None,
        },
        Node::Not(argument) | Node::IsTruth { argument, .. } => may_fail(argument),
        Node::IsNull { argument, .. } => match &**argument {
            Node::Column { .. } => None,
            argument => may_fail(argument),
        },
        Node::And(list) | Node::Or(list) | Node::Coalesce(list) => all(list),
        Node::Compare(_, left, right) | Node::Distinct { left, right, .. } => {
            may_fail(left).or_else(|| may_fail(right))
        }
        Node::In { argument, list, .. } => match list {
            List::Sorted(..) => may_fail(argument),
            List::Nodes(_) => Some("IN with more than constants may raise an error on a row"),
        },
        Node::Like {
            fold_case: false,
            argument,
            pattern: PatternNode::Constant(pattern),
            ..
        } if !pattern.may_fail() => may_fail(argument),
        Node::Like { .. } => Some("LIKE with such a pattern may raise an error on a row"),
        Node::Cast {
            argument,
            from,
            target,
        } if target.length.is_none()
            && target.precision.is_none()
            && matches!(
                (from, target.kind),
                (
                    Type::Int2 | Type::Int4 | Type::Int8,
                    Type::Numeric | Type::Float4 | Type::Float8
                ) | (Type::Float4, Type::Float8)
                    | (Type::Bpchar, Type::Text | Type::Varchar)
            ) =>
        {
            may_fail(argument)
        }
        Node::Cast { .. } => Some("a cast may raise an error on a row"),
        Node::Arithmetic { .. } | Node::Negate(..) => {
            Some("arithmetic may raise an error on a row")
        }
        Node::Concatenate(..)
        | Node::Padded(..)
        | Node::NullIf { .. }
        | Node::Case { .. }
        | Node::Call(..) => Some("only comparisons are evaluated there"),
    }
}
