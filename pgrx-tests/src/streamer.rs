//! The streamer's binary as a child process.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::server_tree::{checkout, target};
use crate::wait::wait_within;

/// The `walferry` binary's command line and environment.
pub struct StreamerBuilder {
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    working_directory: Option<PathBuf>,
}

impl StreamerBuilder {
    /// Further arguments.
    pub fn args<A: Into<OsString>>(
        mut self,
        arguments: impl IntoIterator<Item = A>,
    ) -> StreamerBuilder {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// One further argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> StreamerBuilder {
        self.arguments.push(argument.into());
        self
    }

    /// An environment variable. The child inherits no `PG*` or `WALFERRY_*` variable from the test.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> StreamerBuilder {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The child's working directory.
    pub fn current_dir(mut self, directory: &Path) -> StreamerBuilder {
        self.working_directory = Some(directory.to_owned());
        self
    }

    /// The command itself, for callers that want its pipes to themselves.
    pub fn command(self) -> Command {
        let mut command = Command::new(binary());
        command.args(self.arguments);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("PG") || text.starts_with("WALFERRY_") {
                command.env_remove(&name);
            }
        }
        command.envs(self.environment);
        if let Some(directory) = self.working_directory {
            command.current_dir(directory);
        }
        command
    }

    /// Starts the binary with its output gathered.
    pub fn start(self) -> Streamer {
        let mut command = self.command();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = Lines::gather(child.stdout.take().expect("the child's stdout"));
        let stderr = Lines::gather(child.stderr.take().expect("the child's stderr"));
        Streamer {
            child,
            stdout,
            stderr,
            ended: None,
        }
    }

    /// Starts the binary and waits until it ends by itself, at most `timeout`.
    pub fn run(self, timeout: Duration) -> Exit {
        self.start().wait(timeout)
    }
}

/// A running streamer. Dropped, it is killed.
pub struct Streamer {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    ended: Option<ExitStatus>,
}

/// How a streamer ended, and all it printed.
#[derive(Debug)]
pub struct Exit {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Exit {
    /// Panics with what was printed unless the exit code was `code`.
    pub fn expect_code(self, code: i32) -> Exit {
        assert!(
            self.code == Some(code),
            "the streamer ended with code {:?}, signal {:?} instead of code {code}; it printed to stderr:\n{}",
            self.code,
            self.signal,
            self.stderr.join("\n")
        );
        self
    }
}

impl Streamer {
    /// `walferry` with no arguments yet.
    pub fn builder() -> StreamerBuilder {
        StreamerBuilder {
            arguments: Vec::new(),
            environment: Vec::new(),
            working_directory: None,
        }
    }

    /// `walferry run --source url --slot slot`; the caller adds the sink and the rest.
    pub fn run(url: &str, slot: &str) -> StreamerBuilder {
        Streamer::builder().args(["run", "--source", url, "--slot", slot])
    }

    /// Whole lines printed to stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// How many whole lines were printed to stdout so far.
    pub fn stdout_len(&self) -> usize {
        self.stdout.lines.lock().expect("gathered lines").len()
    }

    /// Whole lines printed to stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.so_far()
    }

    /// Returns once stderr has a line that contains `text`; panics when the streamer ends before, or after a minute.
    pub fn wait_for_stderr(&mut self, text: &str) {
        self.wait_for(&format!("{text:?} on stderr"), |streamer| {
            streamer.stderr().iter().any(|line| line.contains(text))
        });
    }

    /// Returns once stdout has `count` lines.
    pub fn wait_for_stdout_lines(&mut self, count: usize) {
        self.wait_for(&format!("{count} lines on stdout"), |streamer| {
            streamer.stdout_len() >= count
        });
    }

    fn wait_for(&mut self, what: &str, condition: impl Fn(&Streamer) -> bool) {
        wait_within(Duration::from_secs(60), what, || {
            // Asked in this order: what an ended streamer printed last still counts.
            let running = self.is_running();
            let holds = condition(self);
            assert!(
                holds || running,
                "the streamer ended ({:?}) before {what}; it printed to stderr:\n{}",
                self.ended,
                self.stderr().join("\n")
            );
            holds
        });
    }

    /// Whether it has not ended yet. Once it has, its output is complete.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("state of the streamer");
            if self.ended.is_some() {
                self.stdout.complete();
                self.stderr.complete();
            }
        }
        self.ended.is_none()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Peak resident memory in bytes (VmHWM); panics once the streamer has ended.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the streamer's /proc entry");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .expect("VmHWM of a live process");
        let kib = line.trim().trim_end_matches("kB").trim();
        kib.parse::<u64>().expect("VmHWM in kB") * 1024
    }

    /// SIGTERM: finish what is in flight and end.
    pub fn terminate(&mut self) {
        self.signal(libc::SIGTERM);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        wait_within(
            Duration::from_secs(60),
            "a killed streamer to be gone",
            || !self.is_running(),
        );
    }

    /// Any other signal, e.g. SIGSTOP.
    pub fn signal(&mut self, signal: libc::c_int) {
        if self.is_running() {
            // SAFETY: kill takes plain numbers, and the child has not been waited for, so its pid is still its own.
            unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        }
    }

    /// Waits for the end; kills and panics after `timeout`.
    pub fn wait(mut self, timeout: Duration) -> Exit {
        wait_within(timeout, "the streamer to end", || !self.is_running());
        let status = self.ended.expect("it has ended");
        Exit {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// SIGTERM, then [`Streamer::wait`] for at most a minute.
    pub fn stop(mut self) -> Exit {
        self.terminate();
        self.wait(Duration::from_secs(60))
    }
}

impl Drop for Streamer {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let stderr = self.stderr();
            let from = stderr.len().saturating_sub(40);
            eprintln!(
                "--- the streamer's stderr, its last {} lines ---",
                stderr.len() - from
            );
            for line in &stderr[from..] {
                eprintln!("{line}");
            }
        }
    }
}

/// Lines of a pipe, gathered by a thread as they come.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn gather(pipe: impl Read + Send + 'static) -> Lines {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let gathered = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                gathered
                    .lock()
                    .expect("gathered lines")
                    .push(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            }
        });
        Lines {
            lines,
            reader: Some(reader),
        }
    }

    fn so_far(&self) -> Vec<String> {
        self.lines.lock().expect("gathered lines").clone()
    }

    fn complete(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// `WALFERRY_TEST_BINARY`, or whichever of the debug and release builds is the newer.
fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("WALFERRY_TEST_BINARY") {
        return checkout().join(named);
    }
    ["debug", "release"]
        .map(|profile| target().join(profile).join("walferry"))
        .into_iter()
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .expect("the streamer is not built: run `cargo build -p walferry-streamer`")
}
