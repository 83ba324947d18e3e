//! What a look at the server brought to light.

use serde::Serialize;

use crate::error::Failure;

/// How a finding bears on replication; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Replication works, but something is likely not meant or can't be told.
    Warn,
    /// Replication does not start, or loses changes.
    Fail,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

/// What kind of thing mends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FixKind {
    /// A statement, to be run by itself.
    Sql,
    /// A setting in the service's parameter group or list of flags.
    Parameter,
    /// A command for a shell, or flags of `walferry`.
    Command,
}

/// One step that mends a finding; what a person may copy as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fix {
    pub kind: FixKind,
    pub text: String,
}

impl Fix {
    pub fn sql(text: impl Into<String>) -> Self {
        Fix {
            kind: FixKind::Sql,
            text: text.into(),
        }
    }
    pub fn parameter(text: impl Into<String>) -> Self {
        Fix {
            kind: FixKind::Parameter,
            text: text.into(),
        }
    }
    pub fn command(text: impl Into<String>) -> Self {
        Fix {
            kind: FixKind::Command,
            text: text.into(),
        }
    }
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub verdict: Verdict,
    /// What was looked at; never changes its meaning (`docs/check.md`).
    pub code: &'static str,
    /// The table, slot, publication or process it is about, where it is one of several.
    pub object: Option<String>,
    /// What was seen, in words.
    pub finding: String,
    /// The steps that mend it, in order. Empty for what passes.
    pub fix: Vec<Fix>,
    /// What else to know about the fix: where it belongs, what comes after it.
    pub note: Option<String>,
}

impl Finding {
    pub fn new(verdict: Verdict, code: &'static str, finding: impl Into<String>) -> Self {
        Finding {
            verdict,
            code,
            object: None,
            finding: finding.into(),
            fix: Vec::new(),
            note: None,
        }
    }
    pub fn object(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }
    pub fn fix(mut self, fix: impl IntoIterator<Item = Fix>) -> Self {
        self.fix.extend(fix);
        self
    }
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// Findings as they come in.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    pub fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }
    pub fn pass(&mut self, code: &'static str, finding: impl Into<String>) {
        self.push(Finding::new(Verdict::Pass, code, finding));
    }

    /// What the server refused, with what follows from it.
    pub fn refused(&mut self, code: &'static str, fix: Option<Fix>, failure: &Failure) {
        let mut finding = Finding::new(Verdict::Fail, code, in_words(failure)).fix(fix);
        if finding.fix.is_empty() {
            finding.note = failure.hint.clone();
        }
        self.push(finding);
    }

    /// What could not be found out.
    pub fn unknown(&mut self, code: &'static str, failure: &Failure) {
        let text = format!("can't be told: {}", in_words(failure));
        self.push(Finding::new(Verdict::Warn, code, text));
    }

    /// In the order in which they came in, which is that of a connection's life.
    pub fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}

/// A failure in one line, its hint apart.
pub fn in_words(failure: &Failure) -> String {
    let mut text = failure.message.clone();
    if let Some(code) = &failure.sqlstate {
        text.push_str(&format!(" (SQLSTATE {code})"));
    }
    if let Some(detail) = &failure.detail {
        text.push_str(&format!(": {}", detail.replace('\n', " ")));
    }
    text
}
