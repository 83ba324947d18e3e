//! The workloads: each on a server of its own, loaded once behind a slot that
//! every contender's slot is then copied from, so that all read the same WAL.

use std::time::Instant;

use walferry_protocol::Lsn;
use walferry_tests::Server;

use crate::contender;

/// The slot that the others are copies of; its plugin never runs.
const BASE_SLOT: &str = "base";
/// What plugin pgoutput is read with: all tables.
pub const PUBLICATION: &str = "bench";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    Bulk,
    Toast,
    Full,
    Oltp,
}

/// A server that holds a workload's WAL.
pub struct Loaded {
    pub server: Server,
    /// Row changes behind the slot.
    pub changes: u64,
    /// Size of the WAL behind the slot, in bytes.
    pub wal_bytes: u64,
    /// All the workload's commits lie at or below.
    pub last_change: Lsn,
    /// Where readers are to stop: past one more small transaction.
    pub end: Lsn,
}

impl Workload {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Bulk => "bulk",
            Workload::Toast => "bulk, TOASTed rows",
            Workload::Full => "bulk, REPLICA IDENTITY FULL",
            Workload::Oltp => "OLTP (pgbench TPC-B)",
        }
    }

    /// Starts a server and runs the workload at `scale` of its full size.
    pub fn load(self, scale: f64) -> Loaded {
        let server = Server::builder()
            .setting("logical_decoding_work_mem", "256MB")
            .setting("shared_buffers", "512MB")
            .setting("max_wal_size", "16GB")
            .setting("checkpoint_timeout", "1h")
            .setting("wal_sender_timeout", "0")
            // Replication commands are read back from there.
            .setting("track_activity_query_size", "16kB")
            .start();
        contender::install_null_plugin(server.tree());
        server.sql(&format!("CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES"));
        if self == Workload::Oltp {
            pgbench(&server, &["--initialize", "--quiet", "--scale=10"]);
        }
        server.sql(&self.schema());
        server.sql("CREATE TABLE past_the_workload (id int PRIMARY KEY)");
        let began = Instant::now();
        let start = server.create_slot(BASE_SLOT, "pgoutput");
        let changes = self.run(&server, scale);
        let last_change = server.flushed_lsn();
        // One more transaction, so that a plugin that writes only what commits is seen to have come past the last change.
        server.sql("INSERT INTO past_the_workload VALUES (1)");
        let end = server.flushed_lsn();
        // A reader of nothing must see WAL past the end, or it waits for a keepalive's timer.
        server.sql("INSERT INTO past_the_workload VALUES (2); CHECKPOINT");
        let wal_bytes = last_change.0 - start.0;
        eprintln!(
            "{}: {changes} changes, {} MB of WAL, loaded in {:.1} s",
            self.name(),
            wal_bytes / 1_000_000,
            began.elapsed().as_secs_f64()
        );
        Loaded {
            server,
            changes,
            wal_bytes,
            last_change,
            end,
        }
    }

    fn schema(self) -> String {
        match self {
            Workload::Bulk => LINEITEM.to_owned(),
            Workload::Full => format!("{LINEITEM}\nALTER TABLE lineitem REPLICA IDENTITY FULL"),
            Workload::Toast => ARTICLE.to_owned(),
            Workload::Oltp => String::new(),
        }
    }

    /// Runs the workload and returns how many row changes it made.
    fn run(self, server: &Server, scale: f64) -> u64 {
        // Thousands, because a transaction holds a thousand rows.
        let thousands = |full: f64| ((full * scale).round() as u64).max(1);
        match self {
            Workload::Bulk | Workload::Full => {
                load_change_remove(server, [1000.0, 300.0, 100.0].map(thousands))
            }
            Workload::Toast => load_change_remove(server, [30.0, 9.0, 3.0].map(thousands)),
            Workload::Oltp => {
                let per_client = ((40_000.0 * scale).round() as u64).max(100);
                let transactions = format!("--transactions={per_client}");
                pgbench(
                    server,
                    &["--no-vacuum", "--client=4", "--jobs=1", &transactions],
                );
                // Three updates and an insert each.
                per_client * 4 * 4
            }
        }
    }
}

impl Loaded {
    /// Makes `slot` for `plugin` at the point where the workload begins.
    pub fn copy_slot(&self, slot: &str, plugin: &str) {
        self.server.sql(&format!(
            "SELECT pg_copy_logical_replication_slot('{BASE_SLOT}', '{slot}', false, '{plugin}')"
        ));
    }

    /// Drops a copy, once the server has noticed that its reader is gone.
    pub fn drop_slot(&self, slot: &str) {
        walferry_tests::wait_until("the slot to be free", || {
            self.server.slot_active_pid(slot).is_none()
        });
        self.server
            .sql(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    }
}

/// Calls the workload's procedures, each for so many transactions of 1,000 rows; returns the number of rows.
fn load_change_remove(server: &Server, transactions: [u64; 3]) -> u64 {
    // One session, but one statement at a time: a procedure can't commit within a batch.
    let mut client = server.client();
    for (procedure, transactions) in ["load", "change", "remove"].iter().zip(transactions) {
        let call = format!("CALL {procedure}({transactions})");
        client
            .batch_execute(&call)
            .unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    transactions.iter().sum::<u64>() * 1000
}

fn pgbench(server: &Server, arguments: &[&str]) {
    let output = server
        .program("pgbench")
        .args(arguments)
        .output()
        .expect("pgbench");
    assert!(
        output.status.success(),
        "pgbench {arguments:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// TPC-H's lineitem with a timestamptz and a jsonb; 1,000 rows a transaction.
/// `change` alters three columns of whole orders, `remove` deletes whole orders
/// from the other end.
const LINEITEM: &str = include_str!("../workloads/lineitem.sql");

/// Rows with 8 kB of text that does not compress and so lies out of line;
/// `change` leaves that text alone.
const ARTICLE: &str = include_str!("../workloads/article.sql");
