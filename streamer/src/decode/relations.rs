//! The relation definitions of a connection.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::{Failure, Result};
use crate::event::Relation;

/// Definition number → relation. The reader of the stream inserts, workers
/// look up. A table that was altered or made anew comes under a new number, so
/// an entry never changes.
#[derive(Debug, Default)]
pub struct RelationTable {
    relations: RwLock<HashMap<u32, Arc<Relation>>>,
}

impl RelationTable {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a definition, under its own number.
    pub fn insert(&self, definition: walferry_protocol::Relation) -> Arc<Relation> {
        let number = definition.number;
        let relation = Arc::new(Relation::new(definition));
        self.relations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, Arc::clone(&relation));
        relation
    }

    pub fn get(&self, number: u32) -> Option<Arc<Relation>> {
        self.relations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&number)
            .cloned()
    }

    /// Forgets a definition. The caller knows that no frame that names it is
    /// still to be decoded.
    pub fn remove(&self, number: u32) -> Option<Arc<Relation>> {
        self.relations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number)
    }

    /// Forgets everything: numbers count anew with each connection.
    pub fn clear(&self) {
        self.relations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub fn len(&self) -> usize {
        self.relations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the definitions of these numbers as they stand in a frame, for
    /// a store that outlives the connection. `Err` is a number that is not
    /// known.
    pub fn encode(
        &self,
        numbers: impl IntoIterator<Item = u32>,
        out: &mut Vec<u8>,
    ) -> Result<(), u32> {
        for number in numbers {
            self.get(number).ok_or(number)?.definition.encode(out);
        }
        Ok(())
    }
}

/// The relations that the records at hand have named so far, so that the
/// shared table is asked once for each.
pub(super) struct Seen<'t> {
    table: &'t RelationTable,
    relations: Vec<(u32, Arc<Relation>)>,
    hint: &'static str,
}

impl<'t> Seen<'t> {
    /// `hint`: what to do when a definition is missing.
    pub fn new(table: &'t RelationTable, hint: &'static str) -> Self {
        Seen {
            table,
            relations: Vec::new(),
            hint,
        }
    }

    #[inline]
    pub fn get(&mut self, number: u32) -> Result<&Arc<Relation>> {
        let place = match self.relations.iter().position(|(seen, _)| *seen == number) {
            Some(place) => place,
            None => {
                let relation = self.table.get(number).ok_or_else(|| {
                    Failure::definite("a row came before its relation's definition")
                        .detail(format!("definition {number} is not known"))
                        .hint(self.hint)
                })?;
                self.relations.push((number, relation));
                self.relations.len() - 1
            }
        };
        Ok(&self.relations[place].1)
    }
}
