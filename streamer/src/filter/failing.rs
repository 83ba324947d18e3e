//! What goes wrong when a condition is evaluated on a row.

use crate::datum::Malformed;

/// Why a condition has no value on a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It needs a column that this image of the row does not have.
    Unknown(usize),
    /// It raised an error, as it would on the server.
    Failed(Failed),
    /// A column's bytes do not hold.
    Malformed(usize, Malformed),
}

/// An error that the server would raise too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub message: String,
    pub detail: Option<String>,
    pub sqlstate: &'static str,
}

impl Failed {
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Failed {
            message: message.into(),
            detail: None,
            sqlstate,
        }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// `numeric_value_out_of_range`
    pub fn out_of_range(message: impl Into<String>) -> Self {
        Self::new("22003", message)
    }

    pub fn division_by_zero() -> Self {
        Self::new("22012", "division by zero")
    }

    /// `datetime_field_overflow`
    pub fn datetime(message: impl Into<String>) -> Self {
        Self::new("22008", message)
    }

    /// `invalid_text_representation`
    pub fn invalid(type_name: &str, text: &str) -> Self {
        Self::new(
            "22P02",
            format!("invalid input syntax for type {type_name}: \"{text}\""),
        )
    }
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Self {
        Stop::Failed(failed)
    }
}
