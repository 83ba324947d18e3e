//! The certificate that we show, and its key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureScheme};

use super::key::{self, KeyFile};
use super::settings::{CertificateMode, NamedFile, TlsSettings};
use super::trust::{not_pem, read};
use crate::error::{Failure, Result};

/// Gives our certificate to a server that asks for one, and remembers that it
/// asked.
#[derive(Debug)]
pub struct ClientCertificate {
    certified: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ClientCertificate {
    /// Read anew for each connection, so that a renewed certificate needs no
    /// restart.
    pub fn load(settings: &TlsSettings, provider: &CryptoProvider) -> Result<Self> {
        let certified = match settings.certificate_mode {
            CertificateMode::Disable => None,
            _ => certified(settings, provider)?,
        };
        if certified.is_none() && settings.certificate_mode == CertificateMode::Require {
            return Err(
                Failure::usage("sslcertmode=require, and there is no certificate")
                    .hint("name it in sslcert, and its key in sslkey"),
            );
        }
        Ok(ClientCertificate {
            certified: certified.map(Arc::new),
            asked: AtomicBool::new(false),
        })
    }

    /// Whether the server asked for a certificate.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}

fn certified(settings: &TlsSettings, provider: &CryptoProvider) -> Result<Option<CertifiedKey>> {
    let mut certificates = None;
    if let Some(file) = &settings.certificate {
        certificates = certificates_of(file)?.map(|found| (found, file));
    }
    let key_file = match (&certificates, &settings.key) {
        // A key store may bring its certificate along.
        (_, Some(key)) if key.given => key,
        (None, _) => return Ok(None),
        (Some((_, certificate)), Some(key)) if !key.path.exists() => {
            return Err(no_key(certificate, Some(key)));
        }
        (Some((_, certificate)), None) => return Err(no_key(certificate, None)),
        (Some(_), Some(key)) => key,
    };
    let KeyFile {
        key,
        certificates: of_store,
    } = key::load(&key_file.path, settings.key_password.as_ref())?;
    let chain = match certificates {
        Some((chain, file)) if file.given || of_store.is_empty() => chain,
        _ if !of_store.is_empty() => of_store,
        _ => {
            return Err(Failure::usage(format!(
                "there is the private key file {}, but no certificate",
                key_file.path.display()
            ))
            .hint("name the certificate in sslcert"));
        }
    };
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| {
            Failure::usage(format!(
                "the private key file {} has a key that can't be used",
                key_file.path.display()
            ))
            .detail(error.to_string())
            .hint("RSA of 2048 bits and more, ECDSA P-256 and P-384 and Ed25519 are known")
        })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(Failure::usage(format!(
                "the private key file {} does not belong to the certificate",
                key_file.path.display()
            ))
            .hint("openssl x509 -in CERTIFICATE -noout -pubkey and openssl pkey -in KEY -pubout print the same if they belong together"))
        }
        // Unknown is for the server to find out.
        _ => Ok(Some(certified)),
    }
}

fn certificates_of(file: &NamedFile) -> Result<Option<Vec<CertificateDer<'static>>>> {
    let Some(bytes) = read(file, "certificate")? else {
        return Ok(None);
    };
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, pem::Error>>()
        .map_err(|_| not_pem("certificate", &file.path))?;
    if found.is_empty() {
        return Err(not_pem("certificate", &file.path));
    }
    Ok(Some(found))
}

fn no_key(certificate: &NamedFile, key: Option<&NamedFile>) -> Failure {
    let failure = Failure::usage(format!(
        "there is the certificate {}, but no private key file",
        certificate.path.display()
    ));
    match key {
        Some(key) => failure.hint(format!(
            "put the key into {}, or name it in sslkey",
            key.path.display()
        )),
        None => failure.hint("name the key in sslkey"),
    }
}
