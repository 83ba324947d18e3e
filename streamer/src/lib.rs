//! walferry's streamer: reads a replication slot and delivers every committed
//! change to a sink.
//!
//! The modules stand in the order of a row's journey.

pub mod source;

pub mod datum;
pub mod decode;
pub mod event;

pub mod transaction;

pub mod filter;

pub mod encode;

pub mod pipeline;
pub mod sink;

pub mod ledger;
pub mod state;

pub mod cli;
pub mod config;
pub mod error;
pub mod failpoint;
pub mod heartbeat;
pub mod progress;
pub mod run;
