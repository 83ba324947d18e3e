//! What can be replicated and what not, and why: kinds of relations, replica
//! identities, grants.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::finding::{Finding, Findings, Fix, Verdict};
use super::{Question, oids};
use crate::error::Result;
use crate::source::connection::{Connection, Row, quote_identifier};
use crate::source::identity::{TableIdentity, table_identities};

const RELATIONS: &str = include_str!("../../../../sql/preflight/relations.sql");

/// At most so many are told one by one.
const SHOWN: usize = 20;

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Table,
    Partition,
    PartitionedTable,
    View,
    MaterializedView,
    ForeignTable,
}

impl Kind {
    pub fn title(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::Partition => "partition",
            Kind::PartitionedTable => "partitioned table",
            Kind::View => "view",
            Kind::MaterializedView => "materialized view",
            Kind::ForeignTable => "foreign table",
        }
    }
}

/// Whether a relation's changes are in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Persistence {
    Permanent,
    Unlogged,
    Temporary,
}

/// Why no changes come from a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    System,
    View,
    MaterializedView,
    ForeignTable,
    Unlogged,
    Temporary,
    /// The rows are its partitions', which come by themselves.
    RowsInPartitions,
}

impl Reason {
    pub fn words(self) -> &'static str {
        match self {
            Reason::System => "a system catalog is never decoded",
            Reason::View => "a view has no rows of its own: choose its tables",
            Reason::MaterializedView => {
                "a materialized view is filled by REFRESH, not by changes: choose its tables"
            }
            Reason::ForeignTable => "its rows are another server's: replicate from there",
            Reason::Unlogged => "an unlogged table writes no WAL: ALTER TABLE … SET LOGGED",
            Reason::Temporary => "a temporary table writes no WAL",
            Reason::RowsInPartitions => "its rows come from its partitions",
        }
    }
}

/// What the server logs of the old row at an UPDATE or DELETE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// `full`, `primary key`, `index` or `none`.
    pub logged: String,
    pub updates: u64,
    pub deletes: u64,
    /// The statement that gives it one that is logged.
    pub fix: Option<String>,
}

impl Identity {
    pub fn is_missing(&self) -> bool {
        self.logged == "none"
    }

    /// What it means, for people.
    pub fn words(&self) -> &'static str {
        match self.logged.as_str() {
            "full" => "the whole old row",
            "primary key" => "the old key",
            "index" => "the old columns of an index",
            _ => "nothing: an UPDATE or DELETE can't name its row",
        }
    }
}

/// A relation, as far as it matters for replication.
#[derive(Clone, Debug, Serialize)]
pub struct Relation {
    #[serde(skip)]
    pub oid: u32,
    pub schema: String,
    pub table: String,
    pub kind: Kind,
    pub persistence: Persistence,
    pub replicated: bool,
    pub reason: Option<Reason>,
    pub identity: Option<Identity>,
    /// The nearest table it is a partition of.
    pub partition_of: Option<String>,
    pub rows_estimate: Option<i64>,
    pub bytes_estimate: Option<i64>,
    pub schema_usage: bool,
    pub may_select: bool,
    /// The role owns it, or may act as its owner.
    pub owned: bool,
    /// Its policies hide rows from this role.
    pub row_security: bool,
    #[serde(skip)]
    pub ancestors: Vec<u32>,
}

impl Relation {
    /// `schema.table`, for people.
    pub fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// The name as SQL takes it.
    pub fn quoted(&self) -> String {
        format!(
            "{}.{}",
            quote_identifier(&self.schema),
            quote_identifier(&self.table)
        )
    }

    fn read(row: &Row, identities: &HashMap<u32, TableIdentity>) -> Self {
        let kind = match row.get("kind") {
            Some("table") => Kind::Table,
            Some("partition") => Kind::Partition,
            Some("partitioned table") => Kind::PartitionedTable,
            Some("view") => Kind::View,
            Some("materialized view") => Kind::MaterializedView,
            _ => Kind::ForeignTable,
        };
        let persistence = match row.get("persistence") {
            Some("permanent") => Persistence::Permanent,
            Some("unlogged") => Persistence::Unlogged,
            _ => Persistence::Temporary,
        };
        let reason = match (kind, persistence) {
            _ if row.is_true("system") => Some(Reason::System),
            (Kind::View, _) => Some(Reason::View),
            (Kind::MaterializedView, _) => Some(Reason::MaterializedView),
            (Kind::ForeignTable, _) => Some(Reason::ForeignTable),
            (_, Persistence::Unlogged) => Some(Reason::Unlogged),
            (_, Persistence::Temporary) => Some(Reason::Temporary),
            (Kind::PartitionedTable, _) => Some(Reason::RowsInPartitions),
            (Kind::Table | Kind::Partition, Persistence::Permanent) => None,
        };
        let oid = row.parse("oid").unwrap_or(0);
        let text = |name| row.get(name).unwrap_or_default().to_owned();
        Relation {
            oid,
            schema: text("schema"),
            table: text("table_name"),
            kind,
            persistence,
            replicated: reason.is_none(),
            reason,
            identity: identities.get(&oid).map(|found| Identity {
                logged: found.logged.clone(),
                updates: found.updates,
                deletes: found.deletes,
                fix: found.is_missing().then(|| found.statement()),
            }),
            partition_of: None,
            rows_estimate: row.parse("rows_estimate"),
            bytes_estimate: row.parse("bytes_estimate"),
            schema_usage: row.is_true("schema_usage"),
            may_select: row.is_true("may_select"),
            owned: row.is_true("owned"),
            row_security: row.is_true("row_security"),
            ancestors: oids(row.get("ancestors")),
        }
    }
}

/// Every relation of the connection's database, by name.
///
/// # Errors
/// What the server refuses.
pub async fn relations(connection: &mut Connection) -> Result<Vec<Relation>> {
    let identities: HashMap<u32, TableIdentity> = table_identities(connection)
        .await?
        .into_iter()
        .map(|table| (table.oid, table))
        .collect();
    let rows = connection.simple_query(RELATIONS).await?;
    let mut relations: Vec<Relation> = rows
        .iter()
        .map(|row| Relation::read(row, &identities))
        .collect();
    let names: HashMap<u32, String> = relations
        .iter()
        .filter(|relation| relation.kind == Kind::PartitionedTable)
        .map(|relation| (relation.oid, relation.name()))
        .collect();
    for relation in &mut relations {
        let nearest = relation.ancestors.first();
        relation.partition_of = nearest.and_then(|oid| names.get(oid).cloned());
    }
    Ok(relations)
}

/// The relations that are asked for and have changes that can be decoded.
pub(super) fn wanted<'a>(relations: &'a [Relation], question: &Question) -> Vec<&'a Relation> {
    relations
        .iter()
        .filter(|one| one.replicated && question.tables.passes(&one.schema, &one.table))
        .filter(|one| !question.is_heartbeat(&one.schema, &one.table))
        .collect()
}

pub(super) fn judge(
    relations: &[Relation],
    role: &str,
    question: &Question,
    // Changes of partitions come under their root's name.
    by_root: bool,
    findings: &mut Findings,
) {
    let wanted = wanted(relations, question);
    judge_choice(relations, &wanted, question, by_root, findings);
    judge_identity(&wanted, question, findings);
    judge_grants(&wanted, role, question, findings);
}

fn judge_choice(
    relations: &[Relation],
    wanted: &[&Relation],
    question: &Question,
    by_root: bool,
    findings: &mut Findings,
) {
    const CODE: &str = "tables";
    let asked_for: Vec<&Relation> = relations
        .iter()
        .filter(|one| one.reason != Some(Reason::System))
        .filter(|one| question.tables.passes(&one.schema, &one.table))
        .collect();
    let names = relations
        .iter()
        .filter(|one| one.reason != Some(Reason::System))
        .map(|one| (one.schema.as_str(), one.table.as_str()));
    let unmatched = question.tables.unmatched(names);
    for pattern in &unmatched {
        findings.push(
            Finding::new(Verdict::Warn, CODE, "no relation has such a name")
                .object(pattern)
                .note("names are compared letter by letter, upper and lower case apart; walferry tables lists them"),
        );
    }
    for relation in &asked_for {
        let named = question.tables.names(&relation.schema, &relation.table);
        let Some(reason) = relation.reason else {
            continue;
        };
        if reason != Reason::RowsInPartitions {
            // What a wildcard takes along by the way needs no word.
            if named {
                let fix = (reason == Reason::Unlogged)
                    .then(|| Fix::sql(format!("ALTER TABLE {} SET LOGGED", relation.quoted())));
                findings.push(
                    Finding::new(
                        Verdict::Fail,
                        CODE,
                        format!(
                            "it is chosen, and no changes come from it: {}",
                            reason.words()
                        ),
                    )
                    .object(relation.name())
                    .fix(fix),
                );
            }
            continue;
        }
        if by_root {
            continue;
        }
        let left_out: Vec<&Relation> = relations
            .iter()
            .filter(|leaf| leaf.replicated && leaf.ancestors.contains(&relation.oid))
            .filter(|leaf| !question.tables.includes(&leaf.schema, &leaf.table))
            .collect();
        if left_out.is_empty() {
            continue;
        }
        findings.push(
            Finding::new(
                if named { Verdict::Fail } else { Verdict::Warn },
                CODE,
                format!(
                    "it is partitioned, and changes go by their partition's name: {} of them {} not chosen, e.g. {}",
                    left_out.len(),
                    if left_out.len() == 1 { "is" } else { "are" },
                    left_out[0].name()
                ),
            )
            .object(relation.name())
            .note("choose the partitions too: --tables takes wildcards"),
        );
    }
    if wanted.is_empty() && question.chosen {
        findings.push(
            Finding::new(
                Verdict::Fail,
                CODE,
                "nothing that can be replicated passes the choice of tables",
            )
            .note("walferry tables lists what there is"),
        );
        return;
    }
    let not = asked_for
        .iter()
        .filter(|one| {
            one.reason
                .is_some_and(|why| why != Reason::RowsInPartitions)
        })
        .count();
    findings.pass(
        CODE,
        match not {
            0 => format!("{} to be replicated", wanted.len()),
            _ => format!(
                "{} to be replicated; {not} can't be: walferry tables says why",
                wanted.len()
            ),
        },
    );
}

fn judge_identity(wanted: &[&Relation], question: &Question, findings: &mut Findings) {
    const CODE: &str = "replica_identity";
    let missing: Vec<(&Relation, &Identity)> = wanted
        .iter()
        .filter_map(|one| Some((*one, one.identity.as_ref()?)))
        .filter(|(_, identity)| identity.is_missing())
        .collect();
    if missing.is_empty() {
        findings.pass(CODE, "every UPDATE and DELETE can name its row");
        return;
    }
    for (relation, identity) in missing.iter().take(SHOWN) {
        let changes = identity.updates + identity.deletes;
        let (verdict, text) = if changes == 0 {
            (
                Verdict::Warn,
                "an UPDATE or DELETE would come without its old row; it has had none".to_owned(),
            )
        } else {
            let refuses = !question.accept_missing_identity;
            (
                if refuses {
                    Verdict::Fail
                } else {
                    Verdict::Warn
                },
                format!(
                    "its old rows are not logged, and it has had {} updates and {} deletes{}",
                    identity.updates,
                    identity.deletes,
                    if refuses { ": run refuses it" } else { "" }
                ),
            )
        };
        findings.push(
            Finding::new(verdict, CODE, text)
                .object(relation.name())
                .fix(identity.fix.clone().map(Fix::sql))
                .note("a primary key is better, where there can be one; --missing-identity accept delivers such events marked, --exclude-tables leaves the table out"),
        );
    }
    if missing.len() > SHOWN {
        let more = &missing[SHOWN..];
        let changed = more
            .iter()
            .any(|(_, identity)| identity.updates + identity.deletes > 0);
        let verdict = if changed && !question.accept_missing_identity {
            Verdict::Fail
        } else {
            Verdict::Warn
        };
        findings.push(
            Finding::new(
                verdict,
                CODE,
                format!("{} more tables have none", more.len()),
            )
            .note("walferry tables lists them all"),
        );
    }
}

/// Changes come without a right to the table; copying its rows takes SELECT.
fn judge_grants(wanted: &[&Relation], role: &str, question: &Question, findings: &mut Findings) {
    const CODE: &str = "table_grants";
    let readable = |one: &Relation| one.schema_usage && one.may_select;
    let lacking: Vec<&&Relation> = wanted.iter().filter(|one| !readable(one)).collect();
    let role = quote_identifier(role);
    if lacking.is_empty() {
        findings.pass(CODE, "the role may SELECT from each table");
    } else if question.changes_only {
        findings.pass(
            CODE,
            format!(
                "the role may not SELECT from {} of {} tables, and reading changes needs no such right",
                lacking.len(),
                wanted.len()
            ),
        );
    } else {
        let mut schemas: BTreeMap<&str, Vec<&&Relation>> = BTreeMap::new();
        for one in &lacking {
            schemas.entry(one.schema.as_str()).or_default().push(one);
        }
        for (schema, tables) in schemas {
            let all = wanted.iter().filter(|one| one.schema == schema).count();
            let mut fix = Vec::new();
            let quoted = quote_identifier(schema);
            if tables.iter().any(|one| !one.schema_usage) {
                fix.push(Fix::sql(format!(
                    "GRANT USAGE ON SCHEMA {quoted} TO {role}"
                )));
            }
            let denied: Vec<String> = tables
                .iter()
                .filter(|one| !one.may_select)
                .map(|one| one.quoted())
                .collect();
            if denied.len() == all && all > SHOWN {
                fix.push(Fix::sql(format!(
                    "GRANT SELECT ON ALL TABLES IN SCHEMA {quoted} TO {role}"
                )));
            } else if !denied.is_empty() {
                fix.push(Fix::sql(format!(
                    "GRANT SELECT ON {} TO {role}",
                    denied.join(", ")
                )));
            }
            findings.push(
                Finding::new(
                    Verdict::Warn,
                    CODE,
                    format!(
                        "the role may not SELECT from {} of {all} tables: changes come all the same, copying rows would be refused",
                        tables.len()
                    ),
                )
                .object(schema)
                .fix(fix)
                .note("as the tables' owner; not needed with --mode realtime"),
            );
        }
    }
    for one in wanted
        .iter()
        .filter(|one| one.row_security && !question.changes_only)
        .take(SHOWN)
    {
        findings.push(
            Finding::new(
                Verdict::Warn,
                "row_security",
                "its policies may hide rows from this role: changes come whole, a copy of its rows would not",
            )
            .object(one.name())
            .fix([Fix::sql(format!("ALTER ROLE {role} BYPASSRLS"))])
            .note("as a superuser; not needed with --mode realtime"),
        );
    }
}
