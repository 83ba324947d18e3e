//! A change as an event told it, and its one line of text.

use std::fmt;
use std::sync::Arc;

use walferry_streamer::event;

use super::{Action, Cell, Change, Old, Row};

pub(super) fn own(event: &event::Event<'_>) -> Change {
    let row = |image: &event::Image<'_>| -> Row {
        image
            .iter()
            .map(|value| match value {
                event::Value::Null => Cell::Null,
                event::Value::UnchangedToast => Cell::UnchangedToast,
                event::Value::Absent => Cell::Absent,
                value => {
                    let mut text = Vec::new();
                    value
                        .write_text(&mut text)
                        .unwrap_or_else(|error| panic!("{error}"));
                    Cell::Text(String::from_utf8(text).expect("values are UTF-8"))
                }
            })
            .collect()
    };
    let old = |image: &event::OldImage<'_>| match image {
        event::OldImage::None => Old::None,
        event::OldImage::Key(image) => Old::Key(row(image)),
        event::OldImage::Full(image) => Old::Full(row(image)),
    };
    let (relation, action) = match &event.change {
        event::Change::Insert { relation, after } => {
            (Some(*relation), Action::Insert { new: row(after) })
        }
        event::Change::Update {
            relation,
            before,
            after,
        } => (
            Some(*relation),
            Action::Update {
                old: old(before),
                new: row(after),
            },
        ),
        event::Change::Delete { relation, before } => {
            (Some(*relation), Action::Delete { old: old(before) })
        }
        event::Change::Truncate {
            relation,
            cascade,
            restart_identity,
        } => (
            Some(*relation),
            Action::Truncate {
                cascade: *cascade,
                restart: *restart_identity,
            },
        ),
        event::Change::Message {
            prefix, content, ..
        } => (
            None,
            Action::Message {
                prefix: (*prefix).to_owned(),
                content: content.to_vec(),
            },
        ),
        event::Change::SchemaChange(_) => unreachable!("decoders give rows of walferry.ddl_log"),
    };
    Change {
        xid: None,
        lsn: event.lsn,
        index: event.index,
        relation: relation.map(Arc::clone),
        action,
    }
}
impl Change {
    pub fn table(&self) -> &str {
        self.relation
            .as_ref()
            .map_or("", |relation| &relation.definition.name)
    }

    /// The new row; of a DELETE the old one.
    pub fn row(&self) -> &Row {
        match &self.action {
            Action::Insert { new } | Action::Update { new, .. } => new,
            Action::Delete {
                old: Old::Key(row) | Old::Full(row),
            } => row,
            other => panic!("there is no row in {other:?}"),
        }
    }

    /// The old row.
    pub fn old_row(&self) -> Option<&Row> {
        match &self.action {
            Action::Update { old, .. } | Action::Delete { old } => match old {
                Old::None => None,
                Old::Key(row) | Old::Full(row) => Some(row),
            },
            _ => None,
        }
    }

    /// A column of [`Change::row`].
    pub fn cell(&self, column: &str) -> &Cell {
        &self.row()[self.place(column)]
    }

    /// The text of a column of [`Change::row`].
    pub fn text(&self, column: &str) -> &str {
        match self.cell(column) {
            Cell::Text(text) => text,
            other => panic!("{column} is {other:?}"),
        }
    }

    /// The place of a column.
    pub fn place(&self, column: &str) -> usize {
        let relation = self.relation.as_ref().expect("a change of a relation");
        relation
            .definition
            .columns
            .iter()
            .position(|candidate| candidate.name == column)
            .unwrap_or_else(|| panic!("{} has no column {column}", relation.display_name()))
    }

    fn write_row(&self, row: &Row, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relation = self.relation.as_ref().ok_or(fmt::Error)?;
        let columns = relation.definition.columns.iter().zip(row);
        let mut separator = "";
        for (column, cell) in columns {
            let text = match cell {
                Cell::Absent => continue,
                Cell::Null => "NULL",
                Cell::UnchangedToast => "UNCHANGED",
                Cell::Text(text) => text,
            };
            write!(f, "{separator}{}={text}", column.name)?;
            separator = " ";
        }
        Ok(())
    }

    fn write_old(&self, old: &Old, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match old {
            Old::None => f.write_str("none"),
            Old::Key(row) => {
                f.write_str("key(")?;
                self.write_row(row, f)?;
                f.write_str(")")
            }
            Old::Full(row) => {
                f.write_str("full(")?;
                self.write_row(row, f)?;
                f.write_str(")")
            }
        }
    }
}

/// `INSERT public.t id=1 note=x`, `UPDATE public.t key(id=1) id=2 note=x`,
/// `DELETE public.t key(id=2)`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self
            .relation
            .as_ref()
            .map(|relation| relation.display_name())
            .unwrap_or_default();
        match &self.action {
            Action::Insert { new } => {
                write!(f, "INSERT {name} ")?;
                self.write_row(new, f)
            }
            Action::Update { old, new } => {
                write!(f, "UPDATE {name} ")?;
                self.write_old(old, f)?;
                f.write_str(" ")?;
                self.write_row(new, f)
            }
            Action::Delete { old } => {
                write!(f, "DELETE {name} ")?;
                self.write_old(old, f)
            }
            Action::Truncate { cascade, restart } => {
                write!(f, "TRUNCATE {name}")?;
                if *cascade {
                    f.write_str(" cascade")?;
                }
                if *restart {
                    f.write_str(" restart")?;
                }
                Ok(())
            }
            Action::Message { prefix, content } => {
                write!(f, "MESSAGE {prefix}: {}", String::from_utf8_lossy(content))
            }
        }
    }
}
