//! The JSON Schema of configuration files, for editors and for this module's
//! own questions about keys.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

use super::Kind;
use super::connection::RawConnection;
use super::extractor::RawExtractor;
use super::filter::RawFilter;
use super::job::RawJob;

/// The JSON Schema (draft 2020-12) of a kind of file.
pub fn schema(kind: Kind) -> Value {
    fn of<T: JsonSchema>() -> Value {
        SchemaGenerator::default()
            .into_root_schema_for::<T>()
            .into()
    }
    match kind {
        Kind::Job => of::<RawJob>(),
        Kind::Connection => of::<RawConnection>(),
        Kind::Filter => of::<RawFilter>(),
        Kind::Extractor => of::<RawExtractor>(),
    }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

/// The keys at the top of a kind of file.
pub(super) fn keys(kind: Kind) -> Vec<String> {
    properties(&schema(kind))
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
}

/// A section of the one file that has this key, for one that was written in
/// the wrong place.
pub(super) fn section_of(key: &str) -> Option<&'static str> {
    [
        ("connection", Kind::Connection),
        ("filter", Kind::Filter),
        ("extractor", Kind::Extractor),
    ]
    .into_iter()
    .find(|(_, kind)| keys(*kind).iter().any(|known| known == key))
    .map(|(section, _)| section)
}

/// Every key with its description, as `section.key`; for the documentation.
pub fn described_keys(kind: Kind) -> Vec<(String, String)> {
    let root = schema(kind);
    let mut found = Vec::new();
    walk(&root, &root, "", &mut found, 0);
    found
}

fn walk(root: &Value, node: &Value, path: &str, found: &mut Vec<(String, String)>, depth: usize) {
    // Deeper than any file goes: schemas don't nest in themselves here.
    if depth > 24 {
        return;
    }
    if let Some(target) = node
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| reference.strip_prefix('#'))
        .and_then(|pointer| root.pointer(pointer))
    {
        walk(root, target, path, found, depth + 1);
    }
    for (key, property) in properties(node).into_iter().flatten() {
        let full = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let description = property.get("description").and_then(Value::as_str);
        if !found.iter().any(|(known, _)| *known == full) {
            found.push((full.clone(), description.unwrap_or_default().to_owned()));
        }
        walk(root, property, &full, found, depth + 1);
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for branch in node
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            walk(root, branch, path, found, depth + 1);
        }
    }
    if let Some(items) = node.get("items") {
        walk(root, items, path, found, depth + 1);
    }
    if let Some(entries) = node
        .get("additionalProperties")
        .filter(|entries| entries.is_object())
    {
        walk(root, entries, &format!("{path}.NAME"), found, depth + 1);
    }
}
