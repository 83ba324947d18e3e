//! The slots of a run, each read on its own: a connection, a pipeline, a
//! ledger, a state and an output of its own. One that fails for good stops all.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::{read_slot, signals};
use crate::cli::RunOptions;
use crate::error::{Failure, Result};
use crate::progress::{self, Board};
use crate::state::StateDir;

/// Reads every slot to its end.
///
/// # Errors
/// The first failure that another attempt cannot mend, by the slot's name
/// where there are several.
pub async fn run(options: RunOptions) -> Result<()> {
    let draw = options.progress;
    let job_state_dir = options.state_dir.clone();
    let slots = options.one_for_each_slot()?;
    let several = slots.len() > 1;
    // The slots' own folders are inside it; locked, so that no other job uses it.
    let _locked = match job_state_dir {
        Some(folder) if several => Some(StateDir::open(&folder)?),
        _ => None,
    };
    let (tell, stop) = stop_on_signals_or_failure()?;
    let board = Arc::new(Board::default());
    let drawing = tokio::spawn({
        let board = Arc::clone(&board);
        async move { progress::report(&board, draw).await }
    });
    let mut readers = JoinSet::new();
    for (place, options) in slots.into_iter().enumerate() {
        // One heartbeat serves every slot of the database.
        let beats = place == 0;
        let name = options.slot.name.clone().filter(|_| several);
        let span = match &name {
            Some(slot) => tracing::info_span!("slot", name = %slot),
            None => tracing::Span::none(),
        };
        let (stop, board) = (stop.clone(), Arc::clone(&board));
        let reading = async move {
            let ended = read_slot(options, name.as_deref(), beats, stop, &board).await;
            (name, ended)
        };
        readers.spawn(reading.instrument(span));
    }
    let mut outcome = Ok(());
    while let Some(ended) = readers.join_next().await {
        let (slot, ended) = ended.map_err(|defect| {
            Failure::definite(format!(
                "a defect in walferry: a slot's reader ended: {defect}"
            ))
        })?;
        let Err(mut failure) = ended else { continue };
        if let Some(slot) = slot {
            failure.message = format!("slot \"{slot}\": {}", failure.message);
        }
        if outcome.is_ok() {
            outcome = Err(failure);
            if several && !readers.is_empty() {
                tracing::info!("the other slots stop too: what is in flight is finished");
            }
            tell.send_replace(true);
        } else {
            tracing::error!("{failure}");
        }
    }
    drawing.abort();
    progress::end_line(draw);
    outcome
}

/// Becomes true at the first signal, or when it is told so.
fn stop_on_signals_or_failure() -> Result<(Arc<watch::Sender<bool>>, watch::Receiver<bool>)> {
    let mut signalled = signals::stop_on_signals()?;
    let (tell, stop) = watch::channel(false);
    let tell = Arc::new(tell);
    tokio::spawn({
        let tell = Arc::clone(&tell);
        async move {
            if signalled.wait_for(|stop| *stop).await.is_ok() {
                tell.send_replace(true);
            }
        }
    });
    Ok((tell, stop))
}
