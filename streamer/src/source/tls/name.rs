//! Whether a certificate is made out to a host, by libpq's rules
//! (`src/interfaces/libpq/fe-secure-common.c`, and the order of names in
//! `pgtls_verify_peer_name_matches_certificate_guts`).

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::error::{Failure, Result};

/// # Errors
/// Definite: none of the certificate's names is the host's.
pub fn check(certificate: &X509Certificate<'_>, host: &str) -> Result<()> {
    let address: Option<IpAddr> = host.parse().ok();
    let mut examined: Vec<String> = Vec::new();
    // A name of the host's own kind rules the common name out.
    let mut common_name_counts = true;
    let alternatives = certificate
        .subject_alternative_name()
        .map_err(|_| Failure::definite("the server's certificate has malformed names"))?;
    for name in alternatives
        .iter()
        .flat_map(|extension| &extension.value.general_names)
    {
        let matches = match name {
            GeneralName::DNSName(name) => {
                common_name_counts &= address.is_some();
                no_zero(name)?;
                examined.push((*name).to_owned());
                matches(name, host)
            }
            GeneralName::IPAddress(bytes) => {
                common_name_counts &= address.is_none();
                let of_certificate = address_of(bytes);
                examined.push(of_certificate.map_or("?".to_owned(), |ip| ip.to_string()));
                address.is_some() && address == of_certificate
            }
            _ => false,
        };
        if matches {
            return Ok(());
        }
    }
    if common_name_counts
        && let Some(name) = certificate.subject().iter_common_name().next()
        && let Ok(name) = name.as_str()
    {
        no_zero(name)?;
        if matches(name, host) {
            return Ok(());
        }
        examined.push(name.to_owned());
    }
    let hint = "connect by a name that the certificate has (hostaddr=ADDRESS still says where to), or have it made out to this one; sslmode=verify-ca does not look at names";
    Err(match examined.as_slice() {
        [] => Failure::definite("the server's certificate names no host").hint(hint),
        [one] => Failure::definite(format!(
            "the server's certificate is made out to {one:?}, not to host {host:?}"
        ))
        .hint(hint),
        several => Failure::definite(format!(
            "the server's certificate is not made out to host {host:?}"
        ))
        .detail(format!("it is made out to {}", several.join(", ")))
        .hint(hint),
    })
}

/// A name that ends early for C is a trick (CVE-2009-2408).
fn no_zero(name: &str) -> Result<()> {
    if name.contains('\0') {
        return Err(Failure::definite(
            "the server's certificate has a zero byte in a name",
        ));
    }
    Ok(())
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The same but for case, or `*.` and the rest, where the `*` stands for one
/// label only.
fn matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(rest) = pattern.strip_prefix('*').filter(|rest| {
        // libpq: at least "*.x".
        rest.len() >= 2 && rest.starts_with('.')
    }) else {
        return false;
    };
    let Some(start) = host
        .len()
        .checked_sub(rest.len())
        .filter(|start| *start > 0)
    else {
        return false;
    };
    host.is_char_boundary(start)
        && host[start..].eq_ignore_ascii_case(rest)
        && !host[..start].contains('.')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_one_label() {
        for (pattern, host, expected) in [
            ("db.example", "DB.Example", true),
            ("*.example", "db.example", true),
            ("*.example", "a.db.example", false),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("db*.example", "db1.example", false),
            ("*", "db", false),
            ("*.", "db.", false),
            ("example", "db.example", false),
        ] {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
    }
}
