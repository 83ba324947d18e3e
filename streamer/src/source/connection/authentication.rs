//! Authentication: trust, password, md5, SCRAM-SHA-256 with and without channel
//! binding.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;

use super::message::MessageReader;
use super::socket::{WriteHalf, io_text};
use crate::error::{Failure, Result};
use crate::source::conninfo::{Address, Conninfo, Host};
use crate::source::report::{self, Doing};
use crate::source::secret::Secret;
use crate::source::tls::{self, ChannelBinding, Secured};

/// What is needed to answer the server's authentication requests.
pub struct Authentication<'a> {
    pub conninfo: &'a Conninfo,
    pub host: &'a Host,
    pub reader: &'a mut MessageReader,
    pub writer: &'a mut WriteHalf,
    /// `None`: without TLS.
    pub secured: Option<&'a Secured>,
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
                    self.allow_unbound()?;
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
            if kind != 10 {
                self.allow_unbound()?;
            }
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
        let (mechanism, binding) = self.mechanism(mechanisms)?;
        let mut scram = ScramSha256::new(password.expose().as_bytes(), binding);
        let refused = |error: std::io::Error| {
            Failure::definite(format!("SCRAM authentication failed: {}", io_text(&error)))
        };
        self.send(|out| frontend::sasl_initial_response(mechanism, scram.message(), out))
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

    /// Which of the server's mechanisms, and what it is bound to.
    ///
    /// Where we could bind and the server does not offer to, the exchange says
    /// so ("y"): a server that did offer then knows that somebody in between
    /// took the offer out (RFC 5802 section 6).
    fn mechanism(&self, offered: &[u8]) -> Result<(&'static str, sasl::ChannelBinding)> {
        let offers = |name: &str| {
            offered
                .split(|byte| *byte == 0)
                .any(|known| known == name.as_bytes())
        };
        let wanted = self.conninfo.tls.channel_binding;
        if self.secured.is_none() && offers(SCRAM_SHA_256_PLUS) {
            return Err(Failure::definite(
                "the server offers to bind authentication to TLS on a connection without TLS",
            )
            .hint(
                "somebody in between may have taken TLS away: connect with sslmode=verify-full",
            ));
        }
        let end_point = self
            .secured
            .filter(|_| wanted != ChannelBinding::Disable)
            .and_then(|secured| secured.end_point.clone());
        match end_point {
            Some(hash) if offers(SCRAM_SHA_256_PLUS) => {
                return Ok((
                    SCRAM_SHA_256_PLUS,
                    sasl::ChannelBinding::tls_server_end_point(hash),
                ));
            }
            _ => self.allow_unbound()?,
        }
        if !offers(SCRAM_SHA_256) {
            return Err(
                Failure::definite("the server offers no SASL mechanism that walferry has")
                    .hint("walferry speaks SCRAM-SHA-256 and SCRAM-SHA-256-PLUS"),
            );
        }
        let binding = match end_point {
            Some(_) => sasl::ChannelBinding::unrequested(),
            None => sasl::ChannelBinding::unsupported(),
        };
        Ok((SCRAM_SHA_256, binding))
    }

    /// Refuses what is not bound to the server's certificate, where that was
    /// asked for.
    fn allow_unbound(&self) -> Result<()> {
        if self.conninfo.tls.channel_binding != ChannelBinding::Require {
            return Ok(());
        }
        let failure = Failure::definite(
            "channel_binding=require, and the server does not bind authentication to TLS",
        );
        Err(match self.secured {
            None => failure
                .detail("the connection is without TLS")
                .hint("channel binding needs TCP, TLS (sslmode=require) and SCRAM-SHA-256"),
            Some(secured) if secured.end_point.is_none() => failure
                .detail("there is no binding to the signature algorithm of the server's certificate (such as Ed25519)")
                .hint("give the server a certificate signed with RSA or ECDSA and SHA-256, or use channel_binding=prefer"),
            Some(_) => failure.hint("give this role a scram-sha-256 line in pg_hba.conf and a password stored so"),
        })
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
    tls::failure_of(error).unwrap_or_else(|| {
        Failure::transient(format!(
            "lost the connection to the server: {}",
            io_text(error)
        ))
    })
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
