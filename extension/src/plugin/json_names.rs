//! What the format json keeps of a relation: the parts of its objects that are
//! the same in every row.

use pgrx::pg_sys;
use walferry_protocol::Relation;

use super::failure::Outcome;
use super::json_options::JsonOptions;
use super::json_text::{escape, push};
use super::text::Converter;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Number,
    Bool,
    Bytea,
    Text,
}

pub struct JsonColumn {
    /// Up to `"type":…`, the whole of the member list in `pk`.
    pub head: String,
    /// What follows the value in `columns`.
    pub tail: String,
    pub shape: Shape,
    pub key: bool,
}

/// What of a relation's objects is the same in every row.
pub struct Names {
    /// `,"schema":…,"table":…`
    pub table: String,
    pub columns: Vec<JsonColumn>,
    /// The member `pk`, if it is asked for.
    pub primary_key: String,
    /// Whether an index serves as replica identity.
    pub identity_index: bool,
}

impl Names {
    /// # Safety
    /// `relation` is open, and a historic snapshot is set up.
    pub unsafe fn read(
        relation: pg_sys::Relation,
        definition: &Relation,
        options: &JsonOptions,
        converter: Converter,
        primary_key: &[i16],
        identity_index: bool,
    ) -> Outcome<Names> {
        let ascii = !converter.server_is_utf8();
        let mut table = String::new();
        if options.schemas {
            table.push_str(",\"schema\":");
            escape(&mut table, &definition.schema, ascii);
        }
        table.push_str(",\"table\":");
        escape(&mut table, &definition.name, ascii);
        let mut columns = Vec::new();
        let mut primary = Vec::new();
        for column in &definition.columns {
            let mut head = "{\"name\":".to_owned();
            escape(&mut head, &column.name, ascii);
            if options.types {
                // SAFETY: as the caller promises.
                let name = unsafe {
                    type_name(
                        column.type_oid,
                        column.typmod,
                        options.domain_data_type,
                        converter,
                    )?
                };
                head.push_str(",\"type\":");
                escape(&mut head, &name, ascii);
            }
            if options.type_oids {
                push(&mut head, format_args!(",\"typeoid\":{}", column.type_oid));
            }
            if primary_key.contains(&column.attnum) {
                primary.push(format!("{head}}}"));
            }
            let mut tail = String::new();
            if options.not_null {
                push(
                    &mut tail,
                    format_args!(",\"optional\":{}", !column.flags.is_not_null()),
                );
            }
            if options.column_positions {
                push(&mut tail, format_args!(",\"position\":{}", column.attnum));
            }
            if options.default {
                tail.push_str(",\"default\":");
                // SAFETY: as the caller promises.
                match unsafe { default_expression(relation, column.attnum, converter)? } {
                    Some(text) if !column.flags.is_generated() => escape(&mut tail, &text, ascii),
                    _ => tail.push_str("null"),
                }
            }
            columns.push(JsonColumn {
                head,
                tail,
                shape: match column.type_oid {
                    16 => Shape::Bool,
                    17 => Shape::Bytea,
                    20 | 21 | 23 | 26 | 700 | 701 | 1700 => Shape::Number,
                    _ => Shape::Text,
                },
                key: column.flags.is_key(),
            });
        }
        let primary_key = if options.pk {
            format!(",\"pk\":[{}]", primary.join(","))
        } else {
            String::new()
        };
        Ok(Names {
            table,
            columns,
            primary_key,
            identity_index,
        })
    }
}

/// A type as `format_type` prints it; a single quoted name without quotes.
///
/// # Safety
/// A historic snapshot is set up.
unsafe fn type_name(
    oid: u32,
    typmod: i32,
    under_domain: bool,
    converter: Converter,
) -> Outcome<String> {
    // SAFETY: reads the catalog, into the current memory context.
    let name = unsafe {
        let (mut oid, mut typmod) = (pg_sys::Oid::from(oid), typmod);
        if under_domain && pg_sys::get_typtype(oid) as u8 == b'd' {
            oid = pg_sys::getBaseTypeAndTypmod(oid, &mut typmod);
        }
        converter.c_string(
            pg_sys::format_type_with_typemod(oid, typmod),
            "a type's name",
        )?
    };
    let inner = name
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    Ok(match inner {
        Some(inner) if !inner.contains('"') => inner.to_owned(),
        _ => name,
    })
}

/// A column's default expression as SQL.
///
/// # Safety
/// `relation` is open, and a historic snapshot is set up.
unsafe fn default_expression(
    relation: pg_sys::Relation,
    attnum: i16,
    converter: Converter,
) -> Outcome<Option<String>> {
    // SAFETY: an open relation's descriptor stands; its defaults are node
    // trees, which pg_get_expr prints into the current memory context.
    unsafe {
        let constraints = (*(*relation).rd_att).constr;
        if constraints.is_null() || (*constraints).num_defval == 0 {
            return Ok(None);
        }
        let count = usize::from((*constraints).num_defval);
        let defaults = std::slice::from_raw_parts((*constraints).defval, count);
        let Some(default) = defaults.iter().find(|default| default.adnum == attnum) else {
            return Ok(None);
        };
        let tree = pg_sys::cstring_to_text(default.adbin);
        let printed = pg_sys::OidFunctionCall2Coll(
            pg_sys::F_PG_GET_EXPR_PG_NODE_TREE_OID,
            pg_sys::InvalidOid,
            pg_sys::Datum::from(tree),
            pg_sys::Datum::from((*relation).rd_id),
        );
        let text = pg_sys::text_to_cstring(printed.cast_mut_ptr());
        Ok(Some(converter.c_string(text, "a column's default")?))
    }
}
