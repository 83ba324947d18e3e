//! The command line: what was typed ([`Cli`]), apart from what it means
//! ([`RunOptions`]); and the commands that are not `run`.

mod arguments;
mod logging;
mod options;
mod run;
mod slot;

use std::io::Write;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

pub use arguments::{hide_secrets, redact_arguments};
pub use logging::start_logging;
pub use options::RunOptions;

use crate::error::{Failure, Result};
use crate::source::conninfo::Conninfo;

/// Carries every committed change out of PostgreSQL, and loses none.
#[derive(Debug, Parser)]
#[command(
    name = "walferry",
    version,
    propagate_version = true,
    after_help = "\
Look at the changes of a database as they come, keeping nothing:
  walferry run --source postgres://ferry@db.example/shop --sink stdout

Deliver them to a file, for keeps:
  walferry run --source postgres://ferry@db.example/shop --slot ferry --create-slot \\
               --sink file:///var/lib/walferry/shop.jsonl

See how the server's slots fare:
  walferry slot list --source postgres://ferry@db.example/shop

Exit codes: 0 done, 1 failed while running, 2 bad usage or configuration.
PostgreSQL 14 or later; walferry's output plugin has to be installed there."
)]
pub struct Cli {
    /// How log lines are written
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        env = "WALFERRY_LOG_FORMAT",
        help_heading = "Log"
    )]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or filters such as walferry_streamer::source=debug
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "info",
        env = "WALFERRY_LOG_LEVEL",
        help_heading = "Log"
    )]
    pub log_level: String,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read a slot and deliver its changes to a sink
    Run(Box<run::RunArguments>),
    /// List, make, drop and look into replication slots
    #[command(subcommand)]
    Slot(slot::SlotCommand),
    /// Print a completion script for a shell
    #[command(after_help = "Example: walferry completions bash > /etc/bash_completion.d/walferry")]
    Completions { shell: clap_complete::Shell },
}

/// Which server, for every command that talks to one.
#[derive(clap::Args)]
pub struct SourceArguments {
    /// The source database: a postgres:// URL or libpq's key=value string
    ///
    /// What it leaves out comes from PGHOST, PGUSER and the like, the service
    /// file and ~/.pgpass, as with psql. Prefer ~/.pgpass or PGPASSWORD to a
    /// password in the URL.
    #[arg(
        long,
        value_name = "URL",
        env = "WALFERRY_SOURCE",
        hide_env_values = true,
        help_heading = "Source"
    )]
    source: Option<String>,
}

impl SourceArguments {
    fn conninfo(&self) -> Result<Conninfo> {
        Conninfo::parse(self.source.as_deref())
    }
}

/// Tells whether there is a source, not which: it may hold a password.
impl std::fmt::Debug for SourceArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceArguments")
            .field("source", &self.source.as_ref().map(|_| "***"))
            .finish()
    }
}

/// Does what was asked.
///
/// # Errors
/// What the process ends with: [`Failure::exit_code`].
pub fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run(arguments) => crate::run::run(arguments.validate()?),
        Command::Slot(command) => slot::execute(command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "walferry", &mut script);
            print(&script)
        }
    }
}

/// Writes a command's result to stdout. Who reads it may stop reading (`head`).
fn print(text: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::definite(
            format!("cannot write to stdout: {error}"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
