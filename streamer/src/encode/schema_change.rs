//! A schema change's own members of the envelope, in the shape of Debezium's
//! schema change events where that has a name for it.

use serde::Serialize;

use crate::error::{Failure, Result};
use crate::event::schema_change::{
    Object, SchemaChange, TableChange, TableChangeKind, TableColumn,
};

/// Built-in types whose modifier says a length (`pg_type.oid`).
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const NUMERIC: u32 = 1700;
const BIT: u32 = 1560;
const VARBIT: u32 = 1562;
/// `VARHDRSZ`, which modifiers of types of variable length have in them.
const HEADER: i32 = 4;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    database_name: &'a str,
    schema_name: Option<&'a str>,
    ddl: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ddl_absent: Option<&'a str>,
    command: &'a str,
    event: &'a str,
    table_changes: Vec<Table<'a>>,
    objects: Vec<ObjectMembers<'a>>,
}

#[derive(Serialize)]
struct Table<'a> {
    #[serde(rename = "type")]
    change: &'static str,
    id: String,
    oid: u32,
    table: Option<Structure<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Structure<'a> {
    schema: &'a str,
    name: &'a str,
    kind: Option<&'a str>,
    logged: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_of: Option<String>,
    primary_key_column_names: &'a [String],
    replica_identity: Option<&'a str>,
    replica_identity_column_names: &'a [String],
    columns: Vec<Column<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Column<'a> {
    name: &'a str,
    position: usize,
    attnum: i16,
    native_type: u32,
    type_name: &'a str,
    type_expression: &'a str,
    type_modifier: i32,
    length: Option<i32>,
    scale: Option<i32>,
    #[serde(skip_serializing_if = "is_zero")]
    dimensions: i32,
    optional: bool,
    auto_incremented: bool,
    generated: bool,
    has_default_value: bool,
    default_value_expression: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enum_values: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_expression: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_type: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_of_older_rows: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectMembers<'a> {
    command: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    oid: u32,
    schema: Option<&'a str>,
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enum_values: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rewrite_reasons: Option<&'a [String]>,
}

/// serde hands references to such a function.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Appends the members, without the braces around them.
pub(super) fn write(change: &SchemaChange, database: &str, out: &mut Vec<u8>) -> Result<()> {
    let members = Members {
        database_name: database,
        schema_name: change.schema.as_deref(),
        ddl: change.statement.as_deref(),
        ddl_absent: change.statement_absent.as_deref(),
        command: &change.command_tag,
        event: &change.event,
        table_changes: change.tables.iter().map(table).collect(),
        objects: change.objects.iter().map(object).collect(),
    };
    let text = serde_json::to_vec(&members).map_err(|error| {
        Failure::definite("a schema change could not be written as JSON").detail(error.to_string())
    })?;
    out.extend_from_slice(&text[1..text.len() - 1]);
    Ok(())
}

fn quoted(schema: &str, name: &str) -> String {
    let part = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", part(schema), part(name))
}

fn table(table: &TableChange) -> Table<'_> {
    Table {
        change: match table.change {
            TableChangeKind::Create => "CREATE",
            TableChangeKind::Alter => "ALTER",
            TableChangeKind::Drop => "DROP",
        },
        id: quoted(&table.schema, &table.name),
        oid: table.oid,
        table: table.columns.as_ref().map(|columns| Structure {
            schema: &table.schema,
            name: &table.name,
            kind: table.kind.as_deref(),
            logged: table.logged,
            partition_of: table
                .partition_of
                .as_ref()
                .map(|parent| quoted(&parent.schema, &parent.name)),
            primary_key_column_names: &table.primary_key,
            replica_identity: table.replica_identity.as_deref(),
            replica_identity_column_names: &table.identity_columns,
            columns: columns
                .iter()
                .enumerate()
                .map(|(place, column)| self::column(place + 1, column))
                .collect(),
        }),
    }
}

fn column(position: usize, column: &TableColumn) -> Column<'_> {
    let (length, scale) = length_and_scale(column.type_oid, column.typmod);
    let default = column.default.as_deref();
    Column {
        name: &column.name,
        position,
        attnum: column.attnum,
        native_type: column.type_oid,
        type_name: without_modifier(&column.type_name),
        type_expression: &column.type_name,
        type_modifier: column.typmod,
        length,
        scale,
        dimensions: column.dimensions,
        optional: !column.not_null,
        auto_incremented: column.identity.is_some()
            || default.is_some_and(|default| default.starts_with("nextval(")),
        generated: column.generated.is_some(),
        has_default_value: default.is_some(),
        default_value_expression: default,
        enum_values: column.labels.as_deref(),
        identity: column.identity.as_deref(),
        generation: column.generated.as_deref(),
        generation_expression: column.generation.as_deref(),
        collation: column.collation.as_deref(),
        base_type: column.base_type_oid,
        value_of_older_rows: column.of_older_rows.as_deref(),
    }
}

fn object(object: &Object) -> ObjectMembers<'_> {
    ObjectMembers {
        command: &object.command,
        kind: &object.kind,
        oid: object.oid,
        schema: object.schema.as_deref(),
        name: object.name.as_deref(),
        column: object.column.as_deref(),
        identity: object.identity.as_deref(),
        enum_values: object.labels.as_deref(),
        rewrite_reasons: object.reasons.as_deref(),
    }
}

/// `numeric(10,2)` is `numeric`; a modifier inside a name stays where it is
/// (`timestamp(3) with time zone`, as any name in quotes).
fn without_modifier(type_name: &str) -> &str {
    match type_name.split_once('(') {
        Some((name, rest)) if !name.contains('"') && rest.ends_with(')') => name,
        _ => type_name,
    }
}

/// What `numerictypmodin` and its like (`src/backend/utils/adt`) put into a
/// modifier.
fn length_and_scale(type_oid: u32, typmod: i32) -> (Option<i32>, Option<i32>) {
    match type_oid {
        _ if typmod < 0 => (None, None),
        BPCHAR | VARCHAR => (Some(typmod - HEADER), None),
        BIT | VARBIT => (Some(typmod), None),
        NUMERIC => {
            let packed = typmod - HEADER;
            // Eleven bits with a sign.
            let scale = ((packed & 0x7ff) ^ 1024) - 1024;
            (Some((packed >> 16) & 0xffff), Some(scale))
        }
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_are_read_as_the_server_packs_them() {
        let numeric = |precision: i32, scale: i32| (precision << 16) + (scale & 0x7ff) + 4;
        for (oid, typmod, read) in [
            (NUMERIC, numeric(10, 2), (Some(10), Some(2))),
            (NUMERIC, numeric(3, -2), (Some(3), Some(-2))),
            (NUMERIC, -1, (None, None)),
            (VARCHAR, 44, (Some(40), None)),
            (BIT, 8, (Some(8), None)),
            (1184, 3, (None, None)),
        ] {
            assert_eq!(length_and_scale(oid, typmod), read, "{oid} {typmod}");
        }
        for (text, name) in [
            ("numeric(10,2)", "numeric"),
            ("timestamp(3) with time zone", "timestamp(3) with time zone"),
            ("\"odd(1)\"", "\"odd(1)\""),
            ("integer", "integer"),
        ] {
            assert_eq!(without_modifier(text), name);
        }
    }
}
