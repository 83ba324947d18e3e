//! What `walferry check --json` says, and doing what it prints.
#![allow(dead_code)] // each test binary uses a part of it

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use walferry_tests::{Server, Streamer};

/// A line of the report.
#[derive(Clone, Debug)]
pub struct Line {
    pub verdict: String,
    pub code: String,
    pub object: Option<String>,
    pub finding: String,
    pub note: Option<String>,
    fix: Vec<(String, String)>,
}

impl Line {
    fn of_kind(&self, kind: &str) -> Vec<&str> {
        self.fix
            .iter()
            .filter(|(known, _)| known == kind)
            .map(|(_, text)| text.as_str())
            .collect()
    }
    pub fn sql(&self) -> Vec<&str> {
        self.of_kind("sql")
    }
    pub fn parameters(&self) -> Vec<&str> {
        self.of_kind("parameter")
    }
    pub fn commands(&self) -> Vec<&str> {
        self.of_kind("command")
    }
}

/// A report, with the exit code.
#[derive(Debug)]
pub struct Checked {
    pub code: i32,
    pub flavour: String,
    pub stderr: String,
    lines: Vec<Line>,
}

/// The server's URL with another role in it.
pub fn as_role(server: &Server, role: &str) -> String {
    server.url().replace("postgres@", &format!("{role}@"))
}

/// Runs `walferry check --json`.
pub fn check(url: &str, arguments: &[&str]) -> Checked {
    let exit = Streamer::builder()
        .args(["check", "--json", "--source", url])
        .args(arguments.iter().copied())
        .run(Duration::from_secs(60));
    let report: Value = serde_json::from_str(&exit.stdout.join("\n")).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let lines = report["findings"].as_array().cloned().unwrap_or_default();
    Checked {
        code: exit.code.expect("an exit code"),
        flavour: text(&report["flavour"]).unwrap_or_default(),
        stderr: exit.stderr.join("\n"),
        lines: lines
            .iter()
            .map(|line| Line {
                verdict: text(&line["verdict"]).expect("a verdict"),
                code: text(&line["code"]).expect("a code"),
                object: text(&line["object"]),
                finding: text(&line["finding"]).expect("a finding"),
                note: text(&line["note"]),
                fix: line["fix"]
                    .as_array()
                    .expect("a list of steps")
                    .iter()
                    .map(|fix| (text(&fix["kind"]).unwrap(), text(&fix["text"]).unwrap()))
                    .collect(),
            })
            .collect(),
    }
}

/// Does what the report prints: each statement by itself, as a superuser.
pub fn mend(server: &Server, checked: &Checked) {
    for statement in checked.lines.iter().flat_map(Line::sql) {
        // One at a time: ALTER SYSTEM and ROLLBACK PREPARED are refused in a transaction.
        server.sql(statement);
    }
}

impl Checked {
    /// Verdict and code of each line that is no pass.
    pub fn not_passed(&self) -> Vec<String> {
        self.lines
            .iter()
            .filter(|line| line.verdict != "pass")
            .map(|line| format!("{} {}", line.verdict, line.code))
            .collect()
    }

    pub fn not_passed_sorted(&self) -> Vec<String> {
        let mut lines = self.not_passed();
        lines.sort();
        lines
    }

    /// The one line with this code.
    #[track_caller]
    pub fn one(&self, code: &str) -> &Line {
        let all = self.all(code);
        assert_eq!(all.len(), 1, "lines with code {code} in\n{self}");
        all[0]
    }

    /// What the lines with this code are about.
    pub fn objects(&self, code: &str) -> Vec<&str> {
        let lines = self.all(code).into_iter();
        lines.filter_map(|line| line.object.as_deref()).collect()
    }

    pub fn all(&self, code: &str) -> Vec<&Line> {
        self.lines.iter().filter(|line| line.code == code).collect()
    }

    /// The line with this code that is about `object`.
    #[track_caller]
    pub fn of(&self, code: &str, object: &str) -> &Line {
        self.lines
            .iter()
            .find(|line| line.code == code && line.object.as_deref() == Some(object))
            .unwrap_or_else(|| panic!("no line {code} about {object} in\n{self}"))
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "code {}, {}", self.code, self.stderr)?;
        for line in &self.lines {
            writeln!(f, "{line:?}")?;
        }
        Ok(())
    }
}
