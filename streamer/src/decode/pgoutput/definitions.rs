//! Relation messages become relation definitions.
//!
//! A Relation message has names, types' oids and which columns are of the
//! replica identity. What is under a domain, which types are arrays, the
//! primary key under REPLICA IDENTITY FULL, NOT NULL and the topmost
//! partitioned table come from the catalog, which is the present one: where it
//! no longer agrees with the message, the message wins, and what only the
//! catalog could tell is left out.

use std::collections::HashMap;
use std::sync::Arc;

use walferry_protocol::{Column, ColumnFlags, Encoding, Relation, RelationKind, ReplicaIdentity};

use super::message::RelationMessage;
use crate::decode::RelationTable;
use crate::error::Result;
use crate::event;
use crate::source::catalog::{Catalog, Find, Found, TypeDescription};
use crate::source::table_filter::TableFilter;

/// Gives definitions their numbers.
pub struct Definitions {
    catalog: Catalog,
    tables: TableFilter,
    /// Types by oid, from Type messages: schema and name.
    types: HashMap<u32, (String, String)>,
    /// The definition made of a Relation message, by its bytes.
    known: HashMap<Vec<u8>, Arc<event::Relation>>,
    last: u32,
}

/// The number that stands for a relation whose changes are not wanted.
pub const UNWANTED: u32 = 0;

impl Definitions {
    pub fn new(catalog: Catalog, tables: TableFilter) -> Self {
        Definitions {
            catalog,
            tables,
            types: HashMap::new(),
            known: HashMap::new(),
            last: 0,
        }
    }

    /// Takes in a Type message.
    pub fn name_type(&mut self, oid: u32, schema: &str, name: &str) {
        self.types.insert(oid, (schema.to_owned(), name.to_owned()));
    }

    /// The number of the definition that a Relation message gives, in `table`.
    ///
    /// `content` is the message without its tag and xid. The catalog is asked
    /// when it is new, and with `changed`: outside of streamed blocks the
    /// server repeats a message only when something about the relation changed.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn number(
        &mut self,
        message: &RelationMessage<'_>,
        content: &[u8],
        changed: bool,
        table: &RelationTable,
    ) -> Result<u32> {
        if !self.tables.passes_in_stream(message.schema, message.name) {
            return Ok(UNWANTED);
        }
        let known = self.known.get(content);
        if let Some(known) = known.filter(|_| !changed) {
            return Ok(known.definition.number);
        }
        let mut definition = self.define(message)?;
        if let Some(known) = self.known.get(content) {
            definition.number = known.definition.number;
            if definition == known.definition {
                return Ok(definition.number);
            }
        }
        self.last += 1;
        definition.number = self.last;
        let relation = table.insert(definition);
        self.known.insert(content.to_vec(), relation);
        Ok(self.last)
    }

    fn define(&self, message: &RelationMessage<'_>) -> Result<Relation> {
        let found = self.catalog.relation(Find::Oid(message.oid))?;
        let column_of = |name: &str, type_oid: u32| {
            let found = found.as_ref()?;
            let columns = &mut found.relation.columns.iter();
            columns.find(|column| column.name == name && column.type_oid == type_oid)
        };
        let strange: Vec<u32> = message
            .columns
            .iter()
            .filter(|column| column_of(column.name, column.type_oid).is_none())
            .map(|column| column.type_oid)
            .collect();
        let types = self.catalog.types(&strange)?;
        let full = message.replica_identity == ReplicaIdentity::Full;
        let columns = (1..).zip(&message.columns).map(|(place, column)| {
            let found = column_of(column.name, column.type_oid);
            let mut flags = found.map_or(0, |found| {
                found.flags.0
                    & (ColumnFlags::NOT_NULL | ColumnFlags::ARRAY | ColumnFlags::GENERATED)
            });
            let of_catalog = found.is_some_and(|found| found.flags.is_key());
            if if full { of_catalog } else { column.is_identity } {
                flags |= ColumnFlags::KEY;
            }
            let described = match (found, types.get(&column.type_oid)) {
                (Some(found), _) => TypeDescription {
                    oid: found.type_oid,
                    schema: found.type_schema.clone(),
                    name: found.type_name.clone(),
                    base_oid: found.base_type_oid,
                    is_array: found.flags.is_array(),
                    out_of_line: false,
                },
                (None, Some(described)) => described.clone(),
                (None, None) => self.gone(column.type_oid),
            };
            if described.is_array {
                flags |= ColumnFlags::ARRAY;
            }
            Column {
                name: column.name.to_owned(),
                attnum: found.map_or(place, |found| found.attnum),
                type_oid: column.type_oid,
                type_schema: described.schema,
                type_name: described.name,
                typmod: column.typmod,
                base_type_oid: described.base_oid,
                encoding: Encoding::Text,
                flags: ColumnFlags(flags),
            }
        });
        let mut definition = Relation {
            number: 0,
            oid: message.oid,
            schema: message.schema.to_owned(),
            name: message.name.to_owned(),
            kind: found
                .as_ref()
                .map_or(RelationKind::Table, |found| found.relation.kind),
            replica_identity: message.replica_identity,
            identity_usable: full || message.columns.iter().any(|column| column.is_identity),
            root: found.as_ref().and_then(root),
            fingerprint: 0,
            columns: columns.collect(),
        };
        definition.seal();
        Ok(definition)
    }

    /// A type that the catalog no longer has.
    fn gone(&self, oid: u32) -> TypeDescription {
        let (schema, name) = self.types.get(&oid).cloned().unwrap_or_default();
        TypeDescription {
            oid,
            schema,
            name,
            base_oid: oid,
            is_array: false,
            out_of_line: false,
        }
    }
}

fn root(found: &Found) -> Option<walferry_protocol::Root> {
    found.relation.root.clone()
}
