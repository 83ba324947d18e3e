//! The schema `walferry` as it is written and as a server has it.

use std::process::Command;

use walferry_tests::{Server, checkout};

/// What `scripts/write-sql` prints for one kind of installation.
pub fn written(kind: &str) -> String {
    let output = Command::new(checkout().join("scripts/write-sql"))
        .arg(kind)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a psql script in database `managed` as a role that is no superuser.
pub fn install(server: &Server, script: &str) {
    server.psql(
        "managed",
        &format!("SET SESSION AUTHORIZATION plain;\n{script}"),
    );
}

/// Everything in schema walferry: names, columns, types, comments, rights,
/// definitions. Of functions that the library has in one and SQL in the other, what is to be seen from outside.
pub fn catalogue(server: &Server, database: &str) -> Vec<String> {
    let rows = server.texts_in(
        database,
        "SELECT format('relation %s %s %s %s | %s', c.relkind, c.relname, c.relacl,
                obj_description(c.oid, 'pg_class'), CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid)
                WHEN c.relkind = 'i' THEN pg_get_indexdef(c.oid) END)
         FROM pg_class c WHERE c.relnamespace = 'walferry'::regnamespace
         UNION ALL
         SELECT format('column %s.%s %s %s %s %s %s %s', c.relname, a.attname, a.attnum,
                format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, pg_get_expr(d.adbin, d.adrelid),
                col_description(c.oid, a.attnum))
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE c.relnamespace = 'walferry'::regnamespace AND a.attnum > 0
         UNION ALL
         SELECT format('function %s(%s) %s | %s | %s | %s', p.proname, pg_get_function_arguments(p.oid),
                pg_get_function_result(p.oid), p.proacl, obj_description(p.oid, 'pg_proc'),
                CASE WHEN p.proname NOT IN ('version', 'wal_space', 'decoders') THEN pg_get_functiondef(p.oid) END)
         FROM pg_proc p WHERE p.pronamespace = 'walferry'::regnamespace
         UNION ALL
         SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
         WHERE connamespace = 'walferry'::regnamespace
         UNION ALL
         SELECT format('schema %s %s', nspacl, obj_description(oid, 'pg_namespace')) FROM pg_namespace WHERE nspname = 'walferry'
         ORDER BY 1",
    );
    rows.iter()
        .map(|row| {
            // The owner is who installed it.
            ["plain=", "/plain"]
                .iter()
                .zip(["postgres=", "/postgres"])
                .fold(row.clone(), |row, (from, to)| row.replace(from, to))
        })
        .collect()
}
