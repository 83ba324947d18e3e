//! The slot that is to be read, and room for a new one.

use super::Question;
use super::finding::{Finding, Findings, Fix, Verdict};
use super::flavour::Applies;
use super::server::Server;
use crate::error::Result;
use crate::source::connection::Connection;
use crate::source::slot::verdict::size;
use crate::source::slot::{self, SlotInfo};

/// What is known of the slots that are asked for.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The slot, where it is named and there.
    pub existing: Option<SlotInfo>,
    /// Those that are read beside it: name, plugin it is said to have, slot.
    further: Vec<(String, Option<String>, Option<SlotInfo>)>,
    used: i64,
    most: i64,
}

impl State {
    pub async fn ask(
        connection: &mut Connection,
        server: &Server,
        question: &Question,
    ) -> Result<Self> {
        let mut state = State {
            used: i64::try_from(server.slots_used).unwrap_or(i64::MAX),
            most: server.number("max_replication_slots").unwrap_or(0),
            ..State::default()
        };
        if let Some(name) = &question.slot {
            state.existing = slot::find(connection, name).await?;
        }
        for (name, plugin) in &question.further_slots {
            let slot = slot::find(connection, name).await?;
            state.further.push((name.clone(), plugin.clone(), slot));
        }
        Ok(state)
    }

    /// One more slot can be made.
    pub fn room(&self) -> bool {
        self.used < self.most
    }

    /// The slots, in order; `None` is one to be made.
    fn all(&self) -> impl Iterator<Item = Option<&SlotInfo>> {
        let further = self.further.iter().map(|(_, _, slot)| slot.as_ref());
        std::iter::once(self.existing.as_ref()).chain(further)
    }

    /// The run will have to make a slot.
    pub fn to_be_made(&self) -> bool {
        self.all().any(|slot| slot.is_none())
    }

    /// How many more readers there will be.
    pub fn readers_to_come(&self) -> i64 {
        let idle = self
            .all()
            .filter(|slot| slot.is_none_or(|slot| slot.reader.is_none()));
        i64::try_from(idle.count()).unwrap_or(i64::MAX)
    }

    /// The plugins of the slots that are read beside the first.
    pub fn further_plugins(&self) -> impl Iterator<Item = &str> {
        self.further.iter().filter_map(|(_, said, slot)| {
            let of_slot = slot.as_ref().and_then(|slot| slot.plugin.as_deref());
            of_slot.or(said.as_deref())
        })
    }

    pub fn judge(&self, server: &Server, question: &Question, findings: &mut Findings) {
        let missing = self.all().filter(Option::is_none).count();
        let missing = i64::try_from(missing).unwrap_or(i64::MAX);
        judge_room(server, self.used, self.most, missing, findings);
        if let Some(name) = &question.slot {
            let said = question.plugin.as_deref();
            findings.push(named(name, said, self.existing.as_ref(), question));
        }
        for (name, said, slot) in &self.further {
            findings.push(named(name, said.as_deref(), slot.as_ref(), question));
        }
    }
}

/// Whether the slots that are missing can be made.
fn judge_room(server: &Server, used: i64, most: i64, missing: i64, findings: &mut Findings) {
    const CODE: &str = "replication_slots";
    if missing == 0 || used + missing <= most {
        findings.pass(CODE, format!("{used} of {most} in use"));
        return;
    }
    let text = if used >= most {
        format!("none is free: {used} of {most} in use")
    } else {
        format!("{missing} are to be made, and {used} of {most} are in use")
    };
    let wanted = (used + missing + 4).max(10).to_string();
    let (fix, note) = server.flavour.set(
        "max_replication_slots",
        &wanted,
        &wanted,
        Applies::AtRestart,
    );
    findings.push(
        Finding::new(Verdict::Fail, CODE, text)
            .fix(fix)
            .note(format!(
                "{note}; or drop one that nobody reads: walferry slot list"
            )),
    );
}

/// A slot that is to be read by its name.
fn named(
    name: &str,
    wanted: Option<&str>,
    slot: Option<&SlotInfo>,
    question: &Question,
) -> Finding {
    match slot {
        Some(slot) => existing_slot(slot, wanted, question),
        None if question.create_slot => Finding::new(
            Verdict::Pass,
            "slot",
            "it is not there, and the run makes it",
        ),
        None => Finding::new(
            Verdict::Fail,
            "slot",
            "it does not exist; changes before it is made can't be had",
        )
        .fix([Fix::command(format!("walferry slot create {name}"))])
        .note("or --create-slot, which has the run make it"),
    }
    .object(name)
}

fn existing_slot(slot: &SlotInfo, wanted: Option<&str>, question: &Question) -> Finding {
    let drop = |slot: &SlotInfo| Fix::command(format!("walferry slot drop {}", slot.name));
    let fail = |text: String| Finding::new(Verdict::Fail, "slot", text);
    let Some(plugin) = &slot.plugin else {
        return fail("it is a physical slot, and only a logical one can be read".to_owned())
            .note("choose another name");
    };
    if let Some(wanted) = wanted.filter(|wanted| wanted != plugin) {
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
