//! Scripts of which each statement is a query, and so a transaction, of its own.

use postgres::{Client, Error};

/// `Client::batch_execute` sends all statements at once, and the server makes
/// one transaction of them; this sends them one by one, as psql does.
pub trait Statements {
    /// Runs each statement; stops at the first that fails.
    fn each(&mut self, script: &str) -> Result<(), Error>;
}

impl Statements for Client {
    fn each(&mut self, script: &str) -> Result<(), Error> {
        for statement in split(script) {
            self.batch_execute(statement)?;
        }
        Ok(())
    }
}

/// Cuts at semicolons outside of quotes. Knows `'…'`, `"…"` and `$$…$$`, and
/// no backslash escapes.
fn split(script: &str) -> Vec<&str> {
    let bytes = script.as_bytes();
    let mut statements = Vec::new();
    let (mut start, mut at) = (0, 0);
    let mut quote: Option<&[u8]> = None;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let mut step = 1;
        match quote {
            Some(end) if rest.starts_with(end) => {
                step = end.len();
                quote = None;
            }
            Some(_) => {}
            None => {
                for open in [&b"'"[..], b"\"", b"$$"] {
                    if rest.starts_with(open) {
                        step = open.len();
                        quote = Some(open);
                    }
                }
                if rest[0] == b';' {
                    statements.push(&script[start..at]);
                    start = at + 1;
                }
            }
        }
        at += step;
    }
    statements.push(&script[start..]);
    statements.retain(|statement| !statement.trim().is_empty());
    statements
}
