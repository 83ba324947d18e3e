//! What running decoders publish in shared memory, and who is named by it.

#[allow(dead_code)]
mod findings;

use findings::{Finding, Monitor, write_wal};
use walferry_protocol::Lsn;
use walferry_tests::frames::FrameReader;
use walferry_tests::{Encoding, Server, Walsender, wait_until};

const SLOT: &str = "ferry";

/// A reader that never confirms by itself.
struct Reader {
    walsender: Walsender,
    frames: FrameReader,
}

impl Reader {
    fn start(server: &Server, options: &[(&str, &str)]) -> Reader {
        let mut walsender = Walsender::connect(server, "postgres");
        walsender.start(SLOT, options).unwrap();
        let frames = FrameReader::default();
        Reader { walsender, frames }
    }

    /// Reads all there is.
    fn read(&mut self, server: &Server) {
        let end = server.flushed_lsn();
        self.walsender.read_until(end, &mut self.frames).unwrap();
        wait_until("the decoder to come to rest", || {
            told(server, "state = 'reading' AND is_current") == "t"
        });
    }
}

/// One that has read all there is.
fn read(server: &Server, options: &[(&str, &str)]) -> Reader {
    let mut reader = Reader::start(server, options);
    reader.read(server);
    reader
}

/// Expressions over the slot's row.
fn told(server: &Server, what: &str) -> String {
    let query = format!(
        "SELECT concat_ws(' ', {what}) FROM walferry.plugin_statistics WHERE slot_name = '{SLOT}'"
    );
    server.texts_in("postgres", &query).concat()
}

#[test]
fn a_slots_statistics_are_there_while_it_is_read() {
    let server = Server::start_default();
    server.sql(
        "CREATE EXTENSION walferry; CREATE TABLE item (id int PRIMARY KEY, t text); CREATE TABLE other (id int); \
         CREATE ROLE monitor LOGIN IN ROLE pg_monitor",
    );
    server.create_slot(SLOT, "walferry");
    server.create_slot("text", "pgoutput");
    assert!(told(&server, "why_null").starts_with("nobody reads it"));
    let options = [("tables", "public.item"), ("origin", "none")];
    let mut reader = read(&server, &options);
    let counts = "transactions, changes, filtered, origin_filtered";
    assert_eq!(told(&server, counts), "0 0 0 0");

    server.sql("INSERT INTO item SELECT g, 'x' FROM generate_series(1, 100) g");
    server.sql("INSERT INTO other SELECT generate_series(1, 7); DELETE FROM item WHERE id < 4");
    server.sql("TRUNCATE other");
    server.sql("SELECT pg_logical_emit_message(true, 'mine', 'x')");
    reader.read(&server);
    // The rows of two tables, a TRUNCATE and a message; without those of `other`.
    assert_eq!(told(&server, counts), "4 112 8 0");
    assert_eq!(
        told(
            &server,
            "pid, database, sampled_lsn <= pg_current_wal_lsn(), sampled_at > since, why_null"
        ),
        format!("{} postgres t t", reader.walsender.pid())
    );
    let frames =
        "frames BETWEEN 3 AND 5, bytes BETWEEN 500 AND 10000, write_time > 0, plugin_time > 0";
    assert_eq!(told(&server, frames), "t t t t");

    server.sql(
        "SELECT pg_replication_origin_create('elsewhere'); SELECT pg_replication_origin_session_setup('elsewhere'); \
         INSERT INTO item VALUES (1000, 'y'), (1001, 'y')",
    );
    reader.read(&server);
    assert_eq!(
        told(&server, "transactions, changes, origin_filtered >= 2"),
        "4 112 t"
    );

    // A row that a condition leaves out is one that was filtered.
    drop(reader);
    let conditions = [
        ("tables", "public.item"),
        ("conditions", "public.item: id > 2000"),
    ];
    let mut reader = read(&server, &conditions);
    server.sql("INSERT INTO item VALUES (1500, 'z'), (2500, 'z')");
    reader.read(&server);
    assert_eq!(told(&server, "changes, filtered"), "116 114");

    // Who may look, and the reasons of the others.
    let rows = server.psql(
        "postgres",
        "SET ROLE monitor; SELECT slot_name, changes, why_null FROM walferry.plugin_statistics ORDER BY 1",
    );
    assert_eq!(
        rows.trim(),
        format!("{SLOT}|116|\ntext||its plugin is pgoutput, which publishes nothing")
    );
    let entries = "SELECT count(*) FROM walferry.decoders()";
    assert_eq!(server.value::<i64>(entries), 1);
    drop(reader);
    wait_until("the entry to be free", || server.value::<i64>(entries) == 0);
    assert!(told(&server, "why_null").starts_with("nobody reads it"));

    // Read by SQL, and left with an error: this session's next reader finds a place too.
    let mut client = server.client();
    for _ in 0..50 {
        let refused = "SELECT count(*) FROM pg_logical_slot_get_binary_changes('ferry', NULL, NULL, 'tables', '*')";
        client.query_one(refused, &[]).unwrap_err();
        let accepted =
            "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('ferry', NULL, NULL)";
        assert!(client.query_one(accepted, &[]).unwrap().get::<_, i64>(0) > 0);
    }
    assert_eq!(server.value::<i64>(entries), 0);
    // A process that ends without a word leaves nothing behind: the server starts anew.
    let reader = read(&server, &[]);
    let killed = std::process::Command::new("kill")
        .args(["-KILL", &reader.walsender.pid().to_string()])
        .status();
    assert!(killed.unwrap().success());
    drop(reader);
    wait_until("the server to recover", || {
        server.try_sql("postgres", "SELECT 1").is_ok() && server.slot_active_pid(SLOT).is_none()
    });
    assert_eq!(server.value::<i64>(entries), 0);
    let _reader = read(&server, &[]);
    assert_eq!(told(&server, "changes > 100"), "t");
}

#[test]
fn a_transaction_is_counted_while_it_is_replayed() {
    let server = Server::start_default();
    server.sql("CREATE EXTENSION walferry; CREATE TABLE item (id int, t text)");
    server.create_slot(SLOT, "walferry");
    server.sql("INSERT INTO item SELECT g, repeat('x', 500) FROM generate_series(1, 100000) g");
    // Nobody takes the frames: the connection fills, and the decoder waits.
    let mut reader = Reader::start(&server, &[("streaming", "off")]);
    wait_until("the decoder to wait for its reader", || {
        told(&server, "state, changes BETWEEN 1 AND 99999, is_current") == "sending t t"
    });
    reader.read(&server);
    assert_eq!(told(&server, "transactions, changes"), "1 100000");
    // Waiting for the reader is not the plugin's work.
    assert_eq!(told(&server, "plugin_time < 5000, bytes > 50000000"), "t t");
}

/// What the server has to spare goes to the table of locks, and does not come back.
fn use_memory_up(server: &Server) {
    let greedy = "SELECT count(pg_advisory_lock(g)) FROM generate_series(1, 100000) g";
    assert!(server.try_sql("postgres", greedy).is_err());
    wait_until("the locks to be free again", || {
        let held = "SELECT 1 / (count(*) = 0)::int FROM pg_locks WHERE locktype = 'advisory'";
        server.try_sql("postgres", held).is_ok()
    });
}

fn memory(server: &Server) -> Option<i64> {
    let query = "SELECT max(size) FROM pg_shmem_allocations WHERE name = 'walferry 1'";
    server.value(query)
}

#[test]
fn without_memory_the_plugin_works_and_says_why_it_tells_nothing() {
    let server = Server::builder()
        .setting("max_replication_slots", 100)
        .start();
    server.sql("CREATE EXTENSION walferry; CREATE TABLE item (id int)");
    server.create_slot(SLOT, "walferry");
    assert_eq!(memory(&server), None);
    use_memory_up(&server);
    server.sql("INSERT INTO item SELECT generate_series(1, 10)");
    let capture = Walsender::capture(&server, "postgres", SLOT, &[]);
    assert_eq!(capture.transactions[0].changes.len(), 10);
    wait_until("the slot to be free", || {
        server.slot_active_pid(SLOT).is_none()
    });
    let reader = Reader::start(&server, &[]);
    wait_until("the slot to be read", || {
        server.slot_active_pid(SLOT).is_some()
    });
    let why = told(&server, "changes, is_current, why_null");
    assert!(
        why.starts_with("no shared memory: not enough shared memory"),
        "{why}"
    );
    assert!(why.contains("shared_preload_libraries"), "{why}");
    // The session that asked is as it was.
    let mut client = server.client();
    for _ in 0..3 {
        client
            .query("SELECT * FROM walferry.plugin_statistics", &[])
            .unwrap();
        client.batch_execute("BEGIN; SELECT 1; COMMIT").unwrap();
    }
    let cancelled = client
        .batch_execute("SET statement_timeout = '100ms'; SELECT pg_sleep(60)")
        .unwrap_err();
    assert_eq!(cancelled.code().unwrap().code(), "57014");
    assert_eq!(memory(&server), None);
    drop(reader);

    // Set aside when the server starts, it is there, for every slot that there can be.
    server.configure(&[("shared_preload_libraries", "walferry")]);
    server.restart(walferry_tests::Shutdown::Fast);
    let preloaded = memory(&server).unwrap();
    use_memory_up(&server);
    let _reader = read(&server, &[]);
    assert_eq!(told(&server, "changes"), "10");
    server.crash_and_recover();
    assert_eq!(memory(&server), Some(preloaded));

    server.configure(&[("shared_preload_libraries", "")]);
    server.restart(walferry_tests::Shutdown::Fast);
    assert_eq!(memory(&server), None);
    drop(_reader);
    let _reader = read(&server, &[]);
    let late = memory(&server).unwrap();
    assert!(late < preloaded && late < 20_000, "{late} of {preloaded}");
}

fn blocker(server: &Server, kind: &str) -> Option<Vec<String>> {
    let rows = server.texts_in(
        "postgres",
        &format!(
            "SELECT concat_ws('|', array_to_string(holds, ','), pid, xid, application_name, database, finding, fix) \
             FROM walferry.slot_blockers('{SLOT}') WHERE kind = '{kind}'"
        ),
    );
    let fields = |row: &String| row.split('|').map(str::to_owned).collect();
    assert!(rows.len() < 2, "{rows:?}");
    rows.first().map(fields)
}

/// The decoder's own word, which outside views can only guess at: a transaction that is younger than another
/// which has written nothing, in another database.
#[test]
fn the_transaction_that_the_decoder_waits_for_is_named() {
    let server = Server::start_default();
    server.create_database("elsewhere", Encoding::Utf8);
    server.sql_in("elsewhere", "CREATE TABLE item (id int)");
    server.sql("CREATE EXTENSION walferry; CREATE TABLE item (id int)");
    server.create_slot(SLOT, "walferry");
    let mut reader = read(&server, &[]);
    let mut busy = |server: &Server| {
        write_wal(server, 1);
        server.sql("INSERT INTO item VALUES (1); CHECKPOINT");
        reader.read(server);
        reader.walsender.status(server.wal_lsn(), true);
    };
    busy(&server);
    // It has an xid and no WAL record: no decoder knows of it.
    let mut silent = server.client_in("elsewhere");
    silent
        .batch_execute("SET application_name = 'silent'; BEGIN; SELECT txid_current()")
        .unwrap();
    let mut guilty = server.client_in("elsewhere");
    guilty
        .batch_execute("SET application_name = 'payroll'; BEGIN; INSERT INTO item VALUES (1)")
        .unwrap();
    let row = guilty
        .query_one("SELECT pg_backend_pid(), txid_current()::text", &[])
        .unwrap();
    let (pid, xid): (i32, String) = (row.get(0), row.get(1));
    let before = server.wal_lsn();
    wait_until("the slot to stand at the transaction", || {
        busy(&server);
        blocker(&server, "transaction").is_some_and(|row| row[0].contains("restart_lsn"))
    });
    let held = server.restart_lsn(SLOT).unwrap();
    assert!(held < before, "{held} {before}");
    let oldest: String = told(
        &server,
        "oldest_xid, oldest_lsn < pg_current_wal_lsn(), is_current",
    );
    assert_eq!(oldest, format!("{xid} t t"));
    let row = blocker(&server, "transaction").unwrap();
    assert_eq!(
        row[1..5],
        [
            pid.to_string(),
            xid.clone(),
            "payroll".into(),
            "elsewhere".into()
        ]
    );
    let first: Lsn = told(&server, "oldest_lsn").parse().unwrap();
    assert!(
        row[5].contains(&format!("its first record at {first}")),
        "{row:?}"
    );
    // The silent one holds what is left to hold, and is told so once it is old enough.
    let silent_holds = "SET walferry.running_xacts_interval = '0s'; \
         SELECT concat_ws(' ', application_name, array_to_string(holds, ',')) \
         FROM walferry.slot_blockers('ferry') WHERE application_name = 'silent'";
    assert_eq!(
        server.psql("postgres", silent_holds).trim(),
        "silent catalog_xmin"
    );
    assert_eq!(
        row[6],
        format!("SELECT pg_catalog.pg_terminate_backend({pid});")
    );

    // diagnose() names the same, with the WAL that is kept; and when it has ended, says that it has.
    let limits = [("retained_wal", "1MB"), ("long_transaction", "0s")];
    let mut monitor = Monitor::of(&server, &limits);
    let named = |monitor: &mut Monitor| -> Vec<Finding> {
        let mut findings = monitor.findings_of(SLOT);
        findings
            .retain(|one| one.code == "long_transaction" && one.text.contains("holds restart_lsn"));
        findings
    };
    wait_until("it to be a second old", || !named(&mut monitor).is_empty());
    let findings = named(&mut monitor);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].object, Some(format!("pid {pid}")));
    findings[0].mend(&server, "postgres");
    drop(silent);
    wait_until("the slot to move", || {
        busy(&server);
        server.restart_lsn(SLOT).unwrap() > before
    });
    assert_eq!(blocker(&server, "transaction"), None);
    assert!(named(&mut monitor).is_empty());
}
