//! walferry's own tables and messages reach a sink only when they are asked
//! for, and captured DDL as what it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Encode;
use crate::error::Result;
use crate::event::{Change, Event, Relation, SchemaChange};
use crate::heartbeat;
use crate::source::table_filter::{DDL_LOG, OWN_SCHEMA, TableFilter};

/// An encoder that leaves out what is walferry's own. Such an event still has
/// its place in its transaction: the ids of others do not change.
pub struct OwnEvents {
    pub encoder: Arc<dyn Encode>,
    pub wanted: Wanted,
    /// That a row was not captured where it stands has been said.
    pub foreign_row_told: AtomicBool,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Rows and messages as they are.
    pub own_events: bool,
    /// Rows of `walferry.ddl_log` as schema changes.
    pub schema_changes: bool,
    /// A table that it names without wildcards is wanted too, and schema
    /// changes are of the tables that it lets through.
    pub tables: TableFilter,
    /// The heartbeat's table, where it is not in walferry's schema: schema and name.
    pub heartbeat_table: Option<(String, String)>,
}

impl Wanted {
    fn is_own_table(&self, relation: &Relation) -> bool {
        let definition = &relation.definition;
        definition.schema == OWN_SCHEMA
            || self
                .heartbeat_table
                .as_ref()
                .is_some_and(|(schema, table)| {
                    definition.schema == *schema && definition.name == *table
                })
    }

    /// Whether the rows of one of its own tables go to the sink.
    fn rows_of(&self, relation: &Relation) -> bool {
        let definition = &relation.definition;
        let (schema, table) = (definition.schema.as_str(), definition.name.as_str());
        self.own_events || self.tables.names(schema, table) && self.tables.passes(schema, table)
    }
}

fn is_ddl_log(relation: &Relation) -> bool {
    relation.definition.schema == OWN_SCHEMA && relation.definition.name == DDL_LOG
}

impl OwnEvents {
    pub fn new(encoder: Arc<dyn Encode>, wanted: Wanted) -> Self {
        OwnEvents {
            encoder,
            wanted,
            foreign_row_told: AtomicBool::new(false),
        }
    }

    fn encode_schema_change(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<()> {
        let Change::Insert { relation, after } = &event.change else {
            return Ok(());
        };
        let Some(mut change) = SchemaChange::read(event, relation, after)? else {
            if !self.foreign_row_told.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "a row of walferry.ddl_log was written by something else than the event triggers (a restore, replication): it is no schema change; further ones are left out without a word"
                );
            }
            return Ok(());
        };
        let tables = &self.wanted.tables;
        if !tables.is_everything() && !change.keep(|schema, table| tables.passes(schema, table)) {
            return Ok(());
        }
        let event = Event {
            transaction: event.transaction,
            lsn: event.lsn,
            index: event.index,
            change: Change::SchemaChange(Box::new(change)),
        };
        self.encoder.encode(&event, out)
    }
}

impl Encode for OwnEvents {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<()> {
        let wanted = match &event.change {
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. }
            | Change::Truncate { relation, .. }
                if self.wanted.is_own_table(relation) =>
            {
                if is_ddl_log(relation) {
                    if self.wanted.schema_changes {
                        return self.encode_schema_change(event, out);
                    }
                    // What is removed from it once it is old is nobody's news.
                    matches!(event.change, Change::Insert { .. }) && self.wanted.rows_of(relation)
                } else {
                    self.wanted.rows_of(relation)
                }
            }
            Change::Message { prefix, .. } if *prefix == heartbeat::PREFIX => {
                self.wanted.own_events
            }
            _ => true,
        };
        if wanted {
            self.encoder.encode(event, out)
        } else {
            Ok(())
        }
    }
}
