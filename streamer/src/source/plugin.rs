//! The output plugins whose slots can be read.

use std::fmt;

use super::connection::Connection;
use crate::error::Result;

/// A slot's output plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// The extension's own, format `native`.
    Walferry,
    Wal2json,
    /// The server's own, of its logical replication.
    Pgoutput,
}

impl Plugin {
    /// Its name in a slot (`pg_replication_slots.plugin`).
    pub fn name(self) -> &'static str {
        match self {
            Plugin::Walferry => "walferry",
            Plugin::Wal2json => "wal2json",
            Plugin::Pgoutput => "pgoutput",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Plugin::Walferry, Plugin::Wal2json, Plugin::Pgoutput]
            .into_iter()
            .find(|plugin| plugin.name() == name)
    }
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether the server has walferry's plugin, as far as can be told without
/// loading it: its extension is installed, and the list of plugins that may be
/// loaded has it or can't be read.
///
/// # Errors
/// What the server refuses.
pub async fn walferry_is_usable(connection: &mut Connection) -> Result<bool> {
    let rows = connection
        .simple_query(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'walferry') \
             AND coalesce((SELECT setting ~ '(^|[ ,\"])walferry($|[ ,\"])' FROM pg_catalog.pg_settings \
               WHERE name = 'output_plugin_libraries'), true) AS usable",
        )
        .await?;
    Ok(rows.first().is_some_and(|row| row.is_true("usable")))
}
