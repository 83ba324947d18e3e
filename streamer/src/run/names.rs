//! Names in the job that no table has: said at the start, because a misspelt
//! table is else delivered as nothing, and a misspelt condition holds nothing
//! back.

use crate::cli::RunOptions;
use crate::error::Result;
use crate::source::connection::Connection;

/// Warns of patterns of tables that match none there is now.
pub async fn warn_of_unmatched(connection: &mut Connection, options: &RunOptions) -> Result<()> {
    let rules = &options.rules.tables;
    if options.tables.is_everything() && rules.is_empty() {
        return Ok(());
    }
    let rows = connection
        .simple_query(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'",
        )
        .await?;
    let tables = || {
        let name = |row, column| crate::source::connection::Row::get(row, column);
        rows.iter()
            .filter_map(move |row| name(row, "nspname").zip(name(row, "relname")))
    };
    let chosen = options.tables.unmatched(tables());
    if !chosen.is_empty() {
        tracing::warn!(
            "no table is there that matches {}: nothing of it comes until one is made (names are case-sensitive; walferry tables lists what there is)",
            chosen.join(", ")
        );
    }
    let mut ruled: Vec<String> = rules
        .iter()
        .flat_map(|rule| rule.pattern.unmatched(tables()))
        .filter(|pattern| !chosen.contains(pattern))
        .collect();
    ruled.dedup();
    if !ruled.is_empty() {
        tracing::warn!(
            "no table is there that matches {}: its filter holds nothing back until one is made (names are case-sensitive; walferry tables lists what there is)",
            ruled.join(", ")
        );
    }
    Ok(())
}
