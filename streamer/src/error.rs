//! One shape for everything that can go wrong: what happened, the detail, the
//! hint that mends it; and what follows from it.

use std::fmt;

/// What a failure means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Bad usage or configuration: exit code 2.
    Usage,
    /// Trying again cannot help: the run stops with exit code 1.
    Definite,
    /// Network, restart, failover: reconnect with backoff.
    Transient,
    /// `check` found something that stops replication: exit code 3.
    Unready,
}

/// A failure, in the shape of PostgreSQL's own reports.
#[derive(Clone, Debug)]
pub struct Failure {
    pub class: Class,
    /// One line in lower case that says what happened.
    pub message: String,
    pub detail: Option<String>,
    /// The statement or setting that mends it.
    pub hint: Option<String>,
    /// The server's five-character code, where there is one.
    pub sqlstate: Option<String>,
}

pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Failure {
            class,
            message: message.into(),
            detail: None,
            hint: None,
            sqlstate: None,
        }
    }
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Class::Usage, message)
    }
    pub fn definite(message: impl Into<String>) -> Self {
        Self::new(Class::Definite, message)
    }
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(Class::Transient, message)
    }
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    pub fn sqlstate(mut self, code: impl Into<String>) -> Self {
        self.sqlstate = Some(code.into());
        self
    }
    /// The process exit code this failure ends in.
    pub fn exit_code(&self) -> u8 {
        match self.class {
            Class::Usage => 2,
            Class::Definite | Class::Transient => 1,
            Class::Unready => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(code) = &self.sqlstate {
            write!(f, " (SQLSTATE {code})")?;
        }
        if let Some(detail) = &self.detail {
            write!(f, "\n  detail: {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
