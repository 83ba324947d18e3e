//! Row conditions: which changes of a relation are left out, and as what those
//! of rows that move across are sent.
//!
//! An UPDATE is one only where the row passes before and after it. A row that
//! comes in is an INSERT, one that goes out a DELETE (the table in
//! `pgoutput_row_filter`, `src/backend/replication/pgoutput/pgoutput.c`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use walferry_protocol::{RecordTag, Relation};

use super::condition_expression::{self as expression, Expression, Misfit};
use super::condition_safety::cannot_fail;
use super::failure::{Failure, Outcome};
use super::filter::{ConditionsMode, TableFilter};
use super::printing::explained;
use super::{server, varlena};

/// Calls for each row, without a guard of their own: [`Condition::ask`] guards
/// all calls of a row at once.
mod unguarded {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        pub fn MemoryContextReset(context: pg_sys::MemoryContext);
        pub fn ExecStoreHeapTuple(
            tuple: pg_sys::HeapTuple,
            slot: *mut pg_sys::TupleTableSlot,
            should_free: bool,
        ) -> *mut pg_sys::TupleTableSlot;
        pub fn heap_deform_tuple(
            tuple: pg_sys::HeapTuple,
            descriptor: pg_sys::TupleDesc,
            values: *mut pg_sys::Datum,
            is_null: *mut bool,
        );
    }
}

/// `TTS_FLAG_EMPTY` (`src/include/executor/tuptable.h`).
const SLOT_IS_EMPTY: u16 = 1 << 1;

/// What old rows hold.
pub struct Identity<'a> {
    /// REPLICA IDENTITY FULL.
    pub full: bool,
    /// Those of the replica identity; None where there is none.
    pub columns: Option<&'a [i16]>,
}

/// A relation's conditions, ready to be asked of its rows.
pub struct Condition {
    /// Holds all that the pointers lead to, and goes with the relation's entry.
    pub context: pg_sys::MemoryContext,
    mode: ConditionsMode,
    /// One for each condition; all have to be true.
    programs: Vec<*mut pg_sys::ExprState>,
    row: *mut pg_sys::ExprContext,
    /// For a tuple as it is.
    tuple: *mut pg_sys::TupleTableSlot,
    /// For one with values taken from the old tuple.
    completed: *mut pg_sys::TupleTableSlot,
    /// The columns that are read, from 0.
    reads: Vec<usize>,
    /// Whether an old row, where there is one, has all of these.
    old_row_tells: bool,
    /// Whether an UPDATE without an old row leaves all of these as they were.
    key_tells: bool,
    /// The columns of the replica identity, from 0, where it is a key.
    keys: Option<Vec<usize>>,
    /// For messages.
    table: String,
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is sent as it is.
    Same,
    LeftOut,
    /// An UPDATE that brought its row in. The tuple is the new one, with what
    /// the UPDATE did not touch.
    Insert(*const pg_sys::HeapTupleData),
    /// An UPDATE that took its row out. The tuple is the key of the row where
    /// the UPDATE left that as it was and no old row was logged; else null.
    Delete(*const pg_sys::HeapTupleData),
}

/// A change's tuples; null where there is none.
#[derive(Clone, Copy, Debug)]
pub struct Tuples {
    pub old: *const pg_sys::HeapTupleData,
    pub new: *const pg_sys::HeapTupleData,
}

/// The conditions of a relation; None where it has none, or where a reader
/// that judges itself has to.
///
/// # Safety
/// `relation` is open, a historic snapshot is set up, and `parent` is a live
/// memory context that outlives the entry. The current one is for what the
/// parser leaves behind.
pub unsafe fn compile(
    relation: pg_sys::Relation,
    definition: &Relation,
    identity: &Identity<'_>,
    filter: &TableFilter,
    parent: pg_sys::MemoryContext,
) -> Outcome<Option<Condition>> {
    let root = definition.root.as_ref();
    let mut predicates = filter
        .conditions_of(
            (&definition.schema, &definition.name),
            root.map(|root| (root.schema.as_str(), root.name.as_str())),
        )
        .peekable();
    if predicates.peek().is_none() {
        return Ok(None);
    }
    let table = format!("\"{}\".\"{}\"", definition.schema, definition.name);
    let mode = filter.conditions_mode;
    let mut current = "";
    // SAFETY: as the caller promises.
    let read = unsafe {
        expression::attempt(|| {
            let schema = pg_sys::get_namespace_name((*(*relation).rd_rel).relnamespace);
            let mut read: Vec<Expression> = Vec::new();
            for predicate in predicates {
                current = predicate;
                let expression = expression::read(predicate, relation, schema)?;
                if mode == ConditionsMode::Thin && !cannot_fail(expression.planned.cast()) {
                    return Err(Misfit("it may raise an error on a row".to_owned()));
                }
                read.push(expression);
            }
            Ok(read)
        })
    };
    match (read, mode) {
        // SAFETY: as the caller promises.
        (Ok(read), _) => unsafe {
            Ok(Some(Condition::new(
                relation, &read, identity, mode, table, parent,
            )))
        },
        (Err(Misfit(reason)), ConditionsMode::Exact) => Err(Failure::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("the condition on table {table} cannot be used: {reason}"),
        )
        .detail(format!("The condition is: {current}"))
        .hint("Correct the option conditions, or leave it out. A condition says what a publication's row filter may say.")),
        (Err(Misfit(reason)), ConditionsMode::Thin) => {
            pgrx::debug1!("walferry sends every row of table {table}: its condition cannot be evaluated here: {reason}");
            Ok(None)
        }
    }
}

impl Condition {
    /// # Safety
    /// As for [`compile`].
    unsafe fn new(
        relation: pg_sys::Relation,
        read: &[Expression],
        identity: &Identity<'_>,
        mode: ConditionsMode,
        table: String,
        parent: pg_sys::MemoryContext,
    ) -> Self {
        let mut columns: Vec<i16> = read.iter().flat_map(|one| one.columns.clone()).collect();
        columns.sort_unstable();
        columns.dedup();
        let key_tells = !identity.full
            && identity
                .columns
                .is_some_and(|keys| columns.iter().all(|column| keys.contains(column)));
        // SAFETY: as the caller promises: what is made here is made in a
        // context of its own, the descriptor's copy too, for the relation may
        // be closed while the entry lives.
        unsafe {
            let context = server::memory_context(parent, c"walferry condition");
            let before = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = context;
            let descriptor = pg_sys::CreateTupleDescCopyConstr((*relation).rd_att);
            let programs = read
                .iter()
                .map(|one| {
                    let own = pg_sys::copyObjectImpl(one.planned.cast()).cast();
                    pg_sys::ExecInitExpr(own, std::ptr::null_mut())
                })
                .collect();
            let condition = Condition {
                context,
                mode,
                programs,
                row: pg_sys::CreateStandaloneExprContext(),
                tuple: pg_sys::MakeSingleTupleTableSlot(
                    descriptor,
                    &raw const pg_sys::TTSOpsHeapTuple,
                ),
                completed: pg_sys::MakeSingleTupleTableSlot(
                    descriptor,
                    &raw const pg_sys::TTSOpsVirtual,
                ),
                reads: places(&columns),
                old_row_tells: identity.full || key_tells,
                key_tells,
                keys: identity.columns.filter(|_| !identity.full).map(places),
                table,
            };
            pg_sys::CurrentMemoryContext = before;
            condition
        }
    }

    /// What becomes of a change of the relation. Where it can't be told
    /// whether a row passed before, nothing is left out.
    ///
    /// # Safety
    /// The tuples are the change callback's, of a change of this relation.
    pub unsafe fn judge(&mut self, tag: RecordTag, tuples: Tuples) -> Outcome<Fate> {
        // SAFETY: as the caller promises.
        unsafe {
            match tag {
                RecordTag::Insert => Ok(match self.passes(tuples.new, None)? {
                    Some(false) => Fate::LeftOut,
                    _ => Fate::Same,
                }),
                RecordTag::Delete => Ok(match self.passed(tuples.old)? {
                    Some(false) => Fate::LeftOut,
                    _ => Fate::Same,
                }),
                _ => self.judge_update(tuples),
            }
        }
    }

    /// # Safety
    /// As for [`Condition::judge`].
    unsafe fn judge_update(&mut self, tuples: Tuples) -> Outcome<Fate> {
        // SAFETY: as the caller promises.
        unsafe {
            let now = self.passes(tuples.new, Some(tuples.old))?;
            let exact = self.mode == ConditionsMode::Exact;
            if now.is_none() || now == Some(true) && !exact {
                return Ok(Fate::Same);
            }
            let then = if tuples.old.is_null() && self.key_tells {
                now
            } else {
                self.passed(tuples.old)?
            };
            Ok(match (then, now) {
                (Some(false), Some(false)) => Fate::LeftOut,
                (_, Some(false)) if exact => Fate::Delete(self.key(tuples)?),
                (Some(false), Some(true)) => Fate::Insert(self.complete(tuples)?),
                _ => Fate::Same,
            })
        }
    }

    /// Whether an old row passes; None where it does not tell.
    ///
    /// # Safety
    /// As for [`Condition::judge`].
    unsafe fn passed(&mut self, old: *const pg_sys::HeapTupleData) -> Outcome<Option<bool>> {
        if old.is_null() || !self.old_row_tells {
            return Ok(None);
        }
        // SAFETY: as the caller promises.
        unsafe { self.passes(old, None) }
    }

    /// Whether a row passes; None where a value that is read was not logged.
    /// `before`: the tuple in which such a value may be found.
    ///
    /// # Safety
    /// As for [`Condition::judge`].
    unsafe fn passes(
        &mut self,
        tuple: *const pg_sys::HeapTupleData,
        before: Option<*const pg_sys::HeapTupleData>,
    ) -> Outcome<Option<bool>> {
        if tuple.is_null() {
            return Ok(None);
        }
        // SAFETY: as the caller promises; a tuple has a header.
        unsafe {
            let header = &*(*tuple).t_data;
            if u32::from(header.t_infomask) & pg_sys::HEAP_HASEXTERNAL == 0 {
                return self.ask(tuple).map(Some);
            }
            let before = before.unwrap_or(std::ptr::null());
            if !self.fill(tuple, before, false)? {
                return Ok(None);
            }
            self.ask(std::ptr::null()).map(Some)
        }
    }

    /// Puts a tuple into the slot for completed ones, with the values that it
    /// lacks taken from `before`. False where one that is read (`whole`: any)
    /// is in neither.
    ///
    /// # Safety
    /// As for [`Condition::judge`].
    unsafe fn fill(
        &mut self,
        tuple: *const pg_sys::HeapTupleData,
        before: *const pg_sys::HeapTupleData,
        whole: bool,
    ) -> Outcome<bool> {
        // SAFETY: as the caller promises; the slot has room for each attribute
        // of the descriptor, and so have the vectors. Each call of the server
        // has a guard of its own, for vectors live around it.
        unsafe {
            let slot = &mut *self.completed;
            let descriptor = slot.tts_tupleDescriptor;
            let count = (*descriptor).natts as usize;
            let guarded = catch_unwind(AssertUnwindSafe(|| {
                pg_guard_ffi_boundary(|| {
                    unguarded::heap_deform_tuple(
                        tuple.cast_mut(),
                        descriptor,
                        slot.tts_values,
                        slot.tts_isnull,
                    );
                });
                let values = std::slice::from_raw_parts_mut(slot.tts_values, count);
                let nulls = std::slice::from_raw_parts(slot.tts_isnull, count);
                let missing: Vec<usize> = (0..count)
                    .filter(|index| {
                        (whole || self.reads.contains(index))
                            && is_left_out(descriptor, *index, values[*index], nulls[*index])
                    })
                    .collect();
                if missing.is_empty() {
                    return true;
                }
                // An old row that is only a key has nulls for all else; what a
                // key holds is never stored out of line in the WAL.
                if before.is_null() {
                    return false;
                }
                let mut old_values = vec![pg_sys::Datum::from(0usize); count];
                let mut old_nulls = vec![true; count];
                let into = (old_values.as_mut_ptr(), old_nulls.as_mut_ptr());
                pg_guard_ffi_boundary(|| {
                    unguarded::heap_deform_tuple(before.cast_mut(), descriptor, into.0, into.1);
                });
                for index in missing {
                    let (value, null) = (old_values[index], old_nulls[index]);
                    // A value that is there in the new row was no null before.
                    if null || is_left_out(descriptor, index, value, null) {
                        if whole {
                            continue;
                        }
                        return false;
                    }
                    values[index] = value;
                }
                true
            }));
            let filled = guarded.map_err(|caught| self.explain(caught))?;
            slot.tts_flags &= !SLOT_IS_EMPTY;
            slot.tts_nvalid = count as i16;
            Ok(filled)
        }
    }

    /// The new tuple of an UPDATE that becomes an INSERT.
    ///
    /// # Safety
    /// As for [`Condition::judge`].
    unsafe fn complete(&mut self, tuples: Tuples) -> Outcome<*const pg_sys::HeapTupleData> {
        // SAFETY: as the caller promises.
        unsafe {
            let header = &*(*tuples.new).t_data;
            if u32::from(header.t_infomask) & pg_sys::HEAP_HASEXTERNAL == 0 || tuples.old.is_null()
            {
                return Ok(tuples.new);
            }
            self.fill(tuples.new, tuples.old, true)?;
            Ok(self.form())
        }
    }

    /// The old row of an UPDATE that becomes a DELETE, where the server did not
    /// log it because the key is unchanged: what identifies the new one.
    ///
    /// # Safety
    /// As for [`Condition::judge`].
    unsafe fn key(&mut self, tuples: Tuples) -> Outcome<*const pg_sys::HeapTupleData> {
        let Some(keys) = self.keys.as_ref().filter(|_| tuples.old.is_null()) else {
            return Ok(std::ptr::null());
        };
        let keys = keys.clone();
        // SAFETY: as the caller promises; as for complete().
        unsafe {
            self.fill(tuples.new, std::ptr::null(), false)?;
            let slot = &*self.completed;
            let count = (*slot.tts_tupleDescriptor).natts as usize;
            let nulls = std::slice::from_raw_parts_mut(slot.tts_isnull, count);
            for (index, null) in nulls.iter_mut().enumerate() {
                *null |= !keys.contains(&index);
            }
            Ok(self.form())
        }
    }

    /// The completed tuple, in the row's own context.
    ///
    /// # Safety
    /// After [`Condition::fill`].
    unsafe fn form(&self) -> *const pg_sys::HeapTupleData {
        // SAFETY: as the caller promises; the next row empties the context.
        unsafe {
            let slot = &*self.completed;
            let before = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = (*self.row).ecxt_per_tuple_memory;
            let formed =
                pg_sys::heap_form_tuple(slot.tts_tupleDescriptor, slot.tts_values, slot.tts_isnull);
            pg_sys::CurrentMemoryContext = before;
            formed
        }
    }

    /// Whether all conditions are true of a tuple; of the completed one where
    /// it is null.
    ///
    /// # Safety
    /// As for [`Condition::judge`].
    unsafe fn ask(&mut self, tuple: *const pg_sys::HeapTupleData) -> Outcome<bool> {
        let (row, slot) = (self.row, self.tuple);
        let completed = self.completed;
        let programs = self.programs.as_slice();
        // SAFETY: the programs were made for rows of this descriptor. The inner
        // closure owns nothing that would have to be dropped when the server
        // jumps out of it; an error leaves the current memory context to the
        // server, which sets it when it cleans up.
        let outcome = catch_unwind(AssertUnwindSafe(|| unsafe {
            pg_guard_ffi_boundary(|| {
                let before = pg_sys::CurrentMemoryContext;
                let context = (*row).ecxt_per_tuple_memory;
                unguarded::MemoryContextReset(context);
                (*row).ecxt_scantuple = if tuple.is_null() {
                    completed
                } else {
                    unguarded::ExecStoreHeapTuple(tuple.cast_mut(), slot, false)
                };
                pg_sys::CurrentMemoryContext = context;
                let mut passes = true;
                for program in programs {
                    let Some(evaluate) = (**program).evalfunc else {
                        continue;
                    };
                    let mut is_null = false;
                    let value = evaluate(*program, row, &raw mut is_null);
                    if is_null || value.value() as u8 == 0 {
                        passes = false;
                        break;
                    }
                }
                pg_sys::CurrentMemoryContext = before;
                passes
            })
        }));
        outcome.map_err(|caught| self.explain(caught))
    }

    #[cold]
    fn explain(&self, caught: Box<dyn std::any::Any + Send>) -> Failure {
        explained(
            caught,
            &format!("It came of the condition on a row of table {}.", self.table),
            "Guard the condition (CASE WHEN d <> 0 THEN n / d > 1 END), or leave it out of the option conditions.",
        )
    }
}

fn places(columns: &[i16]) -> Vec<usize> {
    columns.iter().map(|column| *column as usize - 1).collect()
}

/// Whether a value is stored out of line and was not logged.
///
/// # Safety
/// The value is attribute `index` of a tuple of this descriptor.
unsafe fn is_left_out(
    descriptor: pg_sys::TupleDesc,
    index: usize,
    value: pg_sys::Datum,
    null: bool,
) -> bool {
    // SAFETY: as the caller promises: a datum of length -1 is a varlena, whose
    // header tells how far it reaches.
    unsafe {
        !null
            && server::attribute(descriptor, index).attlen == -1
            && varlena::is_on_disk_at(value.cast_mut_ptr::<u8>())
    }
}
