//! What all sink URLs share: `place?option=value&option=value`.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::error::{Failure, Result};

/// The options of a sink's URL, each to be taken once.
#[derive(Debug, Default)]
pub struct Options(Vec<(String, String)>);

/// Splits a URL in its place and its options.
pub fn split(text: &str) -> Result<(&str, Options)> {
    let Some((place, query)) = text.split_once('?') else {
        return Ok((text, Options::default()));
    };
    let mut options = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        if options.iter().any(|(seen, _)| seen == name) {
            return Err(Failure::usage(format!(
                "sink option {name:?} is given twice"
            )));
        }
        options.push((name.to_owned(), decode(value)?));
    }
    Ok((place, Options(options)))
}

/// Undoes percent-encoding.
pub fn decode(text: &str) -> Result<String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| Failure::usage(format!("{text:?} is not percent-encoded UTF-8")))
}

impl Options {
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(seen, _)| seen == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Refuses what nobody took.
    pub fn finish(self, sink: &str, known: &[&str]) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(
                Failure::usage(format!("sink {sink} has no option {name:?}")).hint(
                    if known.is_empty() {
                        "it has none".to_owned()
                    } else {
                        format!("it has {}", known.join(", "))
                    },
                ),
            ),
        }
    }

    pub fn take_flag(&mut self, name: &str) -> Result<bool> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Failure::usage(format!(
                "{name}={other} is not true or false"
            ))),
        }
    }

    pub fn take_size(&mut self, name: &str) -> Result<Option<u64>> {
        self.take(name).map(|text| size(name, &text)).transpose()
    }

    pub fn take_duration(&mut self, name: &str) -> Result<Option<Duration>> {
        self.take(name)
            .map(|text| duration(name, &text))
            .transpose()
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(digits)
}

/// `100MB`, with PostgreSQL's units (powers of 1024).
pub(crate) fn size(name: &str, text: &str) -> Result<u64> {
    let (number, unit) = split_unit(text);
    let factor: Option<u64> = match unit {
        "" | "B" => Some(1),
        "kB" => Some(1 << 10),
        "MB" => Some(1 << 20),
        "GB" => Some(1 << 30),
        "TB" => Some(1 << 40),
        _ => None,
    };
    factor
        .zip(number.parse::<u64>().ok())
        .and_then(|(factor, number)| number.checked_mul(factor))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| {
            Failure::usage(format!("{name}={text} is not a size"))
                .hint("write a number and a unit of B, kB, MB, GB or TB, for example 100MB")
        })
}

/// `90s`, with PostgreSQL's units.
pub(crate) fn duration(name: &str, text: &str) -> Result<Duration> {
    let (number, unit) = split_unit(text);
    let factor: Option<u64> = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1_000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    factor
        .zip(number.parse::<u64>().ok())
        .and_then(|(factor, number)| number.checked_mul(factor))
        .filter(|milliseconds| *milliseconds > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            Failure::usage(format!("{name}={text} is not a duration"))
                .hint("write a number and a unit of ms, s, min, h or d, for example 15min")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Target;

    #[test]
    fn sizes_and_durations_have_postgresqls_units() {
        assert_eq!(size("x", "3MB").unwrap(), 3 << 20);
        assert_eq!(size("x", "17").unwrap(), 17);
        assert!(size("x", "0").is_err());
        assert!(size("x", "3mb").is_err());
        assert!(size("x", "99999999999TB").is_err());
        assert_eq!(duration("x", "2min").unwrap(), Duration::from_secs(120));
        assert!(duration("x", "2 min").is_err());
    }

    #[test]
    fn unknown_sinks_and_options_are_refused_by_name() {
        for (text, part) in [
            ("file:///x?rotate-sise=3MB", "rotate-sise"),
            ("stdout?x=1", "\"x\""),
            ("null?x", "\"x\""),
            ("ftp://x", "ftp"),
            ("kafka://x", "kafka"),
            ("file://host/x", "host"),
            ("file:x", "file:x"),
            ("file:///x?append=perhaps", "perhaps"),
            ("file:///x?append=true&append=true", "twice"),
        ] {
            let failure = Target::parse(text).unwrap_err();
            assert!(failure.message.contains(part), "{text}: {failure}");
            assert_eq!(failure.exit_code(), 2);
        }
    }
}
