//! The one event model that every decoder ends in and every encoder starts
//! from. Values are decoded lazily and borrow from the frame they came in.

mod relation;
pub mod schema_change;
mod value;

pub use crate::datum::temporal::Interval;
pub use relation::{Column, Relation};
pub use schema_change::SchemaChange;
pub use value::{Payload, Value};
pub(crate) use value::{read_hex, write_hex, write_integer, write_uuid};

use std::sync::Arc;

use walferry_protocol::{Lsn, Origin};

/// One event. Its id is (`transaction.end_lsn`, `lsn`, `index`).
#[derive(Debug)]
pub struct Event<'a> {
    pub transaction: &'a Transaction,
    /// LSN of the change's WAL record.
    pub lsn: Lsn,
    /// Index among the changes of that record, counted before any filter.
    pub index: u32,
    pub change: Change<'a>,
}

/// The transaction an event belongs to. A logical message outside any
/// transaction has `xid` 0 and its own end LSN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub xid: u32,
    /// Start of the commit record.
    pub commit_lsn: Lsn,
    /// Just past the commit record: what is confirmed when all is durable.
    pub end_lsn: Lsn,
    /// Microseconds since the Unix epoch.
    pub commit_time_us: i64,
    pub origin: Option<Origin>,
}

impl Transaction {
    /// Of a logical message outside any transaction.
    pub fn of_message(end_lsn: Lsn) -> Self {
        Transaction {
            xid: 0,
            commit_lsn: end_lsn,
            end_lsn,
            commit_time_us: 0,
            origin: None,
        }
    }
}

#[derive(Debug)]
pub enum Change<'a> {
    Insert {
        relation: &'a Arc<Relation>,
        after: Image<'a>,
    },
    Update {
        relation: &'a Arc<Relation>,
        before: OldImage<'a>,
        after: Image<'a>,
    },
    Delete {
        relation: &'a Arc<Relation>,
        before: OldImage<'a>,
    },
    Truncate {
        relation: &'a Arc<Relation>,
        cascade: bool,
        restart_identity: bool,
    },
    Message {
        prefix: &'a str,
        content: &'a [u8],
        transactional: bool,
    },
    /// Captured DDL, which came as a row of `walferry.ddl_log`.
    SchemaChange(Box<SchemaChange>),
}

/// A row: one value for each of its relation's columns, in that order.
pub type Image<'a> = Vec<Value<'a>>;

/// What the server logged of the old row.
#[derive(Debug)]
pub enum OldImage<'a> {
    /// Nothing. For an UPDATE under a usable replica identity other than FULL
    /// this means that the key is unchanged.
    None,
    /// The replica identity's columns; the others are [`Value::Absent`].
    Key(Image<'a>),
    Full(Image<'a>),
}
