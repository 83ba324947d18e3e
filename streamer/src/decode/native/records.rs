//! Records become events.

use std::collections::HashSet;

use walferry_protocol::{self as protocol, Lsn, OldRow, Records, Row, Start};

use super::{HINT, malformed_frame, value};
use crate::datum::Layout;
use crate::decode::RelationTable;
use crate::decode::images::{emptied, spare};
use crate::decode::relations::Seen;
use crate::error::{Failure, Result};
use crate::event::{Change, Event, Image, OldImage, Relation, Transaction};

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The transaction that a frame's context names.
pub fn transaction(context: &protocol::Transaction) -> Transaction {
    Transaction {
        xid: context.xid,
        commit_lsn: context.commit_lsn,
        end_lsn: context.end_lsn,
        commit_time_us: context.commit_time.saturating_add(POSTGRES_EPOCH_US),
        origin: context.origin.clone(),
    }
}

/// Decodes the records of a frame (or of a reassembled record) and hands each
/// event to `each`, in order.
///
/// `start` is the connection's first frame. `transactional` says whether a
/// logical message belongs to the transaction. Records of the
/// (sub)transactions in `aborted` are left out; only those of streamed frames
/// carry an xid. Errors are definite and name table and column.
pub fn decode_records(
    records: Records<'_>,
    relations: &RelationTable,
    start: &Start,
    transaction: &Transaction,
    transactional: bool,
    aborted: &HashSet<u32>,
    each: &mut dyn FnMut(&Event<'_>) -> Result<()>,
) -> Result<()> {
    let layout = Layout::of_server(start.server_version, start.big_endian);
    let mut seen = Seen::new(relations, HINT);
    let (mut spare_before, mut spare_after) = (Image::new(), Image::new());
    for record in records {
        let record = record.map_err(malformed_frame)?;
        if record.xid.is_some_and(|xid| aborted.contains(&xid)) {
            continue;
        }
        let (lsn, index) = (record.lsn, record.index);
        match record.change {
            protocol::Change::Insert { relation, new } => {
                let relation = seen.get(relation)?;
                let after = decode_row(new, relation, layout, emptied(spare_after))?;
                let event = event(transaction, lsn, index, Change::Insert { relation, after });
                each(&event)?;
                spare_after = match event.change {
                    Change::Insert { after, .. } => emptied(after),
                    _ => Image::new(),
                };
            }
            protocol::Change::Update { relation, old, new } => {
                let relation = seen.get(relation)?;
                let before = decode_old(old, relation, layout, emptied(spare_before))?;
                let after = decode_row(new, relation, layout, emptied(spare_after))?;
                let event = event(
                    transaction,
                    lsn,
                    index,
                    Change::Update {
                        relation,
                        before,
                        after,
                    },
                );
                each(&event)?;
                (spare_before, spare_after) = match event.change {
                    Change::Update { before, after, .. } => (spare(before), emptied(after)),
                    _ => Default::default(),
                };
            }
            protocol::Change::Delete { relation, old } => {
                let relation = seen.get(relation)?;
                let before = decode_old(old, relation, layout, emptied(spare_before))?;
                let event = event(transaction, lsn, index, Change::Delete { relation, before });
                each(&event)?;
                spare_before = match event.change {
                    Change::Delete { before, .. } => spare(before),
                    _ => Image::new(),
                };
            }
            protocol::Change::Truncate(truncate) => {
                for (place, number) in (0..).zip(&truncate.relations) {
                    let relation = seen.get(*number)?;
                    each(&event(
                        transaction,
                        lsn,
                        index.wrapping_add(place),
                        Change::Truncate {
                            relation,
                            cascade: truncate.cascade,
                            restart_identity: truncate.restart_identity,
                        },
                    ))?;
                }
            }
            protocol::Change::Message(message) => each(&event(
                transaction,
                lsn,
                index,
                Change::Message {
                    prefix: message.prefix,
                    content: message.content,
                    transactional,
                },
            ))?,
        }
    }
    Ok(())
}

fn event<'e>(transaction: &'e Transaction, lsn: Lsn, index: u32, change: Change<'e>) -> Event<'e> {
    Event {
        transaction,
        lsn,
        index,
        change,
    }
}

fn decode_old<'a>(
    old: OldRow<'a>,
    relation: &Relation,
    layout: Layout,
    image: Image<'a>,
) -> Result<OldImage<'a>> {
    Ok(match old {
        OldRow::None => OldImage::None,
        OldRow::Key(row) => OldImage::Key(decode_row(row, relation, layout, image)?),
        OldRow::Full(row) => OldImage::Full(decode_row(row, relation, layout, image)?),
    })
}

fn decode_row<'a>(
    row: Row<'a>,
    relation: &Relation,
    layout: Layout,
    mut image: Image<'a>,
) -> Result<Image<'a>> {
    let columns = &relation.columns;
    if row.column_count() != columns.len() {
        return Err(malformed_row(relation).detail(format!(
            "it has {} columns, its definition {}",
            row.column_count(),
            columns.len()
        )));
    }
    image.reserve_exact(columns.len());
    let values = row.values(&relation.definition.columns, layout.big_endian);
    for (place, wire) in values.enumerate() {
        let wire = wire.map_err(|error| malformed_row(relation).detail(error.to_string()))?;
        let column = &columns[place];
        let definition = &relation.definition.columns[place];
        match value::decode(wire, column.kind, definition.base_type_oid, layout) {
            Ok(value) => image.push(value),
            Err(error) => return Err(relation.malformed_value(place, error)),
        }
    }
    Ok(image)
}

#[cold]
fn malformed_row(relation: &Relation) -> Failure {
    Failure::definite(format!(
        "a row of {} could not be read",
        relation.display_name()
    ))
    .hint(HINT)
}
