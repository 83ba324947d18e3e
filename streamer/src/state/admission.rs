//! Whether a saved state and the slot at hand belong together, and from which
//! position delivery goes on. Whatever does not fit stops with an explanation
//! and the ways on; nothing is skipped or started over in silence.

use walferry_protocol::Lsn;

use super::{Identity, State};
use crate::error::{Failure, Result};
use crate::source::replication::ends_at_or_past;

/// What the server says now.
#[derive(Clone, Debug)]
pub struct Present<'a> {
    pub identity: &'a Identity,
    /// The slot's `confirmed_flush_lsn`: what ends before is never sent again.
    pub confirmed: Lsn,
    /// The end of the server's WAL.
    pub wal_end: Lsn,
    /// The server's timeline history file, when its timeline is not the
    /// state's (`TIMELINE_HISTORY`).
    pub history: Option<&'a str>,
}

/// The position to go on from. `saved` is what was delivered so far; with
/// `accept_gap` a slot that is ahead of it is taken as it is.
///
/// # Errors
/// Definite, see the module's documentation.
pub fn admit(saved: &State, present: &Present<'_>, accept_gap: bool) -> Result<Lsn> {
    let (was, is) = (&saved.identity, present.identity);
    if !was.same_source(is) {
        return Err(Failure::definite("the state belongs to another source")
            .detail(format!("the state is of {was}; this is {is}"))
            .hint(
                "give each slot a --state-dir of its own; if the old source is gone for good, \
                 remove the state folder and name a new file for the sink",
            ));
    }
    if was.timeline != is.timeline {
        promoted(saved, present)?;
    }
    if !ends_at_or_past(present.wal_end, saved.position) {
        return Err(put_back(saved, present.wal_end));
    }
    if present.confirmed > saved.position {
        if accept_gap {
            tracing::warn!(
                "changes that committed between {} and {} are not delivered: the slot is past them",
                saved.position,
                present.confirmed
            );
            return Ok(present.confirmed);
        }
        return Err(ahead(saved, present.confirmed));
    }
    Ok(saved.position)
}

/// A slot that knows more than the state was dropped and made anew, or
/// somebody else read it.
fn ahead(saved: &State, confirmed: Lsn) -> Failure {
    let slot = &saved.identity.slot;
    Failure::definite(format!(
        "slot {slot:?} is past what was delivered: changes may be missing"
    ))
    .detail(format!(
        "delivered up to {}, the slot's confirmed_flush_lsn is {confirmed}: it was dropped and created again, \
         advanced by somebody, or read by another consumer",
        saved.position
    ))
    .hint(
        "find out who moved the slot; then either copy the tables anew and remove the state folder, \
         or go on without the changes in between: --accept-gap",
    )
}

/// The server does not have what it gave: its new commits would end where
/// others did that were delivered, and be taken for them.
fn put_back(saved: &State, wal_end: Lsn) -> Failure {
    Failure::definite("the server's WAL ends before what was delivered")
        .detail(format!(
            "delivered up to {}, the server's WAL ends at {wal_end}: it was restored from an older copy of its files, \
             or lost writes in a crash",
            saved.position
        ))
        .hint(
            "compare its data with what the sink has, which holds changes that this server does not know; \
             then start with a new slot, a new state folder and a new file",
        )
}

/// The server has another timeline than before.
fn promoted(saved: &State, present: &Present<'_>) -> Result<()> {
    let (was, is) = (saved.identity.timeline, present.identity.timeline);
    let refuse = |detail: String| {
        Err(
            Failure::definite("the server's history is not the one that was delivered from")
                .detail(detail)
                .hint(
                    "the server was restored, or a standby was promoted that had not received everything: \
                     compare its data with what the sink has, then start with a new slot and a new state folder",
                ),
        )
    };
    let switch = present
        .history
        .and_then(|history| switch_point(history, was));
    match switch {
        Some(switch) if switch >= saved.position => {
            tracing::info!(
                "the server was promoted: timeline {was} became {is} at {switch}, after everything that was \
                 delivered ({}); going on",
                saved.position
            );
            Ok(())
        }
        Some(switch) => refuse(format!(
            "timeline {was} became {is} at {switch}, but changes up to {} had been delivered",
            saved.position
        )),
        None => refuse(format!(
            "it is on timeline {is}, which does not descend from timeline {was}"
        )),
    }
}

/// Where `timeline` ended, by a timeline history file: lines of timeline,
/// switch point and reason (`readTimeLineHistory`,
/// `src/backend/access/transam/timeline.c`).
fn switch_point(history: &str, timeline: u32) -> Option<Lsn> {
    history.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let parent: u32 = fields.next()?.parse().ok()?;
        let switch = fields.next()?.parse().ok()?;
        (parent == timeline).then_some(switch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str =
        "# a comment\n1\t0/5000000\tno recovery target specified\n2\t0/7000000\tx\n";

    fn identity(timeline: u32) -> Identity {
        Identity {
            system_identifier: 1,
            timeline,
            database: "d".into(),
            slot: "s".into(),
            plugin: "walferry".into(),
        }
    }

    fn admit(position: u64, timeline: u32, confirmed: u64, gap: bool) -> Result<Lsn> {
        let saved = State {
            identity: identity(2),
            position: Lsn(position),
            sink: None,
        };
        let identity = identity(timeline);
        super::admit(
            &saved,
            &Present {
                identity: &identity,
                confirmed: Lsn(confirmed),
                wal_end: Lsn(0x800_0000),
                history: (timeline != 2).then_some(HISTORY),
            },
            gap,
        )
    }

    #[test]
    fn delivery_goes_on_where_the_state_says_when_the_slot_is_behind_it() {
        assert_eq!(admit(100, 2, 100, false).unwrap(), Lsn(100));
        assert_eq!(admit(100, 2, 60, false).unwrap(), Lsn(100));
    }

    #[test]
    fn a_slot_that_is_ahead_is_refused_unless_the_gap_is_accepted() {
        let failure = admit(100, 2, 101, false).unwrap_err();
        assert!(failure.message.contains("changes may be missing"));
        assert!(failure.hint.unwrap().contains("--accept-gap"));
        assert_eq!(admit(100, 2, 101, true).unwrap(), Lsn(101));
    }

    #[test]
    fn a_server_that_lacks_what_it_gave_is_refused_but_not_for_the_header_of_a_page() {
        let saved = State {
            identity: identity(2),
            position: Lsn(0x60_0028),
            sink: None,
        };
        let now = identity(2);
        let with_wal_end = |wal_end| {
            super::admit(
                &saved,
                &Present {
                    identity: &now,
                    confirmed: Lsn(5),
                    wal_end: Lsn(wal_end),
                    history: None,
                },
                true,
            )
        };
        assert_eq!(with_wal_end(0x60_0000).unwrap(), saved.position);
        assert_eq!(with_wal_end(0x60_0028).unwrap(), saved.position);
        for older in [0x60_0008, 0x5F_FFF8, 0x5F_E000] {
            let failure = with_wal_end(older).unwrap_err();
            assert!(failure.message.contains("WAL ends before"));
        }
    }

    #[test]
    fn a_promotion_after_what_was_delivered_goes_on_and_one_before_it_does_not() {
        assert_eq!(admit(0x700_0000, 3, 50, false).unwrap(), Lsn(0x700_0000));
        let failure = admit(0x700_0001, 3, 50, false).unwrap_err();
        assert!(
            failure
                .detail
                .unwrap()
                .contains("0/7000001 had been delivered")
        );
    }

    #[test]
    fn a_timeline_that_does_not_descend_is_refused() {
        let mut saved = State {
            identity: identity(9),
            position: Lsn(5),
            sink: None,
        };
        let now = identity(3);
        let present = Present {
            identity: &now,
            confirmed: Lsn(5),
            wal_end: Lsn(5),
            history: Some(HISTORY),
        };
        assert!(super::admit(&saved, &present, true).is_err());
        saved.identity.slot = "other".into();
        let failure = super::admit(&saved, &present, true).unwrap_err();
        assert!(failure.message.contains("another source"));
    }
}
