//! Open and prepared transactions that hold a new slot up.

use super::finding::{Finding, Findings, Fix, Verdict};
use super::replication::Attempt;
use super::slot::State;
use crate::error::Result;
use crate::source::connection::{Connection, Row, quote_literal};

const OPEN: &str = include_str!("../../../../sql/preflight/open_transactions.sql");

/// A transaction that has been open for this long is not just passing through.
const LONG_SECONDS: i64 = 10;

/// At most so many are told one by one.
const SHOWN: usize = 10;

pub(super) async fn judge(
    connection: &mut Connection,
    state: &State,
    attempt: &Attempt,
    findings: &mut Findings,
) -> Result<()> {
    if !state.to_be_made() {
        return Ok(());
    }
    let rows = connection.simple_query(OPEN).await?;
    // Where the trial was held up, whatever is open does it.
    let long = |row: &&Row| {
        attempt.held_up() || row.parse::<i64>("age_seconds").unwrap_or(0) >= LONG_SECONDS
    };
    let long: Vec<&Row> = rows.iter().filter(long).collect();
    if long.is_empty() {
        findings.pass("open_transactions", "none holds the making of a slot up");
        return Ok(());
    }
    for row in long.iter().take(SHOWN) {
        findings.push(one(row));
    }
    if long.len() > SHOWN {
        findings.push(Finding::new(
            Verdict::Warn,
            "open_transactions",
            format!("{} more hold the making of a slot up", long.len() - SHOWN),
        ));
    }
    Ok(())
}

fn one(row: &Row) -> Finding {
    let field = |name| row.get(name).unwrap_or("unknown");
    let age = match row.parse::<i64>("age_seconds") {
        Some(seconds) => format!("open for {}", duration(seconds)),
        None => "open for a time that this role may not see".to_owned(),
    };
    let database = field("database");
    if let Some(gid) = row.get("gid") {
        return Finding::new(
            Verdict::Warn,
            "prepared_transactions",
            format!(
                "prepared by {} in database {database}, {age}: a new slot waits for its end",
                field("owner")
            ),
        )
        .object(gid)
        .fix([Fix::sql(format!(
            "ROLLBACK PREPARED {}",
            quote_literal(gid)
        ))])
        .note(format!(
            "in database {database}; or COMMIT PREPARED, whichever its transaction manager meant"
        ));
    }
    let pid = field("pid");
    let state = row
        .get("state")
        .map(|state| format!(", {state}"))
        .unwrap_or_default();
    let query = row
        .get("query")
        .filter(|query| !query.is_empty())
        .map(|query| format!("; last statement: {query}"))
        .unwrap_or_default();
    Finding::new(
        Verdict::Warn,
        "open_transactions",
        format!(
            "role {} in database {database}{state}, {age}: a new slot waits for its end{query}",
            field("owner")
        ),
    )
    .object(format!("PID {pid}"))
    .fix([Fix::sql(format!("SELECT pg_terminate_backend({pid})"))])
    .note("or wait until it has ended")
}

/// Seconds as a person says them.
fn duration(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
