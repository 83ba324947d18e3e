//! Connection strings of keywords and values: `host=db port=5432 dbname='my db'`.

use super::Settings;
use crate::error::{Failure, Result};

/// Reads `keyword = value` pairs; values in single quotes may hold spaces, and
/// a backslash takes the next character as it is.
pub fn parse(text: &str, settings: &mut Settings) -> Result<()> {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| c == '=' || c.is_whitespace())
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(after) = after.trim_start().strip_prefix('=') else {
            // The word itself is not repeated: it may be the tail of a
            // password that should have been quoted.
            return Err(
                Failure::usage("a keyword in the connection string has no \"=\" after it").hint(
                    "a value with spaces goes in single quotes, and a quote in it is written \\'",
                ),
            );
        };
        let (value, after) = value(after.trim_start())?;
        settings.set(name, value)?;
        rest = after.trim_start();
    }
    Ok(())
}

/// Where passwords stand in a string of keywords and values, quotes included.
pub fn password_spans(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut spans = Vec::new();
    let position = |rest: &str| text.len() - rest.len();
    let mut rest = text.trim_start();
    while let Some(equals) = rest.find('=') {
        let name = rest[..equals].trim_end();
        let start = rest[equals + 1..].trim_start();
        // What is not closed goes on to the end.
        let after = value(start).map_or("", |(_, after)| after);
        if name.ends_with("password") {
            spans.push(position(start)..position(after));
        }
        rest = after.trim_start();
    }
    spans
}

/// One value, and what follows it.
fn value(text: &str) -> Result<(String, &str)> {
    let quoted = text.strip_prefix('\'');
    let body = quoted.unwrap_or(text);
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted.is_some() => return Ok((value, &body[at + 1..])),
            space if quoted.is_none() && space.is_whitespace() => {
                return Ok((value, &body[at..]));
            }
            plain => value.push(plain),
        }
    }
    if quoted.is_some() {
        return Err(Failure::usage(
            "a quoted value in the connection string is not closed",
        ));
    }
    Ok((value, ""))
}
