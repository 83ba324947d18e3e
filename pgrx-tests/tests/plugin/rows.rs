//! Rows: old and new images, columns of every kind, DDL around them.

use walferry_tests::Server;

use crate::events::{assert_unharmed, events, frames, read};

#[test]
fn each_kind_of_replica_identity_gives_the_old_row_it_logs() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a text, b int NOT NULL);
        CREATE UNIQUE INDEX by_b ON t (b)",
    );
    server.create_slot("s", "walferry");
    server.sql("INSERT INTO t VALUES (1, 'x', 10)");
    server.sql("UPDATE t SET a = 'y'");
    server.sql("UPDATE t SET id = 2");
    server.sql("ALTER TABLE t REPLICA IDENTITY USING INDEX by_b");
    server.sql("UPDATE t SET b = 11");
    server.sql("ALTER TABLE t REPLICA IDENTITY FULL");
    server.sql("UPDATE t SET a = NULL");
    server.sql("DELETE FROM t");
    server.sql("ALTER TABLE t REPLICA IDENTITY NOTHING");
    server.sql("INSERT INTO t VALUES (3, 'z', 30); UPDATE t SET a = 'w'; DELETE FROM t");
    let found = read(&frames(&server, "s", &[]));
    let changes: Vec<_> = found
        .lines
        .iter()
        .filter(|line| !["BEGIN", "COMMIT"].contains(&line.as_str()))
        .collect();
    assert_eq!(
        changes,
        [
            "I t(id=1, a=x, b=10)",
            "U (t: no old) t(id=1, a=y, b=10)",
            "U key t(id=1, a=<absent>, b=<absent>) t(id=2, a=y, b=10)",
            "U key t(id=<absent>, a=<absent>, b=10) t(id=2, a=y, b=11)",
            "U full t(id=2, a=y, b=11) t(id=2, a=null, b=11)",
            "D full t(id=2, a=null, b=11) ",
            "I t(id=3, a=z, b=30)",
            "U (t: no old) t(id=3, a=w, b=30)",
            "D (t: no old) ",
        ]
    );
    let identities: Vec<_> = found
        .definitions
        .iter()
        .map(|d| {
            let keys: Vec<_> = d
                .columns
                .iter()
                .filter(|c| c.flags.is_key())
                .map(|c| c.name.as_str())
                .collect();
            (d.replica_identity as u8 as char, d.identity_usable, keys)
        })
        .collect();
    assert_eq!(
        identities,
        [
            ('d', true, vec!["id"]),
            ('i', true, vec!["b"]),
            ('f', true, vec!["id"]),
            ('n', false, vec![]),
        ]
    );
}

#[test]
fn a_row_travels_with_the_columns_it_was_written_under() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int PRIMARY KEY, a text)");
    server.create_slot("s", "walferry");
    server.sql(
        "BEGIN;
         INSERT INTO t VALUES (1, 'one');
         ALTER TABLE t ADD COLUMN b int DEFAULT 7;
         INSERT INTO t VALUES (2, 'two', 20);
         ALTER TABLE t DROP COLUMN a;
         INSERT INTO t VALUES (3, 30);
         ALTER TABLE t ADD COLUMN a bigint;
         ALTER TABLE t RENAME COLUMN b TO c;
         COMMIT",
    );
    server.sql("INSERT INTO t VALUES (4, 40, 400)");
    server.sql("DROP TABLE t; CREATE TABLE t (other text PRIMARY KEY)");
    server.sql("INSERT INTO t VALUES ('new')");
    assert_eq!(
        events(&server, "s", &[]),
        [
            "BEGIN",
            "I t(id=1, a=one)",
            "I t(id=2, a=two, b=20)",
            "I t(id=3, b=30)",
            "COMMIT",
            "BEGIN",
            "I t(id=4, c=40, a=400)",
            "COMMIT",
            "BEGIN",
            "I t(other=new)",
            "COMMIT",
        ]
    );
}

#[test]
fn rows_older_than_a_column_have_its_default_and_not_what_lies_behind_them() {
    let server = Server::start_default();
    server.sql(
        "CREATE TYPE mood AS ENUM ('sad', 'glad');
         CREATE TABLE t (id int PRIMARY KEY, a text);
         INSERT INTO t VALUES (1, 'x'), (2, NULL);
         ALTER TABLE t REPLICA IDENTITY FULL;
         ALTER TABLE t ADD COLUMN i int DEFAULT 7, ADD COLUMN s text DEFAULT 'dflt',
             ADD COLUMN m mood DEFAULT 'glad', ADD COLUMN n int8, ADD COLUMN b bool DEFAULT true,
             ADD COLUMN u uuid DEFAULT '00000000-0000-0000-0000-0000000000ff',
             ADD COLUMN p point DEFAULT '(1,2)'",
    );
    server.create_slot("s", "walferry");
    server.sql("UPDATE t SET a = 'y' WHERE id = 2");
    server.sql("DELETE FROM t WHERE id = 1");
    let tail = |i: &str| {
        format!("{i}, s=dflt, m=glad, n=null, b=true, u=000000000000000000000000000000ff, p=(1,2)")
    };
    assert_eq!(
        events(&server, "s", &[]),
        [
            "BEGIN".to_owned(),
            format!(
                "U full t(id=2, a=null, {}) t(id=2, a=y, {})",
                tail("i=7"),
                tail("i=7")
            ),
            "COMMIT".to_owned(),
            "BEGIN".to_owned(),
            format!("D full t(id=1, a=x, {}) ", tail("i=7")),
            "COMMIT".to_owned(),
        ]
    );
}

#[test]
fn unchanged_toast_is_neither_null_nor_sent() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, big text, ext text, small int);
         ALTER TABLE t ALTER big SET STORAGE EXTENDED, ALTER ext SET STORAGE EXTERNAL",
    );
    server.create_slot("s", "walferry");
    // Compressible, but not enough to stay in line; and never compressed.
    server.sql(
        "INSERT INTO t SELECT 1, string_agg(md5(g::text) || repeat('a', 40), ''), repeat('b', 9000), 1
         FROM generate_series(1, 400) g",
    );
    server.sql("UPDATE t SET small = 2");
    server.sql("UPDATE t SET ext = NULL");
    server.sql("ALTER TABLE t REPLICA IDENTITY FULL");
    server.sql("UPDATE t SET small = 3");
    assert_eq!(
        events(&server, "s", &[]),
        [
            "BEGIN",
            "I t(id=1, big=<compressed 28800>, ext=<9000 bytes>, small=1)",
            "COMMIT",
            "BEGIN",
            "U (t: no old) t(id=1, big=<unchanged>, ext=<unchanged>, small=2)",
            "COMMIT",
            "BEGIN",
            "U (t: no old) t(id=1, big=<unchanged>, ext=null, small=2)",
            "COMMIT",
            "BEGIN",
            "U full t(id=1, big=<compressed 28800>, ext=null, small=2) \
             t(id=1, big=<unchanged>, ext=null, small=3)",
            "COMMIT",
        ]
    );
}

#[test]
fn names_of_any_kind_and_generated_and_dropped_columns_are_right() {
    let server = Server::start_default();
    server.sql(
        r#"CREATE SCHEMA "a.b ""%s""";
           CREATE TYPE "a.b ""%s"""."Mood 😀" AS ENUM ('x');
           CREATE TYPE public."Mood 😀" AS ENUM ('x');
           CREATE DOMAIN words AS text[];
           CREATE DOMAIN small AS int CHECK (VALUE < 100);
           CREATE TABLE "a.b ""%s"""."T, ü" (
               "id" int PRIMARY KEY, gone text, "Col""%d" small,
               twice int GENERATED ALWAYS AS (id * 2) STORED, w words, m "a.b ""%s"""."Mood 😀",
               arr small[], v varchar(5), r int4range, pair pg_attrdef);
           ALTER TABLE "a.b ""%s"""."T, ü" DROP COLUMN gone"#,
    );
    server.create_slot("s", "walferry");
    server.sql(
        r#"INSERT INTO "a.b ""%s"""."T, ü" VALUES (1, 2, DEFAULT, '{a,b}', 'x', '{3,4}', 'v', '[1,3)', NULL)"#,
    );
    let found = read(&frames(&server, "s", &[]));
    let relation = &found.definitions[0];
    assert_eq!(relation.schema, "a.b \"%s\"");
    assert_eq!(relation.name, "T, ü");
    let columns: Vec<_> = relation
        .columns
        .iter()
        .map(|c| {
            let raw = if c.encoding == walferry_protocol::Encoding::Raw {
                "raw"
            } else {
                "text"
            };
            let mut line = format!(
                "{} {} {}.{} {raw}",
                c.attnum, c.name, c.type_schema, c.type_name
            );
            if c.type_oid != c.base_type_oid {
                line.push_str(&format!(" over {}", c.base_type_oid));
            }
            if c.flags.is_generated() {
                line.push_str(" generated");
            }
            line
        })
        .collect();
    assert_eq!(
        columns,
        [
            "1 id pg_catalog.int4 raw",
            "3 Col\"%d public.small raw over 23",
            "4 twice pg_catalog.int4 raw generated",
            "5 w public.words raw over 1009",
            "6 m a.b \"%s\".Mood 😀 text",
            "7 arr public._small text",
            "8 v pg_catalog.varchar raw",
            "9 r pg_catalog.int4range text",
            "10 pair pg_catalog.pg_attrdef text",
        ]
    );
    assert_eq!(relation.columns[6].typmod, 9);
    let row = &found.lines[1];
    for part in [
        "Col\"%d=2",
        "twice=2",
        "m=x",
        "arr={3,4}",
        "r=[1,3)",
        "pair=null",
    ] {
        assert!(row.contains(part), "{row} has no {part}");
    }
}

#[test]
fn tables_of_two_hundred_and_of_sixteen_hundred_columns_are_whole() {
    let server = Server::start_default();
    server.create_slot("s", "walferry");
    for count in [200, 1600] {
        let columns: Vec<_> = (1..=count)
            .map(|i| format!("c{i} {}", ["int2", "bool", "\"char\"", "int4"][i % 4]))
            .collect();
        server.sql(&format!(
            "CREATE TABLE wide{count} ({})",
            columns.join(", ")
        ));
        server.sql(&format!(
            "INSERT INTO wide{count} (c1, c{count}) VALUES (true, 5)"
        ));
    }
    let found = read(&frames(&server, "s", &[]));
    for (definition, count) in found.definitions.iter().zip([200, 1600]) {
        assert_eq!(definition.columns.len(), count);
    }
    for (line, count) in [(1, 200), (4, 1600)] {
        let row = &found.lines[line];
        assert!(
            row.starts_with(&format!("I wide{count}(c1=true, c2=null,")),
            "{row}"
        );
        assert!(row.ends_with(&format!(", c{count}=5)")), "{row}");
    }
}

#[test]
fn a_partitions_rows_name_their_root_and_follow_it() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE root (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
         CREATE TABLE middle PARTITION OF root FOR VALUES FROM (0) TO (100) PARTITION BY LIST (at);
         CREATE TABLE leaf PARTITION OF middle FOR VALUES IN (1, 2);
         CREATE TABLE other PARTITION OF root DEFAULT",
    );
    server.create_slot("s", "walferry");
    server.sql("INSERT INTO root VALUES (1, 1)");
    server.sql("UPDATE root SET at = 500");
    server.sql("ALTER TABLE root RENAME TO trunk; INSERT INTO trunk VALUES (2, 2)");
    server.sql("ALTER TABLE middle DETACH PARTITION leaf; INSERT INTO leaf VALUES (3, 2)");
    let found = read(&frames(&server, "s", &[]));
    let roots: Vec<_> = found
        .definitions
        .iter()
        .map(|d| {
            format!(
                "{} of {}",
                d.name,
                d.root.as_ref().map_or("-", |root| &root.name)
            )
        })
        .collect();
    assert_eq!(
        roots,
        [
            "leaf of root",
            "other of root",
            "leaf of trunk",
            "leaf of -"
        ]
    );
    assert_eq!(
        found.lines,
        [
            "BEGIN",
            "I leaf(id=1, at=1)",
            "COMMIT",
            "BEGIN",
            "D key leaf(id=1, at=1) ",
            "I other(id=1, at=500)",
            "COMMIT",
            "BEGIN",
            "I leaf(id=2, at=2)",
            "COMMIT",
            "BEGIN",
            "I leaf(id=3, at=2)",
            "COMMIT",
        ]
    );
}

#[test]
fn truncate_names_every_table_it_empties_and_keeps_their_indexes_under_a_filter() {
    let server = Server::start_default();
    server.sql(
        "CREATE TABLE a (id serial PRIMARY KEY);
         CREATE TABLE b (id int REFERENCES a);
         CREATE TABLE c (id int REFERENCES a)",
    );
    for slot in ["s", "filtered"] {
        server.create_slot(slot, "walferry");
    }
    server.sql("TRUNCATE a RESTART IDENTITY CASCADE");
    let all = read(&frames(&server, "s", &[]));
    assert_eq!(all.lines, ["BEGIN", "T a b c cascade restart", "COMMIT"]);
    let (_, lsn, index) = all.positions[0];
    let some = read(&frames(
        &server,
        "filtered",
        &[("exclude_tables", "public.b")],
    ));
    assert_eq!(
        some.lines,
        [
            "BEGIN",
            "T a cascade restart",
            "T c cascade restart",
            "COMMIT"
        ]
    );
    assert_eq!(some.positions, [(None, lsn, index), (None, lsn, index + 2)]);
}

#[test]
fn a_definition_is_sent_again_only_when_it_differs() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)");
    server.create_slot("s", "walferry");
    for _ in 0..3 {
        server.sql("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t");
        // Invalidates t without changing what it is.
        server.sql("ALTER TABLE t SET (fillfactor = 90); ANALYZE u");
        server.sql("CREATE TYPE unrelated AS ENUM ('a'); DROP TYPE unrelated");
        server.sql("CREATE SCHEMA unrelated; DROP SCHEMA unrelated");
    }
    let found = read(&frames(&server, "s", &[]));
    assert_eq!(found.definitions.len(), 1);
    assert_eq!(
        found
            .lines
            .iter()
            .filter(|line| line.starts_with("I t"))
            .count(),
        3
    );
    server.sql("ALTER SCHEMA public RENAME TO other; INSERT INTO other.t VALUES (10)");
    let found = read(&frames(&server, "s", &[]));
    assert_eq!(found.definitions[0].schema, "other");
    assert_unharmed(&server);
}
