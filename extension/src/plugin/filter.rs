//! What a slot's reader asked for: tables, columns, row conditions and message
//! prefixes.
//!
//! What is here looks at names only and is evaluated once for each relation
//! definition; conditions become a program of the relation's cache entry
//! (`condition`).

use super::failure::{Failure, Outcome};

/// A name pattern: `*` stands for any characters, `?` for one; within double
/// quotes or after a backslash a character stands for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glob(Vec<Token>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Character(char),
    AnyOne,
    Any,
}

impl Glob {
    pub fn matches(&self, text: &str) -> bool {
        // Walks both at once and goes back to the last `*` on a mismatch.
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut token) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.0.get(token) {
                Some(Token::Any) => {
                    star = Some((token, at));
                    token += 1;
                }
                Some(Token::AnyOne) => {
                    token += 1;
                    at += 1;
                }
                Some(Token::Character(c)) if *c == text[at] => {
                    token += 1;
                    at += 1;
                }
                _ => match star {
                    Some((star_token, star_at)) => {
                        star = Some((star_token, star_at + 1));
                        token = star_token + 1;
                        at = star_at + 1;
                    }
                    None => return false,
                },
            }
        }
        self.0[token..].iter().all(|rest| *rest == Token::Any)
    }
}

/// `schema.table`, both as patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern {
    schema: Glob,
    table: Glob,
}

impl TablePattern {
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.schema.matches(schema) && self.table.matches(table)
    }
}

/// The columns of some tables that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnRule {
    tables: TablePattern,
    columns: Vec<Glob>,
}

/// The rows of some tables that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionRule {
    tables: Vec<TablePattern>,
    /// As it was given: an SQL expression.
    pub predicate: String,
}

/// What a reader wants of conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConditionsMode {
    /// They are applied here: an UPDATE that brings a row in is sent as INSERT,
    /// one that takes it out as DELETE, and a table that a condition does not
    /// fit is refused.
    #[default]
    Exact,
    /// The reader applies them itself: here a change is left out only where it
    /// is certain that the reader would, and is sent as it is otherwise.
    Thin,
}

/// Which relations are sent, and what of them.
#[derive(Clone, Debug, Default)]
pub struct TableFilter {
    /// None: all.
    pub include: Option<Vec<TablePattern>>,
    pub exclude: Vec<TablePattern>,
    pub columns: Vec<ColumnRule>,
    /// All that are for a table have to be true.
    pub conditions: Vec<ConditionRule>,
    pub conditions_mode: ConditionsMode,
}

/// The schema of walferry's own tables.
const OWN_SCHEMA: &str = "walferry";

/// Those of them that pass whatever the filter is: the streamer lives on them.
const OWN_TABLES: [&str; 2] = ["heartbeats", "ddl_log"];

impl TableFilter {
    pub fn passes(&self, schema: &str, table: &str) -> bool {
        if schema == OWN_SCHEMA && OWN_TABLES.contains(&table) {
            return true;
        }
        let wanted = match &self.include {
            None => true,
            Some(patterns) => patterns.iter().any(|p| p.matches(schema, table)),
        };
        wanted && !self.exclude.iter().any(|p| p.matches(schema, table))
    }

    /// Whether a column is sent: every column of a table that no rule names.
    pub fn passes_column(&self, schema: &str, table: &str, column: &str) -> bool {
        let mut named = false;
        for rule in self
            .columns
            .iter()
            .filter(|rule| rule.tables.matches(schema, table))
        {
            named = true;
            if rule.columns.iter().any(|glob| glob.matches(column)) {
                return true;
            }
        }
        !named
    }

    /// The conditions of a table. Those of the partitioned table above a
    /// partition (`root`) are the partition's too.
    pub fn conditions_of<'f>(
        &'f self,
        table: (&'f str, &'f str),
        root: Option<(&'f str, &'f str)>,
    ) -> impl Iterator<Item = &'f str> {
        let own = table.0 == OWN_SCHEMA;
        self.conditions
            .iter()
            .filter(move |rule| {
                !own && std::iter::once(table).chain(root).any(|(schema, name)| {
                    rule.tables
                        .iter()
                        .any(|pattern| pattern.matches(schema, name))
                })
            })
            .map(|rule| rule.predicate.as_str())
    }
}

/// Which logical messages are sent.
#[derive(Clone, Debug, Default)]
pub struct PrefixFilter {
    /// None: all.
    pub include: Option<Vec<Glob>>,
    pub exclude: Vec<Glob>,
}

impl PrefixFilter {
    pub fn passes(&self, prefix: &str) -> bool {
        let wanted = match &self.include {
            None => true,
            Some(globs) => globs.iter().any(|glob| glob.matches(prefix)),
        };
        wanted && !self.exclude.iter().any(|glob| glob.matches(prefix))
    }
}

/// Reads a comma-separated list of `schema.table` patterns.
pub fn table_patterns(option: &str, value: &str) -> Outcome<Vec<TablePattern>> {
    let mut reader = Reader::new(option, value);
    reader.list(|reader| reader.table_pattern(""))
}

/// Reads a comma-separated list of patterns.
pub fn globs(option: &str, value: &str) -> Outcome<Vec<Glob>> {
    let mut reader = Reader::new(option, value);
    reader.list(|reader| reader.glob(",", "a pattern"))
}

/// Reads names with commas between them, none of whose characters is special.
pub fn literals(value: &str) -> Vec<Glob> {
    value
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| Glob(name.chars().map(Token::Character).collect()))
        .collect()
}

/// Reads `schema.table(column, …), …`.
pub fn column_rules(option: &str, value: &str) -> Outcome<Vec<ColumnRule>> {
    let mut reader = Reader::new(option, value);
    reader.list(|reader| {
        let tables = reader.table_pattern("(")?;
        reader.expect('(')?;
        let mut columns = vec![reader.glob(",)", "a column")?];
        while reader.skip(',') {
            columns.push(reader.glob(",)", "a column")?);
        }
        reader.expect(')')?;
        Ok(ColumnRule { tables, columns })
    })
}

/// Reads `schema.table, …: predicate`. What follows the colon is not looked at.
pub fn condition_rule(option: &str, value: &str) -> Outcome<ConditionRule> {
    let mut reader = Reader::new(option, value);
    let mut tables = vec![reader.table_pattern(":")?];
    while reader.skip(',') {
        tables.push(reader.table_pattern(":")?);
    }
    reader.expect(':')?;
    let predicate = reader.rest.trim();
    if predicate.is_empty() {
        return Err(reader.refuse("a condition"));
    }
    Ok(ConditionRule {
        tables,
        predicate: predicate.to_owned(),
    })
}

struct Reader<'a> {
    option: &'a str,
    value: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn new(option: &'a str, value: &'a str) -> Self {
        Reader {
            option,
            value,
            rest: value,
        }
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Outcome<T>) -> Outcome<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.skip(',') {
            items.push(item(self)?);
        }
        if self.rest.is_empty() {
            Ok(items)
        } else {
            Err(self.refuse("',' or the end"))
        }
    }

    /// `end`: what may follow the pattern besides a comma.
    fn table_pattern(&mut self, end: &str) -> Outcome<TablePattern> {
        let schema = self.glob(&format!(".,{end}"), "a schema")?;
        self.expect('.')?;
        // A third part is refused, not taken for a part of the name: it would
        // match nothing, and silently.
        let table = self.glob(&format!(".,{end}"), "a table")?;
        Ok(TablePattern { schema, table })
    }

    /// Reads a pattern up to one of `ends`; blanks around it do not count.
    fn glob(&mut self, ends: &str, what: &str) -> Outcome<Glob> {
        self.rest = self.rest.trim_start();
        let mut tokens = Vec::new();
        // Length up to and with the last character that is no blank.
        let mut solid = 0;
        let mut characters = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    let mut closed = false;
                    while let Some((_, c)) = characters.next() {
                        if c != '"' {
                            tokens.push(Token::Character(c));
                        } else if characters.as_str().starts_with('"') {
                            characters.next();
                            tokens.push(Token::Character('"'));
                        } else {
                            closed = true;
                            break;
                        }
                    }
                    if !closed {
                        return Err(self.refuse("a closing '\"'"));
                    }
                    solid = tokens.len();
                }
                '\\' => match characters.next() {
                    Some((_, c)) => {
                        tokens.push(Token::Character(c));
                        solid = tokens.len();
                    }
                    None => return Err(self.refuse("a character after '\\'")),
                },
                c if ends.contains(c) => {
                    end = at;
                    break;
                }
                c if c.is_whitespace() => tokens.push(Token::Character(c)),
                c => {
                    tokens.push(match c {
                        '*' => Token::Any,
                        '?' => Token::AnyOne,
                        c => Token::Character(c),
                    });
                    solid = tokens.len();
                }
            }
        }
        tokens.truncate(solid);
        if tokens.is_empty() {
            return Err(self.refuse(what));
        }
        self.rest = &self.rest[end..];
        Ok(Glob(tokens))
    }

    fn skip(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Outcome {
        if self.skip(c) {
            Ok(())
        } else {
            Err(self.refuse(&format!("'{c}'")))
        }
    }

    fn refuse(&self, expected: &str) -> Failure {
        let at = self.value.len() - self.rest.len();
        Failure::option(format!("option {} cannot be read", self.option))
            .detail(format!(
                "Expected {expected} at character {} of '{}'.",
                self.value[..at].chars().count() + 1,
                self.value
            ))
            .hint(
                "Write schema.table patterns with commas between them, for example \
                 'public.*, \"Odd,name\".orders'.",
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Glob {
        globs("tables", text)
            .map(|mut all| all.remove(0))
            .unwrap_or_default()
    }

    #[test]
    fn a_glob_matches_what_it_says() {
        assert!(glob("*").matches(""));
        assert!(glob("a*c").matches("abcbc"));
        assert!(!glob("a*c").matches("abcb"));
        assert!(glob("a?c").matches("aéc"));
        assert!(!glob("a?c").matches("ac"));
        assert!(glob(r"a\*").matches("a*"));
        assert!(!glob(r"a\*").matches("ab"));
        assert!(glob("\"a*\"").matches("a*"));
        assert!(!glob("\"a*\"").matches("ab"));
        assert!(glob("\"a\"\"b\"").matches("a\"b"));
    }

    #[test]
    fn names_with_dots_commas_and_blanks_can_be_quoted() {
        let patterns = table_patterns("tables", r#" "a.b"."c, d" , e\.f.g h "#).unwrap_or_default();
        assert_eq!(patterns.len(), 2);
        assert!(patterns[0].matches("a.b", "c, d"));
        assert!(patterns[1].matches("e.f", "g h"));
    }

    #[test]
    fn a_pattern_without_a_schema_is_refused() {
        for bad in [
            "orders", "", "public.", ".orders", "a.b,", "a.\"b", "a.b\\", "db.a.b",
        ] {
            assert!(table_patterns("tables", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn columns_are_limited_only_where_a_rule_names_the_table() {
        let filter = TableFilter {
            columns: column_rules("columns", "public.o*(id, total), app.t(a?)").unwrap_or_default(),
            ..TableFilter::default()
        };
        assert!(filter.passes_column("public", "orders", "total"));
        assert!(!filter.passes_column("public", "orders", "secret"));
        assert!(filter.passes_column("public", "users", "secret"));
        assert!(filter.passes_column("app", "t", "ab"));
        assert!(!filter.passes_column("app", "t", "b"));
    }

    #[test]
    fn a_condition_follows_its_tables_and_may_hold_anything() {
        let rule = |text| condition_rule("conditions", text);
        let read = rule(r#"public.o*, "a:b"."c,d" : x::text IN ('a', ':')"#).ok();
        let filter = TableFilter {
            conditions: read.into_iter().collect(),
            ..TableFilter::default()
        };
        let of = |schema, table, root| {
            filter
                .conditions_of((schema, table), root)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("public", "orders", None), ["x::text IN ('a', ':')"]);
        assert_eq!(of("a:b", "c,d", None).len(), 1);
        assert_eq!(of("public", "users", None).len(), 0);
        assert_eq!(of("parts", "p1", Some(("public", "orders"))).len(), 1);
        for bad in [
            "public.t",
            "public.t:",
            "public.t: ",
            "t: a = 1",
            ": a = 1",
            "a.b, : x",
        ] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn walferrys_own_tables_pass_every_filter() {
        let filter = TableFilter {
            include: Some(table_patterns("tables", "public.orders").unwrap_or_default()),
            exclude: table_patterns("exclude_tables", "*.*").unwrap_or_default(),
            ..TableFilter::default()
        };
        assert!(filter.passes("walferry", "heartbeats") && filter.passes("walferry", "ddl_log"));
        assert!(!filter.passes("walferry", "wal_samples"));
        assert!(!filter.passes("public", "orders"));
    }
}
