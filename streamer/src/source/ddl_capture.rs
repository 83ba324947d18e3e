//! Whether the source's database captures DDL (`sql/34_ddl_capture.sql`).

use super::connection::Connection;
use crate::error::Result;

/// What keeps schema changes from coming, of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    On,
    /// Schema walferry is there, and not all of its event triggers are enabled.
    Off,
    /// Neither the extension nor the managed pack is installed.
    NotInstalled,
}

/// The statement that turns it on.
pub const TURN_ON: &str = "SELECT walferry.ddl_capture_on()";

/// What the catalog says; any role may read it.
///
/// # Errors
/// What the server refuses.
pub async fn ask(connection: &mut Connection) -> Result<Capture> {
    let rows = connection
        .simple_query(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
               WHERE n.nspname = 'walferry' AND p.proname = 'capture_ddl') AS installed, \
             (SELECT pg_catalog.count(*) FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled = 'A' \
               AND e.evtname IN ('walferry_ddl_command_end', 'walferry_sql_drop', 'walferry_table_rewrite')) = 3 AS enabled",
        )
        .await?;
    let row = rows.first();
    Ok(if row.is_some_and(|row| row.is_true("enabled")) {
        Capture::On
    } else if row.is_some_and(|row| row.is_true("installed")) {
        Capture::Off
    } else {
        Capture::NotInstalled
    })
}

/// Says once why no schema change will come, if none will.
///
/// # Errors
/// What the server refuses.
pub async fn warn_unless_on(connection: &mut Connection) -> Result<()> {
    let database = &connection.conninfo().dbname.clone();
    match ask(connection).await? {
        Capture::On => tracing::info!("schema changes of database \"{database}\" are captured"),
        Capture::Off => tracing::warn!(
            "DDL of database \"{database}\" is not captured, so no schema changes will come; as a superuser: {TURN_ON}"
        ),
        Capture::NotInstalled => tracing::warn!(
            "DDL of database \"{database}\" is not captured, so no schema changes will come: neither the extension walferry nor the managed pack is installed there; as a superuser: CREATE EXTENSION walferry; {TURN_ON}"
        ),
    }
    Ok(())
}
