//! What newer major versions can do to a table that older ones cannot.

use walferry_tests::Server;

use crate::events::{frames, read};

#[test]
fn generated_columns_that_are_stored_are_sent_and_virtual_ones_are_absent() {
    let server = Server::start_default();
    let has_virtual = server.tree().major() >= 18;
    let kind = if has_virtual { "VIRTUAL" } else { "STORED" };
    server.sql(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, stored int GENERATED ALWAYS AS (id * 2) STORED,
            other int GENERATED ALWAYS AS (id * 3) {kind}, last text);
         ALTER TABLE t REPLICA IDENTITY FULL"
    ));
    server.create_slot("s", "walferry");
    server.sql(
        "INSERT INTO t VALUES (1, DEFAULT, DEFAULT, 'a'); UPDATE t SET last = 'b'; DELETE FROM t",
    );
    let found = read(&frames(&server, "s", &[]));
    let columns: Vec<(i16, &str)> = found.definitions[0]
        .columns
        .iter()
        .map(|column| (column.attnum, column.name.as_str()))
        .collect();
    let row = |last| {
        let other = if has_virtual { "" } else { "other=3, " };
        format!("t(id=1, stored=2, {other}last={last})")
    };
    let mut expected = vec![(1, "id"), (2, "stored"), (3, "other"), (4, "last")];
    if has_virtual {
        expected.remove(2);
    }
    assert_eq!(columns, expected);
    let changes: Vec<&String> = found.lines.iter().filter(|l| l.contains('(')).collect();
    assert_eq!(
        changes,
        [
            &format!("I {}", row("a")),
            &format!("U full {} {}", row("a"), row("b")),
            &format!("D full {} ", row("b")),
        ]
    );
}

#[test]
fn a_not_null_constraint_that_is_not_validated_promises_nothing() {
    let server = Server::start_default();
    // Before 18 such a constraint is a CHECK, which says nothing in the catalog's attribute.
    let constraint = if server.tree().major() >= 18 {
        "NOT NULL a"
    } else {
        "CHECK (a IS NOT NULL)"
    };
    server.sql("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1), (2)");
    server.sql(&format!(
        "ALTER TABLE t ADD CONSTRAINT later {constraint} NOT VALID; ALTER TABLE t REPLICA IDENTITY FULL"
    ));
    server.create_slot("s", "walferry");
    server.sql("UPDATE t SET a = 'x' WHERE id = 1; DELETE FROM t WHERE id = 2");
    server.sql("ALTER TABLE t VALIDATE CONSTRAINT later; INSERT INTO t VALUES (3, 'y')");
    let found = read(&frames(&server, "s", &[]));
    let changes: Vec<&String> = found.lines.iter().filter(|l| l.contains('(')).collect();
    assert_eq!(
        changes,
        [
            "U full t(id=1, a=null) t(id=1, a=x)",
            "D full t(id=2, a=null) ",
            "I t(id=3, a=y)",
        ]
    );
    let promises: Vec<bool> = found
        .definitions
        .iter()
        .map(|definition| definition.columns[1].flags.is_not_null())
        .collect();
    if server.tree().major() >= 18 {
        assert_eq!(
            promises,
            [false, true],
            "validating it is what makes it one"
        );
    } else {
        assert_eq!(promises, [false]);
    }
}

#[test]
fn a_primary_key_of_ranges_without_overlaps_is_an_identity_as_any_other() {
    let server = Server::start_default();
    let key = if server.tree().major() >= 18 {
        "PRIMARY KEY (id, during WITHOUT OVERLAPS)"
    } else {
        "PRIMARY KEY (id, during)"
    };
    server.sql(&format!(
        "CREATE TABLE t (id int4range, during daterange, a text, {key})"
    ));
    server.create_slot("s", "walferry");
    server.sql("INSERT INTO t VALUES ('[1,2)', '[2026-01-01,2026-02-01)', 'x')");
    server.sql("UPDATE t SET during = '[2026-03-01,2026-04-01)'; DELETE FROM t");
    let found = read(&frames(&server, "s", &[]));
    let changes: Vec<&String> = found.lines.iter().filter(|l| l.contains('(')).collect();
    assert_eq!(
        changes[1..],
        [
            "U key t(id=[1,2), during=[2026-01-01,2026-02-01), a=<absent>) \
             t(id=[1,2), during=[2026-03-01,2026-04-01), a=x)",
            "D key t(id=[1,2), during=[2026-03-01,2026-04-01), a=<absent>) ",
        ]
    );
}
