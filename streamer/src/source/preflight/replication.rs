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
use crate::error::Failure;
use crate::source::connection::{CancelOnDrop, Connection, Replication};
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
    /// Each plugin that was tried, in the order of preference; ends with the first that works.
    plugins: Vec<(String, Loaded)>,
    /// Why none was tried.
    untried: Option<&'static str>,
    /// The plugin of the slot that is there.
    of_slot: Option<String>,
}

impl Attempt {
    /// The plugin that a run would read.
    pub fn plugin(&self) -> Option<&str> {
        let working = self
            .plugins
            .iter()
            .find(|(_, loaded)| !matches!(loaded, Loaded::Refused(_)));
        self.of_slot
            .as_deref()
            .or(working.map(|(plugin, _)| plugin.as_str()))
    }

    /// A slot could not be made within [`LOCK_TIMEOUT`].
    pub fn held_up(&self) -> bool {
        self.plugins
            .iter()
            .any(|(_, loaded)| matches!(loaded, Loaded::HeldUp))
    }
}

/// The plugins a run would take, in order of preference.
fn candidates(question: &Question, state: &State, flavour: Flavour) -> Vec<String> {
    let of_slot = state.existing.as_ref().and_then(|slot| slot.plugin.clone());
    if let Some(plugin) = question.plugin.clone().or(of_slot) {
        return vec![plugin];
    }
    let own = flavour.takes_libraries().then_some("walferry");
    let other = match question.publication {
        Some(_) => "pgoutput",
        None => "wal2json",
    };
    own.into_iter().chain([other]).map(str::to_owned).collect()
}

pub(super) async fn attempt(server: &Server, question: &Question, state: &State) -> Attempt {
    let mut attempt = Attempt {
        connected: Ok(()),
        plugins: Vec::new(),
        untried: None,
        of_slot: state.existing.as_ref().and_then(|slot| slot.plugin.clone()),
    };
    let mut connection = match Connection::connect(&question.conninfo, Replication::Database).await
    {
        Ok(connection) => connection,
        Err(failure) => {
            attempt.connected = Err(failure);
            attempt.untried = Some("no replication connection");
            return attempt;
        }
    };
    if !server.decodes() {
        attempt.untried = Some("wal_level is not logical");
    } else if !state.room {
        attempt.untried = Some("no slot is free");
    } else if server.in_recovery && server.version < 160_000 {
        attempt.untried = Some("the server is a standby");
    } else {
        for plugin in candidates(question, state, server.flavour) {
            let loaded = load(&mut connection, &plugin).await;
            let refused = matches!(loaded, Loaded::Refused(_));
            // After a time-out the connection is of no more use.
            let unknown = matches!(loaded, Loaded::Unknown);
            attempt.plugins.push((plugin, loaded));
            if !refused || unknown {
                break;
            }
        }
    }
    connection.close().await;
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
    let command = slot.command(connection.server_version());
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
            let drop = format!("DROP_REPLICATION_SLOT \"{}\"", slot.name);
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
    let Some((plugin, loaded)) = attempt.plugins.first() else {
        // Nothing was tried; the list says what it can.
        findings.pass(
            CODE,
            match server.setting(CODE) {
                Some(list) => format!("it lists {list}"),
                None if server.reads_all_settings => "the server has no such setting".to_owned(),
                None => "this role can't read it".to_owned(),
            },
        );
        return;
    };
    let refused = matches!(loaded, Loaded::Refused(failure)
        if failure.sqlstate.as_deref() == Some("42501"));
    let last_refused = attempt.plugin().is_none();
    if !refused || !last_refused {
        let text = match server.setting(CODE) {
            Some(list) => format!("it lists {list}"),
            None if server.reads_all_settings => "the server has no such setting".to_owned(),
            None => format!(
                "this role can't read it; {} can be loaded",
                attempt.plugin().unwrap_or(plugin)
            ),
        };
        findings.pass(CODE, text);
        return;
    }
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
    let Some((plugin, loaded)) = attempt.plugins.last() else {
        return;
    };
    let others: Vec<String> = attempt.plugins[..attempt.plugins.len() - 1]
        .iter()
        .filter_map(|(plugin, loaded)| match loaded {
            Loaded::Refused(failure) => {
                Some(format!("{plugin} can't be loaded: {}", in_words(failure)))
            }
            _ => None,
        })
        .collect();
    let aside = if others.is_empty() {
        String::new()
    } else {
        format!("; {}", others.join("; "))
    };
    match loaded {
        Loaded::Yes | Loaded::HeldUp => findings.push(
            Finding::new(
                Verdict::Pass,
                "plugin",
                format!("it can be loaded (a temporary slot was tried){aside}"),
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
            // The best there is: what the run would take first.
            let (wanted, failure) = match &attempt.plugins[0] {
                (wanted, Loaded::Refused(first)) => (wanted, first),
                _ => (plugin, failure),
            };
            let mut finding = Finding::new(
                Verdict::Fail,
                "plugin",
                format!(
                    "it can't be loaded: {}{}",
                    in_words(failure),
                    attempt.plugins[1..]
                        .iter()
                        .filter_map(|(plugin, loaded)| match loaded {
                            Loaded::Refused(failure) =>
                                Some(format!("; nor {plugin}: {}", in_words(failure))),
                            _ => None,
                        })
                        .collect::<String>()
                ),
            )
            .object(wanted);
            match failure.sqlstate.as_deref() {
                Some("42501") => {
                    finding.note = Some("see output_plugin_libraries".to_owned());
                }
                Some("58P01") => {
                    let (fix, note) = install(wanted, server.flavour, connection.server_version());
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
