//! The sink: a URL, or the same as a mapping.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_saphyr::Spanned;

use super::document::{Position, Value};
use super::report::Reader;
use super::setting::{Bytes, choice};
use crate::sink::Target;

/// A sink as it is written.
#[derive(Debug)]
pub enum RawSink {
    Url(Value<String>),
    Kind(Box<RawSinkKind>, Position),
}

/// A sink as a mapping.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "Sink")]
pub struct RawSinkKind {
    /// JSON lines in a file, or in a folder of files.
    file: Option<RawFileSink>,
}

/// The file sink, as it is written.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "FileSink")]
pub struct RawFileSink {
    /// An absolute path; a folder where it ends in a slash.
    path: Option<Value<PathBuf>>,
    /// In a folder: a new file after the commit that passes this size. Default: 1GB.
    rotate_size: Option<Value<Bytes>>,
    /// In a folder: a new file after the first commit past this age.
    rotate_every: Option<Value<Duration>>,
    /// Default: none.
    compress: Option<Value<Compression>>,
    /// Add to what is there already and the state knows nothing of. Default: false.
    append: Option<Value<bool>>,
}

choice! {
    /// How files are compressed.
    Compression ("none or zstd") { None = "none", Zstd = "zstd" }
}

/// Before the place of a URL is known.
enum Body {
    Url(String),
    Kind(Box<RawSinkKind>),
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BodyVisitor;
        impl<'de> Visitor<'de> for BodyVisitor {
            type Value = Body;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sink's URL, or a mapping such as file: {path: …}")
            }
            fn visit_str<E>(self, text: &str) -> Result<Body, E> {
                Ok(Body::Url(text.to_owned()))
            }
            // `sink: null` names the sink null, in a language that has a word for nothing.
            fn visit_unit<E>(self) -> Result<Body, E> {
                Ok(Body::Url("null".into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Body, A::Error> {
                RawSinkKind::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(|kind| Body::Kind(Box::new(kind)))
            }
        }
        deserializer.deserialize_any(BodyVisitor)
    }
}

impl<'de> Deserialize<'de> for RawSink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Body>::deserialize(deserializer)?;
        let at = spanned.referenced.into();
        Ok(match spanned.value {
            Body::Url(text) => RawSink::Url(Value::new(text, at)),
            Body::Kind(kind) => RawSink::Kind(kind, at),
        })
    }
}

/// A sink where an option would take `null` for no value.
pub(super) fn even_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<RawSink>, D::Error> {
    RawSink::deserialize(deserializer).map(Some)
}

impl JsonSchema for RawSink {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SinkOrUrl".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kind = generator.subschema_for::<RawSinkKind>();
        json_schema!({ "anyOf": [{ "type": ["string", "null"] }, kind] })
    }
}

/// What would end a URL's path.
const IN_PATH: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');

impl RawSink {
    pub(super) fn validate(&self, reader: &mut Reader<'_>) -> Option<Target> {
        let (url, at) = match self {
            RawSink::Url(value) => (reader.get("sink", value)?, value.at),
            RawSink::Kind(kind, at) => {
                let Some(file) = &kind.file else {
                    reader.error(
                        *at,
                        "sink: no sink is named",
                        Some("write file: {path: /dir/name.jsonl}, or a URL"),
                    );
                    return None;
                };
                (file.url(reader, *at)?, *at)
            }
        };
        match Target::parse(&url) {
            Ok(target) => Some(target),
            Err(failure) => {
                reader.failure(at, "sink", &failure);
                None
            }
        }
    }
}

impl RawFileSink {
    /// The same as a URL, which has the only reader of these settings.
    fn url(&self, reader: &mut Reader<'_>, at: Position) -> Option<String> {
        let errors = reader.report.errors.len();
        let path = reader.optional("path", self.path.as_ref());
        let rotate_size = reader.optional("rotate-size", self.rotate_size.as_ref());
        let rotate_every = reader.optional("rotate-every", self.rotate_every.as_ref());
        let compress = reader.optional("compress", self.compress.as_ref());
        let append = reader.optional("append", self.append.as_ref());
        if self.path.is_none() {
            reader.error(
                at,
                "sink: the file has no path",
                Some("add path: /dir/name.jsonl"),
            );
        }
        if reader.report.errors.len() > errors {
            return None;
        }
        let path = path?;
        let mut url = format!(
            "file://{}",
            utf8_percent_encode(&path.to_string_lossy(), IN_PATH)
        );
        let options = [
            (
                "rotate-size",
                rotate_size.map(|Bytes(bytes)| format!("{bytes}B")),
            ),
            (
                "rotate-every",
                rotate_every.map(|every| format!("{}ms", every.as_millis())),
            ),
            (
                "compress",
                compress.map(|compression| compression.to_string()),
            ),
            ("append", append.map(|append| append.to_string())),
        ];
        let given = options
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        for (index, (name, value)) in given.enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(&format!("{name}={value}"));
        }
        Some(url)
    }
}
