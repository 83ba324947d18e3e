//! A throw-away server to try things on by hand, with walferry installed:
//! prints how to reach it and runs until this process ends in whatever way.

use std::io::Write;

use clap::Parser;
use walferry_tests::Server;

/// Starts a throw-away PostgreSQL server with walferry installed
///
/// Prints its url, data directory and process id, and runs until this process
/// ends in whatever way; then nothing of it is left.
#[derive(Debug, Parser)]
#[command(
    name = "walferry-server",
    after_help = "\
Environment:
  WALFERRY_TEST_PG_CONFIG  whose server it is [default: Debian's PostgreSQL 15]
  WALFERRY_TEST_LIBRARY    the extension's library [default: target/release/libwalferry.so]
  WALFERRY_TEST_TMP        parent of its folder [default: /tmp]

Example:
  cargo run -p walferry-tests --bin walferry-server -- --set max_wal_senders=0"
)]
struct Arguments {
    /// A setting of the server; may be given again
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,

    /// Listen on 127.0.0.1 too
    #[arg(long)]
    tcp: bool,

    /// Commits wait for the disk, as in a server that matters
    #[arg(long)]
    durable: bool,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let mut builder = Server::builder();
    for (name, value) in &arguments.settings {
        builder = builder.setting(name, value);
    }
    if arguments.tcp {
        builder = builder.tcp();
    }
    if arguments.durable {
        builder = builder.durable();
    }
    let server = builder.start();
    let mut out = std::io::stdout();
    writeln!(out, "url {}", server.url())?;
    writeln!(out, "data {}", server.data_dir().display())?;
    writeln!(out, "pid {}", server.pid())?;
    if arguments.tcp {
        writeln!(out, "tcp {}", server.tcp_url())?;
    }
    out.flush()?;
    loop {
        std::thread::park();
    }
}
