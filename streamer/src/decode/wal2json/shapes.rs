//! What tables looked like when rows of them were written.
//!
//! A row tells names, types and places of the columns that are in it. What it
//! does not tell comes from the catalog, once for each shape of rows: rows of
//! the same shape find the definition that was made for the first of them, and
//! rows that fit none (after an ALTER TABLE, or before one that the catalog
//! has behind it already) make the catalog be read again.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use walferry_protocol::{
    Column, ColumnFlags, Encoding, Relation as Definition, RelationKind, ReplicaIdentity,
};

use super::message::{Cell, Row};
use super::record::Action;
use super::scan::{Raw, Scan};
use crate::datum::Malformed;
use crate::error::Result;
use crate::event::Relation;
use crate::source::catalog::{Catalog, Find, Found, TypeDescription};

/// Shapes that are kept of one table; the oldest go.
const KEPT: usize = 64;

/// Where definitions come from.
pub trait Definitions: fmt::Debug + Send + Sync {
    /// A table as it is now.
    fn relation(&self, schema: &str, table: &str) -> Result<Option<Found>>;
    /// Types, as far as they are there still.
    fn types(&self, oids: &[u32]) -> Result<HashMap<u32, TypeDescription>>;
    /// A replication origin's name.
    fn origin_name(&self, origin: u32) -> Result<Option<String>>;
}

impl Definitions for Catalog {
    fn relation(&self, schema: &str, table: &str) -> Result<Option<Found>> {
        Catalog::relation(self, Find::Name { schema, table })
    }

    fn types(&self, oids: &[u32]) -> Result<HashMap<u32, TypeDescription>> {
        Catalog::types(self, oids)
    }

    fn origin_name(&self, origin: u32) -> Result<Option<String>> {
        Catalog::origin_name(self, origin)
    }
}

/// A table's definition that rows fit.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    pub relation: Arc<Relation>,
    /// Columns of which an UPDATE may leave the value out.
    out_of_line: Vec<bool>,
}

/// Schema and table.
type Name = (String, String);

/// All shapes, by schema and table. Shared by the workers.
#[derive(Debug)]
pub struct Shapes {
    definitions: Arc<dyn Definitions>,
    /// The newest first.
    known: RwLock<HashMap<Name, Vec<Arc<Shape>>>>,
    /// Held while the catalog is asked, so that each thing is asked once.
    asking: Mutex<()>,
}

impl Shapes {
    pub fn new(definitions: Arc<dyn Definitions>) -> Self {
        Shapes {
            definitions,
            known: RwLock::default(),
            asking: Mutex::new(()),
        }
    }

    pub fn definitions(&self) -> &dyn Definitions {
        &*self.definitions
    }

    /// The shape that a row of `schema`.`table` fits.
    ///
    /// # Errors
    /// Those of the catalog's connection.
    pub fn of_row(
        &self,
        schema: &str,
        table: &str,
        action: Action,
        row: &Row<'_>,
    ) -> Result<Result<Arc<Shape>, Malformed>> {
        let name = (schema.to_owned(), table.to_owned());
        if let Some(shape) = self.find(&name, action, row) {
            return Ok(Ok(shape));
        }
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = self.find(&name, action, row) {
            return Ok(Ok(shape));
        }
        let found = self.definitions.relation(schema, table)?;
        let shape = match found.map(Shape::of) {
            Some(shape) if shape.fits(action, row) => Ok(shape),
            found => {
                let types: Vec<u32> = row.cells().map(|cell| cell.type_oid).collect();
                let types = self.definitions.types(&types)?;
                Shape::of_row(&name, found, action, row, &types)
            }
        };
        let shape = match shape {
            Ok(shape) => Arc::new(shape),
            Err(malformed) => return Ok(Err(malformed)),
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let shapes = known.entry(name).or_default();
        shapes.insert(0, Arc::clone(&shape));
        shapes.truncate(KEPT);
        Ok(Ok(shape))
    }

    fn find(&self, name: &Name, action: Action, row: &Row<'_>) -> Option<Arc<Shape>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let shapes = known.get(name)?;
        shapes.iter().find(|shape| shape.fits(action, row)).cloned()
    }
}

impl<'a> Row<'a> {
    fn cells(&self) -> impl Iterator<Item = &Cell<'a>> {
        self.columns.iter().chain(self.identity.iter().flatten())
    }

    /// A value of the old row with the place that the new row tells.
    fn placed(&self, old: &Cell<'a>) -> Cell<'a> {
        let new = self.columns.iter().find(|cell| cell.name == old.name);
        Cell {
            position: new.map_or(old.position, |cell| cell.position),
            ..*old
        }
    }
}

impl Shape {
    fn of(found: Found) -> Self {
        Shape {
            relation: Arc::new(Relation::new(found.relation)),
            out_of_line: found.out_of_line,
        }
    }

    /// Whether old rows are whole.
    pub fn is_full(&self) -> bool {
        self.relation.definition.replica_identity == ReplicaIdentity::Full
    }

    pub fn is_of(&self, row: &Row<'_>) -> bool {
        let definition = &self.relation.definition;
        row.table.is(&definition.name) && row.schema.is(&definition.schema)
    }

    /// Whether the row can have been written under this definition.
    pub fn fits(&self, action: Action, row: &Row<'_>) -> bool {
        // A TRUNCATE tells nothing of columns.
        action == Action::Truncate
            || (self.fits_columns(action, row) && self.fits_key(row.primary_key.as_deref(), row))
    }

    fn fits_columns(&self, action: Action, row: &Row<'_>) -> bool {
        let columns = &self.relation.definition.columns;
        let mut cells = row.columns.iter().peekable();
        if action != Action::Delete {
            for (column, out_of_line) in columns.iter().zip(&self.out_of_line) {
                if cells.next_if(|cell| is_of_column(cell, column)).is_some() {
                    continue;
                }
                // Only what an UPDATE left alone out of line is missing.
                if action != Action::Update || !out_of_line {
                    return false;
                }
            }
        }
        cells.next().is_none()
            && row
                .identity
                .iter()
                .flatten()
                .all(|cell| columns.iter().any(|column| is_of_column(cell, column)))
    }

    /// Whether the key is this definition's, as far as the row tells.
    fn fits_key(&self, primary_key: Option<&[Raw<'_>]>, row: &Row<'_>) -> bool {
        let definition = &self.relation.definition;
        let identity = row.identity.as_deref();
        let is_key = |names: &[Raw<'_>]| self.is_key(names.iter().copied());
        let identity_is_key =
            || identity.is_none_or(|cells| self.is_key(cells.iter().map(|cell| cell.name)));
        match definition.replica_identity {
            ReplicaIdentity::Default => primary_key.is_none_or(is_key) && identity_is_key(),
            ReplicaIdentity::Index => identity_is_key(),
            ReplicaIdentity::Nothing => identity.is_none(),
            ReplicaIdentity::Full => {
                primary_key.is_none_or(is_key)
                    && (!row.identity_is_whole
                        || identity.is_none_or(|cells| cells.len() == definition.columns.len()))
            }
        }
    }

    /// Whether these are the key's columns, all of them.
    fn is_key<'r>(&self, names: impl Iterator<Item = Raw<'r>>) -> bool {
        let columns = &self.relation.definition.columns;
        let mut count = 0;
        for name in names {
            let mut keys = columns.iter().filter(|column| column.flags.is_key());
            if !keys.any(|column| name.is(&column.name)) {
                return false;
            }
            count += 1;
        }
        count
            == columns
                .iter()
                .filter(|column| column.flags.is_key())
                .count()
    }

    /// What the table must have been, by the row and by what it is now.
    fn of_row(
        (schema, table): &Name,
        now: Option<Shape>,
        action: Action,
        row: &Row<'_>,
        types: &HashMap<u32, TypeDescription>,
    ) -> Scan<Self> {
        let mut definition = match &now {
            Some(shape) => shape.relation.definition.clone(),
            None => Definition {
                number: 0,
                oid: 0,
                schema: schema.clone(),
                name: table.clone(),
                kind: RelationKind::Table,
                replica_identity: ReplicaIdentity::Default,
                identity_usable: false,
                root: None,
                fingerprint: 0,
                columns: Vec::new(),
            },
        };
        let now: Vec<(Column, bool)> = std::mem::take(&mut definition.columns)
            .into_iter()
            .zip(
                now.iter()
                    .flat_map(|shape| shape.out_of_line.iter().copied()),
            )
            .collect();
        // Under REPLICA IDENTITY FULL the old row has every column.
        let whole = row.identity.as_deref().filter(|cells| {
            row.identity_is_whole
                && definition.replica_identity == ReplicaIdentity::Full
                && !same_names(cells, row.primary_key.as_deref())
        });
        let cells: Vec<Cell<'_>> = match (whole, action) {
            (Some(cells), _) => cells.iter().map(|cell| row.placed(cell)).collect(),
            (None, Action::Delete) => row.identity.clone().unwrap_or_default(),
            _ => row.columns.clone(),
        };
        let mut columns = Vec::with_capacity(cells.len());
        for (place, cell) in cells.iter().enumerate() {
            let same = now.iter().find(|(column, _)| is_of_column(cell, column));
            columns.push(match same {
                Some(same) => same.clone(),
                None => column_of(cell, place, types)?,
            });
        }
        // What an UPDATE may have left out, and what a DELETE does not tell.
        if action != Action::Insert && whole.is_none() {
            for (column, out_of_line) in now {
                let told = |(other, _): &(Column, bool)| {
                    other.attnum == column.attnum || other.name == column.name
                };
                if (out_of_line || action == Action::Delete) && !columns.iter().any(told) {
                    columns.push((column, out_of_line));
                }
            }
            columns.sort_by_key(|(column, _)| column.attnum);
        }
        let out_of_line = columns
            .iter()
            .map(|(_, out_of_line)| *out_of_line)
            .collect();
        definition.columns = columns.into_iter().map(|(column, _)| column).collect();
        let mut shape = Shape {
            relation: Arc::new(Relation::new(definition)),
            out_of_line,
        };
        shape.take_key(row)?;
        if shape.fits(action, row) {
            Ok(shape)
        } else {
            Err(Malformed("its columns contradict each other"))
        }
    }

    /// Sets the key and the replica identity to what the row tells.
    fn take_key(&mut self, row: &Row<'_>) -> Scan<()> {
        let mut definition = self.relation.definition.clone();
        let primary_key = row.primary_key.as_deref();
        let identity: Option<Vec<Raw<'_>>> = row
            .identity
            .as_ref()
            .map(|cells| cells.iter().map(|cell| cell.name).collect());
        if !self.fits_key(primary_key, row) {
            let is_primary = identity.is_some() && identity.as_deref() == primary_key;
            let is_whole = identity
                .as_ref()
                .is_some_and(|names| names.len() == definition.columns.len());
            definition.replica_identity = match (&identity, definition.replica_identity) {
                (None, now @ (ReplicaIdentity::Default | ReplicaIdentity::Full)) => now,
                (None, _) => ReplicaIdentity::Default,
                (Some(_), _) if is_primary => ReplicaIdentity::Default,
                (Some(_), _) if is_whole => ReplicaIdentity::Full,
                (Some(_), _) => ReplicaIdentity::Index,
            };
            let keys = match definition.replica_identity {
                ReplicaIdentity::Index => identity.as_deref(),
                _ => primary_key,
            };
            let keys = keys.unwrap_or_default();
            for column in &mut definition.columns {
                if keys.iter().any(|key| key.is(&column.name)) {
                    column.flags.0 |= ColumnFlags::KEY;
                } else {
                    column.flags.0 &= !ColumnFlags::KEY;
                }
            }
        }
        definition.identity_usable = definition.replica_identity == ReplicaIdentity::Full
            || definition
                .columns
                .iter()
                .any(|column| column.flags.is_key());
        definition.seal();
        self.relation = Arc::new(Relation::new(definition));
        Ok(())
    }
}

fn same_names(cells: &[Cell<'_>], names: Option<&[Raw<'_>]>) -> bool {
    names.is_some_and(|names| {
        cells.len() == names.len()
            && cells
                .iter()
                .zip(names)
                .all(|(cell, name)| cell.name == *name)
    })
}

/// Whether a value is one of this column, as far as it tells.
#[inline]
fn is_of_column(cell: &Cell<'_>, column: &Column) -> bool {
    cell.type_oid == column.type_oid
        && (cell.position == 0 || cell.position == column.attnum)
        && cell.name.is(&column.name)
}

/// A column that the table does not have any more, or not so.
fn column_of(
    cell: &Cell<'_>,
    place: usize,
    types: &HashMap<u32, TypeDescription>,
) -> Scan<(Column, bool)> {
    let described = types.get(&cell.type_oid);
    let mut flags = 0;
    if described.is_some_and(|described| described.is_array) {
        flags |= ColumnFlags::ARRAY;
    }
    if cell.not_null {
        flags |= ColumnFlags::NOT_NULL;
    }
    let attnum = match cell.position {
        0 => i16::try_from(place + 1).map_err(|_| Malformed("it has too many columns"))?,
        position => position,
    };
    let column = Column {
        name: cell.name.text()?.into_owned(),
        attnum,
        type_oid: cell.type_oid,
        type_schema: described.map_or_else(String::new, |known| known.schema.clone()),
        type_name: described.map_or_else(String::new, |known| known.name.clone()),
        typmod: -1,
        base_type_oid: described.map_or(cell.type_oid, |known| known.base_oid),
        encoding: Encoding::Text,
        flags: ColumnFlags(flags),
    };
    Ok((column, described.is_none_or(|known| known.out_of_line)))
}
