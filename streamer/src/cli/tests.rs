use super::*;
use clap::Parser;

fn options(arguments: &str) -> Result<RunOptions> {
    let words = ["walferry", "run", "--source", "postgres://u@h/d"]
        .into_iter()
        .chain(arguments.split_whitespace());
    match Cli::try_parse_from(words).expect(arguments).command {
        Command::Run(arguments) => arguments.validate(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_source_and_a_sink_are_enough() {
    let options = options("--sink stdout").unwrap();
    assert_eq!(options.slot.name, None);
    assert_eq!(options.slot.plugin, None);
    assert!(options.streaming && !options.slot.two_phase);
    assert!(!options.accept_missing_identity);
}

#[test]
fn what_comes_later_is_refused_and_says_so() {
    for (arguments, message) in [
        ("--mode full", "--mode full"),
        ("--mode snapshot", "--mode snapshot"),
        ("--mode delta-snapshot", "--mode delta-snapshot"),
        ("--plugin walferry --publication p", "--publication"),
        ("--create-slot", "--create-slot needs --slot"),
        ("--takeover", "--takeover needs --slot"),
        ("--plugin-option format=json", "format"),
        ("--tables orders", "table patterns"),
        ("--slot Upper", "\"Upper\""),
    ] {
        let failure = options(&format!("--sink null {arguments}")).expect_err(arguments);
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.message.contains(message), "{arguments}: {failure}");
    }
}

#[test]
fn the_plugin_gets_every_option_by_name() {
    let options = options(
        "--sink null --slot s --tables a.* --exclude-tables a.b --streaming off \
         --plugin-option message_prefixes=x,y",
    )
    .unwrap();
    let mut slot = crate::source::slot::SlotInfo {
        two_phase: true,
        ..Default::default()
    };
    let given = |slot: &_| -> Vec<String> {
        options
            .plugin_options(slot)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    };
    assert_eq!(
        given(&slot),
        [
            "proto_min=1",
            "proto_max=1",
            "format=native",
            "streaming=off",
            "two_phase=on",
            "tables=a.*",
            "exclude_tables=a.b",
            "message_prefixes=x,y"
        ]
    );
    slot.two_phase = false;
    assert!(given(&slot).contains(&"two_phase=off".to_owned()));
}

#[test]
fn parsed_arguments_do_not_show_the_source() {
    let words = [
        "walferry",
        "run",
        "--sink",
        "null",
        "--source",
        "postgres://u:hunter2@h/d",
    ];
    let cli = Cli::try_parse_from(words).unwrap();
    assert!(!format!("{cli:?}").contains("hunter2"));
    let Command::Run(arguments) = cli.command else {
        panic!("not run");
    };
    assert!(!format!("{:?}", arguments.validate().unwrap()).contains("hunter2"));
}
