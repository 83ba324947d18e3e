//! The output plugin under whatever a superuser may do, for long.

mod writer;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use walferry_protocol::Lsn;
use walferry_tests::frames::{Action, Capture, Cell, FrameReader, Old, table_rows};
use walferry_tests::{Received, Server, Statements, Walsender};
use writer::{Writer, create};

/// How long the random workload writes.
const NASTY: Duration = Duration::from_secs(20);

fn assert_unharmed(server: &Server) {
    let log = server.log();
    for bad in [
        "PANIC",
        "terminated by signal",
        "TRAP",
        "assertion",
        "panicked",
        "invalid memory alloc",
        "leak",
    ] {
        let found: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(bad))
            .take(5)
            .collect();
        assert!(found.is_empty(), "the server's log says: {found:#?}");
    }
}

/// A reader of its own slot; returns what it read up to the LSN it is told.
fn follow(
    server: &Arc<Server>,
    slot: &'static str,
    options: &'static [(&'static str, &'static str)],
    done: &Arc<AtomicBool>,
) -> thread::JoinHandle<Capture> {
    let (server, done) = (Arc::clone(server), Arc::clone(done));
    thread::spawn(move || {
        let mut walsender = Walsender::connect(&server, "postgres");
        walsender
            .start(slot, options)
            .unwrap_or_else(|error| panic!("{slot}: {error:?}"));
        let mut reader = FrameReader::default();
        while !done.load(Ordering::SeqCst) {
            match walsender.next(Duration::from_millis(50)) {
                Received::Data { start, bytes } => reader.read(&bytes, Some(start)),
                Received::Failed(error) => panic!("{slot}: {error:?}"),
                Received::Keepalive { .. } | Received::Silence => {}
            }
        }
        walsender
            .read_until(server.flushed_lsn(), &mut reader)
            .unwrap_or_else(|error| panic!("{slot}: {error:?}"));
        reader.finish()
    })
}

/// Rows by table, then by primary key; each by attribute number.
type State = HashMap<u32, BTreeMap<String, HashMap<i16, Cell>>>;

/// The row's primary key: the id, and in a partition its k too. Ids repeat in
/// a partition that holds more than one k.
fn key(table: &str, row: &[Cell]) -> String {
    let columns = if table.starts_with("part") { 2 } else { 1 };
    let texts = row[..columns].iter().map(|cell| match cell {
        Cell::Text(text) => text.as_str(),
        other => panic!("a key of {table} holds {other:?}"),
    });
    texts.collect::<Vec<_>>().join(" ")
}

fn replay(capture: &Capture) -> State {
    let mut state = State::new();
    for change in capture.changes() {
        let Some(relation) = &change.relation else {
            continue;
        };
        let definition = &relation.definition;
        if definition
            .columns
            .first()
            .is_none_or(|column| column.name != "id")
        {
            continue;
        }
        let rows = state.entry(definition.oid).or_default();
        let id = |row: &[Cell]| key(&definition.name, row);
        let by_attribute = |row: &[Cell]| -> HashMap<i16, Cell> {
            definition
                .columns
                .iter()
                .map(|column| column.attnum)
                .zip(row.iter().cloned())
                .collect()
        };
        match &change.action {
            Action::Insert { new } => {
                let before = rows.insert(id(new), by_attribute(new));
                // Tables made by CREATE TABLE AS have no key.
                assert!(
                    before.is_none() || definition.name.starts_with("extra"),
                    "inserted twice: {change}"
                );
            }
            Action::Update { old, new } => {
                let key = match old {
                    Old::None => id(new),
                    Old::Key(old) | Old::Full(old) => id(old),
                };
                let mut before = rows
                    .remove(&key)
                    .unwrap_or_else(|| panic!("no row to update: {change}"));
                for (attribute, cell) in by_attribute(new) {
                    if cell != Cell::UnchangedToast {
                        before.insert(attribute, cell);
                    }
                }
                rows.insert(id(new), before);
            }
            Action::Delete { old } => {
                let (Old::Key(old) | Old::Full(old)) = old else {
                    panic!("no old row: {change}")
                };
                assert!(
                    rows.remove(&id(old)).is_some(),
                    "no row to delete: {change}"
                );
            }
            Action::Truncate { .. } => rows.clear(),
            Action::Message { .. } => {}
        }
    }
    state
}

fn assert_same_as_the_tables(server: &Server, state: &State, reader: &str) -> usize {
    let mut client = server.client();
    let tables = client
        .query(
            "SELECT oid, oid::regclass::text, (SELECT array_agg(attnum ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
               FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
            &[],
        )
        .unwrap();
    let mut compared = 0;
    for table in tables {
        let (oid, name, attributes): (u32, String, Vec<i16>) =
            (table.get(0), table.get(1), table.get(2));
        let nothing = BTreeMap::new();
        let replayed = state.get(&oid).unwrap_or(&nothing);
        let rows = table_rows(&mut client, &name, "id");
        assert_eq!(rows.len(), replayed.len(), "{reader}: rows of {name}");
        for row in rows {
            let id = key(&name, &row);
            let got = replayed
                .get(&id)
                .unwrap_or_else(|| panic!("{reader}: row {id} of {name} is missing"));
            for (attribute, expected) in attributes.iter().zip(&row) {
                // A column that is younger than the row's last change.
                let added = || [Cell::Null, Cell::Text("added".into())].contains(expected);
                let is_same = got.get(attribute).map_or_else(added, |cell| {
                    // An enum's labels are renamed without a change of the rows.
                    cell == expected
                        || [cell, expected].into_iter().all(|c| {
                            [Cell::Text("one".into()), Cell::Text("two".into())].contains(c)
                        })
                });
                assert!(
                    is_same,
                    "{reader}: row {id} of {name}, attribute {attribute}: {:?} instead of {expected:?}",
                    got.get(attribute)
                );
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn a_random_superuser_workload_is_reproduced_exactly_by_three_readers() {
    let server = Arc::new(
        Server::builder()
            .setting("logical_decoding_work_mem", "256kB")
            .setting("max_locks_per_transaction", "256")
            .setting("max_prepared_transactions", "30")
            .start(),
    );
    const WRITERS: usize = 4;
    server.sql("CREATE TABLE part (id bigint, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
        CREATE TABLE part0 PARTITION OF part FOR VALUES IN (0); CREATE TABLE part12 PARTITION OF part FOR VALUES IN (1, 2);");
    server.sql(&format!(
        "{}; {}; ALTER TABLE full_identity REPLICA IDENTITY FULL",
        create("shared", ""),
        create("full_identity", "")
    ));
    for writer in 0..WRITERS {
        server.sql(&format!(
            "CREATE TYPE mood_{writer} AS ENUM ('one', 'three')"
        ));
        for table in 0..3 {
            let more = if table == 2 {
                format!(", m mood_{writer}")
            } else {
                String::new()
            };
            server.sql(&create(&format!("own_{writer}_{table}"), &more));
        }
    }
    for slot in ["whole", "streamed", "prepared"] {
        server.create_slot(slot, "walferry");
    }
    let done = Arc::new(AtomicBool::new(false));
    let readers = [
        follow(&server, "whole", &[], &done),
        follow(
            &server,
            "streamed",
            &[("streaming", "on"), ("frame_size", "4096")],
            &done,
        ),
        follow(
            &server,
            "prepared",
            &[
                ("streaming", "on"),
                ("two_phase", "on"),
                ("frame_size", "1MB"),
            ],
            &done,
        ),
    ];
    let until = Instant::now() + NASTY;
    let seed = walferry_tests::random_seed();
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let mut client = server.client();
            client.each("SET lock_timeout = '100ms'; SET deadlock_timeout = '50ms'; SET client_min_messages = error").unwrap();
            let mut writer = Writer { client, random: StdRng::seed_from_u64(seed + number as u64), number, made: 0 };
            thread::spawn(move || {
                let mut transactions = 0;
                while Instant::now() < until {
                    writer.transaction();
                    transactions += 1;
                }
                transactions
            })
        })
        .collect();
    // Maintenance in between, as autovacuum and people do.
    let mut janitor = server.client();
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(700));
        let _ = janitor.batch_execute("VACUUM (ANALYZE) shared");
        let _ = janitor.batch_execute("VACUUM FULL full_identity");
        let _ =
            janitor.batch_execute("SET lock_timeout = '50ms'; CLUSTER shared USING shared_pkey");
        let _ = janitor.batch_execute("CHECKPOINT");
    }
    let transactions: usize = writers
        .into_iter()
        .map(|writer| writer.join().expect("a writer"))
        .sum();
    for gid in server.texts_in("postgres", "SELECT gid FROM pg_prepared_xacts") {
        server.sql(&format!("COMMIT PREPARED '{gid}'"));
    }
    done.store(true, Ordering::SeqCst);
    let captures = readers.map(|reader| reader.join().expect("a reader"));
    assert!(transactions > 200, "only {transactions} transactions");
    let [whole, streamed, prepared] = &captures;
    assert!(whole.transactions.len() > 100);
    let mut compared = 0;
    for (capture, name) in captures.iter().zip(["whole", "streamed", "prepared"]) {
        assert!(
            capture.open.is_empty(),
            "{name} has open streams: {:?}",
            capture.open
        );
        compared += assert_same_as_the_tables(&server, &replay(capture), name);
    }
    eprintln!(
        "seed {seed}: {transactions} transactions, {} events, {compared} values compared",
        whole.changes().count()
    );
    assert_eq!(whole.ids(), streamed.ids());
    assert_eq!(whole.ids(), prepared.ids());
    for other in [streamed, prepared] {
        for (a, b) in whole.changes().zip(other.changes()) {
            assert!(a.to_string() == b.to_string(), "{a}\nis elsewhere\n{b}");
        }
    }
    assert!(!streamed.aborts.is_empty() && !prepared.prepared.is_empty());
    assert_unharmed(&server);
}

/// Reads and forgets, confirming all, until the server has decoded up to `end`.
fn drain(walsender: &mut Walsender, end: Lsn) {
    let began = Instant::now();
    let mut confirmed = Instant::now();
    loop {
        match walsender.next(Duration::from_millis(20)) {
            Received::Keepalive { end: reached } => {
                walsender.status(reached, false);
                if reached >= end {
                    return;
                }
            }
            Received::Silence => walsender.status(Lsn::INVALID, true),
            Received::Data { start, .. } if confirmed.elapsed() > Duration::from_millis(200) => {
                walsender.status(start, false);
                confirmed = Instant::now();
            }
            Received::Data { .. } => {}
            Received::Failed(error) => panic!("{error:?}"),
        }
        assert!(
            began.elapsed() < Duration::from_secs(180),
            "decoding takes too long"
        );
    }
}

/// A server whose walsender waits while nobody listens.
fn patient_server() -> Server {
    Server::builder().setting("wal_sender_timeout", 0).start()
}

#[test]
fn the_walsenders_memory_stays_flat_over_many_small_transactions() {
    let server = patient_server();
    server.sql("CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE t (id int PRIMARY KEY, v text, m mood, p point)");
    server.create_slot("s", "walferry");
    let mut walsender = Walsender::connect(&server, "postgres");
    walsender.start("s", &[("streaming", "on")]).unwrap();
    let mut run = |count: usize| {
        server.sql(&format!(
            "DO $$ BEGIN FOR n IN 1..{count} LOOP INSERT INTO t VALUES (1, 'x', 'fine', '(1,2)') ON CONFLICT (id) DO UPDATE SET v = 'y'; COMMIT; END LOOP; END $$"
        ));
        drain(&mut walsender, server.flushed_lsn());
        walsender.private_memory()
    };
    let before = run(10_000);
    let after = run(100_000);
    let grown = after.saturating_sub(before);
    assert!(
        grown < 2 << 20,
        "{grown} bytes more after 100,000 transactions, from {before}"
    );
}

#[test]
fn the_walsenders_memory_stays_flat_while_definitions_come_and_go() {
    let server = patient_server();
    server.sql("CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE t (id int PRIMARY KEY, v text, m mood, p point); INSERT INTO t VALUES (1, 'x', 'fine', '(1,2)')");
    server.create_slot("s", "walferry");
    let mut walsender = Walsender::connect(&server, "postgres");
    walsender.start("s", &[]).unwrap();
    let mut run = |count: usize| {
        server.sql(&format!(
            "DO $$ BEGIN FOR n IN 1..{count} LOOP EXECUTE format('ALTER TABLE t RENAME v TO w; UPDATE t SET w = ''z''; ALTER TABLE t RENAME w TO v; UPDATE t SET v = ''u'';'); COMMIT; END LOOP; END $$"
        ));
        drain(&mut walsender, server.flushed_lsn());
        walsender.private_memory()
    };
    let before = run(500);
    let after = run(2_500);
    let grown = after.saturating_sub(before);
    assert!(
        grown < 2 << 20,
        "{grown} bytes more after 5,000 definitions, from {before}"
    );
}

#[test]
fn a_domain_with_a_function_in_its_check_and_a_type_that_reads_the_catalog_are_decoded() {
    let server = Server::start_default();
    let mut client = server.client();
    client
        .each(
            "CREATE TABLE known (id int PRIMARY KEY); CREATE TABLE doomed (id int PRIMARY KEY);
             CREATE FUNCTION is_known(n int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN EXISTS (SELECT FROM known WHERE id = n); END $$;
             CREATE DOMAIN known_id AS int CHECK (is_known(VALUE)); CREATE DOMAIN known_ids AS int[] CHECK (is_known(VALUE[1])); CREATE TYPE holder AS (k known_id, t text);
             CREATE TYPE looker;
             CREATE FUNCTION looker_in(cstring) RETURNS looker LANGUAGE internal STABLE STRICT AS 'regclassin';
             CREATE FUNCTION looker_out(looker) RETURNS cstring LANGUAGE internal STABLE STRICT AS 'regclassout';
             CREATE TYPE looker (INPUT = looker_in, OUTPUT = looker_out, LIKE = oid);
             CREATE TABLE t (id int PRIMARY KEY, k known_id, ks known_ids, h holder, l looker, rn regnamespace)",
        )
        .unwrap();
    server.create_slot("s", "walferry");
    client
        .each("INSERT INTO known VALUES (1); INSERT INTO t VALUES (1, 1, '{1,2}', ROW(1, 'x'), 'doomed', 'public'); DELETE FROM known; ALTER TABLE doomed RENAME TO doom; UPDATE t SET id = 2; DROP TABLE doom; UPDATE t SET id = 3; DROP FUNCTION is_known CASCADE")
        .unwrap();
    let lines: Vec<String> = Capture::peek(&mut client, "s", &[])
        .lines()
        .into_iter()
        .filter(|l| l.contains("public.t "))
        .collect();
    assert_eq!(
        lines[..2],
        [
            "INSERT public.t id=1 k=1 ks={1,2} h=(1,x) l=doomed rn=public",
            "UPDATE public.t key(id=1) id=2 k=1 ks={1,2} h=(1,x) l=doom rn=public",
        ]
    );
    // What it pointed at is gone: regclass prints the number.
    assert!(lines[2].starts_with("UPDATE public.t key(id=2) id=3 k=1 ks={1,2} h=(1,x) l="));
    assert_unharmed(&server);
}
