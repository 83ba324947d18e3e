//! What configuration files add to the command line of a run.

use std::path::PathBuf;

use clap::Args;

use super::SourceArguments;
use crate::config::connection::LogReader;
use crate::config::extractor::Heartbeat;
use crate::config::{self, Configuration, Files, Overridden, Report};
use crate::error::Result;
use crate::sink::Target;
use crate::source::conninfo::Conninfo;

/// Files that say what flags don't; flags win.
#[derive(Debug, Args)]
pub struct ConfigurationFiles {
    /// A configuration file with everything in it; flags win over what it says
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,

    /// A file with the source, its slots and how to connect
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    connection: Option<PathBuf>,

    /// A file with the tables, columns and rows that go through
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    filter: Option<PathBuf>,

    /// A file that says how rows are copied and changes are read
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    extractor: Option<PathBuf>,
}

impl ConfigurationFiles {
    /// # Errors
    /// Usage, with every mistake in the files.
    pub(super) fn load(&self) -> Result<Configured> {
        let files = Files {
            job: self.config.clone(),
            connection: self.connection.clone(),
            filter: self.filter.clone(),
            extractor: self.extractor.clone(),
        };
        let (configuration, report) = config::load(&files, &config::process_environment)?;
        Ok(Configured {
            configuration,
            report,
            sink: None,
            heartbeat: None,
        })
    }
}

/// The files of a run, read.
#[derive(Debug, Default)]
pub struct Configured {
    pub(super) configuration: Configuration,
    report: Report,
    /// The files' sink, once it is taken from the configuration.
    pub(super) sink: Option<Target>,
    /// The files' heartbeat, once it is taken from the configuration.
    pub(super) heartbeat: Option<Heartbeat>,
}

impl Configured {
    /// Logs what is accepted but probably not meant.
    pub(super) fn warn(&self) {
        for problem in &self.report.warnings {
            match &problem.hint {
                Some(hint) => tracing::warn!("{problem}; {hint}"),
                None => tracing::warn!("{problem}"),
            }
        }
        let realtime = self.configuration.extractor.realtime.as_ref();
        if realtime.is_some_and(|realtime| realtime.fetch_size_rows.is_some())
            && self.configuration.connection.log_reader != Some(LogReader::Sql)
        {
            tracing::warn!(
                "fetch-size-rows is for log-reader-type: SQL; the replication protocol sends changes as they come"
            );
        }
        for section in self.configuration.unused_sections() {
            tracing::warn!("the section {section} is not used in mode realtime");
        }
    }

    pub(super) fn refuse_what_comes_later(&self, overridden: Overridden) -> Result<()> {
        self.report.refuse_what_comes_later()?;
        self.configuration.refuse_what_comes_later(overridden)
    }

    /// The source: the one that was typed, else the files'.
    pub(super) fn conninfo(&self, typed: &SourceArguments) -> Result<Conninfo> {
        if typed.source.is_some() {
            return typed.conninfo();
        }
        match &self.configuration.job.source {
            Some(source) => Conninfo::parse(Some(source.expose())),
            None => Conninfo::parse(Some(self.configuration.connection.dsn().expose())),
        }
    }
}
