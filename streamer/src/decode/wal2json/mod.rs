//! wal2json's messages become events.
//!
//! The assembler reads each message's [`Head`] (or, in format-version 1, tells
//! a [`Chunk`]'s kind), numbers the changes and hands them on as [`record`]s; a
//! worker reads a record's [`Row`], finds the [`shapes::Shape`] of table it was
//! written under, and makes an event of it.

pub mod chunk;
pub mod message;
pub mod options;
pub mod record;
pub mod scan;
pub mod shapes;
pub mod time;
mod value;

use std::borrow::Cow;
use std::sync::{Arc, RwLock};

pub use chunk::Chunk;
pub use message::Head;
pub use options::{FormatVersion, Request};
pub use shapes::{Definitions, Shapes};

use message::{Cell, LogicalMessage, Row};
use record::{Action, Record};
use scan::Scalar;
use shapes::Shape;

use crate::datum::Malformed;
use crate::decode::RelationTable;
use crate::error::{Failure, Result};
use crate::event::{Change, Event, Image, OldImage, Transaction, Value};
use crate::pipeline::dispatch::Piece;
use crate::source::table_filter::{PrefixFilter, TableFilter};

/// In how far a server's text is to be turned into UTF-8. wal2json prints in
/// the server's encoding, and the walsender sends as it is what it prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEncoding {
    /// UTF8, or SQL_ASCII, which holds what clients have put there: text that
    /// is not UTF-8 is refused value by value.
    Utf8,
    Latin1,
}

impl ServerEncoding {
    /// # Errors
    /// Definite, for an encoding that only the server can convert.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "UTF8" | "SQL_ASCII" => Ok(ServerEncoding::Utf8),
            "LATIN1" => Ok(ServerEncoding::Latin1),
            other => Err(Failure::definite(format!(
                "wal2json prints in the server's encoding {other}, which is not read"
            ))
            .hint("use --plugin pgoutput --publication NAME with another slot: there the server converts to UTF-8")),
        }
    }

    /// A message in UTF-8.
    pub fn to_utf8(self, message: &[u8]) -> Cow<'_, [u8]> {
        if self == ServerEncoding::Utf8 || message.is_ascii() {
            return Cow::Borrowed(message);
        }
        let text: String = message.iter().map(|byte| char::from(*byte)).collect();
        Cow::Owned(text.into_bytes())
    }

    /// The bytes that were [`ServerEncoding::to_utf8`]'s.
    fn original(self, content: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
        if self == ServerEncoding::Utf8 || content.is_ascii() {
            return content;
        }
        let text = String::from_utf8_lossy(&content);
        text.chars().map(|byte| byte as u8).collect()
    }
}

/// What is delivered of what comes. Changes are numbered before.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    pub tables: TableFilter,
    /// Of logical messages.
    pub prefixes: PrefixFilter,
}

/// What reading a connection's messages takes.
#[derive(Debug)]
pub struct Wal2json {
    pub format: FormatVersion,
    pub encoding: ServerEncoding,
    filters: Filters,
    /// NaN and the infinities come as null (wal2json before 2.6).
    nan_is_null: bool,
    shapes: Shapes,
    /// Names that were looked up, by `roident`.
    origins: RwLock<Vec<(u32, String)>>,
    /// Empty: records name their tables by name.
    pub relations: RelationTable,
}

impl Wal2json {
    pub fn new(
        request: &Request,
        encoding: ServerEncoding,
        filters: Filters,
        definitions: Arc<dyn Definitions>,
    ) -> Self {
        Wal2json {
            format: request.format,
            encoding,
            filters,
            nan_is_null: request.nan_is_null(),
            shapes: Shapes::new(definitions),
            origins: RwLock::default(),
            relations: RelationTable::new(),
        }
    }

    /// A replication origin's name; its number where it is gone.
    ///
    /// # Errors
    /// Those of the catalog's connection.
    pub fn origin_name(&self, origin: u32) -> Result<String> {
        let known = self.origins.read().unwrap_or_else(|e| e.into_inner());
        if let Some((_, name)) = known.iter().find(|(number, _)| *number == origin) {
            return Ok(name.clone());
        }
        drop(known);
        let name = self.shapes.definitions().origin_name(origin)?;
        let name = name.unwrap_or_else(|| origin.to_string());
        let mut known = self.origins.write().unwrap_or_else(|e| e.into_inner());
        known.push((origin, name.clone()));
        Ok(name)
    }

    /// What a message that does not read is to be reported as.
    #[cold]
    pub fn malformed(&self, error: Malformed, message: &[u8]) -> Failure {
        const SHOWN: usize = 48;
        let beginning = &message[..message.len().min(SHOWN)];
        Failure::definite(format!(
            "wal2json sent what is not its format-version {}",
            self.format
        ))
        .detail(format!(
            "a message of {} bytes that begins with {:?}: {error}",
            message.len(),
            String::from_utf8_lossy(beginning)
        ))
        .hint("nothing of this transaction was acknowledged; start again, and if it comes back report it with the version of wal2json")
    }

    /// See [`crate::transaction::Dialect::decode`].
    pub fn decode(
        &self,
        piece: &Piece,
        each: &mut dyn FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        self.decode_records(
            &piece.records,
            &piece.transaction,
            piece.transactional,
            each,
        )
    }

    /// Decodes records and hands each event to `each`, in order. Rows of
    /// tables that the filter keeps out are left out.
    ///
    /// # Errors
    /// Definite where a message does not read; those of the catalog's
    /// connection; those of `each`.
    pub fn decode_records(
        &self,
        bytes: &[u8],
        transaction: &Transaction,
        transactional: bool,
        each: &mut dyn FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut row = Row::default();
        let mut seen: Vec<Arc<Shape>> = Vec::new();
        for record in record::records(bytes) {
            let (lsn, index) = (record.lsn, record.index);
            let event = |change| Event {
                transaction,
                lsn,
                index,
                change,
            };
            let malformed = |error| self.malformed(error, record.message);
            if record.action == Action::Message {
                let message = self.message(&record, transactional).map_err(malformed)?;
                if !self.filters.prefixes.passes(&message.prefix) {
                    continue;
                }
                each(&event(Change::Message {
                    prefix: &message.prefix,
                    content: &message.content,
                    transactional,
                }))?;
                continue;
            }
            match self.format {
                FormatVersion::Two => row.read(record.message, record.rest),
                FormatVersion::One => chunk::read_row(&mut row, record.message, record.rest),
            }
            .map_err(malformed)?;
            let Some(place) = self.shape(&mut seen, &record, &row)? else {
                continue;
            };
            let shape = &seen[place];
            let relation = &shape.relation;
            let change = match record.action {
                Action::Insert => Change::Insert {
                    relation,
                    after: self.new_image(shape, &row.columns)?,
                },
                Action::Update => Change::Update {
                    relation,
                    before: self.old_image(shape, &row, true)?,
                    after: self.new_image(shape, &row.columns)?,
                },
                Action::Delete => Change::Delete {
                    relation,
                    before: self.old_image(shape, &row, false)?,
                },
                // wal2json does not tell its options.
                Action::Truncate => Change::Truncate {
                    relation,
                    cascade: false,
                    restart_identity: false,
                },
                Action::Message => continue,
            };
            each(&event(change))?;
        }
        Ok(())
    }

    fn message<'a>(
        &self,
        record: &Record<'a>,
        transactional: bool,
    ) -> Result<LogicalMessage<'a>, Malformed> {
        let mut message = match self.format {
            FormatVersion::Two => LogicalMessage::read(record.message, record.rest),
            FormatVersion::One => chunk::message(record.message, record.rest, transactional),
        }?;
        message.content = self.encoding.original(message.content);
        Ok(message)
    }

    /// The place in `seen` of the row's shape; `None` when its table is
    /// filtered out.
    #[inline]
    fn shape(
        &self,
        seen: &mut Vec<Arc<Shape>>,
        record: &Record<'_>,
        row: &Row<'_>,
    ) -> Result<Option<usize>> {
        let known = seen
            .iter()
            .position(|shape| shape.is_of(row) && shape.fits(record.action, row));
        if known.is_some() {
            return Ok(known);
        }
        let malformed = |error| self.malformed(error, record.message);
        let schema = row.schema.text().map_err(malformed)?;
        let table = row.table.text().map_err(malformed)?;
        if !self.filters.tables.passes_in_stream(&schema, &table) {
            return Ok(None);
        }
        let shape = self
            .shapes
            .of_row(&schema, &table, record.action, row)?
            .map_err(malformed)?;
        seen.push(shape);
        Ok(Some(seen.len() - 1))
    }

    fn new_image<'a>(&self, shape: &Shape, cells: &[Cell<'a>]) -> Result<Image<'a>> {
        let columns = shape.relation.definition.columns.len();
        let mut image = Image::with_capacity(columns);
        if cells.len() == columns {
            for (place, cell) in cells.iter().enumerate() {
                image.push(self.value(shape, place, cell)?);
            }
            return Ok(image);
        }
        let mut cells = cells.iter().peekable();
        for (place, column) in shape.relation.definition.columns.iter().enumerate() {
            image.push(match cells.next_if(|cell| cell.name.is(&column.name)) {
                Some(cell) => self.value(shape, place, cell)?,
                None => Value::UnchangedToast,
            });
        }
        Ok(image)
    }

    /// The old row, as far as the server logged it. Where an UPDATE left the
    /// key alone it logged none, and wal2json shows the new key.
    fn old_image<'a>(&self, shape: &Shape, row: &Row<'a>, update: bool) -> Result<OldImage<'a>> {
        let Some(cells) = &row.identity else {
            return Ok(OldImage::None);
        };
        let full = shape.is_full();
        if update && !full {
            let is_new = |old: &Cell<'_>| {
                let new = row.columns.iter().find(|new| new.name == old.name);
                new.is_some_and(|new| new.value == old.value)
            };
            if cells.iter().all(is_new) {
                return Ok(OldImage::None);
            }
        }
        // Format-version 1 leaves nulls out.
        let missing = if full && !row.identity_is_whole {
            Value::Null
        } else {
            Value::Absent
        };
        let columns = &shape.relation.definition.columns;
        let mut image = vec![missing; columns.len()];
        for cell in cells {
            if let Some(place) = columns.iter().position(|column| cell.name.is(&column.name)) {
                image[place] = self.value(shape, place, cell)?;
            }
        }
        Ok(if full {
            OldImage::Full(image)
        } else {
            OldImage::Key(image)
        })
    }

    #[inline]
    fn value<'a>(&self, shape: &Shape, place: usize, cell: &Cell<'a>) -> Result<Value<'a>> {
        let relation = &shape.relation;
        let kind = relation.columns[place].kind;
        let definition = &relation.definition.columns[place];
        if cell.not_null && cell.value == Scalar::Null && self.nan_is_null {
            return Err(not_a_number(shape, place));
        }
        value::read(cell.value, kind, definition.base_type_oid)
            .map_err(|error| relation.malformed_value(place, error))
    }
}

/// A null where there can be none.
#[cold]
fn not_a_number(shape: &Shape, place: usize) -> Failure {
    let relation = &shape.relation;
    Failure::definite(format!(
        "a value of {} is NaN or infinite, and this wal2json sends null for it",
        relation.display_name()
    ))
    .detail(format!(
        "column {:?} is NOT NULL",
        relation.definition.columns[place].name
    ))
    .hint("nothing of this transaction was acknowledged; install wal2json 2.6 or later and start again, or read a slot of --plugin pgoutput")
}
