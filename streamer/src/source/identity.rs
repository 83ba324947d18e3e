//! Tables whose UPDATEs and DELETEs can't name the old row.
//!
//! Outside a publication the server refuses nothing: without a usable replica
//! identity it simply does not log the old row (`ExtractReplicaIdentity` in
//! `heapam.c`). So it is looked for before the run starts.

use super::connection::{Connection, quote_identifier};
use super::table_filter::TableFilter;
use crate::error::{Failure, Result};

/// A table without a usable replica identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableWithoutIdentity {
    pub schema: String,
    pub table: String,
    /// Rows updated since the statistics were last reset.
    pub updates: u64,
    /// Rows deleted since the statistics were last reset.
    pub deletes: u64,
    /// It has a primary key, and the replica identity was set to something else.
    pub has_primary_key: bool,
}

impl TableWithoutIdentity {
    /// Whether rows were changed that could not have been named.
    pub fn has_had_changes(&self) -> bool {
        self.updates + self.deletes > 0
    }

    /// `schema.table`, for people.
    pub fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// The statement that mends it.
    pub fn cure(&self) -> String {
        let table = format!(
            "{}.{}",
            quote_identifier(&self.schema),
            quote_identifier(&self.table)
        );
        if self.has_primary_key {
            format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT")
        } else {
            format!(
                "ALTER TABLE {table} ADD PRIMARY KEY (…), or ALTER TABLE {table} REPLICA IDENTITY FULL"
            )
        }
    }
}

/// Permanent tables and partition leaves of the connection's database whose old
/// rows are not logged, as far as `filter` lets them through.
///
/// A key that is deferrable or not valid does not count, as in
/// `RelationGetIndexList`; system schemas and walferry's own are left out.
pub async fn tables_without_usable_identity(
    connection: &mut Connection,
    filter: &TableFilter,
) -> Result<Vec<TableWithoutIdentity>> {
    let rows = connection
        .simple_query(
            "SELECT n.nspname AS schema, c.relname AS table_name, \
             coalesce(pg_catalog.pg_stat_get_tuples_updated(c.oid), 0) AS updates, \
             coalesce(pg_catalog.pg_stat_get_tuples_deleted(c.oid), 0) AS deletes, \
             EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid \
               AND i.indisprimary AND i.indisvalid AND i.indimmediate) AS has_primary_key \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND c.relpersistence = 'p' \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'walferry') \
             AND CASE c.relreplident \
               WHEN 'f' THEN false \
               WHEN 'n' THEN true \
               WHEN 'd' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid \
                 AND i.indisprimary AND i.indisvalid AND i.indimmediate) \
               ELSE NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid \
                 AND i.indisreplident AND i.indisvalid AND i.indimmediate) END \
             ORDER BY 1, 2",
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| TableWithoutIdentity {
            schema: row.get("schema").unwrap_or_default().to_owned(),
            table: row.get("table_name").unwrap_or_default().to_owned(),
            updates: row.parse("updates").unwrap_or(0),
            deletes: row.parse("deletes").unwrap_or(0),
            has_primary_key: row.is_true("has_primary_key"),
        })
        .filter(|table| filter.passes(&table.schema, &table.table))
        .collect())
}

/// Refuses tables that have had changes which can't be named, unless they are
/// accepted; warns of the others, once.
///
/// # Errors
/// Definite, with the statements that mend it.
pub fn judge(tables: &[TableWithoutIdentity], accept: bool) -> Result<()> {
    let (changed, unchanged): (Vec<_>, Vec<_>) =
        tables.iter().partition(|table| table.has_had_changes());
    let names = |tables: &[&TableWithoutIdentity]| {
        const SHOWN: usize = 20;
        let mut text = tables
            .iter()
            .take(SHOWN)
            .map(|table| table.name())
            .collect::<Vec<_>>()
            .join(", ");
        if tables.len() > SHOWN {
            text.push_str(&format!(" and {} more", tables.len() - SHOWN));
        }
        text
    };
    if !changed.is_empty() && !accept {
        let counted: Vec<String> = changed
            .iter()
            .map(|table| {
                format!(
                    "{} ({} updates, {} deletes)",
                    table.name(),
                    table.updates,
                    table.deletes
                )
            })
            .collect();
        let cures: Vec<String> = changed.iter().map(|table| table.cure()).collect();
        return Err(Failure::definite(format!(
            "{} without a usable replica identity {} had UPDATEs or DELETEs, whose old rows are not logged",
            if changed.len() == 1 { "a table" } else { "tables" },
            if changed.len() == 1 { "has" } else { "have" },
        ))
        .detail(counted.join(", "))
        .hint(format!(
            "{}; or --missing-identity accept, which delivers such events marked with identity \"none\"; or leave the tables out with --exclude-tables",
            cures.join("; ")
        )));
    }
    if !changed.is_empty() {
        tracing::warn!(
            "UPDATEs and DELETEs of these tables come without their old rows (no usable replica identity): {}",
            names(&changed)
        );
    }
    if !unchanged.is_empty() {
        tracing::warn!(
            "these tables have no usable replica identity, so that an UPDATE or DELETE would come without its old row: {}",
            names(&unchanged)
        );
    }
    Ok(())
}
