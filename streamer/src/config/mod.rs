//! walferry's configuration: one YAML file ([`job`]), or three files for the
//! source ([`connection`]), for what goes through ([`filter`]) and for how it
//! is read ([`extractor`]).
//!
//! What is written (`Raw…`, read by serde) is apart from what it means. Every
//! value keeps its place until it is validated, variables are filled in
//! ([`substitute`]), and all mistakes are gathered in one [`Report`].
//! `docs/configuration.md` is the user's page.

pub mod connection;
pub mod describe;
mod document;
pub mod extractor;
pub mod filter;
pub mod job;
mod nearest;
mod report;
pub mod schema;
mod setting;
mod sink;
mod substitute;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::{Mode, Plugin};
use crate::error::{Failure, Result};
use connection::{Connection, RawConnection, Slot};
use extractor::{Extractor, RawExtractor};
use filter::{Filter, RawFilter};
use job::{Job, RawJob};

pub use report::{Problem, Reader, Report};

/// A configuration, validated.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub job: Job,
    pub connection: Connection,
    pub filter: Filter,
    pub extractor: Extractor,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything in one file.
    Job,
    Connection,
    Filter,
    Extractor,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Job, Kind::Connection, Kind::Filter, Kind::Extractor];

    /// The flag of `walferry run` that takes such a file.
    pub fn flag(self) -> &'static str {
        match self {
            Kind::Job => "--config",
            Kind::Connection => "--connection",
            Kind::Filter => "--filter",
            Kind::Extractor => "--extractor",
        }
    }

    /// The kind of file that knows most of these keys; in doubt `expected`, or
    /// the first.
    fn of(keys: &[String], expected: Option<Kind>) -> Kind {
        let known = |kind: Kind| {
            let names = schema::keys(kind);
            keys.iter().filter(|key| names.contains(key)).count()
        };
        let mut best = expected.unwrap_or(Kind::Job);
        for kind in Kind::ALL {
            if known(kind) > known(best) {
                best = kind;
            }
        }
        best
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Job => "configuration in one file",
            Kind::Connection => "connection",
            Kind::Filter => "filter",
            Kind::Extractor => "extractor",
        })
    }
}

/// Variables by name; `None` for one that is not set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables of this process.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Gathers files into one configuration.
pub struct Loader<'a> {
    environment: Environment<'a>,
    pub configuration: Configuration,
    pub report: Report,
    read: Vec<Kind>,
}

impl<'a> Loader<'a> {
    pub fn new(environment: Environment<'a>) -> Self {
        Loader {
            environment,
            configuration: Configuration::default(),
            report: Report::default(),
            read: Vec::new(),
        }
    }

    /// Reads a file; `None` finds out what it is for.
    ///
    /// # Errors
    /// Usage, when the file can't be opened. What is wrong in it goes into
    /// the report.
    pub fn file(&mut self, path: &Path, kind: Option<Kind>) -> Result<Kind> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
        Ok(self.bytes(&name, &bytes, kind))
    }

    /// Reads a file's content; `name` is what messages call it.
    pub fn bytes(&mut self, name: &str, bytes: &[u8], kind: Option<Kind>) -> Kind {
        let kind = self.read_bytes(name, bytes, kind);
        self.report.sort();
        kind
    }

    fn read_bytes(&mut self, name: &str, bytes: &[u8], kind: Option<Kind>) -> Kind {
        let mut reader = Reader::new(name, self.environment, &mut self.report);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => {
                reader.mistake(document::Mistake {
                    at: None,
                    message: "the file is not UTF-8".into(),
                    hint: None,
                    unknown_key: None,
                });
                return kind.unwrap_or(Kind::Job);
            }
        };
        let keys = match document::top_keys(text) {
            Ok(keys) => keys,
            Err(mistake) => {
                reader.mistake(mistake);
                return kind.unwrap_or(Kind::Job);
            }
        };
        let looks_like = Kind::of(&keys, kind);
        let kind = kind.unwrap_or(looks_like);
        if self.read.contains(&kind) {
            self.report.errors.push(Problem {
                file: name.to_owned(),
                at: None,
                message: format!("there are two files with a {kind}"),
                hint: Some("a run has one of each".into()),
            });
            return kind;
        }
        self.read.push(kind);
        let mut reader = Reader::new(name, self.environment, &mut self.report);
        let configuration = &mut self.configuration;
        match kind {
            Kind::Job => {
                if let Some(raw) = parse::<RawJob>(&mut reader, text, kind, looks_like) {
                    // A section that also has a file of its own is one too many.
                    for (section, given) in [
                        (Kind::Connection, raw.connection.is_some()),
                        (Kind::Filter, raw.filter.is_some()),
                        (Kind::Extractor, raw.extractor.is_some()),
                    ] {
                        if given {
                            if self.read.contains(&section) {
                                reader.mistake(document::Mistake {
                                    at: None,
                                    message: format!(
                                        "there is a section {section}, and a file with one"
                                    ),
                                    hint: Some(format!(
                                        "leave the section out, or {}",
                                        section.flag()
                                    )),
                                    unknown_key: None,
                                });
                            }
                            self.read.push(section);
                        }
                    }
                    configuration.job = raw.validate(&mut reader);
                    if let Some(raw) = &raw.connection {
                        configuration.connection = raw.validate(&mut reader);
                    }
                    if let Some(raw) = &raw.filter {
                        configuration.filter = raw.validate(&mut reader);
                    }
                    if let Some(raw) = &raw.extractor {
                        configuration.extractor = raw.validate(&mut reader);
                    }
                }
            }
            Kind::Connection => {
                if let Some(raw) = parse::<RawConnection>(&mut reader, text, kind, looks_like) {
                    configuration.connection = raw.validate(&mut reader);
                }
            }
            Kind::Filter => {
                if let Some(raw) = parse::<RawFilter>(&mut reader, text, kind, looks_like) {
                    configuration.filter = raw.validate(&mut reader);
                }
            }
            Kind::Extractor => {
                if let Some(raw) = parse::<RawExtractor>(&mut reader, text, kind, looks_like) {
                    configuration.extractor = raw.validate(&mut reader);
                }
            }
        }
        kind
    }
}

fn parse<'de, T: Deserialize<'de>>(
    reader: &mut Reader<'_>,
    text: &'de str,
    kind: Kind,
    looks_like: Kind,
) -> Option<T> {
    match document::parse(text) {
        Ok(raw) => Some(raw),
        Err(mut mistake) => {
            if looks_like != kind {
                mistake.hint = Some(format!(
                    "this looks like a file for {}; here a {kind} is expected",
                    looks_like.flag()
                ));
            } else if let Some(section) =
                mistake.unknown_key.as_deref().and_then(schema::section_of)
                && kind == Kind::Job
            {
                mistake.hint = Some(format!("it is a key of {section}: write it below that"));
            }
            reader.mistake(mistake);
            None
        }
    }
}

/// Files named on the command line of a run.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub job: Option<PathBuf>,
    pub connection: Option<PathBuf>,
    pub filter: Option<PathBuf>,
    pub extractor: Option<PathBuf>,
}

/// Reads the files of a run.
///
/// # Errors
/// Usage, with every mistake in them.
pub fn load(files: &Files, environment: Environment<'_>) -> Result<(Configuration, Report)> {
    let mut loader = Loader::new(environment);
    for (path, kind) in [
        (&files.connection, Kind::Connection),
        (&files.filter, Kind::Filter),
        (&files.extractor, Kind::Extractor),
        (&files.job, Kind::Job),
    ] {
        if let Some(path) = path {
            loader.file(path, Some(kind))?;
        }
    }
    loader.report.result()?;
    Ok((loader.configuration, loader.report))
}

/// What the command line says itself, so that the files' word does not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overridden {
    pub slot: bool,
    pub plugin: bool,
    pub mode: bool,
}

impl Configuration {
    /// The slot that is read: the one file's, else the connection's first.
    pub fn slot(&self) -> Option<&str> {
        let of_connection = || self.connection.slots.first().map(|slot| slot.name.as_str());
        self.job.slot.as_deref().or_else(of_connection)
    }

    /// Slots of the connection beyond the first, to be read beside it.
    pub fn further_slots(&self) -> &[Slot] {
        match &self.job.slot {
            Some(_) => &[],
            None => self.connection.slots.get(1..).unwrap_or_default(),
        }
    }

    /// The slot's output plugin, where the files say it.
    pub fn plugin(&self) -> Option<Plugin> {
        let of_slot = || self.connection.slots.first().and_then(|slot| slot.plugin);
        self.job.plugin.or_else(of_slot)
    }

    /// What is understood, but not done by this version, beyond what the
    /// report of reading has.
    ///
    /// # Errors
    /// Usage: the first of these.
    pub fn refuse_what_comes_later(&self, overridden: Overridden) -> Result<()> {
        if overridden.mode {
            return Ok(());
        }
        match self.job.mode {
            Some(Mode::Realtime) => Ok(()),
            Some(mode) => Err(Failure::usage(format!(
                "mode {} comes with a later version; this one delivers changes as they are made",
                mode.name()
            ))
            .hint("write mode: realtime")),
            None => match self.unused_sections().first() {
                Some(section) => Err(Failure::usage(format!(
                    "there is a section {section}: copying rows comes with a later version; this one delivers changes as they are made"
                ))
                .hint("say mode: realtime (--mode realtime) to have the changes only; the section is then not used")),
                None => Ok(()),
            },
        }
    }

    /// Sections that the mode realtime does not use.
    pub fn unused_sections(&self) -> Vec<&'static str> {
        let given = [
            ("snapshot", self.extractor.snapshot.is_some()),
            ("delta-snapshot", self.extractor.delta_snapshot.is_some()),
        ];
        given
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| name)
            .collect()
    }

    /// Compares the databases that the files name with the one that is
    /// connected to: a slot sees one database only.
    ///
    /// # Errors
    /// Usage.
    pub fn check_database(&self, database: &str) -> Result<()> {
        let of_filter = self
            .filter
            .allow
            .iter()
            .filter_map(|allow| allow.catalog.as_ref());
        for catalog in of_filter.chain(self.extractor.catalogs()) {
            if catalog.name != database {
                return Err(Failure::usage(format!(
                    "{}: catalog {:?} is not the database that is connected to, {database:?}",
                    catalog.place, catalog.name
                ))
                .hint("a slot sees one database: start one walferry a database"));
            }
        }
        Ok(())
    }
}
