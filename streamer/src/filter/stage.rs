//! The stage between decoding and encoding.
//!
//! An UPDATE is one only where the row passes before and after it. A row that
//! comes in is an INSERT, one that goes out a DELETE (the table in
//! `pgoutput_row_filter`, `src/backend/replication/pgoutput/pgoutput.c`).
//!
//! Where the old row was not logged as far as the condition reads it, it is
//! not known whether the row passed before. Then nothing is left out: a row
//! that passes now is delivered as the UPDATE it is, one that does not as a
//! DELETE by its key. A reader that applies them ends with exactly the rows
//! that pass.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::compile::{self, Collation, Table};
use super::evaluate::{Node, Row};
use super::examine::Knowledge;
use super::failing::Stop;
use super::image::{copied, filled, is_changed, key_of, key_text, only_key};
use super::predicate::Refusal;
use super::rules::{Operations, Rules};
use super::value::Type;
use crate::error::{Failure, Result};
use crate::event::{Change, Event, Image, OldImage, Relation, Value};

/// Lets events through, drops or changes them. Each worker has its own.
#[derive(Clone, Debug)]
pub struct RowFilter {
    shared: Arc<Shared>,
    /// By the address of the definition, which its `Weak` keeps from being
    /// used again.
    programs: HashMap<usize, Entry>,
    last: (usize, Option<Arc<Program>>),
}

#[derive(Clone, Debug)]
struct Entry {
    relation: Weak<Relation>,
    /// `None`: everything goes through.
    program: Option<Arc<Program>>,
}

#[derive(Debug)]
struct Shared {
    rules: Rules,
    knowledge: Knowledge,
    /// Tables that were warned of: their old rows do not say enough.
    warned: Mutex<Vec<String>>,
}

/// What becomes of an event.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// It goes through as it is.
    Same,
    Dropped,
    /// Another takes its place, with the same id.
    Instead(Event<'a>),
}

/// A table's rules, for one of its definitions.
#[derive(Debug)]
struct Program {
    /// All of them have to be true.
    conditions: Vec<Condition>,
    update_any: Vec<Vec<usize>>,
    update_all: Vec<usize>,
    operations: Operations,
    /// Columns that were sent for the rules only.
    hidden: Vec<usize>,
}

#[derive(Debug)]
struct Condition {
    text: String,
    node: Node,
}

/// Whether a row passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    Fails,
    /// A column that is needed is not known of it.
    Unknown(usize),
}

impl RowFilter {
    /// `None` when there is nothing to be done.
    pub fn new(rules: Rules, knowledge: Knowledge) -> Option<Self> {
        (!rules.is_idle()).then(|| RowFilter {
            shared: Arc::new(Shared {
                rules,
                knowledge,
                warned: Mutex::default(),
            }),
            programs: HashMap::new(),
            last: (0, None),
        })
    }

    /// What becomes of an event.
    ///
    /// # Errors
    /// Definite: a condition that does not fit the table, that raised an error
    /// on a row, or that needs an out-of-line value that was not logged.
    #[inline]
    pub fn apply<'a>(&mut self, event: &Event<'a>) -> Result<Outcome<'a>> {
        let relation = match &event.change {
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. }
            | Change::Truncate { relation, .. } => *relation,
            Change::Message { .. } | Change::SchemaChange(_) => return Ok(Outcome::Same),
        };
        let address = Arc::as_ptr(relation) as usize;
        if self.last.0 != address {
            self.last = (address, self.program(relation)?);
        }
        match &self.last.1 {
            None => Ok(Outcome::Same),
            Some(program) => program.apply(event, &self.shared),
        }
    }

    fn program(&mut self, relation: &Arc<Relation>) -> Result<Option<Arc<Program>>> {
        let address = Arc::as_ptr(relation) as usize;
        if let Some(entry) = self.programs.get(&address) {
            return Ok(entry.program.clone());
        }
        self.programs
            .retain(|_, entry| entry.relation.strong_count() > 0);
        let program = Program::new(relation, &self.shared)?.map(Arc::new);
        self.programs.insert(
            address,
            Entry {
                relation: Arc::downgrade(relation),
                program: program.clone(),
            },
        );
        Ok(program)
    }
}

/// A relation as conditions see it.
pub fn table_of(relation: &Relation, knowledge: &Knowledge) -> Table {
    let definition = &relation.definition;
    let names = (definition.schema.as_str(), definition.name.as_str());
    let root = definition
        .root
        .as_ref()
        .map(|root| (root.schema.as_str(), root.name.as_str()));
    let columns = definition
        .columns
        .iter()
        .map(|column| {
            let kind = Type::of_column(column.base_type_oid);
            compile::Column {
                name: column.name.clone(),
                kind,
                type_name: column.type_name.clone(),
                // atttypmod counts a header of four.
                length: (kind == Type::Bpchar)
                    .then(|| u32::try_from(column.typmod - 4).ok())
                    .flatten()
                    .filter(|length| *length > 0),
                collation: match column.base_type_oid {
                    NAME => Collation::C,
                    _ => knowledge.collation(names, root, &column.name),
                },
            }
        })
        .collect();
    Table {
        schema: definition.schema.clone(),
        name: definition.name.clone(),
        columns,
    }
}

/// `pg_type.oid` of name, whose collation is C.
const NAME: u32 = 19;

/// What is said of a condition that cannot be one of a table.
pub(super) fn refused(relation: &Relation, condition: &str, refusal: &Refusal) -> Failure {
    let failure = Failure::definite(format!(
        "the condition on {} does not fit the table",
        relation.display_name()
    ))
    .detail(format!("{refusal}, in {condition:?}"));
    failure.hint(
        refusal
            .hint
            .clone()
            .unwrap_or_else(|| "docs/filters.md lists what conditions may say".to_owned()),
    )
}

impl Program {
    fn new(relation: &Relation, shared: &Shared) -> Result<Option<Self>> {
        let definition = &relation.definition;
        let root = definition
            .root
            .as_ref()
            .map(|root| (root.schema.as_str(), root.name.as_str()));
        let rules: Vec<_> = (shared.rules)
            .of((&definition.schema, &definition.name), root)
            .collect();
        if rules.is_empty() {
            return Ok(None);
        }
        let table = table_of(relation, &shared.knowledge);
        let place_of = |name: &String| {
            let place = table.columns.iter().position(|column| column.name == *name);
            place.ok_or_else(|| {
                Failure::definite(format!(
                    "{} has no column {name:?}",
                    relation.display_name()
                ))
                .detail("a filter of UPDATEs by column names it")
                .hint("names in lists are case-sensitive; correct it, or leave it out")
            })
        };
        let places_of = |names: &[String]| names.iter().map(place_of).collect::<Result<Vec<_>>>();
        let mut program = Program {
            conditions: Vec::new(),
            update_any: Vec::new(),
            update_all: Vec::new(),
            operations: Operations::ALL,
            hidden: Vec::new(),
        };
        for rule in rules {
            if let Some(condition) = &rule.condition {
                let node = compile::compile(condition, &table, &shared.knowledge.server)
                    .map_err(|refusal| refused(relation, &condition.text, &refusal))?;
                program.conditions.push(Condition {
                    text: condition.text.clone(),
                    node,
                });
            }
            if !rule.update_any.is_empty() {
                program.update_any.push(places_of(&rule.update_any)?);
            }
            program.update_all.extend(places_of(&rule.update_all)?);
            program.operations = program.operations.and(rule.operations);
            if let Some(allowed) = &rule.columns {
                let hidden = relation
                    .columns
                    .iter()
                    .enumerate()
                    .filter(|(place, column)| {
                        // A row without its key could not be found again.
                        !column.is_key && !allowed.contains(&table.columns[*place].name)
                    });
                program.hidden.extend(hidden.map(|(place, _)| place));
            }
        }
        Ok(Some(program))
    }

    fn apply<'a>(&self, event: &Event<'a>, shared: &Shared) -> Result<Outcome<'a>> {
        let changed = match &event.change {
            Change::Message { .. } | Change::SchemaChange(_) => None,
            Change::Truncate { .. } => {
                if !self.operations.truncate {
                    return Ok(Outcome::Dropped);
                }
                None
            }
            Change::Insert { relation, after } => {
                if !self.operations.insert {
                    return Ok(Outcome::Dropped);
                }
                match self.judge(event, relation, after, None)? {
                    Verdict::Passes => None,
                    Verdict::Fails => return Ok(Outcome::Dropped),
                    Verdict::Unknown(place) => {
                        return Err(incomplete(event, relation, place));
                    }
                }
            }
            Change::Delete { relation, before } => {
                if !self.operations.delete {
                    return Ok(Outcome::Dropped);
                }
                let verdict = match before {
                    OldImage::Key(image) | OldImage::Full(image) => {
                        self.judge(event, relation, image, None)?
                    }
                    OldImage::None => self.judge(event, relation, &Image::new(), None)?,
                };
                match verdict {
                    Verdict::Passes => None,
                    Verdict::Fails => return Ok(Outcome::Dropped),
                    Verdict::Unknown(place) => {
                        shared.warn(relation, place);
                        None
                    }
                }
            }
            Change::Update {
                relation,
                before,
                after,
            } => {
                if !self.operations.update {
                    return Ok(Outcome::Dropped);
                }
                match self.update(event, relation, before, after, shared)? {
                    Crossing::Within | Crossing::Unsure => None,
                    Crossing::Outside => return Ok(Outcome::Dropped),
                    Crossing::Into => Some(Change::Insert {
                        relation,
                        after: filled(after, before),
                    }),
                    Crossing::OutOf => Some(Change::Delete {
                        relation,
                        before: key_of(relation, before, after),
                    }),
                }
            }
        };
        if self.hidden.is_empty() {
            return Ok(match changed {
                None => Outcome::Same,
                Some(change) => Outcome::Instead(with(event, change)),
            });
        }
        let change = changed.unwrap_or_else(|| copied(&event.change));
        Ok(Outcome::Instead(with(event, self.without_hidden(change))))
    }

    fn judge(
        &self,
        event: &Event<'_>,
        relation: &Relation,
        image: &[Value<'_>],
        before: Option<&[Value<'_>]>,
    ) -> Result<Verdict> {
        let row = Row { image, before };
        let mut verdict = Verdict::Passes;
        for condition in &self.conditions {
            match condition.node.passes(&row) {
                Ok(true) => {}
                Ok(false) => return Ok(Verdict::Fails),
                Err(Stop::Unknown(place)) => verdict = Verdict::Unknown(place),
                Err(Stop::Malformed(place, error)) => {
                    return Err(relation.malformed_value(place, error));
                }
                Err(Stop::Failed(failed)) => {
                    let mut detail = format!(
                        "the row {} of transaction {}, change at {}, in {:?}",
                        key_text(relation, image),
                        event.transaction.xid,
                        event.lsn,
                        condition.text
                    );
                    if let Some(more) = failed.detail {
                        detail = format!("{more}; {detail}");
                    }
                    return Err(Failure::definite(format!(
                        "the condition on {} raised an error on a row: {}",
                        relation.display_name(),
                        failed.message
                    ))
                    .detail(detail)
                    .sqlstate(failed.sqlstate)
                    .hint("nothing from this row on was acknowledged; guard the condition (CASE WHEN d <> 0 THEN n / d > 1 END) and start again"));
                }
            }
        }
        Ok(verdict)
    }

    fn update(
        &self,
        event: &Event<'_>,
        relation: &Relation,
        before: &OldImage<'_>,
        after: &Image<'_>,
        shared: &Shared,
    ) -> Result<Crossing> {
        let old = match before {
            OldImage::Key(image) | OldImage::Full(image) => Some(image.as_slice()),
            OldImage::None => None,
        };
        let crossing = if self.conditions.is_empty() {
            Crossing::Within
        } else {
            let now = self.judge(event, relation, after, old)?;
            let then = match old {
                Some(old) => self.judge(event, relation, old, None)?,
                // Nothing was logged: what identifies the row is unchanged.
                None if relation.definition.identity_usable => {
                    let unchanged = only_key(relation, after);
                    self.judge(event, relation, &unchanged, None)?
                }
                None => self.judge(event, relation, &[], None)?,
            };
            match (then, now) {
                (Verdict::Passes, Verdict::Passes) => Crossing::Within,
                (Verdict::Passes, Verdict::Fails) => Crossing::OutOf,
                (Verdict::Fails, Verdict::Passes) => Crossing::Into,
                (Verdict::Fails, Verdict::Fails) => Crossing::Outside,
                (_, Verdict::Unknown(place)) => {
                    if !shared.rules.accept_missing_identity {
                        return Err(incomplete(event, relation, place));
                    }
                    shared.warn(relation, place);
                    Crossing::Unsure
                }
                (Verdict::Unknown(place), now) => {
                    shared.warn(relation, place);
                    if now == Verdict::Passes {
                        Crossing::Unsure
                    } else {
                        Crossing::OutOf
                    }
                }
            }
        };
        if crossing != Crossing::Within {
            return Ok(crossing);
        }
        let changed = |place: &usize| {
            let changed = is_changed(relation, *place, before, after);
            if changed.is_none() {
                shared.warn(relation, *place);
            }
            // What is not known may have changed: it is not left out.
            changed != Some(false)
        };
        let wanted = self.update_any.iter().all(|any| any.iter().any(changed))
            && self.update_all.iter().all(changed);
        Ok(if wanted {
            Crossing::Within
        } else {
            Crossing::Outside
        })
    }

    /// Takes out what was sent for the rules only.
    fn without_hidden<'a>(&self, mut change: Change<'a>) -> Change<'a> {
        let hide = |image: &mut Image<'a>| {
            for place in &self.hidden {
                if let Some(value) = image.get_mut(*place) {
                    *value = Value::Absent;
                }
            }
        };
        let hide_old = |old: &mut OldImage<'a>| match old {
            OldImage::Key(image) | OldImage::Full(image) => hide(image),
            OldImage::None => {}
        };
        match &mut change {
            Change::Insert { after, .. } => hide(after),
            Change::Update { before, after, .. } => {
                hide_old(before);
                hide(after);
            }
            Change::Delete { before, .. } => hide_old(before),
            Change::Truncate { .. } | Change::Message { .. } | Change::SchemaChange(_) => {}
        }
        change
    }
}

/// Where an UPDATE moved its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crossing {
    /// It passes before and after.
    Within,
    /// It may have, and is delivered as it is, whatever changed in it: a row
    /// that came in is to be told.
    Unsure,
    Into,
    OutOf,
    /// It passes neither before nor after, or nothing that counts changed.
    Outside,
}

impl Shared {
    /// Says once a table that old rows do not tell enough.
    fn warn(&self, relation: &Relation, place: usize) {
        let name = relation.display_name();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.contains(&name) {
            return;
        }
        let column = (relation.definition.columns.get(place))
            .map(|column| column.name.as_str())
            .unwrap_or_default();
        tracing::warn!(
            "an old row of {name} was logged without column {column:?}, which its filter reads: where a row stood before is not known, so nothing is left out (a row that passes goes as UPDATE, one that does not as DELETE); ALTER TABLE {} REPLICA IDENTITY FULL makes it exact",
            sql_name(relation),
        );
        warned.push(name);
    }
}

fn sql_name(relation: &Relation) -> String {
    let quote = crate::source::connection::quote_identifier;
    format!(
        "{}.{}",
        quote(&relation.definition.schema),
        quote(&relation.definition.name)
    )
}

#[cold]
fn incomplete(event: &Event<'_>, relation: &Relation, place: usize) -> Failure {
    let column = (relation.definition.columns.get(place))
        .map(|column| column.name.as_str())
        .unwrap_or_default();
    Failure::definite(format!(
        "whether a row of {} passes cannot be told: column {column:?} was left out of it",
        relation.display_name()
    ))
    .detail(format!(
        "the value is stored out of line and an UPDATE did not touch it, so the server did not log it; transaction {}, change at {}",
        event.transaction.xid, event.lsn
    ))
    .hint(format!(
        "ALTER TABLE {} REPLICA IDENTITY FULL logs it from then on; --missing-identity accept delivers such UPDATEs as they are",
        sql_name(relation)
    ))
}

fn with<'a>(event: &Event<'a>, change: Change<'a>) -> Event<'a> {
    Event {
        transaction: event.transaction,
        lsn: event.lsn,
        index: event.index,
        change,
    }
}
