//! The slot that is to be read, and room for a new one.

use super::Question;
use super::finding::{Finding, Findings, Fix, Verdict};
use super::flavour::Applies;
use super::server::Server;
use crate::error::Result;
use crate::source::connection::Connection;
use crate::source::slot::verdict::size;
use crate::source::slot::{self, SlotInfo};

/// What is known of the slot that is asked for.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The slot, where it is named and there.
    pub existing: Option<SlotInfo>,
    /// One more slot can be made.
    pub room: bool,
}

impl State {
    /// The run will have to make a slot.
    pub fn to_be_made(&self) -> bool {
        self.existing.is_none()
    }
}

pub(super) async fn judge(
    connection: &mut Connection,
    server: &Server,
    question: &Question,
    findings: &mut Findings,
) -> Result<State> {
    let existing = match &question.slot {
        Some(name) => slot::find(connection, name).await?,
        None => None,
    };
    let most = server.number("max_replication_slots").unwrap_or(0);
    let used = i64::try_from(server.slots_used).unwrap_or(i64::MAX);
    let state = State {
        existing,
        room: used < most,
    };
    if state.room || !state.to_be_made() {
        findings.pass("replication_slots", format!("{used} of {most} in use"));
    } else {
        let wanted = (most + 5).max(10).to_string();
        let (fix, note) = server.flavour.set(
            "max_replication_slots",
            &wanted,
            &wanted,
            Applies::AtRestart,
        );
        findings.push(
            Finding::new(
                Verdict::Fail,
                "replication_slots",
                format!("none is free: {used} of {most} in use"),
            )
            .fix(fix)
            .note(format!(
                "{note}; or drop one that nobody reads: walferry slot list"
            )),
        );
    }
    if let Some(name) = &question.slot {
        match &state.existing {
            Some(slot) => findings.push(existing_slot(slot, question).object(name)),
            None if question.create_slot => findings.push(
                Finding::new(
                    Verdict::Pass,
                    "slot",
                    "it is not there, and the run makes it",
                )
                .object(name),
            ),
            None => findings.push(
                Finding::new(
                    Verdict::Fail,
                    "slot",
                    "it does not exist; changes before it is made can't be had",
                )
                .object(name)
                .fix([Fix::command(format!("walferry slot create {name}"))])
                .note("or --create-slot, which has the run make it"),
            ),
        }
    }
    Ok(state)
}

fn existing_slot(slot: &SlotInfo, question: &Question) -> Finding {
    let drop = |slot: &SlotInfo| Fix::command(format!("walferry slot drop {}", slot.name));
    let fail = |text: String| Finding::new(Verdict::Fail, "slot", text);
    let Some(plugin) = &slot.plugin else {
        return fail("it is a physical slot, and only a logical one can be read".to_owned())
            .note("choose another name");
    };
    if let Some(wanted) = question.plugin.as_ref().filter(|wanted| *wanted != plugin) {
        return fail(format!("it belongs to plugin {plugin}, not {wanted}")).note(format!(
            "leave --plugin out to read it with {plugin}, or choose another slot"
        ));
    }
    if let Some(database) = slot
        .database
        .as_ref()
        .filter(|database| **database != question.conninfo.dbname)
    {
        return fail(format!(
            "it belongs to database {database}, and the source names {}",
            question.conninfo.dbname
        ))
        .note(format!(
            "name database {database} in --source, or choose another slot"
        ));
    }
    if slot.is_lost() {
        let reason = slot
            .invalidation
            .as_deref()
            .unwrap_or("the server removed WAL that it needed");
        return fail(format!("it is lost ({reason}): nothing can be read from it any more"))
            .fix([drop(slot)])
            .note("then make it anew and load the tables afresh; max_slot_wal_keep_size says how much WAL a slot may keep");
    }
    let retained = size(slot.retained().unwrap_or(0));
    if slot.wal_status.as_deref() == Some("unreserved") {
        return Finding::new(
            Verdict::Warn,
            "slot",
            format!("it holds {retained} of WAL, more than max_slot_wal_keep_size allows: the next checkpoint may end it"),
        )
        .note("start its reader at once");
    }
    let state = match &slot.reader {
        Some(reader) => format!("plugin {plugin}, read by {reader}"),
        None => format!("plugin {plugin}, read by nobody, keeps {retained} of WAL"),
    };
    Finding::new(Verdict::Pass, "slot", state)
}
