//! Replication slots.

/// Which slot a run reads, and what it may do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRequest {
    /// `None`: a temporary slot that ends with the connection.
    pub name: Option<String>,
    /// The output plugin the slot must have.
    pub plugin: String,
    /// Make the slot when it is missing.
    pub create: bool,
    /// End the process that reads the slot instead of waiting for it.
    pub takeover: bool,
    /// Ask for prepared transactions at PREPARE. A slot once read with this
    /// keeps it for good.
    pub two_phase: bool,
}
