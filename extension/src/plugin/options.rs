//! The options of START_REPLICATION and of the SQL functions that read a slot.
//!
//! Their names and values are documented in `docs/plugin-options.md`.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use walferry_protocol::{SUPPORTED_VERSIONS, VersionRange};

use super::failure::{Failure, Outcome};
use super::filter::{self, ConditionsMode, PrefixFilter, TableFilter};
use super::json_options::JsonOptions;
use super::text::{Converter, Invalid};

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Frames of `walferry-protocol`.
    #[default]
    Native,
    /// One JSON object a change, in the shape of wal2json's format-version 2.
    Json,
    /// Nothing at all: what decoding costs without a plugin.
    None,
}

/// Which changes are decoded, by where they were first made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    #[default]
    Any,
    /// Only what was made here, not what replication brought.
    None,
    /// All but these (`filter-origins` of wal2json).
    Without(Vec<u16>),
}

impl Origins {
    /// Whether a change of this origin (0: made here) is left out.
    pub fn leaves_out(&self, origin: u16) -> bool {
        match self {
            Origins::Any => false,
            Origins::None => origin != 0,
            Origins::Without(left_out) => origin != 0 && left_out.contains(&origin),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    pub format: Format,
    pub tables: TableFilter,
    pub messages: bool,
    pub prefixes: PrefixFilter,
    pub origins: Origins,
    pub streaming: bool,
    pub two_phase: bool,
    /// In bytes.
    pub frame_size: usize,
    pub invalid_text: Invalid,
    pub json: JsonOptions,
}

const DEFAULT_FRAME_SIZE: usize = 64 << 10;
/// Bytes; the upper bound keeps a frame far from what a CopyData message may
/// hold, the lower one from a write a row.
const FRAME_SIZES: std::ops::RangeInclusive<usize> = (4 << 10)..=(16 << 20);

/// The names of the options of every format, for the message that refuses
/// another one.
const NAMES: [&str; 15] = [
    "proto_min",
    "proto_max",
    "format",
    "tables",
    "exclude_tables",
    "columns",
    "conditions",
    "conditions_mode",
    "messages",
    "message_prefixes",
    "origin",
    "streaming",
    "two_phase",
    "frame_size",
    "invalid_text",
];

impl Default for Options {
    fn default() -> Self {
        Options {
            format: Format::Native,
            tables: TableFilter::default(),
            messages: true,
            prefixes: PrefixFilter::default(),
            origins: Origins::Any,
            streaming: false,
            two_phase: false,
            frame_size: DEFAULT_FRAME_SIZE,
            invalid_text: Invalid::Refuse,
            json: JsonOptions::default(),
        }
    }
}

/// One option as it was given: `value` is None where it came without one.
pub struct Given {
    pub name: String,
    pub value: Option<String>,
}

impl Given {
    /// The value, which this option cannot do without.
    pub fn text(&self) -> Outcome<&str> {
        self.value
            .as_deref()
            .ok_or_else(|| Failure::option(format!("option {} needs a value", self.name)))
    }

    /// A boolean as PostgreSQL reads it; without a value, true.
    pub fn boolean(&self) -> Outcome<bool> {
        let Some(value) = &self.value else {
            return Ok(true);
        };
        match value.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" | "t" | "y" => Ok(true),
            "off" | "false" | "no" | "0" | "f" | "n" => Ok(false),
            _ => Err(self.refuse("Valid values are on and off.")),
        }
    }

    /// Refuses the value.
    pub fn refuse(&self, detail: impl Into<String>) -> Failure {
        let value = self.value.as_deref().unwrap_or_default();
        Failure::option(format!(
            "invalid value for option {}: \"{value}\"",
            self.name
        ))
        .detail(detail)
    }

    fn version(&self) -> Outcome<u8> {
        self.text()?
            .parse()
            .map_err(|_| self.refuse("A protocol version is a number."))
    }

    /// Bytes: a number, or one with the unit kB or MB.
    fn bytes(&self) -> Outcome<usize> {
        let text = self.text()?.trim();
        let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let factor = match unit.trim() {
            "" | "B" => 1,
            "kB" | "KB" | "kb" => 1 << 10,
            "MB" | "mb" => 1 << 20,
            _ => return Err(self.refuse("Valid units are B, kB and MB.")),
        };
        digits
            .parse::<usize>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .ok_or_else(|| self.refuse("Expected a number of bytes, such as 65536 or 64kB."))
    }
}

/// Reads the options the server was given.
///
/// # Safety
/// `ctx` is the context whose startup callback is running.
pub unsafe fn given(
    ctx: *const pg_sys::LogicalDecodingContext,
    converter: Converter,
) -> Outcome<Vec<Given>> {
    let mut all = Vec::new();
    // SAFETY: as the caller promises; the list holds DefElem nodes whose
    // argument is a string or missing, as the server checks itself.
    unsafe {
        let list = (*ctx).output_plugin_options;
        if list.is_null() {
            return Ok(all);
        }
        let cells = std::slice::from_raw_parts((*list).elements, (*list).length as usize);
        for cell in cells {
            let element = cell.ptr_value.cast::<pg_sys::DefElem>();
            let name = converter.c_string((*element).defname, "an option's name")?;
            let value = if (*element).arg.is_null() {
                None
            } else {
                let text = pg_sys::defGetString(element);
                Some(text_of_option(converter, CStr::from_ptr(text), &name)?)
            };
            all.push(Given { name, value });
        }
    }
    Ok(all)
}

fn text_of_option(converter: Converter, value: &CStr, name: &str) -> Outcome<String> {
    let place = || format!("the value of option {name}");
    Ok(converter.to_utf8(value.to_bytes(), place)?.into_owned())
}

impl Options {
    pub fn read(all: &[Given]) -> Outcome<Options> {
        let mut options = Options::default();
        let mut versions = SUPPORTED_VERSIONS;
        // The format decides which names are known, so it is read first.
        for option in all.iter().filter(|option| option.name == "format") {
            options.format = match option.text()? {
                "native" => Format::Native,
                "json" => Format::Json,
                "none" => Format::None,
                _ => return Err(option.refuse("Valid values are native, json and none.")),
            };
        }
        for option in all {
            match option.name.as_str() {
                "format" => {}
                "proto_min" => versions.min = option.version()?,
                "proto_max" => versions.max = option.version()?,
                "tables" => {
                    let patterns = filter::table_patterns("tables", option.text()?)?;
                    options
                        .tables
                        .include
                        .get_or_insert_default()
                        .extend(patterns);
                }
                "exclude_tables" => {
                    let patterns = filter::table_patterns("exclude_tables", option.text()?)?;
                    options.tables.exclude.extend(patterns);
                }
                "columns" => {
                    let rules = filter::column_rules("columns", option.text()?)?;
                    options.tables.columns.extend(rules);
                }
                // One to an option, which may come again: a condition may hold
                // any character.
                "conditions" => {
                    let rule = filter::condition_rule("conditions", option.text()?)?;
                    options.tables.conditions.push(rule);
                }
                "conditions_mode" => {
                    options.tables.conditions_mode = match option.text()? {
                        "exact" => ConditionsMode::Exact,
                        "thin" => ConditionsMode::Thin,
                        _ => return Err(option.refuse("Valid values are exact and thin.")),
                    }
                }
                "messages" => options.messages = option.boolean()?,
                "message_prefixes" => {
                    let globs = filter::globs("message_prefixes", option.text()?)?;
                    options
                        .prefixes
                        .include
                        .get_or_insert_default()
                        .extend(globs);
                }
                "origin" => {
                    options.origins = match option.text()? {
                        "any" => Origins::Any,
                        "none" => Origins::None,
                        _ => return Err(option.refuse("Valid values are any and none.")),
                    }
                }
                "streaming" => options.streaming = option.boolean()?,
                "two_phase" => options.two_phase = option.boolean()?,
                "frame_size" => {
                    options.frame_size = option.bytes()?;
                    if !FRAME_SIZES.contains(&options.frame_size) {
                        return Err(option.refuse(format!(
                            "It is from {} to {} bytes.",
                            FRAME_SIZES.start(),
                            FRAME_SIZES.end()
                        )));
                    }
                }
                "invalid_text" => {
                    options.invalid_text = match option.text()? {
                        "refuse" => Invalid::Refuse,
                        "escape" => Invalid::Escape,
                        _ => return Err(option.refuse("Valid values are refuse and escape.")),
                    }
                }
                _ if options.format == Format::Json && options.read_wal2json(option)? => {}
                _ => return Err(unknown(option, options.format)),
            }
        }
        agree(versions)?;
        if options.format == Format::Json {
            options.check_json()?;
        }
        Ok(options)
    }
}

fn unknown(option: &Given, format: Format) -> Failure {
    let known = NAMES
        .iter()
        .filter(|name| !name.contains('-'))
        .copied()
        .collect::<Vec<_>>();
    let failure = Failure::option(format!("unknown option \"{}\"", option.name));
    match format {
        Format::Json => failure.detail(format!(
            "The options are {}, and those of wal2json's format-version 2.",
            known.join(", ")
        )),
        _ => failure
            .detail(format!("The options are {}.", known.join(", ")))
            .hint("wal2json's own options are understood together with the option format 'json'."),
    }
}

/// Settles the protocol version with a reader of the versions `reader`.
fn agree(reader: VersionRange) -> Outcome<u8> {
    SUPPORTED_VERSIONS.agree(reader).ok_or_else(|| {
        Failure::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "no protocol version in common with the reader",
        )
        .detail(format!(
            "This server's walferry {} speaks version {SUPPORTED_VERSIONS}, the reader {reader}.",
            env!("CARGO_PKG_VERSION")
        ))
        .hint("Install the same release of walferry on both sides.")
    })
}
