//! Row images as the stage makes new events of them: copied, filled up, cut
//! down to their key.

use crate::event::{Change, Image, OldImage, Relation, Value};

pub(super) fn copied<'a>(change: &Change<'a>) -> Change<'a> {
    match change {
        Change::Insert { relation, after } => Change::Insert {
            relation,
            after: after.clone(),
        },
        Change::Update {
            relation,
            before,
            after,
        } => Change::Update {
            relation,
            before: copied_old(before),
            after: after.clone(),
        },
        Change::Delete { relation, before } => Change::Delete {
            relation,
            before: copied_old(before),
        },
        Change::Truncate {
            relation,
            cascade,
            restart_identity,
        } => Change::Truncate {
            relation,
            cascade: *cascade,
            restart_identity: *restart_identity,
        },
        Change::Message {
            prefix,
            content,
            transactional,
        } => Change::Message {
            prefix,
            content,
            transactional: *transactional,
        },
        Change::SchemaChange(change) => Change::SchemaChange(change.clone()),
    }
}

pub(super) fn copied_old<'a>(old: &OldImage<'a>) -> OldImage<'a> {
    match old {
        OldImage::None => OldImage::None,
        OldImage::Key(image) => OldImage::Key(image.clone()),
        OldImage::Full(image) => OldImage::Full(image.clone()),
    }
}

/// The new row, with what the UPDATE did not touch from the old one.
pub(super) fn filled<'a>(after: &Image<'a>, before: &OldImage<'a>) -> Image<'a> {
    let old = match before {
        OldImage::Key(image) | OldImage::Full(image) => Some(image),
        OldImage::None => None,
    };
    (after.iter().enumerate())
        .map(|(place, value)| match value {
            Value::UnchangedToast => old
                .and_then(|image| image.get(place))
                .filter(|value| !matches!(value, Value::Absent))
                .unwrap_or(value)
                .clone(),
            value => value.clone(),
        })
        .collect()
}

/// What identifies the row; every other column is absent.
pub(super) fn only_key<'a>(relation: &Relation, row: &Image<'a>) -> Image<'a> {
    row.iter()
        .zip(&relation.columns)
        .map(|(value, column)| {
            if column.is_key {
                value.clone()
            } else {
                Value::Absent
            }
        })
        .collect()
}

/// The old row of a DELETE that was an UPDATE.
pub(super) fn key_of<'a>(
    relation: &Relation,
    before: &OldImage<'a>,
    after: &Image<'a>,
) -> OldImage<'a> {
    match before {
        OldImage::None if relation.definition.identity_usable && relation.has_key() => {
            OldImage::Key(only_key(relation, after))
        }
        before => copied_old(before),
    }
}

/// Whether an UPDATE changed a column; `None`: not known.
pub(super) fn is_changed(
    relation: &Relation,
    place: usize,
    before: &OldImage<'_>,
    after: &Image<'_>,
) -> Option<bool> {
    let new = after.get(place)?;
    if *new == Value::UnchangedToast {
        return Some(false);
    }
    let old = match before {
        OldImage::Key(image) | OldImage::Full(image) => image.get(place)?,
        OldImage::None => {
            let is_key = relation
                .columns
                .get(place)
                .is_some_and(|column| column.is_key);
            return (is_key && relation.definition.identity_usable).then_some(false);
        }
    };
    match old {
        Value::Absent | Value::UnchangedToast => None,
        // By bits, so that NaN is what it was and -0 is not 0.
        Value::Float8(old) => match new {
            Value::Float8(new) => Some(old.to_bits() != new.to_bits()),
            _ => Some(true),
        },
        Value::Float4(old) => match new {
            Value::Float4(new) => Some(old.to_bits() != new.to_bits()),
            _ => Some(true),
        },
        old => Some(old != new),
    }
}

/// A row for people: its key.
pub(super) fn key_text(relation: &Relation, image: &[Value<'_>]) -> String {
    let mut parts = Vec::new();
    for (place, column) in relation.columns.iter().enumerate() {
        if !column.is_key {
            continue;
        }
        let mut text = Vec::new();
        if let Some(value) = image.get(place)
            && value.write_text(&mut text).is_ok()
        {
            let text = String::from_utf8_lossy(&text);
            let shown: String = text.chars().take(64).collect();
            parts.push(format!(
                "{}={shown}",
                relation.definition.columns[place].name
            ));
        }
    }
    format!("({})", parts.join(", "))
}
