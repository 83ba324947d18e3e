//! The files that users copy: every example and every block of the
//! documentation loads.

use std::fs;
use std::path::{Path, PathBuf};

use walferry_streamer::config::{Kind, Loader, Overridden, schema};

use crate::messages;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(root().join(folder))
        .expect(folder)
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

/// Every variable is set.
fn set(_: &str) -> Option<String> {
    Some("value".into())
}

#[test]
fn every_example_runs_with_this_version() {
    let examples = files("examples", "yaml");
    assert!(!examples.is_empty());
    for path in examples {
        let mut loader = Loader::new(&set);
        loader.file(&path, None).expect("readable");
        let report = &loader.report;
        for problems in [&report.errors, &report.warnings, &report.later] {
            assert_eq!(messages(problems), Vec::<String>::new());
        }
        let later = loader
            .configuration
            .refuse_what_comes_later(Overridden::default());
        assert!(later.is_ok(), "{}: {later:?}", path.display());
    }
}

/// Blocks marked as YAML, with the line each starts at.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        match &mut open {
            None if line.trim_start().to_lowercase().starts_with("```yaml") => {
                open = Some((index + 1, String::new()));
            }
            None => {}
            Some(_) if line.trim_start().starts_with("```") => blocks.extend(open.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    blocks
}

#[test]
fn every_block_of_the_documentation_loads() {
    let mut pages = files("docs", "md");
    pages.push(root().join("README.md"));
    let mut count = 0;
    for page in pages {
        let text = fs::read_to_string(&page).expect("readable");
        for (line, block) in blocks(&text) {
            let name = format!("{}, block at line {line}", page.display());
            let mut loader = Loader::new(&set);
            loader.bytes(&name, block.as_bytes(), None);
            assert_eq!(
                messages(&loader.report.errors),
                Vec::<String>::new(),
                "{block}"
            );
            count += 1;
        }
    }
    assert!(count >= 5, "the documentation has {count} blocks");
}

#[test]
fn the_documentation_has_every_key() {
    let page = fs::read_to_string(root().join("docs/configuration.md")).expect("the page");
    let mut missing = Vec::new();
    for kind in [Kind::Job, Kind::Connection, Kind::Filter, Kind::Extractor] {
        for (path, description) in schema::described_keys(kind) {
            assert!(!description.is_empty(), "{path} has no description");
            let key = path.rsplit('.').next().unwrap_or(&path);
            if !page.contains(&format!("`{key}`")) {
                missing.push(path);
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_schema_knows_the_same_keys_as_the_reader() {
    for (kind, key) in [
        (Kind::Job, "connection.password"),
        (Kind::Job, "sink.file.path"),
        (Kind::Job, "extractor.realtime.heartbeat.enable"),
        (Kind::Connection, "replication-slots"),
        (Kind::Filter, "allow.allow.NAME.conditions"),
        (
            Kind::Extractor,
            "snapshot.per-table-config.tables.NAME.split-hints.row-count-estimate",
        ),
    ] {
        let keys = schema::described_keys(kind);
        assert!(
            keys.iter().any(|(path, _)| path == key),
            "{key} in {keys:?}"
        );
    }
    let text = schema::schema(Kind::Job).to_string();
    assert!(text.contains("\"additionalProperties\":false"));
    assert!(!text.contains("condtions"));
}
