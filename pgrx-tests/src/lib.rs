//! What walferry's tests stand on: real throw-away PostgreSQL servers, the
//! streamer as a child process, and a proxy that breaks connections.
//!
//! Everything here panics with an explanation instead of returning errors:
//! its callers are tests.

mod account;
mod fault_proxy;
pub mod frames;
mod seed;
mod server;
mod server_tree;
mod statements;
mod streamer;
mod wait;
mod walsender;

pub use fault_proxy::FaultProxy;
pub use seed::random_seed;
pub use server::{Builder, Encoding, Server, Shutdown};
pub use server_tree::{ServerTree, checkout, target};
pub use statements::Statements;
pub use streamer::{Exit, Streamer, StreamerBuilder};
pub use wait::{wait_until, wait_within};
pub use walsender::{Received, ServerError, Walsender};
