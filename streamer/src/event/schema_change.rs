//! A row of `walferry.ddl_log` (`sql/33_ddl_log.sql`) as an event: how tables
//! look after a command. Only a row is one; a logical message, which anyone may
//! write, never is.

use serde::Deserialize;

use super::{Event, Image, Relation, Value};
use crate::error::{Failure, Result};

/// What one command did, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChange {
    /// The row's own number.
    pub id: i64,
    /// `ddl_command_end`, `sql_drop` or `table_rewrite`.
    pub event: String,
    /// Such as `ALTER TABLE`.
    pub command_tag: String,
    /// The object it is about: its schema, where it has one, and its name.
    pub schema: Option<String>,
    pub name: Option<String>,
    pub objects: Vec<Object>,
    pub tables: Vec<TableChange>,
    /// For people. Never to be run.
    pub statement: Option<String>,
    /// Why there is no statement.
    pub statement_absent: Option<String>,
}

/// An object that the command touched.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Object {
    pub command: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub oid: u32,
    pub relation: Option<u32>,
    pub schema: Option<String>,
    pub name: Option<String>,
    pub column: Option<String>,
    pub identity: Option<String>,
    /// An enum's, in order.
    pub labels: Option<Vec<String>>,
    /// Why a table is rewritten.
    pub reasons: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum TableChangeKind {
    Create,
    Alter,
    Drop,
}

/// A table afterwards. Of one that was dropped, and of those that were too
/// many, `columns` is `None`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct TableChange {
    pub change: TableChangeKind,
    /// The same under any name.
    pub oid: u32,
    #[serde(default)]
    pub schema: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub left_out: bool,
    /// `table`, `partitioned table` or `foreign table`.
    pub kind: Option<String>,
    /// Not UNLOGGED: its changes are in the log.
    pub logged: Option<bool>,
    pub partition_of: Option<TableName>,
    #[serde(default)]
    pub primary_key: Vec<String>,
    pub replica_identity: Option<String>,
    #[serde(default)]
    pub identity_columns: Vec<String>,
    pub columns: Option<Vec<TableColumn>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct TableName {
    pub schema: String,
    pub name: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct TableColumn {
    pub name: String,
    pub attnum: i16,
    /// As `format_type` prints it, qualified unless of `pg_catalog`.
    #[serde(rename = "type")]
    pub type_name: String,
    pub type_oid: u32,
    pub typmod: i32,
    #[serde(default)]
    pub dimensions: i32,
    pub not_null: bool,
    /// `always` or `by default`.
    pub identity: Option<String>,
    /// `stored` or `virtual`.
    pub generated: Option<String>,
    /// The expression of a generated column.
    pub generation: Option<String>,
    pub default: Option<String>,
    pub collation: Option<String>,
    /// Of a domain.
    pub base_type_oid: Option<u32>,
    #[serde(rename = "enum")]
    pub labels: Option<Vec<String>>,
    /// What rows from before the column have in it.
    pub of_older_rows: Option<String>,
}

impl SchemaChange {
    /// Reads a row that was inserted into `walferry.ddl_log`. `None`: it was
    /// not captured where it stands, but copied there by a restore or by
    /// replication: its transaction id is another's.
    ///
    /// # Errors
    /// Definite: a row of another version's table.
    pub fn read(event: &Event<'_>, log: &Relation, row: &Image<'_>) -> Result<Option<Self>> {
        let row = Row { log, row };
        let txid: i64 = row.number("txid")?;
        // The 64-bit id's lower half is the one that the stream knows.
        if txid as u32 != event.transaction.xid {
            return Ok(None);
        }
        Ok(Some(SchemaChange {
            id: row.number("id")?,
            event: row.needed("event")?,
            command_tag: row.needed("command_tag")?,
            schema: row.text("schema_name")?,
            name: row.text("object_name")?,
            objects: row.json("objects")?,
            tables: row.json("tables")?,
            statement: row.text("statement")?,
            statement_absent: row.text("why_null")?,
        }))
    }

    /// The table it is about, by its name; of several the one that is named first.
    pub fn table(&self) -> Option<&str> {
        let is_table = |object: &&Object| {
            object.schema == self.schema
                && object.name == self.name
                && object.kind.contains("table")
        };
        self.objects
            .iter()
            .find(is_table)
            .and_then(|object| object.name.as_deref())
    }

    /// Leaves out the tables that `passes` does not let through, and what is
    /// said of them; false when nothing is left to tell.
    pub fn keep(&mut self, passes: impl Fn(&str, &str) -> bool) -> bool {
        let before = (self.tables.len(), self.objects.len());
        self.tables
            .retain(|table| !table.left_out && passes(&table.schema, &table.name));
        let kept: Vec<u32> = self.tables.iter().map(|table| table.oid).collect();
        self.objects.retain(|object| {
            match (&object.schema, &object.name) {
                // Types and schemas stand behind any table.
                _ if object.kind == "type" || object.kind == "schema" => true,
                (Some(schema), Some(name)) => {
                    object.relation.is_some_and(|oid| kept.contains(&oid)) || passes(schema, name)
                }
                _ => false,
            }
        });
        if before != (self.tables.len(), self.objects.len()) {
            if self.statement.take().is_some() {
                self.statement_absent = Some("it names what is not replicated".to_owned());
            }
            let shown = self.objects.first();
            self.schema = shown.and_then(|object| object.schema.clone());
            self.name = shown.and_then(|object| object.name.clone());
        }
        !self.objects.is_empty() || !self.tables.is_empty()
    }
}

struct Row<'r, 'a> {
    log: &'r Relation,
    row: &'r Image<'a>,
}

impl Row<'_, '_> {
    fn text(&self, name: &str) -> Result<Option<String>> {
        let columns = &self.log.definition.columns;
        let place = columns
            .iter()
            .position(|column| column.name == name)
            .ok_or_else(|| self.malformed(name, "it is not there"))?;
        match self.row.get(place) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Absent | Value::UnchangedToast) => {
                Err(self.malformed(name, "its value did not come"))
            }
            Some(value) => {
                let mut text = Vec::new();
                value
                    .write_text(&mut text)
                    .map_err(|error| self.log.malformed_value(place, error))?;
                String::from_utf8(text)
                    .map(Some)
                    .map_err(|_| self.malformed(name, "it is not UTF-8"))
            }
        }
    }

    fn needed(&self, name: &str) -> Result<String> {
        self.text(name)?
            .ok_or_else(|| self.malformed(name, "it is null"))
    }

    fn number(&self, name: &str) -> Result<i64> {
        self.needed(name)?
            .parse()
            .map_err(|_| self.malformed(name, "it is no number"))
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Vec<T>> {
        serde_json::from_str(&self.needed(name)?)
            .map_err(|error| self.malformed(name, &error.to_string()))
    }

    #[cold]
    fn malformed(&self, column: &str, what: &str) -> Failure {
        Failure::definite("a row of walferry.ddl_log could not be read")
            .detail(format!("column {column}: {what}"))
            .hint("bring the extension or the managed pack to this version of walferry: walferry --version and SELECT walferry.version(); or run without --schema-changes")
    }
}
