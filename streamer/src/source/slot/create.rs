//! Making a slot.
//!
//! The server builds a slot's first snapshot once every transaction that was
//! open has ended (`SnapBuildWaitSnapshot`), which may take as long as the
//! longest of them. Meanwhile the walsender does not look at its socket, so a
//! client that goes away leaves it waiting, with a half-made slot. Hence three
//! measures: a second connection names who is waited for; a cancel request is
//! sent whenever this future is dropped; and `lock_timeout` ends the wait of a
//! walsender whose client was killed.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::cure;
use crate::error::{Failure, Result};
use crate::source::connection::{
    CancelOnDrop, Connection, Replication, quote_identifier, quote_literal,
};
use crate::source::conninfo::Conninfo;
use crate::source::report::Doing;

/// How often it is looked who is waited for.
const LOOK: Duration = Duration::from_secs(2);

/// How often the same blocker is named again.
const REPEAT: Duration = Duration::from_secs(60);

/// How long an abandoned walsender may go on waiting for one transaction. For
/// us it is no limit: the command is given again.
const ABANDONED: &str = "15min";

/// A slot to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSlot {
    pub name: String,
    pub plugin: String,
    /// Ends with the connection that makes it.
    pub temporary: bool,
    pub two_phase: bool,
    /// Synchronized to standbys; PostgreSQL 17 and later.
    pub failover: bool,
}

impl NewSlot {
    /// What makes it on this connection.
    pub(in crate::source) fn making(&self, connection: &Connection) -> String {
        let version = connection.server_version();
        match connection.replication() {
            Replication::Database => self.command(version),
            Replication::Off => self.statement(version),
        }
    }

    /// [`NewSlot::command`] by SQL, for an ordinary backend.
    fn statement(&self, version: u32) -> String {
        let mut further = format!("{}, {}", self.temporary, self.two_phase);
        if version >= 170_000 {
            further.push_str(&format!(", {}", self.failover));
        }
        format!(
            "SELECT pg_catalog.pg_create_logical_replication_slot({}, {}, {further})",
            quote_literal(&self.name),
            quote_literal(&self.plugin)
        )
    }

    /// CREATE_REPLICATION_SLOT in the grammar of the server's version: options
    /// in parentheses since 15, words before.
    fn command(&self, version: u32) -> String {
        let mut command = format!("CREATE_REPLICATION_SLOT {}", quote_identifier(&self.name));
        if self.temporary {
            command.push_str(" TEMPORARY");
        }
        command.push_str(&format!(" LOGICAL {}", quote_identifier(&self.plugin)));
        if version >= 150_000 {
            let mut options = vec!["SNAPSHOT 'nothing'"];
            if self.two_phase {
                options.push("TWO_PHASE true");
            }
            if self.failover {
                options.push("FAILOVER true");
            }
            command.push_str(&format!(" ({})", options.join(", ")));
        } else {
            command.push_str(" NOEXPORT_SNAPSHOT");
            if self.two_phase {
                command.push_str(" TWO_PHASE");
            }
        }
        command
    }
}

/// Makes a slot, on a connection of either kind, however long open
/// transactions hold it up, naming them in the log. When the future is dropped
/// the server is told to give up.
///
/// # Errors
/// What the server refuses, with its cure.
pub async fn create(connection: &mut Connection, slot: &NewSlot) -> Result<()> {
    super::check_name(&slot.name)?;
    let version = connection.server_version();
    if slot.failover && version < 170_000 {
        return Err(Failure::usage(format!(
            "failover slots need PostgreSQL 17, and the server is {}",
            connection.parameter("server_version").unwrap_or("older")
        ))
        .hint("leave --failover out"));
    }
    connection
        .simple_query(&format!("SET lock_timeout = '{ABANDONED}'"))
        .await?;
    let mut watch = Watch::new(connection);
    let outcome = loop {
        match create_once(connection, slot, &mut watch).await {
            Err(failure) if failure.sqlstate.as_deref() == Some("55P03") => {}
            outcome => break outcome,
        }
    };
    match outcome {
        Ok(()) => {
            connection.simple_query("RESET lock_timeout").await?;
            Ok(())
        }
        Err(failure) => Err(cure::explain(connection, failure, &slot.plugin).await),
    }
}

async fn create_once(connection: &mut Connection, slot: &NewSlot, watch: &mut Watch) -> Result<()> {
    let guard = CancelOnDrop::new(connection.cancel_token());
    let command = slot.making(connection);
    let doing = Doing::CreatingSlot {
        slot: &slot.name,
        plugin: &slot.plugin,
    };
    let mut creation = std::pin::pin!(connection.run(&command, &doing));
    let mut ticks = interval_at(Instant::now() + LOOK, LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            outcome = &mut creation => break outcome,
            _ = ticks.tick() => {}
        }
        tokio::select! {
            outcome = &mut creation => break outcome,
            () = watch.look(&slot.name) => {}
        }
    };
    guard.ended();
    outcome.map(|_| ())
}

/// Who holds the creation up, seen from a second connection.
struct Watch {
    conninfo: Conninfo,
    /// Our walsender.
    process_id: i32,
    connection: Option<Connection>,
    named: BTreeSet<String>,
    named_at: Instant,
    gave_up: bool,
}

impl Watch {
    fn new(connection: &Connection) -> Self {
        let mut conninfo = connection.conninfo().clone();
        // The process id means something only on that very server.
        conninfo.hosts = vec![connection.host().clone()];
        Watch {
            conninfo,
            process_id: connection.process_id(),
            connection: None,
            named: BTreeSet::new(),
            named_at: Instant::now(),
            gave_up: false,
        }
    }

    async fn look(&mut self, slot: &str) {
        if self.gave_up {
            return;
        }
        match self.blockers().await {
            Ok(blockers) => self.name(slot, &blockers),
            Err(failure) => {
                self.gave_up = true;
                tracing::warn!(
                    "creating slot \"{slot}\" waits for open transactions, and which they are can't be asked: {}",
                    failure.message
                );
            }
        }
    }

    async fn blockers(&mut self) -> Result<Vec<Blocker>> {
        if self.connection.is_none() {
            let opened = Connection::connect(&self.conninfo, Replication::Off).await?;
            self.connection = Some(opened);
        }
        let Some(connection) = &mut self.connection else {
            return Ok(Vec::new());
        };
        // What another session runs may hold a password; such text is left out.
        let sql = format!(
            "SELECT a.pid::text AS pid, a.usename AS owner, a.state, \
             pg_catalog.date_trunc('second', pg_catalog.now() - a.xact_start)::text AS age, \
             CASE WHEN a.query ~* 'password|secret' THEN '(not shown)' \
             ELSE pg_catalog.left(pg_catalog.regexp_replace(a.query, '\\s+', ' ', 'g'), 200) END AS query, \
             NULL AS gid \
             FROM pg_catalog.pg_stat_activity a \
             WHERE a.pid = ANY (pg_catalog.pg_blocking_pids({pid})) \
             UNION ALL \
             SELECT NULL, p.owner, NULL, \
             pg_catalog.date_trunc('second', pg_catalog.now() - p.prepared)::text, NULL, p.gid \
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = l.transactionid \
             WHERE l.pid = {pid} AND NOT l.granted AND l.locktype = 'transactionid'",
            pid = self.process_id
        );
        let rows = connection.simple_query(&sql).await?;
        let text = |value: Option<&str>| value.unwrap_or("unknown").to_owned();
        Ok(rows
            .iter()
            .map(|row| match row.get("gid") {
                Some(gid) => Blocker {
                    who: format!(
                        "prepared transaction '{gid}' of role {}",
                        text(row.get("owner"))
                    ),
                    age: text(row.get("age")),
                    query: None,
                    cure: format!("ROLLBACK PREPARED '{gid}' or COMMIT PREPARED '{gid}'"),
                },
                None => {
                    let pid = text(row.get("pid"));
                    Blocker {
                        who: format!(
                            "PID {pid} of role {}, {}",
                            text(row.get("owner")),
                            text(row.get("state"))
                        ),
                        age: text(row.get("age")),
                        query: row
                            .get("query")
                            .filter(|query| !query.is_empty())
                            .map(str::to_owned),
                        cure: format!("SELECT pg_terminate_backend({pid})"),
                    }
                }
            })
            .collect())
    }

    /// Says it when it is new, and again now and then.
    fn name(&mut self, slot: &str, blockers: &[Blocker]) {
        let now: BTreeSet<String> = blockers.iter().map(|blocker| blocker.who.clone()).collect();
        if now.is_empty() || now == self.named && self.named_at.elapsed() < REPEAT {
            return;
        }
        self.named = now;
        self.named_at = Instant::now();
        for blocker in blockers {
            tracing::warn!(
                "creating slot \"{slot}\" waits for a transaction that was open before: {}, open for {}{}; to end it: {}",
                blocker.who,
                blocker.age,
                blocker
                    .query
                    .as_ref()
                    .map(|query| format!(", last statement: {query}"))
                    .unwrap_or_default(),
                blocker.cure
            );
        }
    }
}

/// A transaction that the new slot has to wait for.
struct Blocker {
    who: String,
    age: String,
    query: Option<String>,
    cure: String,
}

#[cfg(test)]
mod tests {
    use super::NewSlot;

    #[test]
    fn the_command_follows_the_servers_grammar() {
        let mut slot = NewSlot {
            name: "s".into(),
            plugin: "walferry".into(),
            temporary: true,
            two_phase: true,
            failover: false,
        };
        assert_eq!(
            slot.command(140_000),
            r#"CREATE_REPLICATION_SLOT "s" TEMPORARY LOGICAL "walferry" NOEXPORT_SNAPSHOT TWO_PHASE"#
        );
        assert_eq!(
            slot.command(150_000),
            r#"CREATE_REPLICATION_SLOT "s" TEMPORARY LOGICAL "walferry" (SNAPSHOT 'nothing', TWO_PHASE true)"#
        );
        slot.temporary = false;
        slot.failover = true;
        assert!(slot.command(170_000).ends_with("FAILOVER true)"));
    }
}
