//! How a slot fares, in words, with the statement that mends it.

use super::SlotInfo;
use crate::error::Result;
use crate::source::connection::Connection;

/// Below this much WAL a transaction that is still open is business as usual.
const NOTEWORTHY: u64 = 64 << 20;

/// What is going on with a slot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    pub text: String,
    /// The statement or command that mends it, if anything is to be mended.
    pub cure: Option<String>,
}

/// Looks at a slot and says what it sees, the worst first.
pub fn of(slot: &SlotInfo) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut say = |text: String, cure: Option<String>| verdicts.push(Verdict { text, cure });
    let name = &slot.name;
    let retained = slot.retained().unwrap_or(0);
    if slot.is_lost() {
        let reason = slot
            .invalidation
            .as_deref()
            .unwrap_or("the WAL it needs was removed");
        say(
            format!("the slot is lost ({reason}); nothing can be read from it any more"),
            Some(lost_cure(name)),
        );
        return verdicts;
    }
    if slot.wal_status.as_deref() == Some("unreserved") {
        say(
            format!(
                "the slot holds {} of WAL, more than max_slot_wal_keep_size allows: the next checkpoint may make it unusable",
                size(retained)
            ),
            Some("ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf(); then let the reader catch up".to_owned()),
        );
    }
    match &slot.reader {
        None => say(
            match &slot.inactive_since {
                Some(since) => format!(
                    "nobody has read it since {since}; it keeps {} of WAL from being removed",
                    size(retained)
                ),
                None => format!(
                    "nobody reads it; it keeps {} of WAL from being removed",
                    size(retained)
                ),
            },
            Some(format!(
                "start its reader, or if it is not needed: walferry slot drop {name}"
            )),
        ),
        Some(reader) => say(
            format!(
                "{reader} reads it and has confirmed all but {} of WAL",
                slot.lag().map_or("an unknown amount".to_owned(), size)
            ),
            None,
        ),
    }
    if let Some(safe) = slot.safe_wal_size.filter(|safe| *safe >= 0) {
        say(
            format!(
                "the server may write {} more WAL before the slot is in danger (max_slot_wal_keep_size)",
                size(safe as u64)
            ),
            None,
        );
    }
    verdicts
}

/// When a slot keeps much more WAL than its reader is behind, a transaction is
/// open that began back there: names the oldest one that writes.
pub async fn open_transaction(
    connection: &mut Connection,
    slot: &SlotInfo,
) -> Result<Option<Verdict>> {
    let held = slot
        .retained()
        .unwrap_or(0)
        .saturating_sub(slot.lag().unwrap_or(0));
    if slot.plugin.is_none() || slot.is_lost() || held < NOTEWORTHY {
        return Ok(None);
    }
    let rows = connection
        .simple_query(
            "SELECT pid, usename, state, \
             pg_catalog.date_trunc('second', pg_catalog.now() - xact_start) AS age \
             FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL \
             ORDER BY pg_catalog.age(backend_xid) DESC LIMIT 1",
        )
        .await?;
    Ok(rows.first().map(|row| {
        let field = |name| row.get(name).unwrap_or("unknown");
        Verdict {
            text: format!(
                "{} of that WAL was confirmed already but is kept for open transactions; the oldest that writes is PID {} of role {} ({}, open for {})",
                size(held),
                field("pid"),
                field("usename"),
                field("state"),
                field("age"),
            ),
            cure: Some(format!("SELECT pg_terminate_backend({})", field("pid"))),
        }
    }))
}

/// The way on from a slot that is gone for good.
pub(super) fn lost_cure(name: &str) -> String {
    format!(
        "changes since its last position are gone: drop it (walferry slot drop {name}), create it anew and load the tables afresh; max_slot_wal_keep_size says how much WAL a slot may keep"
    )
}

/// Bytes in PostgreSQL's units, to three digits.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} bytes"),
        _ if value < 10.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use walferry_protocol::Lsn;

    fn slot() -> SlotInfo {
        SlotInfo {
            name: "ferry".into(),
            plugin: Some("walferry".into()),
            database: Some("shop".into()),
            temporary: false,
            two_phase: false,
            failover: false,
            reader: None,
            restart_lsn: Some(Lsn(1 << 20)),
            confirmed_flush_lsn: Some(Lsn(2 << 20)),
            wal_end: Some(Lsn(5 << 20)),
            wal_status: Some("reserved".into()),
            safe_wal_size: None,
            invalidation: None,
            catalog_xmin_age: Some(10),
            inactive_since: None,
        }
    }

    #[test]
    fn an_idle_slot_says_what_it_keeps_and_how_to_end_it() {
        let verdict = &of(&slot())[0];
        assert_eq!(
            verdict.text,
            "nobody reads it; it keeps 4.0 MB of WAL from being removed"
        );
        assert!(
            verdict
                .cure
                .as_ref()
                .unwrap()
                .contains("walferry slot drop ferry")
        );
    }

    #[test]
    fn a_lost_slot_says_only_that() {
        let mut lost = slot();
        lost.wal_status = Some("lost".into());
        let verdicts = of(&lost);
        assert_eq!(verdicts.len(), 1);
        assert!(verdicts[0].text.contains("lost"));
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(1536), "1.5 kB");
        assert_eq!(size(475 << 20), "475 MB");
    }
}
