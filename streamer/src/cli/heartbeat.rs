//! The heartbeat that flags and files ask for.

use std::time::Duration;

use crate::config::extractor;
use crate::error::{Failure, Result};
use crate::heartbeat::{Carrier, Heartbeat, Table};

/// How often it beats where nothing says so.
const INTERVAL: Duration = Duration::from_secs(10);

/// The column of a table that was named on the command line.
const COLUMN: &str = "timestamp";

/// A table's name as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    schema: String,
    table: String,
}

/// `schema.table`, or a table of schema public.
pub fn table_name(text: &str) -> Result<TableName> {
    let (schema, table) = text.split_once('.').unwrap_or(("public", text));
    if schema.is_empty() || table.is_empty() || text.contains('"') {
        return Err(Failure::usage(format!("{text:?} is not a table's name"))
            .hint("write schema.table, letter by letter as it is called and without quotes"));
    }
    Ok(TableName {
        schema: schema.to_owned(),
        table: table.to_owned(),
    })
}

/// What flags say of it.
#[derive(Debug, Default)]
pub struct Typed {
    pub interval: Option<Duration>,
    pub table: Option<TableName>,
    pub create: bool,
}

/// The heartbeat that is asked for, if any: what was typed wins over the files.
///
/// # Errors
/// Usage.
pub fn of(typed: Typed, of_files: Option<extractor::Heartbeat>) -> Result<Option<Heartbeat>> {
    if typed.interval.is_none() && typed.table.is_none() && of_files.is_none() {
        return match typed.create {
            false => Ok(None),
            true => Err(
                Failure::usage("--create-heartbeat-table needs --heartbeat-table")
                    .hint("--heartbeat 10s alone writes logical messages, which need no table"),
            ),
        };
    }
    if typed.interval == Some(Duration::ZERO) {
        return Err(Failure::usage("--heartbeat 0 would beat without a pause")
            .hint("leave it out to have none"));
    }
    let interval = typed
        .interval
        .or(of_files.as_ref().map(|beat| beat.interval))
        .unwrap_or(INTERVAL);
    let carrier = match (typed.table, of_files) {
        (Some(name), _) => Carrier::Row(Table {
            schema: name.schema,
            table: name.table,
            column: COLUMN.to_owned(),
            create: typed.create,
        }),
        (None, Some(beat)) if beat.carrier == extractor::HeartbeatCarrier::Table => {
            Carrier::Row(Table {
                schema: beat.schema,
                table: beat.table,
                column: beat.column,
                create: beat.create || typed.create,
            })
        }
        (None, _) => Carrier::Message,
    };
    if typed.create && carrier == Carrier::Message {
        return Err(
            Failure::usage("--create-heartbeat-table needs --heartbeat-table")
                .hint("--heartbeat 10s alone writes logical messages, which need no table"),
        );
    }
    Ok(Some(Heartbeat { interval, carrier }))
}
