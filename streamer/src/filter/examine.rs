//! Conditions and the catalog, before the run starts: every table that is
//! there is tried, so that a mistake is told now and not with its first row.

use std::collections::HashMap;

use super::compile::{self, Collation, Server};
use super::push::Places;
use super::rules::Rules;
use super::stage::{refused, table_of};
use crate::error::{Failure, Result};
use crate::event::Relation;
use crate::source::catalog::{Find, relation_over};
use crate::source::connection::Connection;
use crate::source::table_filter::TableFilter;
use walferry_protocol::ReplicaIdentity;

/// What conditions need to know that relation definitions don't say.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    pub server: Server,
    /// Of columns whose collation is not the database's own.
    collations: HashMap<(String, String, String), Collation>,
    /// Where conditions can be evaluated, of the tables that are there.
    pub places: Places,
}

impl Knowledge {
    /// A column's collation; a table that was made after the start has its
    /// root's, else the database's own.
    pub fn collation(
        &self,
        table: (&str, &str),
        root: Option<(&str, &str)>,
        column: &str,
    ) -> Collation {
        if self.collations.is_empty() {
            return Collation::Default;
        }
        std::iter::once(table)
            .chain(root)
            .find_map(|(schema, name)| {
                let key = (schema.to_owned(), name.to_owned(), column.to_owned());
                self.collations.get(&key).copied()
            })
            .unwrap_or_default()
    }
}

/// Asks the catalog what conditions need, and tries them on every table that
/// they are for.
///
/// # Errors
/// Definite: a condition that does not fit a table; one that reads columns
/// which old rows don't have, on a table that has had UPDATEs or DELETEs,
/// unless that is accepted.
pub async fn examine(
    connection: &mut Connection,
    rules: &Rules,
    tables: &TableFilter,
) -> Result<Knowledge> {
    if rules.is_idle() {
        return Ok(Knowledge::default());
    }
    let mut knowledge = Knowledge {
        server: server(connection).await?,
        collations: collations(connection).await?,
        places: Places::default(),
    };
    let mut places = Places::default();
    let mut unknown = Vec::new();
    for table in ruled_tables(connection, rules, tables).await? {
        let Some(found) = relation_over(connection, Find::Oid(table.oid)).await? else {
            continue;
        };
        let relation = Relation::new(found.relation);
        let without = column_without_old_value(&relation, rules, &knowledge)?;
        places.add(&relation, rules.of_relation(&relation), &knowledge);
        if let Some(column) = without {
            unknown.push((table, relation, column));
        }
    }
    knowledge.places = places;
    judge(&unknown, rules.accept_missing_identity)?;
    Ok(knowledge)
}

/// A table that some rule is for.
struct RuledTable {
    oid: u32,
    updates: u64,
    deletes: u64,
}

async fn server(connection: &mut Connection) -> Result<Server> {
    // Columns that came and went with versions are asked for by name.
    let rows = connection
        .simple_query(
            "SELECT pg_catalog.current_setting('server_version_num') AS version, \
               pg_catalog.pg_encoding_to_char(d.encoding) AS encoding, \
               d.datcollate, d.datctype, \
               pg_catalog.to_jsonb(d) ->> 'datlocprovider' AS provider, \
               pg_catalog.to_jsonb(d) ->> 'datlocale' AS locale \
             FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(Server::default());
    };
    let is_c = |name: &str| matches!(row.get(name), Some("C" | "POSIX"));
    let default_is_c = match row.get("provider") {
        // Before 15 there is only libc.
        None | Some("c") => is_c("datcollate") && is_c("datctype"),
        Some("b") => is_c("locale"),
        Some(_) => false,
    };
    let encoding = row.get("encoding").unwrap_or_default();
    Ok(Server {
        infinite_intervals: row.parse("version").unwrap_or(0) >= 170_000,
        default_is_c,
        orders_as_utf8: matches!(encoding, "UTF8" | "LATIN1" | "SQL_ASCII"),
        counts_characters: encoding != "SQL_ASCII",
    })
}

async fn collations(
    connection: &mut Connection,
) -> Result<HashMap<(String, String, String), Collation>> {
    let rows = connection
        .simple_query(
            "SELECT n.nspname, c.relname, a.attname, l.collisdeterministic AS deterministic, \
               l.collname IN ('C', 'POSIX', 'ucs_basic') \
                 AND l.collnamespace = 'pg_catalog'::pg_catalog.regnamespace AS is_c \
             FROM pg_catalog.pg_attribute a \
             JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
             WHERE l.collname <> 'default' AND c.relkind IN ('r', 'p') \
             AND a.attnum > 0 AND NOT a.attisdropped \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema')",
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let text = |name| row.get(name).unwrap_or_default().to_owned();
            let collation = if row.is_true("is_c") {
                Collation::C
            } else {
                Collation::Other {
                    deterministic: row.is_true("deterministic"),
                }
            };
            (
                (text("nspname"), text("relname"), text("attname")),
                collation,
            )
        })
        .collect())
}

async fn ruled_tables(
    connection: &mut Connection,
    rules: &Rules,
    tables: &TableFilter,
) -> Result<Vec<RuledTable>> {
    let rows = connection
        .simple_query(
            "SELECT c.oid, n.nspname, c.relname, root_n.nspname AS root_schema, root.relname AS root_name, \
               coalesce(pg_catalog.pg_stat_get_tuples_updated(c.oid), 0) AS updates, \
               coalesce(pg_catalog.pg_stat_get_tuples_deleted(c.oid), 0) AS deletes \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_catalog.pg_class root \
               ON c.relispartition AND root.oid = pg_catalog.pg_partition_root(c.oid) \
             LEFT JOIN pg_catalog.pg_namespace root_n ON root_n.oid = root.relnamespace \
             WHERE c.relkind = 'r' AND c.relpersistence = 'p' \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') \
             ORDER BY 2, 3",
        )
        .await?;
    Ok(rows
        .iter()
        .filter(|row| {
            let schema = row.get("nspname").unwrap_or_default();
            let name = row.get("relname").unwrap_or_default();
            let root = row.get("root_schema").zip(row.get("root_name"));
            let passes = std::iter::once((schema, name))
                .chain(root)
                .any(|(schema, name)| tables.passes(schema, name));
            passes && rules.of((schema, name), root).next().is_some()
        })
        .filter_map(|row| {
            Some(RuledTable {
                oid: row.parse("oid")?,
                updates: row.parse("updates").unwrap_or(0),
                deletes: row.parse("deletes").unwrap_or(0),
            })
        })
        .collect())
}

/// Tries a table's rules; the first column they read that old rows don't have.
fn column_without_old_value(
    relation: &Relation,
    rules: &Rules,
    knowledge: &Knowledge,
) -> Result<Option<String>> {
    let definition = &relation.definition;
    let root = definition
        .root
        .as_ref()
        .map(|root| (root.schema.as_str(), root.name.as_str()));
    let table = table_of(relation, knowledge);
    let mut read: Vec<usize> = Vec::new();
    for rule in rules.of((&definition.schema, &definition.name), root) {
        if let Some(condition) = &rule.condition {
            let node = compile::compile(condition, &table, &knowledge.server)
                .map_err(|refusal| refused(relation, &condition.text, &refusal))?;
            read.extend(node.columns());
        }
        for name in rule
            .update_any
            .iter()
            .chain(&rule.update_all)
            .chain(rule.columns.iter().flatten())
        {
            let Some(place) = table.columns.iter().position(|column| column.name == *name) else {
                return Err(Failure::usage(format!(
                    "the filter names a column that {} does not have: {name:?}",
                    relation.display_name()
                ))
                .hint("names in lists are case-sensitive; correct it, or leave it out"));
            };
            if !rule.columns.iter().flatten().any(|allowed| allowed == name)
                || rule.update_any.contains(name)
                || rule.update_all.contains(name)
            {
                read.push(place);
            }
        }
    }
    if definition.replica_identity == ReplicaIdentity::Full {
        return Ok(None);
    }
    let missing = read
        .into_iter()
        .find(|place| !definition.identity_usable || !relation.columns[*place].is_key);
    Ok(missing.map(|place| table.columns[place].name.clone()))
}

/// Refuses tables whose old rows the rules need and that have had changes of
/// rows; warns of the others, once.
fn judge(tables: &[(RuledTable, Relation, String)], accept: bool) -> Result<()> {
    let name =
        |relation: &Relation, column: &str| format!("{} ({column})", relation.display_name());
    let (changed, quiet): (Vec<_>, Vec<_>) = tables
        .iter()
        .partition(|(table, _, _)| table.updates + table.deletes > 0);
    if !changed.is_empty() && !accept {
        let told: Vec<String> = changed
            .iter()
            .map(|(table, relation, column)| {
                format!(
                    "{}: {} updates, {} deletes",
                    name(relation, column),
                    table.updates,
                    table.deletes
                )
            })
            .collect();
        let quote = crate::source::connection::quote_identifier;
        let cures: Vec<String> = changed
            .iter()
            .map(|(_, relation, _)| {
                format!(
                    "ALTER TABLE {}.{} REPLICA IDENTITY FULL",
                    quote(&relation.definition.schema),
                    quote(&relation.definition.name)
                )
            })
            .collect();
        return Err(Failure::definite(
            "a filter reads columns that old rows are logged without, of a table that has had UPDATEs or DELETEs",
        )
        .detail(told.join("; "))
        .hint(format!(
            "{}; or --missing-identity accept, which leaves nothing out where it can't tell (docs/filters.md)",
            cures.join("; ")
        )));
    }
    let all: Vec<String> = changed
        .into_iter()
        .chain(quiet)
        .map(|(_, relation, column)| name(relation, column))
        .collect();
    if !all.is_empty() {
        tracing::warn!(
            "the filter of these tables reads a column that old rows are logged without (REPLICA IDENTITY FULL would log it); where it can't tell, nothing is left out: {}",
            all.join(", ")
        );
    }
    Ok(())
}
