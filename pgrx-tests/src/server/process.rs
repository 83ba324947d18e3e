//! Starting, stopping and killing the server's processes.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::Server;
use crate::account;
use crate::wait::wait_within;

/// How a server is told to stop (`pg_ctl stop -m …`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Waits for clients to leave.
    Smart,
    /// Ends sessions, sends walsenders the rest of the WAL, writes a checkpoint.
    Fast,
    /// No checkpoint: the next start recovers from WAL, as after a crash.
    Immediate,
}

impl Shutdown {
    fn signal(self) -> libc::c_int {
        match self {
            Shutdown::Smart => libc::SIGTERM,
            Shutdown::Fast => libc::SIGINT,
            Shutdown::Immediate => libc::SIGQUIT,
        }
    }
}

impl Server {
    /// Starts the server and returns once it takes connections (as a standby: read-only ones).
    pub fn start(&self) {
        if let Err(why) = self.try_start() {
            panic!("the server did not start: {why}\n{}", self.log());
        }
    }

    /// As [`Server::start`], for tests of servers that must not come up.
    pub fn try_start(&self) -> Result<(), String> {
        let mut postmaster = self
            .postmaster
            .lock()
            .expect("state of the server's process");
        assert!(postmaster.is_none(), "the server runs already");
        let log = File::options()
            .append(true)
            .open(self.log_file())
            .expect("the server's log");
        let pid_file = self.data_dir().join("postmaster.pid");
        let _ = fs::remove_file(&pid_file);
        let mut child = account::command(self.tree.program("postgres"))
            .arg("-D")
            .arg(self.data_dir())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the server's log"))
            .stderr(log)
            // A Ctrl-C at the terminal is for the test; the server follows by drop or reaper.
            .process_group(0)
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut ended = None;
        wait_within(
            Duration::from_secs(120),
            "the server to take connections",
            || {
                ended = child.try_wait().expect("state of the postmaster");
                let status = fs::read_to_string(&pid_file).unwrap_or_default();
                // The eighth line is the postmaster's state (LOCK_FILE_LINE_PM_STATUS in miscadmin.h).
                let state = status.lines().nth(7).unwrap_or_default().trim_end();
                ended.is_some() || state == "ready" || state == "standby"
            },
        );
        match ended {
            Some(status) => Err(status.to_string()),
            None => {
                *postmaster = Some(child);
                Ok(())
            }
        }
    }

    /// Stops the server if it runs, and waits until it is gone.
    pub fn stop(&self, how: Shutdown) {
        let Some(mut child) = self.take_postmaster() else {
            return;
        };
        signal(child.id(), how.signal());
        wait_for_end(&mut child);
    }

    /// Stop and start again.
    pub fn restart(&self, how: Shutdown) {
        self.stop(how);
        self.start();
    }

    /// Immediate shutdown and start: what remains is what WAL holds.
    pub fn crash_and_recover(&self) {
        self.restart(Shutdown::Immediate);
    }

    /// Whether the postmaster is alive.
    pub fn is_running(&self) -> bool {
        let mut postmaster = self
            .postmaster
            .lock()
            .expect("state of the server's process");
        postmaster
            .as_mut()
            .is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// Process id of the postmaster; panics when stopped.
    pub fn pid(&self) -> u32 {
        let postmaster = self
            .postmaster
            .lock()
            .expect("state of the server's process");
        postmaster.as_ref().expect("the server is stopped").id()
    }

    /// Has the server read its configuration again.
    pub fn reload(&self) {
        signal(self.pid(), libc::SIGHUP);
    }

    /// Ends recovery of a standby and waits until it takes writes.
    pub fn promote(&self) {
        self.sql("SELECT pg_promote(true, 60)");
    }

    fn take_postmaster(&self) -> Option<Child> {
        // A panicking test may have poisoned the lock; its server must stop all the same.
        self.postmaster
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take()
    }
}

fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: kill takes plain numbers. The pid is of a child that has not been waited for, so it names no other process.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

fn wait_for_end(child: &mut Child) {
    for _ in 0..6000 {
        if child.try_wait().expect("state of the postmaster").is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("the server did not stop within a minute and was killed");
}

/// A shell that waits for its standard input to close, which happens at the
/// latest when the test process ends in whatever way, and then stops the
/// server and removes its folder.
pub(super) struct Reaper {
    shell: Child,
    held: Option<ChildStdin>,
}

impl Reaper {
    pub(super) fn watch(folder: &Path) -> Reaper {
        const SCRIPT: &str = r#"
            read -r released
            if [ -z "$released" ]; then
                pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid"
                sleep 2
                rm -rf "$0"
            fi"#;
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start the server's reaper: {error}"));
        Reaper {
            held: shell.stdin.take(),
            shell,
        }
    }

    /// The server is stopped and its folder about to go: nothing is left to do.
    pub(super) fn release(&mut self) {
        if let Some(mut held) = self.held.take() {
            let _ = io::Write::write_all(&mut held, b"released\n");
        }
        let _ = self.shell.wait();
    }
}
