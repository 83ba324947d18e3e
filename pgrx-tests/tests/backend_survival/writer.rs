//! Statements and transactions at random: changes, schema changes, every way
//! to end.

use std::thread;
use std::time::Duration;

use postgres::Client;
use rand::Rng;
use rand::rngs::StdRng;

/// One writer of the random workload. Statements may fail (locks, missing
/// tables, constraints): then the transaction rolls back, which is as welcome.
pub struct Writer {
    pub client: Client,
    pub random: StdRng,
    /// Its place among the writers.
    pub number: usize,
    /// Things made so far that need a name of their own.
    pub made: usize,
}

impl Writer {
    fn pick(&mut self, below: usize) -> usize {
        self.random.random_range(0..below)
    }

    fn table(&mut self) -> String {
        match self.pick(10) {
            0..=3 => "shared".to_owned(),
            4 => "part".to_owned(),
            5 => "full_identity".to_owned(),
            _ => {
                let table = self.pick(3);
                format!("own_{}_{table}", self.number)
            }
        }
    }

    fn text(&mut self) -> String {
        let size = match self.pick(12) {
            0 => self.pick(9000),
            1 => 120 + self.pick(12),
            2 => 2000 + self.pick(60),
            3 => self.pick(60_000),
            _ => self.pick(30),
        };
        match self.pick(4) {
            0 => format!("repeat('%s\"\\', {})", size / 4),
            1 => "NULL".to_owned(),
            2 => format!(
                "(SELECT string_agg(md5(g::text || random()), '') FROM generate_series(1, {}) g)",
                size / 32
            ),
            _ => format!("repeat('ä😀', {})", size / 2),
        }
    }

    fn statement(&mut self) -> String {
        let table = self.table();
        let id = self.pick(400);
        match self.pick(34) {
            0..=8 => {
                let text = self.text();
                format!(
                    "INSERT INTO {table} (id, k, v) VALUES ({id}, {}, {text}) ON CONFLICT DO NOTHING",
                    id % 3
                )
            }
            9..=13 => {
                let text = self.text();
                format!("UPDATE {table} SET v = {text} WHERE id = {id}")
            }
            14..=15 => format!(
                "UPDATE {table} SET k = (k + 1) % 3 WHERE id BETWEEN {id} AND {}",
                id + 5
            ),
            16 => format!("UPDATE {table} SET id = id + 1000 * ({id} % 3) WHERE id = {id}"),
            17..=18 => format!(
                "DELETE FROM {table} WHERE id BETWEEN {id} AND {}",
                id + self.pick(20)
            ),
            19 => {
                let from = self.pick(100_000);
                format!(
                    "INSERT INTO {table} (id, k, v) SELECT g, g % 3, repeat('bulk', g % 50) FROM generate_series({from}, {from} + {}) g ON CONFLICT DO NOTHING",
                    self.pick(800)
                )
            }
            20 => format!(
                "SELECT pg_logical_emit_message({}, 'nasty %s', repeat('m', {}))",
                id.is_multiple_of(2),
                self.pick(3000)
            ),
            21 => format!(
                "DO $$ BEGIN INSERT INTO {table} (id, k) VALUES ({id}, 0); PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN UPDATE {table} SET v = 'caught' WHERE id = {id}; END $$"
            ),
            22..=24 => self.schema_change(),
            25 => format!("TRUNCATE own_{}_0, own_{}_1", self.number, self.number),
            26 => {
                format!("SELECT count(*) FROM (SELECT * FROM {table} WHERE id < {id} FOR UPDATE) x")
            }
            27 => "CREATE TEMP TABLE IF NOT EXISTS aside (id int); INSERT INTO aside VALUES (1)"
                .into(),
            28 => format!(
                "ALTER TYPE mood_{} RENAME VALUE 'one' TO 'two'",
                self.number
            ),
            29 => format!(
                "ALTER TYPE mood_{} RENAME VALUE 'two' TO 'one'",
                self.number
            ),
            30 => format!(
                "UPDATE own_{}_2 SET m = (enum_range(NULL::mood_{}))[1] WHERE id BETWEEN {id} AND {}",
                self.number,
                self.number,
                id + 50
            ),
            31 => format!("DELETE FROM {table}"),
            32 => "SELECT 1 / 0".into(),
            _ => format!(
                "INSERT INTO {table} (id, k, v) VALUES ({id}, 1, 'upsert') ON CONFLICT (id) DO UPDATE SET v = excluded.v || 'ed'"
            ),
        }
    }

    fn schema_change(&mut self) -> String {
        let table = self.pick(2);
        let table = format!("own_{}_{table}", self.number);
        self.made += 1;
        let made = self.made;
        match self.pick(9) {
            0 => format!("ALTER TABLE {table} ADD x{made} text DEFAULT 'added'"),
            1 => format!("ALTER TABLE {table} ADD x{made} int"),
            2 => format!(
                "DO $$ DECLARE c name; BEGIN SELECT attname INTO c FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname LIKE 'x%' AND NOT attisdropped ORDER BY random() LIMIT 1; IF c IS NOT NULL THEN EXECUTE format('ALTER TABLE {table} DROP %I', c); END IF; END $$"
            ),
            3 => format!("DROP TABLE {table}; {}", create(&table, "")),
            4 => format!(
                "ALTER TABLE {table} REPLICA IDENTITY {}",
                if made.is_multiple_of(2) {
                    "FULL"
                } else {
                    "DEFAULT"
                }
            ),
            5 => format!(
                "ALTER TABLE {table} ALTER k TYPE {}",
                ["bigint", "text USING k::text", "int USING k::int"][made % 3]
            ),
            6 => format!(
                "ALTER TABLE {table} RENAME TO {table}_tmp; ALTER TABLE {table}_tmp RENAME TO {table}"
            ),
            7 => format!(
                "CREATE TABLE extra_{}_{made} AS SELECT * FROM {table}; INSERT INTO extra_{}_{made} SELECT * FROM {table} LIMIT 3; DROP TABLE extra_{}_{made}",
                self.number, self.number, self.number
            ),
            _ => format!(
                "ALTER TABLE {table} ALTER v SET STORAGE {}, ALTER v SET DEFAULT 'dflt'",
                ["EXTERNAL", "MAIN", "EXTENDED"][made % 3]
            ),
        }
    }

    /// One transaction, in whatever way it ends.
    pub fn transaction(&mut self) {
        let statements = 1 + self.pick(12);
        let _ = self.client.batch_execute("BEGIN");
        let mut depth = 0;
        for _ in 0..statements {
            let sql = match self.pick(9) {
                0 => {
                    depth += 1;
                    format!("SAVEPOINT s{depth}")
                }
                1 if depth > 0 => {
                    depth -= 1;
                    format!("ROLLBACK TO s{}; RELEASE s{}", depth + 1, depth + 1)
                }
                2 if depth > 0 => {
                    depth -= 1;
                    format!("RELEASE s{}", depth + 1)
                }
                _ => self.statement(),
            };
            if self.client.batch_execute(&sql).is_err() && depth > 0 && self.pick(3) > 0 {
                let _ = self.client.batch_execute(&format!("ROLLBACK TO s{depth}"));
            }
        }
        let end = match self.pick(12) {
            0..=1 => "ROLLBACK".to_owned(),
            2 => {
                self.made += 1;
                let gid = format!("nasty {} {} %s", self.number, self.made);
                let verb = if self.pick(3) == 0 {
                    "ROLLBACK"
                } else {
                    "COMMIT"
                };
                if self
                    .client
                    .batch_execute(&format!("PREPARE TRANSACTION '{gid}'"))
                    .is_ok()
                {
                    if self.pick(3) == 0 {
                        thread::sleep(Duration::from_millis(5));
                    }
                    let _ = self
                        .client
                        .batch_execute(&format!("{verb} PREPARED '{gid}'"));
                }
                "ROLLBACK".to_owned()
            }
            _ => "COMMIT".to_owned(),
        };
        let _ = self.client.batch_execute(&end);
    }
}

pub fn create(table: &str, more: &str) -> String {
    format!("CREATE TABLE {table} (id bigint PRIMARY KEY, k int, v text{more})")
}
