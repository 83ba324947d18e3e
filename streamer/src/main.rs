//! The `walferry` binary: parse, do, exit code.

use std::process::ExitCode;

use clap::Parser;
use walferry_streamer::cli::{self, Cli};
use walferry_streamer::error::Failure;

fn main() -> ExitCode {
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    cli::hide_secrets();
    let ready = cli::configure(&mut cli).and_then(|()| cli::start_logging(&cli));
    match ready.and_then(|()| cli::execute(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// Help and version go to stdout as they are; complaints without passwords.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        eprint!("{}", cli::redact_arguments(&error.render().to_string()));
        ExitCode::from(2)
    } else {
        let _ = error.print();
        ExitCode::SUCCESS
    }
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("walferry: error: {failure}");
    ExitCode::from(failure.exit_code())
}
