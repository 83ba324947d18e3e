//! The Debezium envelope as JSON lines: one object and a line break an event.
//! docs/events.md describes every member.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::datum::quote::write_json_string;
use crate::error::Result;
use crate::event::{Change, Event, Image, OldImage, Relation, Transaction, Value, write_integer};

use super::{Encode, ValueForms, json::write_base64, schema_change};

/// What the envelope says beside the event itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebeziumOptions {
    /// The source database's name, `source.db`.
    pub database: String,
    /// The pipeline's own name, `source.name`; left out when there is none.
    pub name: Option<String>,
    pub values: ValueForms,
}

/// Encodes events as Debezium envelopes.
#[derive(Clone, Debug)]
pub struct DebeziumJson {
    values: ValueForms,
    database: String,
    /// From `,"source":{` up to the relation's own members.
    source_json: Vec<u8>,
}

impl DebeziumJson {
    pub fn new(options: &DebeziumOptions) -> Self {
        let mut source_json = Vec::new();
        source_json.extend_from_slice(b",\"source\":{\"connector\":\"walferry\",\"version\":");
        write_json_string(env!("CARGO_PKG_VERSION"), &mut source_json);
        if let Some(name) = &options.name {
            source_json.extend_from_slice(b",\"name\":");
            write_json_string(name, &mut source_json);
        }
        source_json.extend_from_slice(b",\"db\":");
        write_json_string(&options.database, &mut source_json);
        source_json.push(b',');
        DebeziumJson {
            values: options.values,
            database: options.database.clone(),
            source_json,
        }
    }
}

impl Encode for DebeziumJson {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let written = self.write(event, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }
}

impl DebeziumJson {
    fn write(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<()> {
        let op = match &event.change {
            Change::Insert { relation, after } => {
                out.extend_from_slice(b"{\"before\":null,\"after\":");
                self.write_image(relation, after, None, out)?;
                self.write_source(event, relation, out);
                self.write_unchanged(relation, after, None, out);
                b'c'
            }
            Change::Update {
                relation,
                before,
                after,
            } => {
                out.extend_from_slice(b"{\"before\":");
                self.write_old(relation, before, out)?;
                out.extend_from_slice(b",\"after\":");
                self.write_image(relation, after, old_values(before), out)?;
                self.write_source(event, relation, out);
                out.extend_from_slice(identity_of_update(relation, before));
                self.write_unchanged(relation, after, old_values(before), out);
                b'u'
            }
            Change::Delete { relation, before } => {
                out.extend_from_slice(b"{\"before\":");
                self.write_old(relation, before, out)?;
                out.extend_from_slice(b",\"after\":null");
                self.write_source(event, relation, out);
                out.extend_from_slice(identity_of_delete(before));
                b'd'
            }
            Change::Truncate {
                relation,
                cascade,
                restart_identity,
            } => {
                out.extend_from_slice(
                    b"{\"before\":null,\"after\":null,\"truncate\":{\"cascade\":",
                );
                write_bool(*cascade, out);
                out.extend_from_slice(b",\"restart_identity\":");
                write_bool(*restart_identity, out);
                out.push(b'}');
                self.write_source(event, relation, out);
                b't'
            }
            Change::Message {
                prefix,
                content,
                transactional,
            } => {
                out.extend_from_slice(b"{\"before\":null,\"after\":null,\"message\":{\"prefix\":");
                write_json_string(prefix, out);
                out.extend_from_slice(b",\"content\":\"");
                write_base64(content, out);
                out.extend_from_slice(b"\",\"transactional\":");
                write_bool(*transactional, out);
                out.push(b'}');
                out.extend_from_slice(&self.source_json);
                out.extend_from_slice(b"\"schema\":\"\",\"table\":\"\"");
                write_position(event, out);
                b'm'
            }
            Change::SchemaChange(change) => {
                out.extend_from_slice(b"{\"before\":null,\"after\":null,");
                schema_change::write(change, &self.database, out)?;
                out.extend_from_slice(&self.source_json);
                out.extend_from_slice(b"\"schema\":");
                write_json_string(change.schema.as_deref().unwrap_or_default(), out);
                out.extend_from_slice(b",\"table\":");
                write_json_string(change.table().unwrap_or_default(), out);
                write_position(event, out);
                out.extend_from_slice(b",\"ddl_id\":");
                write_integer(change.id, out);
                b's'
            }
        };
        out.extend_from_slice(b"},\"op\":\"");
        out.push(op);
        out.extend_from_slice(b"\",\"ts_ms\":");
        write_integer(now_ms(), out);
        write_transaction(event.transaction, out);
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    /// Writes a row as an object. Columns that the image does not have are not
    /// in it either; an unchanged TOASTed one is taken from the old row where
    /// that has it.
    fn write_image(
        &self,
        relation: &Relation,
        image: &Image<'_>,
        old: Option<&Image<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut separator = b'{';
        for (place, (column, value)) in relation.columns.iter().zip(image).enumerate() {
            let value = match value {
                Value::Absent => continue,
                Value::UnchangedToast => match unchanged_value(old, place) {
                    Some(value) => value,
                    None => continue,
                },
                value => value,
            };
            out.push(separator);
            separator = b',';
            out.extend_from_slice(&column.key_json);
            self.values
                .write(value, column.kind, out)
                .map_err(|error| relation.malformed_value(place, error))?;
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
        Ok(())
    }

    fn write_old(&self, relation: &Relation, old: &OldImage<'_>, out: &mut Vec<u8>) -> Result<()> {
        match old_values(old) {
            Some(image) => self.write_image(relation, image, None, out),
            None => {
                out.extend_from_slice(b"null");
                Ok(())
            }
        }
    }

    /// Writes `source` up to and without its closing brace.
    fn write_source(&self, event: &Event<'_>, relation: &Relation, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.source_json);
        out.extend_from_slice(&relation.source_json);
        write_position(event, out);
    }

    /// Writes the list of the columns that are missing from `after` because
    /// the UPDATE did not touch their out-of-line value.
    fn write_unchanged(
        &self,
        relation: &Relation,
        after: &Image<'_>,
        old: Option<&Image<'_>>,
        out: &mut Vec<u8>,
    ) {
        let mut separator: &[u8] = b",\"unchanged\":[";
        for (place, value) in after.iter().enumerate() {
            if *value == Value::UnchangedToast && unchanged_value(old, place).is_none() {
                out.extend_from_slice(separator);
                separator = b",";
                // The member's key without its colon is the name's string.
                let key = &relation.columns[place].key_json;
                out.extend_from_slice(&key[..key.len() - 1]);
            }
        }
        if separator == b"," {
            out.push(b']');
        }
    }
}

fn old_values<'i, 'a>(old: &'i OldImage<'a>) -> Option<&'i Image<'a>> {
    match old {
        OldImage::None => None,
        OldImage::Key(image) | OldImage::Full(image) => Some(image),
    }
}

/// The old row's value of a column whose new value is the same.
fn unchanged_value<'i, 'a>(old: Option<&'i Image<'a>>, place: usize) -> Option<&'i Value<'a>> {
    old?.get(place)
        .filter(|value| !matches!(value, Value::Absent | Value::UnchangedToast))
}

/// What the server logged of the old row. An UPDATE that left the key alone
/// logs nothing and is still known by its key.
fn identity_of_update(relation: &Relation, before: &OldImage<'_>) -> &'static [u8] {
    match before {
        OldImage::None if relation.definition.identity_usable => b",\"identity\":\"key\"",
        other => identity_of_delete(other),
    }
}

fn identity_of_delete(before: &OldImage<'_>) -> &'static [u8] {
    match before {
        OldImage::None => b",\"identity\":\"none\"",
        OldImage::Key(_) => b",\"identity\":\"key\"",
        OldImage::Full(_) => b",\"identity\":\"full\"",
    }
}

/// Writes the event's id and the transaction's members of `source`.
fn write_position(event: &Event<'_>, out: &mut Vec<u8>) {
    let transaction = event.transaction;
    out.extend_from_slice(b",\"txId\":");
    if transaction.xid == 0 {
        out.extend_from_slice(b"null");
    } else {
        write_integer(transaction.xid, out);
    }
    out.extend_from_slice(b",\"lsn\":");
    write_integer(transaction.end_lsn.0, out);
    out.extend_from_slice(b",\"change_lsn\":");
    write_integer(event.lsn.0, out);
    out.extend_from_slice(b",\"seq\":");
    write_integer(event.index, out);
    if transaction.xid == 0 && transaction.commit_time_us == 0 {
        out.extend_from_slice(b",\"ts_us\":null,\"ts_ms\":null");
    } else {
        out.extend_from_slice(b",\"ts_us\":");
        write_integer(transaction.commit_time_us, out);
        out.extend_from_slice(b",\"ts_ms\":");
        write_integer(transaction.commit_time_us.div_euclid(1000), out);
    }
    out.extend_from_slice(b",\"snapshot\":\"false\"");
    if let Some(origin) = &transaction.origin {
        out.extend_from_slice(b",\"origin\":");
        write_json_string(&origin.name, out);
        out.extend_from_slice(b",\"origin_lsn\":");
        write_integer(origin.lsn.0, out);
    }
}

fn write_transaction(transaction: &Transaction, out: &mut Vec<u8>) {
    if transaction.xid == 0 {
        out.extend_from_slice(b",\"transaction\":null");
        return;
    }
    out.extend_from_slice(b",\"transaction\":{\"id\":\"");
    write_integer(transaction.xid, out);
    out.push(b':');
    write_integer(transaction.end_lsn.0, out);
    out.extend_from_slice(b"\"}");
}

fn write_bool(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// When the event was encoded, in milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
