//! `walferry config`: configuration files, for people and for editors.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::print;
use crate::config::{self, Kind, Loader, Overridden, Problem, describe, schema};
use crate::error::{Failure, Result};
use crate::source::conninfo::Conninfo;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check files, and say what was understood
    #[command(after_help = "\
Examples:
  walferry config validate walferry.yaml
  walferry config validate connection.yaml filter.yaml extractor.yaml

What a file is for shows in its keys. Variables are filled in, so run it where
they are set. Exits 2 when there are mistakes.")]
    Validate {
        /// One file, or the several of one run
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema that editors complete and check files by
    #[command(
        after_help = "Example: walferry config schema > walferry.schema.json, and at the top of the file:\n  # yaml-language-server: $schema=walferry.schema.json"
    )]
    Schema {
        /// Which file's
        #[arg(
            long = "for",
            value_enum,
            default_value = "config",
            value_name = "KIND"
        )]
        kind: SchemaKind,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaKind {
    /// The one file, for --config
    Config,
    /// For --connection
    Connection,
    /// For --filter
    Filter,
    /// For --extractor
    Extractor,
}

pub(super) fn execute(command: ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::Validate { files } => validate(&files),
        ConfigCommand::Schema { kind } => {
            let kind = match kind {
                SchemaKind::Config => Kind::Job,
                SchemaKind::Connection => Kind::Connection,
                SchemaKind::Filter => Kind::Filter,
                SchemaKind::Extractor => Kind::Extractor,
            };
            print(format!("{:#}\n", schema::schema(kind)).as_bytes())
        }
    }
}

fn validate(files: &[PathBuf]) -> Result<()> {
    let mut loader = Loader::new(&config::process_environment);
    let mut text = String::new();
    for path in files {
        let kind = loader.file(path, None)?;
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}: {kind}", path.display());
    }
    let report = &loader.report;
    let complaints = |word: &str, problems: &[Problem]| -> String {
        problems
            .iter()
            .map(|problem| match &problem.hint {
                Some(hint) => format!("{word}: {problem}\n  hint: {hint}\n"),
                None => format!("{word}: {problem}\n"),
            })
            .collect()
    };
    if !report.errors.is_empty() {
        eprint!("{}", complaints("error", &report.errors));
        eprint!("{}", complaints("warning", &report.warnings));
        let count = report.errors.len();
        let mistakes = if count == 1 { "mistake" } else { "mistakes" };
        return Err(Failure::usage(format!(
            "the configuration has {count} {mistakes}"
        )));
    }
    let configuration = &loader.configuration;
    // The source's string can be checked; where there is none, what the
    // environment adds here is not what it adds where it runs.
    let database = match &configuration.job.source {
        Some(source) => Some(Conninfo::parse(Some(source.expose()))?.dbname),
        None => configuration.connection.database.clone(),
    };
    if let Some(database) = database {
        configuration.check_database(&database)?;
    }
    for line in describe::describe(configuration) {
        let _ = writeln!(text, "  {line}");
    }
    text.push_str(&complaints("warning", &report.warnings));
    text.push_str(&complaints("not in this version", &report.later));
    if let Err(failure) = configuration.refuse_what_comes_later(Overridden::default()) {
        let _ = writeln!(text, "not in this version: {failure}");
    }
    print(text.as_bytes())
}
