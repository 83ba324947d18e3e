//! A relation as its rows' definition described it, with what decoders and
//! encoders need worked out once.

use crate::datum::{Malformed, Type, quote::write_json_string};
use crate::error::Failure;

/// Two versions of a table are two of these.
#[derive(Debug, PartialEq, Eq)]
pub struct Relation {
    pub definition: walferry_protocol::Relation,
    /// One for each of the definition's columns, in that order.
    pub columns: Vec<Column>,
    /// The members of a JSON `source` object that name the relation:
    /// `"schema":"public","table":"orders"`, and `"root"` of a partition.
    pub source_json: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// How a raw value reads, and which JSON a value becomes.
    pub kind: Type,
    pub is_key: bool,
    /// The name as a JSON member's key: `"name":`.
    pub key_json: Vec<u8>,
}

impl Relation {
    pub fn new(definition: walferry_protocol::Relation) -> Self {
        let columns = definition
            .columns
            .iter()
            .map(|column| {
                let mut key_json = Vec::with_capacity(column.name.len() + 3);
                write_json_string(&column.name, &mut key_json);
                key_json.push(b':');
                Column {
                    kind: match Type::from_oid(column.base_type_oid) {
                        Type::Other if column.flags.is_array() => Type::OtherArray,
                        kind => kind,
                    },
                    is_key: column.flags.is_key(),
                    key_json,
                }
            })
            .collect();
        let mut source_json = Vec::new();
        write_name(&definition.schema, &definition.name, &mut source_json);
        if let Some(root) = &definition.root {
            source_json.extend_from_slice(b",\"root\":{");
            write_name(&root.schema, &root.name, &mut source_json);
            source_json.push(b'}');
        }
        Relation {
            definition,
            columns,
            source_json,
        }
    }

    /// The relation's name for people: `public.orders`.
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.definition.schema, self.definition.name)
    }

    /// A value of the column at `place` that does not hold.
    #[cold]
    pub fn malformed_value(&self, place: usize, error: Malformed) -> Failure {
        let failure = Failure::definite(format!(
            "a value of {} could not be read",
            self.display_name()
        ));
        match self.definition.columns.get(place) {
            Some(column) => failure.detail(format!(
                "column {:?} of type {}: {error}",
                column.name, column.type_name
            )),
            None => failure.detail(error.to_string()),
        }
        .hint("nothing of this transaction was acknowledged; start again, and if it comes back look at the row on the server")
    }

    pub fn has_key(&self) -> bool {
        self.columns.iter().any(|column| column.is_key)
    }
}

fn write_name(schema: &str, table: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"schema\":");
    write_json_string(schema, out);
    out.extend_from_slice(b",\"table\":");
    write_json_string(table, out);
}
