//! The source's catalog over an ordinary connection of its own: what a plugin
//! that can't be told to send it leaves out of its rows.
//!
//! The catalog is the present one, while the stream is in the past by as much
//! as it lags. So whoever asks compares what comes back with what the rows
//! themselves say, and keeps the answer: nothing here is asked per row.

mod query;

use std::collections::HashMap;

use tokio::runtime::Handle;
use tokio::sync::Mutex;
use walferry_protocol::Relation;

use super::connection::{Connection, Replication, Row};
use super::conninfo::Conninfo;
use crate::error::{Class, Failure, Result};

/// How a relation is named by whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find<'a> {
    /// `pg_class.oid`
    Oid(u32),
    Name {
        schema: &'a str,
        table: &'a str,
    },
}

/// A relation as the catalog has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Number 0; every column's encoding is text, since nothing but a plugin
    /// of ours sends datums. All else equals what the walferry plugin sends.
    pub relation: Relation,
    /// For each column whether its values may be stored out of line
    /// (`pg_type.typlen` -1), so that an UPDATE may leave one out.
    pub out_of_line: Vec<bool>,
}

/// What is known of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeDescription {
    pub oid: u32,
    pub schema: String,
    /// `pg_type.typname`
    pub name: String,
    /// What is under a domain; its own oid of any other type.
    pub base_oid: u32,
    /// See [`walferry_protocol::ColumnFlags::ARRAY`].
    pub is_array: bool,
    /// `pg_type.typlen` is -1.
    pub out_of_line: bool,
}

/// A relation's definition, over a connection that is at hand already.
///
/// # Errors
/// As [`Catalog::relation`].
pub async fn relation_over(connection: &mut Connection, find: Find<'_>) -> Result<Option<Found>> {
    query::relation_of(&connection.simple_query(&query::relation(find)).await?)
}

/// The connection. It is opened when first needed, and again when it broke.
///
/// Shared by threads; one question is asked at a time.
pub struct Catalog {
    conninfo: Conninfo,
    connection: Mutex<Option<Connection>>,
    /// The runtime that the connection's socket belongs to.
    runtime: Handle,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").finish_non_exhaustive()
    }
}

impl Catalog {
    /// Connects nowhere yet. Called within the runtime that is to do the I/O.
    pub fn new(conninfo: Conninfo) -> Self {
        Catalog {
            conninfo,
            connection: Mutex::new(None),
            runtime: Handle::current(),
        }
    }

    /// A relation's definition; `None` when there is no such relation (any
    /// more). For threads outside of the runtime: waits for the answer.
    ///
    /// # Errors
    /// Transient when the server can't be reached; its own errors else.
    pub fn relation(&self, find: Find<'_>) -> Result<Option<Found>> {
        self.runtime.block_on(self.find_relation(find))
    }

    /// [`Catalog::relation`] for tasks of the runtime.
    pub async fn find_relation(&self, find: Find<'_>) -> Result<Option<Found>> {
        query::relation_of(&self.ask(&query::relation(find)).await?)
    }

    /// These types by their oids; those that are gone are not in it. For
    /// threads outside of the runtime.
    ///
    /// # Errors
    /// As [`Catalog::relation`].
    pub fn types(&self, oids: &[u32]) -> Result<HashMap<u32, TypeDescription>> {
        if oids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self.runtime.block_on(self.ask(&query::types(oids)))?;
        query::types_of(&rows)
    }

    /// The name of a replication origin (`pg_replication_origin.roident`), if
    /// there is one still. For threads outside of the runtime.
    ///
    /// # Errors
    /// As [`Catalog::relation`].
    pub fn origin_name(&self, origin: u32) -> Result<Option<String>> {
        let sql =
            format!("SELECT roname FROM pg_catalog.pg_replication_origin WHERE roident = {origin}");
        let rows = self.runtime.block_on(self.ask(&sql))?;
        Ok(rows.first().and_then(|row| row.at(0)).map(str::to_owned))
    }

    /// One attempt on the connection at hand, which may have been cut while
    /// nobody asked, and one on a new one.
    async fn ask(&self, sql: &str) -> Result<Vec<Row>> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = &mut *kept {
            match connection.simple_query(sql).await {
                Err(failure) if failure.class == Class::Transient => *kept = None,
                answer => return answer,
            }
        }
        let mut connection = Connection::connect(&self.conninfo, Replication::Off)
            .await
            .map_err(|failure| Failure {
                message: format!("the source's catalog can't be read: {}", failure.message),
                ..failure
            })?;
        let answer = connection.simple_query(sql).await;
        *kept = Some(connection);
        answer
    }
}
