//! One connection to the source, from the handshake to the running stream.

use std::time::Duration;

use walferry_protocol::Lsn;

use super::{names, plugin, start_position};
use crate::cli::RunOptions;
use crate::config::connection::LogReader;
use crate::error::{Failure, Result};
use crate::filter::{Knowledge, examine};
use crate::pipeline::assembler::Output;
use crate::source::changes::{ChangeReader, ChangeWriter};
use crate::source::connection::{Connection, Replication};
use crate::source::ddl_capture;
use crate::source::identity::{judge, tables_without_usable_identity};
use crate::source::plugin::Plugin;
use crate::source::replication::identify_system;
use crate::source::slot::{self, SlotInfo};
use crate::state::admission::{Present, admit};
use crate::state::{Identity, State};

/// A connected source whose slot is ours to read.
pub struct Upstream {
    connection: Connection,
    pub identity: Identity,
    slot: SlotInfo,
    plugin: Plugin,
    /// What the first connection found out for the rules.
    pub knowledge: Knowledge,
    /// Not a reconnect.
    first: bool,
    /// `None` when the server has none.
    pub wal_sender_timeout: Option<Duration>,
}

impl Upstream {
    /// Connects and finds or makes the slot.
    /// `first`: not a reconnect, so the tables are looked at too.
    pub async fn connect(options: &RunOptions, first: bool) -> Result<Self> {
        let kind = match options.reader {
            LogReader::Stream => Replication::Database,
            LogReader::Sql => Replication::Off,
        };
        let mut connection = Connection::connect(&options.conninfo, kind).await?;
        let system = identify_system(&mut connection).await?;
        let mut asked = match (first, options.reader) {
            (true, LogReader::Stream) => Some(ask_apart(&connection).await?),
            _ => None,
        };
        let questions = asked.as_mut().unwrap_or(&mut connection);
        let mut knowledge = Knowledge::default();
        if first {
            knowledge = examine(questions, &options.rules, &options.tables).await?;
            names::warn_of_unmatched(questions, options).await?;
            let tables = tables_without_usable_identity(questions, &options.tables).await?;
            judge(&tables, options.accept_missing_identity)?;
            if options.schema_changes {
                ddl_capture::warn_unless_on(questions).await?;
            }
        }
        let plugin = plugin::choose(questions, options, first).await?;
        if let (Some(start), Some(name), true) = (options.start_lsn, &options.slot.name, first)
            && !options.accept_gap
            && options.slot.create
            && slot::find(questions, name).await?.is_none()
        {
            return Err(start_position::refuse_new_slot(start, name));
        }
        if first
            && plugin == Plugin::Walferry
            && options.push_conditions
            && let Some(told) = knowledge.places.told()
        {
            tracing::info!("{told}");
        }
        plugin::prepare(questions, plugin, options, first).await?;
        if let Some(asked) = asked {
            asked.close().await;
        }
        let slot = slot::ensure(&mut connection, &options.slot, plugin.name()).await?;
        if options.reader == LogReader::Sql && (options.slot.two_phase || slot.info.two_phase) {
            return Err(Failure::definite(format!(
                "slot \"{}\" gives prepared transactions at their PREPARE, which can't be polled",
                slot.info.name
            ))
            .hint("read it over the replication protocol (--reader stream), or make a slot without --two-phase"));
        }
        let wal_sender_timeout = match options.reader {
            LogReader::Stream => wal_sender_timeout(&mut connection).await?,
            LogReader::Sql => None,
        };
        Ok(Upstream {
            connection,
            identity: Identity {
                system_identifier: system.system_identifier,
                timeline: system.timeline,
                database: system.database,
                slot: slot.info.name.clone(),
                plugin: plugin.name().to_owned(),
            },
            slot: slot.info,
            plugin,
            knowledge,
            first,
            wal_sender_timeout,
        })
    }

    /// Where delivery starts that has no state: where it is asked to, else
    /// where the slot is.
    pub async fn first_position(&mut self, options: &RunOptions, keeps_state: bool) -> Result<Lsn> {
        let Some(start) = options.start_lsn else {
            return Ok(self.confirmed());
        };
        let standing = start_position::Standing {
            slot: &self.slot.name,
            confirmed: self.confirmed(),
            wal_end: wal_end(&mut self.connection).await?,
            two_phase: options.slot.two_phase || self.slot.two_phase,
            keeps_state,
        };
        start_position::judge(start, &standing, options.accept_gap)
    }

    /// Where delivery goes on: where `saved` says, if that belongs to this
    /// source.
    pub async fn position(&mut self, saved: &State, accept_gap: bool) -> Result<Lsn> {
        let history = if saved.identity.timeline == self.identity.timeline {
            None
        } else {
            self.timeline_history().await?
        };
        let present = Present {
            identity: &self.identity,
            confirmed: self.confirmed(),
            wal_end: wal_end(&mut self.connection).await?,
            history: history.as_deref(),
        };
        admit(saved, &present, accept_gap)
    }

    /// What ends before this is never sent again.
    fn confirmed(&self) -> Lsn {
        self.slot.confirmed_flush_lsn.unwrap_or_default()
    }

    /// The history file of the server's timeline; the first has none.
    async fn timeline_history(&mut self) -> Result<Option<String>> {
        if self.identity.timeline <= 1 {
            return Ok(None);
        }
        if self.connection.replication() == Replication::Off {
            // A file that few roles may read; without it no switch is proved.
            let sql = format!(
                "SELECT 'x', pg_catalog.pg_read_file('pg_wal/{:08X}.history')",
                self.identity.timeline
            );
            let rows = self.connection.simple_query(&sql).await.unwrap_or_default();
            return Ok(rows.first().and_then(|row| row.at(1)).map(str::to_owned));
        }
        let command = format!("TIMELINE_HISTORY {}", self.identity.timeline);
        let rows = self.connection.simple_query(&command).await?;
        Ok(rows.first().and_then(|row| row.at(1)).map(str::to_owned))
    }

    /// The publication that is read, where the plugin reads one.
    pub fn publication<'a>(&self, options: &'a RunOptions) -> Option<&'a str> {
        (self.plugin == Plugin::Pgoutput).then(|| plugin::publication_name(options))
    }

    /// Begins to read the slot from `position` on; with whose output the
    /// stream carries.
    pub async fn start(
        self,
        position: Lsn,
        options: &RunOptions,
    ) -> Result<(ChangeReader, ChangeWriter, Output)> {
        let slot = plugin::Slot {
            plugin: self.plugin,
            info: &self.slot,
            first: self.first,
        };
        plugin::start(self.connection, &slot, position, options).await
    }
}

/// A connection for questions about tables, to the very server that a
/// walsender is on. Asked there, they would leave the tables in its caches as
/// they are now (`pg_get_publication_tables` opens each, since PostgreSQL 16),
/// and it would decode with that what was written before: only the functions
/// that read slots empty the caches first (`InvalidateSystemCaches`,
/// `pg_logical_slot_get_changes_guts`).
async fn ask_apart(walsender: &Connection) -> Result<Connection> {
    let mut conninfo = walsender.conninfo().clone();
    conninfo.hosts = vec![walsender.host().clone()];
    Connection::connect(&conninfo, Replication::Off).await
}

/// The end of what the server has written or, on a standby, replayed: no
/// position that it ever told is past it.
async fn wal_end(connection: &mut Connection) -> Result<Lsn> {
    let rows = connection
        .simple_query(
            "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
             ELSE pg_catalog.pg_current_wal_insert_lsn() END AS wal_end",
        )
        .await?;
    rows.first()
        .and_then(|row| row.parse("wal_end"))
        .ok_or_else(|| Failure::definite("the server does not say where its WAL ends"))
}

async fn wal_sender_timeout(connection: &mut Connection) -> Result<Option<Duration>> {
    let rows = connection
        .simple_query(
            "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'",
        )
        .await?;
    let milliseconds: u64 = rows
        .first()
        .and_then(|row| row.parse("setting"))
        .unwrap_or(0);
    Ok((milliseconds > 0).then(|| Duration::from_millis(milliseconds)))
}
