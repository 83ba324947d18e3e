//! Where the source is and who we are there, as libpq's users say it.
//!
//! A setting is taken from the first place that has it: the connection string
//! (URI or `key=value`), the service it names, the environment (`PGHOST` …),
//! the default. Passwords come last of all from the password file. See
//! "Parameter Key Words", "Environment Variables", "The Password File" and
//! "The Connection Service File" in libpq's documentation; `docs/connecting.md`
//! lists where this differs.

mod dsn;
pub(crate) mod keyword;
mod passfile;
mod servicefile;
mod settings;
mod uri;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use settings::{Environment, Settings};

use super::secret::Secret;
use super::tls::{ChannelBinding, SslMode, TlsSettings};
use crate::error::{Failure, Result};

/// The port servers listen on unless told otherwise.
const DEFAULT_PORT: u16 = 5432;

/// How long a connection attempt to one host may take. libpq waits for ever;
/// a program that runs unattended should not.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where passwords stand in a connection string, as they are written there.
pub fn password_spans(text: &str) -> Vec<std::ops::Range<usize>> {
    uri::password_spans(text).unwrap_or_else(|| dsn::password_spans(text))
}

/// Everything needed to connect. `Debug` and `Display` never show a password.
#[derive(Clone, Debug)]
pub struct Conninfo {
    /// Tried in this order; never empty.
    pub hosts: Vec<Host>,
    pub user: String,
    pub dbname: String,
    password: Option<Secret>,
    passfile: Option<PathBuf>,
    /// For one host; `None` waits for ever.
    pub connect_timeout: Option<Duration>,
    pub application_name: String,
    /// Command-line options for the backend, `-c name=value …`.
    pub options: Option<String>,
    pub keepalives: Keepalives,
    pub target_session_attrs: TargetSessionAttrs,
    pub require_auth: RequireAuth,
    pub tls: TlsSettings,
}

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub address: Address,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The folder of a unix socket.
    Unix(PathBuf),
    Tcp {
        /// The name the user gave; what errors show and passwords are for.
        name: String,
        /// Connect to this instead of looking the name up.
        hostaddr: Option<IpAddr>,
    },
}

/// TCP keepalives (`tcp(7)`); `None` leaves the system's value. Where nothing
/// is said a vanished server is noticed within two minutes, not after the
/// system's two hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalives {
    pub on: bool,
    pub idle: Option<Duration>,
    pub interval: Option<Duration>,
    pub count: Option<u32>,
    /// `TCP_USER_TIMEOUT`: how long sent bytes may stay unacknowledged.
    pub user_timeout: Option<Duration>,
}

/// Which server of several is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// The authentication methods that may be used, `require_auth`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequireAuth {
    methods: Vec<String>,
    /// The list names what must not be used.
    negated: bool,
}

impl RequireAuth {
    const KNOWN: [&str; 7] = [
        "password",
        "md5",
        "scram-sha-256",
        "none",
        "gss",
        "sspi",
        "oauth",
    ];

    /// Whether the server may ask for `method`.
    pub fn allows(&self, method: &str) -> bool {
        self.methods.is_empty() || self.negated != self.methods.iter().any(|known| known == method)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut parsed = RequireAuth::default();
        for (index, item) in text.split(',').map(str::trim).enumerate() {
            let negated = item.starts_with('!');
            let method = item.trim_start_matches('!');
            if !Self::KNOWN.contains(&method) {
                return Err(Failure::usage(format!(
                    "unknown authentication method {method:?} in require_auth"
                ))
                .hint(format!("the methods are {}", Self::KNOWN.join(", "))));
            }
            if index > 0 && negated != parsed.negated {
                return Err(Failure::usage(
                    "require_auth mixes methods with and without \"!\"",
                ));
            }
            parsed.negated = negated;
            parsed.methods.push(method.to_owned());
        }
        Ok(parsed)
    }
}

impl Conninfo {
    /// Reads a URI, a `key=value` string or (with neither `:` nor `=`) the
    /// name of a database; `None` is everything from the environment.
    ///
    /// # Errors
    /// A usage failure that names what is wrong, never the value of a password.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        Self::parse_with(text, &Environment::of_process())
    }

    /// [`Conninfo::parse`] in a given environment.
    pub fn parse_with(text: Option<&str>, environment: &Environment) -> Result<Self> {
        let mut settings = Settings::default();
        let text = text.unwrap_or("").trim();
        if let Some(rest) = uri::without_scheme(text) {
            uri::parse(rest, &mut settings)?;
        } else if text.contains('=') {
            dsn::parse(text, &mut settings)?;
        } else if text.contains("://") || text.contains(':') {
            return Err(Failure::usage(
                "the source is neither a postgres:// URL nor a connection string",
            )
            .hint("write postgres://user@host:5432/dbname or host=… user=… dbname=…"));
        } else if !text.is_empty() {
            settings.set("dbname", text.to_owned())?;
        }
        settings.fill(environment)?;
        Self::from_settings(&settings, environment)
    }

    fn from_settings(settings: &Settings, environment: &Environment) -> Result<Self> {
        refuse_unsupported(settings)?;
        let user = match settings.get("user") {
            Some(user) => user.to_owned(),
            None => settings::system_user().ok_or_else(|| {
                Failure::usage("no user is given and this process's own has no name")
                    .hint("name one: postgres://user@host/dbname, or PGUSER")
            })?,
        };
        let connect_timeout = match settings.number("connect_timeout")? {
            None => Some(DEFAULT_CONNECT_TIMEOUT),
            Some(seconds) if seconds <= 0 => None,
            // libpq: less than two seconds is rounded up, there as here.
            Some(seconds) => Some(Duration::from_secs(seconds.max(2) as u64)),
        };
        let application_name = ["application_name", "fallback_application_name"]
            .into_iter()
            .find_map(|name| settings.get(name))
            .unwrap_or("walferry");
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let passfile = match settings.get("passfile") {
            Some(path) => Some(PathBuf::from(path)),
            None => environment.home().map(|home| home.join(".pgpass")),
        };
        let tls = TlsSettings::read(settings, environment)?;
        let hosts = hosts(settings)?;
        refuse_contradictions(settings, &tls, &hosts)?;
        Ok(Conninfo {
            hosts,
            tls,
            dbname: settings.get("dbname").unwrap_or(&user).to_owned(),
            user,
            password: settings.get("password").map(Secret::new),
            passfile,
            connect_timeout,
            application_name: application_name.to_owned(),
            options: settings.get("options").map(str::to_owned),
            keepalives: Keepalives {
                on: settings.number("keepalives")? != Some(0),
                idle: settings.positive("keepalives_idle", 60)?.map(seconds),
                interval: settings.positive("keepalives_interval", 10)?.map(seconds),
                count: settings.positive("keepalives_count", 6)?,
                user_timeout: settings
                    .positive("tcp_user_timeout", 120_000)?
                    .map(|milliseconds| Duration::from_millis(milliseconds.into())),
            },
            target_session_attrs: match settings.get("target_session_attrs") {
                Some(text) => text.parse()?,
                None => TargetSessionAttrs::Any,
            },
            require_auth: match settings.get("require_auth") {
                Some(text) => RequireAuth::parse(text)?,
                None => RequireAuth::default(),
            },
        })
    }

    /// The password for `host`: the given one, else the password file's, which
    /// is read anew each time so that a changed password needs no restart.
    pub fn password_for(&self, host: &Host) -> Option<Secret> {
        if self.password.is_some() {
            return self.password.clone();
        }
        let name = match &host.address {
            Address::Unix(folder) => folder.to_string_lossy().into_owned(),
            Address::Tcp { name, .. } => name.clone(),
        };
        passfile::password(
            self.passfile.as_deref()?,
            &passfile::Wanted {
                host: &name,
                port: host.port,
                dbname: &self.dbname,
                user: &self.user,
            },
        )
    }

    /// The password file that is looked at when no password is given.
    pub fn passfile(&self) -> Option<&std::path::Path> {
        self.passfile.as_deref()
    }

    /// The password that was given with the connection string or `PGPASSWORD`.
    pub fn given_password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }
}

/// Settings that promise something this version does not do are refused, never
/// passed over.
fn refuse_unsupported(settings: &Settings) -> Result<()> {
    for (name, harmless) in [
        ("gssencmode", &["disable", "prefer"][..]),
        ("load_balance_hosts", &["disable"]),
        ("requirepeer", &[""]),
        ("sslnegotiation", &["postgres"]),
        ("sslcrldir", &[""]),
        ("sslkeylogfile", &[""]),
    ] {
        if let Some(value) = settings.get(name)
            && !harmless.contains(&value)
        {
            return Err(Failure::usage(format!(
                "{name}={value} is not supported by this version of walferry"
            ))
            .hint(format!("leave {name} out of the connection settings")));
        }
    }
    if let Some(encoding) = settings.get("client_encoding") {
        let plain: String = encoding
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_ascii_lowercase();
        if !matches!(plain.as_str(), "utf8" | "unicode" | "auto") {
            tracing::warn!("client_encoding={encoding} has no effect: walferry reads UTF8");
        }
    }
    Ok(())
}

/// What can't be had together, said before anything is tried.
fn refuse_contradictions(settings: &Settings, tls: &TlsSettings, hosts: &[Host]) -> Result<()> {
    let named = settings.get("host").unwrap_or_default();
    if tls.mode == SslMode::VerifyFull
        && settings.get("hostaddr").is_some()
        && (named.is_empty() || named.split(',').any(|name| name.trim().is_empty()))
    {
        return Err(Failure::usage(
            "sslmode=verify-full needs the name of the host, and there is only hostaddr",
        )
        .hint("add host=NAME: the name in the server's certificate"));
    }
    let all_without = tls.mode == SslMode::Disable
        || hosts
            .iter()
            .all(|host| matches!(host.address, Address::Unix(_)));
    if tls.channel_binding == ChannelBinding::Require && all_without {
        return Err(Failure::usage(
            "channel_binding=require needs TLS, and there is none with sslmode=disable or a unix socket",
        )
        .hint("connect over TCP with sslmode=require or more"));
    }
    Ok(())
}

/// libpq's rule for lists: as many ports and addresses as hosts, or one port
/// for all of them.
fn hosts(settings: &Settings) -> Result<Vec<Host>> {
    let list = |name| -> Vec<&str> {
        settings
            .get(name)
            .map(|text| text.split(',').map(str::trim).collect())
            .unwrap_or_default()
    };
    let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = names.len().max(addresses.len()).max(1);
    let mismatch = |what: &str, found: usize| {
        Failure::usage(format!(
            "the connection settings have {found} {what} for {count} hosts"
        ))
    };
    if !addresses.is_empty() && !names.is_empty() && addresses.len() != names.len() {
        return Err(mismatch("hostaddr values", addresses.len()));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(mismatch("ports", ports.len()));
    }
    (0..count)
        .map(|index| {
            let name = names.get(index).copied().unwrap_or("");
            let port = ports
                .get(index)
                .or(if ports.len() == 1 {
                    ports.first()
                } else {
                    None
                })
                .copied()
                .filter(|port| !port.is_empty());
            let port = match port {
                None => DEFAULT_PORT,
                Some(text) => text.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                    // Not repeated: it may be part of a password.
                    Failure::usage(
                        "a port in the connection settings is not a number from 1 to 65535",
                    )
                    .hint("in a URL, write a password's : / ? @ as %3A %2F %3F %40")
                })?,
            };
            let hostaddr = match addresses.get(index).filter(|text| !text.is_empty()) {
                Some(text) => Some(text.parse::<IpAddr>().map_err(|_| {
                    Failure::usage(format!("hostaddr {text:?} is not an IP address"))
                })?),
                None => None,
            };
            let address = match (name, hostaddr) {
                (name, Some(hostaddr)) => Address::Tcp {
                    name: if name.is_empty() {
                        hostaddr.to_string()
                    } else {
                        name.to_owned()
                    },
                    hostaddr: Some(hostaddr),
                },
                ("", None) => Address::Unix(settings::default_socket_folder()),
                (name, None) if name.starts_with(['/', '@']) => Address::Unix(name.into()),
                (name, None) => Address::Tcp {
                    name: name.to_owned(),
                    hostaddr: None,
                },
            };
            Ok(Host { address, port })
        })
        .collect()
}

impl FromStr for TargetSessionAttrs {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "any" => Self::Any,
            "read-write" => Self::ReadWrite,
            "read-only" => Self::ReadOnly,
            "primary" => Self::Primary,
            "standby" => Self::Standby,
            "prefer-standby" => Self::PreferStandby,
            other => {
                return Err(
                    Failure::usage(format!("unknown target_session_attrs {other:?}")).hint(
                        "it is any, read-write, read-only, primary, standby or prefer-standby",
                    ),
                );
            }
        })
    }
}

impl fmt::Display for TargetSessionAttrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Unix(folder) => write!(f, "{}:{}", folder.display(), self.port),
            Address::Tcp { name, .. } if name.contains(':') => {
                write!(f, "[{name}]:{}", self.port)
            }
            Address::Tcp { name, .. } => write!(f, "{name}:{}", self.port),
        }
    }
}

/// `ferry@db.example:5432/shop`: who, where, what; no secrets.
impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.user)?;
        for (index, host) in self.hosts.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            host.fmt(f)?;
        }
        write!(f, "/{}", self.dbname)
    }
}
