//! What an event says a value is must be what the server says it is, byte for
//! byte: `value::text` under the pinned settings.

mod document;
mod literals;
mod native_reader;

use std::collections::HashMap;
use std::io::Write;

use literals::{TYPES, TypeUnderTest};
use native_reader::read_slot;
use postgres::{Client, SimpleQueryMessage};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use walferry_streamer::encode::Encode;
use walferry_streamer::encode::debezium::{DebeziumJson, DebeziumOptions};
use walferry_streamer::event::{Change, Event, Image, Value};
use walferry_tests::{Encoding, Server, random_seed};

/// The settings under which the server's text is the reference.
const PINNED: &str = "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; \
     SET extra_float_digits = 1; SET bytea_output = 'hex'; SET synchronous_commit = on";

fn session(server: &Server, database: &str) -> Client {
    let mut client = server.client_in(database);
    client.batch_execute(PINNED).expect("settings");
    client
}

fn rows(client: &mut Client, query: &str) -> Vec<Vec<Option<String>>> {
    client
        .simple_query(query)
        .unwrap_or_else(|error| panic!("{error:?}\n{query}"))
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|place| row.get(place).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}

/// A table's rows as their events told them, by the first column (an int4).
#[derive(Default)]
struct Told {
    rows: HashMap<i32, Vec<Option<String>>>,
    lines: HashMap<i32, String>,
}

impl Told {
    fn take(&mut self, event: &Event<'_>, encoder: &DebeziumJson) {
        let Change::Insert { after, .. } = &event.change else {
            panic!("only inserts were made: {event:?}")
        };
        let Value::Int4(id) = after[0] else {
            panic!("the first column is the id: {:?}", after[0])
        };
        assert!(
            self.rows.insert(id, texts(after)).is_none(),
            "row {id} came twice"
        );
        let mut line = Vec::new();
        encoder
            .encode(event, &mut line)
            .unwrap_or_else(|failure| panic!("{failure}"));
        let line = String::from_utf8(line).expect("JSON is UTF-8");
        assert_eq!(line.matches('\n').count(), 1, "one line an event: {line}");
        serde_json::from_str::<&RawValue>(&line)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
        self.lines.insert(id, line);
    }
}

fn texts(image: &Image<'_>) -> Vec<Option<String>> {
    image
        .iter()
        .map(|value| match value {
            Value::Null => None,
            Value::UnchangedToast | Value::Absent => panic!("{value:?} in an insert"),
            value => {
                let mut out = Vec::new();
                value
                    .write_text(&mut out)
                    .unwrap_or_else(|error| panic!("{error}: {value:?}"));
                Some(String::from_utf8(out).expect("text is UTF-8"))
            }
        })
        .collect()
}

fn encoder() -> DebeziumJson {
    DebeziumJson::new(&DebeziumOptions::default())
}

/// Compares every value of a table's columns; returns how many those were.
fn compare(client: &mut Client, table: &str, columns: &[&str], told: &Told) -> usize {
    let list: String = columns
        .iter()
        .map(|column| format!(", {column}::text"))
        .collect();
    let expected = rows(client, &format!("SELECT id{list} FROM {table}"));
    assert_eq!(
        told.rows.len(),
        expected.len(),
        "events and rows of {table}"
    );
    let mut compared = 0;
    for row in &expected {
        let id: i32 = row[0]
            .as_deref()
            .and_then(|id| id.parse().ok())
            .expect("an id");
        let told = &told.rows[&id];
        for (place, value) in row.iter().enumerate().skip(1) {
            assert_eq!(
                told[place],
                *value,
                "{table}.{} of row {id}: the event's text (left) and the server's",
                columns[place - 1]
            );
            compared += 1;
        }
    }
    compared
}

/// Loads literals into an unlogged table, which the slot does not see.
fn load(client: &mut Client, kind: &TypeUnderTest, rng: &mut StdRng, random: usize) {
    client
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS seed; CREATE UNLOGGED TABLE seed (id int, v {})",
            kind.sql
        ))
        .expect("seed table");
    let version: i32 = client
        .query_one("SELECT current_setting('server_version_num')::int", &[])
        .expect("the server's version")
        .get(0);
    let extremes = kind
        .extremes
        .iter()
        .chain(literals::extremes_since(kind.sql, version))
        .map(|literal| (*literal).to_owned());
    let mut copy = client
        .copy_in("COPY seed FROM STDIN (FORMAT csv, NULL 'no value')")
        .expect("COPY");
    let randoms = (0..random).map(|_| (kind.random)(rng));
    for (id, literal) in (1..).zip(extremes.chain(randoms)) {
        writeln!(copy, "{id},\"{}\"", literal.replace('"', "\"\"")).expect("COPY data");
    }
    writeln!(copy, "0,no value").expect("COPY data");
    copy.finish()
        .unwrap_or_else(|error| panic!("literals of {}: {error:?}", kind.sql));
}

const COLUMNS: [&str; 7] = ["v", "d", "dd", "a", "n", "b", "da"];

/// A table with the type itself, a domain over it, a domain over that, and
/// arrays: a growing one, two dimensions with nulls, bounds of its own, and a
/// domain over an array.
fn fill(client: &mut Client, table: &str, sql: &str) {
    let script = format!(
        "DROP TABLE IF EXISTS {table};
         DROP DOMAIN IF EXISTS dd; DROP DOMAIN IF EXISTS d; DROP DOMAIN IF EXISTS da;
         CREATE DOMAIN d AS {sql}; CREATE DOMAIN dd AS d; CREATE DOMAIN da AS {sql}[];
         CREATE TABLE {table} (id int PRIMARY KEY, v {sql}, d d, dd dd, a {sql}[], n {sql}[], b {sql}[], da da);
         INSERT INTO {table}
         SELECT id, v, v, v,
                CASE id % 5 WHEN 0 THEN '{{}}' WHEN 1 THEN ARRAY[v]::{sql}[] ELSE array_agg(v) OVER (ORDER BY id ROWS 4 PRECEDING) END,
                ARRAY[[v, lag(v) OVER (ORDER BY id)], [NULL, v]],
                (format('[%s:%s][%s:%s][1:1]=', id % 7 - 3, id % 7 - 2, -id, -id) || ARRAY[[[v]], [[lead(v) OVER (ORDER BY id)]]]::{sql}[]::text)::{sql}[],
                ARRAY[v, v]
         FROM seed"
    );
    client
        .batch_execute(&script)
        .unwrap_or_else(|error| panic!("{error:?}\n{script}"));
}

#[test]
fn every_type_reads_as_the_server_prints_it() {
    const RANDOM_LITERALS: usize = 1200;
    let server = Server::start_default();
    let mut client = session(&server, "postgres");
    let mut rng = StdRng::seed_from_u64(random_seed());
    server.create_slot("types", "walferry");
    let mut compared = 0;
    for kind in TYPES {
        load(&mut client, kind, &mut rng, RANDOM_LITERALS);
        fill(&mut client, "t", kind.sql);
        let mut told = Told::default();
        let encoder = encoder();
        read_slot(&mut client, "types", |event| told.take(event, &encoder));
        let found = compare(&mut client, "t", &COLUMNS, &told);
        println!("{}: {found} values", kind.sql);
        compared += found;
    }
    println!("{compared} values compared");
    assert!(compared >= 200_000, "{compared} values");
}

/// Long values of many kinds, compressible and not, in every way a table can
/// store them.
#[test]
fn compressed_and_out_of_line_values_read_the_same() {
    let server = Server::start_default();
    let mut client = session(&server, "postgres");
    server.create_slot("types", "walferry");
    let columns = [
        "t_pglz",
        "t_lz4",
        "t_external",
        "t_main",
        "y_lz4",
        "j_pglz",
        "j_lz4",
        "js",
        "n",
        "ta",
        "ia",
        "na",
        "d",
        "c",
    ];
    let has_lz4: bool = server.value(
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'",
    );
    let script =
            "CREATE DOMAIN long_text AS text;
             CREATE FUNCTION noise(int) RETURNS text LANGUAGE sql VOLATILE AS
               $$ SELECT string_agg(md5(random()::text), '') FROM generate_series(1, $1 / 32 + 1) $$;
             CREATE TABLE big (
               id int PRIMARY KEY,
               t_pglz text COMPRESSION pglz, t_lz4 text COMPRESSION lz4, t_external text,
               t_main text COMPRESSION lz4, y_lz4 bytea COMPRESSION lz4,
               j_pglz jsonb COMPRESSION pglz, j_lz4 jsonb COMPRESSION lz4, js json COMPRESSION lz4,
               n numeric COMPRESSION lz4, ta text[] COMPRESSION lz4, ia int[] COMPRESSION pglz,
               na numeric[], d long_text, c char(3000));
             ALTER TABLE big ALTER n SET STORAGE EXTENDED, ALTER t_external SET STORAGE EXTERNAL, ALTER t_main SET STORAGE MAIN;
             INSERT INTO big
             SELECT id, soft, soft, soft, left(soft, 4000), convert_to(hard, 'UTF8'),
                    jsonb_build_object('soft', soft, 'hard', hard, 'list', (SELECT jsonb_agg(x) FROM generate_series(1, id * 3) x)),
                    jsonb_build_object('soft', soft, 'hard', hard, 'list', (SELECT jsonb_agg(x * 0.5) FROM generate_series(1, id * 3) x)),
                    json_build_object('soft', soft), repeat('1234567890', size / 100 + 1)::numeric,
                    ARRAY[soft, NULL, hard], (SELECT array_agg(x % 7) FROM generate_series(1, size / 10) x),
                    (SELECT array_agg(x * 0.01) FROM generate_series(1, size / 20) x), hard, left(hard, 100)
             FROM (SELECT id, size, repeat('walferry é😀 ', size / 15) AS soft, noise(size) AS hard
                   FROM (SELECT id, (1.35 ^ id * 20)::int AS size FROM generate_series(1, 33) id) sizes) made;
             INSERT INTO big (id, t_lz4, t_pglz) SELECT 100, repeat('x', 20000000), repeat('y', 20000000);";
    client
        .batch_execute(&if has_lz4 {
            script.to_owned()
        } else {
            script.replace("COMPRESSION lz4", "")
        })
        .expect("big rows");
    let mut told = Told::default();
    let encoder = encoder();
    let travelled = read_slot(&mut client, "types", |event| told.take(event, &encoder));
    println!("{travelled:?}");
    assert!(travelled.pglz > 30, "{travelled:?}");
    assert!(travelled.lz4 > 60 || !has_lz4, "{travelled:?}");
    let compared = compare(&mut client, "big", &columns, &told);
    assert_eq!(compared, 34 * columns.len());
}

/// A value outside the row that an UPDATE left alone is neither null nor lost.
#[test]
fn an_untouched_long_value_is_never_null() {
    let server = Server::start_default();
    let mut client = session(&server, "postgres");
    client
        .batch_execute(
            "CREATE TABLE doc (id int PRIMARY KEY, body text, n int);
             ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
             INSERT INTO doc VALUES (1, repeat('long ', 10000), 0), (2, NULL, 0)",
        )
        .expect("table");
    server.create_slot("types", "walferry");
    client
        .batch_execute(
            "UPDATE doc SET n = 1;
             ALTER TABLE doc REPLICA IDENTITY FULL; UPDATE doc SET n = 2",
        )
        .expect("updates");
    let encoder = encoder();
    let mut lines: Vec<Json> = Vec::new();
    read_slot(&mut client, "types", |event| {
        let mut line = Vec::new();
        encoder.encode(event, &mut line).expect("JSON");
        lines.push(serde_json::from_slice(&line).expect("JSON"));
    });
    let body = "long ".repeat(10_000);
    let find = |id: i32, n: i32| {
        lines
            .iter()
            .find(|line| line["after"]["id"] == id && line["after"]["n"] == n)
            .unwrap_or_else(|| panic!("no update of {id} to {n}"))
    };
    assert_eq!(find(1, 1)["after"], serde_json::json!({"id": 1, "n": 1}));
    assert_eq!(
        find(1, 1)["source"]["unchanged"],
        serde_json::json!(["body"])
    );
    assert_eq!(
        find(2, 1)["after"],
        serde_json::json!({"id": 2, "body": null, "n": 1})
    );
    assert_eq!(find(2, 1)["source"].get("unchanged"), None);
    // The full old row has it, so the new one is whole.
    assert_eq!(
        find(1, 2)["after"],
        serde_json::json!({"id": 1, "body": body, "n": 2})
    );
    assert_eq!(
        find(1, 2)["before"],
        serde_json::json!({"id": 1, "body": body, "n": 1})
    );
}

/// Types whose JSON form is what the server's own `to_json` makes of them.
#[test]
fn json_values_equal_the_servers_own_json() {
    let server = Server::start_default();
    let mut client = session(&server, "postgres");
    let mut rng = StdRng::seed_from_u64(random_seed());
    server.create_slot("types", "walferry");
    let same = [
        "bool", "int2", "int4", "int8", "text", "varchar", "name", "float4", "float8", "json",
        "jsonb", "uuid", "date", "interval",
    ];
    let mut compared = 0;
    for kind in TYPES.iter().filter(|kind| same.contains(&kind.sql)) {
        load(&mut client, kind, &mut rng, 200);
        fill(&mut client, "t", kind.sql);
        let mut told = Told::default();
        let encoder = encoder();
        read_slot(&mut client, "types", |event| told.take(event, &encoder));
        for row in rows(&mut client, "SELECT id, to_json(t)::text FROM t") {
            let id: i32 = row[0]
                .as_deref()
                .and_then(|id| id.parse().ok())
                .expect("an id");
            let server = row[1].as_deref().expect("a row");
            // What is beyond a double (1e400) no Value holds.
            let Ok(expected) = serde_json::from_str::<Json>(server) else {
                continue;
            };
            let found: Json = serde_json::from_str(&told.lines[&id]).expect("JSON");
            assert_eq!(found["after"], expected, "{}, row {id}", kind.sql);
            compared += 1;
        }
    }
    assert!(compared > 2000, "{compared} rows");
}

/// Whatever the server's encoding is, text arrives in UTF-8 and takes the same
/// form, though there it comes through output functions.
#[test]
fn a_latin1_database_gives_the_same_events() {
    let server = Server::start_default();
    server.create_database("latin", Encoding::Latin1);
    let mut client = session(&server, "latin");
    let mut rng = StdRng::seed_from_u64(random_seed());
    server.create_slot_in("latin", "types", "walferry");
    let latin = |literal: &str| {
        !literal.contains("\\u")
            && literal
                .chars()
                .all(|c| (c as u32) < 0x80 || (0xa0..0x100).contains(&(c as u32)))
    };
    let mut compared = 0;
    for kind in TYPES {
        client
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS seed; CREATE UNLOGGED TABLE seed (id int, v {})",
                kind.sql
            ))
            .expect("seed table");
        let literals: Vec<String> = kind
            .extremes
            .iter()
            .map(|literal| (*literal).to_owned())
            .chain((0..60).map(|_| (kind.random)(&mut rng)))
            .filter(|literal| latin(literal))
            .collect();
        let insert = client
            .prepare(&format!(
                "INSERT INTO seed VALUES ($1, $2::text::{})",
                kind.sql
            ))
            .expect("INSERT");
        for (id, literal) in (1i32..).zip(&literals) {
            client
                .execute(&insert, &[&id, literal])
                .unwrap_or_else(|error| panic!("{literal:?}: {error:?}"));
        }
        fill(&mut client, "t", kind.sql);
        let mut told = Told::default();
        let encoder = encoder();
        let travelled = read_slot(&mut client, "types", |event| told.take(event, &encoder));
        if matches!(kind.sql, "text" | "jsonb" | "name") {
            assert!(travelled.text > 0, "{}: {travelled:?}", kind.sql);
        }
        compared += compare(&mut client, "t", &COLUMNS, &told);
        for row in rows(&mut client, "SELECT id, to_json(a)::text FROM t") {
            if !matches!(kind.sql, "text" | "varchar" | "name" | "json" | "jsonb") {
                break;
            }
            let id: i32 = row[0]
                .as_deref()
                .and_then(|id| id.parse().ok())
                .expect("an id");
            let expected = serde_json::from_str::<Json>(row[1].as_deref().expect("a row"));
            let found = serde_json::from_str::<Json>(&told.lines[&id]);
            // What is beyond a double (1e400) no Value holds.
            if let (Ok(expected), Ok(found)) = (expected, found) {
                assert_eq!(found["after"]["a"], expected, "{}, row {id}", kind.sql);
            }
        }
    }
    assert!(compared > 5000, "{compared} values");
}

/// Types that are not read raw come as their text, and their arrays as arrays.
#[test]
fn every_other_type_comes_as_its_text() {
    let server = Server::start_default();
    let mut client = session(&server, "postgres");
    client
        .batch_execute(
            "CREATE SCHEMA other;
             CREATE TYPE mood AS ENUM ('sad', 'ok, really', 'NULL', ''''); CREATE TYPE other.mood AS ENUM ('ok, really', 'glad');
             CREATE TYPE pair AS (a int, b text); CREATE DOMAIN pairs AS pair[];
             CREATE TABLE others (
               id int PRIMARY KEY, mood mood, other_mood other.mood, moods mood[], pair pair, pairs pairs,
               inet inet, inets inet[], cidr cidr, box box, boxes box[], point point, range int4range, ranges numrange[],
               ts tsvector, bits bit varying(9), mac macaddr, money money, vector int2vector, path jsonpath, class regclass)",
        )
        .expect("table");
    server.create_slot("types", "walferry");
    client
        .batch_execute(
            "INSERT INTO others VALUES
             (1, 'ok, really', 'ok, really', '{sad,NULL,\"NULL\",\"ok, really\"}', '(1,\"a \"\"b\"\"\")', ARRAY[(2,'x,y')::pair, NULL],
              '10.1.2.3', '{10.1.2.3,::1/64}', '10/8', '(1,1),(0,0)', '{(1,1),(0,0);(2,2),(0,0)}', '(1e300,-0)', '[1,5)', '{\"(,)\",empty}',
              'a:1 fat:2,4', '10101', '08:00:2b:01:02:03', 12.34, '1 2 3', '$.a[*] ? (@ > 1)', 'pg_class'),
             (2, NULL, NULL, '[0:1][3:4]={{sad,NULL},{\"''\",sad}}', NULL, '{}', '::1', NULL, '::1/128', NULL, NULL, NULL, 'empty', '{}', '', '', NULL, NULL, NULL, NULL, NULL)",
        )
        .expect("rows");
    let columns = [
        "mood",
        "other_mood",
        "moods",
        "pair",
        "pairs",
        "inet",
        "inets",
        "cidr",
        "box",
        "boxes",
        "point",
        "range",
        "ranges",
        "ts",
        "bits",
        "mac",
        "money",
        "vector",
        "path",
        "class",
    ];
    let mut told = Told::default();
    let encoder = encoder();
    read_slot(&mut client, "types", |event| told.take(event, &encoder));
    compare(&mut client, "others", &columns, &told);
    let line = |id: i32| -> Json { serde_json::from_str(&told.lines[&id]).expect("JSON") };
    let (first, second) = (&line(1)["after"], &line(2)["after"]);
    assert_eq!(
        first["moods"],
        serde_json::json!(["sad", null, "NULL", "ok, really"])
    );
    assert_eq!(
        second["moods"],
        serde_json::json!([["sad", null], ["'", "sad"]])
    );
    assert_eq!(first["pairs"], serde_json::json!(["(2,\"x,y\")", null]));
    assert_eq!(second["pairs"], serde_json::json!([]));
    assert_eq!(first["inets"], serde_json::json!(["10.1.2.3", "::1/64"]));
    assert_eq!(first["ranges"], serde_json::json!(["(,)", "empty"]));
    // Semicolons part the elements of a box[], so it stays its text.
    assert_eq!(first["boxes"], "{(1,1),(0,0);(2,2),(0,0)}");
    assert_eq!(first["pair"], "(1,\"a \"\"b\"\"\")");
}
