//! A throw-away server to try things on by hand, with walferry installed:
//! prints how to reach it and runs until this process ends in whatever way.

use std::io::Write;

use walferry_tests::Server;

fn main() -> std::io::Result<()> {
    let server = Server::builder().start();
    let mut out = std::io::stdout();
    writeln!(out, "url {}", server.url())?;
    writeln!(out, "data {}", server.data_dir().display())?;
    writeln!(out, "pid {}", server.pid())?;
    out.flush()?;
    loop {
        std::thread::park();
    }
}
