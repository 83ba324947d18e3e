//! The heartbeat's table. Without it the run goes on, so nothing here fails.

use super::Question;
use super::finding::{Finding, Findings, Fix, Verdict};
use super::publication::Publication;
use super::relations::Relation;
use crate::error::Result;
use crate::source::connection::{Connection, quote_identifier, quote_literal};

const CODE: &str = "heartbeat";

pub(super) async fn judge(
    connection: &mut Connection,
    question: &Question,
    findings: &mut Findings,
) -> Result<()> {
    let Some(table) = &question.heartbeat else {
        return Ok(());
    };
    let name = quote_literal(&table.quoted());
    let sql = format!(
        "SELECT t.oid IS NOT NULL AS there, \
         coalesce(pg_catalog.has_table_privilege(t.oid, 'INSERT') \
           AND pg_catalog.has_table_privilege(t.oid, 'DELETE'), false) AS writable \
         FROM (SELECT pg_catalog.to_regclass({name})::oid AS oid) t"
    );
    let rows = connection.simple_query(&sql).await?;
    let row = rows.first();
    let finding = if !row.is_some_and(|row| row.is_true("there")) {
        if table.create {
            Finding::new(
                Verdict::Pass,
                CODE,
                "its table is not there, and the run makes it",
            )
        } else {
            let role = &connection.conninfo().user;
            Finding::new(Verdict::Warn, CODE, "its table does not exist")
                .fix([Fix::sql(table.creation()), Fix::sql(table.grant(role))])
                .note("or --create-heartbeat-table, for a role with CREATE on the schema")
        }
    } else if !row.is_some_and(|row| row.is_true("writable")) {
        let role = &connection.conninfo().user;
        Finding::new(Verdict::Warn, CODE, "the role may not write to its table")
            .fix([Fix::sql(table.grant(role))])
            .note("as the table's owner")
    } else {
        Finding::new(Verdict::Pass, CODE, "its table can be written to")
    };
    findings.push(finding.object(table.name()));
    Ok(())
}

/// Beats on a table that is not published do not come through.
pub(super) fn judge_publication(
    published: &[Publication],
    relations: &[Relation],
    question: &Question,
    findings: &mut Findings,
) {
    let Some(table) = &question.heartbeat else {
        return;
    };
    let name = question.publication();
    let found = relations
        .iter()
        .find(|one| question.is_heartbeat(&one.schema, &one.table));
    let publication = published.iter().find(|one| one.name == name);
    if let (Some(relation), Some(publication)) = (found, publication)
        && !publication.covers(relation)
    {
        findings.push(
            Finding::new(
                Verdict::Warn,
                CODE,
                format!("its table is not in publication {name}: its beats do not come through"),
            )
            .object(table.name())
            .fix([Fix::sql(format!(
                "ALTER PUBLICATION {} ADD TABLE {}",
                quote_identifier(name),
                table.quoted()
            ))])
            .note("as the publication's and the table's owner"),
        );
    }
}
