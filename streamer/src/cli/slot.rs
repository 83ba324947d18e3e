//! `walferry slot`: the server's replication slots, for people.

use std::fmt::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{SourceArguments, print};
use crate::error::{Failure, Result};
use crate::source::connection::{Connection, Replication};
use crate::source::conninfo::Conninfo;
use crate::source::slot::verdict::{self, Verdict, size};
use crate::source::slot::{self, NewSlot, SlotInfo};

#[derive(Debug, Subcommand)]
pub enum SlotCommand {
    /// List the server's slots
    List {
        #[command(flatten)]
        source: SourceArguments,
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Make a slot; it keeps WAL from this moment on until it is read or dropped
    #[command(after_help = "\
Example: walferry slot create ferry --source postgres://ferry@db/shop
While open transactions hold the slot's making up, they are named in the log.")]
    Create {
        /// The slot's name
        name: String,
        #[command(flatten)]
        new: NewSlotArguments,
        #[command(flatten)]
        source: SourceArguments,
    },
    /// Drop a slot; what was not read from it can't be read any more
    Drop {
        /// The slot's name
        name: String,
        /// End the process that reads it, if one does
        #[arg(long)]
        terminate: bool,
        #[command(flatten)]
        source: SourceArguments,
    },
    /// Say how a slot fares, and what mends it
    Inspect {
        /// The slot's name
        name: String,
        #[command(flatten)]
        source: SourceArguments,
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct NewSlotArguments {
    /// The output plugin
    #[arg(long, default_value = "walferry")]
    plugin: String,
    /// Decode prepared transactions at PREPARE; can't be undone
    #[arg(long)]
    two_phase: bool,
    /// Synchronize the slot to standbys (PostgreSQL 17 and later)
    #[arg(long)]
    failover: bool,
    /// Give up after this time; without it the making waits as long as it takes
    #[arg(long, value_name = "TIME", value_parser = super::run::duration)]
    timeout: Option<Duration>,
    /// Refused: such a slot would end with this command
    #[arg(long, hide = true)]
    temporary: bool,
}

pub fn execute(command: SlotCommand) -> Result<()> {
    block_on(perform(command))
}

/// Waits for a command's end, or for the signal that ends it.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::definite(format!("cannot start the event loop: {error}")))?;
    runtime.block_on(async {
        tokio::select! {
            outcome = command => outcome,
            // Dropping what is under way tells the server to stop it.
            signal = interrupted() => Err(Failure::definite(format!("ended by {signal}"))),
        }
    })
}

async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => "Ctrl-C",
            _ = terminate.recv() => "SIGTERM",
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
            "Ctrl-C"
        }
    }
}

async fn perform(command: SlotCommand) -> Result<()> {
    match command {
        SlotCommand::List { source, json } => {
            let mut connection = connect(&source.conninfo()?).await?;
            let slots = slot::list(&mut connection).await?;
            connection.close().await;
            if json {
                let slots: Vec<Value> = slots.iter().map(|slot| as_json(slot, None)).collect();
                print_json(&Value::Array(slots))
            } else {
                print(table(&slots).as_bytes())
            }
        }
        SlotCommand::Create { name, new, source } => create(&name, &new, &source.conninfo()?).await,
        SlotCommand::Drop {
            name,
            terminate,
            source,
        } => {
            let mut connection = connect(&source.conninfo()?).await?;
            slot::drop(&mut connection, &name, terminate).await?;
            connection.close().await;
            print(format!("dropped slot {name}\n").as_bytes())
        }
        SlotCommand::Inspect { name, source, json } => {
            let mut connection = connect(&source.conninfo()?).await?;
            let info = slot::get(&mut connection, &name).await?;
            let mut verdicts = verdict::of(&info);
            verdicts.extend(verdict::open_transaction(&mut connection, &info).await?);
            connection.close().await;
            if json {
                print_json(&as_json(&info, Some(&verdicts)))
            } else {
                print(page(&info, &verdicts).as_bytes())
            }
        }
    }
}

/// Slots are seen from any database, without the right to replicate.
async fn connect(conninfo: &Conninfo) -> Result<Connection> {
    Connection::connect(conninfo, Replication::Off).await
}

async fn create(name: &str, new: &NewSlotArguments, conninfo: &Conninfo) -> Result<()> {
    slot::check_name(name)?;
    if new.temporary {
        return Err(
            Failure::usage("a temporary slot would end with this command")
                .hint("walferry run without --slot makes a temporary slot and reads it"),
        );
    }
    let mut connection = Connection::connect(conninfo, Replication::Database).await?;
    let slot = NewSlot {
        name: name.to_owned(),
        plugin: new.plugin.clone(),
        temporary: false,
        two_phase: new.two_phase,
        failover: new.failover,
    };
    let creation = slot::create(&mut connection, &slot);
    match new.timeout {
        None => creation.await?,
        Some(timeout) => tokio::time::timeout(timeout, creation)
            .await
            .map_err(|_| {
                Failure::definite(format!(
                    "slot \"{name}\" could not be made within {timeout:?}, and its making was cancelled"
                ))
                .hint("end the transactions named above, or allow a longer --timeout")
            })??,
    }
    let info = slot::get(&mut connection, name).await?;
    connection.close().await;
    print(
        format!(
            "created slot {name} in database {} at {}\n",
            conninfo.dbname,
            info.confirmed_flush_lsn.unwrap_or_default()
        )
        .as_bytes(),
    )
}

fn print_json(value: &Value) -> Result<()> {
    print(format!("{value:#}\n").as_bytes())
}

fn as_json(slot: &SlotInfo, verdicts: Option<&[Verdict]>) -> Value {
    let mut object = json!(slot);
    object["lag_bytes"] = json!(slot.lag());
    object["retained_bytes"] = json!(slot.retained());
    if let Some(verdicts) = verdicts {
        object["verdicts"] = json!(verdicts);
    }
    object
}

/// A table with aligned columns.
fn table(slots: &[SlotInfo]) -> String {
    const HEADER: [&str; 8] = [
        "SLOT",
        "PLUGIN",
        "DATABASE",
        "STATE",
        "LAG",
        "RETAINED",
        "CONFIRMED",
        "WAL STATUS",
    ];
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(slots.iter().map(|slot| {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            slot.name.clone(),
            slot.plugin
                .clone()
                .unwrap_or_else(|| "(physical)".to_owned()),
            or_dash(slot.database.clone()),
            match &slot.reader {
                _ if slot.is_lost() => "lost".to_owned(),
                Some(reader) => format!("active, PID {}", reader.pid),
                None => "inactive".to_owned(),
            },
            or_dash(slot.lag().map(size)),
            or_dash(slot.retained().map(size)),
            or_dash(slot.confirmed_flush_lsn.map(|lsn| lsn.to_string())),
            or_dash(slot.wal_status.clone()),
        ]
    }));
    let widths: Vec<usize> = (0..HEADER.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// All there is to say of one slot.
fn page(slot: &SlotInfo, verdicts: &[Verdict]) -> String {
    let unknown = || "-".to_owned();
    let lsn = |lsn: Option<walferry_protocol::Lsn>| lsn.map_or_else(unknown, |lsn| lsn.to_string());
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let fields = [
        (
            "plugin",
            slot.plugin
                .clone()
                .unwrap_or_else(|| "none: a physical slot".to_owned()),
        ),
        ("database", slot.database.clone().unwrap_or_else(unknown)),
        (
            "read by",
            slot.reader
                .as_ref()
                .map_or("nobody".to_owned(), |reader| reader.to_string()),
        ),
        ("confirmed_flush_lsn", lsn(slot.confirmed_flush_lsn)),
        ("restart_lsn", lsn(slot.restart_lsn)),
        ("end of WAL", lsn(slot.wal_end)),
        ("not confirmed yet", slot.lag().map_or_else(unknown, size)),
        ("WAL retained", slot.retained().map_or_else(unknown, size)),
        (
            "wal_status",
            slot.wal_status.clone().unwrap_or_else(unknown),
        ),
        (
            "catalog_xmin age",
            slot.catalog_xmin_age
                .map_or_else(unknown, |age| format!("{age} transactions")),
        ),
        ("two_phase", yes_no(slot.two_phase)),
        ("failover", yes_no(slot.failover)),
        ("temporary", yes_no(slot.temporary)),
    ];
    let mut text = format!("slot {}\n", slot.name);
    for (name, value) in fields {
        let _ = writeln!(text, "  {name:<20} {value}");
    }
    text.push('\n');
    for verdict in verdicts {
        let _ = writeln!(text, "{}", verdict.text);
        if let Some(cure) = &verdict.cure {
            let _ = writeln!(text, "  hint: {cure}");
        }
    }
    text
}
