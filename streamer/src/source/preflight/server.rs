//! The server as a whole: its version, its settings, its pooler.

use serde_json::Value;

use super::finding::{Finding, Findings, Verdict};
use super::flavour::{Applies, Flavour};
use super::one_row;
use crate::error::Result;
use crate::source::connection::{Connection, Row};
use crate::source::slot::verdict::size;

const SERVER: &str = include_str!("../../../../sql/preflight/server.sql");

/// Below this a slot is lost at the reader's first longer pause.
const SMALL_WAL_KEEP: u64 = 1 << 30;

/// Below this a reader that is busy for a moment is taken for dead.
const SHORT_SENDER_TIMEOUT_MS: u64 = 5_000;

/// What `server.sql` found.
pub(super) struct Server {
    pub flavour: Flavour,
    pub version: u32,
    pub in_recovery: bool,
    pub slots_used: u64,
    pub client_address: Option<String>,
    pub reads_all_settings: bool,
    settings: Value,
    row: Row,
}

impl Server {
    pub async fn ask(connection: &mut Connection) -> Result<Self> {
        let row = one_row(connection, SERVER).await?;
        let settings = row.get("settings").unwrap_or("{}");
        Ok(Server {
            flavour: Flavour::from_name(row.get("flavour")),
            version: row.parse("server_version_num").unwrap_or(0),
            in_recovery: row.is_true("in_recovery"),
            slots_used: row.parse("slots_used").unwrap_or(0),
            client_address: row.get("client_address").map(str::to_owned),
            reads_all_settings: row.is_true("reads_all_settings"),
            settings: serde_json::from_str(settings).unwrap_or_default(),
            row,
        })
    }

    /// A setting as `pg_settings` has it; `None`: there is none, or not for this role to see.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name)?.as_str()
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.setting(name)?.parse().ok()
    }

    /// Whether the server writes what decoding needs.
    pub fn decodes(&self) -> bool {
        self.setting("wal_level") == Some("logical")
    }

    /// `senders`: walsenders that the run will take; `None`: it takes none.
    pub fn judge(&self, connection: &Connection, senders: Option<i64>, findings: &mut Findings) {
        self.judge_version(connection, findings);
        self.judge_pooler(connection, findings);
        self.judge_role_of_server(findings);
        self.judge_wal_level(findings);
        self.judge_senders(senders, findings);
        self.judge_wal_keep(findings);
        self.judge_sender_timeout(findings);
        self.judge_encoding(findings);
    }

    fn judge_version(&self, connection: &Connection, findings: &mut Findings) {
        let version = connection.parameter("server_version").unwrap_or("unknown");
        findings.pass(
            "server",
            format!("PostgreSQL {version}, {}", self.flavour.title()),
        );
    }

    /// A server tells its process id twice: when the session starts, and when
    /// asked. What answers for another process in between tells one of its own.
    fn judge_pooler(&self, connection: &Connection, findings: &mut Findings) {
        let asked: i32 = self.row.parse("backend_pid").unwrap_or(0);
        if asked == connection.process_id() {
            findings.pass("pooler", "none in between");
            return;
        }
        findings.push(
            Finding::new(
                Verdict::Warn,
                "pooler",
                "a connection pooler or proxy (PgBouncer, RDS Proxy or the like) answers in the server's place",
            )
            .note("replication needs a session of its own with the server: name the server's own host and port in --source"),
        );
    }

    fn judge_role_of_server(&self, findings: &mut Findings) {
        if !self.in_recovery {
            findings.pass("primary", "the server is a primary");
        } else if self.version < 160_000 {
            findings.push(
                Finding::new(
                    Verdict::Fail,
                    "primary",
                    "the server is a standby, and before PostgreSQL 16 a standby can't decode",
                )
                .note("name the primary in --source (on Aurora the cluster's writer endpoint); several hosts with target_session_attrs=primary find it by themselves"),
            );
        } else if self.setting("hot_standby_feedback") == Some("off") {
            let (fix, note) =
                self.flavour
                    .set("hot_standby_feedback", "on", "1", Applies::AtReload);
            findings.push(
                Finding::new(
                    Verdict::Warn,
                    "primary",
                    "the server is a standby without hot_standby_feedback: the primary may remove catalog rows that the slot needs, which ends the slot",
                )
                .fix(fix)
                .note(note),
            );
        } else {
            findings.pass("primary", "the server is a standby that can decode");
        }
    }

    fn judge_wal_level(&self, findings: &mut Findings) {
        let level = self.setting("wal_level").unwrap_or("unknown");
        if self.decodes() {
            findings.pass("wal_level", "logical");
            return;
        }
        let (fix, note) = self.flavour.logical_decoding();
        let service = ["rds_logical_replication", "cloudsql_logical_decoding"]
            .into_iter()
            .find_map(|name| Some((name.replacen('_', ".", 1), self.row.get(name)?)));
        let finding = match service {
            // Set already, and waiting for the restart.
            Some((name, "on" | "1")) => Finding::new(
                Verdict::Fail,
                "wal_level",
                format!("it is {level} although {name} is on: the instance was not rebooted since"),
            )
            .note("reboot the instance"),
            _ => Finding::new(
                Verdict::Fail,
                "wal_level",
                format!("it is {level}, and logical decoding needs logical"),
            )
            .fix(fix)
            .note(note),
        };
        findings.push(finding);
    }

    /// `wanted`: walsenders that the run will take; `None`: it takes none.
    fn judge_senders(&self, wanted: Option<i64>, findings: &mut Findings) {
        const CODE: &str = "wal_senders";
        let used: i64 = self.row.parse("senders_used").unwrap_or(0);
        let most = self.number("max_wal_senders").unwrap_or(0);
        let Some(wanted) = wanted else {
            findings.pass(CODE, "not needed: changes are polled with SQL");
            return;
        };
        let needed = used.saturating_add(wanted);
        if used < most && needed <= most {
            findings.pass(CODE, format!("{used} of {most} in use"));
            return;
        }
        let text = if used >= most {
            format!("none is free: {used} of {most} in use")
        } else {
            format!("{wanted} slots take one each, and {used} of {most} are in use")
        };
        let wanted = (needed.max(most) + 4).max(10).to_string();
        let (fix, note) = self
            .flavour
            .set("max_wal_senders", &wanted, &wanted, Applies::AtRestart);
        findings.push(
            Finding::new(Verdict::Fail, CODE, text)
            .fix(fix)
            .note(format!(
                "{note}; or end what is not needed: SELECT pid, usename, application_name FROM pg_stat_replication"
            )),
        );
    }

    /// `max_slot_wal_keep_size` is in MB; -1 is no limit.
    fn judge_wal_keep(&self, findings: &mut Findings) {
        match self.number("max_slot_wal_keep_size") {
            None | Some(-1) => findings.pass(
                "max_slot_wal_keep_size",
                "no limit: a slot is never given up, and keeps WAL until it is read or the disk is full",
            ),
            Some(megabytes) => {
                let bytes = (megabytes.max(0) as u64) << 20;
                let text = format!(
                    "a slot that is {} behind is given up by the server",
                    size(bytes)
                );
                if bytes >= SMALL_WAL_KEEP {
                    findings.pass("max_slot_wal_keep_size", text);
                    return;
                }
                let (fix, note) = self.flavour.set(
                    "max_slot_wal_keep_size",
                    "'10GB'",
                    "10240",
                    Applies::AtReload,
                );
                findings.push(
                    Finding::new(
                        Verdict::Warn,
                        "max_slot_wal_keep_size",
                        format!("{text}: less than a busy hour writes"),
                    )
                    .fix(fix)
                    .note(format!("{note}; or as much as the disk has to spare")),
                );
            }
        }
    }

    /// `wal_sender_timeout` is in milliseconds; 0 is none.
    fn judge_sender_timeout(&self, findings: &mut Findings) {
        let timeout = self.number("wal_sender_timeout").unwrap_or(0).max(0) as u64;
        let text = match timeout {
            0 => "none: a reader that vanished holds its slot until TCP notices".to_owned(),
            short if short < SHORT_SENDER_TIMEOUT_MS => format!(
                "{short} ms: a reader that is silent for a moment is cut, and reads its transaction again"
            ),
            enough => {
                findings.pass("wal_sender_timeout", format!("{} s", enough / 1000));
                return;
            }
        };
        let (fix, note) =
            self.flavour
                .set("wal_sender_timeout", "'60s'", "60000", Applies::AtReload);
        findings.push(
            Finding::new(Verdict::Warn, "wal_sender_timeout", text)
                .fix(fix)
                .note(note),
        );
    }

    fn judge_encoding(&self, findings: &mut Findings) {
        let encoding = self.row.get("encoding").unwrap_or("unknown");
        if encoding == "SQL_ASCII" {
            findings.push(
                Finding::new(
                    Verdict::Warn,
                    "encoding",
                    "the database is SQL_ASCII, which may hold bytes that are not UTF-8: such a value stops the run",
                )
                .note("--plugin-option invalid_text=escape delivers such bytes written as \\xNN"),
            );
        } else {
            findings.pass("encoding", encoding);
        }
    }

    /// Whether IAM tokens open replication connections, where that is a setting.
    pub fn iam_for_replication(&self) -> Option<bool> {
        let value = self.row.get("rds_iam_auth_for_replication")?;
        Some(matches!(value, "on" | "1"))
    }
}
