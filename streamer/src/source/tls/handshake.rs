//! Asking the server for TLS, and the handshake ("SSL Session Encryption" in
//! the protocol's documentation).

use std::io::{self, Read, Write};
use std::net::TcpStream as BlockingStream;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, ClientConnection, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::binding;
use super::client::ClientCertificate;
use super::settings::{CertificateMode, SslMode, TlsSettings, Version};
use super::trust::Trust;
use super::verify::Verifier;
use crate::error::{Failure, Result};
use crate::source::conninfo::{Address, Host};

/// What one connection's handshake needs, read from the files that were named.
pub struct Handshake {
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
    certificate: Arc<ClientCertificate>,
    certificate_mode: CertificateMode,
    name: ServerName<'static>,
}

/// What is known once TLS stands.
#[derive(Clone, Debug)]
pub struct Secured {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// The hash of the server's certificate that SCRAM can be bound to.
    pub end_point: Option<Vec<u8>>,
}

impl Handshake {
    /// # Errors
    /// Usage: a file that can't be read or used.
    pub fn prepare(settings: &TlsSettings, host: &Host) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let (name, address) = match &host.address {
            Address::Tcp { name, hostaddr } => (name.as_str(), *hostaddr),
            Address::Unix(_) => ("", None),
        };
        let verifier = Arc::new(Verifier::new(
            Arc::clone(&provider),
            Trust::load(settings)?,
            (settings.mode == SslMode::VerifyFull).then(|| name.to_owned()),
        ));
        let certificate = Arc::new(ClientCertificate::load(settings, &provider)?);
        let versions: Vec<&'static SupportedProtocolVersion> =
            [(Version::V1_2, &TLS12), (Version::V1_3, &TLS13)]
                .into_iter()
                .filter(|(version, _)| (settings.oldest..=settings.newest).contains(version))
                .map(|(_, supported)| supported)
                .collect();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| Failure::definite(format!("cannot set TLS up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_cert_resolver(Arc::clone(&certificate) as _);
        config.enable_sni = settings.send_name;
        config.resumption = Resumption::disabled();
        Ok(Handshake {
            config: Arc::new(config),
            verifier,
            certificate,
            certificate_mode: settings.certificate_mode,
            // Used for SNI only, which no address takes part in; the
            // verifier has the name.
            name: ServerName::try_from(name.to_owned()).unwrap_or_else(|_| {
                let nowhere = std::net::Ipv4Addr::UNSPECIFIED.into();
                ServerName::from(address.unwrap_or(nowhere))
            }),
        })
    }

    /// The handshake, on a connection whose server said yes.
    pub async fn perform(self, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Secured)> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector
            .connect(self.name.clone(), stream)
            .await
            .map_err(|error| self.explain(&error))?;
        if self.certificate_mode == CertificateMode::Require && !self.certificate.was_asked() {
            return Err(Failure::definite(
                "the server did not ask for a certificate, which sslcertmode=require wants",
            )
            .hint("the server asks when ssl_ca_file is set"));
        }
        let (_, session) = stream.get_ref();
        let end_point = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|der| {
                let (_, certificate) = X509Certificate::from_der(der).ok()?;
                binding::server_end_point(&certificate, der)
            });
        if let Some(version) = session.protocol_version() {
            tracing::debug!("TLS stands: {version:?}");
        }
        let secured = Secured {
            config: self.config,
            name: self.name,
            end_point,
        };
        Ok((stream, secured))
    }

    fn explain(&self, error: &io::Error) -> Failure {
        if let Some(verdict) = self.verifier.verdict() {
            return verdict;
        }
        if let Some(failure) = failure_of(error) {
            return failure;
        }
        if let Some(error) = rustls_error(error) {
            return Failure::definite(format!("the TLS handshake failed: {error}"))
                .hint("walferry speaks TLS 1.2 with ECDHE and AEAD ciphers, and TLS 1.3: see ssl_min_protocol_version and ssl_ciphers of the server");
        }
        Failure::transient(format!(
            "the connection broke in the TLS handshake: {error}"
        ))
    }
}

/// Asks for TLS. `false`: the server has none.
///
/// One byte is read and not more: what an attacker might have sent ahead must
/// not pass for the server's word inside TLS (CVE-2021-23222).
pub async fn ask(stream: &mut TcpStream) -> Result<bool> {
    let broke =
        |error: io::Error| Failure::transient(format!("the connection broke before TLS: {error}"));
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(broke)?;
    let answer = stream.read_u8().await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Failure::transient("the server closed the connection when it was asked for TLS")
        }
        _ => broke(error),
    })?;
    match answer {
        b'S' => Ok(true),
        b'N' => Ok(false),
        // Unauthenticated, so its words are nobody's to show (CVE-2024-10977).
        b'E' => Err(
            Failure::transient("the server answered the request for TLS with an error")
                .hint("the server's log says which; too many connections is usual"),
        ),
        other => Err(Failure::definite(format!(
            "the server answered the request for TLS with {:?}",
            char::from(other)
        ))
        .hint("is this the port of a PostgreSQL server?")),
    }
}

impl Secured {
    /// Sends `request` over a new connection of the same kind and waits for
    /// its end; blocking, for where nothing can be awaited.
    pub fn send_blocking(&self, mut stream: BlockingStream, request: &[u8]) -> io::Result<()> {
        let mut ask = BytesMut::new();
        frontend::ssl_request(&mut ask);
        stream.write_all(&ask)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        if answer != *b"S" {
            return Err(io::Error::other("the server has no TLS any more"));
        }
        let mut session = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(io::Error::other)?;
        let mut tls = rustls::Stream::new(&mut session, &mut stream);
        tls.write_all(request)?;
        tls.flush()?;
        // The server closes when it has read the request.
        let _ = tls.read(&mut [0]);
        Ok(())
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}

/// What the server's alert means, if that is what ended the connection. With
/// TLS 1.3 the server's word on our certificate comes after the handshake.
pub fn failure_of(error: &io::Error) -> Option<Failure> {
    use AlertDescription as Alert;
    let rustls::Error::AlertReceived(alert) = rustls_error(error)? else {
        return None;
    };
    let ours = |what: &str| {
        Failure::definite(format!("the server refuses our certificate: {what}")).hint(
            "sslcert and sslkey name it; the server takes those that an authority in its ssl_ca_file signed and its ssl_crl_file does not list",
        )
    };
    Some(match alert {
        Alert::UnknownCA => ours("its authority is unknown to it"),
        Alert::CertificateExpired => ours("it has expired"),
        Alert::CertificateRevoked => ours("it was revoked"),
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateUnknown
        | Alert::AccessDenied
        | Alert::DecryptError => ours(&format!("{alert:?}")),
        Alert::CertificateRequired => {
            Failure::definite("the server wants a certificate of ours, and there is none")
                .hint("name it in sslcert and its key in sslkey")
        }
        Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            Failure::definite(format!(
                "the server and walferry have no version or cipher of TLS in common ({alert:?})"
            ))
            .hint("walferry speaks TLS 1.2 with ECDHE and AEAD ciphers, and TLS 1.3: see ssl_min_protocol_version and ssl_ciphers of the server")
        }
        other => Failure::transient(format!("the server ended TLS with the alert {other:?}")),
    })
}
