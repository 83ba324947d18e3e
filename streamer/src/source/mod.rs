//! The source server: connection, slot, stream, feedback.
//!
//! [`conninfo`] says where the server is and who we are there, [`connection`]
//! speaks to it, inside [`tls`] where that is asked for, [`slot`] finds or makes
//! the replication slot, [`replication`]
//! (or [`polling`], where replication connections are refused; [`changes`] is
//! either) reads it, [`catalog`] tells what a
//! plugin's rows leave out, and [`identity`] which tables can't name their old
//! rows. [`preflight`] looks beforehand whether all that would work.
//! [`report`] turns what the server refuses into a [`crate::error::Failure`]
//! with its cure.

pub mod catalog;
pub mod changes;
pub mod connection;
pub mod conninfo;
pub mod ddl_capture;
pub mod identity;
pub mod plugin;
pub mod polling;
pub mod preflight;
pub mod publication;
pub mod replication;
pub mod report;
pub mod secret;
pub mod slot;
pub mod table_filter;
pub mod tls;
