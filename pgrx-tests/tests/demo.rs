//! `make demo` shows what it promises.

use std::process::Command;

#[test]
fn the_demo_ends_by_itself_with_every_change_arrived_once() {
    let output = Command::new(env!("CARGO_BIN_EXE_walferry-demo"))
        .env("DEMO_SECONDS", "4")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    // The demo counts for itself and fails unless committed and arrived are equal.
    assert!(
        output.status.success(),
        "{stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with('{') && line.contains("\"op\":\"c\""))
    );
    assert!(stdout.contains("-- slot demo: confirmed_flush_lsn "));
    assert!(
        !stdout.contains("a mistake"),
        "what was rolled back does not leave"
    );
}
