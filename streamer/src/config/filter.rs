//! The filter: which tables, columns and rows go through.

use schemars::JsonSchema;
use serde::Deserialize;

use super::document::{Entries, List, OneOrMany, Position, Value};
use super::report::Reader;
use super::setting::choice;
use crate::error::Result;
use crate::filter::{Operations, Predicate, TableRule};
use crate::source::table_filter::TableFilter;

/// `conditions` as a widely copied template misspells it: taken, with a warning.
pub(super) const MISSPELT_CONDITIONS: &str = "condtions";

/// A filter file, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Filter")]
pub struct RawFilter {
    /// What goes through: one mapping, or a list of them, one a schema. Default: everything.
    allow: Option<OneOrMany<RawAllow>>,
}

/// What goes through of one schema, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Allow")]
pub struct RawAllow {
    /// The database; it must be the one that is connected to.
    catalog: Option<Value<String>>,
    /// The schema; * and ? stand for any characters. Default: every schema.
    schema: Option<Value<String>>,
    /// Kinds of objects: TABLE, VIEW. Default: TABLE.
    types: Option<List<ObjectType>>,
    /// The tables, each with what goes through of it; * and ? stand for any characters. Default: all.
    allow: Option<Entries<RawTable>>,
}

/// What goes through of one table, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "FilteredTable")]
pub struct RawTable {
    /// The columns. Default: all.
    allow: Option<List<String>>,
    /// Rows for which this SQL predicate is true. Default: all.
    conditions: Option<Value<String>>,
    #[schemars(skip)]
    condtions: Option<Value<String>>,
    /// An UPDATE goes through if any of these columns changed.
    allow_update_any: Option<List<String>>,
    /// An UPDATE goes through if all of these columns changed.
    allow_update_all: Option<List<String>>,
    /// The operations that go through: INSERT, UPDATE, DELETE, TRUNCATE. Default: all.
    operations: Option<List<Operation>>,
}

choice! {
    /// A kind of object in the catalog.
    ObjectType ("TABLE or VIEW") { Table = "TABLE", View = "VIEW" }

    /// What was done to a row or table.
    Operation ("INSERT, UPDATE, DELETE or TRUNCATE") {
        Insert = "INSERT",
        Update = "UPDATE",
        Delete = "DELETE",
        Truncate = "TRUNCATE",
    }
}

/// What goes through, validated. No entry: everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub allow: Vec<Allow>,
}

/// What goes through of one schema.
#[derive(Clone, Debug)]
pub struct Allow {
    pub catalog: Option<Catalog>,
    /// A glob; `None`: every schema.
    pub schema: Option<String>,
    pub types: Vec<ObjectType>,
    /// `None`: every table.
    pub tables: Option<Vec<Table>>,
}

/// A database that the file names, and where, so that it can be compared with
/// the one that is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    pub name: String,
    /// `file:line:column`
    pub place: String,
}

/// What goes through of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// A glob, case-sensitive.
    pub name: String,
    /// `None`: all.
    pub columns: Option<Vec<String>>,
    pub condition: Option<Predicate>,
    pub update_any: Vec<String>,
    pub update_all: Vec<String>,
    /// `None`: all.
    pub operations: Option<Vec<Operation>>,
}

impl Table {
    /// The first thing of which two rules say something else.
    fn differs(&self, other: &Self) -> Option<&'static str> {
        [
            (self.columns != other.columns, "columns"),
            (self.condition != other.condition, "conditions"),
            (self.update_any != other.update_any, "allow-update-any"),
            (self.update_all != other.update_all, "allow-update-all"),
            (self.operations != other.operations, "operations"),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what))
    }

    /// What the streamer does with the table's changes.
    fn rule(&self, schema: Option<&str>) -> Result<TableRule> {
        let pattern = TableFilter::new(&[table_pattern(schema, &self.name)], &[])?;
        let operations = match &self.operations {
            None => Operations::ALL,
            Some(chosen) => Operations {
                insert: chosen.contains(&Operation::Insert),
                update: chosen.contains(&Operation::Update),
                delete: chosen.contains(&Operation::Delete),
                truncate: chosen.contains(&Operation::Truncate),
            },
        };
        Ok(TableRule {
            columns: self.columns.clone(),
            condition: self.condition.clone(),
            update_any: self.update_any.clone(),
            update_all: self.update_all.clone(),
            operations,
            ..TableRule::new(pattern)
        })
    }
}

impl RawFilter {
    pub(super) fn is_given(&self) -> bool {
        self.allow.is_some()
    }

    pub(super) fn validate(&self, reader: &mut Reader<'_>) -> Filter {
        let mut filter = Filter::default();
        let mut seen: Vec<Seen> = Vec::new();
        for allow in self.allow.iter().flat_map(|all| &all.0) {
            filter.allow.push(allow.validate(reader, &mut seen));
        }
        filter
    }
}

/// A table's rule that was read, to be compared with later ones.
struct Seen {
    schema: Option<String>,
    table: Table,
}

impl RawAllow {
    fn validate(&self, reader: &mut Reader<'_>, seen: &mut Vec<Seen>) -> Allow {
        let schema = reader.optional("schema", self.schema.as_ref());
        let types = match &self.types {
            None => vec![ObjectType::Table],
            Some(types) => {
                let read = reader.list("types", types);
                if let Some(value) = types.0.first()
                    && read.contains(&ObjectType::View)
                {
                    if read.contains(&ObjectType::Table) {
                        reader.warning(
                            value.at,
                            "types: views have no changes to stream; only tables go through",
                            None,
                        );
                    } else {
                        reader.later(
                            value.at,
                            "types: views can only be copied, which comes in a later version",
                            Some("add TABLE to the types"),
                        );
                    }
                }
                read
            }
        };
        let tables = self.allow.as_ref().map(|tables| {
            let mut read = Vec::new();
            for (name, rule) in &tables.0 {
                let at = name.at;
                let Some(name) = reader.get("allow", name) else {
                    continue;
                };
                let table = match rule {
                    Some(rule) => rule.validate(reader, name),
                    None => RawTable::default().validate(reader, name),
                };
                check_agreement(reader, at, schema.as_deref(), &table, seen);
                read.push(table);
            }
            read
        });
        if let (Some(tables), Some(raw)) = (&tables, &self.allow)
            && tables.is_empty()
            && raw.0.is_empty()
            && let Some(value) = self.schema.as_ref().or(self.catalog.as_ref())
        {
            reader.error(
                value.at,
                "allow: the list of tables is empty, so nothing would go through",
                Some("name tables, or leave the inner allow out to take all of them"),
            );
        }
        Allow {
            catalog: reader.catalog("catalog", self.catalog.as_ref()),
            schema,
            types,
            tables,
        }
    }
}

/// One table may be matched by several rules only if they say the same: else it
/// would depend on a pattern which of them was meant.
fn check_agreement(
    reader: &mut Reader<'_>,
    at: Position,
    schema: Option<&str>,
    table: &Table,
    seen: &mut Vec<Seen>,
) {
    for earlier in seen.iter() {
        let same_schema = may_overlap(
            schema.unwrap_or("*"),
            earlier.schema.as_deref().unwrap_or("*"),
        );
        if !same_schema || !may_overlap(&table.name, &earlier.table.name) {
            continue;
        }
        if table.name == earlier.table.name && schema == earlier.schema.as_deref() {
            reader.error(
                at,
                format!("allow: table {:?} is given twice", table.name),
                None,
            );
        } else if let Some(what) = table.differs(&earlier.table) {
            reader.error(
                at,
                format!(
                    "allow: {:?} and {:?} may be the same table, with different {what}",
                    table.name, earlier.table.name
                ),
                Some(&format!(
                    "write one rule a table, or the same {what} in both"
                )),
            );
        }
    }
    seen.push(Seen {
        schema: schema.map(str::to_owned),
        table: table.clone(),
    });
}

impl RawTable {
    fn validate(&self, reader: &mut Reader<'_>, name: String) -> Table {
        let condition = self.condition(reader);
        let columns = self
            .allow
            .as_ref()
            .and_then(|columns| read_columns(reader, "allow", columns));
        let update_any = self.update_columns(reader, "allow-update-any", &self.allow_update_any);
        let update_all = self.update_columns(reader, "allow-update-all", &self.allow_update_all);
        let operations = self
            .operations
            .as_ref()
            .map(|operations| reader.list("operations", operations));
        Table {
            name,
            columns,
            condition,
            update_any,
            update_all,
            operations,
        }
    }

    fn condition(&self, reader: &mut Reader<'_>) -> Option<Predicate> {
        if let Some(value) = &self.condtions {
            reader.warning(
                value.at,
                "\"condtions\" is read as \"conditions\"",
                Some("write conditions"),
            );
            if self.conditions.is_some() {
                reader.error(
                    value.at,
                    "conditions are given twice, once misspelt",
                    Some("leave condtions out"),
                );
            }
        }
        let value = self.conditions.as_ref().or(self.condtions.as_ref())?;
        let text: String = reader.get("conditions", value)?;
        match Predicate::read(&text) {
            Ok(predicate) => Some(predicate),
            Err(refusal) => {
                reader.error(
                    value.at,
                    format!("conditions: {refusal}"),
                    Some(
                        refusal
                            .hint
                            .as_deref()
                            .unwrap_or("docs/filters.md lists what conditions may say"),
                    ),
                );
                None
            }
        }
    }

    fn update_columns(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        columns: &Option<List<String>>,
    ) -> Vec<String> {
        let Some(columns) = columns else {
            return Vec::new();
        };
        read_columns(reader, key, columns).unwrap_or_default()
    }
}

/// Column names. One string with commas in it is read as several columns, with
/// a warning: an example that many files began as writes them so.
fn read_columns(reader: &mut Reader<'_>, key: &str, columns: &List<String>) -> Option<Vec<String>> {
    let mut read = Vec::new();
    for value in &columns.0 {
        let Some(text) = reader.get(key, value) else {
            continue;
        };
        if text.contains(',') {
            let names: Vec<String> = text
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect();
            let list: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            let list = list.join(", ");
            reader.warning(
                value.at,
                format!(
                    "{key}: {text:?} is one text with commas; it is read as {} columns: {list}",
                    names.len()
                ),
                Some(&format!("write [{list}]")),
            );
            read.extend(names);
        } else {
            read.push(text);
        }
    }
    // An empty list is as good as none: there is no row without columns.
    (!read.is_empty()).then_some(read)
}

impl Reader<'_> {
    /// The name of a database, with its place.
    pub(super) fn catalog(&mut self, key: &str, value: Option<&Value<String>>) -> Option<Catalog> {
        let value = value?;
        let name = self.get(key, value)?;
        Some(Catalog {
            name,
            place: self.place(value.at),
        })
    }
}

/// Whether some text matches both globs.
fn may_overlap(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // reachable[j]: a's first i and b's first j pieces can match one text.
    let mut reachable = vec![false; b.len() + 1];
    reachable[0] = true;
    for j in 0..b.len() {
        reachable[j + 1] = reachable[j] && b[j] == '*';
    }
    for piece in &a {
        let mut next = vec![false; b.len() + 1];
        next[0] = reachable[0] && *piece == '*';
        for j in 0..b.len() {
            next[j + 1] = match (*piece, b[j]) {
                ('*', _) => next[j] || reachable[j + 1],
                (_, '*') => next[j] || reachable[j + 1],
                (x, y) => reachable[j] && (x == y || x == '?' || y == '?'),
            } || (*piece == '*' && next[j])
                || (b[j] == '*' && reachable[j + 1]);
        }
        reachable = next;
    }
    reachable[b.len()]
}

impl Filter {
    /// The `schema.table` patterns of the plugin's option `tables`; empty: all.
    pub fn table_patterns(&self) -> Vec<String> {
        let mut patterns = Vec::new();
        for allow in &self.allow {
            match &allow.tables {
                None => patterns.push(table_pattern(allow.schema.as_deref(), "*")),
                Some(tables) => patterns.extend(
                    tables
                        .iter()
                        .map(|table| table_pattern(allow.schema.as_deref(), &table.name)),
                ),
            }
        }
        if patterns.iter().any(|pattern| pattern == "*.*") {
            // All of them; the columns say the rest.
            return Vec::new();
        }
        patterns
    }

    /// What the streamer does with the tables' changes, where that is anything.
    ///
    /// # Errors
    /// Usage, for a name that cannot be a pattern.
    pub fn rules(&self) -> Result<Vec<TableRule>> {
        let mut rules = Vec::new();
        for allow in &self.allow {
            for table in allow.tables.iter().flatten() {
                let rule = table.rule(allow.schema.as_deref())?;
                if !rule.is_idle() {
                    rules.push(rule);
                }
            }
        }
        Ok(rules)
    }

    /// The plugin's option `columns`; `None`: every column of every table.
    /// What rules read (`further`: those of flags) is sent too, and goes no
    /// further than to them.
    pub fn column_rules(&self, further: &[TableRule]) -> Option<String> {
        let rules: Vec<String> = self
            .allow
            .iter()
            .flat_map(|allow| {
                allow
                    .tables
                    .iter()
                    .flatten()
                    .map(move |table| (allow, table))
            })
            .filter_map(|(allow, table)| {
                let mut columns: Vec<&str> = Vec::new();
                let own = table.rule(allow.schema.as_deref()).ok();
                let read = own.iter().chain(further).flat_map(TableRule::reads);
                for column in table
                    .columns
                    .as_ref()?
                    .iter()
                    .map(String::as_str)
                    .chain(read)
                {
                    if !columns.contains(&column) {
                        columns.push(column);
                    }
                }
                let columns: Vec<String> = columns.into_iter().map(quote).collect();
                let pattern = table_pattern(allow.schema.as_deref(), &table.name);
                Some(format!("{pattern}({})", columns.join(",")))
            })
            .collect();
        (!rules.is_empty()).then(|| rules.join(","))
    }
}

fn table_pattern(schema: Option<&str>, table: &str) -> String {
    let schema = schema.map_or_else(|| "*".to_owned(), glob);
    format!("{schema}.{}", glob(table))
}

/// A name as a pattern in a plugin's option: only `*` and `?` are special in a
/// filter file.
fn glob(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | '*' | '?');
    let mut pattern = String::new();
    for character in name.chars() {
        if !plain(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// A column's name, in which nothing is special.
fn quote(name: &str) -> String {
    if name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_overlap_where_one_name_matches_both() {
        for (a, b) in [
            ("a", "a"),
            ("*", "x"),
            ("a*", "*b"),
            ("a?c", "abc"),
            ("*", "*"),
            ("", "*"),
        ] {
            assert!(may_overlap(a, b) && may_overlap(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("a", "b"),
            ("a*", "b*"),
            ("a?", "a"),
            ("", "?"),
            ("*a", "*b"),
        ] {
            assert!(!may_overlap(a, b) && !may_overlap(b, a), "{a} {b}");
        }
    }

    #[test]
    fn odd_names_are_escaped_for_the_plugin() {
        assert_eq!(
            table_pattern(Some("Odd.schema"), "a b*"),
            r"Odd\.schema.a\ b*"
        );
        assert_eq!(table_pattern(None, "t(1)"), r"*.t\(1\)");
        assert_eq!(quote("say \"*\""), "\"say \"\"*\"\"\"");
    }
}
