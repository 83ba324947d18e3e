//! A PostgreSQL server that belongs to one test.

mod builder;
mod process;
mod sql;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;

use tempfile::TempDir;

use crate::account;
use crate::server_tree::ServerTree;

pub use builder::{Builder, Encoding};
pub use process::Shutdown;

/// A running (or stopped) server with a data directory, a socket directory and
/// a log of its own. Dropping it stops it and removes all three; when the test
/// process dies without dropping, its reaper does the same.
pub struct Server {
    tree: &'static ServerTree,
    /// Declared before `folder`: the reaper must be let go before the folder it removes.
    reaper: process::Reaper,
    folder: TempDir,
    /// Fixed for life, so that clients find the server again after a restart.
    port: u16,
    tcp: bool,
    postmaster: Mutex<Option<Child>>,
}

impl Server {
    /// A server with the default settings of [`Builder`], started.
    pub fn start_default() -> Server {
        Server::builder().start()
    }

    /// Settings first, then [`Builder::start`].
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The executables and libraries this server runs from.
    pub fn tree(&self) -> &'static ServerTree {
        self.tree
    }

    /// PGDATA. Owned by the servers' account.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The directory of the server's unix socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// A directory that lives as long as the server, for what a test writes.
    pub fn scratch_dir(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    /// Writes a file into the data directory that only the server's account may
    /// read, as it wants its TLS key to be.
    pub fn write_private_file(&self, name: &str, text: &str) {
        let path = self.data_dir().join(name);
        write_as_account(&path, text);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap_or_else(|error| panic!("cannot protect {}: {error}", path.display()));
    }

    /// The port in the socket's name, and of TCP where [`Builder::tcp`] asked for it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything the server has logged since it was made.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// URL of database `postgres` through the unix socket.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// URL of `database` through the unix socket, as superuser `postgres`.
    pub fn url_of(&self, database: &str) -> String {
        format!(
            "postgres://postgres@/{database}?host={}&port={}",
            self.socket_dir().display(),
            self.port
        )
    }

    /// URL of database `postgres` through TCP; only with [`Builder::tcp`].
    pub fn tcp_url(&self) -> String {
        assert!(
            self.tcp,
            "this server was not asked to listen on TCP: use Server::builder().tcp()"
        );
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// libpq's keyword form of [`Server::url_of`].
    pub fn conninfo(&self, database: &str) -> String {
        format!(
            "host={} port={} user=postgres dbname='{}'",
            self.socket_dir().display(),
            self.port,
            database.replace('\\', "\\\\").replace('\'', "\\'")
        )
    }

    fn install_settings(&self, settings: &[(String, String)], hba: &[String]) {
        let mut text =
            fs::read_to_string(self.data_dir().join("postgresql.conf")).expect("postgresql.conf");
        text.push_str("\n# what the test asked for; later lines win\n");
        for (name, value) in settings {
            text.push_str(&setting_line(name, value));
        }
        write_as_account(&self.data_dir().join("postgresql.conf"), &text);
        if !hba.is_empty() {
            let path = self.data_dir().join("pg_hba.conf");
            let rest = fs::read_to_string(&path).expect("pg_hba.conf");
            write_as_account(&path, &format!("{}\n{rest}", hba.join("\n")));
        }
    }

    /// Changes settings in postgresql.conf; they hold from the next start or [`Server::reload`].
    pub fn configure(&self, settings: &[(&str, &str)]) {
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        self.install_settings(&settings, &[]);
    }
}

fn setting_line(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\'', "''"))
}

fn write_as_account(path: &Path, text: &str) {
    fs::write(path, text)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    account::give(path);
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(40);
            eprintln!(
                "--- the server's log, its last {} lines ---",
                lines.len() - from
            );
            for line in &lines[from..] {
                eprintln!("{line}");
            }
            eprintln!("--- end of the server's log ---");
        }
        self.stop(Shutdown::Immediate);
        self.reaper.release();
    }
}
