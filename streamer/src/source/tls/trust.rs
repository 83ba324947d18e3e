//! The authorities that may have signed the server's certificate, and what
//! they have revoked.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::settings::{NamedFile, Roots, TlsSettings};
use crate::error::{Failure, Result};
use crate::source::connection::io_text;

/// Whom we trust. Read anew for each connection, so that a new authority needs
/// no restart.
#[derive(Debug)]
pub struct Trust {
    certificates: Vec<CertificateDer<'static>>,
    pub anchors: Vec<TrustAnchor<'static>>,
    pub revocations: Vec<CertRevocationList<'static>>,
    /// Where the certificates are from, for messages.
    pub place: String,
}

impl Trust {
    /// `None`: no authority is known, so the server's certificate is not
    /// verified. libpq's rule: a root file that is there is used in every
    /// mode, one that isn't is missed only where verification was asked for.
    /// A file that was named has to be there.
    pub fn load(settings: &TlsSettings) -> Result<Option<Self>> {
        let (certificates, place) = match &settings.roots {
            Roots::System => (of_system()?, "this machine's store".to_owned()),
            Roots::File(file) => match read(file, "root certificate")? {
                Some(bytes) => (
                    certificates(&bytes, &file.path)?,
                    file.path.display().to_string(),
                ),
                None if settings.mode.verifies() => return Err(missing(settings, &file.path)),
                None => return Ok(None),
            },
            Roots::None if settings.mode.verifies() => {
                return Err(missing(settings, Path::new("~/.postgresql/root.crt")));
            }
            Roots::None => return Ok(None),
        };
        let anchors = certificates
            .iter()
            .filter(|certificate| may_sign(certificate))
            .filter_map(|certificate| anchor_from_trusted_cert(certificate).ok())
            .map(|anchor| anchor.to_owned())
            .collect();
        Ok(Some(Trust {
            certificates,
            anchors,
            revocations: revocations(settings.revoked.as_ref())?,
            place,
        }))
    }

    /// Whether this very certificate was listed.
    pub fn lists(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates
            .iter()
            .any(|known| known.as_ref() == certificate.as_ref())
    }
}

/// Whether a listed certificate may vouch for others: an authority's, and not
/// expired (OpenSSL's `check_ca`; webpki takes every anchor as given).
fn may_sign(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let is_authority = match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => {
            let self_signed = certificate.subject() == certificate.issuer();
            match certificate.key_usage() {
                Ok(Some(usage)) => usage.value.key_cert_sign(),
                _ => certificate.version().0 == 0 && self_signed,
            }
        }
        Err(_) => false,
    };
    is_authority && certificate.validity().is_valid()
}

fn of_system() -> Result<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let failure = Failure::usage("this machine has no store of trusted certificates")
            .hint("install it (ca-certificates on Debian), or name a file in sslrootcert");
        return Err(match found.errors.first() {
            Some(error) => failure.detail(error.to_string()),
            None => failure,
        });
    }
    Ok(found.certs)
}

fn certificates(bytes: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, pem::Error>>()
        .map_err(|_| not_pem("root certificate", path))?;
    if found.is_empty() {
        return Err(not_pem("root certificate", path));
    }
    Ok(found)
}

fn revocations(file: Option<&NamedFile>) -> Result<Vec<CertRevocationList<'static>>> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let Some(bytes) = read(file, "revocation list")? else {
        return Ok(Vec::new());
    };
    let unreadable = |why: String| {
        Failure::usage(format!(
            "the revocation list {} can't be used: {why}",
            file.path.display()
        ))
        .hint("it is a list in PEM, X.509 version 2, as openssl ca -gencrl writes it")
    };
    let lists: Vec<CertRevocationList<'static>> =
        CertificateRevocationListDer::pem_slice_iter(&bytes)
            .map(|list| {
                let list = list.map_err(|_| unreadable("it is not PEM".into()))?;
                OwnedCertRevocationList::from_der(&list)
                    .map(CertRevocationList::from)
                    .map_err(|error| unreadable(format!("{error:?}")))
            })
            .collect::<Result<_>>()?;
    if lists.is_empty() {
        return Err(unreadable("it is empty".into()));
    }
    Ok(lists)
}

/// The file's bytes; `None` when a default file is not there.
pub fn read(file: &NamedFile, what: &str) -> Result<Option<Vec<u8>>> {
    match fs::read(&file.path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error)
            if !file.given
                && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(Failure::usage(format!(
            "cannot read the {what} file {}: {}",
            file.path.display(),
            io_text(&error)
        ))
        .hint("check the path, and that this user may read the file")),
    }
}

pub fn not_pem(what: &str, path: &Path) -> Failure {
    Failure::usage(format!(
        "the {what} file {} holds no certificate in PEM",
        path.display()
    ))
    .hint("it begins with -----BEGIN CERTIFICATE-----; openssl x509 -inform DER -in FILE -out FILE.pem turns DER into PEM")
}

fn missing(settings: &TlsSettings, path: &Path) -> Failure {
    Failure::usage(format!(
        "sslmode={} needs to know who may sign, and there is no file {}",
        settings.mode,
        path.display()
    ))
    .hint("name the authority's certificate in sslrootcert (on Amazon RDS and Aurora: global-bundle.pem), or write sslrootcert=system for a public one")
}
