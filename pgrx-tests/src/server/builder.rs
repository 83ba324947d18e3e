//! What a test's server is to be like, and its making.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::process::Reaper;
use super::{Server, write_as_account};
use crate::account;
use crate::server_tree::ServerTree;

/// Encoding of a cluster or database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    Latin1,
    EucJp,
    SqlAscii,
}

impl Encoding {
    /// PostgreSQL's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "UTF8",
            Encoding::Latin1 => "LATIN1",
            Encoding::EucJp => "EUC_JP",
            Encoding::SqlAscii => "SQL_ASCII",
        }
    }
}

/// Settings of a server to be. Without any: UTF8, locale C, a unix socket
/// only, `wal_level` logical, room for slots and prepared transactions, fsync
/// off, and every installed output plugin allowed.
pub struct Builder {
    encoding: Encoding,
    tcp: bool,
    own_system_identifier: bool,
    list_plugins: bool,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    initdb_options: Vec<String>,
    folder: Option<PathBuf>,
    tree: Option<&'static ServerTree>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            encoding: Encoding::Utf8,
            tcp: false,
            own_system_identifier: false,
            list_plugins: true,
            settings: Vec::new(),
            hba: Vec::new(),
            initdb_options: Vec::new(),
            folder: None,
            tree: None,
        }
    }
}

impl Builder {
    /// Encoding of the cluster's databases.
    pub fn encoding(mut self, encoding: Encoding) -> Builder {
        self.encoding = encoding;
        self
    }

    /// Listens on a free port of 127.0.0.1 besides the unix socket.
    pub fn tcp(mut self) -> Builder {
        self.tcp = true;
        self
    }

    /// A line of postgresql.conf; overrides the defaults.
    pub fn setting(mut self, name: &str, value: impl ToString) -> Builder {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// fsync and full_page_writes on, as in production.
    pub fn durable(self) -> Builder {
        self.setting("fsync", "on")
            .setting("full_page_writes", "on")
    }

    /// A line of pg_hba.conf that comes before `trust` for everybody.
    pub fn hba(mut self, line: &str) -> Builder {
        self.hba.push(line.to_owned());
        self
    }

    /// A further option of initdb, e.g. `--wal-segsize=1` or `-k`.
    pub fn initdb_option(mut self, option: &str) -> Builder {
        self.initdb_options.push(option.to_owned());
        self
    }

    /// Leaves `output_plugin_libraries` at the server's default, where it knows that setting.
    pub fn default_output_plugin_libraries(mut self) -> Builder {
        self.list_plugins = false;
        self
    }

    /// Servers are copies of one initdb and so share its system identifier;
    /// this runs initdb anew, which takes a second.
    pub fn own_system_identifier(mut self) -> Builder {
        self.own_system_identifier = true;
        self
    }

    /// Puts the server's folder below `parent` instead of /tmp. The path must be short: it is part of the socket's.
    pub fn folder(mut self, parent: &Path) -> Builder {
        self.folder = Some(parent.to_owned());
        self
    }

    /// Runs from another tree than [`ServerTree::get`]'s.
    pub fn tree(mut self, tree: &'static ServerTree) -> Builder {
        self.tree = Some(tree);
        self
    }

    /// Makes the data directory and starts the server.
    pub fn start(self) -> Server {
        let server = self.prepare();
        let data = server.data_dir();
        if self.own_system_identifier {
            self.initdb(server.tree, &data);
        } else {
            let template = self.template(server.tree);
            run(account::command("/bin/cp")
                .arg("-a")
                .arg(&template)
                .arg(&data));
        }
        server.install_settings(&self.all_settings(&server), &self.hba);
        server.start();
        server
    }

    /// A streaming standby of `primary`, made by pg_basebackup and started.
    pub fn start_standby_of(self, primary: &Server) -> Server {
        let server = self.prepare();
        run(account::command(server.tree.program("pg_basebackup"))
            .args([
                "--checkpoint=fast",
                "--wal-method=stream",
                "--no-sync",
                "--write-recovery-conf",
            ])
            .arg("--dbname")
            .arg(primary.conninfo("postgres"))
            .arg("--pgdata")
            .arg(server.data_dir()));
        server.install_settings(&self.all_settings(&server), &self.hba);
        server.start();
        server
    }

    fn prepare(&self) -> Server {
        let tree = self.tree.unwrap_or_else(ServerTree::get);
        let parent = self
            .folder
            .clone()
            .or_else(|| std::env::var_os("WALFERRY_TEST_TMP").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from("/tmp"));
        let folder = tempfile::Builder::new()
            .prefix("walferry-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(&parent)
            .unwrap_or_else(|error| {
                panic!("cannot make a folder in {}: {error}", parent.display())
            });
        account::give(folder.path());
        let socket = folder.path().join("s/.s.PGSQL.65535");
        assert!(
            socket.as_os_str().len() < 100,
            "the socket's path {} is longer than unix sockets allow; choose a shorter WALFERRY_TEST_TMP",
            socket.display()
        );
        for name in ["s", "scratch"] {
            let directory = folder.path().join(name);
            fs::create_dir(&directory).expect("directory in the server's folder");
            account::give(&directory);
        }
        write_as_account(&folder.path().join("log"), "");
        Server {
            tree,
            reaper: Reaper::watch(folder.path()),
            port: if self.tcp { free_port() } else { 5432 },
            tcp: self.tcp,
            folder,
            postmaster: Mutex::new(None),
        }
    }

    fn all_settings(&self, server: &Server) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> = [
            ("wal_level", "logical"),
            ("max_wal_senders", "20"),
            ("max_replication_slots", "40"),
            ("max_prepared_transactions", "20"),
            ("max_connections", "60"),
            ("shared_buffers", "64MB"),
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("synchronous_commit", "off"),
            ("autovacuum", "off"),
            ("log_line_prefix", "%m [%p] %q%d %a "),
            ("log_checkpoints", "off"),
            ("listen_addresses", if self.tcp { "127.0.0.1" } else { "" }),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        settings.push((
            "unix_socket_directories".into(),
            server.socket_dir().display().to_string(),
        ));
        settings.push(("port".into(), server.port.to_string()));
        if self.list_plugins && server.tree.has_output_plugin_libraries() {
            settings.push(("output_plugin_libraries".into(), OUTPUT_PLUGINS.into()));
        }
        settings.extend(self.settings.iter().cloned());
        settings
    }

    fn template(&self, tree: &ServerTree) -> PathBuf {
        let name: String = std::iter::once(self.encoding.name())
            .chain(self.initdb_options.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join("_")
            .replace('/', "-");
        let template = tree.templates().join(name);
        let _lock = tree.lock_templates();
        if !template.exists() {
            // Made beside its name, so that an interrupted initdb is not taken for a template.
            let unfinished = template.with_extension("unfinished");
            let _ = fs::remove_dir_all(&unfinished);
            self.initdb(tree, &unfinished);
            fs::rename(&unfinished, &template).expect("name of the template");
        }
        template
    }

    fn initdb(&self, tree: &ServerTree, data: &Path) {
        run(account::command(tree.program("initdb"))
            .args([
                "--auth=trust",
                "--username=postgres",
                "--locale=C",
                "--no-sync",
            ])
            .args(["--encoding", self.encoding.name()])
            .args(&self.initdb_options)
            .arg("--pgdata")
            .arg(data));
    }
}

/// Every plugin that tests and benchmarks load, as the value of `output_plugin_libraries`.
const OUTPUT_PLUGINS: &str = "pgoutput, test_decoding, walferry, wal2json, walferry_null";

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on 127.0.0.1");
    listener
        .local_addr()
        .expect("address of a bound socket")
        .port()
}
