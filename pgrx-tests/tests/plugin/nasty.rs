//! SQL that a superuser may run while the plugin decodes: whatever it is, the
//! server stays up, and what is decoded is well-formed.

use walferry_tests::Server;

use crate::events::{assert_unharmed, frames, read};

/// Kinds of DDL and DML after PostgreSQL's own regression tests, one implicit
/// transaction each.
const STATEMENTS: &[&str] = &[
    "CREATE TABLE t0 ()",
    "INSERT INTO t0 DEFAULT VALUES; DELETE FROM t0; ALTER TABLE t0 REPLICA IDENTITY FULL; INSERT INTO t0 DEFAULT VALUES; DELETE FROM t0",
    "CREATE TYPE comp AS (a int, b text, c numeric[]); CREATE TYPE e AS ENUM ('a', 'b'); CREATE TYPE rng AS RANGE (subtype = float8)",
    "CREATE DOMAIN d1 AS comp; CREATE DOMAIN d2 AS int[] CHECK (array_length(VALUE, 1) < 9); CREATE DOMAIN d3 AS d2",
    "CREATE TABLE kinds (id int PRIMARY KEY, c comp, ca comp[], e e, ea e[], r rng, d1 d1, d2 d2, d3 d3, x xml, m money,
        i inet, ci cidr, ma macaddr, m8 macaddr8, b bit(7), vb varbit, ts tsvector, tq tsquery, p path, po polygon,
        ci2 circle, l line, bx box, pl pg_lsn, tid tid, xd xid, cd cid, ov oidvector, iv int2vector, rc regclass,
        rp regprocedure, rt regtype, rn regnamespace, jp jsonpath, sn pg_snapshot, ac aclitem, n name, ch \"char\", u unknown_t[])",
    "CREATE TABLE kinds (id int PRIMARY KEY, c comp, ca comp[], e e, ea e[], r rng, d1 d1, d2 d2, d3 d3, x xml, m money,
        i inet, ci cidr, ma macaddr, m8 macaddr8, b bit(7), vb varbit, ts tsvector, tq tsquery, p path, po polygon,
        ci2 circle, l line, bx box, pl pg_lsn, tid tid, xd xid, cd cid, ov oidvector, iv int2vector, rc regclass,
        rp regprocedure, rt regtype, rn regnamespace, jp jsonpath, sn pg_snapshot, ac aclitem, n name, ch \"char\")",
    "INSERT INTO kinds VALUES (1, ROW(1, 'x', '{1.5,NaN}'), ARRAY[ROW(1,NULL,NULL)::comp, NULL], 'a', '{a,b}', '[1,2)',
        ROW(3,'y',NULL), '{1,2}', '{{1},{2}}', '<a/>', 12.34, '::1', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
        B'1010101', B'1', 'a:1 b', 'a & b', '((0,0),(1,1))', '((0,0),(1,1),(2,0))', '<(0,0),1>', '{1,2,3}', '((0,0),(1,1))',
        '1/2', '(1,2)', '7', '8', '1 2 3', '4 5', 'pg_class', 'int4in(cstring)', 'int4', 'pg_catalog', '$.a', '10:20:10,14',
        'postgres=r/postgres', 'nm', E'\\377')",
    "INSERT INTO kinds (id) VALUES (2); UPDATE kinds SET e = 'b' WHERE id = 1; ALTER TABLE kinds REPLICA IDENTITY FULL; UPDATE kinds SET n = 'x'; DELETE FROM kinds",
    "ALTER TYPE e ADD VALUE 'c'; ALTER TYPE e RENAME VALUE 'a' TO 'aa'",
    "ALTER TYPE comp ADD ATTRIBUTE z date; ALTER TYPE comp DROP ATTRIBUTE b",
    "INSERT INTO kinds (id, c, e) VALUES (3, ROW(1, NULL, '2020-01-01'), 'aa')",
    "ALTER TYPE comp RENAME TO comp2; ALTER DOMAIN d2 DROP CONSTRAINT d2_check; INSERT INTO kinds (id, d3, c) VALUES (4, '{1}', ROW(1,NULL,NULL))",
    "CREATE TABLE part (a int, b text) PARTITION BY HASH (a); CREATE TABLE p0 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE p1 (b text, gone int, a int); ALTER TABLE p1 DROP COLUMN gone; ALTER TABLE part ATTACH PARTITION p1 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "INSERT INTO part SELECT g, 'x' FROM generate_series(1, 50) g; UPDATE part SET a = a + 1; ALTER TABLE part REPLICA IDENTITY FULL; DELETE FROM part WHERE a % 3 = 0; TRUNCATE part",
    "CREATE TABLE inh_parent (a int); CREATE TABLE inh_child (b int) INHERITS (inh_parent); INSERT INTO inh_child VALUES (1, 2); ALTER TABLE inh_parent ADD COLUMN c int DEFAULT 3; INSERT INTO inh_child VALUES (1, 2, 3); TRUNCATE inh_parent; DROP TABLE inh_parent CASCADE",
    "CREATE UNLOGGED TABLE ul (a int); INSERT INTO ul VALUES (1); ALTER TABLE ul SET LOGGED; INSERT INTO ul VALUES (2)",
    "CREATE TEMP TABLE tmp (a int); INSERT INTO tmp VALUES (1); TRUNCATE tmp",
    "CREATE MATERIALIZED VIEW mv AS SELECT 1 AS a; CREATE UNIQUE INDEX ON mv (a); REFRESH MATERIALIZED VIEW mv; REFRESH MATERIALIZED VIEW CONCURRENTLY mv",
    "CREATE TABLE rw (a int, b text); INSERT INTO rw SELECT g, repeat('x', g) FROM generate_series(1, 100) g; ALTER TABLE rw ALTER a TYPE bigint; INSERT INTO rw VALUES (1, 'y'); ALTER TABLE rw ALTER a TYPE text USING a::text; INSERT INTO rw VALUES ('t', 'y')",
    "ALTER TABLE rw ADD COLUMN v int DEFAULT (random() * 10)::int; UPDATE rw SET b = NULL WHERE v > 5; CLUSTER rw USING nothing",
    "CREATE INDEX rw_a ON rw (a); CLUSTER rw USING rw_a; UPDATE rw SET a = a || 'z'",
    "VACUUM FULL rw",
    "INSERT INTO rw VALUES ('u', 'v'); ALTER TABLE rw SET TABLESPACE pg_default",
    "CREATE TABLE up (k int PRIMARY KEY, v int); INSERT INTO up VALUES (1, 1) ON CONFLICT (k) DO UPDATE SET v = 2; INSERT INTO up VALUES (1, 1) ON CONFLICT (k) DO UPDATE SET v = 2; INSERT INTO up VALUES (1, 1) ON CONFLICT DO NOTHING",
    "MERGE INTO up USING (SELECT 1 AS k UNION SELECT 5) s ON up.k = s.k WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.k, 0)",
    "CREATE TABLE def (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, b int); INSERT INTO def VALUES (1, 2); UPDATE def SET b = 3; DELETE FROM def",
    "CREATE TABLE expr (a text); CREATE UNIQUE INDEX ON expr (lower(a)); INSERT INTO expr VALUES ('A'); UPDATE expr SET a = 'b'; DELETE FROM expr",
    "CREATE TABLE gen (a int, b int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, c int GENERATED ALWAYS AS (a + 1) STORED); INSERT INTO gen (a) VALUES (1); UPDATE gen SET a = 2; ALTER TABLE gen ALTER c DROP EXPRESSION; UPDATE gen SET c = 9; ALTER TABLE gen DROP COLUMN c; INSERT INTO gen (a) VALUES (7)",
    "CREATE SEQUENCE sq; SELECT nextval('sq'), setval('sq', 100); DROP SEQUENCE sq",
    "CREATE TABLE renamed (a int); INSERT INTO renamed VALUES (1); ALTER TABLE renamed RENAME TO renamed2; INSERT INTO renamed2 VALUES (2); ALTER TABLE renamed2 RENAME a TO b; INSERT INTO renamed2 VALUES (3); DROP TABLE renamed2; CREATE TABLE renamed2 (z text); INSERT INTO renamed2 VALUES ('z'); DROP TABLE renamed2",
    "DO $$ BEGIN FOR i IN 1..50 LOOP BEGIN EXECUTE 'CREATE TABLE sub' || i || ' (a int)'; EXECUTE 'INSERT INTO sub' || i || ' VALUES (1)'; IF i % 2 = 0 THEN RAISE EXCEPTION 'x'; END IF; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$",
    "DO $$ BEGIN FOR i IN 1..300 LOOP BEGIN INSERT INTO up VALUES (i + 100, i); IF i % 3 = 0 THEN RAISE EXCEPTION 'x'; END IF; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$",
    "DO $$ BEGIN FOR i IN 1..300 LOOP EXECUTE format('ALTER TABLE up ADD COLUMN c%s int DEFAULT %s', i, i); EXECUTE format('ALTER TABLE up DROP COLUMN c%s', i); END LOOP; INSERT INTO up VALUES (-1, -1); UPDATE up SET v = 0; END $$",
    "CREATE TABLE toasted (id int PRIMARY KEY, a text, b text COMPRESSION pglz, c bytea, d comp2, e text[]); ALTER TABLE toasted ALTER c SET STORAGE EXTERNAL; INSERT INTO toasted SELECT 1, (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 1000) g), repeat('a', 100000), convert_to(repeat('b', 100000), 'UTF8'), ROW(1, NULL, NULL), ARRAY(SELECT md5(g::text) FROM generate_series(1, 1000) g); UPDATE toasted SET id = 2; UPDATE toasted SET a = a || 'x'; ALTER TABLE toasted REPLICA IDENTITY FULL; UPDATE toasted SET id = 3; DELETE FROM toasted",
    "CREATE TABLE lz (a text COMPRESSION lz4); INSERT INTO lz SELECT string_agg(repeat(md5(g::text), 2), '') FROM generate_series(1, 500) g",
    "CREATE UNIQUE INDEX wide_key ON toasted (id) INCLUDE (a); ALTER TABLE toasted ADD CONSTRAINT tk UNIQUE (b); DROP TABLE toasted",
    "CREATE TABLE longkey (k text PRIMARY KEY, v int); INSERT INTO longkey VALUES (repeat('k', 2600), 1); UPDATE longkey SET k = 'short'; UPDATE longkey SET k = repeat('q', 2600); DELETE FROM longkey",
    "ALTER TYPE d1 RENAME TO dx; SELECT pg_logical_emit_message(true, '', ''), pg_logical_emit_message(false, repeat('p', 5000), E'\\n')",
    "CREATE SCHEMA gone; CREATE TABLE gone.t (a int); INSERT INTO gone.t VALUES (1); DROP SCHEMA gone CASCADE",
    "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER sv FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE ft (a int) SERVER sv; DROP SERVER sv CASCADE",
    "SET allow_system_table_mods = on; CREATE TABLE pg_catalog.odd (a int); INSERT INTO pg_catalog.odd VALUES (1); DROP TABLE pg_catalog.odd",
    "CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "COPY (SELECT 1) TO '/dev/null'; LOCK TABLE up; ANALYZE; COMMENT ON TABLE up IS 'x'; GRANT SELECT ON up TO public; SECURITY LABEL ON TABLE up IS NULL",
    "CREATE RULE nothing AS ON DELETE TO up DO INSTEAD NOTHING; DELETE FROM up; DROP RULE nothing ON up; DELETE FROM up",
    "DROP TYPE comp2 CASCADE; DROP TYPE e CASCADE; INSERT INTO kinds (id) VALUES (77); DROP TABLE kinds",
];

#[test]
fn nothing_a_superuser_can_run_harms_the_server_or_the_stream() {
    let server = Server::builder()
        .setting("logical_decoding_work_mem", "64kB")
        .start();
    for slot in ["whole", "streamed", "json", "after"] {
        server.create_slot(slot, "walferry");
    }
    let mut refused = Vec::new();
    for (number, statement) in STATEMENTS.iter().enumerate() {
        if server.try_sql("postgres", statement).is_err() {
            refused.push(number);
        }
        // Read along, statement by statement, in one of the slots.
        read(&frames(&server, "whole", &[]));
    }
    assert!(
        refused.len() < STATEMENTS.len() / 3,
        "most statements should work: {refused:?}"
    );
    // And all at once in the others, under later catalogs.
    let after = read(&frames(&server, "after", &[]));
    assert!(after.lines.len() > 1000, "{}", after.lines.len());
    read(&frames(
        &server,
        "streamed",
        &[("streaming", "on"), ("two_phase", "off")],
    ));
    server.flushed_lsn();
    let objects = server.texts_in(
        "postgres",
        "SELECT data FROM pg_logical_slot_get_changes('json', NULL, NULL, 'format', 'json',
         'include-default', '1', 'include-pk', '1')",
    );
    for object in &objects {
        serde_json::from_str::<serde_json::Value>(object)
            .unwrap_or_else(|error| panic!("{error}: {object}"));
    }
    assert_unharmed(&server);
}
