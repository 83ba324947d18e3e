//! The password file, `~/.pgpass`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::source::secret::Secret;

/// What a line of the file has to match.
pub struct Wanted<'a> {
    /// The host as the user gave it; the folder of a unix socket.
    pub host: &'a str,
    pub port: u16,
    pub dbname: &'a str,
    pub user: &'a str,
}

/// The password of the first line that matches.
///
/// A file that is not there holds none. One that others may read is not read,
/// with a warning, as libpq has it.
pub fn password(path: &Path, wanted: &Wanted<'_>) -> Option<Secret> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() {
        tracing::warn!("password file {} is not a plain file", path.display());
        return None;
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            "password file {0} is ignored because group or others have access to it; run: chmod 0600 {0}",
            path.display()
        );
        return None;
    }
    find(&fs::read_to_string(path).ok()?, wanted)
}

fn find(text: &str, wanted: &Wanted<'_>) -> Option<Secret> {
    let port = wanted.port.to_string();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut fields = Fields { rest: Some(line) };
            let host = fields.next()?;
            let host_matches =
                host.matches(wanted.host) || wanted.host.starts_with('/') && host.is("localhost");
            let matches = host_matches
                & fields.next()?.matches(&port)
                & fields.next()?.matches(wanted.dbname)
                & fields.next()?.matches(wanted.user);
            let password = fields.next()?;
            (matches && !password.text.is_empty()).then(|| Secret::new(password.text))
        })
}

/// The fields of a line, between colons; `\:` and `\\` are literal.
struct Fields<'a> {
    rest: Option<&'a str>,
}

struct Field {
    text: String,
    /// An unescaped `*`: anything.
    any: bool,
}

impl Field {
    fn is(&self, text: &str) -> bool {
        !self.any && self.text == text
    }

    fn matches(&self, text: &str) -> bool {
        self.any || self.text == text
    }
}

impl Iterator for Fields<'_> {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        let rest = self.rest.take()?;
        let mut text = String::new();
        let mut characters = rest.char_indices();
        let mut length = rest.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                ':' => {
                    length = at;
                    self.rest = Some(&rest[at + 1..]);
                    break;
                }
                plain => text.push(plain),
            }
        }
        Some(Field {
            text,
            any: &rest[..length] == "*",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str, host: &str, user: &str) -> Option<String> {
        let wanted = Wanted {
            host,
            port: 5432,
            dbname: "shop",
            user,
        };
        find(text, &wanted).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn the_first_line_that_matches_wins() {
        let text = "# note\ndb:5433:*:*:other port\ndb:*:shop:ferry:first\n*:*:*:*:rest\n";
        assert_eq!(look(text, "db", "ferry").as_deref(), Some("first"));
        assert_eq!(look(text, "db", "anna").as_deref(), Some("rest"));
    }

    #[test]
    fn colons_and_backslashes_are_escaped() {
        let text = "2001\\:db8\\:\\:1:5432:*:a\\\\b:p\\:w\\\\d";
        assert_eq!(look(text, "2001:db8::1", "a\\b").as_deref(), Some("p:w\\d"));
    }

    #[test]
    fn an_escaped_star_is_a_star() {
        assert_eq!(look("\\*:*:*:*:secret", "db", "ferry"), None);
    }

    #[test]
    fn localhost_stands_for_a_unix_socket() {
        let text = "localhost:*:*:*:secret";
        assert_eq!(
            look(text, "/run/postgresql", "ferry").as_deref(),
            Some("secret")
        );
        assert_eq!(look(text, "db", "ferry"), None);
    }
}
