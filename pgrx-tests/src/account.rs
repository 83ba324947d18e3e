//! The operating system's account that servers run as.
//!
//! PostgreSQL refuses to run as root, so root starts it as `postgres`;
//! everybody else starts it as themselves.

use std::ffi::CString;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

#[derive(Clone, Copy, Debug)]
struct Postgres {
    uid: u32,
    gid: u32,
}

/// `postgres` when this process is root, otherwise none: stay who we are.
fn other_account() -> Option<Postgres> {
    static FOUND: OnceLock<Option<Postgres>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: geteuid has no preconditions and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return None;
        }
        let name = CString::new("postgres").expect("no NUL inside");
        // SAFETY: the name is NUL-terminated; OnceLock runs this once, so no
        // other call of ours overwrites the static record while it is read.
        let record = unsafe { libc::getpwnam(name.as_ptr()) };
        assert!(
            !record.is_null(),
            "tests run by root start servers as user postgres, and there is no such user: run `make setup`"
        );
        // SAFETY: getpwnam's record was just checked to be there.
        let (uid, gid) = unsafe { ((*record).pw_uid, (*record).pw_gid) };
        Some(Postgres { uid, gid })
    })
}

/// A command that runs `program` as the servers' account, in a directory that account may enter.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    if let Some(account) = other_account() {
        command.uid(account.uid).gid(account.gid);
    }
    command.current_dir("/");
    command.env("LC_ALL", "C");
    // The settings of whoever runs the tests must not reach another server.
    for name in [
        "PGHOST",
        "PGPORT",
        "PGUSER",
        "PGDATABASE",
        "PGPASSWORD",
        "PGSERVICE",
        "PGOPTIONS",
        "PGDATA",
    ] {
        command.env_remove(name);
    }
    command
}

/// Hands `path` to the servers' account.
pub(crate) fn give(path: &Path) {
    if let Some(account) = other_account() {
        chown(path, Some(account.uid), Some(account.gid)).unwrap_or_else(|error| {
            panic!("cannot give {} to user postgres: {error}", path.display())
        });
    }
}

/// Whether the servers' account can read what lies below `path`.
pub(crate) fn can_enter(path: &Path) -> bool {
    command("/usr/bin/test")
        .arg("-x")
        .arg(path)
        .status()
        .is_ok_and(|status| status.success())
}
