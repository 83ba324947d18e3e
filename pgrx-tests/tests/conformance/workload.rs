//! Everything that a table, a row and a transaction can be.

use rand::SeedableRng;
use rand::rngs::StdRng;
use walferry_tests::Server;

use super::Event;
use super::literals::{TYPES, TypeUnderTest, extremes_since};

/// Types that no plugin sends but as text, with literals.
const OTHER_TYPES: &[(&str, &[&str])] = &[
    ("inet", &["10.1.2.3", "10.1.0.0/16", "::1", "2001:db8::/32"]),
    ("cidr", &["10.1.0.0/16", "2001:db8::/32"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("point", &["(1.5,-2)"]),
    ("box", &["(3,4),(1,2)"]),
    ("polygon", &["((0,0),(1,1),(1,0))"]),
    ("money", &["12.34"]),
    ("bit(5)", &["10101"]),
    ("varbit", &["", "1"]),
    ("tsvector", &["a:1 fat:2 cat:3"]),
    ("tsquery", &["fat & (cat | !rat)"]),
    ("xml", &["<a b=\"c\">d</a>"]),
    ("pg_lsn", &["16/B374D848"]),
    ("xid8", &["7"]),
    ("jsonpath", &["$.a[*] ? (@ > 1)"]),
    ("int4range", &["[1,5)", "empty", "(,)"]),
    ("tstzrange", &["[2026-01-01 00:00+00,2026-02-01 00:00+00)"]),
    ("int4multirange", &["{[1,3),[5,7)}"]),
    ("regclass", &["pg_class"]),
    ("mood", &["sad", "very \"happy\""]),
    ("pair", &["(1,x)", "(,\"a,b\")"]),
    ("positive", &["1", "2147483647"]),
    ("smaller", &["9"]),
    ("some_texts", &["{a,NULL,\"b c\"}"]),
    ("label", &["it"]),
    ("whole", &["1e3"]),
];

fn table_of(sql: &str) -> String {
    format!("types.\"{}\"", sql.replace('"', "'"))
}

/// The tables of the types whose values in binary are read: all that have a
/// form of their own, but for arrays of jsonb.
pub fn readable_in_binary() -> Vec<String> {
    TYPES
        .iter()
        .filter(|under_test| under_test.sql != "jsonb")
        .map(|under_test| under_test.sql.replace('"', "'"))
        .collect()
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub fn create(server: &Server) {
    server.sql(
        "CREATE SCHEMA types; CREATE SCHEMA streamed; \
         CREATE TYPE mood AS ENUM ('sad', 'very \"happy\"'); \
         CREATE TYPE pair AS (a int, b text); \
         CREATE DOMAIN positive AS int CHECK (VALUE > 0); \
         CREATE DOMAIN smaller AS positive CHECK (VALUE < 10); \
         CREATE DOMAIN some_texts AS text[]; \
         CREATE DOMAIN label AS varchar(5); \
         CREATE DOMAIN whole AS numeric(10,0);",
    );
    for TypeUnderTest { sql, .. } in TYPES {
        let table = table_of(sql);
        server.sql(&format!(
            "CREATE TABLE {table} (id serial PRIMARY KEY, v {sql}, a {sql}[])"
        ));
    }
    for (sql, _) in OTHER_TYPES {
        let table = table_of(sql);
        server.sql(&format!(
            "CREATE TABLE {table} (id serial PRIMARY KEY, v {sql}, a {sql}[])"
        ));
    }
    server.sql(
        "CREATE TABLE plain (id int PRIMARY KEY, note text); \
         CREATE TABLE keyless (note text); \
         CREATE TABLE two (a int, b text, note text, PRIMARY KEY (b, a)); \
         CREATE TABLE whole_row (id int PRIMARY KEY, note text, big text); \
         ALTER TABLE whole_row REPLICA IDENTITY FULL; \
         ALTER TABLE whole_row ALTER big SET STORAGE EXTERNAL; \
         CREATE TABLE keyless_whole (id int, note text); \
         ALTER TABLE keyless_whole REPLICA IDENTITY FULL; \
         CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL UNIQUE, note text); \
         ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code_key; \
         CREATE TABLE toasted (id int PRIMARY KEY, version int, big text, other text); \
         ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL; \
         CREATE TABLE generated (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED, note text); \
         CREATE TABLE \"Odd \"\"name\"\". 😀 %s\" (\"Id\" int PRIMARY KEY, \"a \"\"b\"\"\" text, \"c.d\" int); \
         CREATE TABLE parts (id int, region text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region); \
         CREATE TABLE parts_north PARTITION OF parts FOR VALUES IN ('north'); \
         CREATE TABLE parts_south PARTITION OF parts FOR VALUES IN ('south') PARTITION BY RANGE (id); \
         CREATE TABLE parts_south_low PARTITION OF parts_south FOR VALUES FROM (0) TO (100); \
         CREATE TABLE cut (id serial PRIMARY KEY, n int); \
         CREATE TABLE cut_child (id int PRIMARY KEY, parent int REFERENCES cut); \
         CREATE TABLE streamed.large (id int PRIMARY KEY, note text); \
         CREATE TABLE streamed.other (id int PRIMARY KEY, note text, big text); \
         ALTER TABLE streamed.other REPLICA IDENTITY FULL; \
         SELECT pg_replication_origin_create('elsewhere');",
    );
}

pub fn run(server: &Server) {
    every_type(server);
    // Each statement by itself is a transaction, and so is what stands
    // between BEGIN and COMMIT.
    let mut client = server.client();
    for statements in TRANSACTIONS {
        client
            .batch_execute(statements)
            .unwrap_or_else(|error| panic!("{error} in {statements}"));
    }
    interleaved(server);
}

fn every_type(server: &Server) {
    let mut random = StdRng::seed_from_u64(7);
    let version = server.value("SELECT current_setting('server_version_num')::int");
    let mut client = server.client();
    let mut execute = |sql: &str, statements: &str| {
        if let Err(error) = client.batch_execute(&format!("BEGIN; {statements} COMMIT")) {
            panic!("type {sql}: {error}");
        }
    };
    for under_test in TYPES {
        let table = table_of(under_test.sql);
        let sql = under_test.sql;
        let mut statements = String::new();
        let mut literals: Vec<String> = under_test
            .extremes
            .iter()
            .chain(extremes_since(sql, version))
            .map(|text| literal(text))
            .collect();
        literals.extend((0..20).map(|_| literal(&(under_test.random)(&mut random))));
        for one in &literals {
            statements += &format!(
                "INSERT INTO {table} (v, a) VALUES ({one}::{sql}, ARRAY[{one}::{sql}, NULL]);"
            );
        }
        let all: Vec<String> = literals.iter().map(|one| format!("{one}::{sql}")).collect();
        statements += &format!(
            "INSERT INTO {table} (a) VALUES (ARRAY[{}]), ('{{}}'), (NULL), (array_fill(NULL::{sql}, ARRAY[2, 2], ARRAY[-1, 0]));",
            all.join(",")
        );
        statements += &format!("UPDATE {table} SET v = NULL WHERE id % 3 = 0;");
        execute(sql, &statements);
    }
    // Some servers of other versions are built without libxml.
    let has_xml = server.try_sql("postgres", "SELECT '<a/>'::xml").is_ok();
    assert!(has_xml || server.tree().major() != 15);
    for (sql, literals) in OTHER_TYPES {
        if *sql == "xml" && !has_xml {
            continue;
        }
        let table = table_of(sql);
        let mut statements = String::new();
        for text in *literals {
            let one = literal(text);
            // There is no array of arrays, and a domain over one counts.
            let array = match *sql {
                "some_texts" => "NULL".to_owned(),
                _ => format!("ARRAY[{one}::{sql}, NULL]"),
            };
            statements += &format!("INSERT INTO {table} (v, a) VALUES ({one}::{sql}, {array});");
        }
        execute(sql, &statements);
    }
}

const TRANSACTIONS: &[&str] = &[
    "INSERT INTO plain VALUES (1, 'one'), (2, NULL), (3, '')",
    "UPDATE plain SET note = 'uno' WHERE id = 1",
    "UPDATE plain SET id = 10 WHERE id = 1",
    "UPDATE plain SET id = id + 100",
    "DELETE FROM plain WHERE id = 110",
    // One WAL record with many rows, of more than one record's worth.
    "COPY plain FROM PROGRAM 'seq 1000 1200 | sed \"s/$/\\ta row/\"'",
    "BEGIN; INSERT INTO plain SELECT n, 'n' FROM generate_series(2000, 2100) n; INSERT INTO two SELECT n, 'b', NULL FROM generate_series(1, 50) n; COMMIT",
    "INSERT INTO keyless VALUES ('a'), (NULL)",
    "BEGIN; INSERT INTO two VALUES (1000, 'x', 'n'); UPDATE two SET note = 'm' WHERE a = 1000; UPDATE two SET b = 'y' WHERE a = 1000; DELETE FROM two WHERE a = 1000; COMMIT",
    // TOAST: changed, unchanged, with and without the old row.
    "INSERT INTO toasted VALUES (1, 1, repeat('big', 5000), repeat('other', 5000)), (2, 1, NULL, 'short')",
    "UPDATE toasted SET version = 2",
    "UPDATE toasted SET version = 3, big = repeat('new', 5000)",
    "UPDATE toasted SET id = id + 10",
    "BEGIN; INSERT INTO whole_row VALUES (1, 'a', repeat('big', 5000)), (2, NULL, NULL); UPDATE whole_row SET note = 'b'; UPDATE whole_row SET id = 3 WHERE id = 1; DELETE FROM whole_row; COMMIT",
    "BEGIN; INSERT INTO keyless_whole VALUES (1, 'a'), (1, 'a'); UPDATE keyless_whole SET note = NULL; DELETE FROM keyless_whole; COMMIT",
    "BEGIN; INSERT INTO by_index VALUES (1, 'c', 'n'); UPDATE by_index SET note = 'm'; UPDATE by_index SET code = 'd'; UPDATE by_index SET id = 2; DELETE FROM by_index; COMMIT",
    "BEGIN; INSERT INTO generated VALUES (1, 21, DEFAULT, 'n'); UPDATE generated SET n = 4; DELETE FROM generated; COMMIT",
    "BEGIN; INSERT INTO \"Odd \"\"name\"\". 😀 %s\" VALUES (1, 'x', 2); UPDATE \"Odd \"\"name\"\". 😀 %s\" SET \"Id\" = 2; COMMIT",
    // Partitions, moves between them, and one that is made later.
    "INSERT INTO parts VALUES (1, 'north', 'n'), (2, 'south', 's')",
    "UPDATE parts SET note = 'm'",
    "UPDATE parts SET region = 'south' WHERE id = 1",
    "BEGIN; CREATE TABLE parts_high PARTITION OF parts_south FOR VALUES FROM (100) TO (200); INSERT INTO parts VALUES (150, 'south', 'new'); COMMIT",
    // Truncates.
    "INSERT INTO cut (n) SELECT n FROM generate_series(1, 3) n",
    "BEGIN; INSERT INTO cut_child VALUES (1, 1); TRUNCATE cut, plain RESTART IDENTITY CASCADE; INSERT INTO cut (n) VALUES (9); COMMIT",
    "TRUNCATE cut_child",
    // The schema changes between two rows of one transaction.
    "CREATE TABLE changing (id int PRIMARY KEY, a text)",
    "INSERT INTO changing VALUES (1, 'a')",
    "BEGIN; INSERT INTO changing VALUES (2, 'b'); ALTER TABLE changing ADD b int DEFAULT 7; INSERT INTO changing VALUES (3, 'c', 8); UPDATE changing SET a = 'x' WHERE id = 1; ALTER TABLE changing DROP a; INSERT INTO changing VALUES (4, 9); ALTER TABLE changing RENAME b TO c; INSERT INTO changing VALUES (5, 10); COMMIT",
    "ALTER TABLE changing ADD d positive, ADD e mood[], ADD f numeric DEFAULT 1.50",
    "INSERT INTO changing VALUES (6, 1, 2, '{sad}', 3)",
    "UPDATE changing SET c = c + 1",
    "ALTER TABLE changing ALTER f TYPE float8",
    "INSERT INTO changing VALUES (7, 1, 2, '{sad}', 3)",
    "ALTER TABLE changing RENAME TO changed",
    "BEGIN; DELETE FROM changed WHERE id = 1; DROP TABLE changed; CREATE TABLE changed (other text PRIMARY KEY); INSERT INTO changed VALUES ('same name'); COMMIT",
    "BEGIN; ALTER TABLE plain REPLICA IDENTITY FULL; INSERT INTO plain VALUES (1, 'f'); UPDATE plain SET note = 'g'; ALTER TABLE plain REPLICA IDENTITY DEFAULT; UPDATE plain SET note = 'h'; COMMIT",
    // Subtransactions.
    "BEGIN; INSERT INTO plain VALUES (20, 'kept'); SAVEPOINT s; INSERT INTO plain VALUES (21, 'gone'); SAVEPOINT t; UPDATE plain SET note = 'gone'; ROLLBACK TO s; INSERT INTO plain VALUES (22, 'kept'); RELEASE s; COMMIT",
    "BEGIN; INSERT INTO plain VALUES (30, 'gone'); ROLLBACK",
    // Logical messages.
    "BEGIN; SELECT pg_logical_emit_message(true, 'inside', 'content'); INSERT INTO plain VALUES (40, 'x'); SELECT pg_logical_emit_message(true, '', decode('00ff', 'hex')); COMMIT",
    "SELECT pg_logical_emit_message(false, 'outside \"%s\" 😀', 'é')",
    "SELECT pg_logical_emit_message(true, 'alone', '')",
    // From elsewhere.
    "SELECT pg_replication_origin_session_setup('elsewhere')",
    "BEGIN; SELECT pg_replication_origin_xact_setup('0/ABCDEF', '2026-01-02 03:04:05+00'); INSERT INTO plain VALUES (50, 'from elsewhere'); COMMIT",
    "BEGIN; SELECT pg_replication_origin_xact_setup('0/ABCDFF', '2026-01-02 03:04:06+00'); INSERT INTO streamed.large SELECT n, repeat('e', 100) FROM generate_series(10000, 11000) n; COMMIT",
    "SELECT pg_replication_origin_session_reset()",
    // Streamed while in progress.
    "BEGIN; INSERT INTO streamed.large SELECT n, repeat('x', 100) FROM generate_series(1, 3000) n; COMMIT",
    "BEGIN; INSERT INTO streamed.large SELECT n, 'kept' FROM generate_series(4001, 5000) n; SAVEPOINT s; INSERT INTO streamed.large SELECT n, 'gone' FROM generate_series(5001, 6000) n; UPDATE streamed.large SET note = 'gone' WHERE id < 500; ROLLBACK TO s; \
     SELECT pg_logical_emit_message(true, 'large', 'm'); UPDATE streamed.large SET note = 'kept too' WHERE id < 1500; DELETE FROM streamed.large WHERE id BETWEEN 2000 AND 2500; COMMIT",
    "BEGIN; INSERT INTO streamed.large SELECT n, 'gone' FROM generate_series(20000, 21000) n; ROLLBACK",
    "BEGIN; INSERT INTO streamed.other SELECT n, 'n', repeat('b', 50) FROM generate_series(1, 1000) n; ALTER TABLE streamed.other ADD added int DEFAULT 5; UPDATE streamed.other SET note = NULL; SAVEPOINT s; ALTER TABLE streamed.other ADD undone text DEFAULT 'u'; UPDATE streamed.other SET note = 'gone'; ROLLBACK TO s; UPDATE streamed.other SET added = id; TRUNCATE streamed.large; COMMIT",
    // Prepared, with a transaction in between, and rolled back.
    "BEGIN; INSERT INTO plain VALUES (60, 'prepared'); UPDATE plain SET note = 'p' WHERE id = 20; PREPARE TRANSACTION 'it''s one'",
    "BEGIN; INSERT INTO streamed.large SELECT n, 'prepared' FROM generate_series(40001, 42000) n; SAVEPOINT s; INSERT INTO streamed.large SELECT n, 'gone' FROM generate_series(42001, 43000) n; ROLLBACK TO s; PREPARE TRANSACTION 'large'",
    "BEGIN; INSERT INTO plain VALUES (61, 'gone'); PREPARE TRANSACTION 'undone'",
    "INSERT INTO plain VALUES (62, 'between')",
    "ROLLBACK PREPARED 'undone'",
    "COMMIT PREPARED 'large'",
    "COMMIT PREPARED 'it''s one'",
    "INSERT INTO streamed.other VALUES (5000, 'after', NULL, 1)",
    "CREATE TABLE streamed.copied AS SELECT n AS id, md5(n::text) AS note FROM generate_series(1, 2000) n",
];

/// Two transactions in progress at once, streamed in turns, with a short one
/// in between.
fn interleaved(server: &Server) {
    let (mut one, mut two) = (server.client(), server.client());
    let (mut first, mut second) = (one.transaction().unwrap(), two.transaction().unwrap());
    for round in 0..4 {
        let from = 30_000 + round * 1000;
        let insert = |from: i32| {
            format!(
                "INSERT INTO streamed.large SELECT n, repeat('i', 60) FROM generate_series({from}, {}) n",
                from + 499
            )
        };
        first.batch_execute(&insert(from)).unwrap();
        second.batch_execute(&insert(from + 500)).unwrap();
        server.sql(&format!("INSERT INTO plain VALUES ({from}, 'between')"));
    }
    second.commit().unwrap();
    first.commit().unwrap();
}

/// That the workload is what it claims to be.
pub fn assert_covered(events: &[Event]) {
    for op in ["c", "u", "d", "t", "m"] {
        assert!(events.iter().any(|event| event.op() == op), "no {op}");
    }
    let has = |what: &dyn Fn(&Event) -> bool| events.iter().any(what);
    for member in ["unchanged", "root", "origin"] {
        let found = has(&|event| event.source.get(member).is_some());
        assert!(found, "no source.{member}");
    }
    assert!(has(&|event| event.source["seq"].as_u64() > Some(50)));
    assert!(!has(&|event| event
        .members
        .values()
        .any(|member| member.contains("\"gone\""))));
}
