//! The output plugins whose slots can be read.

use std::fmt;

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
