//! The way from the socket to the sink.
//!
//! ```text
//! receive (tokio) → assembler → workers (N) → deliver → flusher → ledger
//!                        └── marks ───────────↗              feedback (tokio) ← ledger
//! ```
//! - [`receive`] takes CopyData messages off the socket, without copying.
//! - [`assembler`] reads frame headers, takes in definitions, puts streamed
//!   and prepared transactions together and numbers jobs in commit order.
//! - [`worker`]s decode and encode; they finish in any order.
//! - [`deliver`] puts that order right, writes to the sink and accepts
//!   positions. Keepalives and other positions without events travel through
//!   the same numbered queue, so that "nothing outstanding" is exact.
//! - [`flusher`] makes durable what was accepted, saves the state, and only
//!   then moves the ledger.
//! - [`feedback`] tells the server, on its own task, however slow the sink is.
//!
//! [`budget`] bounds the bytes between assembler and sink; backpressure
//! reaches the socket through the bounded channels.

pub mod assembler;
pub mod budget;
pub mod deliver;
pub mod dispatch;
pub mod feedback;
pub mod flusher;
pub mod order;
pub mod receive;
pub mod session;
pub mod worker;
