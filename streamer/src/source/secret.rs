//! A password that can't be printed by accident.

use std::fmt;

/// Holds a secret; `Debug` shows only that there is one. It has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `text` with each of `secrets` replaced by `***`, whatever brought it there:
/// a server's message, a path, an argument.
pub fn redact<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    let mut clean = text.to_owned();
    for secret in secrets {
        if !secret.0.is_empty() {
            clean = clean.replace(&secret.0, "***");
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_secret() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some(***)");
    }

    #[test]
    fn a_secret_is_taken_out_of_foreign_text() {
        let secret = Secret::new("hunter2");
        assert_eq!(redact("at hunter2:5432", [&secret]), "at ***:5432");
    }
}
