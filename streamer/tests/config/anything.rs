//! Whatever stands in a file, reading it ends in a report.

use proptest::prelude::*;
use walferry_streamer::config::describe::describe;
use walferry_streamer::config::{Kind, Overridden};

use crate::read;

/// Pieces that a file is made of, in any order.
fn yaml_like() -> impl Strategy<Value = String> {
    let keys: Vec<String> = [Kind::Job, Kind::Connection, Kind::Filter, Kind::Extractor]
        .into_iter()
        .flat_map(walferry_streamer::config::schema::described_keys)
        .filter_map(|(path, _)| path.rsplit('.').next().map(str::to_owned))
        .collect();
    let value = prop_oneof![
        Just("".to_owned()),
        Just("null".to_owned()),
        Just("5_000".to_owned()),
        Just("-1".to_owned()),
        Just("[a, {b: c}]".to_owned()),
        Just("{a: b, c: }".to_owned()),
        Just("&x *x".to_owned()),
        Just("*x".to_owned()),
        Just("<<".to_owned()),
        Just("${A:-b}$${".to_owned()),
        Just("\"FB, IG\"".to_owned()),
        "\\PC{0,12}",
    ];
    let line = (
        0..5_usize,
        proptest::bool::ANY,
        proptest::sample::select(keys),
        value,
    )
        .prop_map(|(depth, item, key, value)| {
            let dash = if item { "- " } else { "" };
            format!("{}{dash}{key}: {value}\n", "  ".repeat(depth))
        });
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

fn survives(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    for kind in [
        None,
        Some(Kind::Job),
        Some(Kind::Connection),
        Some(Kind::Filter),
        Some(Kind::Extractor),
    ] {
        let (_, configuration, report) = read(kind, &text);
        if report.errors.is_empty() {
            describe(&configuration);
            configuration.filter.column_rules(&[]);
            let _ = configuration.filter.rules();
            let _ = configuration.refuse_what_comes_later(Overridden::default());
            let patterns = configuration.filter.table_patterns();
            // What a filter file says, the plugin's options can say.
            assert!(
                walferry_streamer::source::table_filter::TableFilter::new(&patterns, &[]).is_ok(),
                "{patterns:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        survives(text.as_bytes());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut loader = walferry_streamer::config::Loader::new(&|_| None);
        loader.bytes("f.yaml", &bytes, None);
        survives(&bytes);
    }

    #[test]
    fn nothing_that_looks_like_a_file_panics(text in yaml_like()) {
        survives(text.as_bytes());
    }
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        text.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [alias.as_str(); 10].join(", ")
        ));
    }
    let (_, _, report) = read(Some(Kind::Job), &text);
    assert_eq!(report.errors.len(), 1);
}

#[test]
fn deep_nesting_is_refused() {
    let text = format!("allow: {}", "[".repeat(100_000));
    let (_, _, report) = read(Some(Kind::Filter), &text);
    assert_eq!(report.errors.len(), 1);
}
