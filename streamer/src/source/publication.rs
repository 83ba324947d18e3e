//! The publication that pgoutput reads: used if it is there, made on demand,
//! never dropped.
//!
//! Decoding looks publications up as they were when the WAL was written, so
//! one has to exist before the slot's first change; hence it is made before
//! the slot is.

use super::connection::{Connection, Row, quote_identifier, quote_literal};
use super::table_filter::{DDL_LOG, OWN_SCHEMA, OWN_TABLES, TableFilter};
use crate::error::{Failure, Result};

/// What a publication is called when nobody named one.
pub const DEFAULT_NAME: &str = "walferry";

/// Names shown of a list of tables.
const SHOWN: usize = 20;

/// Makes sure that the publication is there, and says what of the chosen
/// tables it does not cover.
///
/// `schema_changes`: `walferry.ddl_log` has to be among its tables.
/// `create`: make it if it is missing.
///
/// # Errors
/// Definite: it is missing and may not be made, or the role may not make it;
/// with the statement that does.
pub async fn ensure(
    connection: &mut Connection,
    name: &str,
    tables: &TableFilter,
    schema_changes: bool,
    create: bool,
) -> Result<()> {
    match find(connection, name).await? {
        Some(publication) => {
            tracing::info!("reading publication \"{name}\"");
            if let Some(left_out) = publication.left_out() {
                tracing::warn!(
                    "publication \"{name}\" does not publish {left_out}, so they will not be delivered; ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate') publishes all",
                    quote_identifier(name)
                );
            }
        }
        None if create => make(connection, name, tables, schema_changes).await?,
        None => return Err(missing(name, tables)),
    }
    warn_of_uncovered(connection, name, tables, schema_changes).await
}

fn missing(name: &str, tables: &TableFilter) -> Failure {
    let quoted = quote_identifier(name);
    let what = if tables.is_everything() {
        "FOR ALL TABLES".to_owned()
    } else {
        "FOR TABLE …".to_owned()
    };
    Failure::definite(format!("publication \"{name}\" does not exist"))
        .sqlstate("42704")
        .detail("pgoutput sends what a publication publishes")
        .hint(format!(
            "add --create-slot with a new slot, which makes the publication too; or CREATE PUBLICATION {quoted} {what}, and after it a new slot: a slot reads no publication younger than itself"
        ))
}

/// A publication as far as it matters here.
struct Publication {
    publishes: [(&'static str, bool); 4],
}

impl Publication {
    /// The operations that it does not publish.
    fn left_out(&self) -> Option<String> {
        let left_out: Vec<&str> = self
            .publishes
            .iter()
            .filter(|(_, published)| !published)
            .map(|(operation, _)| *operation)
            .collect();
        (!left_out.is_empty()).then(|| left_out.join(", "))
    }
}

async fn find(connection: &mut Connection, name: &str) -> Result<Option<Publication>> {
    let sql = format!(
        "SELECT pubinsert, pubupdate, pubdelete, pubtruncate FROM pg_catalog.pg_publication WHERE pubname = {}",
        quote_literal(name)
    );
    let rows = connection.simple_query(&sql).await?;
    Ok(rows.first().map(|row| Publication {
        publishes: [
            ("inserts", row.is_true("pubinsert")),
            ("updates", row.is_true("pubupdate")),
            ("deletes", row.is_true("pubdelete")),
            ("truncates", row.is_true("pubtruncate")),
        ],
    }))
}

/// A table to be published.
struct Candidate {
    schema: String,
    table: String,
    owned: bool,
    /// Its old rows can be named; where not, publishing its updates would make
    /// the server refuse them.
    identity: bool,
}

impl Candidate {
    fn quoted(&self) -> String {
        format!(
            "{}.{}",
            quote_identifier(&self.schema),
            quote_identifier(&self.table)
        )
    }
}

async fn make(
    connection: &mut Connection,
    name: &str,
    tables: &TableFilter,
    schema_changes: bool,
) -> Result<()> {
    let quoted = quote_identifier(name);
    let candidates = candidates(connection, tables, schema_changes).await?;
    let (good, without): (Vec<_>, Vec<_>) =
        candidates.iter().partition(|candidate| candidate.identity);
    if tables.is_everything() && without.is_empty() {
        let sql = format!("CREATE PUBLICATION {quoted} FOR ALL TABLES");
        match connection.simple_query(&sql).await {
            Ok(_) => {
                tracing::info!("created publication \"{name}\" for all tables");
                return Ok(());
            }
            // Only a superuser may (on some managed services, its like too).
            Err(failure) if failure.sqlstate.as_deref() == Some("42501") => {}
            Err(failure) => return Err(failure),
        }
    }
    if !without.is_empty() {
        tracing::warn!(
            "not published, because without a replica identity the server would refuse their UPDATEs and DELETEs: {}; give each a primary key or ALTER TABLE … REPLICA IDENTITY FULL, then ALTER PUBLICATION {quoted} ADD TABLE …",
            names(&without)
        );
    }
    let (owned, foreign): (Vec<_>, Vec<_>) = good.into_iter().partition(|table| table.owned);
    let list = |tables: &[&Candidate]| {
        let tables: Vec<String> = tables.iter().map(|table| table.quoted()).collect();
        tables.join(", ")
    };
    if owned.is_empty() {
        return Err(nothing_to_publish(connection, &quoted, tables, &foreign));
    }
    let sql = format!("CREATE PUBLICATION {quoted} FOR TABLE {}", list(&owned));
    connection
        .simple_query(&sql)
        .await
        .map_err(|failure| explain(failure, connection, &sql))?;
    tracing::info!("created publication \"{name}\" for {}", names(&owned));
    if tables.is_everything() {
        tracing::warn!(
            "publication \"{name}\" holds the tables of today; for one made later: ALTER PUBLICATION {quoted} ADD TABLE … (or, as a superuser, CREATE PUBLICATION … FOR ALL TABLES under another name and a new slot)"
        );
    }
    if !foreign.is_empty() {
        tracing::warn!(
            "not published, because role \"{}\" does not own them: {}; a superuser runs: ALTER PUBLICATION {quoted} ADD TABLE {}",
            connection.conninfo().user,
            names(&foreign),
            list(&foreign)
        );
    }
    Ok(())
}

fn nothing_to_publish(
    connection: &Connection,
    quoted: &str,
    tables: &TableFilter,
    foreign: &[&Candidate],
) -> Failure {
    if foreign.is_empty() {
        return Failure::definite(format!("there is no table for publication {quoted}"))
            .detail("no table that passes the filter has a replica identity")
            .hint("look at --tables and --exclude-tables; walferry tables lists what there is");
    }
    let what = if tables.is_everything() {
        "FOR ALL TABLES".to_owned()
    } else {
        let tables: Vec<String> = foreign.iter().map(|table| table.quoted()).collect();
        format!("FOR TABLE {}", tables.join(", "))
    };
    Failure::definite(format!("publication {quoted} can't be made"))
        .sqlstate("42501")
        .detail(format!(
            "role \"{}\" owns none of the tables: {}",
            connection.conninfo().user,
            names(foreign)
        ))
        .hint(format!(
            "as a superuser or the tables' owner: CREATE PUBLICATION {quoted} {what}; then start again"
        ))
}

fn explain(failure: Failure, connection: &Connection, sql: &str) -> Failure {
    if failure.sqlstate.as_deref() != Some("42501") {
        return failure;
    }
    let conninfo = connection.conninfo();
    let hint = format!(
        "GRANT CREATE ON DATABASE {} TO {}; or as a role that may: {sql}",
        quote_identifier(&conninfo.dbname),
        quote_identifier(&conninfo.user)
    );
    failure.hint(hint)
}

/// The tables that the filter lets through; of a partition tree the topmost
/// that it does, which stands for its partitions of today and tomorrow.
async fn candidates(
    connection: &mut Connection,
    tables: &TableFilter,
    schema_changes: bool,
) -> Result<Vec<Candidate>> {
    let rows = connection
        .simple_query(
            "SELECT n.nspname AS schema, c.relname AS table_name, \
             pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owned, \
             ARRAY(SELECT an.nspname || '.' || a.relname FROM pg_catalog.pg_partition_ancestors(c.oid) p \
               JOIN pg_catalog.pg_class a ON a.oid = p.relid \
               JOIN pg_catalog.pg_namespace an ON an.oid = a.relnamespace \
               WHERE a.oid <> c.oid) <> '{}' AS is_partition, \
             c.oid, pg_catalog.pg_partition_root(c.oid) AS root, \
             NOT EXISTS (SELECT FROM pg_catalog.pg_class l WHERE l.relkind = 'r' \
               AND (l.oid = c.oid OR l.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree(c.oid) t)) \
               AND CASE l.relreplident \
               WHEN 'f' THEN false \
               WHEN 'n' THEN true \
               WHEN 'd' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = l.oid \
                 AND i.indisprimary AND i.indisvalid AND i.indimmediate) \
               ELSE NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = l.oid \
                 AND i.indisreplident AND i.indisvalid AND i.indimmediate) END) AS identity \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast' \
             ORDER BY 1, 2",
        )
        .await?;
    let passing: Vec<&Row> = rows
        .iter()
        .filter(|row| {
            let (schema, table) = (row.get("schema"), row.get("table_name"));
            let (schema, table) = (schema.unwrap_or_default(), table.unwrap_or_default());
            if schema != OWN_SCHEMA || tables.names(schema, table) {
                return tables.passes(schema, table);
            }
            // What the streamer lives on; where the role can't, only what was asked for.
            table == DDL_LOG && schema_changes
                || OWN_TABLES.contains(&table) && row.is_true("owned")
        })
        .collect();
    let covered = |row: &Row| {
        let root = row.get("root");
        row.is_true("is_partition") && passing.iter().any(|other| other.get("oid") == root)
    };
    Ok(passing
        .iter()
        .filter(|row| !covered(row))
        .map(|row| Candidate {
            schema: row.get("schema").unwrap_or_default().to_owned(),
            table: row.get("table_name").unwrap_or_default().to_owned(),
            owned: row.is_true("owned"),
            identity: row.is_true("identity"),
        })
        .collect())
}

/// Tables that the filter lets through and the publication does not have.
async fn warn_of_uncovered(
    connection: &mut Connection,
    name: &str,
    tables: &TableFilter,
    schema_changes: bool,
) -> Result<()> {
    let sql = format!(
        "SELECT n.nspname AS schema, c.relname AS table_name \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence = 'p' \
         AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast' \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_tables p \
           JOIN pg_catalog.pg_namespace pn ON pn.nspname = p.schemaname \
           JOIN pg_catalog.pg_class pc ON pc.relnamespace = pn.oid AND pc.relname = p.tablename \
           WHERE p.pubname = {} AND (pc.oid = c.oid \
             OR pc.oid IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors(c.oid) a))) \
         ORDER BY 1, 2",
        quote_literal(name)
    );
    let rows = connection.simple_query(&sql).await?;
    let uncovered: Vec<Candidate> = rows
        .iter()
        .map(|row| Candidate {
            schema: row.get("schema").unwrap_or_default().to_owned(),
            table: row.get("table_name").unwrap_or_default().to_owned(),
            owned: false,
            identity: true,
        })
        .filter(|table| {
            let (schema, table) = (table.schema.as_str(), table.table.as_str());
            if schema == OWN_SCHEMA {
                table == DDL_LOG && schema_changes || tables.names(schema, table)
            } else {
                tables.passes(schema, table)
            }
        })
        .collect();
    if !uncovered.is_empty() {
        let references: Vec<&Candidate> = uncovered.iter().collect();
        let quoted: Vec<String> = uncovered
            .iter()
            .take(SHOWN)
            .map(Candidate::quoted)
            .collect();
        tracing::warn!(
            "publication \"{name}\" does not have these tables, so their changes will not come: {}; ALTER PUBLICATION {} ADD TABLE {}",
            names(&references),
            quote_identifier(name),
            quoted.join(", ")
        );
    }
    Ok(())
}

fn names(tables: &[&Candidate]) -> String {
    let mut text = tables
        .iter()
        .take(SHOWN)
        .map(|table| format!("{}.{}", table.schema, table.table))
        .collect::<Vec<_>>()
        .join(", ");
    if tables.len() > SHOWN {
        text.push_str(&format!(" and {} more", tables.len() - SHOWN));
    }
    text
}
