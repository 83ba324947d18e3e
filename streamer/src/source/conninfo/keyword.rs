//! The keywords of a connection string: libpq's, with what becomes of each.

use crate::error::Failure;

/// What this version does with a keyword of libpq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Means what it means in libpq.
    Used,
    /// Matters to nothing that is here, such as Kerberos.
    Unused,
}
use Treatment::{Unused, Used};

/// A keyword of a connection string or service file.
#[derive(Debug)]
pub struct Keyword {
    pub name: &'static str,
    /// The environment variable that gives its default.
    pub variable: Option<&'static str>,
    pub treatment: Treatment,
}

const fn keyword(
    name: &'static str,
    variable: Option<&'static str>,
    treatment: Treatment,
) -> Keyword {
    Keyword {
        name,
        variable,
        treatment,
    }
}

/// libpq's list: `PQconninfoOptions` in `src/interfaces/libpq/fe-connect.c`.
pub const KEYWORDS: &[Keyword] = &[
    keyword("host", Some("PGHOST"), Used),
    keyword("hostaddr", Some("PGHOSTADDR"), Used),
    keyword("port", Some("PGPORT"), Used),
    keyword("dbname", Some("PGDATABASE"), Used),
    keyword("user", Some("PGUSER"), Used),
    keyword("password", Some("PGPASSWORD"), Used),
    keyword("passfile", Some("PGPASSFILE"), Used),
    keyword("service", Some("PGSERVICE"), Used),
    keyword("servicefile", Some("PGSERVICEFILE"), Used),
    keyword("connect_timeout", Some("PGCONNECT_TIMEOUT"), Used),
    keyword("application_name", Some("PGAPPNAME"), Used),
    keyword("fallback_application_name", None, Used),
    keyword("options", Some("PGOPTIONS"), Used),
    keyword("client_encoding", Some("PGCLIENTENCODING"), Used),
    keyword("keepalives", None, Used),
    keyword("keepalives_idle", None, Used),
    keyword("keepalives_interval", None, Used),
    keyword("keepalives_count", None, Used),
    keyword("tcp_user_timeout", None, Used),
    keyword("target_session_attrs", Some("PGTARGETSESSIONATTRS"), Used),
    keyword("require_auth", Some("PGREQUIREAUTH"), Used),
    keyword("sslmode", Some("PGSSLMODE"), Used),
    keyword("gssencmode", Some("PGGSSENCMODE"), Used),
    keyword("channel_binding", Some("PGCHANNELBINDING"), Used),
    keyword("requirepeer", Some("PGREQUIREPEER"), Used),
    keyword("load_balance_hosts", Some("PGLOADBALANCEHOSTS"), Used),
    keyword("replication", None, Used),
    keyword("requiressl", None, Used),
    keyword("sslnegotiation", Some("PGSSLNEGOTIATION"), Used),
    keyword("sslcompression", Some("PGSSLCOMPRESSION"), Unused),
    keyword("sslcert", Some("PGSSLCERT"), Used),
    keyword("sslkey", Some("PGSSLKEY"), Used),
    keyword("sslpassword", None, Used),
    keyword("sslcertmode", Some("PGSSLCERTMODE"), Used),
    keyword("sslrootcert", Some("PGSSLROOTCERT"), Used),
    keyword("sslcrl", Some("PGSSLCRL"), Used),
    keyword("sslcrldir", Some("PGSSLCRLDIR"), Used),
    keyword("sslsni", Some("PGSSLSNI"), Used),
    keyword("sslkeylogfile", None, Used),
    keyword(
        "ssl_min_protocol_version",
        Some("PGSSLMINPROTOCOLVERSION"),
        Used,
    ),
    keyword(
        "ssl_max_protocol_version",
        Some("PGSSLMAXPROTOCOLVERSION"),
        Used,
    ),
    keyword("min_protocol_version", Some("PGMINPROTOCOLVERSION"), Unused),
    keyword("max_protocol_version", Some("PGMAXPROTOCOLVERSION"), Unused),
    keyword("krbsrvname", Some("PGKRBSRVNAME"), Unused),
    keyword("gsslib", Some("PGGSSLIB"), Unused),
    keyword("gssdelegation", Some("PGGSSDELEGATION"), Unused),
    keyword("scram_client_key", None, Unused),
    keyword("scram_server_key", None, Unused),
    keyword("oauth_issuer", None, Unused),
    keyword("oauth_client_id", None, Unused),
    keyword("oauth_client_secret", None, Unused),
    keyword("oauth_scope", None, Unused),
];

/// The keyword of this name.
///
/// # Errors
/// A usage failure that names the nearest keyword.
pub fn find(name: &str) -> Result<&'static Keyword, Failure> {
    if let Some(found) = KEYWORDS.iter().find(|keyword| keyword.name == name) {
        return Ok(found);
    }
    let failure = Failure::usage(format!("unknown connection keyword {name:?}"));
    Err(
        match nearest(name, KEYWORDS.iter().map(|keyword| keyword.name)) {
            Some(near) => failure.hint(format!("did you mean {near:?}?")),
            None => failure.hint("the keywords are those of libpq, for example host, port, dbname"),
        },
    )
}

/// The name that takes the fewest edits to reach, if it takes few.
pub fn nearest<'a>(name: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1) + 1;
    among
        .into_iter()
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_keyword_names_the_nearest() {
        let failure = find("pasword").unwrap_err();
        assert_eq!(failure.message, "unknown connection keyword \"pasword\"");
        assert_eq!(failure.hint.as_deref(), Some("did you mean \"password\"?"));
        assert_eq!(failure.exit_code(), 2);
    }

    #[test]
    fn what_is_near_nothing_is_not_guessed_at() {
        assert_eq!(nearest("zzzzzz", ["host", "port"]), None);
    }
}
