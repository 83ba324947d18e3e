//! walferry's own tables and messages reach a sink only when they are asked for.

use std::sync::Arc;

use super::Encode;
use crate::error::Result;
use crate::event::{Change, Event, Relation};
use crate::heartbeat;

/// The schema of walferry's own tables (heartbeats, captured DDL).
const OWN_SCHEMA: &str = "walferry";

/// An encoder that leaves out what is walferry's own. Such an event still has
/// its place in its transaction: the ids of others do not change.
pub struct WithoutOwnEvents {
    pub encoder: Arc<dyn Encode>,
    /// The heartbeat's table, where it is not in walferry's schema: schema and name.
    pub heartbeat_table: Option<(String, String)>,
}

impl WithoutOwnEvents {
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

    fn is_own(&self, event: &Event<'_>) -> bool {
        match &event.change {
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. }
            | Change::Truncate { relation, .. } => self.is_own_table(relation),
            Change::Message { prefix, .. } => *prefix == heartbeat::PREFIX,
        }
    }
}

impl Encode for WithoutOwnEvents {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<()> {
        if self.is_own(event) {
            return Ok(());
        }
        self.encoder.encode(event, out)
    }
}
