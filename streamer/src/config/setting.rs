//! What a scalar of a configuration file can be read as.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use schemars::{Schema, json_schema};
use walferry_protocol::Lsn;

use crate::cli::{BinaryForm, DocumentForm, LogFormat, MissingIdentity, Mode, NumberForm, Plugin};
use crate::sink;
use crate::source::secret::Secret;

/// A kind of scalar.
pub trait Setting: Sized {
    /// What it must be, as in "expected …".
    const EXPECTED: &'static str;
    /// Its text may be shown in a message.
    const PUBLIC: bool = true;

    /// `None` when `text` is not one.
    fn read(text: &str) -> Option<Self>;

    /// The JSON Schema of how it may be written.
    fn schema() -> Schema;
}

/// A text that will be filled in when the file is read.
const PLACEHOLDER: &str = r"\$\{";

fn number_schema(minimum: u64) -> Schema {
    json_schema!({ "anyOf": [
        { "type": "integer", "minimum": minimum },
        { "type": "string", "pattern": format!("^-?[0-9][0-9_]*$|{PLACEHOLDER}") },
    ] })
}

/// Digits with underscores between them, as in 5_000.
fn digits(text: &str) -> Option<String> {
    let inside = !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
    inside.then(|| text.replace('_', ""))
}

macro_rules! number {
    ($($type:ty, $minimum:literal, $expected:literal;)*) => {$(
        impl Setting for $type {
            const EXPECTED: &'static str = $expected;
            fn read(text: &str) -> Option<Self> {
                digits(text)?.parse().ok()
            }
            fn schema() -> Schema {
                number_schema($minimum)
            }
        }
    )*};
}

number! {
    NonZeroU16, 1, "a number from 1 to 65535";
    u32, 0, "a whole number";
    NonZeroU32, 1, "a whole number above 0";
    u64, 0, "a whole number";
    i64, 0, "a whole number";
    NonZeroU64, 1, "a whole number above 0";
}

/// Threads of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers(pub u16);

impl Setting for Workers {
    const EXPECTED: &'static str = "a number from 1 to 256";
    fn read(text: &str) -> Option<Self> {
        let number: u16 = digits(text)?.parse().ok()?;
        (1..=256).contains(&number).then_some(Workers(number))
    }
    fn schema() -> Schema {
        number_schema(1)
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }
    fn schema() -> Schema {
        json_schema!({ "anyOf": [
            { "type": "boolean" },
            { "type": "string", "pattern": format!("(?i)^(true|false|yes|no|on|off)$|{PLACEHOLDER}") },
        ] })
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "a text that is not empty";
    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }
    fn schema() -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path";
    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| PathBuf::from(text))
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl Setting for Secret {
    const EXPECTED: &'static str = "a text";
    const PUBLIC: bool = false;
    fn read(text: &str) -> Option<Self> {
        Some(Secret::new(text))
    }
    fn schema() -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
}

impl Setting for Lsn {
    const EXPECTED: &'static str = "a log position such as 0/3261270";
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^[0-9A-Fa-f]{{1,8}}/[0-9A-Fa-f]{{1,8}}$|{PLACEHOLDER}") })
    }
}

/// A time, read as in flags and sink URLs.
impl Setting for Duration {
    const EXPECTED: &'static str = "a time with a unit of ms, s, min, h or d, such as 10s";
    fn read(text: &str) -> Option<Self> {
        sink::url::duration("time", &digits(text)?).ok()
    }
    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "pattern": format!("^[0-9][0-9_]*(ms|s|min|h|d)?$|{PLACEHOLDER}") })
    }
}

/// A number of bytes, read as in flags and sink URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Setting for Bytes {
    const EXPECTED: &'static str = "a size with a unit of B, kB, MB, GB or TB, such as 256MB";
    fn read(text: &str) -> Option<Self> {
        sink::url::size("size", &digits(text)?).ok().map(Bytes)
    }
    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "pattern": format!("^[0-9][0-9_]*(B|kB|MB|GB|TB)?$|{PLACEHOLDER}") })
    }
}

/// The values of flags are words of files too.
macro_rules! words {
    ($($type:ty, $expected:literal;)*) => {$(
        impl Setting for $type {
            const EXPECTED: &'static str = $expected;
            fn read(text: &str) -> Option<Self> {
                <$type as ValueEnum>::from_str(text, true).ok()
            }
            fn schema() -> Schema {
                let words: Vec<String> = <$type as ValueEnum>::value_variants()
                    .iter()
                    .filter_map(ValueEnum::to_possible_value)
                    .map(|value| value.get_name().to_owned())
                    .collect();
                json_schema!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": PLACEHOLDER }] })
            }
        }
    )*};
}

words! {
    Plugin, "auto, walferry, wal2json or pgoutput";
    Mode, "full, realtime, snapshot or delta-snapshot";
    MissingIdentity, "refuse or accept";
    NumberForm, "number or string";
    DocumentForm, "embedded or string";
    BinaryForm, "base64 or hex";
    LogFormat, "text or json";
}

/// Defines settings that are one of a few words, in any case.
macro_rules! choice {
    ($($(#[$meta:meta])* $name:ident ($expected:literal) { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $crate::config::setting::Setting for $name {
            const EXPECTED: &'static str = $expected;
            fn read(text: &str) -> Option<Self> {
                $(if text.eq_ignore_ascii_case($word) { return Some(Self::$variant); })+
                None
            }
            fn schema() -> schemars::Schema {
                schemars::json_schema!({ "anyOf": [
                    { "enum": [$($word),+] },
                    { "type": "string", "pattern": concat!("(?i)^(", $($word, "|",)+ r"\$\{.*)$") },
                ] })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
    )*};
}
pub(crate) use choice;
