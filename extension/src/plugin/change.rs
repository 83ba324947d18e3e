//! INSERT, UPDATE and DELETE.

use pgrx::pg_sys;
use pgrx::pg_sys::ReorderBufferChangeType::{
    REORDER_BUFFER_CHANGE_DELETE, REORDER_BUFFER_CHANGE_INSERT, REORDER_BUFFER_CHANGE_UPDATE,
};
use walferry_protocol::{Lsn, OldRow, Put, RecordTag, open_change};

use super::condition::{Condition, Fate, Tuples};
use super::decoder::Decoder;
use super::failure::{Failure, Outcome};
use super::options::Format;
use super::relation_cache::Entry;
use super::server;
use super::settings::{self, Lasting};
use super::tuple::{self, Image, TextValue, Tuple};

/// A change as the reorder buffer has it.
pub struct RowChange<'a> {
    pub tag: RecordTag,
    pub lsn: u64,
    pub old: Option<Tuple<'a>>,
    pub new: Option<Tuple<'a>>,
    /// Both as the server has them.
    tuples: Tuples,
}

/// # Safety
/// `change` is the change callback's, of a kind that has tuples.
#[inline(always)]
unsafe fn read<'a>(change: *const pg_sys::ReorderBufferChange) -> Outcome<RowChange<'a>> {
    // SAFETY: as the caller promises: the union holds tuples in these kinds.
    unsafe {
        let tag = match (*change).action {
            REORDER_BUFFER_CHANGE_INSERT => RecordTag::Insert,
            REORDER_BUFFER_CHANGE_UPDATE => RecordTag::Update,
            REORDER_BUFFER_CHANGE_DELETE => RecordTag::Delete,
            other => {
                return Err(Failure::corrupted(format!(
                    "unexpected kind of change {other}"
                )));
            }
        };
        let data = &(*change).data.tp;
        let tuples = Tuples {
            old: server::heap_tuple(data.oldtuple),
            new: server::heap_tuple(data.newtuple),
        };
        Ok(RowChange {
            tag,
            lsn: (*change).lsn,
            old: Tuple::new(tuples.old)?,
            new: Tuple::new(tuples.new)?,
            tuples,
        })
    }
}

impl RowChange<'_> {
    /// Makes of the change what the relation's conditions want. False: it is
    /// left out.
    ///
    /// # Safety
    /// The change was just read, and is of the condition's relation.
    #[inline(never)]
    unsafe fn pass(&mut self, condition: &mut Condition) -> Outcome<bool> {
        // SAFETY: as the caller promises.
        match unsafe { condition.judge(self.tag, self.tuples)? } {
            Fate::Same => {}
            Fate::LeftOut => return Ok(false),
            Fate::Insert(new) => {
                self.tag = RecordTag::Insert;
                self.old = None;
                // SAFETY: a tuple of the change, or one formed for it.
                self.new = unsafe { Tuple::new(new)? };
            }
            Fate::Delete(key) => {
                self.tag = RecordTag::Delete;
                self.new = None;
                // SAFETY: null, or a tuple formed for the change.
                self.old = self.old.or(unsafe { Tuple::new(key)? });
            }
        }
        Ok(true)
    }
}

impl Decoder {
    /// # Safety
    /// As for [`Decoder::change`].
    #[inline]
    pub unsafe fn counted_change(
        &mut self,
        relation: pg_sys::Relation,
        change: *const pg_sys::ReorderBufferChange,
        streamed: Option<u32>,
    ) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe {
            if self.frames.statistics.count() {
                self.timed(|decoder| decoder.change(relation, change, streamed))
            } else {
                self.change(relation, change, streamed)
            }
        }
    }

    /// # Safety
    /// Within the change callback or, with the xid of the change's
    /// (sub)transaction, the stream_change callback.
    #[inline]
    pub unsafe fn change(
        &mut self,
        relation: pg_sys::Relation,
        change: *const pg_sys::ReorderBufferChange,
        streamed: Option<u32>,
    ) -> Outcome {
        if self.options.format == Format::None {
            return Ok(());
        }
        // SAFETY: as the caller promises.
        let lsn = unsafe { (*change).lsn };
        let index = self.index.next(lsn, 1);
        self.count_change();
        let pinned = &mut self.pinned;
        // SAFETY: as the caller promises.
        let entry = unsafe { self.relations.find(relation, || pin(pinned))? };
        if !entry.passes {
            self.frames.statistics.filtered += 1;
            return Ok(());
        }
        // SAFETY: as the caller promises.
        let mut change = unsafe { read(change)? };
        let needed = match change.tag {
            RecordTag::Delete => change.old,
            _ => change.new,
        };
        if needed.is_none() && change.tag != RecordTag::Delete {
            return Err(Failure::corrupted(format!(
                "the WAL has no new row for a change of {}.{}",
                entry.definition.schema, entry.definition.name
            )));
        }
        if let Some(condition) = &mut entry.condition {
            // SAFETY: as the caller promises.
            if !unsafe { change.pass(condition)? } {
                self.frames.statistics.filtered += 1;
                return Ok(());
            }
        }
        if self.options.format == Format::Json {
            return self.json_change(&change);
        }
        if entry.layout.outputs.is_empty() {
            return self.write_change(&change, index, streamed, Texts::default());
        }
        pin(&mut self.pinned);
        let scratch = self.scratch;
        server::in_scratch(scratch, || {
            let texts = self.texts(&change)?;
            self.write_change(&change, index, streamed, texts)
        })
    }

    /// The Text values of both rows of a change of the last found relation.
    pub fn texts<'a>(&mut self, change: &RowChange<'a>) -> Outcome<Texts<'a>> {
        let converter = self.converter;
        let Some(entry) = self.relations.last() else {
            return Ok(Texts::default());
        };
        let Entry {
            layout, definition, ..
        } = entry;
        let mut of = |tuple: Option<Tuple<'a>>| match tuple {
            Some(tuple) => tuple::texts(layout, tuple, converter, |column| {
                let table = format!("table \"{}\".\"{}\"", definition.schema, definition.name);
                match definition.columns.get(column) {
                    Some(column) => format!(
                        "column \"{}\" of type \"{}\".\"{}\" of {table}",
                        column.name, column.type_schema, column.type_name
                    ),
                    None => table,
                }
            }),
            None => Ok(Vec::new()),
        };
        Ok(Texts {
            old: of(change.old)?,
            new: of(change.new)?,
        })
    }

    #[inline]
    fn write_change(
        &mut self,
        change: &RowChange<'_>,
        index: u32,
        streamed: Option<u32>,
        texts: Texts<'_>,
    ) -> Outcome {
        let definitions = self
            .stream
            .as_mut()
            .map(|(_, stream)| &mut stream.definitions);
        let number = self
            .relations
            .number(definitions, &mut self.frames.definitions);
        let Some(entry) = self.relations.last() else {
            return Ok(());
        };
        let frames = &mut self.frames;
        let mut head = Head::default();
        open_change(&mut head, change.tag, streamed, Lsn(change.lsn), index);
        head.put_u32(number);
        let room = frames.open();
        let mut room = room.bytes(frames, head.bytes());
        if change.tag != RecordTag::Insert {
            let (kind, image) = match change.old {
                None => (OldRow::NONE, Image::All),
                Some(_) if entry.full_identity => (OldRow::FULL, Image::All),
                Some(_) => (OldRow::KEY, Image::Key),
            };
            room = room.bytes(frames, &[kind]);
            if let Some(old) = change.old {
                let mut texts = texts.old.into_iter();
                room = tuple::write_row(&entry.layout, old, image, &mut texts, frames, room)?;
            }
        }
        if change.tag != RecordTag::Delete
            && let Some(new) = change.new
        {
            let mut texts = texts.new.into_iter();
            room = tuple::write_row(&entry.layout, new, Image::All, &mut texts, frames, room)?;
        }
        frames.close(room);
        Ok(())
    }
}

/// Pins the settings that shape text, once a replayed transaction.
pub fn pin(pinned: &mut bool) {
    if !*pinned {
        settings::pin(Lasting::Transaction);
        *pinned = true;
    }
}

/// The Text values of the rows of a change.
#[derive(Default)]
pub struct Texts<'a> {
    pub old: Vec<TextValue<'a>>,
    pub new: Vec<TextValue<'a>>,
}

/// The beginning of a record, which has a small known bound.
#[derive(Default)]
struct Head {
    bytes: [u8; 32],
    length: usize,
}

impl Head {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Put for Head {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }
}
