//! The command line: what was typed ([`Cli`]), apart from what it means
//! ([`RunOptions`]); and the commands that are not `run`.

mod arguments;
mod check;
mod config;
mod configured;
mod heartbeat;
mod logging;
mod options;
mod run;
mod slot;
mod tables;

use std::io::Write;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

pub use arguments::{hide_secrets, redact_arguments};
pub use logging::start_logging;
pub use options::{Retries, RunOptions};
pub use run::{BinaryForm, DocumentForm, MissingIdentity, Mode, NumberForm, Plugin};

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

Say beforehand whether it would work, and what mends what would not:
  walferry check --source postgres://ferry@db.example/shop

Exit codes: 0 done, 1 failed while running, 2 bad usage or configuration,
3 check found something that stops replication.
PostgreSQL 14 or later, read with walferry's own output plugin, pgoutput or wal2json."
)]
pub struct Cli {
    /// How log lines are written [default: text]
    #[arg(
        long,
        global = true,
        value_enum,
        env = "WALFERRY_LOG_FORMAT",
        help_heading = "Log"
    )]
    pub log_format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, trace, or filters such as walferry_streamer::source=debug [default: info]
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "WALFERRY_LOG_LEVEL",
        help_heading = "Log"
    )]
    pub log_level: Option<String>,

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
    /// Say whether a run would work, and what mends what would not
    Check(Box<check::CheckArguments>),
    /// List what can be replicated and what not, and why
    Tables(Box<tables::TablesArguments>),
    /// Check configuration files, and print their JSON Schema
    #[command(subcommand)]
    Config(config::ConfigCommand),
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

/// The log's filters that show each statement which is sent to the source.
const TRACE_STATEMENTS: &str = "info,walferry_streamer::source::connection=debug";

/// Reads the configuration files that were named, before there is a log: they
/// say how it is written. Warnings wait until there is one.
///
/// # Errors
/// Usage, with every mistake in the files.
pub fn configure(cli: &mut Cli) -> Result<()> {
    if let Command::Run(arguments) = &mut cli.command {
        arguments.configured = arguments.files.load()?;
        let job = &arguments.configured.configuration.job;
        let realtime = arguments
            .configured
            .configuration
            .extractor
            .realtime
            .as_ref();
        let trace = realtime.filter(|realtime| realtime.trace_statements);
        cli.log_level = cli
            .log_level
            .take()
            .or_else(|| job.log_level.clone())
            .or_else(|| trace.map(|_| TRACE_STATEMENTS.to_owned()));
        cli.log_format = cli.log_format.or(job.log_format);
    }
    let subject = match &mut cli.command {
        Command::Check(arguments) => Some(&mut arguments.subject),
        Command::Tables(arguments) => Some(&mut arguments.subject),
        _ => None,
    };
    if let Some(subject) = subject {
        subject.configured = subject.files.load()?;
    }
    Ok(())
}

/// Does what was asked.
///
/// # Errors
/// What the process ends with: [`Failure::exit_code`].
pub fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run(arguments) => {
            arguments.configured.warn();
            crate::run::run(arguments.validate()?)
        }
        Command::Check(arguments) => check::execute(*arguments),
        Command::Tables(arguments) => tables::execute(*arguments),
        Command::Config(command) => config::execute(command),
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
