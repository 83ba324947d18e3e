//! Errors as PostgreSQL reports them.

use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;

/// What the plugin refuses or cannot do: one line of what happened, then
/// detail, then a hint with what mends it.
#[derive(Debug)]
pub struct Failure {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Failure {
            code,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// A bad option (`ERRCODE_INVALID_PARAMETER_VALUE`).
    pub fn option(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// Bytes in the WAL that cannot be what they should be.
    pub fn corrupted(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, message)
    }

    pub fn out_of_memory(bytes: usize) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "out of memory").detail(format!(
            "walferry needs {bytes} bytes more for its frame buffer."
        ))
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Raises the failure: it unwinds to the callback's guard, which reports
    /// it with `ereport(ERROR)` once every Rust value on the way is dropped.
    pub fn raise(self) -> ! {
        let mut report = ErrorReport::new(self.code, self.message, "walferry");
        if let Some(detail) = self.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(hint);
        }
        std::panic::panic_any(report)
    }
}
