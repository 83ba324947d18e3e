//! Configuration files: what they mean, and what they can't.

mod anything;
mod documents;
mod merge;
mod mistakes;
mod replicant;

use walferry_streamer::config::{Configuration, Kind, Loader, Problem, Report};

/// Variables of the tests; everything else is unset.
pub fn environment(name: &str) -> Option<String> {
    match name {
        "FERRY_PASSWORD" => Some("hunter2".into()),
        "FERRY_PORT" => Some("6543".into()),
        "NO_NUMBER" => Some("hunter2".into()),
        _ => None,
    }
}

/// Reads `text` as the file `f.yaml`.
pub fn read(kind: Option<Kind>, text: &str) -> (Kind, Configuration, Report) {
    let mut loader = Loader::new(&environment);
    let kind = loader.bytes("f.yaml", text.as_bytes(), kind);
    (kind, loader.configuration, loader.report)
}

/// Reads a file that has no mistakes.
pub fn understood(kind: Kind, text: &str) -> (Configuration, Report) {
    let (_, configuration, report) = read(Some(kind), text);
    assert_eq!(report.errors, [], "{text}");
    (configuration, report)
}

/// Messages with their hints.
pub fn messages(problems: &[Problem]) -> Vec<String> {
    problems
        .iter()
        .map(|problem| match &problem.hint {
            Some(hint) => format!("{problem} | {hint}"),
            None => problem.to_string(),
        })
        .collect()
}
