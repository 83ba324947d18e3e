//! What the server knows of its slots.

use std::fmt;

use serde::{Serialize, Serializer};
use walferry_protocol::Lsn;

use crate::error::Result;
use crate::source::connection::{Connection, Row, quote_literal};

/// A row of `pg_replication_slots`, with what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SlotInfo {
    pub name: String,
    /// `None`: a physical slot.
    pub plugin: Option<String>,
    pub database: Option<String>,
    pub temporary: bool,
    pub two_phase: bool,
    /// Synchronized to standbys; since PostgreSQL 17.
    pub failover: bool,
    /// Who reads it now.
    pub reader: Option<SlotReader>,
    /// The oldest WAL the slot keeps.
    #[serde(serialize_with = "lsn_text")]
    pub restart_lsn: Option<Lsn>,
    /// Commits that end at or before this are never sent again.
    #[serde(serialize_with = "lsn_text")]
    pub confirmed_flush_lsn: Option<Lsn>,
    /// Where the server's WAL ends now.
    #[serde(serialize_with = "lsn_text")]
    pub wal_end: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes of WAL that may still be written before the slot is in danger;
    /// `None` without `max_slot_wal_keep_size`.
    pub safe_wal_size: Option<i64>,
    /// Why the slot can't be used any more; since PostgreSQL 17, `conflict`
    /// since 16.
    pub invalidation: Option<String>,
    /// How many transactions ago the catalog rows are from that the slot keeps
    /// from being vacuumed.
    pub catalog_xmin_age: Option<i64>,
    /// Since when nobody reads it; since PostgreSQL 17.
    pub inactive_since: Option<String>,
}

/// A process that reads a slot. What the role may not see is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotReader {
    pub pid: i32,
    pub user: Option<String>,
    pub application_name: Option<String>,
    /// `None`: through a unix socket, or not to be seen.
    pub client: Option<String>,
}

/// `PID 4711 (walferry of ferry from 10.0.0.7)`
impl fmt::Display for SlotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PID {}", self.pid)?;
        let mut words = Vec::new();
        words.extend(self.application_name.clone());
        words.extend(self.user.as_ref().map(|user| format!("of role {user}")));
        words.extend(self.client.as_ref().map(|client| format!("from {client}")));
        if !words.is_empty() {
            write!(f, " ({})", words.join(" "))?;
        }
        Ok(())
    }
}

fn lsn_text<S: Serializer>(lsn: &Option<Lsn>, serializer: S) -> Result<S::Ok, S::Error> {
    match lsn {
        Some(lsn) => serializer.collect_str(lsn),
        None => serializer.serialize_none(),
    }
}

impl SlotInfo {
    /// Bytes of WAL the reader has not confirmed.
    pub fn lag(&self) -> Option<u64> {
        Some(self.wal_end?.0.saturating_sub(self.confirmed_flush_lsn?.0))
    }

    /// Bytes of WAL the server keeps for the slot.
    pub fn retained(&self) -> Option<u64> {
        Some(self.wal_end?.0.saturating_sub(self.restart_lsn?.0))
    }

    /// Whether the server has given the slot up for good.
    pub fn is_lost(&self) -> bool {
        self.invalidation.is_some() || self.wal_status.as_deref() == Some("lost")
    }

    fn read(row: &Row) -> Self {
        let text = |name| {
            row.get(name)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        SlotInfo {
            name: text("slot_name").unwrap_or_default(),
            plugin: text("plugin"),
            database: text("database"),
            temporary: row.is_true("temporary"),
            two_phase: row.is_true("two_phase"),
            failover: row.is_true("failover"),
            reader: row.parse("active_pid").map(|pid| SlotReader {
                pid,
                user: text("usename"),
                application_name: text("application_name"),
                client: text("client_addr"),
            }),
            restart_lsn: row.parse("restart_lsn"),
            confirmed_flush_lsn: row.parse("confirmed_flush_lsn"),
            wal_end: row.parse("wal_end"),
            wal_status: text("wal_status"),
            safe_wal_size: row.parse("safe_wal_size"),
            invalidation: text("invalidation"),
            catalog_xmin_age: row.parse("catalog_xmin_age"),
            inactive_since: text("inactive_since"),
        }
    }
}

/// All slots of the server, by name.
pub async fn list(connection: &mut Connection) -> Result<Vec<SlotInfo>> {
    query(connection, "true").await
}

/// The slot of this name, if there is one.
pub async fn find(connection: &mut Connection, name: &str) -> Result<Option<SlotInfo>> {
    let condition = format!("s.slot_name = {}", quote_literal(name));
    Ok(query(connection, &condition).await?.pop())
}

async fn query(connection: &mut Connection, condition: &str) -> Result<Vec<SlotInfo>> {
    let version = connection.server_version();
    let since = |major: u32, column: &'static str, otherwise: &'static str| {
        if version >= major * 10_000 {
            column
        } else {
            otherwise
        }
    };
    let invalidation = since(
        17,
        "s.invalidation_reason",
        since(
            16,
            "CASE WHEN s.conflicting THEN 'conflict with recovery' END",
            "NULL",
        ),
    );
    let sql = format!(
        "SELECT s.slot_name, s.plugin, s.database, s.temporary, s.two_phase, s.active_pid, \
         s.restart_lsn, s.confirmed_flush_lsn, s.wal_status, s.safe_wal_size, \
         pg_catalog.age(s.catalog_xmin) AS catalog_xmin_age, \
         {invalidation} AS invalidation, {} AS failover, {} AS inactive_since, \
         a.usename, a.application_name, a.client_addr, \
         CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
         ELSE pg_catalog.pg_current_wal_lsn() END AS wal_end \
         FROM pg_catalog.pg_replication_slots s \
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid \
         WHERE {condition} ORDER BY s.slot_name",
        since(17, "s.failover", "NULL"),
        since(17, "s.inactive_since", "NULL"),
    );
    let rows = connection.simple_query(&sql).await?;
    Ok(rows.iter().map(SlotInfo::read).collect())
}
