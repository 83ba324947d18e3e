//! `walferry tables`: what can be replicated and what not, and why.

use std::time::Duration;

use walferry_tests::{Server, Streamer};

#[test]
fn tables_lists_what_can_be_replicated_and_what_not_and_why() {
    let server = Server::start_default();
    server.sql(
        "CREATE ROLE plain LOGIN; CREATE TABLE orders (id int PRIMARY KEY); \
         INSERT INTO orders SELECT generate_series(1, 1000); ANALYZE orders; \
         CREATE TABLE bare (id int); CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY); \
         CREATE VIEW seen AS SELECT 1; CREATE MATERIALIZED VIEW stored AS SELECT 1; \
         CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far FOREIGN DATA WRAPPER far; \
         CREATE FOREIGN TABLE abroad (id int) SERVER far; \
         CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id); \
         CREATE TABLE parted_1 PARTITION OF parted DEFAULT; \
         CREATE PUBLICATION shop FOR TABLE orders, parted; GRANT SELECT ON orders TO plain",
    );
    let tables = |arguments: &[&str]| {
        let url = server.url().replace("postgres@", "plain@");
        Streamer::builder()
            .args(["tables", "--source", &url])
            .args(arguments.iter().copied())
            .run(Duration::from_secs(30))
    };
    // A temporary table is there as long as its session.
    let mut session = server.client();
    session
        .batch_execute("CREATE TEMPORARY TABLE passing (id int)")
        .unwrap();
    let exit = tables(&["--json"]).expect_code(0);
    let listed: serde_json::Value = serde_json::from_str(&exit.stdout.join("\n")).unwrap();
    let one = |name: &str| {
        let rows = listed.as_array().unwrap();
        let found = rows.iter().find(|row| row["table"] == name);
        found
            .unwrap_or_else(|| panic!("no {name} in {listed:#}"))
            .clone()
    };
    for (name, kind, replicated, reason) in [
        ("orders", "table", true, None),
        ("bare", "table", true, None),
        ("parted_1", "partition", true, None),
        (
            "parted",
            "partitioned-table",
            false,
            Some("rows-in-partitions"),
        ),
        ("scratch", "table", false, Some("unlogged")),
        ("passing", "table", false, Some("temporary")),
        ("seen", "view", false, Some("view")),
        (
            "stored",
            "materialized-view",
            false,
            Some("materialized-view"),
        ),
        ("abroad", "foreign-table", false, Some("foreign-table")),
    ] {
        let row = one(name);
        assert_eq!(row["kind"], kind, "{name}");
        assert_eq!(row["replicated"], replicated, "{name}");
        assert_eq!(row["reason"].as_str(), reason, "{name}");
    }
    let orders = one("orders");
    assert_eq!(orders["identity"]["logged"], "primary key");
    assert_eq!(orders["publications"], serde_json::json!(["shop"]));
    assert_eq!(orders["rows_estimate"], 1000);
    assert!(orders["bytes_estimate"].as_i64().unwrap() > 8192);
    assert_eq!(orders["may_select"], true);
    assert_eq!(one("bare")["may_select"], false);
    assert_eq!(one("bare")["identity"]["logged"], "none");
    assert_eq!(one("bare")["publications"], serde_json::json!([]));
    assert_eq!(one("parted_1")["partition_of"], "public.parted");
    assert_eq!(one("parted_1")["publications"], serde_json::json!(["shop"]));
    assert!(!listed.to_string().contains("pg_class"));

    let text = tables(&[]).expect_code(0).stdout;
    let line = |name: &str| {
        let start = format!("public.{name} ");
        text.iter()
            .find(|line| line.starts_with(&start))
            .unwrap_or_else(|| panic!("{text:#?}"))
    };
    assert!(text[0].starts_with("TABLE "), "{text:#?}");
    assert!(line("bare").contains("REPLICA IDENTITY FULL"));
    assert!(line("bare").contains("no right to SELECT"));
    assert!(line("scratch").contains("an unlogged table writes no WAL"));
    assert!(line("parted").contains("by partitions"));
    let chosen = tables(&["--tables", "public.o*", "--json"])
        .expect_code(0)
        .stdout
        .join("");
    assert!(chosen.contains("orders") && !chosen.contains("bare"));
    let system = tables(&["--system"]).expect_code(0).stdout.join("\n");
    assert!(system.contains("pg_catalog.pg_class") && system.contains("never decoded"));
    let exit = tables(&["--publication", "none"]).expect_code(1);
    assert!(
        exit.stderr
            .join("\n")
            .contains("publication \"none\" does not exist")
    );
}
