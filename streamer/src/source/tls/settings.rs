//! The connection keywords about TLS.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Failure, Result};
use crate::source::conninfo::{Environment, Settings};
use crate::source::secret::Secret;

/// When TLS is used and what is verified, `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// Only where the server refuses us without.
    Allow,
    /// Wherever the server can.
    Prefer,
    Require,
    /// The server's certificate must come from an authority that we trust.
    VerifyCa,
    /// And be made out to the host we asked for.
    VerifyFull,
}

impl SslMode {
    pub const ALL: [SslMode; 6] = [
        SslMode::Disable,
        SslMode::Allow,
        SslMode::Prefer,
        SslMode::Require,
        SslMode::VerifyCa,
        SslMode::VerifyFull,
    ];

    pub fn name(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }

    /// Whether a connection without TLS is out of the question.
    pub fn is_required(self) -> bool {
        matches!(
            self,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull
        )
    }

    /// Whether it is out of the question to know no authority.
    pub fn verifies(self) -> bool {
        matches!(self, SslMode::VerifyCa | SslMode::VerifyFull)
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SslMode {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        one_of("sslmode", text, Self::ALL.map(|mode| (mode.name(), mode)))
    }
}

/// Whether SCRAM is tied to the server's certificate, `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    /// Where server and TLS can.
    #[default]
    Prefer,
    Require,
}

/// Whether our certificate is shown, `sslcertmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateMode {
    Disable,
    /// If the server asks and there is one.
    #[default]
    Allow,
    /// The server has to ask, and there has to be one.
    Require,
}

/// Versions of TLS that can be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V1_2,
    V1_3,
}

/// A file that was named, or libpq's default, which need not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    pub path: PathBuf,
    pub given: bool,
}

/// Whom to trust, `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Nobody is known: there is no home to look in either.
    None,
    File(NamedFile),
    /// The authorities that this machine trusts.
    System,
}

/// Everything that was asked for about TLS. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    pub mode: SslMode,
    pub channel_binding: ChannelBinding,
    pub(super) roots: Roots,
    pub(super) revoked: Option<NamedFile>,
    pub(super) certificate: Option<NamedFile>,
    pub(super) key: Option<NamedFile>,
    pub(super) key_password: Option<Secret>,
    pub(super) certificate_mode: CertificateMode,
    pub(super) send_name: bool,
    pub(super) oldest: Version,
    pub(super) newest: Version,
}

impl TlsSettings {
    /// # Errors
    /// Usage: a value that is unknown, or settings that contradict each other.
    pub fn read(settings: &Settings, environment: &Environment) -> Result<Self> {
        let system = settings.get("sslrootcert") == Some("system");
        let mode = match (settings.get("sslmode"), settings.get("requiressl")) {
            (Some(text), _) => text.parse()?,
            (None, Some("1")) => SslMode::Require,
            // libpq: who trusts everybody's authorities has to look at names.
            (None, _) if system => SslMode::VerifyFull,
            (None, _) => SslMode::Prefer,
        };
        if system && mode != SslMode::VerifyFull {
            return Err(Failure::usage(format!(
                "sslmode={mode} is too weak for sslrootcert=system"
            ))
            .hint("use sslmode=verify-full: anyone can have a certificate of a public authority, only not for every name"));
        }
        let file = |keyword: &str, default: &str| match settings.get(keyword) {
            Some(path) => Some(NamedFile {
                path: path.into(),
                given: true,
            }),
            None => environment.home().map(|home| NamedFile {
                path: home.join(".postgresql").join(default),
                given: false,
            }),
        };
        let choose = |keyword: &'static str| settings.get(keyword);
        let version = |keyword: &'static str, default: Version| match settings.get(keyword) {
            None => Ok(default),
            // Spoken by nothing here, so it excludes nothing as the oldest.
            Some("TLSv1" | "TLSv1.1") if keyword == OLDEST => Ok(Version::V1_2),
            Some(text) => one_of(
                keyword,
                text,
                [("TLSv1.2", Version::V1_2), ("TLSv1.3", Version::V1_3)],
            ),
        };
        let (oldest, newest) = (
            version(OLDEST, Version::V1_2)?,
            version(NEWEST, Version::V1_3)?,
        );
        if oldest > newest {
            return Err(
                Failure::usage(format!("{OLDEST} is above {NEWEST}")).hint("leave one of them out")
            );
        }
        let key_password = settings.get("sslpassword").map(Secret::new);
        Ok(TlsSettings {
            mode,
            channel_binding: match choose("channel_binding") {
                None => ChannelBinding::default(),
                Some(text) => one_of(
                    "channel_binding",
                    text,
                    [
                        ("disable", ChannelBinding::Disable),
                        ("prefer", ChannelBinding::Prefer),
                        ("require", ChannelBinding::Require),
                    ],
                )?,
            },
            roots: if system {
                Roots::System
            } else {
                file("sslrootcert", "root.crt").map_or(Roots::None, Roots::File)
            },
            revoked: file("sslcrl", "root.crl"),
            certificate: file("sslcert", "postgresql.crt"),
            key: file("sslkey", "postgresql.key"),
            key_password,
            certificate_mode: match choose("sslcertmode") {
                None => CertificateMode::default(),
                Some(text) => one_of(
                    "sslcertmode",
                    text,
                    [
                        ("disable", CertificateMode::Disable),
                        ("allow", CertificateMode::Allow),
                        ("require", CertificateMode::Require),
                    ],
                )?,
            },
            send_name: match choose("sslsni") {
                None => true,
                Some(text) => one_of("sslsni", text, [("0", false), ("1", true)])?,
            },
            oldest,
            newest,
        })
    }

    /// The password of the key, to keep it out of foreign text.
    pub fn key_password(&self) -> Option<&Secret> {
        self.key_password.as_ref()
    }
}

const OLDEST: &str = "ssl_min_protocol_version";
const NEWEST: &str = "ssl_max_protocol_version";

fn one_of<T: Copy, const N: usize>(
    keyword: &str,
    text: &str,
    known: [(&'static str, T); N],
) -> Result<T> {
    known
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            Failure::usage(format!("unknown {keyword} {text:?}"))
                .hint(format!("it is one of {}", names.join(", ")))
        })
}
