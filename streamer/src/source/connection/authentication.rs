//! Start-up packet and authentication: trust, password, md5, SCRAM-SHA-256.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;

use super::message::MessageReader;
use super::socket::{WriteHalf, io_text};
use crate::error::{Failure, Result};
use crate::source::conninfo::{Address, Conninfo, Host};
use crate::source::report::{self, Doing};
use crate::source::secret::Secret;

/// What is needed to answer the server's authentication requests.
pub struct Authentication<'a> {
    pub conninfo: &'a Conninfo,
    pub host: &'a Host,
    pub reader: &'a mut MessageReader,
    pub writer: &'a mut WriteHalf,
}

impl Authentication<'_> {
    /// Answers until the server is content (AuthenticationOk).
    pub async fn perform(&mut self) -> Result<()> {
        let mut asked = false;
        loop {
            let (kind, body) = self.request().await?;
            let method = match kind {
                0 if asked => return Ok(()),
                0 => {
                    self.allow("none")?;
                    return Ok(());
                }
                3 => "password",
                5 => "md5",
                10 => "scram-sha-256",
                2 | 7 | 8 | 9 => {
                    return Err(Failure::definite(
                        "the server asks for GSSAPI or SSPI authentication, which walferry does not have",
                    )
                    .hint("give this role a scram-sha-256 line in pg_hba.conf"));
                }
                other => {
                    return Err(Failure::definite(format!(
                        "the server asks for authentication method {other}, which walferry does not know"
                    )));
                }
            };
            self.allow(method)?;
            asked = true;
            let password = self.password()?;
            match kind {
                3 => self.send_password(password.expose().as_bytes()).await?,
                5 => {
                    let salt = body
                        .as_ref()
                        .try_into()
                        .map_err(|_| malformed("md5 salt"))?;
                    let hash = md5_hash(
                        self.conninfo.user.as_bytes(),
                        password.expose().as_bytes(),
                        salt,
                    );
                    self.send_password(hash.as_bytes()).await?;
                }
                _ => self.scram(&body, &password).await?,
            }
        }
    }

    async fn scram(&mut self, mechanisms: &[u8], password: &Secret) -> Result<()> {
        if !mechanisms
            .split(|byte| *byte == 0)
            .any(|name| name == SCRAM_SHA_256.as_bytes())
        {
            return Err(Failure::definite(
                "the server offers no SASL mechanism that works without TLS",
            )
            .hint("walferry speaks SCRAM-SHA-256"));
        }
        let mut scram =
            ScramSha256::new(password.expose().as_bytes(), ChannelBinding::unsupported());
        let refused = |error: std::io::Error| {
            Failure::definite(format!("SCRAM authentication failed: {}", io_text(&error)))
        };
        self.send(|out| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), out))
            .await?;
        let (11, body) = self.request().await? else {
            return Err(malformed("SASL exchange"));
        };
        scram.update(&body).map_err(refused)?;
        self.send(|out| frontend::sasl_response(scram.message(), out))
            .await?;
        let (12, body) = self.request().await? else {
            return Err(malformed("SASL exchange"));
        };
        // The server proves here that it knows the password too.
        scram.finish(&body).map_err(refused)
    }

    /// The next authentication request: its number and what follows.
    async fn request(&mut self) -> Result<(u32, Bytes)> {
        loop {
            let message = self.reader.next().await?.ok_or_else(closed)?;
            let mut body = message.body;
            match message.tag {
                b'R' if body.len() >= 4 => {
                    let kind = body.get_u32();
                    return Ok((kind, body));
                }
                b'E' => return Err(report::failure(&body, &Doing::Connecting(self.conninfo))),
                b'N' => report::log_notice(&body),
                b'v' => {}
                other => {
                    return Err(Failure::definite(format!(
                        "the server answered the start-up packet with message {:?}",
                        char::from(other)
                    ))
                    .hint("is this the port of a PostgreSQL server?"));
                }
            }
        }
    }

    fn allow(&self, method: &str) -> Result<()> {
        if self.conninfo.require_auth.allows(method) {
            return Ok(());
        }
        Err(Failure::definite(format!(
            "the server asks for authentication method {method}, which require_auth does not allow"
        )))
    }

    fn password(&self) -> Result<Secret> {
        self.conninfo.password_for(self.host).ok_or_else(|| {
            let name = match &self.host.address {
                Address::Unix(_) => "localhost".to_owned(),
                Address::Tcp { name, .. } => name.replace(':', "\\:"),
            };
            let file = self
                .conninfo
                .passfile()
                .map_or("~/.pgpass".to_owned(), |path| path.display().to_string());
            Failure::definite(format!(
                "the server asks for the password of role \"{}\", and none is given",
                self.conninfo.user
            ))
            .hint(format!(
                "set PGPASSWORD, or add the line {name}:{}:{}:{}:PASSWORD to {file} (mode 0600)",
                self.host.port, self.conninfo.dbname, self.conninfo.user
            ))
        })
    }

    async fn send_password(&mut self, password: &[u8]) -> Result<()> {
        self.send(|out| frontend::password_message(password, out))
            .await
    }

    async fn send(
        &mut self,
        build: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut out = BytesMut::new();
        build(&mut out).map_err(|_| {
            Failure::definite("the password or user holds a zero byte, which no role's can")
        })?;
        self.writer
            .write_all(&out)
            .await
            .map_err(|error| lost(&error))
    }
}

pub fn lost(error: &std::io::Error) -> Failure {
    Failure::transient(format!(
        "lost the connection to the server: {}",
        io_text(error)
    ))
}

/// The server went away while it owed an answer.
pub fn closed() -> Failure {
    Failure::transient("the server closed the connection unexpectedly")
        .hint("the server's log says why; a crash, a restart or a proxy's limit are usual")
}

pub fn malformed(what: &str) -> Failure {
    Failure::definite(format!("the server sent a malformed {what}"))
        .hint("is this the port of a PostgreSQL server?")
}
