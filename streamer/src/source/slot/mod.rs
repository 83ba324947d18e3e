//! Replication slots: what they are ([`SlotInfo`]), making one without leaving
//! anything behind ([`create`]), having the one a run needs ([`ensure`]), and
//! saying in words how one fares ([`verdict`]).

pub mod create;
pub mod cure;
pub mod ensure;
mod info;
pub mod verdict;

pub use create::{NewSlot, create};
pub use ensure::{Ensured, SlotRequest, ensure};
pub use info::{SlotInfo, SlotReader, find, list};

use std::time::Duration;

use super::connection::{Connection, quote_literal};
use super::report;
use crate::error::{Failure, Result};

/// How long a terminated reader may take to let go of its slot.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a slot is looked at while something is waited for.
const POLL: Duration = Duration::from_millis(200);

/// A slot's name as the server takes it (`ReplicationSlotValidateName`).
///
/// # Errors
/// Usage.
pub fn check_name(name: &str) -> Result<()> {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(valid) {
        return Err(Failure::usage(format!("{name:?} is not a slot's name"))
            .hint("a slot's name has at most 63 lower-case letters, digits and underscores"));
    }
    Ok(())
}

/// The slot of this name.
///
/// # Errors
/// Definite, with the ways to make it, when there is none.
pub async fn get(connection: &mut Connection, name: &str) -> Result<SlotInfo> {
    find(connection, name).await?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Failure {
    Failure::definite(format!("replication slot \"{name}\" does not exist"))
        .sqlstate("42704")
        .hint(report::missing_slot(name))
}

/// Drops a slot. With `terminate` a reader is ended, and ended again where it
/// comes back before the slot is gone: a run connects anew by itself.
///
/// # Errors
/// Definite when it is missing, or in use and `terminate` is not set.
pub async fn drop(connection: &mut Connection, name: &str, terminate: bool) -> Result<()> {
    let deadline = tokio::time::Instant::now() + RELEASE_TIMEOUT;
    loop {
        let info = find(connection, name).await?.ok_or_else(|| {
            missing(name).hint("walferry slot list shows the slots that there are")
        })?;
        if let Some(reader) = &info.reader {
            if !terminate {
                return Err(in_use(name, reader));
            }
            terminate_reader(connection, &info).await?;
        }
        let sql = format!(
            "SELECT pg_catalog.pg_drop_replication_slot({})",
            quote_literal(name)
        );
        match connection.simple_query(&sql).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.sqlstate.as_deref() == Some("55006") => {
                if !terminate || tokio::time::Instant::now() >= deadline {
                    return Err(failure.hint("its reader comes back by itself: stop it first"));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn in_use(name: &str, reader: &SlotReader) -> Failure {
    Failure::definite(format!(
        "replication slot \"{name}\" is in use by {reader}"
    ))
    .sqlstate("55006")
    .hint(format!(
        "stop that process first, or add --terminate, which runs SELECT pg_terminate_backend({})",
        reader.pid
    ))
}

/// Ends the process that reads a slot, and waits until it has let go.
pub(super) async fn terminate_reader(connection: &mut Connection, info: &SlotInfo) -> Result<()> {
    let Some(reader) = &info.reader else {
        return Ok(());
    };
    tracing::warn!("terminating {reader}, which reads slot \"{}\"", info.name);
    // Asks for the pid again: the one seen before may belong to somebody else by now.
    let sql = format!(
        "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots \
         WHERE slot_name = {} AND active_pid = {}",
        quote_literal(&info.name),
        reader.pid
    );
    connection.simple_query(&sql).await.map_err(|failure| {
        let user = &connection.conninfo().user;
        let hint = format!(
            "GRANT pg_signal_backend TO \"{user}\"; a superuser's process takes a superuser to end"
        );
        failure.hint(hint)
    })?;
    let deadline = tokio::time::Instant::now() + RELEASE_TIMEOUT;
    // At first often: what was ended may come back.
    let mut pause = Duration::from_millis(5);
    while tokio::time::Instant::now() < deadline {
        match find(connection, &info.name).await? {
            Some(now) if now.reader.as_ref().is_some_and(|now| now.pid == reader.pid) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(POLL);
            }
            _ => return Ok(()),
        }
    }
    Err(Failure::definite(format!(
        "{reader} still holds slot \"{}\" {} s after it was terminated",
        info.name,
        RELEASE_TIMEOUT.as_secs()
    ))
    .hint("it may be stuck in a write to a disk or a network that does not answer"))
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn slot_names_are_the_servers() {
        check_name("ferry_2").unwrap();
        for bad in ["", "Ferry", "a-b", "a b", &"x".repeat(64)] {
            assert_eq!(check_name(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
