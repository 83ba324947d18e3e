//! The connection: where the source is, who we are there, and its slots.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::document::{Entries, List, Position, Value};
use super::report::Reader;
use super::setting::{Setting, choice};
use crate::cli::Plugin;
use crate::source::secret::Secret;
use crate::source::tls::SslMode;

/// A connection file, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Connection")]
pub struct RawConnection {
    /// The kind of source: POSTGRESQL.
    r#type: Option<Value<SourceType>>,
    /// The server's name or address, or the folder of its unix socket. Default: PGHOST, else the local socket.
    host: Option<Value<String>>,
    /// Default: PGPORT, else 5432.
    port: Option<Value<NonZeroU16>>,
    /// The database whose changes are read. Default: PGDATABASE, else the user's name.
    database: Option<Value<String>>,
    /// The role to connect as; it needs REPLICATION. Default: PGUSER, else the system's user.
    username: Option<Value<String>>,
    /// Better written as ${NAME} or ${file:/path}. Default: PGPASSWORD, else the password file (.pgpass).
    password: Option<Value<Secret>>,
    /// The most connections to the source at one time. At least 2 a slot: one that reads, one that asks.
    max_connections: Option<Value<NonZeroU32>>,
    /// Seconds after which a source that does not answer counts as lost, while connecting and while connected; 0: no limit. Default: 30 to connect, about 120 later.
    socket_timeout_s: Option<Value<u32>>,
    /// How often in a row a connection that failed is tried again. Default: without end.
    max_retries: Option<Value<u32>>,
    /// Milliseconds between two tries. Default: a pause that grows from 200 to 15000.
    retry_wait_duration_ms: Option<Value<u32>>,
    /// The slots to read, each with its output plugin.
    replication_slots: Option<Entries<List<Plugin>>>,
    /// How changes are read: STREAM (replication protocol) or SQL (polling). Default: STREAM.
    log_reader_type: Option<Value<LogReader>>,
    /// TLS.
    ssl: Option<RawSsl>,
}

/// TLS settings, as they are written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Ssl")]
pub struct RawSsl {
    /// libpq's sslmode. Default: verify-full with a root-cert, else require.
    mode: Option<Value<SslMode>>,
    /// The certificate that is shown to the server.
    ssl_cert: Option<Value<PathBuf>>,
    /// The authorities that may have signed the server's certificate (PEM, one or several); system: those this machine trusts.
    root_cert: Option<Value<PathBuf>>,
    /// The key of ssl-cert: PEM, PKCS #8 DER or PKCS #12, which may bring the certificate along.
    ssl_key: Option<Value<PathBuf>>,
    /// The password of ssl-key.
    ssl_key_password: Option<Value<Secret>>,
}

choice! {
    /// The kind of source a connection file is for.
    SourceType ("POSTGRESQL, the only kind of source there is") { PostgreSql = "POSTGRESQL" }

    /// How changes are read.
    LogReader ("STREAM or SQL") {
        /// Over the replication protocol.
        Stream = "STREAM",
        /// By polling with SQL functions.
        Sql = "SQL",
    }
}

impl Setting for SslMode {
    const EXPECTED: &'static str = "disable, allow, prefer, require, verify-ca or verify-full";

    fn read(text: &str) -> Option<Self> {
        let mut modes = SslMode::ALL.into_iter();
        modes.find(|mode| text.eq_ignore_ascii_case(mode.name()))
    }

    fn schema() -> schemars::Schema {
        let names = SslMode::ALL.map(SslMode::name);
        schemars::json_schema!({ "anyOf": [
            { "enum": names },
            { "type": "string", "pattern": format!(r"(?i)^({}|\$\{{.*)$", names.join("|")) },
        ] })
    }
}

/// A connection, validated. `None` is what the environment or a default says.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    pub host: Option<String>,
    pub port: Option<NonZeroU16>,
    pub database: Option<String>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub max_connections: Option<NonZeroU32>,
    /// Zero: no limit.
    pub socket_timeout: Option<Duration>,
    pub max_retries: Option<u32>,
    pub retry_wait: Option<Duration>,
    pub slots: Vec<Slot>,
    pub log_reader: Option<LogReader>,
    pub ssl: Option<Ssl>,
}

/// A replication slot to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub name: String,
    /// `None`: whichever plugin it has.
    pub plugin: Option<Plugin>,
    /// `file:line:column`
    pub place: String,
}

/// TLS, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssl {
    pub mode: SslMode,
    pub certificate: Option<PathBuf>,
    pub root_certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub key_password: Option<Secret>,
}

impl RawConnection {
    pub(super) fn has_slots(&self) -> bool {
        self.replication_slots.is_some()
    }

    pub(super) fn validate(&self, reader: &mut Reader<'_>) -> Connection {
        reader.optional("type", self.r#type.as_ref());
        let connection = Connection {
            host: reader.optional("host", self.host.as_ref()),
            port: reader.optional("port", self.port.as_ref()),
            database: reader.optional("database", self.database.as_ref()),
            username: reader.optional("username", self.username.as_ref()),
            password: reader.optional("password", self.password.as_ref()),
            max_connections: reader.optional("max-connections", self.max_connections.as_ref()),
            socket_timeout: reader
                .optional("socket-timeout-s", self.socket_timeout_s.as_ref())
                .map(|seconds| Duration::from_secs(seconds.into())),
            max_retries: reader.optional("max-retries", self.max_retries.as_ref()),
            retry_wait: reader
                .optional(
                    "retry-wait-duration-ms",
                    self.retry_wait_duration_ms.as_ref(),
                )
                .map(|milliseconds| Duration::from_millis(milliseconds.into())),
            slots: self.slots(reader),
            log_reader: reader.optional("log-reader-type", self.log_reader_type.as_ref()),
            ssl: self.ssl.as_ref().and_then(|ssl| ssl.validate(reader)),
        };
        if let (Some(most), Some(value)) = (connection.max_connections, &self.max_connections)
            && most.get() < connection.needed()
        {
            reader.error(
                value.at,
                format!(
                    "max-connections: {most} is too few: of each slot one connection reads and one asks"
                ),
                Some(&format!("write {} or more", connection.needed())),
            );
        }
        connection
    }

    fn slots(&self, reader: &mut Reader<'_>) -> Vec<Slot> {
        let mut slots: Vec<Slot> = Vec::new();
        for (name, plugins) in self.replication_slots.iter().flat_map(|entries| &entries.0) {
            let at = name.at;
            let plugins_read = match plugins {
                None => Vec::new(),
                Some(plugins) => reader.list("replication-slots", plugins),
            };
            if plugins.as_ref().is_some_and(|plugins| plugins.0.len() > 1) {
                reader.error(
                    at,
                    "replication-slots: a slot has one output plugin, the one it was created with",
                    Some("name each slot once, with one plugin below it"),
                );
            }
            let Some(name) = reader.get("replication-slots", name) else {
                continue;
            };
            check_slot_name(reader, at, "replication-slots", &name);
            if slots.iter().any(|slot| slot.name == name) {
                reader.error(
                    at,
                    format!("replication-slots: slot {name:?} is given twice"),
                    None,
                );
            }
            let place = reader.place(at);
            let plugin = plugins_read.first().copied();
            slots.push(Slot {
                name,
                plugin,
                place,
            });
        }
        slots
    }
}

/// Slot names are `[a-z0-9_]{1,63}` (`ReplicationSlotValidateName` in
/// PostgreSQL's `slot.c`).
pub(super) fn check_slot_name(reader: &mut Reader<'_>, at: Position, key: &str, name: &str) {
    let valid = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !valid || name.is_empty() || name.len() > 63 {
        reader.error(
            at,
            format!("{key}: {name:?} can't be the name of a slot"),
            Some("a slot's name has lower-case letters, digits and underscores, 63 at most"),
        );
    }
}

impl RawSsl {
    fn validate(&self, reader: &mut Reader<'_>) -> Option<Ssl> {
        let first = [&self.ssl_cert, &self.root_cert, &self.ssl_key]
            .into_iter()
            .flatten()
            .map(|value| value.at)
            .chain(self.mode.as_ref().map(|value| value.at))
            .chain(self.ssl_key_password.as_ref().map(|value| value.at))
            .min()?;
        let errors = reader.report.errors.len();
        let mode = reader.optional("mode", self.mode.as_ref());
        let certificate = reader.optional("ssl-cert", self.ssl_cert.as_ref());
        let root_certificate = reader.optional("root-cert", self.root_cert.as_ref());
        let key = reader.optional("ssl-key", self.ssl_key.as_ref());
        let key_password = reader.optional("ssl-key-password", self.ssl_key_password.as_ref());
        if reader.report.errors.len() > errors {
            return None;
        }
        let default = if root_certificate.is_some() {
            SslMode::VerifyFull
        } else {
            SslMode::Require
        };
        let ssl = Ssl {
            mode: mode.unwrap_or(default),
            certificate,
            root_certificate,
            key,
            key_password,
        };
        if ssl.mode != SslMode::Disable {
            if ssl.certificate.is_some() && ssl.key.is_none() {
                reader.error(
                    first,
                    "ssl: there is a certificate, but no key",
                    Some("add ssl-key"),
                );
            }
            if matches!(ssl.mode, SslMode::VerifyCa | SslMode::VerifyFull)
                && ssl.root_certificate.is_none()
            {
                reader.error(
                    first,
                    format!("ssl: mode {} needs to know who may sign", ssl.mode),
                    Some("add root-cert: the server's own certificate authority, on RDS its bundle global-bundle.pem"),
                );
            }
        }
        Some(ssl)
    }
}

impl Connection {
    /// The connections that reading the slots takes: of each one that reads,
    /// and one that asks. Polling a plugin that tells all asks in between.
    fn needed(&self) -> u32 {
        let of_slot = |plugin: Option<Plugin>| match (self.log_reader, plugin) {
            (Some(LogReader::Sql), None | Some(Plugin::Walferry)) => 1,
            _ => 2,
        };
        match self.slots.as_slice() {
            [] => of_slot(None),
            slots => slots.iter().map(|slot| of_slot(slot.plugin)).sum(),
        }
    }

    /// The connection as libpq's `key=value` string, for
    /// [`Conninfo::parse`](crate::source::conninfo::Conninfo::parse).
    /// Holds the password.
    pub fn dsn(&self) -> Secret {
        let port = self.port.map(|port| port.to_string());
        let ssl_mode = self.ssl.as_ref().map(|ssl| ssl.mode.to_string());
        let seconds = self.socket_timeout.map(|timeout| timeout.as_secs());
        // A peer that went away is noticed by probes, and by sent bytes that
        // nobody acknowledges, each within the time that is given.
        let probes = seconds.map(|seconds| match seconds {
            0 => [
                ("keepalives", "0".to_owned()),
                ("connect_timeout", "0".to_owned()),
                ("tcp_user_timeout", "0".to_owned()),
                ("keepalives_count", String::new()),
                ("keepalives_idle", String::new()),
                ("keepalives_interval", String::new()),
            ],
            seconds => [
                ("keepalives", "1".to_owned()),
                ("connect_timeout", seconds.to_string()),
                (
                    "tcp_user_timeout",
                    seconds
                        .saturating_mul(1000)
                        .min(i32::MAX as u64)
                        .to_string(),
                ),
                ("keepalives_count", "3".to_owned()),
                ("keepalives_idle", (seconds / 2).max(1).to_string()),
                ("keepalives_interval", (seconds / 6).max(1).to_string()),
            ],
        });
        let ssl = self.ssl.as_ref();
        let path = |path: Option<&PathBuf>| path.map(|path| path.to_string_lossy().into_owned());
        let root = path(ssl.and_then(|ssl| ssl.root_certificate.as_ref()));
        let certificate = path(ssl.and_then(|ssl| ssl.certificate.as_ref()));
        let key = path(ssl.and_then(|ssl| ssl.key.as_ref()));
        let key_password = ssl.and_then(|ssl| ssl.key_password.as_ref());
        let pairs = [
            ("host", self.host.as_deref()),
            ("port", port.as_deref()),
            ("dbname", self.database.as_deref()),
            ("user", self.username.as_deref()),
            ("password", self.password.as_ref().map(Secret::expose)),
            ("sslmode", ssl_mode.as_deref()),
            ("sslrootcert", root.as_deref()),
            ("sslcert", certificate.as_deref()),
            ("sslkey", key.as_deref()),
            ("sslpassword", key_password.map(Secret::expose)),
        ];
        let probes = probes
            .iter()
            .flatten()
            .map(|(name, value)| (*name, Some(value.as_str())));
        let mut dsn = String::new();
        for (name, value) in pairs.into_iter().chain(probes) {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
                dsn.push_str(&format!("{name}='{quoted}' "));
            }
        }
        Secret::new(dsn)
    }
}
