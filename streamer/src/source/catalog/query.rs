//! The catalog's SQL, and its answers as definitions.

use std::collections::HashMap;

use walferry_protocol::{
    Column, ColumnFlags, Encoding, Relation, RelationKind, ReplicaIdentity, Root,
};

use super::{Find, Found, TypeDescription};
use crate::error::{Failure, Result};
use crate::source::connection::{Row, quote_literal};

/// The columns about a type: `t` is the declared one, `b` what is under its
/// domains, `e` the element where `b` subscripts like an array.
const TYPE_COLUMNS: &str = "t.oid AS type_oid, tn.nspname AS type_schema, t.typname AS type_name, \
     b.oid AS base_oid, t.typlen = -1 AS out_of_line, \
     coalesce(e.typarray = b.oid AND e.typdelim = ',', false) AS is_array";

/// Joins them to a declared type's oid.
fn type_joins(oid: &str) -> String {
    format!(
        "JOIN pg_catalog.pg_type t ON t.oid = {oid} \
         JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace \
         JOIN LATERAL (WITH RECURSIVE under (oid, base, step) AS ( \
             SELECT t.oid, CASE t.typtype WHEN 'd' THEN t.typbasetype END, 0 \
             UNION ALL SELECT d.oid, CASE d.typtype WHEN 'd' THEN d.typbasetype END, step + 1 \
             FROM under JOIN pg_catalog.pg_type d ON d.oid = under.base) \
           SELECT oid FROM under ORDER BY step DESC LIMIT 1) u ON true \
         JOIN pg_catalog.pg_type b ON b.oid = u.oid \
         LEFT JOIN pg_catalog.pg_type e ON e.oid = b.typelem"
    )
}

/// One row a column; one with a null `attnum` of a relation without any.
///
/// Keys are those of `RelationGetReplicaIndex`, under REPLICA IDENTITY FULL the
/// primary key; a virtual generated column is in no row.
pub(super) fn relation(find: Find<'_>) -> String {
    let condition = match find {
        Find::Oid(oid) => format!("c.oid = {oid}"),
        Find::Name { schema, table } => format!(
            "n.nspname = {} AND c.relname = {}",
            quote_literal(schema),
            quote_literal(table)
        ),
    };
    format!(
        "SELECT r.*, a.attgenerated = 's' AS generated, \
           coalesce(a.attnum = ANY (r.key_columns), false) AS is_key, a.* \
         FROM (SELECT c.oid, n.nspname, c.relname, c.relkind, c.relreplident, \
             k.columns AS key_columns, k.columns IS NOT NULL AS has_key, \
             root.oid AS root_oid, root.relname AS root_name, root_n.nspname AS root_schema \
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN LATERAL (SELECT (i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1] AS columns \
             FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate \
             AND CASE c.relreplident WHEN 'n' THEN false WHEN 'i' THEN i.indisreplident \
               ELSE i.indisprimary END LIMIT 1) k ON true \
           LEFT JOIN pg_catalog.pg_class root \
             ON c.relispartition AND root.oid = pg_catalog.pg_partition_root(c.oid) \
           LEFT JOIN pg_catalog.pg_namespace root_n ON root_n.oid = root.relnamespace \
           WHERE {condition}) r \
         LEFT JOIN LATERAL (SELECT a.attnum, a.attname, a.atttypmod, a.attnotnull, a.attgenerated, {TYPE_COLUMNS} \
           FROM pg_catalog.pg_attribute a {joins} \
           WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v') a ON true \
         ORDER BY a.attnum",
        joins = type_joins("a.atttypid"),
    )
}

pub(super) fn relation_of(rows: &[Row]) -> Result<Option<Found>> {
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let replica_identity = letter(first, "relreplident")?;
    let replica_identity = ReplicaIdentity::from_relreplident(replica_identity)
        .ok_or_else(|| unexpected("relreplident"))?;
    let root = match first.get("root_oid") {
        None => None,
        Some(_) => Some(Root {
            oid: number(first, "root_oid")?,
            schema: text(first, "root_schema")?,
            name: text(first, "root_name")?,
        }),
    };
    let mut relation = Relation {
        number: 0,
        oid: number(first, "oid")?,
        schema: text(first, "nspname")?,
        name: text(first, "relname")?,
        kind: RelationKind::from_relkind(letter(first, "relkind")?),
        replica_identity,
        identity_usable: replica_identity == ReplicaIdentity::Full || first.is_true("has_key"),
        root,
        fingerprint: 0,
        columns: Vec::with_capacity(rows.len()),
    };
    let mut out_of_line = Vec::with_capacity(rows.len());
    for row in rows.iter().filter(|row| row.get("attnum").is_some()) {
        let described = type_of(row)?;
        let mut flags = 0;
        for (set, flag) in [
            (row.is_true("is_key"), ColumnFlags::KEY),
            (row.is_true("attnotnull"), ColumnFlags::NOT_NULL),
            (row.is_true("generated"), ColumnFlags::GENERATED),
            (described.is_array, ColumnFlags::ARRAY),
        ] {
            if set {
                flags |= flag;
            }
        }
        relation.columns.push(Column {
            name: text(row, "attname")?,
            attnum: number(row, "attnum")?,
            type_oid: described.oid,
            type_schema: described.schema,
            type_name: described.name,
            typmod: number(row, "atttypmod")?,
            base_type_oid: described.base_oid,
            encoding: Encoding::Text,
            flags: ColumnFlags(flags),
        });
        out_of_line.push(described.out_of_line);
    }
    relation.seal();
    Ok(Some(Found {
        relation,
        out_of_line,
    }))
}

pub(super) fn types(oids: &[u32]) -> String {
    let oids: Vec<String> = oids.iter().map(u32::to_string).collect();
    format!(
        "SELECT {TYPE_COLUMNS} FROM pg_catalog.unnest('{{{}}}'::pg_catalog.oid[]) AS wanted (oid) {}",
        oids.join(","),
        type_joins("wanted.oid")
    )
}

pub(super) fn types_of(rows: &[Row]) -> Result<HashMap<u32, TypeDescription>> {
    rows.iter()
        .map(|row| type_of(row).map(|described| (described.oid, described)))
        .collect()
}

fn type_of(row: &Row) -> Result<TypeDescription> {
    Ok(TypeDescription {
        oid: number(row, "type_oid")?,
        schema: text(row, "type_schema")?,
        name: text(row, "type_name")?,
        base_oid: number(row, "base_oid")?,
        is_array: row.is_true("is_array"),
        out_of_line: row.is_true("out_of_line"),
    })
}

fn text(row: &Row, name: &str) -> Result<String> {
    row.get(name)
        .map(str::to_owned)
        .ok_or_else(|| unexpected(name))
}

fn number<T: std::str::FromStr>(row: &Row, name: &str) -> Result<T> {
    row.parse(name).ok_or_else(|| unexpected(name))
}

/// A value of type "char".
fn letter(row: &Row, name: &str) -> Result<u8> {
    match row.get(name).map(str::as_bytes) {
        Some([letter]) => Ok(*letter),
        _ => Err(unexpected(name)),
    }
}

fn unexpected(column: &str) -> Failure {
    Failure::definite(format!(
        "the catalog's answer has no {column}, or one that does not read"
    ))
    .hint("report it with the server's version (select version())")
}
