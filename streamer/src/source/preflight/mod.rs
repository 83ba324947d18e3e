//! What stands in the way of replicating a database, found by asking the
//! server and by trying: `walferry check`.
//!
//! One file a concern; each asks and judges, and puts its [`Finding`]s into
//! the [`Findings`]. The queries are the files in `sql/preflight/`.

mod ddl;
mod disk;
mod finding;
mod flavour;
mod heart;
mod publication;
mod relations;
mod replication;
mod role;
mod server;
mod slot;
mod transactions;

pub use finding::{Finding, Findings, Fix, FixKind, Verdict};
pub use flavour::Flavour;
pub use publication::{Publication, publications};
pub use relations::{Identity, Kind, Persistence, Reason, Relation, relations};

use super::connection::{Connection, Replication};
use super::conninfo::Conninfo;
use super::table_filter::TableFilter;
use crate::config::connection::LogReader;
use crate::error::{Failure, Result};
use crate::heartbeat;

/// What is to be replicated, and how.
#[derive(Clone, Debug)]
pub struct Question {
    pub conninfo: Conninfo,
    pub slot: Option<String>,
    /// Slots that are read beside it, each with the plugin it is said to have.
    pub further_slots: Vec<(String, Option<String>)>,
    /// Over the replication protocol or by polling.
    pub reader: LogReader,
    /// The run would make the slots.
    pub create_slot: bool,
    /// The output plugin that was asked for; `None`: whichever can be had.
    pub plugin: Option<String>,
    pub publication: Option<String>,
    pub tables: TableFilter,
    /// Tables were chosen, so that each of them has to come through.
    pub chosen: bool,
    pub accept_missing_identity: bool,
    /// The mode that was asked for reads no rows with SELECT.
    pub changes_only: bool,
    /// The table that a heartbeat is to be written to.
    pub heartbeat: Option<heartbeat::Table>,
    /// Captured DDL is to be delivered.
    pub schema_changes: bool,
}

impl Question {
    /// The publication that `pgoutput` reads.
    fn publication(&self) -> &str {
        let named = self.publication.as_deref();
        named.unwrap_or(super::publication::DEFAULT_NAME)
    }

    /// Whether the table is the heartbeat's.
    fn is_heartbeat(&self, schema: &str, table: &str) -> bool {
        let of = self.heartbeat.as_ref();
        of.is_some_and(|of| of.schema == schema && of.table == table)
    }
}

/// What was found out about a source.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// `None`: no connection came about.
    pub flavour: Option<Flavour>,
    pub server_version: Option<String>,
    pub findings: Vec<Finding>,
}

impl Report {
    /// The gravest of its verdicts.
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.findings.iter().map(|finding| finding.verdict);
        verdicts.max().unwrap_or(Verdict::Pass)
    }
}

/// Examines a source. Whatever goes wrong is a finding.
pub async fn examine(question: &Question) -> Report {
    let mut findings = Findings::default();
    let mut report = Report {
        flavour: None,
        server_version: None,
        findings: Vec::new(),
    };
    match Connection::connect(&question.conninfo, Replication::Off).await {
        Err(failure) => findings.refused("connection", None, &failure),
        Ok(mut connection) => {
            report.server_version = connection.parameter("server_version").map(str::to_owned);
            match server::Server::ask(&mut connection).await {
                Err(failure) => findings.unknown("server", &failure),
                Ok(server) => {
                    report.flavour = Some(server.flavour);
                    look(&mut connection, &server, question, &mut findings).await;
                }
            }
            connection.close().await;
        }
    }
    report.findings = findings.into_vec();
    report
}

async fn look(
    connection: &mut Connection,
    server: &server::Server,
    question: &Question,
    findings: &mut Findings,
) {
    let say = |code, outcome: Result<()>, findings: &mut Findings| {
        if let Err(failure) = outcome {
            findings.unknown(code, &failure);
        }
    };
    let slot = match slot::State::ask(connection, server, question).await {
        Ok(slot) => slot,
        Err(failure) => {
            findings.unknown("slot", &failure);
            slot::State::default()
        }
    };
    let senders = match question.reader {
        LogReader::Stream => Some(slot.readers_to_come()),
        LogReader::Sql => None,
    };
    server.judge(connection, senders, findings);
    let role = match role::Role::ask(connection).await {
        Ok(role) => Some(role),
        Err(failure) => {
            findings.unknown("role", &failure);
            None
        }
    };
    slot.judge(server, question, findings);
    let attempt = replication::attempt(connection, server, question, &slot).await;
    replication::judge(
        connection,
        server,
        role.as_ref(),
        question,
        &attempt,
        findings,
    )
    .await;
    replication::judge_further_plugins(connection, server, question, &slot, &attempt, findings)
        .await;
    let outcome = transactions::judge(connection, &slot, &attempt, findings).await;
    say("open_transactions", outcome, findings);
    match relations(connection).await {
        Err(failure) => findings.unknown("tables", &failure),
        Ok(relations) => {
            let name = role
                .as_ref()
                .map_or(question.conninfo.user.as_str(), |role| role.name.as_str());
            let published = match attempt.plugin() {
                Some("pgoutput") => publications(connection).await,
                _ => Ok(Vec::new()),
            };
            let by_root = published.as_ref().is_ok_and(|published| {
                let found = published
                    .iter()
                    .find(|one| one.name == question.publication());
                found.is_some_and(|publication| publication.via_root)
            });
            relations::judge(&relations, name, question, by_root, findings);
            match published {
                Err(failure) => findings.unknown("publication", &failure),
                Ok(_) if attempt.plugin() != Some("pgoutput") => {}
                Ok(published) => {
                    let may_make = publication::may_make(role.as_ref(), &slot, question);
                    publication::judge(&published, &relations, question, may_make, findings);
                    heart::judge_publication(&published, &relations, question, findings);
                    ddl::judge_publication(&published, &relations, question, findings);
                }
            }
        }
    }
    let outcome = heart::judge(connection, question, findings).await;
    say("heartbeat", outcome, findings);
    let outcome = ddl::judge(connection, question, findings).await;
    say("ddl_capture", outcome, findings);
    let monitor = role.is_some_and(|role| role.monitor);
    let outcome = disk::judge(connection, monitor, findings).await;
    say("disk", outcome, findings);
}

/// A file of `sql/preflight/`, run; its first row.
async fn one_row(connection: &mut Connection, sql: &str) -> Result<super::connection::Row> {
    let mut rows = connection.simple_query(sql).await?;
    if rows.is_empty() {
        return Err(Failure::definite("the server gave no answer to a question"));
    }
    Ok(rows.swap_remove(0))
}

/// An array of oids as PostgreSQL prints it: `{1,2}`.
fn oids(text: Option<&str>) -> Vec<u32> {
    text.unwrap_or_default()
        .trim_matches(['{', '}'])
        .split(',')
        .filter_map(|oid| oid.parse().ok())
        .collect()
}
