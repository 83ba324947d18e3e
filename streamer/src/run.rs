//! `walferry run`: opens what a run needs and keeps it connected. The order
//! matters: the state is checked against the source before the sink is
//! opened, and saved before anything is written.

mod backoff;
mod names;
mod plugin;
mod signals;
mod slots;
mod start_position;
mod upstream;
mod wal2json;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use backoff::Backoff;
use upstream::Upstream;

use crate::cli::RunOptions;
use crate::encode::debezium::{DebeziumJson, DebeziumOptions};
use crate::encode::{Encode, OwnEvents, Wanted};
use crate::error::{Class, Failure, Result};
use crate::filter::RowFilter;
use crate::heartbeat::{self, Ear, Heartbeat};
use crate::ledger::Ledger;
use crate::pipeline::deliver::Delivery;
use crate::pipeline::feedback::{Rhythm, status_interval};
use crate::pipeline::flusher::{Flusher, StateKeeper};
use crate::pipeline::session::{self, Outcome, Parts};
use crate::progress::{self, Board, Progress};
use crate::sink::Opening;
use crate::state::{Identity, State, StateDir, StateFile};
use crate::transaction::prepared::PreparedStore;
use crate::transaction::spill_dir::SpillDir;

/// How often a run with an end asks the server how far it is.
const ASK_KEEPALIVE: Duration = Duration::from_millis(500);

/// Runs until the end that was asked for, a signal, or a failure that another
/// attempt cannot mend.
pub fn run(options: RunOptions) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::definite(format!("cannot start the runtime: {e}")))?
        .block_on(slots::run(options))
}

/// Reads one slot until the end that was asked for, `stop`, or a failure that
/// another attempt cannot mend. `name` tells it from others; `beats`: the
/// heartbeat that was asked for is this one's to write.
async fn read_slot(
    options: RunOptions,
    name: Option<&str>,
    beats: bool,
    mut stop: watch::Receiver<bool>,
    board: &Board,
) -> Result<()> {
    let state_dir = open_state_dir(&options)?;
    let mut backoff = Backoff::new(options.retries);
    let Some(mut upstream) = connect(&options, true, &mut backoff, &mut stop).await? else {
        return Ok(());
    };
    let (parts, mut delivery) = prepare(&options, state_dir.as_ref(), &mut upstream).await?;
    let _heartbeat = heartbeat::start(
        options.heartbeat.as_ref().filter(|_| beats),
        &options.conninfo,
        upstream.publication(&options),
    );
    board.add(name, &parts.progress, &parts.ledger);
    let ended = loop {
        let rhythm = rhythm(&options, &upstream);
        let identity = upstream.identity.clone();
        let failure = match upstream.start(parts.ledger.flush_lsn(), &options).await {
            Ok((reader, writer, output)) => {
                backoff.connected();
                let outcome;
                (delivery, outcome) = session::run(
                    &parts,
                    delivery,
                    output,
                    reader,
                    writer,
                    rhythm,
                    stop.clone(),
                )
                .await?;
                match outcome {
                    Outcome::Stopped | Outcome::ReachedUntil => break Ok(()),
                    Outcome::Failed(failure) => failure,
                }
            }
            Err(failure) => failure,
        };
        if *stop.borrow() {
            break Ok(());
        }
        match again(&options, &parts, identity, failure, &mut backoff, &mut stop).await {
            Ok(Some(next)) => upstream = next,
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    board.remove(&parts.ledger);
    progress::end_line(options.progress);
    let of_slot = name.map_or(String::new(), |name| format!("slot \"{name}\": "));
    eprintln!(
        "walferry: {of_slot}{}",
        parts.progress.summary(&parts.ledger)
    );
    // Its threads end, and with them the last flush.
    drop(delivery);
    ended
}

/// Connects until it works. `None`: asked to stop.
async fn connect(
    options: &RunOptions,
    first: bool,
    backoff: &mut Backoff,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<Upstream>> {
    loop {
        let failure = tokio::select! {
            upstream = Upstream::connect(options, first) => match upstream {
                Ok(upstream) => return Ok(Some(upstream)),
                Err(failure) => failure,
            },
            _ = stop.wait_for(|stop| *stop) => return Ok(None),
        };
        if !wait(options, failure, backoff, stop).await? {
            return Ok(None);
        }
    }
}

/// Waits before the next attempt, if there is to be one. `false`: asked to
/// stop.
async fn wait(
    options: &RunOptions,
    failure: Failure,
    backoff: &mut Backoff,
    stop: &mut watch::Receiver<bool>,
) -> Result<bool> {
    // Without a slot of that name to come back to, there is nothing to resume.
    if failure.class != Class::Transient || options.slot.name.is_none() {
        return Err(failure);
    }
    let Some((pause, first)) = backoff.failed() else {
        tracing::error!(
            "giving up after {} retries",
            options.retries.most.unwrap_or_default()
        );
        return Err(failure);
    };
    if first {
        let most = options.retries.most;
        let limit = most.map_or(String::new(), |most| {
            format!(", at most {most} times in a row")
        });
        tracing::warn!("connecting again until it works{limit}: {failure}");
    }
    Ok(tokio::select! {
        () = tokio::time::sleep(pause) => true,
        _ = stop.wait_for(|stop| *stop) => false,
    })
}

/// Connects again after `failure`, and makes sure that it is still the same
/// source.
async fn again(
    options: &RunOptions,
    parts: &Parts,
    identity: Identity,
    failure: Failure,
    backoff: &mut Backoff,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<Upstream>> {
    let acknowledged = State {
        identity,
        position: parts.ledger.flush_lsn(),
        sink: None,
    };
    let mut failure = failure;
    loop {
        if !wait(options, failure, backoff, stop).await? {
            return Ok(None);
        }
        let Some(mut upstream) = connect(options, false, backoff, stop).await? else {
            return Ok(None);
        };
        match upstream.position(&acknowledged, false).await {
            Ok(_) => return Ok(Some(upstream)),
            // Cut off while it told of its timeline: `wait` decides.
            Err(cut) => failure = cut,
        }
    }
}

fn open_state_dir(options: &RunOptions) -> Result<Option<StateDir>> {
    if options.slot.name.is_none() {
        return match &options.state_dir {
            None => Ok(None),
            Some(_) => Err(
                Failure::usage("a temporary slot leaves no state to be kept")
                    .hint("name a slot with --slot NAME --create-slot, or leave --state-dir out"),
            ),
        };
    }
    let path = match &options.state_dir {
        Some(path) => Some(path.clone()),
        None => options.sink.default_state_dir()?,
    };
    path.as_deref().map(StateDir::open).transpose()
}

/// Checks the state, opens the sink and starts what outlives connections.
async fn prepare(
    options: &RunOptions,
    state_dir: Option<&StateDir>,
    upstream: &mut Upstream,
) -> Result<(Parts, Delivery)> {
    let (state_file, saved) = match state_dir {
        Some(dir) => {
            let (file, saved) = StateFile::open(dir)?;
            (Some(file), saved)
        }
        None => (None, None),
    };
    let position = match &saved {
        Some(saved) => {
            let position = upstream.position(saved, options.accept_gap).await?;
            if let Some(start) = options.start_lsn {
                tracing::info!("start-lsn {start} was for the first start: going on at {position}");
            }
            position
        }
        None => {
            upstream
                .first_position(options, state_file.is_some())
                .await?
        }
    };
    let target = options.sink.name();
    let sink = options.sink.open(&Opening {
        resume: saved
            .and_then(|state| state.sink)
            .filter(|resume| resume.target == target),
        position,
    })?;
    let identity = upstream.identity.clone();
    let keeper = match state_file {
        Some(mut file) => {
            // Before anything is written: where the sink's own part begins.
            file.save(&State {
                identity: identity.clone(),
                position,
                sink: sink.resume(),
            })?;
            Some(StateKeeper {
                file,
                identity: identity.clone(),
            })
        }
        None => None,
    };
    let ledger = Arc::new(Ledger::new(position));
    let progress = Arc::new(Progress::default());
    let spill = Arc::new(SpillDir::open(
        options
            .spill_dir
            .clone()
            .or_else(|| state_dir.map(|dir| dir.path().join("spill")))
            .as_deref(),
        options.spill_limit,
    )?);
    let prepared = Arc::new(PreparedStore::open(
        state_dir.map(StateDir::path),
        spill.path(),
        &identity,
        position,
        Arc::clone(&ledger),
    )?);
    let flusher = Flusher::start(
        keeper,
        Arc::clone(&ledger),
        Arc::clone(&prepared),
        Arc::clone(&progress),
    )?;
    let delivery = Delivery::new(
        sink,
        Arc::clone(&ledger),
        flusher,
        Arc::clone(&progress),
        options.flush_interval,
    );
    let parts = Parts {
        ledger,
        progress,
        prepared,
        spill,
        filter: RowFilter::new(options.rules.clone(), upstream.knowledge.clone()),
        encoder: encoder(options, &identity),
        ear: Ear {
            table: options.heartbeat.as_ref().and_then(Heartbeat::table_name),
        },
        workers: options.workers.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
        }),
        memory_limit: usize::try_from(options.memory_limit).unwrap_or(usize::MAX),
        until: options.until_lsn,
        system_identifier: identity.system_identifier,
    };
    tracing::info!("delivering from {position} on to {target}: {identity}");
    Ok((parts, delivery))
}

fn encoder(options: &RunOptions, identity: &Identity) -> Arc<dyn Encode> {
    let encoder = Arc::new(DebeziumJson::new(&DebeziumOptions {
        database: identity.database.clone(),
        name: None,
        values: options.values,
    }));
    Arc::new(OwnEvents::new(
        encoder,
        Wanted {
            own_events: options.own_events,
            schema_changes: options.schema_changes,
            tables: options.tables.clone(),
            heartbeat_table: options.heartbeat.as_ref().and_then(Heartbeat::table_name),
        },
    ))
}

fn rhythm(options: &RunOptions, upstream: &Upstream) -> Rhythm {
    Rhythm {
        interval: status_interval(options.status_interval, upstream.wal_sender_timeout),
        ask_keepalive: options.until_lsn.map(|_| ASK_KEEPALIVE),
    }
}
