//! `make demo`: a throw-away server, a shop that takes orders, and its changes
//! leaving through walferry as JSON while the slot advances.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use rand::Rng;
use walferry_protocol::Lsn;
use walferry_tests::{Server, Streamer, wait_until};

const SLOT: &str = "demo";

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

fn main() -> ExitCode {
    let handler = interrupt as extern "C" fn(libc::c_int);
    // SAFETY: the handler only stores to an atomic, which is safe at any moment.
    unsafe { libc::signal(libc::SIGINT, handler as libc::sighandler_t) };
    let seconds: u64 = std::env::var("DEMO_SECONDS").ok().map_or(30, |text| {
        text.parse().expect("DEMO_SECONDS is a number of seconds")
    });

    let screen = Screen::new();
    screen.say("starting a throw-away PostgreSQL server");
    let server = Server::builder()
        .setting("synchronous_commit", "on")
        .start();
    screen.say(&format!(
        "{} runs in {}",
        server.tree().version(),
        server.data_dir().display()
    ));
    server.sql(SHOP);

    let mut command = Streamer::run(&server.url(), SLOT)
        .args([
            "--create-slot",
            "--plugin",
            "walferry",
            "--sink",
            "stdout",
            "--state-dir",
        ])
        .arg(server.scratch_dir())
        .command();
    screen.say(&format!(
        "walferry run --source {} --slot {SLOT} --create-slot --sink stdout",
        server.url()
    ));
    let log = server.scratch_dir().join("streamer.log");
    let mut streamer = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).expect("the streamer's log"))
        // Ctrl-C is for the demo, which then stops the streamer once all has arrived.
        .process_group(0)
        .spawn()
        .expect("the streamer");
    wait_until("the streamer to hold its slot", || {
        let alive = streamer
            .try_wait()
            .expect("state of the streamer")
            .is_none();
        if !alive {
            eprintln!("{}", std::fs::read_to_string(&log).unwrap_or_default());
            panic!("the streamer ended at once");
        }
        server.slot_active_pid(SLOT).is_some()
    });

    let arrived = Arc::new(AtomicU64::new(0));
    let printer = print_events(&mut streamer, &screen, &arrived);
    let began = Instant::now();
    let over = || {
        INTERRUPTED.load(Ordering::SeqCst) || (seconds > 0 && began.elapsed().as_secs() >= seconds)
    };
    let mut shop = Shop::open(&server);
    let mut status = Instant::now();
    while !over() {
        shop.do_business();
        thread::sleep(Duration::from_millis(150));
        if status.elapsed() >= Duration::from_secs(2) {
            screen.say(&describe_slot(&server, arrived.load(Ordering::SeqCst)));
            status = Instant::now();
        }
    }

    let end = server.flushed_lsn();
    screen.say("the shop is closed; the streamer finishes what is in flight");
    wait_until("the slot to reach the last commit", || {
        server.confirmed_flush(SLOT) >= Some(end)
    });
    // SAFETY: kill takes plain numbers; the child has not been waited for, so the pid is its own.
    unsafe { libc::kill(streamer.id() as libc::pid_t, libc::SIGTERM) };
    let ended = streamer.wait().expect("end of the streamer");
    printer.join().expect("the printer of events");
    let arrived = arrived.load(Ordering::SeqCst);
    screen.say(&format!(
        "{} changes committed, {arrived} events arrived; slot {SLOT} is confirmed at {}; the streamer ended with {ended}",
        shop.changes,
        server.confirmed_flush(SLOT).unwrap_or(Lsn(0)),
    ));
    if arrived == shop.changes && ended.success() {
        ExitCode::SUCCESS
    } else {
        eprintln!("{}", std::fs::read_to_string(&log).unwrap_or_default());
        eprintln!("the demo expected every change once and exit code 0");
        ExitCode::FAILURE
    }
}

const SHOP: &str = "
    CREATE TABLE customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, profile jsonb);
    CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        customer int NOT NULL REFERENCES customer,
        items text[] NOT NULL,
        total numeric(10, 2) NOT NULL,
        status text NOT NULL DEFAULT 'open',
        placed_at timestamptz NOT NULL DEFAULT now()
    );";

/// A shop in whose tables something happens.
struct Shop {
    client: Client,
    /// Row changes committed so far.
    changes: u64,
}

impl Shop {
    fn open(server: &Server) -> Shop {
        let mut shop = Shop {
            client: server.client(),
            changes: 0,
        };
        shop.commit(
            r#"INSERT INTO customer (name, profile) VALUES
                ('Ada', '{"city": "London", "tags": ["early"]}'), ('Grace', '{"city": "New York"}'),
                ('Édouard', NULL), ('林', '{"city": "臺北", "vip": true}')"#,
        );
        shop
    }

    /// One transaction: mostly an order, at times what becomes of one.
    fn do_business(&mut self) {
        let mut dice = rand::rng();
        match dice.random_range(0..10) {
            0..5 => {
                let (customer, total) = (dice.random_range(1..=4), dice.random_range(100..9999));
                self.commit(&format!(
                    "INSERT INTO orders (customer, items, total) VALUES ({customer},
                     (ARRAY ['{{tea}}', '{{tea,\"oat biscuits\"}}', '{{lamp,bulb,NULL}}'])[{}]::text[], {total} / 100.0)",
                    dice.random_range(1..=3)
                ));
            }
            5..8 => self.commit(
                "UPDATE orders SET status = 'shipped' WHERE id = (SELECT min(id) FROM orders WHERE status = 'open')",
            ),
            8 => self.commit(
                "DELETE FROM orders WHERE id = (SELECT min(id) FROM orders WHERE status = 'shipped')",
            ),
            _ => {
                // Never to be seen: what is rolled back does not leave.
                let mut transaction = self.client.transaction().expect("a transaction");
                transaction
                    .batch_execute("INSERT INTO orders (customer, items, total) VALUES (1, '{a mistake}', 0)")
                    .expect("a statement of the shop");
                transaction.rollback().expect("a rollback");
            }
        }
    }

    fn commit(&mut self, statement: &str) {
        self.changes += self
            .client
            .execute(statement, &[])
            .expect("a statement of the shop");
    }
}

fn describe_slot(server: &Server, arrived: u64) -> String {
    let end = server.wal_lsn();
    let confirmed = server.confirmed_flush(SLOT).unwrap_or(Lsn(0));
    format!(
        "slot {SLOT}: confirmed_flush_lsn {confirmed}, {} bytes behind the end of WAL at {end}; {arrived} events",
        end.0.saturating_sub(confirmed.0)
    )
}

/// Prints the streamer's lines as they come, and counts them.
fn print_events(
    streamer: &mut Child,
    screen: &Screen,
    arrived: &Arc<AtomicU64>,
) -> thread::JoinHandle<()> {
    let pipe = BufReader::new(streamer.stdout.take().expect("the streamer's stdout"));
    let (screen, arrived) = (screen.clone(), Arc::clone(arrived));
    thread::spawn(move || {
        for line in pipe.lines() {
            screen.event(&line.expect("a line of the streamer's stdout"));
            arrived.fetch_add(1, Ordering::SeqCst);
        }
    })
}

/// The terminal, shared by the shop's thread and the printer.
#[derive(Clone)]
struct Screen {
    out: Arc<Mutex<std::io::Stdout>>,
    colours: bool,
}

impl Screen {
    fn new() -> Screen {
        let out = std::io::stdout();
        Screen {
            colours: out.is_terminal(),
            out: Arc::new(Mutex::new(out)),
        }
    }

    /// A line of the demo's own.
    fn say(&self, text: &str) {
        let mut out = self.out.lock().expect("the terminal");
        let _ = match self.colours {
            true => writeln!(out, "\x1b[1;36m── {text}\x1b[0m"),
            false => writeln!(out, "-- {text}"),
        };
    }

    /// An event, whole, coloured by its operation.
    fn event(&self, line: &str) {
        let mut out = self.out.lock().expect("the terminal");
        let operation = serde_json::from_str::<serde_json::Value>(line)
            .ok()
            .and_then(|event| Some(event["op"].as_str()?.to_owned()));
        let colour = match operation.as_deref() {
            Some("c") => "\x1b[32m",
            Some("u") => "\x1b[33m",
            Some("d") => "\x1b[31m",
            _ => "",
        };
        let _ = match self.colours {
            true => writeln!(out, "{colour}{line}\x1b[0m"),
            false => writeln!(out, "{line}"),
        };
    }
}
