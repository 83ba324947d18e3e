//! `stdout` has no options.

use crate::error::{Failure, Result};
use crate::sink::url::Options;

pub fn check(place: &str, options: Options) -> Result<()> {
    options.finish("stdout", &[])?;
    match place {
        "stdout" | "stdout:" | "stdout://" | "-" => Ok(()),
        _ => Err(Failure::usage(format!("unknown sink {place:?}")).hint("write stdout")),
    }
}
