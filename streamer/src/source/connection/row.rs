//! Rows of a simple query's result.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::malformed;
use crate::error::Result;

/// A row of a simple query's result, all values as text.
#[derive(Clone, Debug)]
pub struct Row {
    pub(super) names: Arc<[String]>,
    pub(super) values: Vec<Option<String>>,
}

impl Row {
    /// The value of a column; `None` when it is null or there is no such column.
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self.names.iter().position(|known| known == name)?;
        self.values[index].as_deref()
    }

    /// The value of the column at `index`; `None` when null or out of range.
    pub fn at(&self, index: usize) -> Option<&str> {
        self.values.get(index)?.as_deref()
    }

    /// A column that PostgreSQL prints as `t` or `f`; null is false.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("t")
    }

    /// The parsed value of a column, `None` when null, absent or something else.
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }
}
/// RowDescription: count, then name and 18 bytes of types a column.
pub(super) fn column_names(mut body: &[u8]) -> Result<Arc<[String]>> {
    let broken = || malformed("row description");
    let count = body.try_get_u16().map_err(|_| broken())?;
    (0..count)
        .map(|_| {
            let end = body.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
            let name = String::from_utf8_lossy(&body[..end]).into_owned();
            body = body.get(end + 1 + 18..).ok_or_else(broken)?;
            Ok(name)
        })
        .collect()
}

/// DataRow: count, then length (-1: null) and bytes a value.
pub(super) fn row_values(body: &Bytes) -> Result<Vec<Option<String>>> {
    let broken = || malformed("row");
    let mut body = body.as_ref();
    let count = body.try_get_u16().map_err(|_| broken())?;
    (0..count)
        .map(|_| {
            let length = body.try_get_i32().map_err(|_| broken())?;
            let Ok(length) = usize::try_from(length) else {
                return Ok(None);
            };
            let (value, rest) = body.split_at_checked(length).ok_or_else(broken)?;
            body = rest;
            Ok(Some(String::from_utf8_lossy(value).into_owned()))
        })
        .collect()
}
