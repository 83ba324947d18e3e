//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::Path;

use super::document::{List, Mistake, Position, Value};
use super::setting::Setting;
use super::substitute::{self, Variables};
use crate::error::Failure;

/// One thing that is wrong, or worth saying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub at: Option<Position>,
    /// One line in lower case.
    pub message: String,
    pub hint: Option<String>,
}

/// `walferry.yaml:3:7: max-retries: expected a whole number`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(at) = self.at {
            write!(f, ":{}:{}", at.line, at.column)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything found while configuration files were read.
#[derive(Debug, Default)]
pub struct Report {
    /// The configuration means nothing until these are mended.
    pub errors: Vec<Problem>,
    /// Accepted, but probably not what was meant.
    pub warnings: Vec<Problem>,
    /// Valid, and asks for what this version does not do yet: `run` refuses.
    pub later: Vec<Problem>,
}

impl Report {
    /// In the order of the files' lines.
    pub(super) fn sort(&mut self) {
        for problems in [&mut self.errors, &mut self.warnings, &mut self.later] {
            problems.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
        }
    }

    /// # Errors
    /// A usage failure with every error, the first one as its message.
    pub fn result(&self) -> Result<(), Failure> {
        failure(&self.errors)
    }

    /// # Errors
    /// A usage failure with what this version cannot run.
    pub fn refuse_what_comes_later(&self) -> Result<(), Failure> {
        failure(&self.later)
    }
}

fn failure(problems: &[Problem]) -> Result<(), Failure> {
    let Some((first, rest)) = problems.split_first() else {
        return Ok(());
    };
    let mut failure = Failure::usage(first.to_string());
    if !rest.is_empty() {
        let lines: Vec<String> = rest.iter().map(Problem::to_string).collect();
        failure = failure.detail(lines.join("\n          "));
    }
    if let Some(hint) = &first.hint {
        failure = failure.hint(hint);
    }
    Err(failure)
}

/// Turns what one file says into validated settings, and gathers what is
/// wrong instead of stopping at the first mistake.
pub struct Reader<'a> {
    file: &'a str,
    variables: Variables<'a>,
    pub report: &'a mut Report,
}

impl<'a> Reader<'a> {
    pub fn new(
        file: &'a str,
        environment: &'a dyn Fn(&str) -> Option<String>,
        report: &'a mut Report,
    ) -> Self {
        Reader {
            file,
            variables: Variables {
                environment,
                folder: Path::new(file).parent().unwrap_or(Path::new("")),
            },
            report,
        }
    }

    fn problem(&self, at: Option<Position>, message: String, hint: Option<&str>) -> Problem {
        Problem {
            file: self.file.to_owned(),
            at,
            message,
            hint: hint.map(str::to_owned),
        }
    }

    pub fn mistake(&mut self, mistake: Mistake) {
        let problem = self.problem(mistake.at, mistake.message, mistake.hint.as_deref());
        self.report.errors.push(problem);
    }

    pub fn error(&mut self, at: Position, message: impl Into<String>, hint: Option<&str>) {
        let problem = self.problem(Some(at), message.into(), hint);
        self.report.errors.push(problem);
    }

    pub fn warning(&mut self, at: Position, message: impl Into<String>, hint: Option<&str>) {
        let problem = self.problem(Some(at), message.into(), hint);
        self.report.warnings.push(problem);
    }

    /// A failure of a part that reads the value of `key` itself.
    pub fn failure(&mut self, at: Position, key: &str, failure: &Failure) {
        self.error(
            at,
            format!("{key}: {}", failure.message),
            failure.hint.as_deref(),
        );
    }

    /// `file:line:column`
    pub fn place(&self, at: Position) -> String {
        format!("{}:{}:{}", self.file, at.line, at.column)
    }

    /// Notes what is understood but not done by this version.
    pub fn later(&mut self, at: Position, message: impl Into<String>, hint: Option<&str>) {
        let problem = self.problem(Some(at), message.into(), hint);
        self.report.later.push(problem);
    }

    /// The value of `key`, with variables filled in; `None` once its mistake
    /// is in the report.
    pub fn get<T: Setting>(&mut self, key: &str, value: &Value<T>) -> Option<T> {
        let text = match substitute::substitute(&value.text, &self.variables) {
            Ok(text) => text,
            Err(why) => {
                self.error(value.at, format!("{key}: {why}"), None);
                return None;
            }
        };
        let read = T::read(&text);
        if read.is_none() {
            // The text as it was written, so never what a variable held.
            let shown = if T::PUBLIC && value.text.chars().count() <= 60 {
                format!(", not {:?}", value.text)
            } else {
                String::new()
            };
            self.error(
                value.at,
                format!("{key}: expected {}{shown}", T::EXPECTED),
                None,
            );
        }
        read
    }

    pub fn optional<T: Setting>(&mut self, key: &str, value: Option<&Value<T>>) -> Option<T> {
        value.and_then(|value| self.get(key, value))
    }

    pub fn list<T: Setting>(&mut self, key: &str, values: &List<T>) -> Vec<T> {
        values
            .0
            .iter()
            .filter_map(|value| self.get(key, value))
            .collect()
    }
}
