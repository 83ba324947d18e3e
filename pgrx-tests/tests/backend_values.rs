//! The output plugin and values: types, names, sizes.

use walferry_protocol::{Encoding as ValueEncoding, Lsn};
use walferry_tests::frames::{Action, Capture, Cell, FrameReader, Old, Row, table_rows};
use walferry_tests::{Server, Statements, Walsender};

fn new_rows(capture: &Capture, table: &str) -> Vec<Row> {
    capture
        .changes()
        .filter(|change| change.table() == table)
        .map(|change| change.row().clone())
        .collect()
}

#[test]
fn every_kind_of_value_arrives_as_the_server_prints_it() {
    let server = Server::start_default();
    let mut client = server.client();
    client
        .each(
            r#"CREATE SCHEMA a; CREATE SCHEMA b;
            CREATE TYPE a.mood AS ENUM ('fine', 'so, so "q"', '');
            CREATE TYPE b.mood AS ENUM ('fine', 'bad', '😀');
            CREATE TYPE a.pair AS (x int, y text, "z z" numeric);
            CREATE TYPE a.floats AS RANGE (subtype = float8);
            CREATE DOMAIN a.ints AS int[] CHECK (cardinality(VALUE) < 100);
            CREATE DOMAIN a.ints2 AS a.ints;
            CREATE DOMAIN a.moody AS a.mood;
            CREATE DOMAIN a.paired AS a.pair;
            CREATE DOMAIN a.word AS varchar(20) NOT NULL;
            CREATE TABLE kinds (
              id int PRIMARY KEY, b bool, i2 int2, i8 int8, f4 float4, f8 float8, n numeric, n2 numeric(20,5),
              t text, v varchar(10), c char(7), nm name, ch "char", by bytea, d date, tm time, tm2 time(2), tz timetz,
              ts timestamp, tsz timestamptz, iv interval, iv2 interval day to second(1), u uuid, j json, jb jsonb, o oid,
              am a.mood, bm b.mood, dm a.moody, p a.pair, dp a.paired, r int4range, fr a.floats, mr nummultirange,
              di a.ints, di2 a.ints2, w a.word DEFAULT 'w', ai int[], at text[], an numeric[], ab bool[], ajb jsonb[], atz timestamptz[],
              aam a.mood[], ap a.pair[], ado a.ints[], abp char(3)[], aby bytea[], anm name[], ach "char"[], aiv interval[], au uuid[], af float8[],
              ip inet, ci cidr, mac macaddr, mac8 macaddr8, bi bit(9), vb bit varying, mo money, pt point, ln line, bx box, pg polygon, ci2 circle,
              tv tsvector, tq tsquery, l pg_lsn, x xid, x8 xid8, rc regclass, rp regprocedure, ov oidvector, i2v int2vector, jp jsonpath, td tid, rt regtype,
              gen text GENERATED ALWAYS AS (i2::text || '!') STORED)"#,
        )
        .unwrap();
    server.create_slot("s", "walferry");
    client
        .each(
            r#"
            INSERT INTO kinds (id) VALUES (0);
            INSERT INTO kinds VALUES (1, true, -32768, '-9223372036854775808', 'NaN', '-Infinity', 'NaN', '-123456789012345.67891', '', '', '', '', '', '',
              'infinity', '24:00:00', '23:59:59.99', '24:00:00-15:59', 'infinity', '-infinity', '-178000000 years -1 mons -1 days -00:00:00.000001', '3 days 04:05:06.7',
              '00000000-0000-0000-0000-000000000000', E'{"a" :\n 1}', '{"b":[1,null,"x"],"a":{}}', 4294967295,
              'fine', 'fine', 'so, so "q"', ROW(1, 'a"b,(c)\', 1.50), ROW(NULL, NULL, NULL), 'empty', '[1.5,)', '{[1,2),[5,7.5]}',
              '{1,NULL,3}', '[5:6]={7,8}', 'word', '[-1:1][2:3]={{1,2},{3,4},{NULL,6}}', '{"",NULL,"NULL","a b","{",",","\\","\""}', '{NaN,Infinity,-0.00,1e-20}', '{t,f,NULL}', '{"{\"a\": 1}",NULL,"null"}', '{"0044-03-15 BC",infinity}',
              '{fine,"so, so \"q\"",""}', ARRAY[ROW(1,'x',2),NULL]::a.pair[], '{"{1,2}","{}"}', '{a,"b  "}', '{"\\x00ff",NULL}', '{a,b}', '{a,NULL}', '{"1 day","-2 mons"}', '{00000000-0000-0000-0000-000000000001}', '{NaN,1e300,-0}',
              '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'101010101', B'', '-12.34', '(1.5,-2)', '{1,2,3}', '(1,1),(0,0)', '((0,0),(1,1),(2,0))', '<(0,0),3>',
              'a:1A fat:2B,4C', 'a & !b | c:*', '16/B374D848', '123', '18446744073709551615', 'pg_class', 'lower(text)', '1 2 3', '-1 0 1', '$.a[*] ? (@ > 1)', '(42,7)', 'int4[]');
            INSERT INTO kinds (id, i2, f4, f8, n, t, c, ch, by, d, tm, tz, ts, tsz, iv, ip, jb, j, ai, at, nm) VALUES
              (2, 0, 1.17549435e-38, 5e-324, '1e-16383', E'%s %n \\ '' " \n \r \t \x01', 'ü é', 'z', '\x0001ff', '4713-01-01 BC', '00:00:00', '00:00:00+14', '4713-01-01 00:00:00 BC', '294276-12-31 23:59:59.999999+00', '-0.000001', '2001:db8::1', '"\u00e9\ud83d\ude00"', '[ ]', '{}', '{}', 'näme'),
              (3, 1, 3.4028235e38, 1.7976931348623157e308, '-0.0000', '😀', '   x', E'\\377', decode(repeat('00', 300), 'hex'), '5874897-12-31', '12:00:00.000001', '12:34:56.789-07:30', '1999-12-31 23:59:60', '2000-01-01 00:00:00+00', '1 year -1 day 00:00:00', '::ffff:1.2.3.4/120', '1e400', 'null', '{2147483647}', '{"äöü"}', ''),
              (4, 1, -0.0, -0.0, ('9' || repeat('9', 9999))::numeric, repeat('ä', 5000), NULL, NULL, NULL, '-infinity', NULL, NULL, 'epoch', '-infinity', '00:00:00', NULL, 'null', NULL, NULL, NULL, NULL);
            UPDATE kinds SET i2 = 5 WHERE id = 1;
            UPDATE kinds SET id = 11 WHERE id = 1;
            "#,
        )
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    let mut rows = new_rows(&capture, "kinds");
    assert_eq!(rows.len(), 7);
    let last = rows.pop().unwrap();
    let before = rows.pop().unwrap();
    assert_eq!(before[0], Cell::Text("1".into()));
    rows[1] = last;
    rows.sort_by_key(|row| match &row[0] {
        Cell::Text(id) => id.parse::<i32>().unwrap(),
        other => panic!("{other:?}"),
    });
    let expected = table_rows(&mut client, "kinds", "id");
    let columns = &capture.definitions[0].definition.columns;
    for (row, expected) in rows.iter().zip(&expected) {
        for ((cell, expected), column) in row.iter().zip(expected).zip(columns) {
            assert_eq!(cell, expected, "{} of row {:?}", column.name, row[0]);
        }
    }
    // Same label, same type name, two schemas: the definition tells them apart.
    let mood = |name: &str| {
        let column = columns.iter().find(|column| column.name == name).unwrap();
        (column.type_schema.as_str(), column.type_name.as_str())
    };
    assert_eq!(mood("am"), ("a", "mood"));
    assert_eq!(mood("bm"), ("b", "mood"));
    let ints2 = columns.iter().find(|column| column.name == "di2").unwrap();
    assert!(
        ints2.base_type_oid == 1007 && matches!(ints2.encoding, ValueEncoding::Raw(_)),
        "a domain over a domain over int[]"
    );
    assert!(columns.last().unwrap().flags.is_generated());
    assert!(columns[0].flags.is_key() && columns[0].flags.is_not_null());
    assert!(!columns[1].flags.is_key() && !columns[1].flags.is_not_null());
}

#[test]
fn names_with_quotes_dots_blanks_percent_and_emoji_arrive_as_they_are() {
    let server = Server::builder()
        .setting("synchronous_commit", "on")
        .start();
    let mut client = server.client();
    let schema = r#"S "quoted".dot %s%n"#;
    let table = r#"T😀.x'y\z %n$1"#;
    let column = r#"C"ö".%s%d\"#;
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let long = "ü".repeat(31);
    client
        .each(&format!(
            "CREATE SCHEMA {s}; CREATE TYPE {s}.{t2} AS ENUM ('%s%n');
             CREATE TABLE {s}.{t} ({c} text PRIMARY KEY, {l} {s}.{t2})",
            s = quote(schema),
            t = quote(table),
            t2 = quote(&format!("{table}2")),
            c = quote(column),
            l = quote(&long)
        ))
        .unwrap();
    server.create_slot("s", "walferry");
    client
        .execute(
            &format!(
                "INSERT INTO {}.{} VALUES ('%s%n%x', '%s%n')",
                quote(schema),
                quote(table)
            ),
            &[],
        )
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    let definition = &capture.definitions[0].definition;
    assert_eq!(definition.schema, schema);
    assert_eq!(definition.name, table);
    assert_eq!(definition.columns[0].name, column);
    assert_eq!(definition.columns[1].name, long);
    assert_eq!(definition.columns[1].type_name, format!("{table}2"));
    assert_eq!(capture.changes().next().unwrap().text(column), "%s%n%x");

    // The same names through the JSON format, where text is formatted.
    let lines: Vec<String> = client
        .query(
            "SELECT data FROM pg_logical_slot_peek_changes('s', NULL, NULL, 'format', 'json')",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let insert = lines.iter().find(|line| line.contains("\"I\"")).unwrap();
    let json: serde_json::Value = serde_json::from_str(insert).unwrap();
    assert_eq!(json["schema"], schema);
    assert_eq!(json["table"], table);
    assert_eq!(json["columns"][0]["name"], column);
    assert_eq!(json["columns"][0]["value"], "%s%n%x");
    assert_eq!(json["columns"][1]["value"], "%s%n");
}

/// Sizes around every boundary that a datum or a frame has.
fn boundary_sizes() -> Vec<usize> {
    let mut sizes = Vec::new();
    for boundary in [
        1,
        126,
        255,
        2000,
        2032,
        4 << 10,
        8 << 10,
        64 << 10,
        128 << 10,
    ] {
        for size in boundary - 1..=boundary + 2 {
            sizes.push(size);
        }
    }
    // Around a record's end in a frame: the record's own bytes come first.
    for boundary in [4096_usize, 65536] {
        for less in (20..60).step_by(3) {
            sizes.push(boundary - less);
        }
    }
    sizes
}

#[test]
fn values_of_every_size_and_storage_arrive_whole_in_frames_of_every_size() {
    let server = Server::start_default();
    let mut client = server.client();
    let storages = [
        ("extended", "COMPRESSION pglz"),
        ("extended", "COMPRESSION lz4"),
        ("external", ""),
        ("main", "COMPRESSION pglz"),
    ];
    // Half random, so that it compresses, but not to nothing.
    client
        .each(
            "CREATE FUNCTION noise(size int) RETURNS text LANGUAGE sql VOLATILE AS $$
               SELECT left(string_agg(md5((size * 7 + g)::text) || repeat('q', 32), ''), size) FROM generate_series(0, size / 64) g $$",
        )
        .unwrap();
    // A server may be built without LZ4; pglz then stands in for it.
    let has_lz4: bool = server.value(
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'",
    );
    for (place, (storage, compression)) in storages.iter().enumerate() {
        let compression = match *compression {
            "COMPRESSION lz4" if !has_lz4 => "COMPRESSION pglz",
            compression => compression,
        };
        client
            .each(&format!(
                "CREATE TABLE size{place} (id serial PRIMARY KEY, n int, a text {compression}, z bytea, e jsonb);
                 ALTER TABLE size{place} ALTER a SET STORAGE {storage}, ALTER z SET STORAGE {storage}"
            ))
            .unwrap();
    }
    server.create_slot("s", "walferry");
    let sizes = boundary_sizes();
    let list = sizes
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(",");
    for place in 0..storages.len() {
        client
            .each(&format!(
                "INSERT INTO size{place} (n, a, z, e)
                   SELECT s, noise(s), CASE WHEN s < 5000 THEN convert_to(noise(s), 'UTF8') END, CASE WHEN s < 9000 THEN jsonb_build_object('k', noise(s)) END
                   FROM unnest('{{{list}}}'::int[]) s;
                 UPDATE size{place} SET n = n + 1"
            ))
            .unwrap();
    }
    client
        .each("INSERT INTO size0 (n, a) SELECT 1, noise(s) FROM unnest('{1048576,4194303,4194304,4194305,9000000}'::int[]) s")
        .unwrap();
    let expected: Vec<Vec<Row>> = (0..storages.len())
        .map(|place| table_rows(&mut client, &format!("size{place}"), "id"))
        .collect();
    let mut ids = Vec::new();
    for frame_size in ["4096", "4097", "64kB", "16MB"] {
        let capture = Walsender::capture(&server, "postgres", "s", &[("frame_size", frame_size)]);
        for (place, expected) in expected.iter().enumerate() {
            let mut rows: Vec<Row> = Vec::new();
            let mut unchanged = 0;
            for change in capture
                .changes()
                .filter(|c| c.table() == format!("size{place}"))
            {
                match &change.action {
                    Action::Insert { new } => rows.push(new.clone()),
                    Action::Update { new, .. } => {
                        let at = rows.iter().position(|row| row[0] == new[0]).unwrap();
                        for (cell, new) in rows[at].iter_mut().zip(new) {
                            match new {
                                Cell::UnchangedToast => unchanged += 1,
                                new => *cell = new.clone(),
                            }
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(
                rows.len(),
                expected.len(),
                "size{place}, frame_size {frame_size}"
            );
            for (row, expected) in rows.iter().zip(expected) {
                for (cell, expected) in row.iter().zip(expected) {
                    assert!(
                        cell == expected,
                        "a value of size{place} differs with frame_size {frame_size}: {} and {} bytes",
                        length(cell),
                        length(expected)
                    );
                }
            }
            assert!(
                unchanged > 10,
                "size{place}: {unchanged} values were unchanged TOAST"
            );
        }
        let these = capture.ids();
        if ids.is_empty() {
            ids = these;
        } else {
            assert_eq!(ids, these, "ids do not depend on the frame size");
        }
    }
}

fn length(cell: &Cell) -> usize {
    match cell {
        Cell::Text(text) => text.len(),
        _ => 0,
    }
}

#[test]
fn tables_of_200_and_1600_columns_arrive_with_their_key() {
    let server = Server::start_default();
    let mut client = server.client();
    let columns = |count: usize, kind: &str| {
        (1..=count)
            .map(|n| format!("c{n} {kind}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    client
        .each(&format!(
            "CREATE TABLE wide200 ({}, PRIMARY KEY (c199, c2)); CREATE TABLE wide1600 ({}, PRIMARY KEY (c1600));
             ALTER TABLE wide200 DROP COLUMN c130, DROP COLUMN c1",
            columns(200, "text"),
            columns(1600, "int")
        ))
        .unwrap();
    server.create_slot("s", "walferry");
    let values = |count: usize| {
        (1..=count)
            .map(|n| {
                if n % 3 == 0 && n != 199 && n != 1600 {
                    "NULL".to_owned()
                } else {
                    n.to_string()
                }
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    client
        .each(&format!(
            "INSERT INTO wide200 VALUES ({}); INSERT INTO wide1600 VALUES ({});
             UPDATE wide200 SET c199 = 'new'; UPDATE wide1600 SET c1600 = -1; UPDATE wide200 SET c150 = 'other';
             DELETE FROM wide200; DELETE FROM wide1600",
            values(198),
            values(1600)
        ))
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    let changes: Vec<_> = capture.changes().collect();
    assert_eq!(changes.len(), 7);
    let column = |n: usize| Cell::Text(n.to_string());
    assert_eq!(changes[0].row().len(), 198);
    assert_eq!(
        *changes[0].cell("c2"),
        column(1),
        "values shift over the dropped first column"
    );
    assert_eq!(changes[1].row().len(), 1600);
    for n in 1..1600 {
        let expected = if n % 3 == 0 { Cell::Null } else { column(n) };
        assert_eq!(*changes[1].cell(&format!("c{n}")), expected);
    }
    let lines = capture.lines();
    assert!(
        lines[2].starts_with("UPDATE public.wide200 key(c2=1 c199=197) c2=1 "),
        "{}",
        &lines[2][..80]
    );
    assert!(lines[3].starts_with("UPDATE public.wide1600 key(c1600=1600) c1=1 "));
    assert!(lines[4].starts_with("UPDATE public.wide200 none c2=1 "));
    assert_eq!(lines[5], "DELETE public.wide200 key(c2=1 c199=new)");
    assert_eq!(lines[6], "DELETE public.wide1600 key(c1600=-1)");
}

#[test]
fn a_value_of_900_mb_and_an_old_row_of_more_than_a_message_arrive_whole() {
    let server = Server::builder()
        .setting("logical_decoding_work_mem", "2GB")
        .setting("max_wal_size", "20GB")
        .start();
    server.sql(
        "CREATE TABLE big (id int PRIMARY KEY, v text); ALTER TABLE big ALTER v SET STORAGE EXTERNAL;
         CREATE TABLE big_full (id int, v text); ALTER TABLE big_full ALTER v SET STORAGE EXTERNAL;
         ALTER TABLE big_full REPLICA IDENTITY FULL;",
    );
    server.create_slot("s", "walferry");
    const BIG: usize = 900 << 20;
    const FULL: usize = 520 << 20;
    server.sql(&format!(
        "INSERT INTO big VALUES (1, repeat('walferry', {}))",
        BIG / 8
    ));
    let read = |end: Lsn| {
        let mut reader = FrameReader::default();
        let mut walsender = Walsender::connect(&server, "postgres");
        walsender.start("s", &[]).unwrap();
        walsender.read_until(end, &mut reader).unwrap();
        let capture = reader.finish();
        let end = Lsn(capture.transactions.last().unwrap().context.end_lsn.0);
        walsender.status(end, true);
        walsender.end_copy();
        capture
    };
    let whole = |cell: &Cell, piece: &str, length: usize| match cell {
        Cell::Text(text) => *text == piece.repeat(length / piece.len()),
        _ => false,
    };
    let capture = read(server.flushed_lsn());
    assert!(whole(
        capture.changes().next().unwrap().cell("v"),
        "walferry",
        BIG
    ));
    let longest = capture
        .frames
        .iter()
        .map(|frame| frame.length)
        .max()
        .unwrap();
    assert!(longest <= 16 << 20, "a frame has {longest} bytes");
    drop(capture);

    server.sql(&format!(
        "INSERT INTO big_full VALUES (1, repeat('walferry', {}))",
        FULL / 8
    ));
    server.sql(&format!(
        "UPDATE big_full SET v = repeat('yrreflaw', {})",
        FULL / 8
    ));
    let capture = read(server.flushed_lsn());
    let changes: Vec<_> = capture.changes().collect();
    assert_eq!(changes.len(), 2);
    assert!(whole(&changes[1].old_row().unwrap()[1], "walferry", FULL));
    assert!(whole(changes[1].cell("v"), "yrreflaw", FULL));
}

#[test]
fn rows_older_than_a_column_with_a_default_have_its_value_in_old_and_new_images() {
    let server = Server::start_default();
    let mut client = server.client();
    client
        .each(
            "CREATE TABLE grown (id int PRIMARY KEY, a text); CREATE TABLE full_grown (LIKE grown);
             ALTER TABLE full_grown REPLICA IDENTITY FULL;
             INSERT INTO grown SELECT g, 'a' FROM generate_series(1, 4) g; INSERT INTO full_grown SELECT * FROM grown;",
        )
        .unwrap();
    server.create_slot("s", "walferry");
    for table in ["grown", "full_grown"] {
        client
            .each(&format!(
                "ALTER TABLE {table} ADD n int DEFAULT 7, ADD t text DEFAULT repeat('long', 100), ADD p point DEFAULT '(1,2)', ADD nn numeric, ADD i inet DEFAULT '::1', ADD k int NOT NULL DEFAULT 3;
                 UPDATE {table} SET a = 'b' WHERE id = 1; DELETE FROM {table} WHERE id = 2;
                 ALTER TABLE {table} DROP COLUMN n, ADD n text DEFAULT 'n2';
                 UPDATE {table} SET id = 30 WHERE id = 3; UPDATE {table} SET a = 'c' WHERE id = 1"
            ))
            .unwrap();
    }
    let lines = Capture::peek(&mut client, "s", &[]).lines();
    let long = "long".repeat(100);
    let first = format!("n=7 t={long} p=(1,2) nn=NULL i=::1/128 k=3");
    let then = format!("t={long} p=(1,2) nn=NULL i=::1/128 k=3 n=n2");
    assert_eq!(
        lines,
        [
            format!("UPDATE public.grown none id=1 a=b {first}"),
            "DELETE public.grown key(id=2)".into(),
            format!("UPDATE public.grown key(id=3) id=30 a=a {then}"),
            format!("UPDATE public.grown none id=1 a=c {then}"),
            format!("UPDATE public.full_grown full(id=1 a=a {first}) id=1 a=b {first}"),
            format!("DELETE public.full_grown full(id=2 a=a {first})"),
            format!("UPDATE public.full_grown full(id=3 a=a {then}) id=30 a=a {then}"),
            format!("UPDATE public.full_grown full(id=1 a=b {then}) id=1 a=c {then}"),
        ]
    );
}

#[test]
fn unchanged_toast_is_never_null_and_is_filled_by_a_full_identity() {
    let server = Server::start_default();
    let mut client = server.client();
    client
        .each(
            "CREATE TABLE t (id int PRIMARY KEY, big text, nothing text, n int, tv tsvector, arr text[]);
             ALTER TABLE t ALTER big SET STORAGE EXTERNAL, ALTER arr SET STORAGE EXTERNAL;
             CREATE TABLE f (id int, big text, nothing text, n int); ALTER TABLE f REPLICA IDENTITY FULL; ALTER TABLE f ALTER big SET STORAGE EXTERNAL;
             CREATE TABLE k (big text PRIMARY KEY, n int); ALTER TABLE k ALTER big SET STORAGE EXTERNAL",
        )
        .unwrap();
    server.create_slot("s", "walferry");
    client
        .each(
            "INSERT INTO t VALUES (1, repeat('x', 5000), NULL, 1, (SELECT string_agg('w' || g, ' ')::tsvector FROM generate_series(1, 3000) g), ARRAY[repeat('y', 3000), NULL]);
             UPDATE t SET n = 2; UPDATE t SET big = NULL; UPDATE t SET n = 3;
             INSERT INTO f VALUES (1, repeat('x', 5000), NULL, 1); UPDATE f SET n = 2;
             INSERT INTO k VALUES (repeat('k', 2500), 1); UPDATE k SET n = 2; DELETE FROM k;",
        )
        .unwrap();
    let capture = Capture::peek(&mut client, "s", &[]);
    let changes: Vec<_> = capture.changes().collect();
    let t = &changes[..4];
    assert_eq!(*t[1].cell("big"), Cell::UnchangedToast);
    assert_eq!(*t[1].cell("tv"), Cell::UnchangedToast);
    assert_eq!(*t[1].cell("arr"), Cell::UnchangedToast);
    assert_eq!(*t[1].cell("nothing"), Cell::Null);
    assert_eq!(*t[2].cell("big"), Cell::Null);
    assert_eq!(*t[2].cell("tv"), Cell::UnchangedToast);
    assert_eq!(*t[3].cell("big"), Cell::Null);
    let Action::Update {
        old: Old::Full(old),
        new,
    } = &changes[5].action
    else {
        panic!("{:?}", changes[5].action)
    };
    assert_eq!(old[1], Cell::Text("x".repeat(5000)));
    assert!(matches!(&new[1], Cell::UnchangedToast | Cell::Text(_)));
    assert_eq!(old[2], Cell::Null);
    // A key out of line: the server logs it flat.
    let key = "k".repeat(2500);
    let line = changes[8].to_string();
    assert_eq!(line, format!("DELETE public.k key(big={key})"));
}
