//! Schema changes, where they are asked for. Without them the run goes on, so
//! nothing here fails.

use super::Question;
use super::finding::{Finding, Findings, Fix, Verdict};
use super::publication::Publication;
use super::relations::Relation;
use crate::error::Result;
use crate::source::connection::{Connection, quote_identifier};
use crate::source::ddl_capture::{self, Capture, TURN_ON};
use crate::source::table_filter::{DDL_LOG, OWN_SCHEMA};

const CODE: &str = "ddl_capture";

pub(super) async fn judge(
    connection: &mut Connection,
    question: &Question,
    findings: &mut Findings,
) -> Result<()> {
    if !question.schema_changes {
        return Ok(());
    }
    let missing = |finding| Finding::new(Verdict::Warn, CODE, finding);
    findings.push(match ddl_capture::ask(connection).await? {
        Capture::On => Finding::new(Verdict::Pass, CODE, "DDL is captured"),
        Capture::Off => missing("DDL is not captured: no schema changes will come")
            .fix([Fix::sql(TURN_ON)])
            .note("as a superuser; on RDS and Aurora as a member of rds_superuser"),
        Capture::NotInstalled => missing("DDL can't be captured: schema walferry is not installed")
            .fix([Fix::sql("CREATE EXTENSION walferry"), Fix::sql(TURN_ON)])
            .note("as a superuser; where there is no extension, by the managed pack (docs/diagnostics.md)"),
    });
    Ok(())
}

/// Rows of a table that is not published do not come through.
pub(super) fn judge_publication(
    published: &[Publication],
    relations: &[Relation],
    question: &Question,
    findings: &mut Findings,
) {
    let name = question.publication();
    let log = relations
        .iter()
        .find(|one| one.schema == OWN_SCHEMA && one.table == DDL_LOG);
    let publication = published.iter().find(|one| one.name == name);
    if let (true, Some(log), Some(publication)) = (question.schema_changes, log, publication)
        && !publication.covers(log)
    {
        findings.push(
            Finding::new(
                Verdict::Warn,
                CODE,
                format!("{OWN_SCHEMA}.{DDL_LOG} is not in publication {name}: no schema changes will come"),
            )
            .fix([Fix::sql(format!(
                "ALTER PUBLICATION {} ADD TABLE {OWN_SCHEMA}.{DDL_LOG}",
                quote_identifier(name)
            ))])
            .note("as the publication's and the table's owner"),
        );
    }
}
