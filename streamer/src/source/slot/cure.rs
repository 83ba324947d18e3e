//! Cures that take a look at the server: which plugins it may load.

use crate::error::{Failure, Result};
use crate::source::connection::Connection;

/// Adds to a refusal by the server what mends it there.
pub async fn explain(connection: &mut Connection, failure: Failure, plugin: &str) -> Failure {
    match failure.sqlstate.as_deref() {
        // A connection for replication has the right to use slots: what it may
        // not do is load this plugin.
        Some("42501") => match allow_plugin(connection, plugin).await {
            Ok(Some(hint)) => failure.hint(hint),
            Ok(None) | Err(_) => failure,
        },
        _ => failure,
    }
}

/// [`explain`] for a slot that exists, whose plugin the server knows.
pub async fn explain_reading(connection: &mut Connection, failure: Failure, slot: &str) -> Failure {
    match super::find(connection, slot).await {
        Ok(Some(super::SlotInfo {
            plugin: Some(plugin),
            ..
        })) => explain(connection, failure, &plugin).await,
        _ => failure,
    }
}

/// The built-in value of `output_plugin_libraries`.
const DEFAULT_LIBRARIES: &str = "pgoutput, test_decoding";

/// How to let the server load `plugin`: the statement that adds it to
/// `output_plugin_libraries` and takes nothing off, neither what is listed now
/// nor what existing slots use. `None` where the server has no such setting.
async fn allow_plugin(connection: &mut Connection, plugin: &str) -> Result<Option<String>> {
    let current = setting(connection).await?;
    let used = plugins_of_slots(connection).await?;
    let wanted = used.iter().map(String::as_str).chain([plugin]);
    Ok(match current {
        Setting::Absent => None,
        Setting::Value(value) => Some(format!(
            "{}; SELECT pg_reload_conf()",
            statement(&value, wanted)
        )),
        // Not to be read is not absent, and what it lists may be more than the default.
        Setting::Hidden => Some(format!(
            "the server's output_plugin_libraries does not list {plugin}, and only a superuser may read it: as one, SHOW output_plugin_libraries, and if it is still the default, {}; SELECT pg_reload_conf(); else keep what it lists and add {plugin}",
            statement(DEFAULT_LIBRARIES, wanted)
        )),
    })
}

enum Setting {
    Value(String),
    /// The role may read all settings, and this is not among them.
    Absent,
    /// It may be there, but not for this role to see.
    Hidden,
}

async fn setting(connection: &mut Connection) -> Result<Setting> {
    let rows = connection
        .simple_query(
            "SELECT s.setting, pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') AS readable \
             FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_settings s ON s.name = 'output_plugin_libraries'",
        )
        .await?;
    let row = rows.first();
    Ok(match row.and_then(|row| row.get("setting")) {
        Some(value) => Setting::Value(value.to_owned()),
        None if row.is_some_and(|row| row.is_true("readable")) => Setting::Absent,
        None => Setting::Hidden,
    })
}

async fn plugins_of_slots(connection: &mut Connection) -> Result<Vec<String>> {
    let rows = connection
        .simple_query(
            "SELECT DISTINCT plugin FROM pg_catalog.pg_replication_slots WHERE plugin IS NOT NULL ORDER BY 1",
        )
        .await?;
    Ok(rows
        .iter()
        .filter_map(|row| row.at(0).map(str::to_owned))
        .collect())
}

/// The ALTER SYSTEM that lists everything in `current` and in `wanted`.
fn statement<'a>(current: &str, wanted: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = split_list(current);
    for name in wanted {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    let list: Vec<String> = names.iter().map(|name| element(name)).collect();
    format!(
        "ALTER SYSTEM SET output_plugin_libraries = {}",
        list.join(", ")
    )
}

/// A list setting's elements: separated by commas, in double quotes where
/// need be (`SplitDirectoriesString` and its kin in `varlena.c`).
fn split_list(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut name = String::new();
                let mut left = quoted;
                loop {
                    let (part, after) = left.split_once('"').unwrap_or((left, ""));
                    name.push_str(part);
                    match after.strip_prefix('"') {
                        Some(after) => {
                            name.push('"');
                            left = after;
                        }
                        None => break (name, after),
                    }
                }
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].trim().to_owned(), &rest[end..])
            }
        };
        if !name.is_empty() {
            names.push(name);
        }
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    names
}

/// A list element as ALTER SYSTEM takes it.
fn element(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_keeps_what_is_listed_and_what_slots_use() {
        assert_eq!(
            statement(
                "pgoutput, test_decoding",
                ["wal2json", "pgoutput", "walferry"]
            ),
            "ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, wal2json, walferry"
        );
        assert_eq!(
            statement("", ["walferry"]),
            "ALTER SYSTEM SET output_plugin_libraries = walferry"
        );
    }

    #[test]
    fn odd_names_keep_their_quotes() {
        assert_eq!(
            statement(r#"pgoutput,"My ""Plug, in", $libdir/x"#, ["walferry"]),
            r#"ALTER SYSTEM SET output_plugin_libraries = pgoutput, 'My "Plug, in', '$libdir/x', walferry"#
        );
    }
}
