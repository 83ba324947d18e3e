//! `format 'json'`: one JSON object a change, in the shape of wal2json's
//! format-version 2, each of them one write.
//!
//! It differs from wal2json in what would lose data: an UPDATE or DELETE whose
//! old row was not logged is written, without the member `identity`, and warned
//! of once a table. In databases that are not UTF8, characters beyond ASCII are
//! written as `\u` escapes, so that the text is valid in any encoding.

use std::collections::HashSet;

use pgrx::pg_sys;
use walferry_protocol::{Lsn, RecordTag};

use super::change::{RowChange, Texts, pin};
use super::decoder::Decoder;
use super::failure::Outcome;
use super::json_names::{Names, Shape};
use super::json_text::{escape, push};
use super::layout::Layout;
use super::message::LogicalMessage;
use super::relation_cache::Entry;
use super::server;
use super::tuple::{TextValue, Tuple};

/// What is the same in every object of a transaction.
#[derive(Default)]
pub struct Json {
    buffer: String,
    /// xid, timestamp and origin, as they stand behind `action`.
    transaction: String,
    /// lsn and nextlsn of the commit.
    commit: String,
    /// Tables whose missing identity has been warned of.
    warned: HashSet<u32>,
}

/// A number as JSON can hold it; what is none (NaN, Infinity) is null, or a
/// string where numbers are strings.
fn number(into: &mut String, text: &str, as_string: bool) {
    let is_number = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-eE.".contains(&b));
    match (as_string, is_number) {
        (true, _) => escape(into, text, false),
        (false, true) => into.push_str(text),
        (false, false) => into.push_str("null"),
    }
}

/// A sent column's value in one row.
enum Shown<'a> {
    Null,
    UnchangedToast,
    Text(&'a str),
}

/// The values of a row's sent columns.
fn shown<'a>(layout: &'a Layout, tuple: Tuple<'_>, texts: &'a [TextValue<'_>]) -> Vec<Shown<'a>> {
    let mut texts = texts.iter();
    let mut values = Vec::with_capacity(usize::from(layout.columns));
    for (index, attribute) in layout.attributes.iter().enumerate() {
        if !attribute.step.is_sent() {
            continue;
        }
        values.push(if index >= tuple.attributes() {
            let missing = layout
                .missing
                .get(index)
                .and_then(|missing| missing.as_deref());
            match missing.map(std::str::from_utf8) {
                Some(Ok(text)) => Shown::Text(text),
                _ => Shown::Null,
            }
        } else if tuple.is_null(index) {
            Shown::Null
        } else {
            match texts.next() {
                Some(TextValue::Text(text)) => Shown::Text(text),
                Some(TextValue::UnchangedToast) => Shown::UnchangedToast,
                None => Shown::Null,
            }
        });
    }
    values
}

/// How the members of a row are written.
struct Style {
    numbers_as_strings: bool,
    ascii: bool,
}

impl Style {
    /// A row as an array of columns. `identity`: only what a replica identity
    /// holds, without what describes columns.
    fn row(
        &self,
        out: &mut String,
        names: &Names,
        values: &[Shown<'_>],
        identity: bool,
        keys_only: bool,
    ) {
        out.push('[');
        let mut first = true;
        for (column, value) in names.columns.iter().zip(values) {
            if (keys_only && !column.key) || matches!(value, Shown::UnchangedToast) {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            out.push_str(&column.head);
            out.push_str(",\"value\":");
            match (value, column.shape) {
                (Shown::Text(text), Shape::Number) => number(out, text, self.numbers_as_strings),
                (Shown::Text(text), Shape::Bool) => {
                    out.push_str(if *text == "t" { "true" } else { "false" });
                }
                (Shown::Text(text), Shape::Bytea) => {
                    escape(out, text.strip_prefix("\\x").unwrap_or(text), self.ascii);
                }
                (Shown::Text(text), Shape::Text) => escape(out, text, self.ascii),
                _ => out.push_str("null"),
            }
            if !identity {
                out.push_str(&column.tail);
            }
            out.push('}');
        }
        out.push(']');
    }
}

impl Decoder {
    fn json_write(&mut self) {
        self.frames
            .statistics
            .write(self.ctx, &[self.json.buffer.as_bytes()]);
        // A rare giant does not stay.
        if self.json.buffer.capacity() > 1 << 20 {
            self.json.buffer = String::new();
        }
    }

    /// # Safety
    /// Within the begin callback.
    pub unsafe fn json_begin(&mut self, txn: *const pg_sys::ReorderBufferTXN) {
        let options = &self.options.json;
        let json = &mut self.json;
        json.transaction.clear();
        json.commit.clear();
        // SAFETY: as the caller promises; timestamptz_to_str returns a static
        // buffer of ASCII text.
        unsafe {
            if options.xids {
                let xid = (*txn).xid.into_inner();
                push(&mut json.transaction, format_args!(",\"xid\":{xid}"));
            }
            if options.timestamp {
                pin(&mut self.pinned);
                let text = pg_sys::timestamptz_to_str(server::transaction_time(txn));
                let text = std::ffi::CStr::from_ptr(text).to_string_lossy();
                push(
                    &mut json.transaction,
                    format_args!(",\"timestamp\":\"{text}\""),
                );
            }
            if options.origin {
                let origin = (*txn).origin_id;
                push(&mut json.transaction, format_args!(",\"origin\":{origin}"));
            }
            if options.lsn {
                let (lsn, next) = (Lsn((*txn).final_lsn), Lsn((*txn).end_lsn));
                push(
                    &mut json.commit,
                    format_args!(",\"lsn\":\"{lsn}\",\"nextlsn\":\"{next}\""),
                );
            }
        }
        self.json_boundary('B');
    }

    pub fn json_commit(&mut self) {
        self.json_boundary('C');
    }

    fn json_boundary(&mut self, action: char) {
        if !self.options.json.transaction {
            return;
        }
        let json = &mut self.json;
        json.buffer.clear();
        push(
            &mut json.buffer,
            format_args!(
                "{{\"action\":\"{action}\"{}{}}}",
                json.transaction, json.commit
            ),
        );
        self.json_write();
    }

    /// The beginning of an object, up to where it names its table.
    fn json_open(&mut self, action: char, lsn: u64) {
        let json = &mut self.json;
        json.buffer.clear();
        push(
            &mut json.buffer,
            format_args!("{{\"action\":\"{action}\"{}", json.transaction),
        );
        if self.options.json.lsn {
            push(&mut json.buffer, format_args!(",\"lsn\":\"{}\"", Lsn(lsn)));
        }
    }

    /// A change of the relation found last.
    pub fn json_change(&mut self, change: &RowChange<'_>) -> Outcome {
        let actions = self.options.json.actions;
        let (action, wanted) = match change.tag {
            RecordTag::Insert => ('I', actions.insert),
            RecordTag::Update => ('U', actions.update),
            _ => ('D', actions.delete),
        };
        if !wanted {
            return Ok(());
        }
        pin(&mut self.pinned);
        let scratch = self.scratch;
        server::in_scratch(scratch, || {
            let texts = self.texts(change)?;
            self.json_open(action, change.lsn);
            self.json_rows(change, &texts);
            Ok(())
        })?;
        self.json_write();
        Ok(())
    }

    fn json_rows(&mut self, change: &RowChange<'_>, texts: &Texts<'_>) {
        let style = Style {
            numbers_as_strings: self.options.json.numbers_as_strings,
            ascii: !self.converter.server_is_utf8(),
        };
        let Some(Entry {
            layout,
            json: Some(names),
            definition,
            full_identity,
            ..
        }) = self.relations.last()
        else {
            return;
        };
        let out = &mut self.json.buffer;
        out.push_str(&names.table);
        let new = change.new.map(|tuple| shown(layout, tuple, &texts.new));
        if let (Some(values), true) = (&new, change.tag != RecordTag::Delete) {
            out.push_str(",\"columns\":");
            style.row(out, names, values, false, false);
        }
        let old = change.old.map(|tuple| shown(layout, tuple, &texts.old));
        match (&old, &new, change.tag) {
            (_, _, RecordTag::Insert) => {}
            (Some(values), ..) => {
                out.push_str(",\"identity\":");
                style.row(out, names, values, true, !*full_identity);
            }
            // The key did not change, so the new row has it.
            (None, Some(values), RecordTag::Update) if names.identity_index => {
                out.push_str(",\"identity\":");
                style.row(out, names, values, true, true);
            }
            _ => {
                if self.json.warned.insert(definition.oid) {
                    pgrx::warning!(
                        "no old row for changes of table \"{}\".\"{}\"",
                        definition.schema,
                        definition.name
                    );
                }
            }
        }
        out.push_str(&names.primary_key);
        out.push('}');
    }

    /// A TRUNCATE of the relation found last.
    pub fn json_truncate(&mut self, lsn: u64) {
        if !self.options.json.actions.truncate {
            return;
        }
        self.json_open('T', lsn);
        if let Some(Entry {
            json: Some(names), ..
        }) = self.relations.last()
        {
            self.json.buffer.push_str(&names.table);
        }
        self.json.buffer.push('}');
        self.json_write();
    }

    pub fn json_message(&mut self, message: &LogicalMessage<'_>, prefix: &str) -> Outcome {
        let ascii = !self.converter.server_is_utf8();
        let converter = self.converter;
        // As C strings go, the content ends at its first NUL.
        let content = message
            .content
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        let place = || format!("the content of a logical message with prefix \"{prefix}\"");
        let content = converter.to_utf8_anywhere(content, place)?;
        if message.transactional {
            self.json_open('M', message.lsn);
        } else {
            self.json_open_outside(message.lsn);
        }
        let out = &mut self.json.buffer;
        push(
            out,
            format_args!(",\"transactional\":{},\"prefix\":", message.transactional),
        );
        escape(out, prefix, ascii);
        out.push_str(",\"content\":");
        escape(out, &content, ascii);
        out.push('}');
        self.json_write();
        Ok(())
    }

    /// The beginning of a message's object that belongs to no transaction.
    fn json_open_outside(&mut self, lsn: u64) {
        let options = &self.options.json;
        let out = &mut self.json.buffer;
        out.clear();
        out.push_str("{\"action\":\"M\"");
        for (wanted, name) in [
            (options.xids, "xid"),
            (options.timestamp, "timestamp"),
            (options.origin, "origin"),
        ] {
            if wanted {
                push(out, format_args!(",\"{name}\":null"));
            }
        }
        if options.lsn {
            push(out, format_args!(",\"lsn\":\"{}\"", Lsn(lsn)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_does_not_know_are_null_or_strings() {
        let written = |text, as_string| {
            let mut out = String::new();
            number(&mut out, text, as_string);
            out
        };
        assert_eq!(written("1e+30", false), "1e+30");
        assert_eq!(written("NaN", false), "null");
        assert_eq!(written("-Infinity", true), "\"-Infinity\"");
        assert_eq!(written("1.50", true), "\"1.50\"");
    }
}
