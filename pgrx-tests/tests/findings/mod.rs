//! What `walferry.diagnose()` says to a role with no more than pg_monitor, and doing what it prints.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postgres::{Client, NoTls};
use serde_json::Value;
use walferry_tests::{Server, wait_until, wait_within};

/// A row of `walferry.diagnose()`.
#[derive(Clone, Debug)]
pub struct Finding {
    pub severity: String,
    pub code: String,
    pub object: Option<String>,
    pub text: String,
    pub evidence: Value,
    pub fix: Option<String>,
}

impl Finding {
    /// Does what the fix prints, line by line as psql would, as a superuser.
    #[track_caller]
    pub fn mend(&self, server: &Server, database: &str) {
        let fix = self
            .fix
            .as_ref()
            .unwrap_or_else(|| panic!("no fix in {self:?}"));
        let statements: Vec<&str> = fix.lines().filter(|line| !line.starts_with("--")).collect();
        assert!(!statements.is_empty(), "nothing to run in {self:?}");
        for statement in statements {
            // One at a time: ALTER SYSTEM and ROLLBACK PREPARED are refused in a transaction.
            server.sql_in(database, statement);
        }
    }
}

/// A session of a role that is a member of pg_monitor and nothing else.
pub struct Monitor(Client);

impl Monitor {
    /// In database `postgres`, where the extension is made if it is missing;
    /// `limits` are settings as in `walferry.limits`.
    pub fn of(server: &Server, limits: &[(&str, &str)]) -> Monitor {
        server.sql(
            "CREATE EXTENSION IF NOT EXISTS walferry; \
             DO $$ BEGIN CREATE ROLE monitor LOGIN IN ROLE pg_monitor; EXCEPTION WHEN duplicate_object THEN END $$",
        );
        Monitor::existing(server, limits)
    }

    /// Where extension and role are there, as on a standby.
    pub fn existing(server: &Server, limits: &[(&str, &str)]) -> Monitor {
        let conninfo = server.conninfo("postgres");
        let mut client =
            Client::connect(&conninfo.replace("user=postgres", "user=monitor"), NoTls).unwrap();
        for (name, value) in limits {
            client
                .batch_execute(&format!("SET walferry.{name} = '{value}'"))
                .unwrap();
        }
        Monitor(client)
    }

    pub fn client(&mut self) -> &mut Client {
        &mut self.0
    }

    pub fn findings(&mut self) -> Vec<Finding> {
        self.rows(
            "SELECT severity, code, object, finding, evidence::text, fix FROM walferry.diagnose()",
        )
    }

    /// Of one slot.
    pub fn findings_of(&mut self, slot: &str) -> Vec<Finding> {
        self.rows(&format!(
            "SELECT severity, code, object, finding, evidence::text, fix FROM walferry.diagnose('{slot}')"
        ))
    }

    fn rows(&mut self, query: &str) -> Vec<Finding> {
        let rows = self.0.query(query, &[]).unwrap();
        rows.iter()
            .map(|row| Finding {
                severity: row.get(0),
                code: row.get(1),
                object: row.get(2),
                text: row.get(3),
                evidence: serde_json::from_str(row.get(4)).unwrap(),
                fix: row.get(5),
            })
            .collect()
    }

    /// Severity, code and object of each finding.
    pub fn told(&mut self) -> Vec<String> {
        let findings = self.findings();
        findings
            .iter()
            .map(|one| {
                let object = one.object.as_deref().unwrap_or("-");
                format!("{} {} {object}", one.severity, one.code)
            })
            .collect()
    }

    /// Waits for a finding with this code; `meanwhile` is called before each look.
    #[track_caller]
    pub fn expect_while(&mut self, code: &str, mut meanwhile: impl FnMut()) -> Finding {
        let mut found = None;
        wait_within(Duration::from_secs(60), code, || {
            meanwhile();
            found = self.findings().into_iter().find(|one| one.code == code);
            found.is_some()
        });
        found.unwrap()
    }

    #[track_caller]
    pub fn expect(&mut self, code: &str) -> Finding {
        self.expect_while(code, || ())
    }

    /// Waits until no finding has this code.
    #[track_caller]
    pub fn expect_gone(&mut self, code: &str) {
        self.expect_gone_while(code, || ());
    }

    #[track_caller]
    pub fn expect_gone_while(&mut self, code: &str, mut meanwhile: impl FnMut()) {
        wait_within(Duration::from_secs(60), &format!("no {code}"), || {
            meanwhile();
            self.findings().iter().all(|one| one.code != code)
        });
    }
}

/// Writes about so many MB of WAL that decodes to nothing of a table.
pub fn write_wal(server: &Server, megabytes: u32) {
    server.sql(&format!(
        "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1048576)) FROM generate_series(1, {megabytes})"
    ));
}

/// A consumer as it should be: it confirms each second what it has read.
pub struct Consumer(Child);

impl Consumer {
    pub fn of(server: &Server, slot: &str) -> Consumer {
        let child = server
            .pg_recvlogical("postgres", slot)
            .args(["--start", "--no-loop", "-f", "/dev/null"])
            .args(["--status-interval", "1", "--fsync-interval", "1"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the slot to be read", || {
            server.slot_active_pid(slot).is_some()
        });
        Consumer(child)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a process a signal by its name, e.g. `STOP`.
pub fn signal(name: &str, pid: i32) {
    let done = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(done.unwrap().success());
}
