//! A server's files under a root of our own, with walferry installed in it.
//!
//! PostgreSQL finds its share and library directories relative to where its
//! executable lies (`make_relative_path` in `src/port/path.c`). So a copy of
//! the executables under another root, with the rest beside them as symbolic
//! links, is a complete server that can be added to without touching the
//! system's. Executables are real copies because the server resolves links to
//! itself first.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::account;

/// The built extension, its server, and what is known of that server.
pub struct ServerTree {
    root: PathBuf,
    bindir: PathBuf,
    pkglibdir: PathBuf,
    extensiondir: PathBuf,
    major: u32,
    version: String,
    has_output_plugin_libraries: bool,
}

impl ServerTree {
    /// The tree of the server whose `pg_config` is named by
    /// `WALFERRY_TEST_PG_CONFIG` (default: Debian's PostgreSQL 15), built or
    /// brought up to date at the first call in a process.
    pub fn get() -> &'static ServerTree {
        static TREE: OnceLock<ServerTree> = OnceLock::new();
        TREE.get_or_init(|| {
            let original = Original::ask(&pg_config());
            let name = format!("{}-{}", original.major, short_hash(&original.bindir));
            let tree = ServerTree::build(original, place_for_trees().join(name));
            tree.install(&extension_library());
            tree
        })
    }

    /// A tree of its own for a test that installs into it in its own way:
    /// walferry is not in it yet. It lies in `folder`, which the servers'
    /// account must be able to enter, and is never unmade by itself.
    pub fn without_walferry(folder: &Path) -> &'static ServerTree {
        let original = Original::ask(&pg_config());
        account::give(folder);
        Box::leak(Box::new(ServerTree::build(original, folder.to_path_buf())))
    }

    fn build(original: Original, root: PathBuf) -> ServerTree {
        fs::create_dir_all(&root)
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", root.display()));
        let lock = File::create(root.join("lock")).expect("lock file of the server tree");
        lock.lock().expect("lock on the server tree");

        let under = |path: &Path| {
            root.join(
                path.strip_prefix("/")
                    .expect("pg_config prints absolute paths"),
            )
        };
        let stamp = root.join("made-from");
        if fs::read_to_string(&stamp).ok().as_deref() != Some(&original.stamp) {
            original.mirror(&under);
            let _ = fs::remove_dir_all(root.join("templates"));
            fs::write(&stamp, &original.stamp).expect("stamp of the server tree");
        }
        let templates = root.join("templates");
        if fs::create_dir(&templates).is_ok() {
            account::give(&templates);
        }

        let bindir = under(&original.bindir);
        let described = account::command(bindir.join("postgres"))
            .arg("--describe-config")
            .output()
            .expect("postgres --describe-config");
        ServerTree {
            pkglibdir: under(&original.pkglibdir),
            extensiondir: under(&original.sharedir).join("extension"),
            has_output_plugin_libraries: String::from_utf8_lossy(&described.stdout)
                .lines()
                .any(|line| line.starts_with("output_plugin_libraries\t")),
            bindir,
            major: original.major,
            version: original.version,
            root,
        }
    }

    /// Installs walferry unless this very library with this very SQL was installed last.
    fn install(&self, library: &Path) {
        let lock = File::create(self.root.join("lock")).expect("lock file of the server tree");
        lock.lock().expect("lock on the server tree");
        let checkout = checkout();
        let mut sources = vec![
            library.to_path_buf(),
            checkout.join("extension/walferry.control"),
            checkout.join("scripts/write-sql"),
        ];
        if let Ok(entries) = fs::read_dir(checkout.join("sql")) {
            sources.extend(entries.flatten().map(|entry| entry.path()));
        }
        sources.sort();
        let wanted: String = sources.iter().map(|path| fingerprint(path)).collect();
        let stamp = self.root.join("installed-from");
        if fs::read_to_string(&stamp).ok().as_deref() == Some(&wanted) {
            return;
        }
        let status = Command::new(checkout.join("scripts/install-extension"))
            .args([library, &self.pkglibdir, &self.extensiondir])
            .status()
            .expect("scripts/install-extension");
        assert!(status.success(), "scripts/install-extension failed");
        fs::write(&stamp, wanted).expect("stamp of the installation");
    }

    /// A program of this server, e.g. `pg_recvlogical`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bindir.join(name)
    }

    /// This tree's own `pg_config`, whose answers all lie inside the tree.
    pub fn pg_config(&self) -> PathBuf {
        self.program("pg_config")
    }

    /// Where the tree's server looks for shared libraries.
    pub fn pkglibdir(&self) -> &Path {
        &self.pkglibdir
    }

    /// Where the tree's server looks for control files and SQL scripts.
    pub fn extensiondir(&self) -> &Path {
        &self.extensiondir
    }

    /// 15 for PostgreSQL 15.20.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// As the server prints it, e.g. `PostgreSQL 15.20 (Debian …)`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether output plugins must be listed in `output_plugin_libraries`
    /// before the server loads them (the minors of August 2026 and later).
    pub fn has_output_plugin_libraries(&self) -> bool {
        self.has_output_plugin_libraries
    }

    /// Whether the shared library of a plugin is installed, e.g. `wal2json`.
    pub fn has_library(&self, name: &str) -> bool {
        self.pkglibdir.join(format!("{name}.so")).exists()
    }

    /// Whether the server has this output plugin. The server of Debian 12, on
    /// which everything is tested, has all that walferry reads; those of other
    /// versions may lack wal2json.
    pub fn has_plugin(&self, plugin: &str) -> bool {
        let has = self.has_library(plugin);
        assert!(
            has || self.major() != 15,
            "{plugin} is not installed: make setup"
        );
        has
    }

    /// Ready-made data directories lie here, one per way of initdb.
    pub(crate) fn templates(&self) -> PathBuf {
        self.root.join("templates")
    }

    /// Taken while a template is made, so that it is made once.
    pub(crate) fn lock_templates(&self) -> File {
        let lock =
            File::create(self.root.join("templates.lock")).expect("lock file of the templates");
        lock.lock().expect("lock on the templates");
        lock
    }
}

/// The server the tree is made from.
struct Original {
    bindir: PathBuf,
    sharedir: PathBuf,
    pkglibdir: PathBuf,
    linked: Vec<PathBuf>,
    version: String,
    major: u32,
    stamp: String,
}

impl Original {
    fn ask(pg_config: &Path) -> Original {
        let output = Command::new(pg_config).output().unwrap_or_else(|error| {
            panic!(
                "cannot run {}: {error}; run `make setup`, or name another server's pg_config in WALFERRY_TEST_PG_CONFIG",
                pg_config.display()
            )
        });
        let answers = String::from_utf8(output.stdout).expect("pg_config prints UTF-8");
        let answer = |name: &str| {
            answers
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix("= "))
                .unwrap_or_else(|| panic!("{} does not tell {name}", pg_config.display()))
                .trim()
                .to_owned()
        };
        let bindir = PathBuf::from(answer("BINDIR"));
        let version = answer("VERSION");
        let major = version
            .split_whitespace()
            .nth(1)
            .and_then(|number| {
                number
                    .split(|c: char| !c.is_ascii_digit())
                    .next()?
                    .parse()
                    .ok()
            })
            .unwrap_or_else(|| panic!("cannot read a major version out of {version:?}"));
        let linked = ["LIBDIR", "INCLUDEDIR-SERVER", "INCLUDEDIR", "PKGINCLUDEDIR"]
            .map(|name| PathBuf::from(answer(name)))
            .to_vec();
        Original {
            sharedir: answer("SHAREDIR").into(),
            pkglibdir: answer("PKGLIBDIR").into(),
            linked,
            stamp: format!("{version}\n{}", fingerprint(&bindir.join("postgres"))),
            bindir,
            version,
            major,
        }
    }

    fn mirror(&self, under: &dyn Fn(&Path) -> PathBuf) {
        let bindir = under(&self.bindir);
        fs::create_dir_all(&bindir).expect("bin of the server tree");
        for entry in entries(&self.bindir) {
            let copy = bindir.join(entry.file_name().expect("file name"));
            remove(&copy);
            fs::copy(&entry, &copy)
                .unwrap_or_else(|error| panic!("cannot copy {}: {error}", entry.display()));
        }
        let extension = self.sharedir.join("extension");
        link_entries(&self.pkglibdir, &under(&self.pkglibdir));
        link_entries(&extension, &under(&extension));
        link_entries(&self.sharedir, &under(&self.sharedir));
        // Headers for building against the tree, and libraries that a self-contained server finds relative to its
        // executables. A directory that is already there stays as it is.
        for directory in &self.linked {
            let link = under(directory);
            if directory.exists() && !link.exists() {
                fs::create_dir_all(link.parent().expect("a parent inside the tree"))
                    .expect("directory of the server tree");
                symlink(directory, &link).expect("link in the server tree");
            } else if link.is_dir() && !link.is_symlink() {
                link_entries(directory, &link);
            }
        }
    }
}

/// Fills `to` with links to what lies in `from`, leaving what `to` has already;
/// with copies, where the servers' account cannot follow links to `from`.
fn link_entries(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("directory of the server tree");
    let follows_links = account::can_enter(from);
    for entry in entries(from) {
        let link = to.join(entry.file_name().expect("file name"));
        if link.is_symlink() {
            remove(&link);
        }
        if !follows_links {
            if !link.exists() {
                let mut copy = Command::new("/bin/cp");
                let status = copy.arg("-R").arg(&entry).arg(&link).status();
                assert!(
                    status.is_ok_and(|status| status.success()),
                    "cannot copy {}",
                    entry.display()
                );
            }
            continue;
        }
        match symlink(&entry, &link) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                panic!("cannot link {}: {error}", link.display())
            }
            _ => {}
        }
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()))
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

fn remove(file: &Path) {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            panic!("cannot remove {}: {error}", file.display())
        }
        _ => {}
    }
}

/// Of the server that the tests are for.
fn pg_config() -> PathBuf {
    std::env::var_os("WALFERRY_TEST_PG_CONFIG").map_or_else(
        || PathBuf::from("/usr/lib/postgresql/15/bin/pg_config"),
        PathBuf::from,
    )
}

/// The workspace's root.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests' crate lies inside the workspace")
        .to_path_buf()
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from)
}

/// `target/server` if the servers' account can get there (a checkout below
/// /root it cannot), else a directory of this checkout's own in /var/tmp.
fn place_for_trees() -> PathBuf {
    let usual = target().join("server");
    fs::create_dir_all(&usual)
        .unwrap_or_else(|error| panic!("cannot create {}: {error}", usual.display()));
    if account::can_enter(&usual) {
        return usual;
    }
    PathBuf::from(format!("/var/tmp/walferry-server-{}", short_hash(&usual)))
}

/// The extension's library: `WALFERRY_TEST_LIBRARY`, or the release build, or
/// for want of one the debug build.
fn extension_library() -> PathBuf {
    if let Some(named) = std::env::var_os("WALFERRY_TEST_LIBRARY") {
        let named = PathBuf::from(named);
        assert!(
            named.exists(),
            "WALFERRY_TEST_LIBRARY names {}, which is not there",
            named.display()
        );
        return named;
    }
    ["release", "debug"]
        .map(|profile| target().join(profile).join("libwalferry.so"))
        .into_iter()
        .find(|library| library.exists())
        .expect("the extension is not built: run `cargo build --release -p walferry-extension`")
}

fn fingerprint(file: &Path) -> String {
    match fs::metadata(file) {
        Ok(data) => format!(
            "{} {} {:?}\n",
            file.display(),
            data.len(),
            data.modified().ok()
        ),
        Err(_) => format!("{} absent\n", file.display()),
    }
}

/// FNV-1a of a path, to tell directories of the same name apart.
fn short_hash(path: &Path) -> String {
    let hash = path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{:08x}", hash as u32)
}
