//! Workers decode and encode: the expensive part, on as many threads as asked.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::dispatch::{Boundary, Encoded, Job, Output, Piece};
use crate::encode::Encode;
use crate::error::{Failure, Result};
use crate::event::Event;
use crate::filter::{Outcome, RowFilter};
use crate::heartbeat::Ear;

/// Works until there are no more jobs, or nobody wants the results.
pub fn run(
    jobs: &Receiver<Job>,
    outputs: &Sender<(u64, Output)>,
    encoder: &Arc<dyn Encode>,
    mut filter: Option<RowFilter>,
    ear: &Ear,
) {
    for job in jobs {
        let number = job.number;
        let encoded = encode(job, &**encoder, &mut filter, ear);
        if outputs.send((number, Output::Events(encoded))).is_err() {
            return;
        }
    }
}

fn encode(job: Job, encoder: &dyn Encode, filter: &mut Option<RowFilter>, ear: &Ear) -> Encoded {
    let size: usize = job.pieces.iter().map(|piece| piece.records.len()).sum();
    let mut encoded = Encoded {
        // A row's JSON is a few times its datums.
        bytes: Vec::with_capacity(size.saturating_mul(3).min(1 << 20)),
        boundaries: Vec::new(),
        events: 0,
        open: None,
        failure: None,
        charge: job.charge,
    };
    for piece in job.pieces {
        let whole = encoded.bytes.len();
        let mut heartbeat = false;
        // A panic in a decoder is a defect; it must stop the stream at its
        // place in order like any frame that cannot be read.
        let done = catch_unwind(AssertUnwindSafe(|| {
            encode_piece(&piece, encoder, filter.as_mut(), ear, &mut encoded)
        }));
        match done {
            Ok(Ok(heard)) => heartbeat = heard,
            Ok(Err(failure)) => encoded.failure = Some(failure),
            Err(_) => {
                encoded.failure = Some(
                    Failure::definite("a defect in walferry: decoding a frame panicked")
                        .detail(format!(
                            "transaction {} that ends at {}",
                            piece.transaction.xid, piece.transaction.end_lsn
                        ))
                        .hint("report it with the message above; nothing of this transaction was acknowledged"),
                );
            }
        }
        if encoded.failure.is_some() {
            encoded.bytes.truncate(whole);
            encoded.open = Some(piece.transaction.end_lsn);
            break;
        }
        if piece.ends {
            encoded.boundaries.push(Boundary {
                at: encoded.bytes.len(),
                end_lsn: piece.transaction.end_lsn,
                commit_time_us: piece.transaction.commit_time_us,
                heartbeat,
            });
            encoded.open = None;
        } else {
            encoded.open = Some(piece.transaction.end_lsn);
        }
    }
    encoded.charge.set(encoded.bytes.capacity());
    encoded
}

/// Whether there was a heartbeat in it.
fn encode_piece(
    piece: &Piece,
    encoder: &dyn Encode,
    filter: Option<&mut RowFilter>,
    ear: &Ear,
    encoded: &mut Encoded,
) -> Result<bool> {
    if piece.records.is_empty() {
        return Ok(false);
    }
    let heard = Cell::new(false);
    let (bytes, events) = (&mut encoded.bytes, &mut encoded.events);
    let mut encode = |event: &Event<'_>| {
        let before = bytes.len();
        encoder.encode(event, bytes)?;
        *events += u64::from(bytes.len() > before);
        Ok(())
    };
    let Some(filter) = filter else {
        piece.dialect.decode(piece, &mut |event| {
            heard.set(heard.get() || ear.hears(event));
            encode(event)
        })?;
        return Ok(heard.get());
    };
    piece.dialect.decode(piece, &mut |event| {
        heard.set(heard.get() || ear.hears(event));
        match filter.apply(event)? {
            Outcome::Same => encode(event),
            Outcome::Dropped => Ok(()),
            Outcome::Instead(event) => encode(&event),
        }
    })?;
    Ok(heard.get())
}
