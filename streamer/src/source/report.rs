//! What the server refuses, as a [`Failure`]: its class by SQLSTATE, and the
//! cure as far as it can be told without asking the server more.
//!
//! Messages may come in any language (`lc_messages`), so what follows from an
//! error is decided by its SQLSTATE and by what was being done, not by its
//! words, wherever those suffice.

use crate::error::{Class, Failure, Result};
use crate::source::conninfo::Conninfo;
use crate::source::tls::SslMode;

/// What was being done when the server refused.
#[derive(Clone, Copy, Debug)]
pub enum Doing<'a> {
    Connecting(&'a Conninfo),
    Query,
    CreatingSlot { slot: &'a str, plugin: &'a str },
    ReadingSlot { slot: &'a str },
}

/// The fields of an ErrorResponse or NoticeResponse ("Error and Notice Message
/// Fields" in the protocol's documentation).
#[derive(Debug, Default)]
struct Fields {
    severity: String,
    code: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    /// The call stack: for output plugins it names slot, callback and LSN.
    context: Option<String>,
    /// The server's function that reports, in no language.
    routine: String,
}

impl Fields {
    fn read(body: &[u8]) -> Self {
        let mut fields = Fields::default();
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else {
                continue;
            };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'V' => fields.severity = text,
                b'C' => fields.code = text,
                b'M' => fields.message = text,
                b'D' => fields.detail = Some(text),
                b'H' => fields.hint = Some(text),
                b'W' => fields.context = Some(text),
                b'R' => fields.routine = text,
                _ => {}
            }
        }
        fields
    }
}

/// The failure an ErrorResponse stands for.
pub fn failure(body: &[u8], doing: &Doing<'_>) -> Failure {
    let fields = Fields::read(body);
    let class = class(&fields.code, &fields.message, doing);
    let mut failure = Failure::new(class, one_line(&fields.message)).sqlstate(&fields.code);
    if let Doing::ReadingSlot { .. } = doing {
        // Where decoding failed is worth more than its depth.
        failure.detail = fields.detail.or(fields.context);
    } else {
        failure.detail = fields.detail;
    }
    failure.hint = cure(&fields.code, &fields.message, doing).or(fields.hint);
    if let Doing::Connecting(conninfo) = doing {
        let secrets = conninfo
            .given_password()
            .into_iter()
            .chain(conninfo.tls.key_password());
        failure.message = crate::source::secret::redact(&failure.message, secrets);
    }
    failure
}

/// A notice that means lost changes, as the failure that it is; all others go
/// to our log.
///
/// Since PostgreSQL 18 `pgoutput` leaves out what it would have read in a
/// publication that is missing, and says so in a warning (`LoadPublications`,
/// `src/backend/replication/pgoutput/pgoutput.c`), where it stopped before.
/// Nothing after the warning may be acknowledged.
///
/// # Errors
/// Definite, as servers before 18 report it.
pub fn notice(body: &[u8]) -> Result<()> {
    let fields = Fields::read(body);
    if fields.severity != "WARNING" || fields.routine != "LoadPublications" {
        log_notice(body);
        return Ok(());
    }
    let message = one_line(&fields.message);
    // Which publication, in whatever language the rest is.
    let quoted = message.split_once('"').and_then(|(_, rest)| {
        let (name, _) = rest.rsplit_once('"')?;
        Some(format!("publication \"{name}\" does not exist"))
    });
    const UNDEFINED_OBJECT: &str = "42704";
    Err(
        Failure::definite(quoted.unwrap_or_else(|| "a publication does not exist".to_owned()))
            .sqlstate(UNDEFINED_OBJECT)
            .detail(format!("the server goes on without it: {message}"))
            .hint(missing_publication()),
    )
}

/// Notices and warnings of the server go to our log.
pub fn log_notice(body: &[u8]) {
    let fields = Fields::read(body);
    if fields.severity == "WARNING" {
        tracing::warn!("server: {}", one_line(&fields.message));
    } else {
        tracing::debug!("server: {}: {}", fields.severity, one_line(&fields.message));
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// PgBouncer's words (since 1.0) for a start-up parameter it does not pass on,
/// and those of Amazon's RDS Proxy.
fn is_pooler(message: &str) -> bool {
    message.contains("unsupported startup parameter")
        || message.contains("RDS Proxy")
        || message.contains("replication connections are not")
}

/// What follows from an error code ("PostgreSQL Error Codes", appendix A).
fn class(code: &str, message: &str, doing: &Doing<'_>) -> Class {
    if matches!(doing, Doing::Connecting(_)) && is_pooler(message) {
        return Class::Definite;
    }
    match code {
        // protocol_violation: we and the server disagree, and will again.
        "08P01" => Class::Definite,
        // 53100 disk full, 53200 out of memory, 53300 too many connections;
        // but 53400, a limit of the configuration, does not pass by itself.
        "53100" | "53200" | "53300" => Class::Transient,
        // Serialization failure, deadlock; object in use; lock not available.
        "40001" | "40P01" | "55006" | "55P03" => Class::Transient,
        // An administrator or a time-out ended our command or session.
        "57014" | "57P01" | "57P02" | "57P03" | "57P05" => Class::Transient,
        _ if code.starts_with("08") => Class::Transient,
        _ => Class::Definite,
    }
}

fn cure(code: &str, message: &str, doing: &Doing<'_>) -> Option<String> {
    match doing {
        Doing::Connecting(conninfo) => cure_connecting(code, message, conninfo),
        Doing::CreatingSlot { slot, plugin } => cure_creating(code, slot, plugin),
        Doing::ReadingSlot { slot } => cure_reading(code, message, slot),
        Doing::Query => None,
    }
}

fn cure_connecting(code: &str, message: &str, conninfo: &Conninfo) -> Option<String> {
    let user = &conninfo.user;
    if is_pooler(message) {
        return Some(
            "this is a connection pooler, which can't carry replication: connect to the PostgreSQL server itself"
                .to_owned(),
        );
    }
    Some(match code {
        "28P01" => format!(
            "check the password of role \"{user}\" (PGPASSWORD, the URL or ~/.pgpass); ALTER ROLE \"{user}\" PASSWORD '…' sets a new one"
        ),
        "28000" if message.contains("no encryption") && conninfo.tls.mode == SslMode::Disable => {
            "pg_hba.conf may have a hostssl line for this: connect with sslmode=require".to_owned()
        }
        "28000" if message.contains("client certificate") => {
            "name a certificate that the server trusts in sslcert, and its key in sslkey".to_owned()
        }
        "28000" if message.contains("pg_hba.conf") => format!(
            "add a line to pg_hba.conf, for example: host {} {user} samenet scram-sha-256 (\"local\" for a unix socket; logical replication needs the database, not the word replication), then SELECT pg_reload_conf()",
            conninfo.dbname
        ),
        "28000" => format!("CREATE ROLE \"{user}\" LOGIN REPLICATION PASSWORD '…'"),
        "3D000" => "psql -l lists the databases of the server; a slot belongs to one of them".to_owned(),
        "42501" if message.to_ascii_lowercase().contains("wal sender")
            || message.contains("walsender") =>
        {
            replication_right(user)
        }
        "42501" if message.contains("database") => {
            format!("GRANT CONNECT ON DATABASE \"{}\" TO \"{user}\"", conninfo.dbname)
        }
        "53300" => "raise max_wal_senders or max_connections (both need a restart), or end connections that are not needed: SELECT pid, usename, application_name FROM pg_stat_replication".to_owned(),
        "57P03" => "the server is starting, stopping or recovering: it takes connections again by itself".to_owned(),
        "08P01" => "is this a connection pooler? Replication needs a connection to the PostgreSQL server itself".to_owned(),
        _ => return None,
    })
}

/// The statement that gives a role the right to replicate.
pub fn replication_right(user: &str) -> String {
    format!(
        "ALTER ROLE \"{user}\" REPLICATION (on Amazon RDS and Aurora: GRANT rds_replication TO \"{user}\")"
    )
}

fn cure_creating(code: &str, slot: &str, plugin: &str) -> Option<String> {
    Some(match code {
        "55000" => wal_level(),
        "42710" => format!("use the slot that is there (leave --create-slot out), or drop it: walferry slot drop {slot}"),
        "53400" => "drop a slot that is not needed (walferry slot list), or raise max_replication_slots (needs a restart)".to_owned(),
        "58P01" => missing_library(plugin),
        "55P03" => "a transaction that was open before holds the slot's creation up: end it, then try again".to_owned(),
        _ => return None,
    })
}

/// The statement that lets a server decode at all.
pub fn wal_level() -> String {
    "ALTER SYSTEM SET wal_level = logical; then restart the server (on Amazon RDS: set rds.logical_replication = 1 in the parameter group and reboot)".to_owned()
}

fn missing_library(plugin: &str) -> String {
    match plugin {
        "walferry" => "install the library into the server: make install PG_CONFIG=/path/to/the/server's/pg_config (decoding needs no CREATE EXTENSION)".to_owned(),
        other => format!("install the output plugin {other} into the server's library folder (pg_config --pkglibdir)"),
    }
}

fn cure_reading(code: &str, message: &str, slot: &str) -> Option<String> {
    Some(match code {
        // Decoding sees publications as they were when a change was made.
        "42704" if message.contains("publication") => missing_publication(),
        "42704" => missing_slot(slot),
        "55006" => format!(
            "another process reads the slot; SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}' names it, --takeover ends it"
        ),
        // program_limit_exceeded, "cannot enlarge string buffer": no message
        // may have 1 GB.
        "54000" => "if the plugin is wal2json, one row's JSON, which has up to six bytes for each of the row's, is larger than the 1 GB that a message may have: read pgoutput, or leave the table out with --exclude-tables".to_owned(),
        "58P01" => "if the plugin's library is missing, install it again; if WAL was removed, the slot is lost: drop it and take a new snapshot".to_owned(),
        _ => return None,
    })
}

fn missing_publication() -> String {
    "nothing of what could not be read was acknowledged: start again with a publication that was there when the changes were made (SELECT pubname FROM pg_publication; --publication NAME); one that is made now serves later changes only, so where there is no other, CREATE PUBLICATION, then a new slot (--slot NAME --create-slot) and a new copy of the tables".to_owned()
}

/// What to do about a slot that is not there.
pub fn missing_slot(slot: &str) -> String {
    format!(
        "create it: walferry slot create {slot} --source …, or add --create-slot to this run, or SELECT pg_create_logical_replication_slot('{slot}', 'walferry')"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(code: &str, message: &str) -> Vec<u8> {
        format!("SERROR\0VERROR\0C{code}\0M{message}\0DThe detail.\0\0").into_bytes()
    }

    #[test]
    fn network_and_restart_are_transient_and_refusals_definite() {
        for (code, expected) in [
            ("57P01", Class::Transient),
            ("57P03", Class::Transient),
            ("08006", Class::Transient),
            ("53300", Class::Transient),
            ("55006", Class::Transient),
            ("08P01", Class::Definite),
            ("28P01", Class::Definite),
            ("42501", Class::Definite),
            ("42704", Class::Definite),
            ("55000", Class::Definite),
            ("XX000", Class::Definite),
        ] {
            let failure = failure(&response(code, "no"), &Doing::Query);
            assert_eq!(failure.class, expected, "{code}");
            assert_eq!(failure.sqlstate.as_deref(), Some(code));
            assert_eq!(failure.detail.as_deref(), Some("The detail."));
        }
    }

    #[test]
    fn a_publication_that_the_server_goes_on_without_is_a_failure_in_any_language() {
        let warning = |routine: &str, message: &str| {
            format!("SWARNUNG\0VWARNING\0C55000\0M{message}\0R{routine}\0\0").into_bytes()
        };
        for (message, expected) in [
            (
                "skipped loading publication \"a \"b\"\"",
                "publication \"a \"b\"\" does not exist",
            ),
            (
                "Publikation »a« wurde nicht geladen",
                "a publication does not exist",
            ),
        ] {
            let failure = notice(&warning("LoadPublications", message)).unwrap_err();
            assert_eq!(failure.message, expected);
            assert_eq!(failure.class, Class::Definite);
            assert!(
                failure
                    .hint
                    .unwrap()
                    .contains("nothing of what could not be read")
            );
        }
        assert!(notice(&warning("other", "skipped loading publication \"a\"")).is_ok());
    }

    #[test]
    fn a_message_that_is_too_large_is_told_with_a_way_on() {
        let message = "out of memory: Cannot enlarge string buffer containing 1073741822 bytes by 1 more bytes.";
        let failure = failure(
            &response("54000", message),
            &Doing::ReadingSlot { slot: "s" },
        );
        assert_eq!(failure.class, Class::Definite);
        assert!(failure.hint.unwrap().contains("pgoutput"));
    }

    #[test]
    fn a_pooler_in_between_is_recognised_and_not_retried() {
        let conninfo = Conninfo::parse_with(Some("host=h user=u"), &Default::default()).unwrap();
        let failure = failure(
            &response("08P01", "unsupported startup parameter: replication"),
            &Doing::Connecting(&conninfo),
        );
        assert_eq!(failure.class, Class::Definite);
        assert!(failure.hint.unwrap().contains("connection pooler"));
    }

    #[test]
    fn a_password_that_the_server_repeats_is_taken_out() {
        let conninfo =
            Conninfo::parse_with(Some("host=h user=u password=hunter2"), &Default::default())
                .unwrap();
        let failure = failure(
            &response("28P01", "no such role hunter2"),
            &Doing::Connecting(&conninfo),
        );
        assert_eq!(failure.message, "no such role ***");
    }
}
