//! What is read from the catalog is what the output plugin would have sent.

use walferry_protocol::{Encoding, Relation};
use walferry_streamer::source::catalog::{Catalog, Find};
use walferry_streamer::source::conninfo::Conninfo;
use walferry_tests::Server;
use walferry_tests::frames::Capture;

fn catalog(server: &Server) -> (tokio::runtime::Runtime, Catalog) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let conninfo = Conninfo::parse_with(Some(&server.url()), &Default::default()).unwrap();
    let catalog = {
        let _inside = runtime.enter();
        Catalog::new(conninfo)
    };
    (runtime, catalog)
}

/// A definition without what depends on who tells it.
fn comparable(relation: &Relation) -> Relation {
    let mut relation = relation.clone();
    relation.number = 0;
    for column in &mut relation.columns {
        column.encoding = Encoding::Text;
    }
    relation.seal();
    relation
}

#[test]
fn a_definition_from_the_catalog_equals_the_plugins() {
    let server = Server::start_default();
    server.sql(
        r#"
        CREATE SCHEMA "S, 'x'"; CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN d1 AS numeric(6,2); CREATE DOMAIN d2 AS d1 NOT NULL;
        CREATE DOMAIN list AS int[]; CREATE TYPE pair AS (a int, b text); CREATE TYPE "S, 'x'".mood AS ENUM ('b');
        CREATE TABLE plain (id int PRIMARY KEY, dropped text, t varchar(9) NOT NULL, n numeric(10,2), m mood, m2 "S, 'x'".mood, ms mood[],
            d d1, dd d2 DEFAULT 0, l list, p pair, b box[], v int2vector, g int GENERATED ALWAYS AS (id * 2) STORED);
        ALTER TABLE plain DROP COLUMN dropped;
        CREATE TABLE "S, 'x'"."T ""q"" \ é" ("Col ""\ ü" text, b int, PRIMARY KEY (b, "Col ""\ ü"));
        CREATE TABLE no_key (a int);
        CREATE TABLE nothing (a int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
        CREATE TABLE whole (a int PRIMARY KEY, b text); ALTER TABLE whole REPLICA IDENTITY FULL;
        CREATE TABLE whole_no_key (a int, b text); ALTER TABLE whole_no_key REPLICA IDENTITY FULL;
        CREATE TABLE by_index (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, c text);
        CREATE UNIQUE INDEX by_index_key ON by_index (b, a) INCLUDE (c); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_key;
        CREATE TABLE deferred (a int PRIMARY KEY DEFERRABLE);
        CREATE TABLE top (id int, k text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
        CREATE TABLE middle PARTITION OF top FOR VALUES IN ('a') PARTITION BY RANGE (id);
        CREATE TABLE leaf (k text NOT NULL, gone int, id int NOT NULL);
        ALTER TABLE leaf DROP COLUMN gone; ALTER TABLE middle ATTACH PARTITION leaf FOR VALUES FROM (0) TO (9)"#,
    );
    server.create_slot("s", "walferry");
    server.sql(
        r#"INSERT INTO plain (id, t) VALUES (1, 't'); INSERT INTO "S, 'x'"."T ""q"" \ é" VALUES ('x', 1);
           INSERT INTO no_key VALUES (1); INSERT INTO nothing VALUES (1); INSERT INTO whole VALUES (1); INSERT INTO whole_no_key VALUES (1);
           INSERT INTO by_index VALUES (1, 2, 3); INSERT INTO deferred VALUES (1); INSERT INTO top VALUES (1, 'a')"#,
    );
    let sent = Capture::peek(&mut server.client(), "s", &[]).definitions;
    assert_eq!(sent.len(), 9);
    let (_runtime, catalog) = catalog(&server);
    for sent in sent {
        let sent = &sent.definition;
        let by_name = Find::Name {
            schema: &sent.schema,
            table: &sent.name,
        };
        let found = catalog
            .relation(by_name)
            .unwrap()
            .expect("a table that exists");
        assert_eq!(found.relation, comparable(sent));
        assert_eq!(
            catalog.relation(Find::Oid(sent.oid)).unwrap().as_ref(),
            Some(&found)
        );
        assert_eq!(found.out_of_line.len(), found.relation.columns.len());
        for (column, out_of_line) in found.relation.columns.iter().zip(&found.out_of_line) {
            let fixed = matches!(column.base_type_oid, 23) || column.type_name == "mood";
            assert_eq!(!out_of_line, fixed, "{}", column.name);
            let described = &catalog.types(&[column.type_oid, 1]).unwrap()[&column.type_oid];
            assert_eq!(
                (
                    &described.schema,
                    &described.name,
                    described.base_oid,
                    described.is_array,
                    described.out_of_line
                ),
                (
                    &column.type_schema,
                    &column.type_name,
                    column.base_type_oid,
                    column.flags.is_array(),
                    *out_of_line
                )
            );
        }
    }
    // A table without columns, and one that is not there.
    server.sql("CREATE TABLE bare ()");
    let bare = Find::Name {
        schema: "public",
        table: "bare",
    };
    let found = catalog.relation(bare).unwrap().expect("the table");
    assert!(found.relation.columns.is_empty());
    // A connection that was cut is made anew.
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'walferry'; DROP TABLE bare");
    assert_eq!(catalog.relation(bare).unwrap(), None);
    assert_eq!(catalog.types(&[]).unwrap().len(), 0);
    server.sql("SELECT pg_replication_origin_create('elsewhere')");
    assert_eq!(
        catalog.origin_name(1).unwrap().as_deref(),
        Some("elsewhere")
    );
    assert_eq!(catalog.origin_name(7).unwrap(), None);
}
