//! The heartbeat: something small that is committed in the source's database
//! now and then, so that its slot moves on however quiet it is there, and so
//! that the way from a COMMIT to the sink can be seen to work.
//!
//! It is a row of a table, or a transactional logical message where no table
//! may exist. (A message that is not transactional would not do: it does not
//! move the slot's `restart_lsn`.) It goes over an ordinary connection of its
//! own. Whatever happens to it, the run goes on: it says once what is wrong,
//! and once that it is well again.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::error::{Class, Failure, Result};
use crate::event::{Change, Event, Relation};
use crate::source::connection::{Connection, Replication, quote_identifier, quote_literal};
use crate::source::conninfo::Conninfo;
use crate::source::preflight::publications;

/// The prefix of heartbeats that are logical messages.
pub const PREFIX: &str = "walferry.heartbeat";

/// A beat that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The shortest pause before another attempt after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// A heartbeat as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub interval: Duration,
    pub carrier: Carrier,
}

impl Heartbeat {
    /// Schema and name of its table, if it has one.
    pub fn table_name(&self) -> Option<(String, String)> {
        match &self.carrier {
            Carrier::Message => None,
            Carrier::Row(table) => Some((table.schema.clone(), table.table.clone())),
        }
    }
}

/// What a beat is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    Message,
    Row(Table),
}

/// Knows a heartbeat when it comes by, this run's or the database's own.
#[derive(Clone, Debug, Default)]
pub struct Ear {
    /// Schema and name of this run's heartbeat table, if it has one.
    pub table: Option<(String, String)>,
}

impl Ear {
    /// Whether the event is a heartbeat: a row of this run's table or of
    /// `walferry.heartbeats`, or a message with [`PREFIX`] in a transaction.
    pub fn hears(&self, event: &Event<'_>) -> bool {
        match &event.change {
            Change::Insert { relation, .. } | Change::Update { relation, .. } => {
                self.is_heartbeat_table(relation)
            }
            Change::Message {
                prefix,
                transactional,
                ..
            } => *transactional && *prefix == PREFIX,
            Change::Delete { .. } | Change::Truncate { .. } | Change::SchemaChange(_) => false,
        }
    }

    fn is_heartbeat_table(&self, relation: &Relation) -> bool {
        let definition = &relation.definition;
        let is = |schema: &str, name: &str| definition.name == name && definition.schema == schema;
        is("walferry", "heartbeats")
            || self
                .table
                .as_ref()
                .is_some_and(|(schema, name)| is(schema, name))
    }
}

/// A heartbeat table: one row with the time of the last beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub schema: String,
    pub table: String,
    /// Of type bigint: milliseconds since 1970.
    pub column: String,
    /// Make the table when it is missing.
    pub create: bool,
}

impl Table {
    /// `schema.table`, for people.
    pub fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// The name as SQL takes it.
    pub fn quoted(&self) -> String {
        format!(
            "{}.{}",
            quote_identifier(&self.schema),
            quote_identifier(&self.table)
        )
    }

    /// The statement that makes it.
    pub fn creation(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({} bigint NOT NULL PRIMARY KEY)",
            self.quoted(),
            quote_identifier(&self.column)
        )
    }

    /// The statement that lets `role` write to it.
    pub fn grant(&self, role: &str) -> String {
        format!(
            "GRANT INSERT, DELETE ON {} TO {}",
            self.quoted(),
            quote_identifier(role)
        )
    }
}

impl Carrier {
    /// One beat, as one transaction. Takes INSERT and DELETE on the table and
    /// no SELECT, which an UPDATE of the row there is or an ON CONFLICT would.
    fn statement(&self) -> String {
        const NOW: &str =
            "(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000)::bigint";
        match self {
            Carrier::Message => format!(
                "SELECT pg_catalog.pg_logical_emit_message(true, {}, {NOW}::text)",
                quote_literal(PREFIX)
            ),
            Carrier::Row(table) => format!(
                "DELETE FROM {name}; INSERT INTO {name} ({}) VALUES ({NOW})",
                quote_identifier(&table.column),
                name = table.quoted()
            ),
        }
    }

    /// Its table, if it has one.
    pub fn table(self) -> Option<Table> {
        match self {
            Carrier::Message => None,
            Carrier::Row(table) => Some(table),
        }
    }

    fn title(&self) -> String {
        match self {
            Carrier::Message => format!("logical message {PREFIX}"),
            Carrier::Row(table) => format!("table {}", table.name()),
        }
    }
}

/// Stops the heartbeat when it is dropped.
pub struct Beating(Option<JoinHandle<()>>);

impl Drop for Beating {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Starts the heartbeat, if there is to be one, on a task of its own.
/// `publication`: what the run reads through, if it reads `pgoutput`.
pub fn start(
    heartbeat: Option<&Heartbeat>,
    conninfo: &Conninfo,
    publication: Option<&str>,
) -> Beating {
    let Some(heartbeat) = heartbeat.cloned() else {
        return Beating(None);
    };
    let mut conninfo = conninfo.clone();
    conninfo.application_name.push_str(" heartbeat");
    let publication = publication.map(str::to_owned);
    Beating(Some(tokio::spawn(async move {
        beat_for_ever(&heartbeat, &conninfo, publication.as_deref()).await;
    })))
}

async fn beat_for_ever(heartbeat: &Heartbeat, conninfo: &Conninfo, publication: Option<&str>) {
    let mut said = Said::default();
    loop {
        let failure = match beat(heartbeat, conninfo, publication, &mut said).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        said.failed(heartbeat, &conninfo.user, &failure);
        tokio::time::sleep(heartbeat.interval.max(PAUSE)).await;
    }
}

/// Beats until something fails.
async fn beat(
    heartbeat: &Heartbeat,
    conninfo: &Conninfo,
    publication: Option<&str>,
    said: &mut Said,
) -> Result<std::convert::Infallible> {
    let mut connection = Connection::connect(conninfo, Replication::Off).await?;
    // A beat that waits for a lock would wait where nobody sees it.
    within(connection.simple_query(&format!("SET lock_timeout = '{}s'", PATIENCE.as_secs() / 2)))
        .await?;
    if let Carrier::Row(table) = &heartbeat.carrier {
        if table.create {
            make(&mut connection, table).await?;
        }
        if let Some(publication) = publication {
            look_into(&mut connection, table, publication, said).await?;
        }
    }
    let statement = heartbeat.carrier.statement();
    let mut rhythm = tokio::time::interval(heartbeat.interval);
    rhythm.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rhythm.tick().await;
        within(connection.simple_query(&statement)).await?;
        said.well(heartbeat);
    }
}

async fn within<T>(query: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, query)
        .await
        .unwrap_or_else(|_| {
            Err(Failure::transient(format!(
                "no answer within {} s",
                PATIENCE.as_secs()
            )))
        })
}

/// Makes the table where it is missing: `IF NOT EXISTS` would ask for the right
/// to make it even where it is there.
async fn make(connection: &mut Connection, table: &Table) -> Result<()> {
    let there = format!(
        "SELECT pg_catalog.to_regclass({}) IS NOT NULL AS there",
        quote_literal(&table.quoted())
    );
    let rows = within(connection.simple_query(&there)).await?;
    if !rows.first().is_some_and(|row| row.is_true("there")) {
        within(connection.simple_query(&table.creation())).await?;
        tracing::info!("made the heartbeat table {}", table.name());
    }
    Ok(())
}

/// Says it once when the publication does not have the table.
async fn look_into(
    connection: &mut Connection,
    table: &Table,
    publication: &str,
    said: &mut Said,
) -> Result<()> {
    let oid = format!(
        "SELECT pg_catalog.to_regclass({})::oid AS oid",
        quote_literal(&table.quoted())
    );
    let rows = within(connection.simple_query(&oid)).await?;
    let Some(oid) = rows.first().and_then(|row| row.parse("oid")) else {
        return Ok(());
    };
    let found = within(publications(connection)).await?;
    let publishes = found
        .iter()
        .find(|found| found.name == publication)
        .is_some_and(|found| found.publishes(oid));
    if !publishes && !std::mem::replace(&mut said.unpublished, true) {
        tracing::warn!(
            "the heartbeat table {} is not in publication {publication}: its beats do not come through; ALTER PUBLICATION {} ADD TABLE {} adds it",
            table.name(),
            quote_identifier(publication),
            table.quoted()
        );
    }
    Ok(())
}

/// What was said already.
#[derive(Default)]
struct Said {
    beating: bool,
    failed: bool,
    unpublished: bool,
}

impl Said {
    fn well(&mut self, heartbeat: &Heartbeat) {
        if std::mem::replace(&mut self.failed, false) {
            tracing::info!("the heartbeat beats again");
        } else if !std::mem::replace(&mut self.beating, true) {
            tracing::info!(
                "heartbeat: {} every {:?}",
                heartbeat.carrier.title(),
                heartbeat.interval
            );
        }
        self.beating = true;
    }

    fn failed(&mut self, heartbeat: &Heartbeat, role: &str, failure: &Failure) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        let failure = explain(heartbeat, role, failure.clone());
        tracing::warn!(
            "the heartbeat fails, and the run goes on without it until it works: {failure}"
        );
    }
}

/// Adds what mends it.
fn explain(heartbeat: &Heartbeat, role: &str, failure: Failure) -> Failure {
    let Carrier::Row(table) = &heartbeat.carrier else {
        return failure;
    };
    let hint = match failure.sqlstate.as_deref() {
        // undefined_table, invalid_schema_name.
        Some("42P01" | "3F000") => {
            format!("{}; or --create-heartbeat-table", table.creation())
        }
        Some("42703") => format!(
            "the column is named by column-name in the section heartbeat; the table as walferry makes it: {}",
            table.creation()
        ),
        Some("42501") if table.create => format!(
            "as its owner {}; or have the schema's owner make it: {}",
            table.grant(role),
            table.creation()
        ),
        Some("42501") => format!("as its owner: {}", table.grant(role)),
        Some("25006") => {
            "the source is a standby or read-only, where nothing can be written: name the primary, or leave the heartbeat out".to_owned()
        }
        _ if failure.class == Class::Transient => return failure,
        _ => return failure,
    };
    failure.hint(hint)
}
