//! The relations seen so far: how their tuples are laid out, how they are
//! defined to the reader, and which definition it has already.

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys;
use walferry_protocol::Relation;

use super::condition::Condition;
use super::definition;
use super::failure::Outcome;
use super::filter::TableFilter;
use super::invalidation::{Invalidation, Reader};
use super::json_names::Names;
use super::json_options::JsonOptions;
use super::layout::Layout;
use super::server;
use super::text::Converter;

/// Beyond this many entries, those of relations that have changed or gone are
/// dropped. Dropping one costs a definition sent again, nothing else.
const MANY_ENTRIES: usize = 4096;

/// A definition the reader has.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    fingerprint: u64,
    number: u32,
}

/// A relation as the catalog shows it to the transaction being replayed.
pub struct Entry {
    pub oid: u32,
    /// Whether changes of it are sent at all.
    pub passes: bool,
    /// REPLICA IDENTITY FULL: old rows are whole.
    pub full_identity: bool,
    pub layout: Layout,
    pub definition: Relation,
    /// Whether the definition rests on types that can change.
    pub user_types: bool,
    /// Holds what the server's functions keep for this entry; null when none.
    pub context: pg_sys::MemoryContext,
    /// What the format json keeps of the relation.
    pub json: Option<Names>,
    /// Which rows are sent; None: all.
    pub condition: Option<Condition>,
    valid: bool,
    /// The definition that committed transactions refer to.
    sent: Option<Sent>,
}

impl Entry {
    pub fn new(definition: Relation, layout: Layout, context: pg_sys::MemoryContext) -> Self {
        Entry {
            oid: definition.oid,
            passes: true,
            full_identity: false,
            layout,
            definition,
            user_types: false,
            context,
            json: None,
            condition: None,
            valid: true,
            sent: None,
        }
    }
}

/// The definitions that belong to one streamed transaction: seen in no other,
/// for they may rest on catalog changes that are rolled back.
#[derive(Debug, Default)]
pub struct StreamedDefinitions {
    sent: HashMap<u32, Sent>,
    /// The entry used last, and its number.
    last: Option<(u32, Sent)>,
}

pub struct RelationCache {
    entries: HashMap<u32, Box<Entry>>,
    /// The partitioned tables that entries name as their root.
    roots: HashSet<u32>,
    /// The relation used last: rows of one table come together.
    last: Option<Box<Entry>>,
    invalidations: Reader,
    next_number: u32,
    filter: TableFilter,
    /// What the format json wants to know of relations.
    json: Option<JsonOptions>,
    converter: Converter,
    /// Parent of the entries' memory contexts.
    context: pg_sys::MemoryContext,
    /// For what reading the catalog leaves behind.
    scratch: pg_sys::MemoryContext,
}

impl RelationCache {
    pub fn new(
        filter: TableFilter,
        json: Option<JsonOptions>,
        converter: Converter,
        context: pg_sys::MemoryContext,
        scratch: pg_sys::MemoryContext,
    ) -> Self {
        RelationCache {
            entries: HashMap::new(),
            roots: HashSet::new(),
            last: None,
            invalidations: Reader::at_end(),
            next_number: 1,
            filter,
            json,
            converter,
            context,
            scratch,
        }
    }

    /// The entry of an open relation, built anew where the catalog changed.
    /// `prepare` runs before the catalog is read.
    ///
    /// # Safety
    /// `relation` is open and a historic snapshot is set up: that is, a change
    /// or truncate callback is running.
    #[inline]
    pub unsafe fn find(
        &mut self,
        relation: pg_sys::Relation,
        prepare: impl FnOnce(),
    ) -> Outcome<&mut Entry> {
        // SAFETY: as the caller promises.
        let oid = unsafe { (*relation).rd_id }.to_u32();
        if !self.invalidations.is_current() {
            self.catch_up();
        }
        let hit = self
            .last
            .as_ref()
            .is_some_and(|last| last.oid == oid && last.valid);
        if !hit {
            // SAFETY: as the caller promises.
            unsafe { self.turn_to(oid, relation, prepare)? };
        }
        match &mut self.last {
            Some(entry) => Ok(entry),
            // turn_to has just set it.
            None => Err(super::failure::Failure::corrupted(
                "relation cache has lost its entry",
            )),
        }
    }

    /// The relation that was found last.
    #[inline]
    pub fn last(&mut self) -> Option<&mut Entry> {
        self.last.as_deref_mut()
    }

    #[cold]
    fn catch_up(&mut self) {
        // DDL comes in storms, so each kind is applied to all entries once.
        let (mut all, mut types) = (false, false);
        while let Some(invalidation) = self.invalidations.next() {
            match invalidation {
                Invalidation::All => all = true,
                Invalidation::Types => types = true,
                Invalidation::Relation(oid) => self.invalidate(oid),
            }
        }
        if all || types {
            self.all(|entry| {
                if all || entry.user_types {
                    entry.valid = false;
                }
            });
        }
    }

    fn invalidate(&mut self, oid: u32) {
        if let Some(entry) = self.entries.get_mut(&oid) {
            entry.valid = false;
        }
        if let Some(entry) = self.last.as_mut().filter(|entry| entry.oid == oid) {
            entry.valid = false;
        }
        // A partition's definition names its root too.
        if self.roots.contains(&oid) {
            self.all(|entry| {
                if entry
                    .definition
                    .root
                    .as_ref()
                    .is_some_and(|root| root.oid == oid)
                {
                    entry.valid = false;
                }
            });
        }
    }

    fn all(&mut self, mut change: impl FnMut(&mut Entry)) {
        for entry in self.entries.values_mut() {
            change(entry);
        }
        if let Some(entry) = &mut self.last {
            change(entry);
        }
    }

    /// Makes `relation` the last used one.
    ///
    /// # Safety
    /// As for [`RelationCache::find`].
    #[inline(never)]
    unsafe fn turn_to(
        &mut self,
        oid: u32,
        relation: pg_sys::Relation,
        prepare: impl FnOnce(),
    ) -> Outcome {
        if let Some(last) = self.last.take() {
            self.entries.insert(last.oid, last);
        }
        if let Some(entry) = self.entries.remove(&oid) {
            if entry.valid {
                self.last = Some(entry);
                return Ok(());
            }
            // Until the new one is complete the old one stays, so that an
            // error leaves nothing half done.
            self.entries.insert(oid, entry);
        }
        prepare();
        let (filter, json, converter) = (&self.filter, self.json.as_ref(), self.converter);
        let context = self.context;
        let mut built = server::in_scratch(self.scratch, || {
            // SAFETY: as the caller promises.
            unsafe { definition::build(relation, filter, json, converter, context) }
        })?;
        self.roots
            .extend(built.definition.root.as_ref().map(|root| root.oid));
        if let Some(old) = self.entries.remove(&oid) {
            built.sent = old
                .sent
                .filter(|sent| sent.fingerprint == built.definition.fingerprint);
            drop_entry(old);
        }
        if self.entries.len() >= MANY_ENTRIES {
            for (_, stale) in self.entries.extract_if(|_, entry| !entry.valid) {
                drop_entry(stale);
            }
        }
        self.last = Some(Box::new(built));
        Ok(())
    }

    /// The number of the definition under which rows of the last found
    /// relation go, adding the definition to `definitions` if it is new.
    #[inline]
    pub fn number(
        &mut self,
        streamed: Option<&mut StreamedDefinitions>,
        definitions: &mut Vec<u8>,
    ) -> u32 {
        let Some(entry) = &mut self.last else {
            return 0;
        };
        let fingerprint = entry.definition.fingerprint;
        match streamed {
            None => {
                if let Some(sent) = entry.sent {
                    return sent.number;
                }
                let sent = define(entry, &mut self.next_number, definitions);
                entry.sent = Some(sent);
                sent.number
            }
            Some(streamed) => {
                if let Some((oid, sent)) = streamed.last
                    && oid == entry.oid
                    && sent.fingerprint == fingerprint
                {
                    return sent.number;
                }
                let sent = match streamed.sent.get(&entry.oid) {
                    Some(sent) if sent.fingerprint == fingerprint => *sent,
                    _ => define(entry, &mut self.next_number, definitions),
                };
                streamed.sent.insert(entry.oid, sent);
                streamed.last = Some((entry.oid, sent));
                sent.number
            }
        }
    }
}

#[cold]
fn define(entry: &mut Entry, next_number: &mut u32, definitions: &mut Vec<u8>) -> Sent {
    let number = *next_number;
    *next_number = next_number.wrapping_add(1).max(1);
    entry.definition.number = number;
    entry.definition.encode(definitions);
    Sent {
        fingerprint: entry.definition.fingerprint,
        number,
    }
}

fn drop_entry(entry: Box<Entry>) {
    let condition = entry.condition.map(|condition| condition.context);
    for context in [Some(entry.context), condition].into_iter().flatten() {
        if !context.is_null() {
            // SAFETY: the entry's own context; nothing of the entry is used
            // after.
            unsafe { pg_sys::MemoryContextDelete(context) };
        }
    }
}
