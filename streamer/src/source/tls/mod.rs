//! TLS as libpq has it: when it is used, whom it trusts, who we say we are.
//!
//! [`settings`] is what was asked for, [`trust`] the authorities and the
//! certificates they revoked, [`verify`] the verdict on the server's
//! certificate ([`name`]: on its names), [`client`] and [`key`] our own
//! certificate and its key, [`handshake`] the negotiation, [`binding`] what
//! ties SCRAM to the server's certificate. Meanings are those of "Secure TCP/IP
//! Connections with SSL" and "SSL Support" in PostgreSQL's documentation
//! (`src/interfaces/libpq/fe-secure-openssl.c`); `docs/connecting.md` lists
//! where this differs.

mod binding;
mod client;
mod handshake;
mod key;
mod name;
mod settings;
mod trust;
mod verify;

pub use handshake::{Handshake, Secured, ask, failure_of};
pub use settings::{ChannelBinding, SslMode, TlsSettings};
