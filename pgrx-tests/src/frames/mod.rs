//! Frames of the native format as comparable structures.
//!
//! [`FrameReader`] is strict: whatever the format promises about the order of
//! frames, definitions and positions is checked here, so that every test that
//! reads changes checks it too. A broken promise panics.

mod change;
mod reader;

use std::sync::Arc;

use postgres::Client;
use walferry_protocol::{Flags, Kind, Lsn, Prepared, Start, StreamAbort};
use walferry_streamer::event;

pub use reader::FrameReader;

/// A column's value as the reader got it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cell {
    Null,
    UnchangedToast,
    Absent,
    /// What `value::text` prints.
    Text(String),
}

pub type Row = Vec<Cell>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Old {
    None,
    Key(Row),
    Full(Row),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Insert { new: Row },
    Update { old: Old, new: Row },
    Delete { old: Old },
    Truncate { cascade: bool, restart: bool },
    Message { prefix: String, content: Vec<u8> },
}

#[derive(Clone, Debug)]
pub struct Change {
    /// Of a streamed record: the (sub)transaction.
    pub xid: Option<u32>,
    pub lsn: Lsn,
    pub index: u32,
    /// None for a logical message.
    pub relation: Option<Arc<event::Relation>>,
    pub action: Action,
}

/// How a committed transaction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Whole,
    Streamed,
    Prepared,
    StreamPrepared,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub way: Way,
    pub context: event::Transaction,
    pub gid: Option<String>,
    pub changes: Vec<Change>,
}

/// One frame, for tests of framing itself.
#[derive(Clone, Debug)]
pub struct FrameNote {
    pub kind: Kind,
    pub flags: Flags,
    /// Of the whole message.
    pub length: usize,
    /// The numbers of the definitions in it.
    pub definitions: Vec<u32>,
    pub xid: Option<u32>,
}

/// All that a connection said.
#[derive(Debug, Default)]
pub struct Capture {
    pub start: Option<Start>,
    /// In commit order.
    pub transactions: Vec<Transaction>,
    /// Non-transactional ones.
    pub messages: Vec<(Lsn, Change)>,
    /// In order of their PREPARE, whatever became of them.
    pub prepared: Vec<Prepared>,
    /// gids.
    pub rolled_back: Vec<String>,
    pub aborts: Vec<StreamAbort>,
    pub definitions: Vec<Arc<event::Relation>>,
    pub frames: Vec<FrameNote>,
    /// xids of streamed transactions that had not ended.
    pub open: Vec<u32>,
}
impl Capture {
    /// What the slot holds, read by the SQL functions and left there.
    pub fn peek(client: &mut Client, slot: &str, options: &[(&str, &str)]) -> Capture {
        Self::try_sql(client, "peek", slot, options)
            .unwrap_or_else(|error| panic!("reading slot {slot}: {error:?}"))
    }

    /// What the slot holds, read by the SQL functions and taken from it.
    pub fn get(client: &mut Client, slot: &str, options: &[(&str, &str)]) -> Capture {
        Self::try_sql(client, "get", slot, options)
            .unwrap_or_else(|error| panic!("reading slot {slot}: {error:?}"))
    }

    /// As [`Capture::peek`], for reads that are to fail.
    pub fn try_peek(
        client: &mut Client,
        slot: &str,
        options: &[(&str, &str)],
    ) -> Result<Capture, postgres::Error> {
        Self::try_sql(client, "peek", slot, options)
    }

    fn try_sql(
        client: &mut Client,
        verb: &str,
        slot: &str,
        options: &[(&str, &str)],
    ) -> Result<Capture, postgres::Error> {
        let options: Vec<&str> = options.iter().flat_map(|(k, v)| [*k, *v]).collect();
        // The functions read what is flushed, which an asynchronous commit and
        // an abort are not at once. A commit flushes when its transaction has
        // an id and wrote a record before.
        client.batch_execute(
            "DO $$ BEGIN PERFORM set_config('synchronous_commit', 'on', true), pg_create_restore_point('read'), txid_current(); END $$",
        )?;
        let rows = client.query(
            &format!(
                "SELECT lsn::text, data FROM pg_logical_slot_{verb}_binary_changes($1, NULL, NULL, VARIADIC $2)"
            ),
            &[&slot, &options],
        )?;
        let mut reader = FrameReader::default();
        for row in rows {
            let lsn: String = row.get(0);
            reader.read(row.get(1), Some(lsn.parse().expect("an LSN")));
        }
        Ok(reader.finish())
    }

    /// Every change of every committed transaction, one line each.
    pub fn lines(&self) -> Vec<String> {
        self.transactions
            .iter()
            .flat_map(|transaction| &transaction.changes)
            .map(Change::to_string)
            .collect()
    }

    /// Every change of every committed transaction.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.transactions
            .iter()
            .flat_map(|transaction| &transaction.changes)
    }

    /// The ids of all events, in order.
    pub fn ids(&self) -> Vec<(Lsn, Lsn, u32)> {
        self.transactions
            .iter()
            .flat_map(|t| {
                t.changes
                    .iter()
                    .map(|change| (t.context.end_lsn, change.lsn, change.index))
            })
            .collect()
    }
}
/// A table's content as the event model prints it: every column's
/// `value::text` under the settings that the plugin pins.
pub fn table_rows(client: &mut Client, table: &str, order: &str) -> Vec<Row> {
    let columns: Vec<String> = client
        .query(
            "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            &[&table],
        )
        .unwrap_or_else(|error| panic!("{error:?}\n{table}"))
        .iter()
        .map(|row| format!("{}::text", row.get::<_, String>(0)))
        .collect();
    let messages = client
        .simple_query(&format!(
            "BEGIN; SET LOCAL DateStyle = ISO; SET LOCAL IntervalStyle = postgres; SET LOCAL TimeZone = 'UTC';
             SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = hex;
             SELECT {} FROM (SELECT * FROM {table} ORDER BY {order}) ordered; COMMIT",
            columns.join(", ")
        ))
        .unwrap_or_else(|error| panic!("{error:?}\n{table}"));
    messages
        .iter()
        .filter_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|place| match row.get(place) {
                        Some(text) => Cell::Text(text.to_owned()),
                        None => Cell::Null,
                    })
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}
