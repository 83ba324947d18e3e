//! Publications, which say what `pgoutput` sends.

use std::collections::HashMap;

use super::finding::{Finding, Findings, Fix, Verdict};
use super::relations::{Relation, wanted};
use super::role::Role;
use super::slot::State;
use super::{Question, oids};
use crate::error::Result;
use crate::source::connection::{Connection, quote_identifier};

const PUBLICATIONS: &str = include_str!("../../../../sql/preflight/publications.sql");

/// At most so many tables are listed in a statement.
const LISTED: usize = 100;

/// A publication and what it publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    pub name: String,
    pub all_tables: bool,
    /// The operations it leaves out.
    pub leaves_out: Vec<&'static str>,
    pub via_root: bool,
    tables: Vec<u32>,
}

impl Publication {
    /// Whether it names this table itself, or all.
    pub fn publishes(&self, oid: u32) -> bool {
        self.tables.contains(&oid)
    }

    /// Whether changes of this table are published.
    pub fn covers(&self, relation: &Relation) -> bool {
        self.tables.contains(&relation.oid)
            || relation
                .ancestors
                .iter()
                .any(|root| self.tables.contains(root))
    }
}

/// The publications of the connection's database, by name.
///
/// # Errors
/// What the server refuses.
pub async fn publications(connection: &mut Connection) -> Result<Vec<Publication>> {
    let rows = connection.simple_query(PUBLICATIONS).await?;
    Ok(rows
        .iter()
        .map(|row| Publication {
            name: row.get("publication").unwrap_or_default().to_owned(),
            all_tables: row.is_true("all_tables"),
            leaves_out: ["insert", "update", "delete", "truncate"]
                .into_iter()
                .filter(|operation| !row.is_true(&format!("publishes_{operation}")))
                .collect(),
            via_root: row.is_true("via_root"),
            tables: oids(row.get("tables")),
        })
        .collect())
}

/// Whether the run makes the publication when it is missing, and why not.
pub(super) enum MayMake {
    All,
    /// Tables of its own only.
    Owned,
    /// The role lacks CREATE on the database.
    Nothing,
    /// The run was not told to make a slot.
    NotAsked,
    /// The slot is there already, and reads no publication younger than itself.
    TooLate,
}

pub(super) fn may_make(role: Option<&Role>, slot: &State, question: &Question) -> MayMake {
    if slot.existing.is_some() {
        return MayMake::TooLate;
    }
    if question.slot.is_some() && !question.create_slot {
        return MayMake::NotAsked;
    }
    match role {
        Some(role) if role.superuser => MayMake::All,
        Some(role) if role.may_create_in_database => MayMake::Owned,
        _ => MayMake::Nothing,
    }
}

pub(super) fn judge(
    found: &[Publication],
    relations: &[Relation],
    question: &Question,
    may_make: MayMake,
    findings: &mut Findings,
) {
    const CODE: &str = "publication";
    let wanted = wanted(relations, question);
    let name = question.publication();
    let quoted = quote_identifier(name);
    let Some(publication) = found.iter().find(|found| found.name == name) else {
        let makes = match may_make {
            MayMake::All => true,
            MayMake::Owned => !wanted.is_empty() && wanted.iter().all(|one| one.owned),
            _ => false,
        };
        if makes {
            findings.push(
                Finding::new(
                    Verdict::Pass,
                    CODE,
                    "it does not exist, and the run makes it",
                )
                .object(name),
            );
            return;
        }
        let list = listed(relations, &wanted, question);
        let mut note =
            "as the tables' owner, with CREATE on the database; FOR ALL TABLES takes a superuser"
                .to_owned();
        if let MayMake::TooLate = may_make {
            note.push_str(
                "; then a new slot, because a slot reads no publication younger than itself",
            );
        }
        findings.push(
            Finding::new(Verdict::Fail, CODE, "it does not exist")
                .object(name)
                .fix([create(name, list.as_deref())])
                .note(note),
        );
        return;
    };
    let covered = wanted.iter().filter(|one| publication.covers(one)).count();
    let missing: Vec<&Relation> = wanted
        .iter()
        .copied()
        .filter(|one| !publication.covers(one))
        .collect();
    let mut sound = true;
    // What is not in it is left out on purpose, unless the tables were chosen one by one.
    if !missing.is_empty() && (question.chosen || covered == 0) {
        sound = false;
        findings.push(
            Finding::new(
                Verdict::Fail,
                CODE,
                format!(
                    "it lacks {} of {} tables, e.g. {}",
                    missing.len(),
                    wanted.len(),
                    missing[0].name()
                ),
            )
            .object(name)
            .fix([Fix::sql(format!(
                "ALTER PUBLICATION {quoted} ADD TABLE {}",
                tops(relations, &missing).join(", ")
            ))])
            .note("as the publication's and the tables' owner"),
        );
    }
    if !publication.leaves_out.is_empty() {
        sound = false;
        findings.push(
            Finding::new(
                Verdict::Warn,
                CODE,
                format!("it does not publish {}", publication.leaves_out.join(", ")),
            )
            .object(name)
            .fix([Fix::sql(format!(
                "ALTER PUBLICATION {quoted} SET (publish = 'insert, update, delete, truncate')"
            ))])
            .note("as the publication's owner; where it is not meant"),
        );
    }
    // Here the server itself refuses what it could not log.
    if !(publication.leaves_out.contains(&"update") && publication.leaves_out.contains(&"delete")) {
        for one in wanted.iter().filter(|one| publication.covers(one)) {
            let missing = one
                .identity
                .as_ref()
                .filter(|identity| identity.is_missing());
            if let Some(identity) = missing {
                findings.push(
                    Finding::new(
                        Verdict::Warn,
                        "publication_identity",
                        "it is published without a replica identity: the server refuses UPDATE and DELETE on it",
                    )
                    .object(one.name())
                    .fix(identity.fix.clone().map(Fix::sql)),
                );
            }
        }
    }
    if sound {
        findings.push(
            Finding::new(
                Verdict::Pass,
                CODE,
                format!(
                    "it publishes {covered} of {} tables, all operations{}",
                    wanted.len(),
                    if publication.via_root {
                        ", partitions as their root"
                    } else {
                        ""
                    }
                ),
            )
            .object(name),
        );
    }
}

/// The tables as a publication names them: each partition by its root.
fn tops(relations: &[Relation], wanted: &[&Relation]) -> Vec<String> {
    let by_oid: HashMap<u32, &Relation> = relations.iter().map(|one| (one.oid, one)).collect();
    let mut names: Vec<String> = wanted
        .iter()
        .map(|one| {
            let top = one.ancestors.last().and_then(|oid| by_oid.get(oid));
            top.map_or_else(|| one.quoted(), |top| top.quoted())
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The tables of a statement; `None`: all there are.
fn listed(relations: &[Relation], wanted: &[&Relation], question: &Question) -> Option<String> {
    // A table without an identity would refuse UPDATEs once it is published.
    let named = |one: &&&Relation| one.identity.as_ref().is_none_or(|own| !own.is_missing());
    let mut sound: Vec<&Relation> = wanted.iter().filter(named).copied().collect();
    if sound.is_empty() {
        sound = wanted.to_vec();
    }
    let names = tops(relations, &sound);
    let few = !names.is_empty() && names.len() <= LISTED;
    (few || question.chosen && !names.is_empty()).then(|| names.join(", "))
}

fn create(name: &str, tables: Option<&str>) -> Fix {
    let name = quote_identifier(name);
    Fix::sql(match tables {
        Some(tables) => format!("CREATE PUBLICATION {name} FOR TABLE {tables}"),
        None => format!("CREATE PUBLICATION {name} FOR ALL TABLES"),
    })
}
