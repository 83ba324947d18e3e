//! The output plugin's options `conditions` and `conditions_mode`.

use walferry_tests::frames::{Capture, FrameReader};
use walferry_tests::{Server, Statements, Walsender};

const EXACT: &str = "conditions";

fn server() -> Server {
    let server = Server::builder()
        .setting("synchronous_commit", "on")
        .start();
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, price numeric, note text, kind text);
         ALTER TABLE t REPLICA IDENTITY FULL;
         ALTER TABLE t ALTER note SET STORAGE EXTERNAL;
         CREATE TABLE k (id int PRIMARY KEY, price int, note text);
         ALTER TABLE k ALTER note SET STORAGE EXTERNAL;
         CREATE TABLE bare (id int, price int);
         CREATE TABLE other (id int PRIMARY KEY)",
    );
    server.create_slot("s", "walferry");
    server
}

/// The refusal of a reading.
fn refusal(server: &Server, options: &[(&str, &str)]) -> String {
    let mut client = server.client();
    let error = match Capture::try_peek(&mut client, "s", options) {
        Ok(capture) => panic!("{options:?} was taken: {:?}", capture.lines()),
        Err(error) => error,
    };
    let error = error.as_db_error().expect("a server error");
    // The session is as it was.
    client.each("SELECT 1").expect("a session that goes on");
    format!(
        "{} {}\n{}\n{}",
        error.code().code(),
        error.message(),
        error.detail().unwrap_or_default(),
        error.hint().unwrap_or_default()
    )
}

#[test]
fn rows_that_do_not_pass_are_left_out_and_those_that_move_across_come_and_go() {
    let server = server();
    let mut client = server.client();
    client
        .each(
            "INSERT INTO t VALUES (1, 5, 'low', 'a'), (2, 50.5, 'high', 'a'), (3, NULL, repeat('x', 9000), 'b');
             UPDATE t SET price = 6 WHERE id = 1;
             UPDATE t SET price = 60 WHERE id = 1;
             UPDATE t SET note = 'more' WHERE id = 1;
             UPDATE t SET price = 7 WHERE id = 2;
             UPDATE t SET price = 100 WHERE id = 3;
             UPDATE t SET price = 101 WHERE id = 3;
             UPDATE t SET note = repeat('y', 9000) WHERE id = 3;
             DELETE FROM t WHERE id = 2;
             DELETE FROM t WHERE id = 1;
             TRUNCATE t;
             INSERT INTO other VALUES (9)",
        )
        .unwrap();
    let short = |capture: &Capture| -> Vec<String> {
        let lines = capture.lines();
        let long = |line: &String| {
            line.replace(&"x".repeat(9000), "XXX")
                .replace(&"y".repeat(9000), "YYY")
        };
        lines.iter().map(long).collect()
    };
    let condition = "public.t: price >= 50 AND length(note) < 10000";
    let capture = Capture::peek(&mut client, "s", &[(EXACT, condition)]);
    assert_eq!(
        short(&capture),
        [
            "INSERT public.t id=2 price=50.5 note=high kind=a",
            "INSERT public.t id=1 price=60 note=low kind=a",
            "UPDATE public.t full(id=1 price=60 note=low kind=a) id=1 price=60 note=more kind=a",
            "DELETE public.t full(id=2 price=50.5 note=high kind=a)",
            // The UPDATE did not touch the value out of line; the condition
            // and the INSERT have it from the old row.
            "INSERT public.t id=3 price=100 note=XXX kind=b",
            "UPDATE public.t full(id=3 price=100 note=XXX kind=b) id=3 price=101 note=UNCHANGED kind=b",
            "UPDATE public.t full(id=3 price=101 note=XXX kind=b) id=3 price=101 note=YYY kind=b",
            "DELETE public.t full(id=1 price=60 note=more kind=a)",
            "TRUNCATE public.t",
            "INSERT public.other id=9",
        ]
    );
    // Ids are counted before the filter.
    let all = Capture::peek(&mut client, "s", &[]);
    let ids = all.ids();
    assert!(capture.ids().iter().all(|id| ids.contains(id)));
    // Two conditions have both to be true.
    let both = Capture::peek(
        &mut client,
        "s",
        &[
            (EXACT, "*.t: price >= 50"),
            (EXACT, "other.x, public.t: kind = 'b'"),
            ("tables", "public.t"),
        ],
    );
    assert_eq!(both.lines().len(), 4);
    // Thin: the reader is to judge, so UPDATEs that move their row stay what
    // they are, and only what passes neither before nor after is left out.
    let thin = Capture::peek(
        &mut client,
        "s",
        &[
            (EXACT, "public.t: price >= 50 AND kind IN ('a', 'b')"),
            ("conditions_mode", "thin"),
        ],
    );
    let kinds: Vec<String> = thin
        .lines()
        .iter()
        .map(|line| line[..8].trim_end().to_owned())
        .collect();
    assert_eq!(
        kinds,
        [
            "INSERT p", "UPDATE p", "UPDATE p", "UPDATE p", "UPDATE p", "UPDATE p", "UPDATE p",
            "DELETE p", "TRUNCATE", "INSERT p"
        ]
    );
    // As JSON, where people read it.
    let lines: Vec<String> = client
        .query(
            "SELECT data FROM pg_logical_slot_peek_changes('s', NULL, NULL, 'format', 'json', 'conditions', 'public.t: price >= 50', 'include-transaction', 'off')",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let actions: String = lines
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter_map(|change| change["action"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(actions, "IIUDIUUDTI");
}

#[test]
fn where_the_old_row_does_not_tell_nothing_is_left_out() {
    let server = server();
    let mut client = server.client();
    client
        .each(
            "INSERT INTO k VALUES (1, 5, repeat('x', 9000)), (2, 50, 'b'), (30, 50, 'c');
             UPDATE k SET price = 6 WHERE id = 1;
             UPDATE k SET price = 60 WHERE id = 1;
             UPDATE k SET id = 40 WHERE id = 30;
             UPDATE k SET price = 51 WHERE id = 40;
             UPDATE k SET id = 3 WHERE id = 40;
             DELETE FROM k WHERE id = 1;
             DELETE FROM k WHERE id = 2;
             INSERT INTO bare VALUES (1, 5), (2, 50);
             UPDATE bare SET price = 4 WHERE id = 1;
             DELETE FROM bare",
        )
        .unwrap();
    let mut lines = |condition: &str, mode: &str| -> Vec<String> {
        let options = [(EXACT, condition), ("conditions_mode", mode)];
        let lines = Capture::peek(&mut client, "s", &options).lines();
        let of_table = lines
            .into_iter()
            .filter(|line| line.contains(&condition[..condition.find(':').unwrap_or_default()]));
        of_table
            .map(|line| line.replace(&"x".repeat(9000), "XXX"))
            .collect()
    };
    // By the key alone every old row tells.
    assert_eq!(
        lines("public.k: id < 20", "exact"),
        [
            "INSERT public.k id=1 price=5 note=XXX",
            "INSERT public.k id=2 price=50 note=b",
            "UPDATE public.k none id=1 price=6 note=UNCHANGED",
            "UPDATE public.k none id=1 price=60 note=UNCHANGED",
            "INSERT public.k id=3 price=51 note=c",
            "DELETE public.k key(id=1)",
            "DELETE public.k key(id=2)",
        ]
    );
    assert_eq!(lines("public.k: id < 20", "thin").len(), 7);
    // By another column none does: what may have passed before is sent.
    assert_eq!(
        lines("public.k: price >= 50", "exact"),
        [
            "INSERT public.k id=2 price=50 note=b",
            "INSERT public.k id=30 price=50 note=c",
            "DELETE public.k key(id=1)",
            "UPDATE public.k none id=1 price=60 note=UNCHANGED",
            "UPDATE public.k key(id=30) id=40 price=50 note=c",
            "UPDATE public.k none id=40 price=51 note=c",
            "UPDATE public.k key(id=40) id=3 price=51 note=c",
            "DELETE public.k key(id=1)",
            "DELETE public.k key(id=2)",
        ]
    );
    // A value that was not logged at all: the row can't be judged.
    assert_eq!(
        lines("public.k: note = 'b'", "exact"),
        [
            "INSERT public.k id=2 price=50 note=b",
            "UPDATE public.k none id=1 price=6 note=UNCHANGED",
            "UPDATE public.k none id=1 price=60 note=UNCHANGED",
            "DELETE public.k key(id=30)",
            "DELETE public.k key(id=40)",
            "DELETE public.k key(id=40)",
            "DELETE public.k key(id=1)",
            "DELETE public.k key(id=2)",
        ]
    );
    assert_eq!(
        lines("public.bare: price >= 50", "exact"),
        [
            "INSERT public.bare id=2 price=50",
            "DELETE public.bare none",
            "DELETE public.bare none",
            "DELETE public.bare none",
        ]
    );
}

#[test]
fn a_condition_that_a_publication_could_not_have_is_refused_by_name_and_thin_sends_the_rows() {
    let server = server();
    let mut client = server.client();
    client
        .each(
            "CREATE FUNCTION own(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
             CREATE TYPE mood AS ENUM ('sad', 'glad');
             CREATE COLLATION mine (provider = libc, locale = 'C');
             CREATE DOMAIN positive AS int CHECK (VALUE > 0);
             CREATE TABLE odd (id int PRIMARY KEY, m mood, p positive, c text COLLATE mine, \"Odd \"\"x\" int);
             INSERT INTO odd VALUES (1, 'sad', 1, 'x', 7), (2, 'glad', 2, 'y', 8);
             INSERT INTO t VALUES (1, 0, '', '')",
        )
        .unwrap();
    for (condition, because) in [
        ("nope > 1", "column \"nope\" does not exist"),
        ("other.id > 1", "missing FROM-clause entry"),
        ("xmin::text = '1'", "column \"xmin\" does not exist"),
        ("tableoid = 1", "column \"tableoid\" does not exist"),
        ("odd.* IS NULL", "missing FROM-clause entry"),
        ("id", "must be type boolean"),
        ("id > 'x'", "invalid input syntax"),
        ("id >", "syntax error"),
        ("id = 1) FROM odd WHERE (true", "not one expression"),
        ("id = 1) UNION SELECT (true", "not one expression"),
        (
            "id = 1); DROP TABLE odd; SELECT (true",
            "not one expression",
        ),
        ("id = (SELECT 1)", "cannot use subquery"),
        ("count(*) > 1", "aggregate functions are not allowed"),
        (
            "row_number() OVER () > 1",
            "window functions are not allowed",
        ),
        ("now() > '2020-01-01'", "not immutable"),
        ("random() > 0.5", "not immutable"),
        ("own(id) > 1", "not built in"),
        ("m = 'sad'", "type that is not built in"),
        ("p > 1", "type that is not built in"),
        ("c = 'x'", "collation that is not built in"),
        ("id > 1/0", "division by zero"),
        ("id > $1", "there is no parameter"),
    ] {
        let told = refusal(&server, &[(EXACT, &format!("public.odd: {condition}"))]);
        assert!(told.contains(because), "{condition}: {told}");
        assert!(told.contains("\"public\".\"odd\""), "{condition}: {told}");
        assert!(told.contains(condition), "{condition}: {told}");
        // The reader judges: everything is sent.
        let lines = Capture::peek(
            &mut client,
            "s",
            &[
                (EXACT, &format!("public.odd: {condition}")),
                ("conditions_mode", "thin"),
            ],
        )
        .lines();
        assert_eq!(lines.len(), 3, "{condition}: {lines:?}");
    }
    for (condition, rows) in [
        ("\"Odd \"\"x\" = 7 -- all of it", 1),
        ("public.odd.id + 1 > 2 AND odd.id < 3", 1),
        ("id IN (1, 2) /* ' */", 2),
        ("NOT (id IS NULL)", 2),
        ("CASE id WHEN 1 THEN false ELSE true END", 1),
        ("coalesce(nullif(id, 1), 5) = 5", 1),
        ("date '2026-11-21' > 'epoch' AND 'a' LIKE '_'", 2),
    ] {
        let option = format!("public.odd: {condition}");
        let lines = Capture::peek(&mut client, "s", &[(EXACT, &option)]).lines();
        assert_eq!(lines.len(), rows + 1, "{condition}: {lines:?}");
    }
    // An error on a row stops, says where, and keeps its SQLSTATE.
    let told = refusal(&server, &[(EXACT, "public.t: 1 / price > 0")]);
    assert!(told.starts_with("22012 division by zero"), "{told}");
    assert!(told.contains("\"public\".\"t\""), "{told}");
    assert!(told.contains("CASE WHEN"), "{told}");
    for bad in ["public.t", "t: id > 1", "public.t:", "public.t: ", ""] {
        let told = refusal(&server, &[(EXACT, bad)]);
        assert!(told.starts_with("22023"), "{bad}: {told}");
    }
    let told = refusal(&server, &[("conditions_mode", "thick")]);
    assert!(told.contains("exact and thin"), "{told}");
    // The same over the replication protocol, in a transaction of the server's
    // own; the connection goes on.
    let mut walsender = Walsender::connect(&server, "postgres");
    let mut reader = FrameReader::default();
    let end = server.flushed_lsn();
    for condition in ["public.t: 1 / price > 0", "public.odd: nope = 1"] {
        walsender.start("s", &[(EXACT, condition)]).unwrap();
        let error = walsender.read_until(end, &mut reader).unwrap_err();
        assert!(["22012", "22023"].contains(&error.sqlstate.as_str()));
    }
    let mut reader = FrameReader::default();
    let options = [
        (EXACT, "public.odd: nope = 1"),
        (EXACT, "public.t: price = 0"),
        ("conditions_mode", "thin"),
    ];
    walsender.start("s", &options).unwrap();
    walsender.read_until(end, &mut reader).unwrap();
    assert_eq!(reader.finish().lines().len(), 3);
    assert!(!server.log().contains("terminated by signal"));
}

#[test]
fn a_condition_follows_the_definition_that_a_row_was_written_under() {
    let server = server();
    let mut client = server.client();
    client
        .each(
            "CREATE SCHEMA parts;
             CREATE TABLE root (id int, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
             CREATE TABLE parts.a PARTITION OF root FOR VALUES FROM (0) TO (10);
             CREATE TABLE parts.b (v int, x text, id int NOT NULL);
             ALTER TABLE parts.b DROP COLUMN x;
             ALTER TABLE root ATTACH PARTITION parts.b FOR VALUES FROM (10) TO (20);
             INSERT INTO root VALUES (1, 1), (2, 7), (11, 1), (12, 7);
             BEGIN;
             INSERT INTO t VALUES (1, 5, '', ''), (2, 50, '', '');
             ALTER TABLE t ALTER price TYPE text;
             INSERT INTO t VALUES (3, '5', '', ''), (4, '500', '', '');
             ALTER TABLE t DROP price;
             ALTER TABLE t ADD price bigint DEFAULT 60;
             INSERT INTO t VALUES (5, '', '', 5), (6, '', '', 500);
             ALTER TABLE t ADD younger int DEFAULT 7;
             COMMIT;
             DELETE FROM t",
        )
        .unwrap();
    let ids = |capture: &Capture| -> Vec<String> {
        capture
            .lines()
            .iter()
            .filter(|line| !line.contains("_temp_"))
            .map(|line| {
                let id = line.find("id=").unwrap_or_default();
                let id: String = line[id..].chars().take_while(|c| *c != ' ').collect();
                format!("{} {id}", &line[..1])
            })
            .collect()
    };
    // What does not fit (text > integer) is sent, what fits is not.
    let thin = Capture::peek(
        &mut client,
        "s",
        &[
            (EXACT, "public.t: price > 10"),
            ("conditions_mode", "thin"),
            ("tables", "public.t"),
        ],
    );
    let told = ids(&thin);
    assert!(told.starts_with(&["I id=2".to_owned()]), "{told:?}");
    assert!(told.contains(&"I id=3".to_owned()) && told.contains(&"I id=4".to_owned()));
    assert!(!told.contains(&"I id=5".to_owned()) && told.contains(&"I id=6".to_owned()));
    // A column that is younger than the row has its default in it.
    let young = Capture::peek(
        &mut client,
        "s",
        &[
            (EXACT, "public.t: id > 4 AND kind = ''"),
            ("tables", "public.t"),
        ],
    );
    assert_eq!(
        ids(&young),
        ["I id=5", "I id=6", "D id=5", "D id=6"],
        "{:?}",
        young.lines()
    );
    // A condition of the root holds for its partitions, whatever their columns'
    // places are.
    for (condition, expected) in [
        ("public.root: v > 5", vec!["I id=2", "I id=12"]),
        ("parts.b: v > 5", vec!["I id=1", "I id=2", "I id=12"]),
    ] {
        let capture = Capture::peek(
            &mut client,
            "s",
            &[(EXACT, condition), ("tables", "parts.*")],
        );
        let told: Vec<String> = capture
            .lines()
            .iter()
            .map(|line| {
                let id = line.split(' ').find(|word| word.starts_with("id="));
                format!("I {}", id.unwrap_or_default())
            })
            .collect();
        assert_eq!(told, expected, "{condition}");
    }
}

#[test]
fn the_sessions_settings_do_not_change_what_a_condition_says() {
    let server = server();
    server.sql(
        "CREATE TABLE d (id int PRIMARY KEY, at timestamptz, day date, s text);
         CREATE FUNCTION public.loud(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
         CREATE OPERATOR public.> (LEFTARG = int, RIGHTARG = int, FUNCTION = public.loud);
         INSERT INTO d VALUES (1, '2026-11-21 00:30:00+00', '2026-02-01', 'a\\b'), (2, '2026-11-21 23:30:00+00', '2026-01-02', NULL)",
    );
    let condition = "public.d: at < '2026-11-21 12:00:00' AND day = '2026-02-01' AND s = 'a\\b' AND (s = NULL) IS NULL";
    let mut client = server.client();
    for settings in [
        "SELECT 1",
        "SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Pacific/Kiritimati'; SET standard_conforming_strings = off; SET escape_string_warning = off; SET transform_null_equals = on",
        "SET DateStyle = 'German, YMD'; SET TimeZone = 'America/Los_Angeles'; SET IntervalStyle = 'sql_standard'",
    ] {
        client.each(settings).unwrap();
        let capture = Capture::peek(&mut client, "s", &[(EXACT, condition)]);
        assert_eq!(
            capture.lines().len(),
            1,
            "{settings}: {:?}",
            capture.lines()
        );
    }
    // An operator of the user's own, found first, is refused and not called.
    client.each("SET search_path = public, pg_catalog").unwrap();
    let options = [(EXACT, "public.d: id > 5"), ("conditions_mode", "thin")];
    let capture = Capture::peek(&mut client, "s", &options);
    assert_eq!(capture.lines().len(), 2);
    let told = Capture::try_peek(&mut client, "s", &options[..1]);
    let error = told.map(|capture| capture.lines()).unwrap_err();
    let message = error.as_db_error().expect("a server error").message();
    assert!(message.contains("not built in"), "{message}");
}

#[test]
fn conditions_over_a_million_rows_leave_no_memory_behind() {
    let server = Server::builder()
        .setting("logical_decoding_work_mem", "64kB")
        .start();
    server.sql("CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL");
    server.create_slot("s", "walferry");
    let mut walsender = Walsender::connect(&server, "postgres");
    let mut reader = FrameReader::default();
    let options = [
        (
            EXACT,
            "public.t: v || 'x' = 'never' AND lower(v) IN ('a', 'b')",
        ),
        ("streaming", "on"),
    ];
    walsender.start("s", &options).unwrap();
    let mut round = |rows: u32| {
        server.sql(&format!(
            "INSERT INTO t SELECT g, repeat('v', 50) FROM generate_series(1, {rows}) g; UPDATE t SET v = v || 'w'; DELETE FROM t;
             ALTER TABLE t ADD c int; ALTER TABLE t DROP c"
        ));
        walsender
            .read_until(server.flushed_lsn(), &mut reader)
            .unwrap();
        walsender.private_memory()
    };
    round(20_000);
    let before = round(20_000);
    let after = (0..5).map(|_| round(40_000)).last().unwrap_or_default();
    assert!(
        after < before + (4 << 20),
        "{before} bytes before, {after} after"
    );
    assert!(reader.finish().lines().is_empty());
}
