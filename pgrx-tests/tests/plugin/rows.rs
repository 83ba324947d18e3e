//! Definitions of odd and wide tables, and how often they are sent.

use walferry_tests::Server;

use crate::events::{assert_unharmed, frames, read};

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
            let raw = if matches!(c.encoding, walferry_protocol::Encoding::Raw(_)) {
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
