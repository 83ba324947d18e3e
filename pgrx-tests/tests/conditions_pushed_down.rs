//! Conditions evaluated on the server where that is exact: the events are the
//! same with it and without, byte for byte.

#[path = "conditions_match_the_server/predicates.rs"]
#[allow(dead_code, reason = "the other test asks more of it")]
mod predicates;
#[path = "conditions_match_the_server/values.rs"]
#[allow(dead_code, reason = "the other test asks more of it")]
mod values;

use std::time::Duration;

use postgres::Client;
use predicates::Generator;
use rand::SeedableRng;
use rand::rngs::StdRng;
use values::COLUMNS;
use walferry_tests::frames::Capture;
use walferry_tests::{Exit, Server, Statements, Streamer};

const SECONDS: Duration = Duration::from_secs(120);

/// Slots at the same place, to read with conditions on the server and without.
fn slots(server: &Server) {
    server.create_slot("kept", "walferry");
    for slot in ["on", "off", "on_2pc", "off_2pc"] {
        server.sql(&format!(
            "SELECT pg_copy_logical_replication_slot('kept', '{slot}')"
        ));
    }
}

fn run(server: &Server, slot: &str, push: &str, further: &[&str]) -> Exit {
    let end = server.flushed_lsn().to_string();
    Streamer::run(&server.url(), slot)
        .args(["--sink", "stdout", "--until-lsn", &end])
        .args(["--missing-identity", "accept", "--push-conditions", push])
        .args(further.iter().copied())
        .run(SECONDS)
        .expect_code(0)
}

/// Events without the moment at which they were written.
fn events(exit: &Exit) -> Vec<String> {
    exit.stdout
        .iter()
        .map(|line| {
            let mut event: serde_json::Value = serde_json::from_str(line).expect("JSON");
            event.as_object_mut().map(|event| event.remove("ts_ms"));
            event.to_string()
        })
        .collect()
}

#[test]
fn events_are_the_same_with_conditions_on_the_server_and_without() {
    let server = Server::builder()
        .setting("logical_decoding_work_mem", "64kB")
        .setting("max_prepared_transactions", "5")
        .start();
    server.sql(
        "CREATE SCHEMA parts;
         CREATE DOMAIN positive AS int;
         CREATE TABLE full_row (id int PRIMARY KEY, price numeric, note text, kind varchar);
         ALTER TABLE full_row REPLICA IDENTITY FULL;
         ALTER TABLE full_row ALTER note SET STORAGE EXTERNAL;
         CREATE TABLE key_row (id int PRIMARY KEY, price int, note text);
         ALTER TABLE key_row ALTER note SET STORAGE EXTERNAL;
         CREATE TABLE other_key (a int NOT NULL UNIQUE, b text, c int PRIMARY KEY);
         ALTER TABLE other_key REPLICA IDENTITY USING INDEX other_key_a_key;
         CREATE TABLE bare (id int, price int);
         CREATE TABLE root (id int, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE parts.a PARTITION OF root FOR VALUES FROM (0) TO (1000);
         CREATE TABLE parts.b (v int, x text, id int NOT NULL);
         ALTER TABLE parts.b DROP COLUMN x;
         ALTER TABLE root ATTACH PARTITION parts.b FOR VALUES FROM (1000) TO (2000);
         CREATE TABLE sums (id int PRIMARY KEY, v int);
         CREATE TABLE owned (id int PRIMARY KEY, p positive);
         CREATE TABLE changing (id int PRIMARY KEY, v int);
         ALTER TABLE changing REPLICA IDENTITY FULL",
    );
    slots(&server);
    server.sql(
        "INSERT INTO full_row SELECT g, g, 'n' || g, CASE WHEN g % 2 = 0 THEN 'even' END FROM generate_series(1, 40) g;
         UPDATE full_row SET note = repeat('x', 9000) WHERE id <= 10;
         UPDATE full_row SET price = 40 - price;
         UPDATE full_row SET price = 'NaN' WHERE id = 7;
         UPDATE full_row SET price = NULL WHERE id IN (8, 30);
         UPDATE full_row SET id = id + 100 WHERE id % 3 = 0;
         UPDATE full_row SET note = 'short' WHERE id % 4 = 0;
         DELETE FROM full_row WHERE id % 5 = 0;
         INSERT INTO key_row SELECT g, g, repeat('y', 9000) FROM generate_series(1, 30) g;
         UPDATE key_row SET price = 31 - price;
         UPDATE key_row SET id = 131 - id;
         UPDATE key_row SET note = 'z' WHERE id % 2 = 0;
         DELETE FROM key_row WHERE id % 3 = 0;
         INSERT INTO other_key SELECT g, g::text, -g FROM generate_series(1, 20) g;
         UPDATE other_key SET b = 'b';
         UPDATE other_key SET a = a + 10 WHERE a > 10;
         DELETE FROM other_key;
         INSERT INTO bare SELECT g, g FROM generate_series(1, 9) g;
         UPDATE bare SET price = price + 4;
         DELETE FROM bare;
         INSERT INTO root SELECT g, g % 7 FROM generate_series(990, 1010) g;
         UPDATE root SET v = 6 - v;
         UPDATE root SET id = id + 500 WHERE id < 1000;
         DELETE FROM root WHERE v < 3;
         INSERT INTO sums SELECT g, g FROM generate_series(1, 9) g;
         INSERT INTO owned SELECT g, g FROM generate_series(1, 9) g;
         TRUNCATE bare",
    );
    // The type changes within a transaction, so that rows of both are in it.
    server.sql(
        "BEGIN;
         INSERT INTO changing SELECT g, g FROM generate_series(1, 9) g;
         ALTER TABLE changing ALTER v TYPE numeric;
         INSERT INTO changing SELECT g, g + 0.5 FROM generate_series(11, 19) g;
         UPDATE changing SET v = 20 - v;
         ALTER TABLE changing ADD w text DEFAULT 'w';
         ALTER TABLE changing RENAME v TO old; ALTER TABLE changing ADD v bigint DEFAULT 7;
         INSERT INTO changing SELECT g, g, 'x', g FROM generate_series(21, 29) g;
         COMMIT;
         DELETE FROM changing WHERE id % 2 = 0",
    );
    // In progress while it is read, with a part that is rolled back; prepared.
    server.sql(
        "BEGIN;
         INSERT INTO full_row SELECT g, g % 100, repeat('s', 100), 'even' FROM generate_series(1000, 6000) g;
         SAVEPOINT s; INSERT INTO full_row SELECT g, 90, 'gone', '' FROM generate_series(7000, 8000) g; ROLLBACK TO s;
         UPDATE full_row SET price = 99 - price WHERE id > 1000;
         COMMIT",
    );
    server.sql(
        "BEGIN; INSERT INTO full_row VALUES (9001, 95, 'p', NULL), (9002, 1, 'p', NULL); PREPARE TRANSACTION 'kept'",
    );
    server.sql(
        "BEGIN; INSERT INTO full_row VALUES (9003, 95, 'p', NULL); PREPARE TRANSACTION 'lost'",
    );
    server.sql("COMMIT PREPARED 'kept'");
    server.sql("ROLLBACK PREPARED 'lost'");
    let conditions = [
        "public.full_row: price > 20 AND (kind = 'even' OR note LIKE 'n%' OR note IS NULL)",
        "public.full_*: id BETWEEN 1 AND 9500",
        "public.key_row: id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 101, 103, 104)",
        "public.other_key: a <= 15",
        "public.bare: price > 5",
        "public.root: v >= 4",
        "parts.b: id < 1008",
        "public.sums: v + 1 > 5",
        "public.owned: p > 5",
        "public.changing: v > 6",
    ];
    let wheres: Vec<&str> = conditions
        .iter()
        .flat_map(|text| ["--where", *text])
        .collect();
    for (slots, further) in [
        (["on", "off"], &[][..]),
        (["on_2pc", "off_2pc"], &["--two-phase"]),
    ] {
        let arguments = [&wheres, further].concat();
        let on = run(&server, slots[0], "on", &arguments);
        let off = run(&server, slots[1], "off", &arguments);
        let (with, without) = (events(&on), events(&off));
        assert!(without.len() > 2000, "{} events", without.len());
        for (with, without) in with.iter().zip(&without) {
            assert_eq!(with, without);
        }
        assert_eq!(with.len(), without.len());
        let log = on.stderr.join("\n");
        for told in [
            "conditions are evaluated on the server: parts.a, parts.b, public.bare",
            "public.full_row",
            "here: public.owned (a column's type is not built in), public.sums (arithmetic may raise an error on a row)",
        ] {
            assert!(log.contains(told), "{told}: {log}");
        }
        assert!(!off.stderr.join("\n").contains("conditions are evaluated"));
    }
    // What the server left out was not sent.
    let mut client = server.client();
    let thin: Vec<(&str, &str)> = conditions
        .iter()
        .map(|text| ("conditions", *text))
        .chain([("conditions_mode", "thin")])
        .collect();
    let sent = Capture::peek(&mut client, "kept", &thin).lines().len();
    let all = Capture::peek(&mut client, "kept", &[]).lines().len();
    assert!(sent * 10 < all * 9, "{sent} of {all}");
}

#[test]
fn random_predicates_leave_out_exactly_the_rows_that_do_not_pass_or_none() {
    let server = Server::builder()
        .setting("synchronous_commit", "on")
        .start();
    let mut client = server.client();
    let mut random = StdRng::seed_from_u64(20_261_121);
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|column| format!("{} {}", column.name, column.declared))
        .collect();
    server.sql(&format!(
        "CREATE TABLE public.t (id int PRIMARY KEY, {})",
        columns.join(", ")
    ));
    server.create_slot("s", "walferry");
    for id in 1..=60 {
        let values: Vec<String> = COLUMNS
            .iter()
            .map(|column| values::stored(column, &mut random))
            .collect();
        server.sql(&format!(
            "INSERT INTO public.t VALUES ({id}, {})",
            values.join(", ")
        ));
    }
    client
        .each("SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'")
        .expect("settings");
    let mut generator = Generator::new(StdRng::seed_from_u64(7));
    let rounds = if std::env::var_os("WALFERRY_SOAK").is_some() {
        5000
    } else {
        400
    };
    let (mut pushed, mut kept) = (0, 0);
    for _ in 0..rounds {
        let predicate = generator.predicate();
        let passing = passing(&mut client, &predicate);
        let option = format!("public.t: {predicate}");
        let options = [("conditions", option.as_str()), ("conditions_mode", "thin")];
        let capture = Capture::peek(&mut client, "s", &options);
        let sent: Vec<i32> = capture
            .changes()
            .filter_map(|change| change.text("id").parse().ok())
            .collect();
        if sent.len() == 60 {
            kept += 1;
            continue;
        }
        pushed += 1;
        assert_eq!(Some(sent), passing, "{predicate}");
    }
    assert!(pushed * 10 > rounds, "{pushed} evaluated, {kept} not");
}

/// The rows that pass; `None` where the server raises an error.
fn passing(client: &mut Client, predicate: &str) -> Option<Vec<i32>> {
    let rows = client
        .query(
            &format!("SELECT id FROM public.t WHERE {predicate} ORDER BY id"),
            &[],
        )
        .ok()?;
    Some(rows.iter().map(|row| row.get(0)).collect())
}
