//! From the hosts of the settings to an authenticated connection.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use postgres_protocol::message::frontend;
use tokio::net::TcpStream;

use super::authentication::{Authentication, closed, lost};
use super::socket::{self, Peer, Stream};
use super::{CancelToken, Connection, MessageReader, OLDEST_SERVER, Replication};
use crate::error::{Class, Failure, Result};
use crate::source::conninfo::{Address, Conninfo, Host, TargetSessionAttrs};
use crate::source::report::{self, Doing};
use crate::source::tls::{self, Handshake, Secured, SslMode};

impl Connection {
    /// Connects to the first host of `conninfo` that answers and is what
    /// `target_session_attrs` asks for.
    ///
    /// # Errors
    /// Transient when no host answers or none is of the kind asked for;
    /// definite when a server refuses us.
    pub async fn connect(conninfo: &Conninfo, replication: Replication) -> Result<Self> {
        let conninfo = Arc::new(conninfo.clone());
        let rounds = match conninfo.target_session_attrs {
            TargetSessionAttrs::PreferStandby => {
                &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any][..]
            }
            one => &[one],
        };
        let mut failures: Vec<(String, Failure)> = Vec::new();
        for wanted in rounds {
            failures.clear();
            for host in &conninfo.hosts {
                match Self::connect_host(&conninfo, host, replication).await {
                    Ok(connection) => match connection.lacks(*wanted) {
                        None => return Ok(connection),
                        Some(lack) => failures.push((
                            host.to_string(),
                            Failure::transient(format!("{host} {lack}")).hint(format!(
                                "target_session_attrs={} asks for another server: add it to the hosts",
                                conninfo.target_session_attrs
                            )),
                        )),
                    },
                    // As in libpq, a server that answered and refused us ends
                    // the search: the next would see the same mistake.
                    Err(failure) if failure.class != Class::Transient => return Err(failure),
                    Err(failure) => failures.push((host.to_string(), failure)),
                }
            }
        }
        Err(match failures.as_slice() {
            [(_, only)] => only.clone(),
            several => {
                Failure::transient(format!("none of the {} hosts could be used", several.len()))
                    .detail(
                        several
                            .iter()
                            .map(|(_, failure)| failure.message.as_str())
                            .collect::<Vec<_>>()
                            .join("; "),
                    )
            }
        })
    }

    async fn connect_host(
        conninfo: &Arc<Conninfo>,
        host: &Host,
        replication: Replication,
    ) -> Result<Self> {
        let attempt = Self::start_up(conninfo, host, replication);
        let connection = match conninfo.connect_timeout {
            None => attempt.await?,
            Some(timeout) => tokio::time::timeout(timeout, attempt).await.map_err(|_| {
                Failure::transient(format!(
                    "no connection to {host} within {} s",
                    timeout.as_secs()
                ))
                .hint("a firewall may drop the packets; connect_timeout sets how long to wait")
            })??,
        };
        let version = connection.server_version();
        if version < OLDEST_SERVER {
            return Err(Failure::definite(format!(
                "the server is PostgreSQL {}; walferry needs 14 or later",
                connection.parameter("server_version").unwrap_or("unknown")
            ))
            .hint("upgrade the server, or replicate from one that is newer"));
        }
        Ok(connection)
    }

    /// Connects with TLS or without, as `sslmode` says, and in the other way
    /// where the first was refused and the mode leaves both open.
    async fn start_up(
        conninfo: &Arc<Conninfo>,
        host: &Host,
        replication: Replication,
    ) -> Result<Self> {
        let attempts = match (&host.address, conninfo.tls.mode) {
            // Who can get between the ends of a unix socket has won already.
            (Address::Unix(_), _) | (_, SslMode::Disable) => &[Encryption::None][..],
            (_, SslMode::Allow) => &[Encryption::None, Encryption::IfOffered],
            (_, SslMode::Prefer) => &[Encryption::IfOffered, Encryption::None],
            _ => &[Encryption::Demanded],
        };
        let mut before: Option<Refused> = None;
        for encryption in attempts {
            let refused = match Self::attempt(conninfo, host, replication, *encryption).await {
                Ok(connection) => return Ok(connection),
                Err(refused) => refused,
            };
            let failure = match before.take() {
                None if refused.other_may_do && attempts.len() > 1 => {
                    tracing::debug!(
                        "{host} refused a connection {}: {}",
                        with_or_without(refused.secured),
                        refused.failure.message
                    );
                    before = Some(refused);
                    continue;
                }
                None => refused.failure,
                Some(before) => either(before, refused),
            };
            return Err(failure);
        }
        // Not reached: the last attempt is never followed by another.
        Err(closed())
    }

    async fn attempt(
        conninfo: &Arc<Conninfo>,
        host: &Host,
        replication: Replication,
        encryption: Encryption,
    ) -> Result<Self, Refused> {
        let in_tls = |failure| Refused {
            failure,
            secured: true,
            other_may_do: true,
        };
        // Files are read first: what is wrong with them is said even where the
        // server is out of reach.
        let handshake = match encryption {
            Encryption::None => None,
            _ => Some(Handshake::prepare(&conninfo.tls, host).map_err(in_tls)?),
        };
        let (stream, peer) = socket::open(host, &conninfo.keepalives)
            .await
            .map_err(Refused::final_word)?;
        let (stream, secured) = match (stream, handshake) {
            (Stream::Tcp(stream), Some(handshake)) => {
                Self::secure(conninfo, handshake, stream, encryption)
                    .await
                    .map_err(in_tls)?
            }
            (stream, _) => (stream, None),
        };
        let (read, mut writer) = stream.split();
        let mut reader = MessageReader::new(read);
        let out = start_up_message(conninfo, replication).map_err(Refused::final_word)?;
        if let Err(error) = writer.write_all(&out).await {
            // With TLS 1.3 the server's refusal of our certificate may lie there
            // to be read.
            let failure = match reader.next().await {
                Err(failure) if failure.class == Class::Definite => failure,
                _ => lost(&error),
            };
            return Err(Refused::final_word(failure));
        }
        Authentication {
            conninfo,
            host,
            reader: &mut reader,
            writer: &mut writer,
            secured: secured.as_ref(),
        }
        .perform()
        .await
        .map_err(|failure| Refused {
            // The server's own refusal: pg_hba.conf may have another line for
            // the other way.
            other_may_do: failure.sqlstate.is_some()
                && secured.is_some() == (encryption == Encryption::IfOffered),
            secured: secured.is_some(),
            failure,
        })?;
        let mut connection = Connection {
            reader,
            writer,
            conninfo: Arc::clone(conninfo),
            host: host.clone(),
            replication,
            parameters: HashMap::new(),
            cancel: CancelToken::new(peer.clone(), secured.clone(), 0, 0),
            busy: true,
        };
        connection
            .finish_start_up(peer, secured)
            .await
            .map_err(Refused::final_word)?;
        Ok(connection)
    }

    /// Brings a connection into TLS, or leaves it as it is where the server has
    /// none and that will do.
    async fn secure(
        conninfo: &Conninfo,
        handshake: Handshake,
        mut stream: TcpStream,
        encryption: Encryption,
    ) -> Result<(Stream, Option<Secured>)> {
        if tls::ask(&mut stream).await? {
            let (stream, secured) = handshake.perform(stream).await?;
            return Ok((Stream::Tls(Box::new(stream)), Some(secured)));
        }
        if encryption == Encryption::Demanded {
            return Err(Failure::definite(format!(
                "the server has no TLS, and sslmode={} demands it",
                conninfo.tls.mode
            ))
            .hint("switch it on there (ssl = on, with ssl_cert_file and ssl_key_file), or connect through a private network with sslmode=disable"));
        }
        Ok((Stream::Tcp(stream), None))
    }

    async fn finish_start_up(&mut self, peer: Peer, secured: Option<Secured>) -> Result<()> {
        loop {
            let mut message = self.expect_message().await?;
            match message.tag {
                b'K' if message.body.len() >= 8 => {
                    let process_id = message.body.get_i32();
                    let secret_key = message.body.get_i32();
                    self.cancel =
                        CancelToken::new(peer.clone(), secured.clone(), process_id, secret_key);
                }
                b'Z' => {
                    self.busy = false;
                    return Ok(());
                }
                b'E' => {
                    return Err(report::failure(
                        &message.body,
                        &Doing::Connecting(&self.conninfo),
                    ));
                }
                _ => {}
            }
        }
    }
}

/// What one attempt to connect does about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    None,
    /// TLS if the server has it.
    IfOffered,
    Demanded,
}

/// An attempt to connect that failed.
struct Refused {
    failure: Failure,
    /// It was made with TLS.
    secured: bool,
    /// It may work with TLS where this was without, or the other way round.
    other_may_do: bool,
}

impl Refused {
    fn final_word(failure: Failure) -> Self {
        Refused {
            failure,
            secured: false,
            other_may_do: false,
        }
    }
}

fn with_or_without(secured: bool) -> &'static str {
    if secured { "with TLS" } else { "without TLS" }
}

/// Of two refusals the one with TLS, for it tells more, and a word on the other.
fn either(first: Refused, second: Refused) -> Failure {
    let (main, other) = if first.secured {
        (first, second)
    } else {
        (second, first)
    };
    let also = format!(
        "{}: {}",
        with_or_without(other.secured),
        other.failure.message
    );
    let mut failure = main.failure;
    // Both failed: what passes by itself in one way is worth another try.
    if other.failure.class == Class::Transient {
        failure.class = Class::Transient;
    }
    failure.detail = Some(match failure.detail {
        Some(detail) => format!("{detail}; {also}"),
        None => also,
    });
    failure
}

fn start_up_message(conninfo: &Conninfo, replication: Replication) -> Result<BytesMut> {
    let mut parameters = vec![
        ("user", conninfo.user.as_str()),
        ("database", &conninfo.dbname),
        ("application_name", &conninfo.application_name),
        ("client_encoding", "UTF8"),
    ];
    if replication == Replication::Database {
        parameters.push(("replication", "database"));
    }
    if let Some(options) = &conninfo.options {
        parameters.push(("options", options));
    }
    let mut out = BytesMut::new();
    frontend::startup_message(parameters, &mut out)
        .map_err(|_| Failure::usage("a connection setting holds a zero byte"))?;
    Ok(out)
}
