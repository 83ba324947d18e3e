//! Several sessions that write at once: large and small transactions, some
//! rolled back whole or in part, some prepared, and logical messages.

#![allow(dead_code)] // each test binary uses a part of it

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::Rng;
use walferry_tests::Server;

use super::delivery::Delivered;

/// Notes that must never be delivered.
const NEVER: &str = "rolled back";

pub fn create_tables(server: &Server) {
    server.sql(
        "CREATE TABLE item (id bigint PRIMARY KEY, version int NOT NULL, note text); \
         CREATE TABLE entry (id bigint PRIMARY KEY, version int NOT NULL, note text); \
         ALTER TABLE entry REPLICA IDENTITY FULL",
    );
}

struct Shared {
    stop: AtomicBool,
    next_id: AtomicU64,
}

pub struct Workload {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<()>>,
}

impl Workload {
    pub fn start(server: &Server, writers: u32, prepared: bool) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
        });
        let writers = (0..writers)
            .map(|number| {
                let conninfo = server.conninfo("postgres");
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    while !shared.stop.load(Ordering::Relaxed) {
                        // The server may be crashing: what was committed is
                        // read from it in the end.
                        let _ = write(&conninfo, &shared, number, prepared);
                        std::thread::sleep(Duration::from_millis(20));
                    }
                })
            })
            .collect();
        Workload { shared, writers }
    }

    pub fn finish(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.join().expect("a writer");
        }
    }
}

fn write(
    conninfo: &str,
    shared: &Shared,
    number: u32,
    prepared: bool,
) -> Result<(), postgres::Error> {
    let mut client = postgres::Client::connect(conninfo, postgres::NoTls)?;
    let mut random = rand::rng();
    while !shared.stop.load(Ordering::Relaxed) {
        let table = if random.random_bool(0.5) {
            "item"
        } else {
            "entry"
        };
        let rows = match random.random_range(0..80) {
            0 => 2000,
            1..5 => 60,
            _ => 3,
        };
        let first = shared.next_id.fetch_add(2 * rows, Ordering::Relaxed);
        let insert = |from: u64, note: &str| {
            format!(
                "INSERT INTO {table} SELECT n, 1, '{note} ' || repeat(md5(n::text), 1 + (n % 5)::int) \
                 FROM generate_series({from}, {}) n;",
                from + rows - 1
            )
        };
        let mut statements = format!("BEGIN; {}", insert(first, "kept"));
        match random.random_range(0..8) {
            0 => {
                statements += &format!(
                    "SAVEPOINT s; {} SAVEPOINT t; UPDATE {table} SET note = '{NEVER}' WHERE id = {first}; ROLLBACK TO s;",
                    insert(first + rows, NEVER)
                )
            }
            1 => {
                statements += &format!(
                    "SAVEPOINT s; UPDATE {table} SET version = version + 1 WHERE id BETWEEN {first} AND {}; RELEASE s;",
                    first + rows / 2
                )
            }
            2 => statements += &format!("DELETE FROM {table} WHERE id = {first};"),
            3 => {
                statements += &format!(
                    "UPDATE {table} SET version = version + 1 WHERE id IN \
                 (SELECT id FROM {table} WHERE id % 3 = {} ORDER BY id DESC LIMIT 5 FOR UPDATE SKIP LOCKED);",
                    number % 3
                )
            }
            4 => statements += "SELECT pg_logical_emit_message(true, 'inside', 'm');",
            _ => {}
        }
        match random.random_range(0..10) {
            0 => {
                let undone = statements.replace("kept", NEVER);
                client.batch_execute(&format!("{undone} ROLLBACK"))?;
            }
            1 => client.batch_execute(&format!(
                "{statements} COMMIT; SELECT pg_logical_emit_message(false, 'outside', 'm')"
            ))?,
            2..6 if prepared => {
                let gid = format!("{number}-{first}");
                client.batch_execute(&format!("{statements} PREPARE TRANSACTION '{gid}'"))?;
                std::thread::sleep(Duration::from_millis(random.random_range(0..300)));
                // A crash between leaves it prepared: it is ended in the end.
                client.batch_execute(&format!("COMMIT PREPARED '{gid}'"))?;
            }
            6 if prepared => {
                let gid = format!("{number}-{first}");
                let undone = statements.replace("kept", NEVER);
                client.batch_execute(&format!("{undone} PREPARE TRANSACTION '{gid}'"))?;
                std::thread::sleep(Duration::from_millis(random.random_range(0..100)));
                client.batch_execute(&format!("ROLLBACK PREPARED '{gid}'"))?;
            }
            _ => client.batch_execute(&format!("{statements} COMMIT"))?,
        }
        std::thread::sleep(Duration::from_millis(random.random_range(5..40)));
    }
    Ok(())
}

type Rows = BTreeMap<i64, (i64, String)>;

/// Ends what a crash left prepared.
pub fn end_prepared(server: &Server) {
    let left = server.texts_in(
        "postgres",
        "SELECT gid FROM pg_prepared_xacts ORDER BY prepared",
    );
    for gid in left {
        server.sql(&format!("ROLLBACK PREPARED '{gid}'"));
    }
}

/// The events, applied one after the other, make the tables that the server
/// has, and nothing that was rolled back is among them.
pub fn assert_equal(server: &Server, delivered: &Delivered) {
    for table in ["item", "entry"] {
        let mut applied = Rows::new();
        for event in delivered
            .events
            .iter()
            .filter(|e| e["source"]["table"] == table)
        {
            let row = |image: &str| {
                let row = &event[image];
                (
                    row["id"].as_i64().expect("id"),
                    (
                        row["version"].as_i64().unwrap_or(0),
                        row["note"].as_str().unwrap_or("").to_owned(),
                    ),
                )
            };
            match event["op"].as_str().expect("op") {
                "c" => {
                    let (id, values) = row("after");
                    assert!(
                        !values.1.starts_with(NEVER),
                        "rolled back, but delivered: {event}"
                    );
                    assert!(
                        applied.insert(id, values).is_none(),
                        "inserted twice: {event}"
                    );
                }
                "u" => {
                    let (id, values) = row("after");
                    assert!(
                        !values.1.starts_with(NEVER),
                        "rolled back, but delivered: {event}"
                    );
                    assert!(
                        applied.insert(id, values).is_some(),
                        "updated what is not there: {event}"
                    );
                }
                "d" => {
                    let (id, _) = row("before");
                    assert!(
                        applied.remove(&id).is_some(),
                        "deleted what is not there: {event}"
                    );
                }
                other => panic!("{other}: {event}"),
            }
        }
        let mut client = server.client();
        let there: Rows = client
            .query(
                &format!("SELECT id, version::bigint, note FROM {table}"),
                &[],
            )
            .expect("the table")
            .iter()
            .map(|row| (row.get(0), (row.get(1), row.get(2))))
            .collect();
        assert!(!there.is_empty(), "the workload wrote nothing");
        let missing = there.iter().find(|(id, row)| applied.get(id) != Some(row));
        assert!(
            missing.is_none(),
            "{table}: not delivered, or not as it is: {missing:?}"
        );
        assert_eq!(
            applied.len(),
            there.len(),
            "{table}: more was delivered than is there"
        );
    }
}
