//! Every way of installing gives the same extension.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use walferry_tests::{Server, ServerTree, checkout, target};

/// A folder that servers of another account can run from.
fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("walferry-tree-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir_in("/tmp")
        .unwrap()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `cargo pgrx` for the extension, in a target directory of its own: its linker
/// flags differ, and the library that other tests run must not be replaced.
fn cargo_pgrx(home: &Path, tree: &ServerTree, arguments: &[&str]) {
    fs::write(home.join("config.toml"), "[configs]\n").unwrap();
    run(Command::new("cargo")
        .arg("pgrx")
        .args(arguments)
        .args(["--package", "walferry-extension", "--pg-config"])
        .arg(tree.pg_config())
        .current_dir(checkout())
        .env("PGRX_HOME", home)
        .env("CARGO_TARGET_DIR", target().join("cargo-pgrx")));
}

/// The extension's files by name, the library left out: it is another build.
fn files(pkglibdir: &Path, extensiondir: &Path) -> BTreeMap<String, String> {
    assert!(pkglibdir.join("walferry.so").is_file());
    fs::read_dir(extensiondir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            name.starts_with("walferry")
                .then(|| (name, fs::read_to_string(path).unwrap()))
        })
        .collect()
}

/// What CREATE EXTENSION makes: each member with its definition, owner's rights and comment.
fn catalogue(tree: &'static ServerTree) -> Vec<String> {
    let server = Server::builder().tree(tree).start();
    server.sql("CREATE EXTENSION walferry");
    server.texts_in(
        "postgres",
        "SELECT format('%s | %s | %s | %s',
                    pg_describe_object(classid, objid, 0),
                    CASE WHEN classid = 'pg_proc'::regclass THEN pg_get_functiondef(objid)
                         WHEN classid = 'pg_class'::regclass AND (SELECT relkind = 'v' FROM pg_class WHERE oid = objid)
                         THEN pg_get_viewdef(objid) END,
                    (SELECT proacl FROM pg_proc WHERE classid = 'pg_proc'::regclass AND oid = objid),
                    obj_description(objid, classid::regclass::name))
         FROM pg_depend
         WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
           AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'walferry')
         ORDER BY 1",
    )
}

#[test]
fn cargo_pgrx_and_make_install_give_the_same_extension() {
    let made = ServerTree::get();
    let made_files = files(made.pkglibdir(), made.extensiondir());
    let made_catalogue = catalogue(made);
    assert!(!made_catalogue.is_empty(), "the extension has members");

    let (root, home) = (folder(), tempfile::tempdir().unwrap());
    let installed = ServerTree::without_walferry(root.path());
    cargo_pgrx(home.path(), installed, &["install", "--release"]);
    let installed_files = files(installed.pkglibdir(), installed.extensiondir());
    assert_eq!(
        made_files.keys().collect::<Vec<_>>(),
        installed_files.keys().collect::<Vec<_>>()
    );
    assert_eq!(
        made_files["walferry.control"],
        installed_files["walferry.control"]
    );
    assert_eq!(made_catalogue, catalogue(installed));

    let package = tempfile::tempdir().unwrap();
    cargo_pgrx(
        home.path(),
        installed,
        &["package", "--out-dir", package.path().to_str().unwrap()],
    );
    let inside = |path: &Path| -> PathBuf { package.path().join(path.strip_prefix("/").unwrap()) };
    let packaged = files(
        &inside(installed.pkglibdir()),
        &inside(installed.extensiondir()),
    );
    assert_eq!(
        installed_files, packaged,
        "install and package of cargo-pgrx differ"
    );
}

#[test]
fn make_install_puts_every_file_below_destdir() {
    let (tree, stage) = (ServerTree::get(), tempfile::tempdir().unwrap());
    // The server's own pg_config, so that nothing is built anew for other headers.
    let pg_config = std::env::var("WALFERRY_TEST_PG_CONFIG")
        .unwrap_or_else(|_| "/usr/lib/postgresql/15/bin/pg_config".to_owned());
    run(Command::new("make")
        .arg("install")
        .arg(format!("PG_CONFIG={pg_config}"))
        .arg("PREFIX=/opt/walferry")
        .arg(format!("DESTDIR={}", stage.path().display()))
        .current_dir(checkout())
        // Variables of the make that may run the tests.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL"));
    let answer = |option: &str| -> PathBuf {
        let output = Command::new(&pg_config).arg(option).output().unwrap();
        let path = String::from_utf8(output.stdout).unwrap();
        stage.path().join(path.trim().strip_prefix('/').unwrap())
    };
    let staged = files(
        &answer("--pkglibdir"),
        &answer("--sharedir").join("extension"),
    );
    assert_eq!(staged, files(tree.pkglibdir(), tree.extensiondir()));

    let binary = stage.path().join("opt/walferry/bin/walferry");
    assert_eq!(
        fs::metadata(&binary).unwrap().permissions().mode() & 0o777,
        0o755
    );
    run(Command::new(binary).arg("--version"));
}
