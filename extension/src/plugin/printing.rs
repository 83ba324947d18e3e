//! Calls of types' output functions, which may run any code and raise any
//! error.

use std::any::Any;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::panic::CaughtError;

use super::failure::{Failure, Outcome};

/// Calls an output function and returns its C string: `OutputFunctionCall`
/// without a guard of its own, for [`print`] guards all calls of a row at once.
mod unguarded {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        pub fn OutputFunctionCall(
            function: *mut pg_sys::FmgrInfo,
            value: pg_sys::Datum,
        ) -> *mut std::ffi::c_char;
    }
}

/// Runs output functions, all under one guard. `place` names the value of
/// this index, so that an error in its function says which value it was.
pub fn print(
    functions: &[*mut pg_sys::FmgrInfo],
    values: &[pg_sys::Datum],
    place: impl Fn(usize) -> String,
) -> Outcome<Vec<*mut c_char>> {
    let mut printed = vec![std::ptr::null_mut(); functions.len()];
    let results: &mut [*mut c_char] = &mut printed;
    let mut index = 0;
    let at = &mut index;
    // SAFETY: each function is an output function of its value's type, set up
    // by fmgr_info_cxt; the values are datums of live tuples. The inner closure
    // owns nothing that would have to be dropped when the server jumps out of
    // it; what it has written until then stays valid.
    let outcome = catch_unwind(AssertUnwindSafe(|| unsafe {
        pg_guard_ffi_boundary(|| {
            while *at < functions.len() {
                results[*at] = unguarded::OutputFunctionCall(functions[*at], values[*at]);
                *at += 1;
            }
        });
    }));
    match outcome {
        Ok(()) => Ok(printed),
        Err(caught) => Err(explained(
            caught,
            &format!("The value is in {}.", place(index)),
            "Correct the value or its type's output function, or leave the column out with the option columns.",
        )),
    }
}

/// The server's error with the place added to its detail, and a hint where it
/// has none. A concurrent abort (40000) and what is no error of the server go
/// on as they are.
#[cold]
pub fn explained(caught: Box<dyn Any + Send>, place: &str, hint: &str) -> Failure {
    let report = match caught.downcast_ref::<CaughtError>() {
        Some(CaughtError::PostgresError(report)) => report,
        _ => resume_unwind(caught),
    };
    if report.sql_error_code() == PgSqlErrorCode::ERRCODE_TRANSACTION_ROLLBACK {
        resume_unwind(caught);
    }
    let failure = Failure::new(report.sql_error_code(), report.message().to_owned()).detail(
        match report.detail() {
            Some(detail) => format!("{detail} {place}"),
            None => place.to_owned(),
        },
    );
    failure.hint(report.hint().unwrap_or(hint))
}
