//! Where the first start of a run begins when a position is asked for
//! (`--start-lsn`, `start-position.start-lsn`).
//!
//! The server takes any position and starts at the slot's own where that is
//! past it (`CreateDecodingContext`,
//! `src/backend/replication/logical/logical.c`), without a word; one ahead
//! leaves out what is before it. Both are said here, the first refused.

use walferry_protocol::Lsn;

use crate::error::{Failure, Result};

/// What a start position is held against.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    pub slot: &'a str,
    /// The slot's `confirmed_flush_lsn`.
    pub confirmed: Lsn,
    /// The end of the server's WAL.
    pub wal_end: Lsn,
    /// The slot gives prepared transactions at their PREPARE.
    pub two_phase: bool,
    /// Later starts go on where this run gets to, whatever `start` says.
    pub keeps_state: bool,
}

/// The position to start from when `start` is asked for. With `accept_gap` a
/// slot that is past it is taken as it is.
///
/// # Errors
/// Definite: the slot can't give what was asked for.
pub fn judge(start: Lsn, standing: &Standing<'_>, accept_gap: bool) -> Result<Lsn> {
    let Standing {
        slot,
        confirmed,
        wal_end,
        two_phase,
        keeps_state,
    } = *standing;
    if start > wal_end {
        return Err(Failure::definite(format!(
            "start-lsn {start} is past the end of the server's WAL, {wal_end}"
        ))
        .detail("everything that commits until the WAL gets there would be left out")
        .hint("take a position of this server, e.g. of SELECT pg_current_wal_lsn()"));
    }
    if start < confirmed {
        if accept_gap {
            tracing::warn!(
                "start-lsn {start} is before what slot \"{slot}\" still has: changes that committed between it and \
                 {confirmed} are not delivered"
            );
            return Ok(confirmed);
        }
        let mut hint = "leave start-lsn out to begin where the slot is, or let what is before that be left out: \
                        --accept-gap"
            .to_owned();
        if !keeps_state {
            hint.push_str(
                "; start-lsn is for the first start, and without a --state-dir each start is the first",
            );
        }
        return Err(Failure::definite(format!(
            "slot \"{slot}\" is past start-lsn {start}: changes may be missing"
        ))
        .detail(format!(
            "its confirmed_flush_lsn is {confirmed}, and the server sends nothing that committed before that"
        ))
        .hint(hint));
    }
    if start > confirmed {
        if two_phase {
            return Err(Failure::definite(format!(
                "start-lsn can't be had with slot \"{slot}\", which gives prepared transactions at their PREPARE"
            ))
            .detail("one that was prepared before that position and committed after it would come without its rows")
            .hint("leave start-lsn out, or use a slot made without --two-phase"));
        }
        tracing::warn!(
            "starting at {start}, as start-lsn says: changes that committed between {confirmed}, where slot \"{slot}\" \
             is, and there are not delivered, and the slot lets go of them"
        );
    }
    Ok(start)
}

/// Refuses a slot that would have to be made: it is younger than any position.
///
/// # Errors
/// Definite.
pub fn refuse_new_slot(start: Lsn, slot: &str) -> Failure {
    Failure::definite(format!(
        "replication slot \"{slot}\" does not exist, and a new one has nothing of before it is made: start-lsn {start} \
         can't be had"
    ))
    .sqlstate("42704")
    .hint(
        "leave start-lsn out to begin with a new slot, or read a slot that was there at that position; --accept-gap \
         makes one and leaves out what was before",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(two_phase: bool, keeps_state: bool) -> Standing<'static> {
        Standing {
            slot: "ferry",
            confirmed: Lsn(100),
            wal_end: Lsn(200),
            two_phase,
            keeps_state,
        }
    }

    #[test]
    fn a_position_that_the_slot_still_has_is_where_delivery_starts() {
        for start in [100, 150, 200] {
            let begun = judge(Lsn(start), &standing(false, true), false);
            assert_eq!(begun.unwrap(), Lsn(start));
        }
    }

    #[test]
    fn a_slot_past_the_position_is_refused_unless_the_gap_is_accepted() {
        let failure = judge(Lsn(99), &standing(false, true), false).unwrap_err();
        assert!(failure.message.contains("past start-lsn 0/63"), "{failure}");
        assert!(!failure.hint.unwrap().contains("--state-dir"));
        let failure = judge(Lsn(99), &standing(false, false), false).unwrap_err();
        assert!(failure.hint.unwrap().contains("--state-dir"));
        assert_eq!(
            judge(Lsn(99), &standing(false, true), true).unwrap(),
            Lsn(100)
        );
    }

    #[test]
    fn a_position_that_is_not_written_yet_is_refused_whatever_is_accepted() {
        assert!(judge(Lsn(201), &standing(false, true), true).is_err());
    }

    #[test]
    fn prepared_transactions_are_not_cut_in_two() {
        assert!(judge(Lsn(101), &standing(true, true), true).is_err());
        assert!(judge(Lsn(100), &standing(true, true), false).is_ok());
    }
}
