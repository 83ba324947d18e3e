//! YAML as walferry reads it: every value keeps its place in the file, and
//! every message names places and keys, never values it was not asked to read.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};

use super::nearest::nearest;
use super::setting::Setting;

/// Line and column, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u64,
    pub column: u64,
}

impl From<serde_saphyr::Location> for Position {
    fn from(location: serde_saphyr::Location) -> Self {
        Position {
            line: location.line(),
            column: location.column(),
        }
    }
}

/// A scalar as it was written, to be read as a `T` once variables are filled
/// in ([`Reader::get`](super::Reader::get)). `Debug` shows only its place: it
/// may be a password.
pub struct Value<T> {
    pub(super) text: String,
    pub(super) at: Position,
    read_as: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value at {}:{}", self.at.line, self.at.column)
    }
}

impl<T> Value<T> {
    pub(super) fn new(text: String, at: Position) -> Self {
        Value {
            text,
            at,
            read_as: PhantomData,
        }
    }
}

impl<'de, T> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Value::new(spanned.value, spanned.referenced.into()))
    }
}

impl<T: Setting> JsonSchema for Value<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Value".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// One scalar, or a list of them.
#[derive(Debug)]
pub struct List<T>(pub Vec<Value<T>>);

/// What a [`List`] and the tables of a filter meet, before the place of a
/// single scalar is known.
enum Scalars<T> {
    One(String),
    Many(Vec<T>),
}

struct ScalarsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ScalarsVisitor<T> {
    type Value = Scalars<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a list of names (one that looks like a number needs quotes)")
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalars::One(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Scalars::Many(all))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Scalars<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarsVisitor(PhantomData))
    }
}

impl<'de, T> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Scalars<Value<T>>>::deserialize(deserializer)?;
        Ok(List(match spanned.value {
            Scalars::One(text) => vec![Value::new(text, spanned.referenced.into())],
            Scalars::Many(all) => all,
        }))
    }
}

impl<T: Setting> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "List".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Value<T>>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A mapping whose keys are the user's own names, in the file's order. A list
/// of names, or of such mappings, says the same.
#[derive(Debug)]
pub struct Entries<T>(pub Vec<(Value<String>, Option<T>)>);

struct EntriesVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
    type Value = Entries<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping from names, or a list of names")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(key) = map.next_key()? {
            all.push((key, map.next_value()?));
        }
        Ok(Entries(all))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Item<T>>>()? {
            match item.value {
                Item::Name(text) => {
                    all.push((Value::new(text, item.referenced.into()), None));
                }
                Item::Entries(entries) => all.extend(entries.0),
            }
        }
        Ok(Entries(all))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntriesVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("EntriesOf{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let entry = generator.subschema_for::<Option<T>>();
        let mapping = json_schema!({ "type": "object", "additionalProperties": entry });
        json_schema!({ "anyOf": [
            mapping,
            { "type": "array", "items": { "anyOf": [{ "type": "string" }, mapping] } },
        ] })
    }
}

enum Item<T> {
    Name(String),
    Entries(Entries<T>),
}

struct ItemVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ItemVisitor<T> {
    type Value = Item<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name (one that looks like a number needs quotes) or a mapping from names")
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Item::Name(text.to_owned()))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        EntriesVisitor(PhantomData)
            .visit_map(map)
            .map(Item::Entries)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor(PhantomData))
    }
}

/// One mapping, or a list of them.
#[derive(Debug)]
pub struct OneOrMany<T>(pub Vec<T>);

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list of mappings")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(OneOrMany(all))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// Why a document could not be read. Holds nothing of the document but a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub at: Option<Position>,
    pub message: String,
    pub hint: Option<String>,
    /// The key that is not known, where that is the mistake.
    pub unknown_key: Option<String>,
}

/// Reads one YAML document.
///
/// # Errors
/// The first mistake in syntax or structure. The parser's own rendering is not
/// used: it prints the lines around a mistake, and a password may stand there.
pub fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Mistake> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| mistake(&error))
}

/// The keys at the top of a document, whatever their values.
pub fn top_keys(text: &str) -> Result<Vec<String>, Mistake> {
    struct Keys(Vec<String>);
    impl<'de> Deserialize<'de> for Keys {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct KeysVisitor;
            impl<'de> Visitor<'de> for KeysVisitor {
                type Value = Keys;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a mapping: keys, each with a value")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                    let mut keys = Vec::new();
                    while let Some(key) = map.next_key::<String>()? {
                        map.next_value::<de::IgnoredAny>()?;
                        keys.push(key);
                    }
                    Ok(Keys(keys))
                }
            }
            deserializer.deserialize_any(KeysVisitor)
        }
    }
    parse::<Keys>(text).map(|keys| keys.0)
}

fn mistake(error: &Error) -> Mistake {
    let error = error.without_snippet();
    let unknown_key = match error {
        Error::SerdeUnknownField { field, .. } => Some(field.clone()),
        _ => None,
    };
    let (message, hint): (String, Option<String>) = match error {
        Error::AliasError { error: inner, .. } => {
            let inner = mistake(inner);
            (inner.message, inner.hint)
        }
        Error::SerdeUnknownField {
            field, expected, ..
        } => (
            format!("unknown key {field:?}"),
            Some(nearest(field, expected)),
        ),
        Error::SerdeUnknownVariant { expected, .. } => (
            "unknown kind".into(),
            Some(format!("it is one of {}", expected.join(", "))),
        ),
        Error::SerdeMissingField { field, .. } => (format!("the key {field:?} is missing"), None),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            (format!("the key {key:?} is given twice"), None)
        }
        Error::DuplicateMappingKey { key: None, .. } => ("a key is given twice".into(), None),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            (format!("expected {}", plain(expected)), None)
        }
        Error::Unexpected { expected, .. } => (
            format!("expected {}", plain(expected)),
            Some("a placeholder in braces or angle brackets is to be filled in; a text that begins with { or [ needs quotes".into()),
        ),
        Error::NullIntoString { .. } => (
            "there is no value here".into(),
            Some("write one, or leave the key out".into()),
        ),
        Error::Eof { .. } => ("the file ends too early, or is empty".into(), None),
        Error::MultipleDocuments { .. } => (
            "there is more than one document in the file".into(),
            Some("leave out what follows the line ---".into()),
        ),
        Error::UnknownAnchor { .. } => (
            "an alias stands for nothing".into(),
            Some("a text that begins with * needs quotes".into()),
        ),
        Error::InvalidUtf8Input => ("the file is not UTF-8".into(), None),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => (
            "the file is nested too deeply or is too large once its aliases are followed".into(),
            None,
        ),
        _ => (
            "this is not valid YAML".into(),
            Some("look at the indentation and the quotes here and on the line above; a text with \": \" or \" #\" in it, or that begins with one of @ ` % & * ! | > { [ ' \", needs quotes".into()),
        ),
    };
    Mistake {
        at: error.location().map(Position::from),
        message,
        hint,
        unknown_key,
    }
}

/// What serde calls things, in a user's words.
fn plain(expected: &str) -> &str {
    if expected.starts_with("struct") || expected == "mapping" || expected.contains("mapping start")
    {
        "a mapping: keys, each with a value"
    } else if expected.contains("string") {
        "one plain value"
    } else {
        expected
    }
}
