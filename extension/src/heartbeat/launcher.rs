//! The process that has beats made. It belongs to no database.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, DynamicBackgroundWorker,
    SignalWakeFlags,
};
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, pg_guard, pg_sys};

use super::{DATABASES, INTERVAL, LIBRARY, databases};

/// Beats that are made at the same time: one that waits for a lock does not
/// hold all others up, and workers are left for other things.
const AT_ONCE: usize = 2;

/// What is known of one database.
struct Patient {
    due: Instant,
    running: Option<DynamicBackgroundWorker>,
    /// What has been said of it last.
    complaint: Complaint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Complaint {
    None,
    Missing,
    Closed,
    NoWorker,
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn walferry_heartbeat_launcher(_arg: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    BackgroundWorker::connect_worker_to_spi(None, None);
    let mut patients = BTreeMap::new();
    let mut wait = attend(&mut patients);
    while BackgroundWorker::wait_latch(wait) {
        if BackgroundWorker::sighup_received() {
            // SAFETY: outside of any transaction, in the worker's main loop.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        }
        wait = attend(&mut patients);
    }
    // As the server's own launchers do: with 0 it would not be started again
    // after a pg_terminate_backend.
    // SAFETY: ends the process.
    unsafe { pg_sys::proc_exit(1) };
}

/// Has made what is due; how long there is nothing to do, None: until a signal.
fn attend(patients: &mut BTreeMap<Vec<u8>, Patient>) -> Option<Duration> {
    let interval = Duration::from_millis(INTERVAL.get().max(0) as u64);
    let wanted = match DATABASES.get() {
        Some(list) if !interval.is_zero() => databases::names(list.as_bytes()),
        _ => Vec::new(),
    };
    patients.retain(|name, patient| patient.running.is_some() || wanted.contains(name));
    let now = Instant::now();
    for patient in patients.values_mut() {
        let ended = patient.running.as_ref().is_some_and(|worker| {
            !matches!(
                worker.pid(),
                Ok(_) | Err(BackgroundWorkerStatus::NotYetStarted)
            )
        });
        if ended {
            patient.running = None;
            patient.due = now + interval;
        }
        // A shorter interval holds at once.
        patient.due = patient.due.min(now + interval);
    }
    if wanted.is_empty() {
        return None;
    }
    for name in &wanted {
        patients.entry(name.clone()).or_insert(Patient {
            due: now,
            running: None,
            complaint: Complaint::None,
        });
    }
    begin_beats(patients, &wanted, now, interval);
    let waiting = patients
        .values()
        .filter(|patient| patient.running.is_none());
    let next = waiting.map(|patient| patient.due).min();
    // The end of a beat wakes this process too.
    Some(next.map_or(interval, |due| {
        due.saturating_duration_since(now)
            .max(Duration::from_millis(1))
    }))
}

fn begin_beats(
    patients: &mut BTreeMap<Vec<u8>, Patient>,
    wanted: &[Vec<u8>],
    now: Instant,
    interval: Duration,
) {
    let mut running = patients
        .values()
        .filter(|patient| patient.running.is_some())
        .count();
    let due = |patient: &Patient| patient.running.is_none() && patient.due <= now;
    if running >= AT_ONCE || !patients.values().any(due) {
        // Those that are due come when one has ended.
        if running >= AT_ONCE {
            for patient in patients.values_mut().filter(|patient| due(patient)) {
                patient.due = now + interval.min(Duration::from_millis(100));
            }
        }
        return;
    }
    let there = databases::all();
    for name in wanted {
        let Some(patient) = patients.get_mut(name).filter(|patient| due(patient)) else {
            continue;
        };
        if running >= AT_ONCE {
            patient.due = now + interval.min(Duration::from_millis(100));
            continue;
        }
        patient.due = now + interval;
        let shown = String::from_utf8_lossy(name).into_owned();
        let complaint = match there.iter().find(|database| database.name == *name) {
            None => Complaint::Missing,
            Some(database) if !database.allows_connections => Complaint::Closed,
            Some(database) => match start(database.oid, &shown) {
                Some(worker) => {
                    patient.running = Some(worker);
                    running += 1;
                    Complaint::None
                }
                None => Complaint::NoWorker,
            },
        };
        if std::mem::replace(&mut patient.complaint, complaint) != complaint {
            complaint.say(&shown);
        }
    }
}

fn start(database: pg_sys::Oid, shown: &str) -> Option<DynamicBackgroundWorker> {
    // BGW_MAXLEN is 96, a database's name up to 63 bytes.
    BackgroundWorkerBuilder::new(&format!("walferry heartbeat in {shown}"))
        .set_type("walferry heartbeat")
        .set_library(LIBRARY)
        .set_function("walferry_heartbeat_beat")
        .enable_spi_access()
        .set_argument(Some(pg_sys::Datum::from(database)))
        // SAFETY: this process' own number.
        .set_notify_pid(unsafe { pg_sys::MyProcPid })
        .load_dynamic()
        .ok()
}

impl Complaint {
    fn say(self, database: &str) {
        let (code, what, hint) = match self {
            Complaint::None => return,
            Complaint::Missing => (
                PgSqlErrorCode::ERRCODE_INVALID_CATALOG_NAME,
                "there is no such database",
                "Correct walferry.heartbeat_databases, and reload the configuration.".to_owned(),
            ),
            Complaint::Closed => (
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "it takes no connections",
                format!(
                    "ALTER DATABASE \"{}\" ALLOW_CONNECTIONS true;",
                    database.replace('"', "\"\"")
                ),
            ),
            Complaint::NoWorker => (
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
                "no background worker is free",
                "Raise max_worker_processes, and restart the server.".to_owned(),
            ),
        };
        ErrorReport::new(
            code,
            format!("walferry: no heartbeat in database \"{database}\": {what}"),
            "walferry",
        )
        .set_detail("It is tried again at each interval; this is said once.".to_owned())
        .set_hint(hint)
        .report(PgLogLevel::WARNING);
    }
}
