//! What the sinks do when they cannot go on, and how they go on after.

mod delivery;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use delivery::{Delivered, Destination, SECONDS};
use walferry_tests::{Server, Streamer, wait_until};

const SLOT: &str = "ferry";

fn server() -> Server {
    let server = Server::start_default();
    server.sql("CREATE TABLE item (id int PRIMARY KEY, note text)");
    server.create_slot(SLOT, "walferry");
    server
}

/// A command whose files may not grow past `bytes`: a full disk that needs no
/// rights to make.
fn with_little_space(mut command: std::process::Command, bytes: u64) -> std::process::Command {
    // SAFETY: setrlimit and signal are async-signal-safe, and only that runs
    // between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit {
                rlim_cur: bytes,
                rlim_max: bytes,
            };
            libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            Ok(())
        });
    }
    command
}

#[test]
fn a_full_disk_stops_with_one_line_and_after_it_nothing_is_lost_or_doubled() {
    let server = server();
    let destination = Destination::new();
    for n in 0..40 {
        server.sql(&format!(
            "INSERT INTO item SELECT n, repeat('x', 100) FROM generate_series({}, {}) n",
            n * 100,
            n * 100 + 99
        ));
    }
    let command = destination.run(&server, SLOT).command();
    let output = with_little_space(command, 600_000)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<_> = told
        .lines()
        .filter(|line| line.contains("error:"))
        .collect();
    assert_eq!(errors.len(), 1, "{told}");
    assert!(errors[0].contains("cannot write to"), "{told}");
    assert!(told.contains("start again"), "{told}");
    let kept = Delivered::read(&destination.file()).events.len();
    assert!(
        kept.is_multiple_of(100),
        "half a transaction was left in the file: {kept}"
    );
    destination.run_until_now(&server, SLOT);
    let delivered = destination.delivered();
    delivered.assert_in_commit_order();
    assert_eq!(delivered.events.len(), 4000);
}

#[test]
fn a_disk_that_is_really_full_loses_nothing_either() {
    // Mounting takes root; without it the test above is what there is.
    let folder = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(folder.path())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("no right to mount: not run");
        return;
    }
    let server = server();
    let state = tempfile::tempdir().unwrap();
    let file = folder.path().join("changes.jsonl");
    for n in 0..40 {
        server.sql(&format!(
            "INSERT INTO item SELECT n, repeat('x', 100) FROM generate_series({}, {}) n",
            n * 100,
            n * 100 + 99
        ));
    }
    let run = || {
        Streamer::run(&server.url(), SLOT)
            .arg("--sink")
            .arg(format!("file://{}", file.display()))
            .arg("--state-dir")
            .arg(state.path())
            .args(["--until-lsn", &server.flushed_lsn().to_string()])
    };
    let exit = run().run(30 * SECONDS).expect_code(1);
    assert!(exit.stderr.join("\n").contains("No space left"), "{exit:?}");
    let grown = std::process::Command::new("mount")
        .args(["-o", "remount,size=20m"])
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(grown.success());
    let exit = run().run(30 * SECONDS);
    let delivered = Delivered::read(&file);
    std::process::Command::new("umount")
        .arg(folder.path())
        .status()
        .unwrap();
    exit.expect_code(0);
    delivered.assert_in_commit_order();
    assert_eq!(delivered.events.len(), 4000);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_at_start() {
    let server = server();
    let exit = Streamer::run(&server.url(), SLOT)
        .args(["--sink", "file:///no/such/folder/x.jsonl"])
        .run(20 * SECONDS)
        .expect_code(1);
    let told = exit.stderr.join("\n");
    assert!(told.contains("/no/such/folder"), "{told}");
    assert!(told.contains("hint:"), "{told}");
}

#[test]
fn a_reader_of_stdout_that_goes_away_ends_the_run_with_a_line() {
    let server = server();
    let mut command = Streamer::run(&server.url(), SLOT)
        .args(["--sink", "stdout"])
        .command();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the slot to be read", || {
        server.slot_active_pid(SLOT).is_some()
    });
    drop(child.stdout.take());
    let before = server.flushed_lsn();
    server.sql("INSERT INTO item VALUES (1, 'one')");
    wait_until("the streamer to end", || {
        child.try_wait().unwrap().is_some()
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("the reader of standard output is gone"),
        "{told}"
    );
    assert!(
        server.confirmed_flush(SLOT) <= Some(before),
        "acknowledged what nobody read"
    );
}

#[test]
fn files_in_a_folder_rotate_between_transactions_and_survive_a_kill() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for compress in ["none", "zstd"] {
        let sink = folder.path().join(compress);
        let url = format!(
            "file://{}/?rotate-size=20kB&compress={compress}",
            sink.display()
        );
        let slot = format!("ferry_{compress}");
        server.create_slot(&slot, "walferry");
        let first: i32 = if compress == "none" { 0 } else { 100_000 };
        for round in 0..3 {
            let mut streamer = Streamer::run(&server.url(), &slot)
                .args(["--sink", &url, "--flush-interval", "10ms"])
                .start();
            for n in 0..10 {
                let from = first + round * 1000 + n * 100;
                server.sql(&format!(
                    "INSERT INTO item SELECT n, md5(n::text) FROM generate_series({from}, {}) n",
                    from + 99
                ));
            }
            streamer.kill();
        }
        Streamer::run(&server.url(), &slot)
            .args([
                "--sink",
                &url,
                "--until-lsn",
                &server.flushed_lsn().to_string(),
            ])
            .run(30 * SECONDS)
            .expect_code(0);
        let mut names: Vec<_> = std::fs::read_dir(&sink)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        names.sort();
        assert!(names.len() > 3, "{names:?}");
        let mut bytes = Vec::new();
        for name in &names {
            let content = std::fs::read(name).unwrap();
            let plain = match compress {
                "zstd" => zstd::decode_all(&content[..]).unwrap(),
                _ => content,
            };
            assert_eq!(
                plain.last(),
                Some(&b'\n'),
                "{} ends inside a line",
                name.display()
            );
            assert!(Delivered::parse(&plain).events.len().is_multiple_of(100));
            bytes.extend_from_slice(&plain);
        }
        let delivered = Delivered::parse(&bytes);
        delivered.assert_in_commit_order();
        assert_eq!(delivered.events.len(), 3000);
    }
}
