//! The verdict on the server's certificate, as libpq and OpenSSL give it.
//!
//! Chains are webpki's to verify. Two things are looked at here, because
//! webpki is made for browsers: a self-signed certificate may be its own
//! authority, and the host may be in the common name.

use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use webpki::{CertRevocationList, EndEntityCert, KeyUsage, RevocationOptionsBuilder};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::name;
use super::trust::Trust;
use crate::error::{Failure, Result};

/// Judges one connection's server.
#[derive(Debug)]
pub struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None`: any certificate will do.
    trust: Option<Trust>,
    /// The name it has to be made out to; `None`: any.
    host: Option<String>,
    verdict: Mutex<Option<Failure>>,
}

impl Verifier {
    pub fn new(provider: Arc<CryptoProvider>, trust: Option<Trust>, host: Option<String>) -> Self {
        Verifier {
            provider,
            trust,
            host,
            verdict: Mutex::new(None),
        }
    }

    /// Why the server's certificate was refused, in our words.
    pub fn verdict(&self) -> Option<Failure> {
        self.verdict.lock().ok().and_then(|mut slot| slot.take())
    }

    fn judge(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<()> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|_| Failure::definite("the server's certificate can't be read"))?;
        if certificate.version().0 != 2 {
            return Err(Failure::definite(format!(
                "the server's certificate is of X.509 version {}, which walferry does not take",
                certificate.version().0 + 1
            ))
            .hint("make one of version 3: openssl x509 -req … -extfile FILE with the line subjectAltName=DNS:name-of-the-server"));
        }
        if let Some(trust) = &self.trust {
            let listed_itself = certificate.subject() == certificate.issuer() && trust.lists(der);
            if listed_itself {
                judge_own_authority(&certificate, now)?;
            } else {
                self.judge_chain(trust, der, &certificate, intermediates, now)?;
            }
        }
        match &self.host {
            Some(host) => name::check(&certificate, host),
            None => Ok(()),
        }
    }

    fn judge_chain(
        &self,
        trust: &Trust,
        der: &CertificateDer<'_>,
        certificate: &X509Certificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<()> {
        let lists: Vec<&CertRevocationList<'_>> = trust.revocations.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(RevocationOptionsBuilder::build);
        EndEntityCert::try_from(der)
            .and_then(|end_entity| {
                end_entity
                    .verify_for_usage(
                        self.provider.signature_verification_algorithms.all,
                        &trust.anchors,
                        intermediates,
                        now,
                        KeyUsage::server_auth(),
                        revocation,
                        None,
                    )
                    .map(|_| ())
            })
            .map_err(|error| refused(error, certificate, trust, now))
    }
}

/// A self-signed certificate that was listed is trusted as it is, while it is
/// valid and made for servers.
fn judge_own_authority(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<()> {
    judge_dates(certificate, now)?;
    let for_servers = match certificate.extended_key_usage() {
        Ok(Some(usage)) => usage.value.server_auth,
        Ok(None) => true,
        Err(_) => false,
    };
    if for_servers {
        Ok(())
    } else {
        Err(wrong_purpose())
    }
}

fn judge_dates(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<()> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let (begin, end) = (
        certificate.validity().not_before,
        certificate.validity().not_after,
    );
    if now > end.timestamp() {
        return Err(expired("the server's certificate", end));
    }
    if now < begin.timestamp() {
        return Err(Failure::definite(format!(
            "the server's certificate is valid from {begin} on only"
        ))
        .hint("is the clock of this machine right?"));
    }
    Ok(())
}

fn expired(whose: &str, end: ASN1Time) -> Failure {
    Failure::definite(format!("{whose} expired at {end}")).hint(
        "have the server's certificate renewed (SELECT pg_reload_conf() makes the server read it); is the clock of this machine right?",
    )
}

fn wrong_purpose() -> Failure {
    Failure::definite("the server's certificate is not for servers")
        .hint("its extended key usage must have serverAuth, or be absent")
}

fn refused(
    error: webpki::Error,
    certificate: &X509Certificate<'_>,
    trust: &Trust,
    now: UnixTime,
) -> Failure {
    use webpki::Error;
    if let Err(failure) = judge_dates(certificate, now) {
        return failure;
    }
    let issuer = certificate.issuer();
    match error {
        Error::UnknownIssuer | Error::CaUsedAsEndEntity if certificate.subject() == issuer => {
            Failure::definite(format!(
            "the server's certificate is self-signed and not among those of {}",
            trust.place
        ))
        .hint("if it is the right server, copy its certificate into the file that sslrootcert names")
        }
        Error::UnknownIssuer => Failure::definite(format!(
            "the server's certificate is signed by none of the authorities of {}",
            trust.place
        ))
        .detail(format!("it was issued by {issuer}"))
        .hint("name that authority's certificate in sslrootcert (on Amazon RDS and Aurora: global-bundle.pem); one that has expired does not count"),
        Error::CertExpired { not_after, .. } => expired(
            "a certificate of the server's chain",
            ASN1Time::from_timestamp(
                i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX),
            )
            .unwrap_or(ASN1Time::now()),
        ),
        Error::CertRevoked => Failure::definite("the server's certificate was revoked")
            .hint("have the server's certificate replaced; sslcrl names the list that has it"),
        Error::UnknownRevocationStatus => Failure::definite(
            "no revocation list says whether the server's certificate was revoked",
        )
        .hint("sslcrl has to hold a current list of every authority in the chain"),
        Error::CrlExpired { .. } => Failure::definite("the revocation list has expired")
            .hint("fetch the current one into the file that sslcrl names"),
        Error::CaUsedAsEndEntity => Failure::definite(
            "the server shows the certificate of an authority as its own",
        )
        .hint("give the server one without CA:TRUE"),
        Error::RequiredEkuNotFoundContext(_) => wrong_purpose(),
        other => Failure::definite(format!("the server's certificate is not valid: {other:?}")),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.judge(end_entity, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(failure) => {
                if let Ok(mut slot) = self.verdict.lock() {
                    *slot = Some(failure);
                }
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
