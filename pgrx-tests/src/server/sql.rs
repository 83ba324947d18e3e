//! Talking to the server.

use std::io::Write;
use std::process::{Command, Stdio};

use postgres::types::FromSqlOwned;
use postgres::{Client, NoTls};
use walferry_protocol::Lsn;

use super::{Encoding, Server};

impl Server {
    /// A session in database `postgres`.
    pub fn client(&self) -> Client {
        self.client_in("postgres")
    }

    /// A session in `database`, as superuser.
    pub fn client_in(&self, database: &str) -> Client {
        self.try_client(database)
            .unwrap_or_else(|error| panic!("cannot connect to {database}: {error:?}"))
    }

    /// As [`Server::client_in`], for tests where connecting may fail.
    pub fn try_client(&self, database: &str) -> Result<Client, postgres::Error> {
        Client::connect(&self.conninfo(database), NoTls)
    }

    /// Runs statements in database `postgres`, in one implicit transaction unless they say otherwise.
    pub fn sql(&self, statements: &str) {
        self.sql_in("postgres", statements);
    }

    /// Runs statements in `database`.
    pub fn sql_in(&self, database: &str, statements: &str) {
        if let Err(error) = self.try_sql(database, statements) {
            panic!("{error:?}\n{statements}");
        }
    }

    /// As [`Server::sql_in`], for statements that are to fail.
    pub fn try_sql(&self, database: &str, statements: &str) -> Result<(), postgres::Error> {
        self.try_client(database)?.batch_execute(statements)
    }

    /// The one value of a query with one row and one column, in database `postgres`.
    pub fn value<T: FromSqlOwned>(&self, query: &str) -> T {
        self.value_in("postgres", query)
    }

    /// The one value of a query with one row and one column.
    pub fn value_in<T: FromSqlOwned>(&self, database: &str, query: &str) -> T {
        match self.client_in(database).query_one(query, &[]) {
            Ok(row) => row.get(0),
            Err(error) => panic!("{error:?}\n{query}"),
        }
    }

    /// Whether CREATE EXTENSION could make it: not every installation has contrib.
    pub fn has_extension(&self, name: &str) -> bool {
        self.value(&format!(
            "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = '{name}')"
        ))
    }

    /// The first column of every row, as the server's own text of it.
    pub fn texts_in(&self, database: &str, query: &str) -> Vec<String> {
        let messages = self
            .client_in(database)
            .simple_query(query)
            .unwrap_or_else(|error| panic!("{error:?}\n{query}"));
        messages
            .into_iter()
            .filter_map(|message| match message {
                postgres::SimpleQueryMessage::Row(row) => {
                    Some(row.get(0).unwrap_or_default().to_owned())
                }
                _ => None,
            })
            .collect()
    }

    /// Makes a database of the given encoding, locale C.
    pub fn create_database(&self, name: &str, encoding: Encoding) {
        self.sql(&format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING '{}' LOCALE 'C'",
            encoding.name()
        ));
    }

    /// Makes a permanent logical slot in database `postgres` and returns its consistent point.
    pub fn create_slot(&self, name: &str, plugin: &str) -> Lsn {
        self.create_slot_in("postgres", name, plugin)
    }

    /// Makes a permanent logical slot in `database` and returns its consistent point.
    pub fn create_slot_in(&self, database: &str, name: &str, plugin: &str) -> Lsn {
        lsn(&self.value_in::<String>(
            database,
            &format!(
                "SELECT lsn::text FROM pg_create_logical_replication_slot('{name}', '{plugin}')"
            ),
        ))
    }

    /// Where the server's WAL ends, written out.
    pub fn wal_lsn(&self) -> Lsn {
        lsn(&self.value::<String>("SELECT pg_current_wal_flush_lsn()::text"))
    }

    /// Where the server's WAL ends after flushing what `synchronous_commit` off
    /// left in memory: every commit before this call lies at or below it.
    pub fn flushed_lsn(&self) -> Lsn {
        // A transaction flushes WAL up to its commit record only if it wrote WAL before that
        // (RecordTransactionCommit in xact.c); a restore point is WAL that decodes to nothing.
        self.sql(
            "SET synchronous_commit = on; SELECT txid_current(), pg_create_restore_point('flushed')",
        );
        self.wal_lsn()
    }

    /// The slot's `confirmed_flush_lsn`; none when there is no such slot, or it has none yet.
    pub fn confirmed_flush(&self, slot: &str) -> Option<Lsn> {
        self.slot_lsn(slot, "confirmed_flush_lsn")
    }

    /// The slot's `restart_lsn`.
    pub fn restart_lsn(&self, slot: &str) -> Option<Lsn> {
        self.slot_lsn(slot, "restart_lsn")
    }

    fn slot_lsn(&self, slot: &str, column: &str) -> Option<Lsn> {
        let query =
            format!("SELECT {column}::text FROM pg_replication_slots WHERE slot_name = '{slot}'");
        let row = self
            .client()
            .query_opt(&query, &[])
            .unwrap_or_else(|error| panic!("{error:?}\n{query}"))?;
        row.get::<_, Option<String>>(0).map(|text| lsn(&text))
    }

    /// Process id of the walsender or backend that holds the slot.
    pub fn slot_active_pid(&self, slot: &str) -> Option<i32> {
        let query =
            format!("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}'");
        self.client()
            .query_opt(&query, &[])
            .unwrap_or_else(|error| panic!("{error:?}\n{query}"))?
            .get(0)
    }

    /// One of the server's programs, told by environment how to reach the server.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.tree.program(name));
        command
            .env("PGHOST", self.socket_dir())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres");
        command
    }

    /// `pg_recvlogical` on a slot of `database`; the caller adds `--start`, `--file` and so on.
    pub fn pg_recvlogical(&self, database: &str, slot: &str) -> Command {
        let mut command = self.program("pg_recvlogical");
        command.args(["--dbname", &self.conninfo(database), "--slot", slot]);
        command
    }

    /// What `pg_recvlogical` reads from the slot up to `end`, with the plugin's options; panics when it fails.
    pub fn receive_until(
        &self,
        database: &str,
        slot: &str,
        end: Lsn,
        options: &[(&str, &str)],
    ) -> Vec<u8> {
        let mut command = self.pg_recvlogical(database, slot);
        command.args([
            "--start",
            "--no-loop",
            "--file",
            "-",
            "--endpos",
            &end.to_string(),
        ]);
        for (name, value) in options {
            command.arg("--option").arg(format!("{name}={value}"));
        }
        let output = command.output().expect("pg_recvlogical");
        assert!(
            output.status.success(),
            "pg_recvlogical failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// Runs a psql script in `database`; stops and panics at its first error. Returns what it printed.
    pub fn psql(&self, database: &str, script: &str) -> String {
        let mut child = self
            .program("psql")
            .args([
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--no-align",
                "--set=ON_ERROR_STOP=1",
                "--dbname",
                database,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql");
        let mut stdin = child.stdin.take().expect("psql's standard input");
        let script = script.to_owned();
        let feed = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
        let output = child.wait_with_output().expect("psql");
        let _ = feed.join();
        assert!(
            output.status.success(),
            "psql failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn lsn(text: &str) -> Lsn {
    text.parse()
        .unwrap_or_else(|_| panic!("the server printed {text:?} for an LSN"))
}
