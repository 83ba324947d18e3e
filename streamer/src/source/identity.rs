//! Tables whose UPDATEs and DELETEs can't name the old row.
//!
//! Outside a publication the server refuses nothing: without a usable replica
//! identity it simply does not log the old row (`ExtractReplicaIdentity` in
//! `heapam.c`). So it is looked for before the run starts.

use super::connection::{Connection, Row, quote_identifier};
use super::table_filter::TableFilter;
use crate::error::{Failure, Result};

const REPLICA_IDENTITY: &str = include_str!("../../../sql/preflight/replica_identity.sql");

/// A table and what the server logs of its old rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableIdentity {
    pub oid: u32,
    pub schema: String,
    pub table: String,
    /// `full`, `primary key`, `index` or `none`.
    pub logged: String,
    /// Rows updated since the statistics were last reset.
    pub updates: u64,
    /// Rows deleted since the statistics were last reset.
    pub deletes: u64,
    /// It has a primary key, and the replica identity was set to something else.
    pub has_unused_primary_key: bool,
    /// A unique index that would do for one.
    pub candidate: Option<String>,
}

impl TableIdentity {
    /// Whether an UPDATE or DELETE can't name its old row.
    pub fn is_missing(&self) -> bool {
        self.logged == "none"
    }

    /// Whether rows were changed that could not have been named.
    pub fn has_had_changes(&self) -> bool {
        self.updates + self.deletes > 0
    }

    /// `schema.table`, for people.
    pub fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    fn quoted(&self) -> String {
        format!(
            "{}.{}",
            quote_identifier(&self.schema),
            quote_identifier(&self.table)
        )
    }

    /// A statement that mends it as it is.
    pub fn statement(&self) -> String {
        let table = self.quoted();
        let identity = match &self.candidate {
            _ if self.has_unused_primary_key => "DEFAULT".to_owned(),
            Some(index) => format!("USING INDEX {}", quote_identifier(index)),
            None => "FULL".to_owned(),
        };
        format!("ALTER TABLE {table} REPLICA IDENTITY {identity}")
    }

    /// The statements that mend it, the best first.
    pub fn cure(&self) -> String {
        if self.has_unused_primary_key || self.candidate.is_some() {
            self.statement()
        } else {
            format!(
                "ALTER TABLE {} ADD PRIMARY KEY (…), or {}",
                self.quoted(),
                self.statement()
            )
        }
    }
}

/// Permanent tables and partition leaves of the connection's database; system
/// schemas and walferry's own are left out.
///
/// # Errors
/// What the server refuses.
pub async fn table_identities(connection: &mut Connection) -> Result<Vec<TableIdentity>> {
    let rows = connection.simple_query(REPLICA_IDENTITY).await?;
    let text = |row: &Row, name| row.get(name).unwrap_or_default().to_owned();
    Ok(rows
        .iter()
        .map(|row| TableIdentity {
            oid: row.parse("oid").unwrap_or(0),
            schema: text(row, "schema"),
            table: text(row, "table_name"),
            logged: text(row, "logged"),
            updates: row.parse("updates").unwrap_or(0),
            deletes: row.parse("deletes").unwrap_or(0),
            has_unused_primary_key: row.is_true("has_unused_primary_key"),
            candidate: row.get("candidate").map(str::to_owned),
        })
        .collect())
}

/// The tables whose old rows are not logged, as far as `filter` lets them through.
///
/// # Errors
/// What the server refuses.
pub async fn tables_without_usable_identity(
    connection: &mut Connection,
    filter: &TableFilter,
) -> Result<Vec<TableIdentity>> {
    let mut tables = table_identities(connection).await?;
    tables.retain(|table| table.is_missing() && filter.passes(&table.schema, &table.table));
    Ok(tables)
}

/// Refuses tables that have had changes which can't be named, unless they are
/// accepted; warns of the others, once.
///
/// # Errors
/// Definite, with the statements that mend it.
pub fn judge(tables: &[TableIdentity], accept: bool) -> Result<()> {
    let (changed, unchanged): (Vec<_>, Vec<_>) =
        tables.iter().partition(|table| table.has_had_changes());
    let names = |tables: &[&TableIdentity]| {
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
