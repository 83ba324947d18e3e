//! Named places at which a test can have the process killed.
//!
//! `WALFERRY_FAILPOINT=name` kills it with SIGKILL when it first comes to that
//! place, `name:n` the nth time. They are in every build, so that what is
//! tested is what runs: without the variable, one is a look at a static.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Failpoint {
    name: String,
    left: AtomicU64,
}

static ARMED: OnceLock<Option<Failpoint>> = OnceLock::new();

fn read() -> Option<Failpoint> {
    let text = std::env::var("WALFERRY_FAILPOINT").ok()?;
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name.to_owned(), count.parse().ok()?),
        None => (text, 1),
    };
    Some(Failpoint {
        name,
        left: AtomicU64::new(count),
    })
}

/// A place a test can name.
#[inline]
pub fn reached(name: &str) {
    if let Some(failpoint) = ARMED.get_or_init(read)
        && failpoint.name == name
        && failpoint.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        // Nothing of the process gets to run any more: no destructor, no
        // buffer is written, as in a crash.
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}
