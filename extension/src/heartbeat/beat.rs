//! One beat: a process that calls `walferry.heartbeat` in one database and ends.

use std::ffi::{CStr, c_int};
use std::panic::AssertUnwindSafe;

use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{IntoDatum, PgLogLevel, PgTryBuilder, Spi, pg_guard, pg_sys};

use super::SOURCE;
use crate::shared;

/// A beat that takes longer has failed: it must not stay connected.
const PATIENCE_MS: c_int = 4000;

/// `STATEMENT_TIMEOUT` (`src/include/utils/timeout.h`), which is not in pgrx's bindings.
const STATEMENT_TIMEOUT: c_int = 3;

unsafe extern "C-unwind" {
    fn enable_timeout_after(id: c_int, delay_ms: c_int);
    // As the server calls it (`src/include/tcop/tcopprot.h`), not through pgrx's guard.
    fn die(signal: c_int);
}

/// Not as the session's user would have them: names are the catalog's, a lock
/// is waited for a short time, and a standby that is gone is not waited for.
const SETTINGS: [(&CStr, &CStr); 3] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"lock_timeout", c"2s"),
    (c"synchronous_commit", c"local"),
];

const FUNCTION: &str = "SELECT p.oid, p.proowner
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
    WHERE n.nspname OPERATOR(pg_catalog.=) 'walferry' AND p.proname OPERATOR(pg_catalog.=) 'heartbeat'
        AND p.pronargs OPERATOR(pg_catalog.=) 1
        AND p.proargtypes[0] OPERATOR(pg_catalog.=) 'pg_catalog.text'::pg_catalog.regtype";

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn walferry_heartbeat_beat(database: pg_sys::Datum) {
    let database = pg_sys::Oid::from(database.value() as u32);
    // SAFETY: at the start of a background worker. `die` has the process end
    // at the next moment when it may.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(pg_sys::SIGTERM as c_int, Some(die));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(pg_sys::SIGTERM as c_int, Some(die));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    // SAFETY: settings of the server, in a session of one's own.
    unsafe {
        for (name, value) in SETTINGS {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
    let outcome = PgTryBuilder::new(AssertUnwindSafe(beat))
        .catch_others(|error| Err(Failed::of(error)))
        .execute();
    if outcome.is_err() {
        // SAFETY: after an error that was caught.
        unsafe { pg_sys::AbortOutOfAnyTransaction() };
    }
    let code = match &outcome {
        Ok(()) => shared::WELL,
        Err(failed) => failed.code as u32,
    };
    let former = shared::note_beat(database, code);
    match outcome {
        Err(failed) if former != code => failed.say(),
        Ok(()) if former != code => {
            let again = if former == shared::UNKNOWN {
                ""
            } else {
                " again"
            };
            let name = BackgroundWorker::get_name();
            pgrx::log!("{name}: beats{again}");
        }
        _ => {}
    }
}

struct Failed {
    code: PgSqlErrorCode,
    message: String,
    hint: Option<String>,
}

fn beat() -> Result<(), Failed> {
    // SAFETY: one transaction, in a background worker with a connection. Who
    // owns the function need not be a superuser: it runs with its owner's
    // rights, and in a security-restricted operation, as the server itself
    // runs functions of indexes in maintenance. An error puts the user back
    // when the transaction is aborted.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        enable_timeout_after(STATEMENT_TIMEOUT, PATIENCE_MS);
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        pg_sys::pgstat_report_activity(
            pg_sys::BackendState::STATE_RUNNING,
            c"walferry.heartbeat".as_ptr(),
        );
        let Ok((Some(function), Some(owner))) = Spi::get_two::<pg_sys::Oid, pg_sys::Oid>(FUNCTION)
        else {
            return Err(Failed {
                code: PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
                message: "there is no function walferry.heartbeat(text) in it".into(),
                hint: Some(
                    "CREATE EXTENSION walferry; in that database, or take it out of walferry.heartbeat_databases."
                        .into(),
                ),
            });
        };
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let restricted =
            pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        pg_sys::SetUserIdAndSecContext(owner, context | restricted as c_int);
        let source = SOURCE.get().unwrap_or_default();
        let argument = source.to_string_lossy().into_owned().into_datum();
        pg_sys::OidFunctionCall1Coll(
            function,
            pg_sys::DEFAULT_COLLATION_OID,
            argument.unwrap_or(pg_sys::Datum::from(0usize)),
        );
        pg_sys::SetUserIdAndSecContext(user, context);
        pg_sys::PopActiveSnapshot();
        pg_sys::CommitTransactionCommand();
    }
    Ok(())
}

impl Failed {
    fn of(error: CaughtError) -> Failed {
        let report = match &error {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
            CaughtError::RustPanic { ereport, .. } => ereport,
        };
        let code = report.sql_error_code();
        let hint = match code {
            PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION => Some(
                "default_transaction_read_only is on there: ALTER DATABASE … RESET default_transaction_read_only."
                    .to_owned(),
            ),
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE | PgSqlErrorCode::ERRCODE_QUERY_CANCELED => {
                Some(
                    "Something holds a lock: SELECT * FROM pg_locks WHERE relation = 'walferry.heartbeats'::regclass."
                        .to_owned(),
                )
            }
            _ => report.hint().map(str::to_owned),
        };
        Failed {
            code,
            message: report.message().to_owned(),
            hint,
        }
    }

    fn say(self) {
        let name = BackgroundWorker::get_name();
        let report = ErrorReport::new(self.code, format!("{name}: {}", self.message), "walferry")
            .set_detail("It is tried again at each interval; this is said once.".to_owned());
        match self.hint {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
        .report(PgLogLevel::WARNING);
    }
}
