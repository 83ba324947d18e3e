//! What ties a SCRAM exchange to the TLS connection it runs in: the hash of
//! the server's certificate ("tls-server-end-point", RFC 5929 section 4.1).

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use x509_parser::certificate::X509Certificate;

/// The certificate's hash, by the algorithm that its signature uses, and
/// SHA-256 in the place of MD5 and SHA-1. `None` where the signature's
/// algorithm has no hash of that name (Ed25519, RSASSA-PSS, SHA-224): the
/// standard defines no binding to such a certificate.
pub fn server_end_point(certificate: &X509Certificate<'_>, der: &[u8]) -> Option<Vec<u8>> {
    let signature = certificate.signature_algorithm.algorithm.to_id_string();
    Some(digest(hash_of(&signature)?, der).as_ref().to_vec())
}

fn hash_of(signature: &str) -> Option<&'static Algorithm> {
    Some(match signature {
        // md5WithRSAEncryption, sha1WithRSAEncryption, ecdsa-with-SHA1
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => &SHA256,
        // sha256WithRSAEncryption, ecdsa-with-SHA256
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => &SHA256,
        // sha384WithRSAEncryption, ecdsa-with-SHA384
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &SHA384,
        // sha512WithRSAEncryption, ecdsa-with-SHA512
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &SHA512,
        _ => return None,
    })
}
