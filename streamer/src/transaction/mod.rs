//! Streamed and prepared transactions are put together before they are decoded.
//!
//! - [`dialect`]: what a plugin's records need to be read.
//! - [`fragments`]: a record too large for one frame becomes one again.
//! - [`spool`]: pieces of a transaction that is not finished, in memory and,
//!   past a budget, in a file.
//! - [`streamed`]: the transactions in progress of a connection. They are not
//!   outstanding: after a reconnect the server sends them again from the
//!   beginning, so their spools are dropped with the connection.
//! - [`prepared`]: rows that came with a PREPARE, kept until its COMMIT
//!   PREPARED. The server does not send them again once the PREPARE is
//!   acknowledged, so they are durable before it is ([`prepared_file`] is how).

pub mod dialect;
pub mod fragments;
pub mod prepared;
pub mod prepared_file;
pub mod spill_dir;
pub mod spool;
pub mod streamed;

pub use dialect::Dialect;
