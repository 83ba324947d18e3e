//! Private keys in the forms that people have: PEM (PKCS#8, encrypted or not,
//! PKCS#1, SEC1), DER (the same), PKCS#12.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::pem::decode_vec;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::error::{Failure, Result};
use crate::source::connection::io_text;
use crate::source::secret::Secret;

/// A key, and the certificates that lay with it (PKCS#12).
pub struct KeyFile {
    pub key: PrivateKeyDer<'static>,
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Reads the key file, whichever form it has.
///
/// # Errors
/// Usage, with the command that brings the key into a form that is read.
pub fn load(path: &Path, password: Option<&Secret>) -> Result<KeyFile> {
    let bytes = read_private(path)?;
    let file = Source {
        path,
        password,
        pem: bytes.starts_with(b"-----BEGIN") || find(&bytes, b"\n-----BEGIN").is_some(),
    };
    if file.pem {
        return file.read_pem(&bytes);
    }
    match first_element(&bytes) {
        // PFX: its version, 3.
        Some([0x02, 0x01, 0x03, ..]) => file.read_pkcs12(&bytes),
        // EncryptedPrivateKeyInfo: its algorithm.
        Some([0x30, ..]) => file.decrypted(&bytes).map(KeyFile::alone),
        _ => PrivateKeyDer::try_from(bytes.as_slice())
            .map(|key| KeyFile::alone(key.clone_key()))
            .map_err(|_| file.unknown()),
    }
}

/// The file's bytes, unless others may read them too. libpq's rule: u=rw at
/// most, and g=r besides where root owns the file.
fn read_private(path: &Path) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!(
            "cannot read the private key file {}: {}",
            path.display(),
            io_text(&error)
        ))
        .hint("sslkey names it (ssl-key in a configuration file)")
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Failure::usage(format!(
            "the private key file {} is not a plain file",
            path.display()
        )));
    }
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(Failure::usage(format!(
            "the private key file {} can be read or written by group or others",
            path.display()
        ))
        .hint(format!(
            "chmod 0600 {} (0640 will do where root owns it)",
            path.display()
        )));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

impl KeyFile {
    fn alone(key: PrivateKeyDer<'static>) -> Self {
        KeyFile {
            key,
            certificates: Vec::new(),
        }
    }
}

struct Source<'a> {
    path: &'a Path,
    password: Option<&'a Secret>,
    pem: bool,
}

const ENCRYPTED: (&str, &str) = (
    "-----BEGIN ENCRYPTED PRIVATE KEY-----",
    "-----END ENCRYPTED PRIVATE KEY-----",
);

impl Source<'_> {
    fn read_pem(&self, bytes: &[u8]) -> Result<KeyFile> {
        if let Some(start) = find(bytes, ENCRYPTED.0.as_bytes()) {
            let rest = &bytes[start..];
            let end = find(rest, ENCRYPTED.1.as_bytes()).ok_or_else(|| self.unknown())?;
            let section = &rest[..end + ENCRYPTED.1.len()];
            let (_, der) = decode_vec(section).map_err(|_| self.unknown())?;
            return self.decrypted(&der).map(KeyFile::alone);
        }
        // OpenSSL's own encryption, from before PKCS#8: one round of MD5.
        if find(bytes, b"Proc-Type: 4,ENCRYPTED").is_some() {
            return Err(self.outdated("OpenSSL's own encryption of PEM", false));
        }
        PrivateKeyDer::from_pem_slice(bytes)
            .map(KeyFile::alone)
            .map_err(|_| self.unknown())
    }

    fn decrypted(&self, der: &[u8]) -> Result<PrivateKeyDer<'static>> {
        // Object identifiers of the schemes: RFC 8018 appendix A, RFC 7292
        // appendix C.
        const PKCS5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];
        const PKCS12: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
        const PBES2: u8 = 13;
        let head = &der[..der.len().min(40)];
        let scheme_below =
            |branch: &[u8]| find(head, branch).and_then(|at| head.get(at + branch.len()).copied());
        let outdated = match (scheme_below(PKCS5), scheme_below(PKCS12)) {
            (Some(PBES2), _) => None,
            (Some(3), _) => Some("PBE-MD5-DES"),
            (Some(10), _) => Some("PBE-SHA1-DES"),
            (_, Some(3)) => Some("PBE-SHA1-3DES"),
            _ => Some("an encryption of PKCS#5 v1 or PKCS#12"),
        };
        if let Some(name) = outdated {
            return Err(self.outdated(name, true));
        }
        let password = self.password()?;
        let info = EncryptedPrivateKeyInfoRef::try_from(der)
            .map_err(|_| self.outdated("an encryption that walferry does not know", true))?;
        let plain = info
            .decrypt(password.expose())
            .map_err(|_| self.wrong_password())?;
        Ok(PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec()).into())
    }

    fn read_pkcs12(&self, bytes: &[u8]) -> Result<KeyFile> {
        // One without encryption still has the empty password.
        let password = self.password.map_or("", Secret::expose);
        let store = KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Relaxed).map_err(
            |error| match error {
                p12_keystore::error::Error::UnsupportedEncryptionScheme
                | p12_keystore::error::Error::UnsupportedMacAlgorithm => {
                    Failure::usage(format!(
                        "the key store {} uses a scheme that walferry does not know",
                        self.path.display()
                    ))
                    .hint("openssl pkcs12 -in FILE -nodes | openssl pkcs12 -export -out NEW.p12 makes it anew")
                }
                _ if self.password.is_none() => self.no_password(),
                _ => self.wrong_password(),
            },
        )?;
        let (_, chain) = store.private_key_chain().ok_or_else(|| {
            Failure::usage(format!(
                "the key store {} holds no private key",
                self.path.display()
            ))
        })?;
        Ok(KeyFile {
            key: PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec()).into(),
            certificates: chain
                .certs()
                .iter()
                .map(|certificate| CertificateDer::from(certificate.as_der().to_vec()))
                .collect(),
        })
    }

    fn password(&self) -> Result<&Secret> {
        self.password.ok_or_else(|| self.no_password())
    }

    fn no_password(&self) -> Failure {
        Failure::usage(format!(
            "the private key file {} is encrypted, and its password is not given",
            self.path.display()
        ))
        .hint("give it as sslpassword, or as ssl-key-password in a configuration file")
    }

    fn wrong_password(&self) -> Failure {
        Failure::usage(format!(
            "the password does not open the private key file {}",
            self.path.display()
        ))
        .hint("check sslpassword (ssl-key-password in a configuration file)")
    }

    fn unknown(&self) -> Failure {
        Failure::usage(format!(
            "the private key file {} has no key in a form that walferry reads",
            self.path.display()
        ))
        .hint("the forms are PEM, PKCS#8 DER and PKCS#12")
    }

    /// The command asks for the password.
    fn outdated(&self, scheme: &str, legacy: bool) -> Failure {
        let path = self.path.display();
        let form = if self.pem { "PEM" } else { "DER" };
        // OpenSSL 3 has DES only in its legacy provider.
        let providers = if legacy {
            " -provider default -provider legacy"
        } else {
            ""
        };
        Failure::usage(format!(
            "the private key file {path} is encrypted with {scheme}, which protects nothing any more and is not read"
        ))
        .hint(format!(
            "convert it: openssl pkcs8 -topk8{providers} -inform {form} -in {path} -v2 aes-256-cbc -outform {form} -out {path}.aes && chmod 0600 {path}.aes"
        ))
    }
}

/// What lies inside a DER sequence.
fn first_element(der: &[u8]) -> Option<&[u8]> {
    let (0x30, rest) = (*der.first()?, der.get(1..)?) else {
        return None;
    };
    let length = *rest.first()?;
    let skipped = if length < 0x80 {
        1
    } else {
        1 + usize::from(length & 0x7f)
    };
    rest.get(skipped..)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}
