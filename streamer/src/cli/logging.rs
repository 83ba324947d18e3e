//! Where log lines go: stderr, for people or for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::{Cli, LogFormat};
use crate::error::{Failure, Result};

/// Sets up the log of this process.
///
/// # Errors
/// Usage, when the level is none.
pub fn start_logging(cli: &Cli) -> Result<()> {
    let level = cli.log_level.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(level).map_err(|_| {
        Failure::usage(format!("{level:?} is not a log level"))
            .hint("the levels are error, warn, info, debug and trace")
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    match cli.log_format.unwrap_or(LogFormat::Text) {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
