//! Reads a slot's native frames through SQL and decodes them, as the streamer
//! does from the replication protocol.

use std::collections::HashSet;

use postgres::Client;
use walferry_protocol::{
    Change, Compression, Context, Flags, Frame, Records, Start, Value as Wire,
};
use walferry_streamer::decode::RelationTable;
use walferry_streamer::decode::native::{decode_records, transaction};
use walferry_streamer::event::Event;

/// How values of inserted rows travelled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Travelled {
    pub raw: usize,
    pub pglz: usize,
    pub lz4: usize,
    pub text: usize,
}

impl Travelled {
    fn count(&mut self, records: Records<'_>, relations: &RelationTable, big_endian: bool) {
        for record in records {
            let Change::Insert { relation, new } = record.expect("a record").change else {
                continue;
            };
            let relation = relations.get(relation).expect("the row's definition");
            for value in new.values(&relation.definition.columns, big_endian) {
                match value.expect("a value") {
                    Wire::Raw(_) => self.raw += 1,
                    Wire::Text(_) => self.text += 1,
                    Wire::Compressed { method, .. } => match method {
                        Compression::Pglz => self.pglz += 1,
                        Compression::Lz4 => self.lz4 += 1,
                    },
                    Wire::Null | Wire::UnchangedToast | Wire::Absent => {}
                }
            }
        }
    }
}

/// Takes everything the slot has and hands each event to `each`.
pub fn read_slot(client: &mut Client, slot: &str, mut each: impl FnMut(&Event<'_>)) -> Travelled {
    let mut travelled = Travelled::default();
    let frames = client
        .query(
            "SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'format', 'native')",
            &[&slot],
        )
        .expect("the slot's frames");
    let relations = RelationTable::new();
    let mut start: Option<Start> = None;
    let mut fragments = Vec::new();
    for row in &frames {
        let bytes: &[u8] = row.get(0);
        let frame = Frame::decode(bytes).expect("a frame");
        for definition in frame.definitions() {
            relations.insert(definition.expect("a definition"));
        }
        let context = match &frame.context {
            Context::Start(found) => {
                start = Some(found.clone());
                continue;
            }
            Context::Transaction(context) => context,
            other => panic!("unexpected frame of kind {:?}", other.kind()),
        };
        let records = if frame.flags.is_fragment() {
            fragments.extend_from_slice(frame.record_bytes());
            if frame.flags.has(Flags::CONTINUES) {
                continue;
            }
            Records::new(&fragments, false)
        } else {
            frame.records()
        };
        let start = start.as_ref().expect("a start frame comes first");
        travelled.count(records.clone(), &relations, start.big_endian);
        decode_records(
            records,
            &relations,
            start,
            &transaction(context),
            true,
            &HashSet::new(),
            &mut |event| {
                each(event);
                Ok(())
            },
        )
        .unwrap_or_else(|failure| panic!("{failure}"));
        fragments.clear();
    }
    travelled
}
