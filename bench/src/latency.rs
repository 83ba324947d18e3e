//! From COMMIT's return to the event's bytes written, at a given rate of
//! transactions.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use walferry_tests::{Server, Streamer, wait_until};

/// Transactions a second offered, as the bar has it.
const OFFERED: u32 = 2000;

/// Sessions that share the rate.
const SESSIONS: u32 = 4;

/// What one sink's measurement gave.
#[derive(Clone, Debug)]
pub struct Row {
    pub sink: &'static str,
    /// Transactions a second that were committed.
    pub held: f64,
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

/// Measures the file sink and, because nobody sees the bytes of `null`, a pipe.
pub fn measure_all(scale: f64) -> Vec<Row> {
    let seconds = (15.0 * scale).clamp(2.0, 60.0);
    ["file", "stdout"]
        .map(|sink| measure(sink, seconds))
        .to_vec()
}

fn measure(sink: &'static str, seconds: f64) -> Row {
    const SLOT: &str = "latency";
    let server = Server::builder()
        .setting("synchronous_commit", "on")
        .start();
    server
        .sql("CREATE TABLE tick (id bigint PRIMARY KEY, session int NOT NULL, note text NOT NULL)");
    let folder = tempfile::tempdir_in(server.scratch_dir()).expect("a folder for the streamer");
    let path = folder.path().join("ticks.jsonl");
    let url = match sink {
        "file" => format!("file://{}", path.display()),
        other => other.to_owned(),
    };
    let log = folder.path().join("log");
    let mut child = Streamer::run(&server.url(), SLOT)
        .args(["--create-slot", "--plugin", "walferry", "--sink", &url])
        .args([
            "--state-dir".as_ref(),
            folder.path().join("state").as_os_str(),
        ])
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log).expect("the streamer's log"))
        .spawn()
        .expect("the streamer");
    wait_until("the streamer to read its slot", || {
        assert!(
            child.try_wait().expect("state of the streamer").is_none(),
            "the streamer ended:\n{}",
            std::fs::read_to_string(&log).unwrap_or_default()
        );
        server.slot_active_pid(SLOT).is_some()
    });

    let over = Arc::new(AtomicBool::new(false));
    let seen = watch_output(&mut child, sink, &path, &over);
    let began = Instant::now();
    let committed = offer(&server, seconds);
    let held = committed.len() as f64 / began.elapsed().as_secs_f64();
    let seen = {
        wait_until("the last event's bytes", || {
            seen.lock().expect("seen events").len() >= committed.len()
        });
        over.store(true, Ordering::SeqCst);
        seen.lock().expect("seen events").clone()
    };
    let _ = child.kill();
    let _ = child.wait();

    let mut delays: Vec<Duration> = committed
        .iter()
        .map(|(id, returned)| {
            let written = seen
                .get(id)
                .unwrap_or_else(|| panic!("row {id} was committed and never written"));
            // Written before the client heard of its commit counts as no delay.
            written.saturating_duration_since(*returned)
        })
        .collect();
    delays.sort();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    let row = Row {
        sink,
        held,
        p50: at(0.5),
        p99: at(0.99),
        max: at(1.0),
    };
    eprintln!(
        "latency to {sink}: {:.0}/s held, p50 {:.2} ms, p99 {:.2} ms",
        row.held,
        row.p50.as_secs_f64() * 1000.0,
        row.p99.as_secs_f64() * 1000.0
    );
    row
}

/// Commits at the offered rate and returns, for each row, when its COMMIT returned.
fn offer(server: &Server, seconds: f64) -> Vec<(i64, Instant)> {
    let pause = Duration::from_secs(1) * SESSIONS / OFFERED;
    let each = (seconds * f64::from(OFFERED / SESSIONS)) as u32;
    let sessions: Vec<_> = (0..SESSIONS)
        .map(|session| {
            let mut client = server.client();
            thread::spawn(move || {
                let insert = client
                    .prepare(
                        "INSERT INTO tick VALUES ($1, $2, 'a row as small as rows of events are')",
                    )
                    .expect("statement of the workload");
                let mut returned = Vec::with_capacity(each as usize);
                // Sessions take turns instead of committing all at the same instant.
                let began = Instant::now() + pause * session / SESSIONS;
                for turn in 0..each {
                    // By the schedule, not by the last return: a delay must not lower the rate.
                    thread::sleep((began + pause * turn).saturating_duration_since(Instant::now()));
                    let id = i64::from(session) * 1_000_000_000 + i64::from(turn);
                    client
                        .execute(&insert, &[&id, &(session as i32)])
                        .expect("a committed row");
                    returned.push((id, Instant::now()));
                }
                returned
            })
        })
        .collect();
    sessions
        .into_iter()
        .flat_map(|session| session.join().expect("a session of the workload"))
        .collect()
}

type Seen = Arc<Mutex<HashMap<i64, Instant>>>;

/// Notes for each row when its event's last byte could be read.
fn watch_output(child: &mut Child, sink: &str, path: &Path, over: &Arc<AtomicBool>) -> Seen {
    let seen = Seen::default();
    let mut pipe: Box<dyn Read + Send> = match sink {
        "file" => {
            let path = path.to_owned();
            drop(child.stdout.take());
            Box::new(Tail {
                path,
                file: None,
                over: Arc::clone(over),
            })
        }
        _ => Box::new(child.stdout.take().expect("the streamer's stdout")),
    };
    let noted = Arc::clone(&seen);
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        let mut pending = Vec::new();
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            let now = Instant::now();
            pending.extend_from_slice(&buffer[..length]);
            let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') else {
                continue;
            };
            let mut noted = noted.lock().expect("seen events");
            for line in pending[..end].split(|byte| *byte == b'\n') {
                if let Some(id) = row_id(line) {
                    noted.entry(id).or_insert(now);
                }
            }
            pending.drain(..=end);
        }
    });
    seen
}

fn row_id(line: &[u8]) -> Option<i64> {
    let event: serde_json::Value = serde_json::from_slice(line).ok()?;
    event["after"]["id"].as_i64()
}

/// Reads a file that grows, looking for more five thousand times a second.
struct Tail {
    path: std::path::PathBuf,
    file: Option<File>,
    over: Arc<AtomicBool>,
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while !self.over.load(Ordering::SeqCst) {
            if self.file.is_none() {
                self.file = File::open(&self.path).ok();
            }
            if let Some(file) = &mut self.file {
                let length = file.read(buffer)?;
                if length > 0 {
                    return Ok(length);
                }
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(0)
    }
}
