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

/// What lets the server load a plugin.
pub(in crate::source) struct Allowance {
    /// What `output_plugin_libraries` lists now; `None` where this role can't read it.
    pub current: Option<String>,
    /// A list with the plugin that takes nothing off, as ALTER SYSTEM takes it:
    /// what is listed now (or by default, where that can't be read) and what
    /// existing slots use.
    pub list: String,
}

/// What the server's list of plugins has to be for `plugin` to be loaded.
/// `None` where the server has no such setting.
pub(in crate::source) async fn allowance(
    connection: &mut Connection,
    plugin: &str,
) -> Result<Option<Allowance>> {
    let current = match setting(connection).await? {
        Setting::Absent => return Ok(None),
        Setting::Value(value) => Some(value),
        // Not to be read is not absent, and what it lists may be more than the default.
        Setting::Hidden => None,
    };
    let used = plugins_of_slots(connection).await?;
    let wanted = used.iter().map(String::as_str).chain([plugin]);
    let list = list(current.as_deref().unwrap_or(DEFAULT_LIBRARIES), wanted);
    Ok(Some(Allowance { current, list }))
}

/// How to let the server load `plugin`, in words.
async fn allow_plugin(connection: &mut Connection, plugin: &str) -> Result<Option<String>> {
    let Some(Allowance { current, list }) = allowance(connection, plugin).await? else {
        return Ok(None);
    };
    let statement = format!("ALTER SYSTEM SET output_plugin_libraries = {list}");
    Ok(Some(match current {
        Some(_) => format!("{statement}; SELECT pg_reload_conf()"),
        None => format!(
            "the server's output_plugin_libraries does not list {plugin}, and only a superuser may read it: as one, SHOW output_plugin_libraries, and if it is still the default, {statement}; SELECT pg_reload_conf(); else keep what it lists and add {plugin}",
        ),
    }))
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

/// Everything in `current` and in `wanted`, as ALTER SYSTEM takes it.
fn list<'a>(current: &str, wanted: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = split_list(current);
    for name in wanted {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    let list: Vec<String> = names.iter().map(|name| element(name)).collect();
    list.join(", ")
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
            list(
                "pgoutput, test_decoding",
                ["wal2json", "pgoutput", "walferry"]
            ),
            "pgoutput, test_decoding, wal2json, walferry"
        );
        assert_eq!(list("", ["walferry"]), "walferry");
    }

    #[test]
    fn odd_names_keep_their_quotes() {
        assert_eq!(
            list(r#"pgoutput,"My ""Plug, in", $libdir/x"#, ["walferry"]),
            r#"pgoutput, 'My "Plug, in', '$libdir/x', walferry"#
        );
    }
}
