//! `walferry run`.

use crate::cli::RunOptions;
use crate::error::{Failure, Result};

/// Reads the slot and delivers its changes until told to stop.
pub fn run(options: RunOptions) -> Result<()> {
    Err(Failure::definite(format!(
        "this build reads no slots yet ({})",
        options.conninfo
    )))
}
