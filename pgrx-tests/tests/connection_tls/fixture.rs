//! A server with certificates of every kind, and the same connection made to
//! it through libpq and through walferry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use walferry_tests::{Server, Streamer, StreamerBuilder, wait_until};

use super::SECONDS;

/// The host that good certificates are made out to.
pub const HOST: &str = "db.example";

pub const KEY_PASSWORD: &str = "k3y-s3cret";

/// A server that has TLS, and the files of its authorities and clients.
pub struct Fixture {
    pub server: Server,
    /// Certificates and keys of all parties; not below the server's data.
    pub files: PathBuf,
    /// Has no ~/.postgresql.
    pub home: PathBuf,
    _folder: tempfile::TempDir,
}

pub fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl");
    assert!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority of the given name.
pub fn authority(folder: &Path, name: &str) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={name} -keyout {name}.key -out {name}.crt"
        ),
    );
}

/// A certificate signed by `authority`, of X.509 version 1 where there are no
/// extensions.
pub fn certificate(folder: &Path, authority: &str, name: &str, subject: &str, extensions: &str) {
    signed(
        folder,
        authority,
        name,
        subject,
        extensions,
        30,
        "ec -pkeyopt ec_paramgen_curve:P-256",
    );
}

pub fn signed(
    folder: &Path,
    authority: &str,
    name: &str,
    subject: &str,
    extensions: &str,
    days: i32,
    key: &str,
) {
    openssl(
        folder,
        &format!("req -newkey {key} -nodes -subj /CN={subject} -keyout {name}.key -out {name}.csr"),
    );
    let mut command = format!(
        "x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -days {days} -out {name}.crt"
    );
    if !extensions.is_empty() {
        fs::write(folder.join("extensions"), extensions).unwrap();
        command.push_str(" -extfile extensions");
    }
    openssl(folder, &command);
}

impl Fixture {
    pub fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        let home = folder.path().join("home");
        fs::create_dir(&files).unwrap();
        fs::create_dir(&home).unwrap();
        let f = files.as_path();
        authority(f, "ca");
        authority(f, "other-ca");
        authority(f, "client-ca");
        let host = format!("subjectAltName=DNS:{HOST}\n");
        certificate(f, "ca", "good", "anything", &host);
        certificate(f, "ca", "wild", "x", "subjectAltName=DNS:*.example\n");
        certificate(f, "ca", "common-name", HOST, "basicConstraints=CA:FALSE\n");
        certificate(
            f,
            "ca",
            "address",
            "x",
            "subjectAltName=IP:127.0.0.1,DNS:other\n",
        );
        certificate(
            f,
            "ca",
            "other-name",
            HOST,
            "subjectAltName=DNS:elsewhere.example\n",
        );
        certificate(
            f,
            "ca",
            "for-clients",
            "x",
            &format!("{host}extendedKeyUsage=clientAuth\n"),
        );
        certificate(f, "ca", "version-1", HOST, "");
        signed(
            f,
            "ca",
            "expired",
            "x",
            &host,
            -1,
            "ec -pkeyopt ec_paramgen_curve:P-256",
        );
        signed(f, "ca", "rsa", "x", &host, 30, "rsa:2048");
        // Signed by an authority below ca; the server sends both.
        certificate(
            f,
            "ca",
            "middle",
            "middle",
            "basicConstraints=critical,CA:TRUE\n",
        );
        certificate(f, "middle", "leaf", "x", &host);
        let chain = [
            fs::read(f.join("leaf.crt")).unwrap(),
            fs::read(f.join("middle.crt")).unwrap(),
        ]
        .concat();
        fs::write(f.join("leaf.crt"), chain).unwrap();
        openssl(
            f,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={HOST} -addext subjectAltName=DNS:{HOST} -keyout self-signed.key -out self-signed.crt"
            ),
        );
        openssl(
            f,
            &format!(
                "req -x509 -newkey ed25519 -nodes -days 30 -subj /CN={HOST} -addext subjectAltName=DNS:{HOST} -keyout ed25519.key -out ed25519.crt"
            ),
        );
        let both = [
            fs::read(f.join("other-ca.crt")).unwrap(),
            fs::read(f.join("ca.crt")).unwrap(),
        ]
        .concat();
        fs::write(f.join("bundle.crt"), both).unwrap();
        certificate(
            f,
            "client-ca",
            "client",
            "by_cert",
            "basicConstraints=CA:FALSE\n",
        );
        certificate(
            f,
            "other-ca",
            "stranger",
            "by_cert",
            "basicConstraints=CA:FALSE\n",
        );
        certificate(
            f,
            "client-ca",
            "somebody",
            "somebody",
            "basicConstraints=CA:FALSE\n",
        );

        let mut builder = Server::builder().tcp().setting("log_connections", "on");
        for line in [
            "hostssl all by_cert 127.0.0.1/32 cert",
            "hostnossl all tls_only 127.0.0.1/32 reject",
            "hostssl all plain_only 127.0.0.1/32 reject",
            "host all by_scram 127.0.0.1/32 scram-sha-256",
            "host all by_md5 127.0.0.1/32 md5",
        ] {
            builder = builder.hba(line);
        }
        let server = builder.start();
        server.sql(
            "CREATE ROLE by_cert LOGIN REPLICATION; CREATE ROLE tls_only LOGIN REPLICATION;
             CREATE ROLE plain_only LOGIN REPLICATION;
             SET password_encryption = 'scram-sha-256'; CREATE ROLE by_scram LOGIN REPLICATION PASSWORD 'pw';
             SET password_encryption = 'md5'; CREATE ROLE by_md5 LOGIN REPLICATION PASSWORD 'pw'",
        );
        let fixture = Fixture {
            server,
            files,
            home,
            _folder: folder,
        };
        fixture.install("client-ca");
        fixture
    }

    pub fn path(&self, name: &str) -> String {
        self.files.join(name).display().to_string()
    }

    /// Copies a certificate and its key to where the server may read them.
    pub fn install(&self, name: &str) {
        for extension in ["crt", "key"] {
            let file = format!("{name}.{extension}");
            let text = fs::read_to_string(self.files.join(&file)).unwrap();
            self.server.write_private_file(&file, &text);
        }
    }

    /// Has the server show this certificate from now on; "" for no TLS at all.
    pub fn serve(&self, name: &str) {
        let set = if name.is_empty() {
            "ALTER SYSTEM SET ssl = off".to_owned()
        } else {
            self.install(name);
            format!(
                "ALTER SYSTEM SET ssl_ca_file = 'client-ca.crt'; ALTER SYSTEM SET ssl_cert_file = '{name}.crt'; ALTER SYSTEM SET ssl_key_file = '{name}.key'; ALTER SYSTEM SET ssl = on"
            )
        };
        for statement in set.split("; ") {
            self.server.sql(statement);
        }
        self.server.sql("SELECT pg_reload_conf()");
        // A session begun later than the postmaster's reload has its settings.
        let (shown, expected) = if name.is_empty() {
            ("SELECT current_setting('ssl')", "off".to_owned())
        } else {
            (
                "SELECT current_setting('ssl_cert_file') || current_setting('ssl')",
                format!("{name}.crton"),
            )
        };
        wait_until("the server to show another certificate", || {
            self.server.value::<String>(shown) == expected
        });
    }

    pub fn walferry(&self) -> StreamerBuilder {
        Streamer::builder()
            .args(["--log-level", "trace"])
            .env("HOME", &self.home)
    }

    /// Connects both ways. Their verdicts and their use of TLS must be the
    /// same; returns walferry's: whether TLS was in use, or its error.
    pub fn both(&self, settings: &str) -> Result<bool, String> {
        let source = self.source(settings);
        let psql = self.psql(&source);
        let walferry = self.connect(&source);
        match (&psql, &walferry) {
            (Ok(theirs), Ok(ours)) => assert_eq!(theirs, ours, "TLS in use with {settings}"),
            (Err(_), Err(_)) => {}
            _ => panic!(
                "libpq and walferry differ over {settings}\nlibpq: {psql:?}\nwalferry: {walferry:?}"
            ),
        }
        walferry
    }

    pub fn source(&self, settings: &str) -> String {
        let host = if settings.contains("host=") {
            String::new()
        } else {
            format!("host={HOST} ")
        };
        let user = if settings.contains("user=") {
            ""
        } else {
            "user=postgres "
        };
        format!(
            "{host}hostaddr=127.0.0.1 port={} dbname=postgres {user}{settings}",
            self.server.port()
        )
    }

    pub fn psql(&self, source: &str) -> Result<bool, String> {
        let output = self
            .server
            .program("psql")
            .env_remove("PGHOST")
            .env("HOME", &self.home)
            .args(["--no-psqlrc", "--no-password", "-Atc"])
            .arg("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .arg(source)
            .output()
            .expect("psql");
        if output.status.success() {
            Ok(output.stdout.starts_with(b"t"))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub fn connect(&self, source: &str) -> Result<bool, String> {
        let before = self.server.log().len();
        let exit = self
            .walferry()
            .args(["slot", "list", "--source", source])
            .run(SECONDS);
        let printed = exit.stderr.join("\n");
        assert!(!printed.contains(KEY_PASSWORD), "{printed}");
        match exit.code {
            Some(0) => {
                let log = self.server.log()[before..].to_owned();
                let line = log
                    .lines()
                    .find(|line| {
                        line.contains("connection authorized")
                            && line.contains("application_name=walferry")
                    })
                    .unwrap_or_else(|| panic!("no connection of walferry's in {log}"));
                Ok(line.contains("SSL enabled"))
            }
            _ => Err(printed),
        }
    }

    /// Both refuse, and walferry says `parts`.
    pub fn both_refuse(&self, settings: &str, parts: &[&str]) {
        let error = self.both(settings).expect_err(settings);
        for part in parts {
            assert!(
                error.contains(part),
                "{settings}: {part:?} is missing in\n{error}"
            );
        }
        assert!(error.contains("hint: "), "{settings}: no hint in\n{error}");
    }

    pub fn both_connect(&self, settings: &str) {
        assert_eq!(self.both(settings), Ok(true), "{settings}");
    }
}
