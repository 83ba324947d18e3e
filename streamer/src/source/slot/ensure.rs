//! The slot a run needs: there, ours to read, and free.

use std::time::Duration;

use tokio::time::Instant;

use super::{NewSlot, SlotInfo, create, find, get, missing, terminate_reader, verdict};
use crate::error::{Failure, Result};
use crate::source::connection::Connection;
use crate::source::plugin::Plugin;

/// How much longer than `wal_sender_timeout` a slot's reader is waited for.
const GRACE: Duration = Duration::from_secs(5);

/// The wait where the server has no `wal_sender_timeout`.
const WITHOUT_TIMEOUT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(500);

/// Which slot a run reads, and what it may do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRequest {
    /// `None`: a temporary slot that ends with the connection.
    pub name: Option<String>,
    /// The output plugin the slot must have; `None`: whichever suits the source.
    pub plugin: Option<Plugin>,
    /// Make the slot when it is missing.
    pub create: bool,
    /// End the process that reads the slot instead of waiting for it.
    pub takeover: bool,
    /// Ask for prepared transactions at PREPARE. A slot once read with this
    /// keeps it for good.
    pub two_phase: bool,
}

/// A slot that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensured {
    pub info: SlotInfo,
    /// It was made just now: nothing before it is to be had.
    pub created: bool,
}

/// Finds or makes the slot of `plugin`, and waits while another process still reads it: after a crash
/// or a cut the server needs `wal_sender_timeout` to notice that we are gone.
///
/// # Errors
/// Definite: the slot is missing and may not be made, belongs to another
/// plugin or database, is lost, or somebody who is alive reads it.
pub async fn ensure(
    connection: &mut Connection,
    request: &SlotRequest,
    plugin: &str,
) -> Result<Ensured> {
    let name = match &request.name {
        Some(name) => name.clone(),
        // One per connection: the process id is unique among the living.
        None => format!("walferry_temporary_{}", connection.process_id()),
    };
    if request.name.is_some()
        && let Some(info) = find(connection, &name).await?
    {
        check(&info, plugin, &connection.conninfo().dbname)?;
        let info = wait_until_free(connection, info, request.takeover).await?;
        return Ok(Ensured {
            info,
            created: false,
        });
    }
    if request.name.is_some() && !request.create {
        return Err(missing(&name));
    }
    let slot = NewSlot {
        name: name.clone(),
        plugin: plugin.to_owned(),
        temporary: request.name.is_none(),
        two_phase: request.two_phase,
        failover: false,
    };
    create(connection, &slot).await?;
    let info = get(connection, &name).await?;
    if !slot.temporary {
        tracing::info!(
            "created slot \"{name}\" at {}",
            info.confirmed_flush_lsn.unwrap_or_default()
        );
    }
    Ok(Ensured {
        info,
        created: true,
    })
}

/// Whether the slot is one that this run can read at all.
fn check(info: &SlotInfo, wanted: &str, dbname: &str) -> Result<()> {
    let name = &info.name;
    let Some(plugin) = &info.plugin else {
        return Err(
            Failure::definite(format!("slot \"{name}\" is a physical replication slot"))
                .hint("choose another name; --create-slot makes a logical one"),
        );
    };
    if plugin != wanted {
        return Err(Failure::definite(format!(
            "slot \"{name}\" belongs to plugin {plugin}, not {wanted}"
        ))
        .hint(format!(
            "choose another slot (--slot NAME --create-slot), or if nobody needs this one: walferry slot drop {name}, then walferry slot create {name} --plugin {wanted}"
        )));
    }
    if let Some(database) = info
        .database
        .as_ref()
        .filter(|database| *database != dbname)
    {
        return Err(Failure::definite(format!(
            "slot \"{name}\" belongs to database {database}, and the source names {dbname}"
        ))
        .hint(format!(
            "name database {database} in --source, or choose another slot"
        )));
    }
    if info.is_lost() {
        let reason = info
            .invalidation
            .as_deref()
            .unwrap_or("the server removed WAL that it needed");
        return Err(
            Failure::definite(format!("slot \"{name}\" is lost: {reason}"))
                .hint(verdict::lost_cure(name)),
        );
    }
    Ok(())
}

async fn wait_until_free(
    connection: &mut Connection,
    mut info: SlotInfo,
    takeover: bool,
) -> Result<SlotInfo> {
    let Some(reader) = info.reader.clone() else {
        return Ok(info);
    };
    if takeover {
        terminate_reader(connection, &info).await?;
        return get(connection, &info.name).await;
    }
    let patience = patience(connection).await?;
    tracing::warn!(
        "slot \"{}\" is active for {reader}; waiting for it to end, at most {} s (--takeover ends it at once)",
        info.name,
        patience.as_secs()
    );
    let deadline = Instant::now() + patience;
    while let Some(reader) = &info.reader {
        if Instant::now() >= deadline {
            return Err(Failure::definite(format!(
                "slot \"{}\" is active for {reader}, which did not end within {} s and so is alive",
                info.name,
                patience.as_secs()
            ))
            .sqlstate("55006")
            .hint(format!(
                "stop that process, or add --takeover, which runs SELECT pg_terminate_backend({})",
                reader.pid
            )));
        }
        tokio::time::sleep(POLL).await;
        info = get(connection, &info.name).await?;
    }
    tracing::info!("slot \"{}\" is free", info.name);
    Ok(info)
}

/// How long the server takes to drop a reader that is gone.
async fn patience(connection: &mut Connection) -> Result<Duration> {
    let rows = connection
        .simple_query(
            "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'",
        )
        .await?;
    let milliseconds: u64 = rows
        .first()
        .and_then(|row| row.parse("setting"))
        .unwrap_or(0);
    Ok(match milliseconds {
        0 => WITHOUT_TIMEOUT,
        some => Duration::from_millis(some) + GRACE,
    })
}
