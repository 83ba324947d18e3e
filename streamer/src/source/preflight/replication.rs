//! Whether a replication connection is accepted and an output plugin can be
//! loaded: tried, because nothing else tells. A slot that is made for the
//! trial is temporary, and gone before the report is written.

use std::time::Duration;

use super::Question;
use super::finding::{Finding, Findings, Fix, Verdict, in_words};
use super::flavour::{Applies, Flavour};
use super::role::Role;
use super::server::Server;
use super::slot::State;
use crate::config::connection::LogReader;
use crate::error::{Failure, Result};
use crate::source::connection::{CancelOnDrop, Connection, Replication};
use crate::source::plugin::{self, Plugin};
use crate::source::report::Doing;
use crate::source::slot::{NewSlot, cure};

/// How long the trial waits for open transactions. That the plugin was loaded
/// is known before the wait.
const LOCK_TIMEOUT: &str = "1s";

/// How long it waits for anything else: on a standby, for the primary to write
/// what a slot begins with.
const PATIENCE: Duration = Duration::from_secs(5);

/// How an attempt with a plugin ended.
#[derive(Debug)]
pub(super) enum Loaded {
    Yes,
    /// The plugin is there, and open transactions hold the slot up.
    HeldUp,
    /// It took longer than [`PATIENCE`].
    Unknown,
    Refused(Failure),
}

/// What trying brought.
#[derive(Debug)]
pub(super) struct Attempt {
    connected: Result<(), Failure>,
    /// The plugin that a run takes; `None`: that can't be told.
    plugin: Option<String>,
    /// What came of loading it.
    loaded: Option<Loaded>,
    /// Why it was not tried.
    untried: Option<&'static str>,
}

impl Attempt {
    /// The plugin that a run takes.
    pub fn plugin(&self) -> Option<&str> {
        self.plugin.as_deref()
    }

    /// A slot could not be made within [`LOCK_TIMEOUT`].
    pub fn held_up(&self) -> bool {
        matches!(self.loaded, Some(Loaded::HeldUp))
    }
}

/// The plugin a run takes, by the same rule.
async fn chosen(
    connection: &mut Connection,
    question: &Question,
    of_slot: Option<&str>,
) -> Result<String> {
    if let Some(plugin) = question.plugin.as_deref().or(of_slot) {
        return Ok(plugin.to_owned());
    }
    let plugin = if plugin::walferry_is_usable(connection).await? {
        Plugin::Walferry
    } else if question.publication.is_some() {
        Plugin::Pgoutput
    } else {
        Plugin::Wal2json
    };
    Ok(plugin.name().to_owned())
}

/// `connection`: an ordinary one.
pub(super) async fn attempt(
    connection: &mut Connection,
    server: &Server,
    question: &Question,
    state: &State,
) -> Attempt {
    let of_slot = state
        .existing
        .as_ref()
        .and_then(|slot| slot.plugin.as_deref());
    let mut attempt = Attempt {
        connected: Ok(()),
        plugin: chosen(connection, question, of_slot).await.ok(),
        loaded: None,
        untried: None,
    };
    let kind = match question.reader {
        LogReader::Stream => Replication::Database,
        LogReader::Sql => Replication::Off,
    };
    let mut trial = match Connection::connect(&question.conninfo, kind).await {
        Ok(trial) => trial,
        Err(failure) => {
            attempt.connected = Err(failure);
            attempt.untried = Some("no replication connection");
            return attempt;
        }
    };
    if !server.decodes() {
        attempt.untried = Some("wal_level is not logical");
    } else if !state.room() {
        attempt.untried = Some("no slot is free");
    } else if server.in_recovery && server.version < 160_000 {
        attempt.untried = Some("the server is a standby");
    } else if let Some(plugin) = &attempt.plugin {
        attempt.loaded = Some(load(&mut trial, plugin).await);
    } else {
        attempt.untried = Some("which one a run takes can't be told");
    }
    trial.close().await;
    attempt
}

/// Makes a temporary slot and drops it again.
async fn load(connection: &mut Connection, plugin: &str) -> Loaded {
    let slot = NewSlot {
        name: format!("walferry_check_{}", connection.process_id().unsigned_abs()),
        plugin: plugin.to_owned(),
        temporary: true,
        two_phase: false,
        failover: false,
    };
    let command = slot.making(connection);
    let doing = Doing::CreatingSlot {
        slot: &slot.name,
        plugin,
    };
    if let Err(failure) = connection
        .simple_query(&format!("SET lock_timeout = '{LOCK_TIMEOUT}'"))
        .await
    {
        return Loaded::Refused(failure);
    }
    let guard = CancelOnDrop::new(connection.cancel_token());
    let outcome = tokio::time::timeout(PATIENCE, connection.run(&command, &doing)).await;
    let outcome = match outcome {
        Err(_) => return Loaded::Unknown,
        Ok(outcome) => outcome,
    };
    guard.ended();
    match outcome {
        Ok(_) => {
            let drop = match connection.replication() {
                Replication::Database => format!("DROP_REPLICATION_SLOT \"{}\"", slot.name),
                Replication::Off => {
                    format!(
                        "SELECT pg_catalog.pg_drop_replication_slot('{}')",
                        slot.name
                    )
                }
            };
            // It would end with the connection anyway.
            if let Err(failure) = connection.simple_query(&drop).await {
                tracing::debug!("the trial's slot was not dropped: {failure}");
            }
            Loaded::Yes
        }
        Err(failure) if failure.sqlstate.as_deref() == Some("55P03") => Loaded::HeldUp,
        Err(failure) => Loaded::Refused(failure),
    }
}

pub(super) async fn judge(
    connection: &mut Connection,
    server: &Server,
    role: Option<&Role>,
    question: &Question,
    attempt: &Attempt,
    findings: &mut Findings,
) {
    judge_connection(server, role, question, attempt, findings);
    judge_iam(server, role, findings);
    judge_libraries(connection, server, attempt, findings).await;
    judge_plugin(connection, server, attempt, findings);
}

fn judge_connection(
    server: &Server,
    role: Option<&Role>,
    question: &Question,
    attempt: &Attempt,
    findings: &mut Findings,
) {
    let name = role.map_or(question.conninfo.user.as_str(), |role| role.name.as_str());
    let right = role.map_or("its attributes can't be told", |role| role.right());
    let failure = match &attempt.connected {
        Ok(()) => {
            if question.reader == LogReader::Sql {
                judge_right_by_sql(server, role, name, right, attempt, findings);
                findings.pass(
                    "replication_connection",
                    "not needed: changes are polled with SQL",
                );
                return;
            }
            findings.push(
                Finding::new(
                    Verdict::Pass,
                    "replication_right",
                    format!("it may replicate: {right}"),
                )
                .object(name),
            );
            findings.pass("replication_connection", "accepted");
            return;
        }
        Err(failure) => failure,
    };
    // insufficient_privilege: not the connection is refused, but the role.
    if failure.sqlstate.as_deref() == Some("42501") {
        findings.push(
            Finding::new(
                Verdict::Fail,
                "replication_right",
                format!("it may not replicate ({right}): {}", in_words(failure)),
            )
            .object(name)
            .fix([server.flavour.replication_right(name)])
            .note(server.flavour.administrator()),
        );
        return;
    }
    let mut finding = Finding::new(
        Verdict::Fail,
        "replication_connection",
        format!("refused: {}", in_words(failure)),
    );
    finding.note = match failure.sqlstate.as_deref() {
        Some("28000") => Some(match (server.flavour, &server.client_address) {
            (Flavour::SelfManaged, Some(address)) => format!(
                "a line of pg_hba.conf, then SELECT pg_reload_conf(): host {} {name} {address} scram-sha-256",
                question.conninfo.dbname
            ),
            (Flavour::SelfManaged, None) => failure.hint.clone().unwrap_or_default(),
            _ => "pg_hba.conf can't be edited here: check rds.force_ssl or its like, the network rules, and with IAM rds.iam_auth_for_replication".to_owned(),
        }),
        _ => failure.hint.clone(),
    };
    findings.push(finding);
}

/// The functions that read slots ask for the same right as a replication
/// connection (`CheckSlotPermissions`, `src/backend/replication/slot.c`).
fn judge_right_by_sql(
    server: &Server,
    role: Option<&Role>,
    name: &str,
    right: &str,
    attempt: &Attempt,
    findings: &mut Findings,
) {
    let may = matches!(attempt.loaded, Some(Loaded::Yes | Loaded::HeldUp))
        || role.is_some_and(Role::may_replicate);
    let (verdict, text) = if may {
        (Verdict::Pass, format!("it may replicate: {right}"))
    } else {
        (Verdict::Fail, format!("it may not replicate ({right})"))
    };
    let mut finding = Finding::new(verdict, "replication_right", text).object(name);
    if !may {
        finding = finding
            .fix([server.flavour.replication_right(name)])
            .note(server.flavour.administrator());
    }
    findings.push(finding);
}

/// The plugins of further slots, where they are others than the first's.
pub(super) async fn judge_further_plugins(
    connection: &mut Connection,
    server: &Server,
    question: &Question,
    state: &State,
    first: &Attempt,
    findings: &mut Findings,
) {
    let mut tried: Vec<&str> = first.plugin().into_iter().collect();
    for plugin in state.further_plugins() {
        if tried.contains(&plugin) {
            continue;
        }
        tried.push(plugin);
        let question = Question {
            plugin: Some(plugin.to_owned()),
            ..question.clone()
        };
        let attempt = attempt(connection, server, &question, state).await;
        if attempt.connected.is_ok() {
            judge_libraries(connection, server, &attempt, findings).await;
            judge_plugin(connection, server, &attempt, findings);
        }
    }
}

/// A member of rds_iam logs in with a token and nothing else.
fn judge_iam(server: &Server, role: Option<&Role>, findings: &mut Findings) {
    let (Some(role), Some(on)) = (role, server.iam_for_replication()) else {
        return;
    };
    if on || !role.rds_iam {
        findings.pass(
            "iam_auth_for_replication",
            if on {
                "on"
            } else {
                "off, and the role needs none"
            },
        );
        return;
    }
    let (fix, note) =
        server
            .flavour
            .set("rds.iam_auth_for_replication", "1", "1", Applies::AtReload);
    findings.push(
        Finding::new(
            Verdict::Fail,
            "iam_auth_for_replication",
            format!(
                "off, and {} logs in with IAM tokens only: its replication connections are refused",
                role.name
            ),
        )
        .fix(fix)
        .note(note),
    );
}

/// The setting that lists which plugins may be loaded, on the minors of August
/// 2026 and later.
async fn judge_libraries(
    connection: &mut Connection,
    server: &Server,
    attempt: &Attempt,
    findings: &mut Findings,
) {
    const CODE: &str = "output_plugin_libraries";
    let text = match server.setting(CODE) {
        Some(list) => format!("it lists {list}"),
        None if server.reads_all_settings => "the server has no such setting".to_owned(),
        None => "this role can't read it".to_owned(),
    };
    let plugin = match (&attempt.plugin, &attempt.loaded) {
        (Some(plugin), Some(Loaded::Refused(failure)))
            if failure.sqlstate.as_deref() == Some("42501") =>
        {
            plugin
        }
        (Some(plugin), Some(Loaded::Yes | Loaded::HeldUp)) => {
            findings.pass(CODE, format!("{text}; {plugin} can be loaded"));
            return;
        }
        _ => {
            findings.pass(CODE, text);
            return;
        }
    };
    let finding = match cure::allowance(connection, plugin).await {
        Err(failure) => {
            findings.unknown(CODE, &failure);
            return;
        }
        Ok(None) => Finding::new(
            Verdict::Fail,
            CODE,
            format!("plugin {plugin} is refused, and the server has no such setting"),
        ),
        Ok(Some(allowance)) => {
            let (fix, note) = server.flavour.set(
                CODE,
                &allowance.list,
                &allowance.list.replace(", ", ","),
                Applies::AtReload,
            );
            let finding = match &allowance.current {
                Some(current) => Finding::new(
                    Verdict::Fail,
                    CODE,
                    format!("it lists {current}, and not {plugin}"),
                )
                .note(format!("{note}; it keeps what is listed and what slots use")),
                None => Finding::new(
                    Verdict::Fail,
                    CODE,
                    format!("it does not list {plugin}, and this role can't read what it lists"),
                )
                .note(format!(
                    "{note}; SHOW output_plugin_libraries first, and keep what it lists: the statement is right where it lists the default, pgoutput and test_decoding"
                )),
            };
            finding.fix(fix)
        }
    };
    findings.push(finding);
}

fn judge_plugin(
    connection: &Connection,
    server: &Server,
    attempt: &Attempt,
    findings: &mut Findings,
) {
    if let Some(reason) = attempt.untried {
        findings.push(Finding::new(
            Verdict::Warn,
            "plugin",
            format!("not tried: {reason}"),
        ));
        return;
    }
    let (Some(plugin), Some(loaded)) = (&attempt.plugin, &attempt.loaded) else {
        return;
    };
    match loaded {
        Loaded::Yes | Loaded::HeldUp => findings.push(
            Finding::new(
                Verdict::Pass,
                "plugin",
                "it can be loaded (a temporary slot was tried)",
            )
            .object(plugin),
        ),
        Loaded::Unknown => findings.push(
            Finding::new(
                Verdict::Warn,
                "plugin",
                format!(
                    "a temporary slot was not made within {} s, so that it can't be told",
                    PATIENCE.as_secs()
                ),
            )
            .object(plugin)
            .fix(
                server
                    .in_recovery
                    .then(|| Fix::sql("SELECT pg_log_standby_snapshot()")),
            )
            .note(if server.in_recovery {
                "on the primary: a slot on a standby begins at what this writes"
            } else {
                "try again when the server is less busy"
            }),
        ),
        Loaded::Refused(failure) => {
            let mut finding = Finding::new(
                Verdict::Fail,
                "plugin",
                format!("it can't be loaded: {}", in_words(failure)),
            )
            .object(plugin);
            match failure.sqlstate.as_deref() {
                Some("42501") => {
                    finding.note = Some(
                        "see output_plugin_libraries; or --plugin pgoutput, which is listed by default"
                            .to_owned(),
                    );
                }
                Some("58P01") => {
                    let (fix, note) = install(plugin, server.flavour, connection.server_version());
                    finding = finding.fix(fix).note(note);
                }
                _ => finding.note = failure.hint.clone(),
            }
            findings.push(finding);
        }
    }
}

/// How a plugin gets into the server.
fn install(plugin: &str, flavour: Flavour, version: u32) -> (Option<Fix>, String) {
    if !flavour.takes_libraries() {
        return (
            Some(Fix::command("--plugin pgoutput --publication NAME")),
            format!(
                "{} takes no libraries of one's own: wal2json where the service has it, or pgoutput, which every server has",
                flavour.title()
            ),
        );
    }
    match plugin {
        "walferry" => (
            Some(Fix::command("make install PG_CONFIG=/path/to/the/server's/pg_config")),
            "on the server's machine, in walferry's source; decoding needs no CREATE EXTENSION and no restart".to_owned(),
        ),
        "wal2json" => (
            Some(Fix::command(format!(
                "apt-get install postgresql-{}-wal2json",
                version / 10_000
            ))),
            "on the server's machine (Debian and Ubuntu; elsewhere the package of that name); no restart is needed".to_owned(),
        ),
        _ => (
            None,
            "put the plugin's library into the folder that pg_config --pkglibdir names".to_owned(),
        ),
    }
}
