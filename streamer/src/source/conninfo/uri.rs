//! Connection URIs: `postgres://user:password@host:port,host2/dbname?key=value`.
//!
//! Grammar and meaning are libpq's: "Connection URIs" in the documentation of
//! `PQconnectdbParams`.

use percent_encoding::percent_decode_str;

use super::Settings;
use crate::error::{Failure, Result};

const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// The part after the scheme, if `text` is a URI.
pub fn without_scheme(text: &str) -> Option<&str> {
    SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme))
}

/// Where the password of a URI stands in `text`, as it is written there
/// (still percent-encoded): between `user:` and `@`, and in `?password=`. `None`
/// when it is not a URI.
pub fn password_spans(text: &str) -> Option<Vec<std::ops::Range<usize>>> {
    let mut spans = Vec::new();
    let rest = without_scheme(text)?;
    let base = text.len() - rest.len();
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    if let Some(at) = user_info_end(rest, authority_end)
        && let Some(colon) = rest[..at].find(':')
    {
        spans.push(base + colon + 1..base + at);
    }
    if let Some(question) = rest.find('?') {
        let mut start = question + 1;
        for parameter in rest[start..].split('&') {
            if let Some(equals) = parameter.find('=')
                && matches!(&parameter[..equals], "password" | "sslpassword")
            {
                spans.push(base + start + equals + 1..base + start + parameter.len());
            }
            start += parameter.len() + 1;
        }
    }
    spans.retain(|span| !span.is_empty());
    Some(spans)
}

/// Where the `@` that ends user and password stands. A password with an
/// unescaped `/` or `?` in it is not cut there by mistake: what is looked at
/// is the authority, and libpq too ends that at the first of them.
fn user_info_end(rest: &str, authority_end: usize) -> Option<usize> {
    rest[..authority_end].find('@')
}

/// Reads what follows the scheme into `settings`.
pub fn parse(rest: &str, settings: &mut Settings) -> Result<()> {
    let (rest, parameters) = match rest.split_once('?') {
        Some((rest, parameters)) => (rest, Some(parameters)),
        None => (rest, None),
    };
    let (authority, dbname) = match rest.split_once('/') {
        Some((authority, dbname)) => (authority, Some(dbname)),
        None => (rest, None),
    };
    let hosts = match user_info_end(authority, authority.len()) {
        Some(at) => {
            let (user_info, hosts) = (&authority[..at], &authority[at + 1..]);
            let (user, password) = match user_info.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (user_info, None),
            };
            if !user.is_empty() {
                settings.set("user", decode(user, "the user")?)?;
            }
            if let Some(password) = password.filter(|password| !password.is_empty()) {
                settings.set("password", decode(password, "the password")?)?;
            }
            hosts
        }
        None => authority,
    };
    if !hosts.is_empty() {
        parse_hosts(hosts, settings)?;
    }
    if let Some(dbname) = dbname.filter(|dbname| !dbname.is_empty()) {
        settings.set("dbname", decode(dbname, "the database")?)?;
    }
    for parameter in parameters
        .unwrap_or("")
        .split('&')
        .filter(|part| !part.is_empty())
    {
        let Some((name, value)) = parameter.split_once('=') else {
            // What has no `=` may be the tail of a password with a `&` in it.
            return Err(
                Failure::usage("a parameter in the connection URI has no \"=\" and value")
                    .hint("write a literal & or ? as %26 or %3F"),
            );
        };
        let name = decode(name, "a parameter's name")?;
        let value = decode(value, &format!("parameter {name:?}"))?;
        // libpq's one exception, for JDBC's spelling.
        if name == "ssl" && value == "true" {
            settings.set("sslmode", "require".to_owned())?;
        } else {
            settings.set(&name, value)?;
        }
    }
    Ok(())
}

/// `host1:port1,[::1]:port2,%2Fpath`: several hosts become comma-separated
/// lists of hosts and ports, as in a key=value string.
fn parse_hosts(text: &str, settings: &mut Settings) -> Result<()> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for part in text.split(',') {
        let (host, port) = if let Some(bracketed) = part.strip_prefix('[') {
            let Some((address, after)) = bracketed.split_once(']') else {
                return Err(Failure::usage(
                    "an IPv6 address in the connection URI lacks its \"]\"",
                )
                .hint("write it as [2001:db8::1]:5432"));
            };
            match (after.is_empty(), after.strip_prefix(':')) {
                (true, _) => (address, ""),
                (false, Some(port)) => (address, port),
                (false, None) => {
                    return Err(Failure::usage(
                        "unexpected text after the \"]\" of an IPv6 address in the connection URI",
                    ));
                }
            }
        } else {
            part.split_once(':').unwrap_or((part, ""))
        };
        hosts.push(decode(host, "the host")?);
        ports.push(decode(port, "the port")?);
    }
    if hosts.iter().any(|host| !host.is_empty()) {
        settings.set("host", hosts.join(","))?;
    }
    if ports.iter().any(|port| !port.is_empty()) {
        settings.set("port", ports.join(","))?;
    }
    Ok(())
}

fn decode(text: &str, what: &str) -> Result<String> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        let digits = after.as_bytes().get(..2);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(Failure::usage(format!(
                "{what} in the connection URI has a \"%\" without two hexadecimal digits"
            ))
            .hint("write a literal % as %25"));
        }
        if digits == Some(b"00") {
            return Err(Failure::usage(format!(
                "{what} in the connection URI holds %00, which no value may"
            )));
        }
        rest = after;
    }
    percent_decode_str(text)
        .decode_utf8()
        .map(|decoded| decoded.into_owned())
        .map_err(|_| Failure::usage(format!("{what} in the connection URI is not UTF-8")))
}
