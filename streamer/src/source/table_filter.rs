//! Which tables are replicated, by the pattern language of the output plugin's
//! options `tables` and `exclude_tables` (`docs/plugin-options.md`).
//!
//! The plugin does the filtering. Here the patterns are checked before a
//! connection is made, and asked where only what is replicated counts.

use std::iter::Peekable;
use std::str::Chars;

use crate::error::{Failure, Result};

/// Tables in and out. Each list is text in the plugin's own form, and read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFilter {
    include: Patterns,
    exclude: Patterns,
}

/// The schema of walferry's own tables (heartbeats, captured DDL).
pub const OWN_SCHEMA: &str = "walferry";

/// Those of its tables that the streamer lives on, whatever the filters are.
pub const OWN_TABLES: [&str; 2] = ["heartbeats", DDL_LOG];

/// The table of captured DDL.
pub const DDL_LOG: &str = "ddl_log";

/// A pattern of names that need no quoting anywhere, or of any name (`None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainPattern {
    pub schema: Option<String>,
    pub table: Option<String>,
}

impl PlainPattern {
    fn of([schema, table]: &[Glob; 2]) -> Option<Self> {
        Some(PlainPattern {
            schema: schema.plain()?,
            table: table.plain()?,
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Patterns {
    text: String,
    read: Vec<[Glob; 2]>,
}

impl TableFilter {
    /// Reads lists of `schema.table` patterns; no `include` means every table.
    ///
    /// # Errors
    /// Usage, when a pattern can't be read.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        Ok(TableFilter {
            include: Patterns::parse(include)?,
            exclude: Patterns::parse(exclude)?,
        })
    }

    /// Whether changes of this table are replicated.
    pub fn passes(&self, schema: &str, table: &str) -> bool {
        self.includes(schema, table) && !self.exclude.any(schema, table)
    }

    /// Whether the table is among those to take, whatever else leaves it out.
    pub fn includes(&self, schema: &str, table: &str) -> bool {
        self.include.read.is_empty() || self.include.any(schema, table)
    }

    /// Whether a pattern without wildcards names the table.
    pub fn names(&self, schema: &str, table: &str) -> bool {
        self.include.read.iter().any(|[in_schema, in_table]| {
            in_schema.literal().as_deref() == Some(schema)
                && in_table.literal().as_deref() == Some(table)
        })
    }

    /// The patterns to take that match none of `tables`, as they read.
    pub fn unmatched<'a>(&self, tables: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
        let mut left: Vec<&[Glob; 2]> = self.include.read.iter().collect();
        for (schema, table) in tables {
            left.retain(|[in_schema, in_table]| {
                !(in_schema.matches(schema) && in_table.matches(table))
            });
        }
        left.iter()
            .map(|[schema, table]| format!("{schema}.{table}"))
            .collect()
    }

    /// Whether the output plugin lets changes of this table through: those of
    /// walferry's own tables always, as `walferry`'s does.
    pub fn passes_in_stream(&self, schema: &str, table: &str) -> bool {
        schema == OWN_SCHEMA || self.passes(schema, table)
    }

    /// The tables to let through, if all of them can be named without
    /// wildcards within a name; `None` also when that is every table.
    pub fn plain_include(&self) -> Option<Vec<PlainPattern>> {
        let patterns = &self.include.read;
        if patterns.is_empty() {
            return None;
        }
        patterns.iter().map(PlainPattern::of).collect()
    }

    /// Those of the tables to keep out that can be named so, and that are none
    /// of walferry's own: these are left out after they were read.
    pub fn plain_exclude(&self) -> Vec<PlainPattern> {
        let patterns = &self.exclude.read;
        patterns
            .iter()
            .filter(|[schema, table]| {
                !(schema.matches(OWN_SCHEMA) && OWN_TABLES.iter().any(|own| table.matches(own)))
            })
            .filter_map(PlainPattern::of)
            .collect()
    }

    /// The patterns to take, written so that they may stand before anything
    /// else in a plugin option.
    pub fn included_as_text(&self) -> String {
        let patterns = self
            .include
            .read
            .iter()
            .map(|[schema, table]| format!("{}.{}", schema.escaped(), table.escaped()));
        patterns.collect::<Vec<_>>().join(", ")
    }

    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.include.read.is_empty() && self.exclude.read.is_empty()
    }

    /// The plugin options that say the same. `own`: walferry's own tables are
    /// wanted, too; without it those that the streamer does not live on stay at
    /// the source.
    pub fn plugin_options(&self, own: bool) -> Vec<(String, String)> {
        let (mut include, mut exclude) = (self.include.text.clone(), self.exclude.text.clone());
        let everything = self.include.read.is_empty();
        let mut schemas = self.include.read.iter().map(|[schema, _]| schema);
        let named = |schema: &Glob| schema.literal().as_deref() == Some(OWN_SCHEMA);
        let all_own = format!("{OWN_SCHEMA}.*");
        let list = if own {
            (!everything).then_some(&mut include)
        } else {
            let comes = everything || schemas.clone().any(|schema| schema.matches(OWN_SCHEMA));
            (comes && !schemas.any(named)).then_some(&mut exclude)
        };
        if let Some(list) = list {
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(&all_own);
        }
        [("tables", include), ("exclude_tables", exclude)]
            .into_iter()
            .filter(|(_, patterns)| !patterns.is_empty())
            .map(|(name, patterns)| (name.to_owned(), patterns))
            .collect()
    }
}

/// Which logical messages are taken, where the plugin does not filter them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixFilter {
    /// No logical message at all.
    none: bool,
    /// Patterns of prefixes; `None`: every one.
    include: Option<Vec<Glob>>,
}

impl PrefixFilter {
    /// No message at all.
    pub fn none() -> Self {
        PrefixFilter {
            none: true,
            include: None,
        }
    }

    /// Reads a list of patterns, as the native plugin's option
    /// `message_prefixes` has them.
    ///
    /// # Errors
    /// Usage, when a pattern can't be read.
    pub fn parse(text: &str) -> Result<Self> {
        let mut characters = text.chars().peekable();
        let mut include = Vec::new();
        loop {
            let (prefix, end) = Glob::parse(&mut characters, ",").map_err(|what| {
                Failure::usage(format!("cannot read the message prefixes {text:?}: {what}")).hint(
                    "write prefixes with * and ? as wildcards, several separated by commas; odd ones go in double quotes",
                )
            })?;
            include.push(prefix);
            if end.is_none() {
                return Ok(PrefixFilter {
                    none: false,
                    include: Some(include),
                });
            }
        }
    }

    /// Whether a message with this prefix is taken.
    pub fn passes(&self, prefix: &str) -> bool {
        !self.none
            && self
                .include
                .as_ref()
                .is_none_or(|globs| globs.iter().any(|glob| glob.matches(prefix)))
    }
}

impl Patterns {
    fn any(&self, schema: &str, table: &str) -> bool {
        self.read
            .iter()
            .any(|[in_schema, in_table]| in_schema.matches(schema) && in_table.matches(table))
    }

    fn parse(lists: &[String]) -> Result<Self> {
        let text = lists.join(",");
        if text.is_empty() {
            return Ok(Patterns::default());
        }
        let refuse = |what: &str| {
            Failure::usage(format!("cannot read the table patterns {text:?}: {what}")).hint(
                "write schema.table with * and ? as wildcards, several separated by commas; odd names go in double quotes",
            )
        };
        let mut characters = text.chars().peekable();
        let mut read = Vec::new();
        loop {
            let (schema, end) = Glob::parse(&mut characters, ".,").map_err(refuse)?;
            if end != Some('.') {
                return Err(refuse("a pattern has no dot between schema and table"));
            }
            let (table, end) = Glob::parse(&mut characters, ",").map_err(refuse)?;
            read.push([schema, table]);
            if end.is_none() {
                return Ok(Patterns { text, read });
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Glob(Vec<Token>);

impl std::fmt::Display for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write;
        self.0.iter().try_for_each(|token| match token {
            Token::Character(character) => f.write_char(*character),
            Token::AnyOne => f.write_char('?'),
            Token::Any => f.write_char('*'),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Character(char),
    AnyOne,
    Any,
}

impl Glob {
    /// Text that reads as this pattern, whatever stands around it.
    fn escaped(&self) -> String {
        let mut text = String::new();
        for token in &self.0 {
            match token {
                Token::AnyOne => text.push('?'),
                Token::Any => text.push('*'),
                Token::Character(plain) => {
                    if !plain.is_alphanumeric() && *plain != '_' {
                        text.push('\\');
                    }
                    text.push(*plain);
                }
            }
        }
        text
    }

    /// The one name it stands for, if it has no wildcards.
    fn literal(&self) -> Option<String> {
        self.0
            .iter()
            .map(|token| match token {
                Token::Character(character) => Some(*character),
                Token::AnyOne | Token::Any => None,
            })
            .collect()
    }

    /// Reads up to one of `ends`, which is given back. Blanks around the
    /// pattern do not count; what is in double quotes or after a backslash
    /// stands for itself.
    fn parse(
        characters: &mut Peekable<Chars<'_>>,
        ends: &str,
    ) -> Result<(Self, Option<char>), &'static str> {
        let mut tokens = Vec::new();
        let mut solid = 0;
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        let end = loop {
            let Some(character) = characters.next() else {
                break None;
            };
            match character {
                '"' => loop {
                    match characters.next() {
                        Some('"') if characters.next_if_eq(&'"').is_some() => {
                            tokens.push(Token::Character('"'));
                        }
                        Some('"') => break,
                        Some(quoted) => tokens.push(Token::Character(quoted)),
                        None => return Err("a quoted name is not closed"),
                    }
                },
                '\\' => match characters.next() {
                    Some(escaped) => tokens.push(Token::Character(escaped)),
                    None => return Err("nothing follows the last backslash"),
                },
                end if ends.contains(end) => break Some(end),
                '*' => tokens.push(Token::Any),
                '?' => tokens.push(Token::AnyOne),
                blank if blank.is_whitespace() => {
                    tokens.push(Token::Character(blank));
                    continue;
                }
                plain => tokens.push(Token::Character(plain)),
            }
            solid = tokens.len();
        };
        tokens.truncate(solid);
        if tokens.is_empty() {
            return Err("a schema or table is empty");
        }
        Ok((Glob(tokens), end))
    }

    /// The one name it stands for, `Some(None)` for any; `None` for more
    /// intricate ones.
    fn plain(&self) -> Option<Option<String>> {
        if self.0 == [Token::Any] {
            return Some(None);
        }
        let name = self.0.iter().map(|token| match token {
            Token::Character(plain) if plain.is_ascii_alphanumeric() || *plain == '_' => {
                Some(*plain)
            }
            _ => None,
        });
        name.collect::<Option<String>>().map(Some)
    }

    fn matches(&self, text: &str) -> bool {
        // Which prefixes of the pattern match what was read so far.
        let mut reached = vec![false; self.0.len() + 1];
        reached[0] = true;
        let skip_stars = |reached: &mut Vec<bool>| {
            for (index, token) in self.0.iter().enumerate() {
                if reached[index] && *token == Token::Any {
                    reached[index + 1] = true;
                }
            }
        };
        skip_stars(&mut reached);
        for character in text.chars() {
            let mut next = vec![false; reached.len()];
            for (index, token) in self
                .0
                .iter()
                .enumerate()
                .filter(|(index, _)| reached[*index])
            {
                match token {
                    Token::Any => next[index] = true,
                    Token::AnyOne => next[index + 1] = true,
                    Token::Character(wanted) => next[index + 1] |= *wanted == character,
                }
            }
            skip_stars(&mut next);
            reached = next;
        }
        reached[self.0.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> TableFilter {
        let own = |list: &[&str]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        TableFilter::new(&own(include), &own(exclude)).unwrap()
    }

    #[test]
    fn patterns_select_and_exclusion_wins() {
        let some = filter(&["public.*, sales.order_?", "x.y"], &["*.audit*"]);
        for (schema, table, passes) in [
            ("public", "orders", true),
            ("public", "audit_log", false),
            ("sales", "order_1", true),
            ("sales", "order_12", false),
            ("x", "y", true),
            ("x", "yy", false),
        ] {
            assert_eq!(some.passes(schema, table), passes, "{schema}.{table}");
        }
        assert!(filter(&[], &[]).passes("any", "thing"));
    }

    #[test]
    fn quotes_and_backslashes_take_characters_as_they_are() {
        let odd = filter(&[r#""a.b"."c,*""d", s\*.t"#], &[]);
        assert!(odd.passes("a.b", "c,*\"d"));
        assert!(!odd.passes("a.b", "c,x\"d"));
        assert!(odd.passes("s*", "t") && !odd.passes("sx", "t"));
    }

    #[test]
    fn what_has_no_dot_or_no_end_is_refused() {
        for bad in ["orders", "public.", ".x", "a.\"b", "a.b,", "a.b\\"] {
            let failure = TableFilter::new(&[bad.to_owned()], &[]).expect_err(bad);
            assert_eq!(failure.exit_code(), 2);
        }
    }

    #[test]
    fn the_plugin_gets_the_same_text() {
        let options = |include: &[&str], exclude: &[&str], own: bool| {
            let options = filter(include, exclude).plugin_options(own);
            let written = options
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            written.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(options(&["a.b", "c.d"], &[], false), "tables=a.b,c.d");
        // Its own tables, as far as the plugin leaves them out at all.
        assert_eq!(options(&[], &[], false), "exclude_tables=walferry.*");
        assert_eq!(
            options(&["w*.x"], &["a.b"], false),
            "tables=w*.x exclude_tables=a.b,walferry.*"
        );
        assert_eq!(
            options(&["walferry.wal_samples"], &[], false),
            "tables=walferry.wal_samples"
        );
        assert_eq!(options(&[], &[], true), "");
        assert_eq!(options(&["a.b"], &[], true), "tables=a.b,walferry.*");
    }
}
