//! What wal2json is asked to print.
//!
//! Its versions know different options and refuse the others by name, so that
//! what can be done without is taken back when it is refused.

use std::fmt;

use crate::error::{Failure, Result};
use crate::source::table_filter::{PlainPattern, TableFilter};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FormatVersion {
    /// A transaction is one object, written in chunks.
    One,
    /// A message a row.
    #[default]
    Two,
}

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FormatVersion::One => "1",
            FormatVersion::Two => "2",
        })
    }
}

/// Since wal2json 2.6: numbers in quotes, NaN and the infinities among them.
const NUMBERS_AS_STRINGS: &str = "numeric-data-types-as-string";
/// Asked for in its place, to know a null that can be none.
const NOT_NULL: &str = "include-not-null";

/// Options that rows can be read without, and what is lost then.
const DISPENSABLE: [(&str, &str); 4] = [
    (
        NUMBERS_AS_STRINGS,
        "NaN and the infinities of numeric, real and double precision come as null, and stop the run where a column is NOT NULL; wal2json 2.6 or later tells them",
    ),
    (
        "include-column-positions",
        "columns are told apart by name and type only",
    ),
    (
        "include-origin",
        "the origin of replicated transactions is not told",
    ),
    (
        "include-pk",
        "keys are those that the catalog has when a table's first row comes",
    ),
];

/// Options that the reader sets itself.
const OWN: [&str; 15] = [
    "format-version",
    "write-in-chunks",
    "pretty-print",
    "include-transaction",
    "include-xids",
    "include-timestamp",
    "include-lsn",
    "include-origin",
    "include-schemas",
    "include-types",
    "include-type-oids",
    "include-column-positions",
    "include-pk",
    NOT_NULL,
    NUMBERS_AS_STRINGS,
];

/// The options of START_REPLICATION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub format: FormatVersion,
    options: Vec<(String, String)>,
}

impl Request {
    /// `further`: as the user gave them; `format-version` may be one of them.
    ///
    /// Tables are left to the plugin as far as it can tell them from others
    /// (it knows no wildcards within a name); all are looked at again when
    /// rows are read.
    ///
    /// # Errors
    /// Usage, for an option that the reader sets itself.
    pub fn new(tables: &TableFilter, further: &[(String, String)]) -> Result<Self> {
        let mut format = FormatVersion::Two;
        let mut given = Vec::new();
        for (name, value) in further {
            match (name.as_str(), value.as_str()) {
                ("format-version", "1") => format = FormatVersion::One,
                ("format-version", "2") => format = FormatVersion::Two,
                ("format-version", other) => {
                    return Err(Failure::usage(format!(
                        "wal2json's format-version {other} is not read"
                    ))
                    .hint("write --plugin-option format-version=2, the default, or 1"));
                }
                // What the streamer does here itself.
                ("messages" | "message_prefixes", _) => {}
                ("columns", _) => {
                    return Err(Failure::usage("wal2json sends all columns of a table")
                        .hint("read pgoutput: its publication can list columns (PostgreSQL 15 and later)"));
                }
                (own, _) if OWN.contains(&own) => {
                    return Err(Failure::usage(format!(
                        "plugin option {own} is set by the run itself"
                    ))
                    .hint("leave it out; --tables and --exclude-tables choose tables"));
                }
                _ => given.push((name.clone(), value.clone())),
            }
        }
        let mut options: Vec<(String, String)> = [
            "include-xids",
            "include-timestamp",
            "include-lsn",
            "include-origin",
            "include-type-oids",
            "include-column-positions",
            "include-pk",
            NUMBERS_AS_STRINGS,
        ]
        .map(|name| (name.to_owned(), "1".to_owned()))
        .to_vec();
        let mut set = |name: &str, value: &str| options.push((name.to_owned(), value.to_owned()));
        set("format-version", &format.to_string());
        if format == FormatVersion::One {
            set("write-in-chunks", "1");
        } else {
            set("include-types", "0");
        }
        if let Some(patterns) = tables.plain_include() {
            // Its own tables reach the streamer whatever the filters are.
            let patterns = patterns.iter().map(selection).chain(["walferry.*".into()]);
            set("add-tables", &patterns.collect::<Vec<_>>().join(","));
        }
        let excluded = tables.plain_exclude();
        if !excluded.is_empty() {
            let patterns: Vec<String> = excluded.iter().map(selection).collect();
            set("filter-tables", &patterns.join(","));
        }
        options.extend(given);
        Ok(Request { format, options })
    }

    pub fn options(&self) -> &[(String, String)] {
        &self.options
    }

    /// Whether NaN and the infinities come as null.
    pub fn nan_is_null(&self) -> bool {
        !self.has(NUMBERS_AS_STRINGS)
    }

    fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(known, _)| known == name)
    }

    /// Takes back the option that wal2json refused, if it can be done
    /// without; what is lost then. `None`: `refusal` is something else.
    pub fn without_refused(&mut self, refusal: &Failure) -> Option<(&'static str, &'static str)> {
        let (_, name) = refusal.message.split_once("option \"")?;
        let (name, _) = name.split_once('"')?;
        let (name, loss) = DISPENSABLE.iter().find(|(known, _)| *known == name)?;
        let before = self.options.len();
        self.options.retain(|(known, _)| known != name);
        if self.options.len() == before {
            return None;
        }
        if *name == NUMBERS_AS_STRINGS {
            self.options.push((NOT_NULL.to_owned(), "1".to_owned()));
        }
        Some((name, loss))
    }
}

/// A pattern as `add-tables` and `filter-tables` have it.
fn selection(pattern: &PlainPattern) -> String {
    let part = |name: &Option<String>| match name {
        None => "*".to_owned(),
        Some(name) => name.clone(),
    };
    format!("{}.{}", part(&pattern.schema), part(&pattern.table))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(include: &str, exclude: &str, further: &[(&str, &str)]) -> Result<Request> {
        let list = |text: &str| match text {
            "" => Vec::new(),
            text => vec![text.to_owned()],
        };
        let tables = TableFilter::new(&list(include), &list(exclude)).unwrap();
        let further: Vec<_> = further
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        Request::new(&tables, &further)
    }

    fn option<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
        let found = request.options().iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    #[test]
    fn tables_go_to_the_plugin_where_it_can_tell_them() {
        let plain = request("public.orders, sales.*", "*.log,x.y*", &[]).unwrap();
        assert_eq!(
            option(&plain, "add-tables"),
            Some("public.orders,sales.*,walferry.*")
        );
        assert_eq!(option(&plain, "filter-tables"), Some("*.log"));
        for odd in [
            "public.order_?",
            "\"a b\".c",
            "public.orders,p.x*",
            "a.\"*\"",
        ] {
            assert_eq!(option(&request(odd, "", &[]).unwrap(), "add-tables"), None);
        }
        let all = request("", "", &[]).unwrap();
        assert_eq!(
            (option(&all, "add-tables"), option(&all, "filter-tables")),
            (None, None)
        );
    }

    #[test]
    fn the_format_version_is_chosen_and_other_options_of_ours_are_refused() {
        let one = request(
            "",
            "",
            &[
                ("format-version", "1"),
                ("actions", "insert"),
                ("messages", "off"),
            ],
        )
        .unwrap();
        assert_eq!(one.format, FormatVersion::One);
        assert_eq!(option(&one, "format-version"), Some("1"));
        assert_eq!(option(&one, "write-in-chunks"), Some("1"));
        assert_eq!(option(&one, "actions"), Some("insert"));
        assert_eq!(option(&one, "messages"), None);
        for wrong in [
            ("format-version", "3"),
            ("include-xids", "0"),
            ("columns", "a.b.c"),
            ("write-in-chunks", "0"),
        ] {
            assert_eq!(request("", "", &[wrong]).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn an_option_that_is_refused_is_taken_back_if_it_can_be() {
        let refusal =
            |name: &str| Failure::definite(format!("option \"{name}\" = \"1\" is unknown"));
        let mut some = request("", "", &[]).unwrap();
        assert!(!some.nan_is_null());
        let (name, _) = some.without_refused(&refusal(NUMBERS_AS_STRINGS)).unwrap();
        assert_eq!(name, NUMBERS_AS_STRINGS);
        assert!(some.nan_is_null());
        assert_eq!(option(&some, NOT_NULL), Some("1"));
        assert!(some.without_refused(&refusal(NUMBERS_AS_STRINGS)).is_none());
        assert!(some.without_refused(&refusal("include-xids")).is_none());
        assert!(some.without_refused(&Failure::definite("other")).is_none());
    }
}
