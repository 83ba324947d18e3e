//! The output plugin and catalogs that change: schema changes, identities,
//! partitions, rewrites, and relations that are no ordinary tables.

use postgres::Client;
use walferry_tests::frames::{Action, Capture, Old};
use walferry_tests::{Server, Statements, Walsender};

fn server(setup: &str) -> (Server, Client) {
    let server = Server::start_default();
    server.sql(setup);
    server.create_slot("s", "walferry");
    let client = server.client();
    (server, client)
}

fn lines(client: &mut Client) -> Vec<String> {
    Capture::peek(client, "s", &[]).lines()
}

#[test]
fn each_row_of_a_transaction_travels_with_the_schema_it_was_written_under() {
    let (_server, mut client) = server("CREATE TABLE t (id int PRIMARY KEY, a text)");
    client
        .each(
            "BEGIN; INSERT INTO t VALUES (1, 'a'); ALTER TABLE t ADD b int DEFAULT 2; INSERT INTO t VALUES (2, 'b');
             ALTER TABLE t RENAME a TO z; UPDATE t SET b = 3 WHERE id = 1; ALTER TABLE t DROP COLUMN z; INSERT INTO t VALUES (3, 4);
             ALTER TABLE t ALTER b TYPE text; INSERT INTO t VALUES (4, 'five'); ALTER TABLE t RENAME TO t2; INSERT INTO t2 VALUES (5, 'six');
             ALTER TABLE t2 ADD z text; INSERT INTO t2 VALUES (6, 'seven', 'last'); COMMIT",
        )
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    assert_eq!(
        capture.lines(),
        [
            "INSERT public.t id=1 a=a",
            "INSERT public.t id=2 a=b b=2",
            "UPDATE public.t none id=1 z=a b=3",
            "INSERT public.t id=3 b=4",
            "INSERT public.t id=4 b=five",
            "INSERT public.t2 id=5 b=six",
            "INSERT public.t2 id=6 b=seven z=last",
        ]
    );
    let columns = &capture.definitions.last().unwrap().definition.columns;
    let attnums: Vec<i16> = columns.iter().map(|column| column.attnum).collect();
    assert_eq!(attnums, [1, 3, 4], "attribute numbers are kept");
}

#[test]
fn a_table_dropped_and_made_again_under_its_name_is_another_one() {
    let (_server, mut client) = server("CREATE TABLE t (id int PRIMARY KEY, a text)");
    client
        .each(
            "BEGIN; INSERT INTO t VALUES (1, 'old'); DROP TABLE t; CREATE TABLE t (name text PRIMARY KEY, n numeric, id uuid); INSERT INTO t VALUES ('new', 1.50, NULL);
             DROP TABLE t; CREATE TABLE t (id bigint); INSERT INTO t VALUES (7); COMMIT;
             INSERT INTO t VALUES (8); DROP TABLE t",
        )
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    assert_eq!(
        capture.lines(),
        [
            "INSERT public.t id=1 a=old",
            "INSERT public.t name=new n=1.50 id=NULL",
            "INSERT public.t id=7",
            "INSERT public.t id=8",
        ]
    );
    let mut oids: Vec<u32> = capture
        .definitions
        .iter()
        .map(|d| d.definition.oid)
        .collect();
    oids.dedup();
    assert_eq!(oids.len(), 3);
}

#[test]
fn the_key_is_that_of_the_catalog_at_the_time() {
    let (_server, mut client) = server(
        "CREATE TABLE t (a int NOT NULL, b int NOT NULL, c int, CONSTRAINT pk PRIMARY KEY (a)); CREATE UNIQUE INDEX bi ON t (b); INSERT INTO t VALUES (1, 10, 100), (2, 20, 200)",
    );
    client
        .each(
            "UPDATE t SET a = 3 WHERE a = 1; BEGIN; ALTER TABLE t DROP CONSTRAINT pk; UPDATE t SET c = 101 WHERE a = 3; DELETE FROM t WHERE a = 2; ALTER TABLE t ADD PRIMARY KEY (b); UPDATE t SET b = 11 WHERE a = 3; COMMIT;
             ALTER TABLE t REPLICA IDENTITY USING INDEX bi; UPDATE t SET b = 12; ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET c = 1; ALTER TABLE t REPLICA IDENTITY NOTHING; UPDATE t SET c = 2; DELETE FROM t",
        )
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    assert_eq!(
        capture.lines(),
        [
            "UPDATE public.t key(a=1) a=3 b=10 c=100",
            "UPDATE public.t none a=3 b=10 c=101",
            "DELETE public.t none",
            "UPDATE public.t key(b=10) a=3 b=11 c=101",
            "UPDATE public.t key(b=11) a=3 b=12 c=101",
            "UPDATE public.t full(a=3 b=12 c=101) a=3 b=12 c=1",
            "UPDATE public.t none a=3 b=12 c=2",
            "DELETE public.t none",
        ]
    );
    let usable: Vec<bool> = capture
        .changes()
        .map(|c| c.relation.as_ref().unwrap().definition.identity_usable)
        .collect();
    assert_eq!(usable, [true, false, false, true, true, true, false, false]);
    let full = capture.changes().nth(5).unwrap().relation.as_ref().unwrap();
    let keys: Vec<bool> = full
        .definition
        .columns
        .iter()
        .map(|c| c.flags.is_key())
        .collect();
    assert_eq!(keys, [false, true, false], "under FULL the primary key");
}

#[test]
fn without_a_replica_identity_updates_and_deletes_come_marked_and_are_not_dropped() {
    let (_server, mut client) = server(
        "CREATE TABLE bare (id int, v text); CREATE TABLE nothing (id int PRIMARY KEY, v text); ALTER TABLE nothing REPLICA IDENTITY NOTHING; INSERT INTO bare VALUES (1, 'a'), (2, 'b'); INSERT INTO nothing SELECT * FROM bare",
    );
    client
        .each("UPDATE bare SET id = 5 WHERE id = 1; DELETE FROM bare WHERE id = 2; UPDATE nothing SET id = 5 WHERE id = 1; DELETE FROM nothing WHERE id = 2")
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    assert_eq!(
        capture.lines(),
        [
            "UPDATE public.bare none id=5 v=a",
            "DELETE public.bare none",
            "UPDATE public.nothing none id=5 v=a",
            "DELETE public.nothing none",
        ]
    );
    assert!(
        capture
            .definitions
            .iter()
            .all(|d| !d.definition.identity_usable)
    );
}

#[test]
fn partitions_name_their_root_and_use_their_own_identity() {
    let (server, mut client) = server(
        "CREATE SCHEMA \"Arch\"; CREATE TABLE root (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
         CREATE TABLE eu PARTITION OF root FOR VALUES IN ('eu') PARTITION BY RANGE (id); CREATE TABLE \"Arch\".eu1 PARTITION OF eu FOR VALUES FROM (0) TO (100);
         CREATE TABLE us PARTITION OF root FOR VALUES IN ('us'); ALTER TABLE us REPLICA IDENTITY FULL;
         CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent)",
    );
    client
        .each(
            "INSERT INTO root VALUES (1, 'eu', 'a'), (2, 'us', 'b'); UPDATE root SET v = 'c'; UPDATE root SET region = 'us', id = 3 WHERE id = 1;
             CREATE TABLE asia (v text, junk int, region text NOT NULL, id int NOT NULL); ALTER TABLE asia DROP junk; ALTER TABLE root ATTACH PARTITION asia FOR VALUES IN ('asia');
             INSERT INTO root VALUES (9, 'asia', 'new'); DELETE FROM root WHERE region = 'asia'; INSERT INTO child VALUES (1)",
        )
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    assert_eq!(
        capture.lines(),
        [
            "INSERT Arch.eu1 id=1 region=eu v=a",
            "INSERT public.us id=2 region=us v=b",
            "UPDATE Arch.eu1 none id=1 region=eu v=c",
            "UPDATE public.us full(id=2 region=us v=b) id=2 region=us v=c",
            "DELETE Arch.eu1 key(id=1 region=eu)",
            "INSERT public.us id=3 region=us v=c",
            "INSERT public.asia v=new region=asia id=9",
            "DELETE public.asia key(region=asia id=9)",
            "INSERT public.child id=1",
        ]
    );
    let roots: Vec<Option<String>> = capture
        .changes()
        .map(|c| {
            c.relation
                .as_ref()
                .unwrap()
                .definition
                .root
                .as_ref()
                .map(|root| root.name.clone())
        })
        .collect();
    assert!(
        roots[..8]
            .iter()
            .all(|root| root.as_deref() == Some("root"))
    );
    assert_eq!(roots[8], None, "inheritance is no partition");

    // What is above a leaf changes: the leaf's own catalog rows do not.
    client
        .each(
            "CREATE TABLE world (id int, region text, v text) PARTITION BY RANGE (id);
             INSERT INTO root VALUES (10, 'eu', '1'); ALTER TABLE root RENAME TO trunk; INSERT INTO trunk VALUES (11, 'eu', '2');
             ALTER TABLE world ATTACH PARTITION trunk DEFAULT; INSERT INTO world VALUES (12, 'eu', '3');
             ALTER TABLE world RENAME TO globe; INSERT INTO globe VALUES (13, 'eu', '4'); CREATE SCHEMA space; ALTER TABLE globe SET SCHEMA space; INSERT INTO trunk VALUES (14, 'eu', '5');
             ALTER SCHEMA space RENAME TO void; INSERT INTO trunk VALUES (15, 'eu', '6');
             ALTER TABLE void.globe DETACH PARTITION trunk; INSERT INTO trunk VALUES (16, 'eu', '7'); ALTER TABLE trunk DETACH PARTITION eu; INSERT INTO eu VALUES (17, 'eu', '8'); ALTER TABLE eu DETACH PARTITION \"Arch\".eu1; INSERT INTO \"Arch\".eu1 VALUES (18, 'eu', '9')",
        )
        .unwrap();
    let expected = [
        Some("public.root"),
        Some("public.trunk"),
        Some("public.world"),
        Some("public.globe"),
        Some("space.globe"),
        Some("void.globe"),
        Some("public.trunk"),
        Some("public.eu"),
        None,
    ];
    for options in [&[][..], &[("streaming", "on")]] {
        let capture = Walsender::capture(&server, "postgres", "s", options);
        let roots: Vec<Option<String>> = capture
            .changes()
            .skip(9)
            .map(|c| {
                let root = c.relation.as_ref().unwrap().definition.root.as_ref();
                root.map(|root| format!("{}.{}", root.schema, root.name))
            })
            .collect();
        assert_eq!(roots, expected.map(|root| root.map(str::to_owned)));
    }
}

#[test]
fn rewrites_of_a_table_are_not_events_and_rows_go_on_after_them() {
    let (_server, mut client) = server(
        "CREATE TABLE t (id int PRIMARY KEY, v text, n int); INSERT INTO t SELECT g, repeat('x', 3000), g FROM generate_series(1, 50) g; ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
         CREATE MATERIALIZED VIEW mv AS SELECT id, v FROM t; CREATE UNIQUE INDEX mvi ON mv (id); CREATE TABLE copy (LIKE t)",
    );
    client.each("VACUUM FULL t").unwrap();
    client
        .each(
            "INSERT INTO t VALUES (100, 'a', 1); CLUSTER t USING t_pkey; INSERT INTO t VALUES (101, 'b', 1); ALTER TABLE t ALTER n TYPE bigint; INSERT INTO t VALUES (102, repeat('c', 4000), 1);
             ALTER TABLE t ADD u uuid DEFAULT gen_random_uuid(); UPDATE t SET n = 2 WHERE id = 102; ALTER TABLE t SET LOGGED; REINDEX TABLE t; ALTER TABLE t DROP u;
             REFRESH MATERIALIZED VIEW mv; ALTER TABLE t ALTER n SET DEFAULT 3; CREATE INDEX ti ON t (n); ANALYZE t;
             BEGIN; INSERT INTO t VALUES (103, 'd', 1); ALTER TABLE t ALTER n TYPE text; INSERT INTO t VALUES (104, 'e', 'two'); COMMIT",
        )
        .unwrap();
    client.each("VACUUM FULL").unwrap();
    client
        .each("VACUUM (FREEZE, ANALYZE); DELETE FROM t WHERE id = 104")
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    let lines = capture.lines();
    let short: Vec<String> = lines
        .iter()
        .filter(|l| !l.contains(".mv "))
        .map(|l| l.replace(&"c".repeat(4000), "C"))
        .map(|l| match l.split_once(" u=") {
            Some((before, _)) => before.to_owned(),
            None => l,
        })
        .collect();
    assert_eq!(
        short,
        [
            "INSERT public.t id=100 v=a n=1",
            "INSERT public.t id=101 v=b n=1",
            "INSERT public.t id=102 v=C n=1",
            "UPDATE public.t none id=102 v=UNCHANGED n=2",
            "INSERT public.t id=103 v=d n=1",
            "INSERT public.t id=104 v=e n=two",
            "DELETE public.t key(id=104)",
        ]
    );
    assert!(
        !lines.iter().any(|line| line.contains("pg_temp")),
        "{lines:?}"
    );
}

#[test]
fn truncates_of_many_tables_cascades_and_partitions_come_in_one_piece_each() {
    let (_server, mut client) = server(
        "CREATE TABLE a (id serial PRIMARY KEY); CREATE TABLE b (id int REFERENCES a); CREATE TABLE c (id int);
         CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)",
    );
    client
        .each("TRUNCATE a CASCADE; TRUNCATE c, a, b RESTART IDENTITY; TRUNCATE p; TRUNCATE p1; BEGIN; TRUNCATE c; INSERT INTO c VALUES (1); TRUNCATE c; SAVEPOINT x; TRUNCATE c; ROLLBACK TO x; COMMIT; BEGIN; TRUNCATE c; ROLLBACK")
        .unwrap();
    let all = Capture::peek(&mut client, "s", &[]);
    let mut of_all: Vec<String> = all.lines();
    let partitioned: Vec<String> = of_all
        .iter()
        .filter(|l| l.contains(".p"))
        .cloned()
        .collect();
    of_all.retain(|line| !line.contains(".p"));
    assert_eq!(
        of_all,
        [
            "TRUNCATE public.a cascade",
            "TRUNCATE public.b cascade",
            "TRUNCATE public.c restart",
            "TRUNCATE public.a restart",
            "TRUNCATE public.b restart",
            "TRUNCATE public.c",
            "INSERT public.c id=1",
            "TRUNCATE public.c",
        ]
    );
    assert!(partitioned.contains(&"TRUNCATE public.p1".to_owned()));
    assert!(partitioned.contains(&"TRUNCATE public.p2".to_owned()));
    // Left out tables leave the index of the others as it is.
    let some = Capture::peek(&mut client, "s", &[("tables", "public.b, public.p2")]);
    let ids = all.ids();
    let all_lines = all.lines();
    for (line, id) in some.lines().iter().zip(some.ids()) {
        let at = ids.iter().position(|candidate| *candidate == id);
        assert_eq!(&all_lines[at.expect("an id that is known")], line);
    }
    assert_eq!(some.lines().len(), 3);
}

#[test]
fn what_is_no_table_of_the_user_is_not_sent() {
    let (server, mut client) = server(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE SEQUENCE q; CREATE UNLOGGED TABLE un (id int); CREATE TABLE cat (id int PRIMARY KEY, v text) WITH (user_catalog_table = true)",
    );
    client
        .each(
            "CREATE TEMP TABLE tmp (id int); INSERT INTO tmp SELECT generate_series(1, 100); INSERT INTO un SELECT generate_series(1, 100); SELECT nextval('q') FROM generate_series(1, 200); SELECT setval('q', 1000);
             SELECT lo_put(lo_create(0), 0, 'large object'); CREATE ROLE somebody; COMMENT ON TABLE t IS 'x'; GRANT SELECT ON t TO somebody; PREPARE x AS SELECT 1; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE VIEW vw AS SELECT * FROM t; INSERT INTO vw VALUES (1, 'by view'); BEGIN; SELECT * FROM t FOR UPDATE; SELECT * FROM t FOR KEY SHARE; COMMIT; ALTER TABLE un SET LOGGED; INSERT INTO un VALUES (7); ALTER TABLE un SET UNLOGGED; INSERT INTO un VALUES (8);
             INSERT INTO cat VALUES (1, 'x'); UPDATE cat SET v = 'y'; BEGIN; CREATE TEMP TABLE tmp2 ON COMMIT DROP AS SELECT 1; COMMIT; TRUNCATE tmp, un; DROP TABLE tmp; CREATE TABLE made AS SELECT g FROM generate_series(1, 2) g",
        )
        .unwrap();
    let mut lines = lines(&mut client);
    // SET LOGGED writes the rows anew; that is not a change of them.
    lines.retain(|line| !line.contains("pg_largeobject"));
    assert_eq!(
        lines,
        [
            "INSERT public.t id=1 v=by view",
            "INSERT public.un id=7",
            "INSERT public.cat id=1 v=x",
            "UPDATE public.cat none id=1 v=y",
            "INSERT public.made g=1",
            "INSERT public.made g=2",
        ]
    );
    drop(server);
}

#[test]
fn upserts_speculative_inserts_and_merges_come_as_what_they_did() {
    let (server, mut client) = server(
        "CREATE TABLE t (id int PRIMARY KEY, v text, e text UNIQUE); CREATE TABLE src (id int, v text); INSERT INTO src VALUES (1, 'm1'), (2, 'm2'), (3, 'm3')",
    );
    client
        .each(
            "INSERT INTO t VALUES (1, 'a', 'e1') ON CONFLICT DO NOTHING; INSERT INTO t VALUES (1, 'b', 'e2') ON CONFLICT (id) DO UPDATE SET v = excluded.v; INSERT INTO t VALUES (2, 'b', 'e1') ON CONFLICT DO NOTHING;
             INSERT INTO t SELECT g, repeat('toast', 3000), NULL FROM generate_series(10, 12) g ON CONFLICT DO NOTHING; INSERT INTO t SELECT g, 'x', NULL FROM generate_series(12, 13) g ON CONFLICT (id) DO UPDATE SET v = 'up'",
        )
        .unwrap();
    if server.tree().major() >= 15 {
        client
            .each("MERGE INTO t USING src ON t.id = src.id WHEN MATCHED AND t.id = 1 THEN UPDATE SET v = src.v WHEN NOT MATCHED AND src.id = 2 THEN INSERT VALUES (src.id, src.v, NULL) WHEN NOT MATCHED THEN DO NOTHING; MERGE INTO t USING src ON t.id = src.id WHEN MATCHED AND t.id = 2 THEN DELETE")
            .unwrap();
    }
    let toast = "toast".repeat(3000);
    let got: Vec<String> = lines(&mut client)
        .into_iter()
        .map(|l| l.replace(&toast, "T"))
        .collect();
    let mut expected = vec![
        "INSERT public.t id=1 v=a e=e1",
        "UPDATE public.t none id=1 v=b e=e1",
        "INSERT public.t id=10 v=T e=NULL",
        "INSERT public.t id=11 v=T e=NULL",
        "INSERT public.t id=12 v=T e=NULL",
        "UPDATE public.t none id=12 v=up e=NULL",
        "INSERT public.t id=13 v=x e=NULL",
    ];
    if server.tree().major() >= 15 {
        expected.extend([
            "UPDATE public.t none id=1 v=m1 e=e1",
            "INSERT public.t id=2 v=m2 e=NULL",
            "DELETE public.t key(id=2)",
        ]);
    }
    assert_eq!(got, expected);
}

#[test]
fn speculative_inserts_that_lose_the_race_leave_no_trace() {
    let (server, mut client) = server("CREATE TABLE race (id int PRIMARY KEY, v text)");
    let threads: Vec<_> = (0..6)
        .map(|n| {
            let mut client = server.client();
            std::thread::spawn(move || {
                for id in 0..150 {
                    client
                        .execute("INSERT INTO race VALUES ($1, repeat($2, 1000)) ON CONFLICT (id) DO NOTHING", &[&id, &format!("{n}")])
                        .unwrap();
                    if id % 10 == 0 {
                        client.each(&format!("BEGIN; INSERT INTO race VALUES (-{id} - {n} * 1000 - 1, 'gone') ON CONFLICT DO NOTHING; ROLLBACK")).unwrap();
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let capture = Capture::peek(&mut client, "s", &[]);
    assert_eq!(capture.changes().count(), 150);
    let expected: Vec<String> =
        server.texts_in("postgres", "SELECT id || left(v, 1) FROM race ORDER BY id");
    let mut got: Vec<String> = capture
        .changes()
        .map(|c| format!("{}{}", c.text("id"), &c.text("v")[..1]))
        .collect();
    got.sort_by_key(|text| text[..text.len() - 1].parse::<i32>().unwrap());
    assert_eq!(got, expected);
}

#[test]
fn a_primary_key_that_changes_brings_the_old_key() {
    let (_server, mut client) = server(
        "CREATE TABLE t (a int, b text, v text, PRIMARY KEY (b, a)); INSERT INTO t VALUES (1, 'x', 'v')",
    );
    client
        .each("UPDATE t SET a = 2; UPDATE t SET a = a, v = 'w'; UPDATE t SET b = 'y', v = NULL; BEGIN; UPDATE t SET a = 3; UPDATE t SET a = 4; DELETE FROM t; COMMIT")
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    assert_eq!(
        capture.lines(),
        [
            "UPDATE public.t key(a=1 b=x) a=2 b=x v=v",
            "UPDATE public.t none a=2 b=x v=w",
            "UPDATE public.t key(a=2 b=x) a=2 b=y v=NULL",
            "UPDATE public.t key(a=2 b=y) a=3 b=y v=NULL",
            "UPDATE public.t key(a=3 b=y) a=4 b=y v=NULL",
            "DELETE public.t key(a=4 b=y)",
        ]
    );
    assert!(capture.changes().all(|c| match &c.action {
        Action::Update { old, .. } | Action::Delete { old } => !matches!(old, Old::Full(_)),
        _ => false,
    }));
}

#[test]
fn types_that_are_renamed_or_grow_midway_are_followed() {
    let (_server, mut client) = server(
        "CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TYPE pair AS (x int, y int); CREATE DOMAIN d AS int; CREATE TABLE t (id int PRIMARY KEY, m mood, p pair, d d, ma mood[])",
    );
    client
        .each(
            "INSERT INTO t VALUES (1, 'a', ROW(1, 2), 3, '{a}'); ALTER TYPE mood RENAME TO feeling; INSERT INTO t VALUES (2, 'b', ROW(1, 2), 3, '{b}'); ALTER TYPE feeling RENAME VALUE 'a' TO 'alpha'; INSERT INTO t VALUES (3, 'alpha', NULL, 4, NULL);
             ALTER TYPE feeling ADD VALUE 'c'; INSERT INTO t VALUES (4, 'c', NULL, NULL, '{c,alpha}'); CREATE SCHEMA aside; ALTER TYPE feeling SET SCHEMA aside; ALTER DOMAIN d RENAME TO dd; INSERT INTO t VALUES (5, 'c', NULL, 5, NULL); ALTER SCHEMA aside RENAME TO other;
             INSERT INTO t VALUES (6, 'c', ROW(7, 8), 5, NULL)",
        )
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    assert_eq!(
        capture.lines(),
        [
            "INSERT public.t id=1 m=a p=(1,2) d=3 ma={a}",
            "INSERT public.t id=2 m=b p=(1,2) d=3 ma={b}",
            "INSERT public.t id=3 m=alpha p=NULL d=4 ma=NULL",
            "INSERT public.t id=4 m=c p=NULL d=NULL ma={c,alpha}",
            "INSERT public.t id=5 m=c p=NULL d=5 ma=NULL",
            "INSERT public.t id=6 m=c p=(7,8) d=5 ma=NULL",
        ]
    );
    let named: Vec<String> = capture
        .changes()
        .map(|c| {
            let columns = &c.relation.as_ref().unwrap().definition.columns;
            format!(
                "{}.{} {}",
                columns[1].type_schema, columns[1].type_name, columns[3].type_name
            )
        })
        .collect();
    assert_eq!(
        named,
        [
            "public.mood d",
            "public.feeling d",
            "public.feeling d",
            "public.feeling d",
            "aside.feeling dd",
            "other.feeling dd"
        ]
    );
}

#[test]
fn two_thousand_tables_and_a_storm_of_invalidations_are_decoded_in_time() {
    let (server, mut client) = server("CREATE TABLE hot (id int PRIMARY KEY, v text)");
    client
        .each(
            "DO $$ BEGIN FOR n IN 1..2000 LOOP EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY, v text, d date)', n); EXECUTE format('INSERT INTO many_%s VALUES (1, ''x'', ''2020-01-01'')', n); COMMIT; END LOOP; END $$",
        )
        .unwrap_or_else(|error| panic!("{error:?}"));
    client
        .each(
            "DO $$ BEGIN FOR n IN 1..300 LOOP INSERT INTO hot VALUES (n, 'x'); EXECUTE format('ALTER TABLE many_%s ADD e int', n); EXECUTE format('INSERT INTO many_%s VALUES (2)', n); COMMIT; END LOOP;
             FOR n IN 1..2000 LOOP EXECUTE format('INSERT INTO many_%s VALUES (3)', n); END LOOP; END $$",
        )
        .unwrap_or_else(|error| panic!("{error:?}"));
    let began = std::time::Instant::now();
    let capture = Walsender::capture(&server, "postgres", "s", &[]);
    assert_eq!(capture.changes().count(), 2000 + 600 + 2000);
    assert_eq!(
        capture.changes().filter(|c| c.table() == "hot").count(),
        300
    );
    assert!(
        capture.definitions.len() <= 2000 + 300 + 2,
        "{} definitions for 2,001 tables of which 300 were altered",
        capture.definitions.len()
    );
    assert!(
        began.elapsed().as_secs() < 60,
        "it took {:?}",
        began.elapsed()
    );
}

#[test]
fn an_aborted_alter_leaves_the_definition_as_it_was() {
    let (_server, mut client) = server("CREATE TABLE t (id int PRIMARY KEY, v text)");
    client
        .each(
            "INSERT INTO t VALUES (1, 'a'); BEGIN; ALTER TABLE t ADD x int; INSERT INTO t VALUES (2, 'b', 3); ROLLBACK; INSERT INTO t VALUES (4, 'd');
             BEGIN; SAVEPOINT s; ALTER TABLE t DROP v; INSERT INTO t VALUES (5); ROLLBACK TO s; INSERT INTO t VALUES (6, 'f'); COMMIT; INSERT INTO t VALUES (7, 'g')",
        )
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    assert_eq!(
        capture.lines(),
        [
            "INSERT public.t id=1 v=a",
            "INSERT public.t id=4 v=d",
            "INSERT public.t id=6 v=f",
            "INSERT public.t id=7 v=g"
        ]
    );
    assert_eq!(capture.definitions.len(), 1);
}

#[test]
fn the_fingerprint_of_a_table_is_the_same_in_every_connection_and_after_a_restart() {
    let (server, mut client) = server("CREATE TABLE t (id int PRIMARY KEY, v numeric(5,2))");
    client.each("INSERT INTO t VALUES (1, 2)").unwrap();
    let first = Capture::peek(&mut client, "s", &[]).definitions[0]
        .definition
        .fingerprint;
    drop(client);
    server.crash_and_recover();
    let again = Walsender::capture(&server, "postgres", "s", &[("streaming", "on")]);
    assert_eq!(again.definitions[0].definition.fingerprint, first);
    server.sql("ALTER TABLE t ALTER v TYPE numeric(6,2); INSERT INTO t VALUES (2, 3)");
    let changed = Capture::peek(&mut server.client(), "s", &[]);
    assert_ne!(changed.definitions[1].definition.fingerprint, first);
    assert_eq!(
        changed.definitions[1].definition.columns[1].typmod,
        (6 << 16 | 2) + 4
    );
}
