//! The format json beside the real wal2json.

use walferry_tests::Server;

const WORKLOAD: &str = r#"
CREATE SCHEMA "Sch""ema";
CREATE DOMAIN short AS varchar(5) CHECK (VALUE <> 'never');
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE "Sch""ema"."T\a" (
    id int, k varchar(10), b bool, f float8, f4 float4, n numeric(10,2), t text, ts timestamptz(3),
    j jsonb, by bytea, e mood, dm short, arr int[], bits bit(3), c char(5) DEFAULT 'x''"y', o oid,
    g int GENERATED ALWAYS AS (id * 2) STORED, i8 int8 NOT NULL DEFAULT 5, r int4range, cc "char",
    PRIMARY KEY (id, k));
INSERT INTO "Sch""ema"."T\a" VALUES (1, 'k"1', true, 'NaN', '-Infinity', 1.50,
    E'a\tb\n"\\ü\u0001\u007f/😀\b\f\r', '2020-01-02 03:04:05.678Z', '{"a": 1}', '\xdead', 'sad', 'abc',
    '{1,NULL}', B'101', 'x', 5, DEFAULT, -9, '[1,5)', 'z');
INSERT INTO "Sch""ema"."T\a" (id, k, f, ts) VALUES (2, 'k', 1e30, 'infinity');
UPDATE "Sch""ema"."T\a" SET t = 'new' WHERE id = 1;
UPDATE "Sch""ema"."T\a" SET id = 3 WHERE id = 2;
UPDATE "Sch""ema"."T\a" SET t = (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 300) g);
UPDATE "Sch""ema"."T\a" SET b = false;
DELETE FROM "Sch""ema"."T\a" WHERE id = 1;
ALTER TABLE "Sch""ema"."T\a" REPLICA IDENTITY FULL;
ALTER TABLE "Sch""ema"."T\a" ADD COLUMN late text DEFAULT 'early', DROP COLUMN o;
UPDATE "Sch""ema"."T\a" SET b = NULL;
DELETE FROM "Sch""ema"."T\a";
CREATE TABLE plain (a int NOT NULL, b text);
INSERT INTO plain SELECT g, 'row ' || g FROM generate_series(1, 3) g;
CREATE UNIQUE INDEX plain_a ON plain (a);
ALTER TABLE plain REPLICA IDENTITY USING INDEX plain_a;
UPDATE plain SET b = 'y' WHERE a = 1;
UPDATE plain SET a = 10 WHERE a = 1;
DELETE FROM plain WHERE a = 2;
BEGIN; SELECT pg_logical_emit_message(true, 'app', 'in "it"'), pg_logical_emit_message(false, 'out', 'alone'); COMMIT;
TRUNCATE "Sch""ema"."T\a", plain;
BEGIN; SAVEPOINT a; INSERT INTO plain VALUES (7); ROLLBACK TO a; INSERT INTO plain VALUES (8); COMMIT;
"#;

#[test]
fn json_is_what_wal2json_writes_for_the_same_wal() {
    let server = Server::start_default();
    if !server.tree().has_library("wal2json") {
        return;
    }
    server.create_slot("theirs", "wal2json");
    server.create_slot("ours", "walferry");
    server.psql("postgres", WORKLOAD);
    server.flushed_lsn();
    let all = [
        "include-xids",
        "include-timestamp",
        "include-lsn",
        "include-type-oids",
        "include-pk",
        "include-not-null",
        "include-origin",
        "include-column-positions",
        "include-domain-data-type",
    ]
    .map(|name| format!(", '{name}', '1'"))
    .concat();
    for options in [
        "",
        &all,
        ", 'include-transaction', '0', 'include-types', '0', 'actions', 'insert,delete'",
        ", 'filter-tables', 'public.plain', 'include-schemas', 'f', 'pretty-print', '1'",
        ", 'add-tables', '*.plain', 'filter-msg-prefixes', 'app', 'write-in-chunks', '1'",
        ", 'add-msg-prefixes', 'out,other', 'include-default', '0'",
    ] {
        let read = |slot: &str, format: &str| {
            server.texts_in(
                "postgres",
                &format!(
                    "SELECT data FROM pg_logical_slot_peek_changes('{slot}', NULL, NULL,
                     'format-version', '2'{format}{options})"
                ),
            )
        };
        let theirs = read("theirs", "");
        let ours = read("ours", ", 'format', 'json'");
        assert_eq!(theirs.len(), ours.len(), "{options}");
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(theirs, ours, "{options}");
        }
    }
}

#[test]
fn json_keeps_the_changes_that_wal2json_drops() {
    let server = Server::start_default();
    server.sql("CREATE TABLE t (a int, n numeric)");
    server.create_slot("s", "walferry");
    server.sql("INSERT INTO t VALUES (1, 'NaN'); UPDATE t SET n = 1.50; DELETE FROM t");
    server.flushed_lsn();
    let objects = server.texts_in(
        "postgres",
        "SELECT data FROM pg_logical_slot_get_changes('s', NULL, NULL, 'format', 'json',
         'include-types', 'f', 'numeric-data-types-as-string', 'on', 'include-default', 'on')",
    );
    let tail = r#","default":null}"#;
    assert_eq!(
        objects,
        [
            r#"{"action":"B"}"#.to_owned(),
            format!(
                r#"{{"action":"I","schema":"public","table":"t","columns":[{{"name":"a","value":"1"{tail},{{"name":"n","value":"NaN"{tail}]}}"#
            ),
            format!(
                r#"{{"action":"U","schema":"public","table":"t","columns":[{{"name":"a","value":"1"{tail},{{"name":"n","value":"1.50"{tail}]}}"#
            ),
            r#"{"action":"D","schema":"public","table":"t"}"#.to_owned(),
            r#"{"action":"C"}"#.to_owned(),
        ]
    );
}
