//! Disk space, as far as SQL sees it.

use super::finding::{Finding, Findings, Fix, Verdict};
use super::one_row;
use crate::error::Result;
use crate::source::connection::Connection;
use crate::source::slot;
use crate::source::slot::verdict::size;

const SPACE: &str = include_str!("../../../../sql/preflight/space.sql");
const WAL_FILES: &str = include_str!("../../../../sql/preflight/wal_files.sql");

/// WAL that a slot nobody reads may keep before it is worth a word.
const NOTEWORTHY: u64 = 1 << 30;

pub(super) async fn judge(
    connection: &mut Connection,
    monitor: bool,
    findings: &mut Findings,
) -> Result<()> {
    let space = one_row(connection, SPACE).await?;
    let wal = if monitor {
        one_row(connection, WAL_FILES).await?.parse("wal_bytes")
    } else {
        None
    };
    let slots = slot::list(connection).await?;
    for slot in &slots {
        let retained = slot.retained().unwrap_or(0);
        if slot.reader.is_none() && !slot.is_lost() && retained >= NOTEWORTHY {
            findings.push(
                Finding::new(
                    Verdict::Warn,
                    "idle_slot",
                    format!("nobody reads it, and it keeps {} of WAL", size(retained)),
                )
                .object(&slot.name)
                .fix([Fix::sql(format!(
                    "SELECT pg_drop_replication_slot('{}')",
                    slot.name
                ))])
                .note("if it is not needed; else start its reader"),
            );
        }
    }
    let kept = slots.iter().filter_map(|slot| slot.retained()).max();
    let database: u64 = space.parse("database_bytes").unwrap_or(0);
    findings.pass(
        "disk",
        format!(
            "the database has {}, pg_wal {}, slots keep {} of WAL; free space can't be seen over SQL",
            size(database),
            wal.map_or_else(|| "an unknown size (pg_monitor may see it)".to_owned(), size),
            size(kept.unwrap_or(0)),
        ),
    );
    Ok(())
}
