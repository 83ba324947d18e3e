//! What was asked for, before any table is known.

use super::predicate::Predicate;
use crate::error::{Failure, Result};
use crate::event::Relation;
use crate::source::table_filter::{OWN_SCHEMA, TableFilter};

/// The rules of a run. A table may be under several: all of them hold.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub tables: Vec<TableRule>,
    /// Go on where the old row is needed and was not logged
    /// (`--missing-identity accept`).
    pub accept_missing_identity: bool,
}

/// What goes through of the tables that a pattern matches.
#[derive(Clone, Debug)]
pub struct TableRule {
    pub pattern: TableFilter,
    /// `None`: all.
    pub columns: Option<Vec<String>>,
    pub condition: Option<Predicate>,
    /// An UPDATE that stays one goes through if any of these changed.
    pub update_any: Vec<String>,
    /// The same if all of these changed.
    pub update_all: Vec<String>,
    pub operations: Operations,
}

/// Which operations go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operations {
    pub insert: bool,
    pub update: bool,
    pub delete: bool,
    pub truncate: bool,
}

impl Operations {
    pub const ALL: Operations = Operations {
        insert: true,
        update: true,
        delete: true,
        truncate: true,
    };

    pub fn and(self, other: Self) -> Self {
        Operations {
            insert: self.insert && other.insert,
            update: self.update && other.update,
            delete: self.delete && other.delete,
            truncate: self.truncate && other.truncate,
        }
    }
}

impl TableRule {
    /// Everything of the tables that `pattern` matches.
    pub fn new(pattern: TableFilter) -> Self {
        TableRule {
            pattern,
            columns: None,
            condition: None,
            update_any: Vec::new(),
            update_all: Vec::new(),
            operations: Operations::ALL,
        }
    }

    /// Whether it lets everything through.
    pub fn is_idle(&self) -> bool {
        self.columns.is_none()
            && self.condition.is_none()
            && self.update_any.is_empty()
            && self.update_all.is_empty()
            && self.operations == Operations::ALL
    }

    /// The columns that have to be sent for it beside those that go through.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        let condition = self.condition.iter().flat_map(Predicate::columns);
        let updates = self.update_any.iter().chain(&self.update_all);
        condition.chain(updates.map(String::as_str))
    }
}

impl Rules {
    /// Whether a table's changes are looked at.
    pub fn is_idle(&self) -> bool {
        self.tables.is_empty()
    }

    /// The rules of a relation.
    pub fn of_relation<'r>(
        &'r self,
        relation: &'r Relation,
    ) -> impl Iterator<Item = &'r TableRule> {
        let definition = &relation.definition;
        let root = definition.root.as_ref();
        self.of(
            (&definition.schema, &definition.name),
            root.map(|root| (root.schema.as_str(), root.name.as_str())),
        )
    }

    /// The rules of a table; those of its root, when it is a partition, hold
    /// for it too.
    pub fn of<'r>(
        &'r self,
        table: (&'r str, &'r str),
        root: Option<(&'r str, &'r str)>,
    ) -> impl Iterator<Item = &'r TableRule> {
        // walferry's own tables are not the user's to filter.
        let own = table.0 == OWN_SCHEMA;
        self.tables.iter().filter(move |rule| {
            !own && std::iter::once(table)
                .chain(root)
                .any(|(schema, name)| rule.pattern.passes(schema, name))
        })
    }
}

/// Reads `--where 'schema.table: predicate'`.
///
/// # Errors
/// Usage.
pub fn where_clause(text: &str) -> Result<TableRule> {
    let mut quoted = false;
    let end = text.char_indices().find(|(_, character)| {
        quoted ^= *character == '"';
        !quoted && *character == ':'
    });
    let Some((end, _)) = end else {
        return Err(Failure::usage(format!("--where {text:?} names no table"))
            .hint("write --where 'public.orders: price > 100'"));
    };
    let pattern = TableFilter::new(&[text[..end].to_owned()], &[])?;
    Ok(TableRule {
        condition: Some(Predicate::parse(text[end + 1..].trim())?),
        ..TableRule::new(pattern)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_where_clause_has_a_table_and_a_predicate() {
        let rule = where_clause("public.orders: price::int > 100").unwrap();
        assert!(rule.pattern.passes("public", "orders"));
        assert_eq!(rule.reads().collect::<Vec<_>>(), ["price"]);
        let odd = where_clause("\"a:b\".\"c\"\"d\": x IS NULL").unwrap();
        assert!(odd.pattern.passes("a:b", "c\"d"));
        for bad in [
            "price > 100",
            "orders: a = 1",
            "public.orders:",
            "public.orders: a =",
        ] {
            assert_eq!(where_clause(bad).expect_err(bad).exit_code(), 2);
        }
    }
}
