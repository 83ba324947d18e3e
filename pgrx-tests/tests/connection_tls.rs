//! TLS: the same connection through libpq (the server's psql) and through
//! walferry, and the same verdict from both, on certificates good and bad.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use walferry_tests::{Server, Streamer, StreamerBuilder, wait_until};

const SECONDS: Duration = Duration::from_secs(30);

/// The host that good certificates are made out to.
const HOST: &str = "db.example";

const KEY_PASSWORD: &str = "k3y-s3cret";

/// A server that has TLS, and the files of its authorities and clients.
struct Fixture {
    server: Server,
    /// Certificates and keys of all parties; not below the server's data.
    files: PathBuf,
    /// Has no ~/.postgresql.
    home: PathBuf,
    _folder: tempfile::TempDir,
}

fn openssl(folder: &Path, arguments: &str) {
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
fn authority(folder: &Path, name: &str) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={name} -keyout {name}.key -out {name}.crt"
        ),
    );
}

/// A certificate signed by `authority`, of X.509 version 1 where there are no
/// extensions.
fn certificate(folder: &Path, authority: &str, name: &str, subject: &str, extensions: &str) {
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

fn signed(
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
    fn new() -> Fixture {
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

    fn path(&self, name: &str) -> String {
        self.files.join(name).display().to_string()
    }

    /// Copies a certificate and its key to where the server may read them.
    fn install(&self, name: &str) {
        for extension in ["crt", "key"] {
            let file = format!("{name}.{extension}");
            let text = fs::read_to_string(self.files.join(&file)).unwrap();
            self.server.write_private_file(&file, &text);
        }
    }

    /// Has the server show this certificate from now on; "" for no TLS at all.
    fn serve(&self, name: &str) {
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

    fn walferry(&self) -> StreamerBuilder {
        Streamer::builder()
            .args(["--log-level", "trace"])
            .env("HOME", &self.home)
    }

    /// Connects both ways. Their verdicts and their use of TLS must be the
    /// same; returns walferry's: whether TLS was in use, or its error.
    fn both(&self, settings: &str) -> Result<bool, String> {
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

    fn source(&self, settings: &str) -> String {
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

    fn psql(&self, source: &str) -> Result<bool, String> {
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

    fn connect(&self, source: &str) -> Result<bool, String> {
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
    fn both_refuse(&self, settings: &str, parts: &[&str]) {
        let error = self.both(settings).expect_err(settings);
        for part in parts {
            assert!(
                error.contains(part),
                "{settings}: {part:?} is missing in\n{error}"
            );
        }
        assert!(error.contains("hint: "), "{settings}: no hint in\n{error}");
    }

    fn both_connect(&self, settings: &str) {
        assert_eq!(self.both(settings), Ok(true), "{settings}");
    }
}

#[test]
fn the_verdict_on_a_servers_certificate_is_libpqs() {
    let fixture = Fixture::new();
    let ca = fixture.path("ca.crt");
    let other = fixture.path("other-ca.crt");
    let full = format!("sslmode=verify-full sslrootcert={ca}");
    let ca_only = format!("sslmode=verify-ca sslrootcert={ca}");

    fixture.serve("good");
    fixture.both_connect(&full);
    fixture.both_connect(&ca_only);
    fixture.both_connect(&format!("{ca_only} host=elsewhere"));
    fixture.both_connect("sslmode=require");
    fixture.both_connect(&format!("sslmode=require sslrootcert={ca}"));
    fixture.both_connect(&format!(
        "sslmode=verify-full sslrootcert={}",
        fixture.path("bundle.crt")
    ));
    for version in ["TLSv1.2", "TLSv1.3"] {
        fixture.both_connect(&format!(
            "{full} ssl_min_protocol_version={version} ssl_max_protocol_version={version}"
        ));
    }
    fixture.both_refuse(
        &format!("{full} host=elsewhere"),
        &["made out to \"db.example\", not to host \"elsewhere\""],
    );
    for mode in ["require", "verify-ca", "verify-full"] {
        // With a root certificate, require is verify-ca.
        fixture.both_refuse(
            &format!("sslmode={mode} sslrootcert={other}"),
            &[
                "signed by none of the authorities of",
                "it was issued by CN=ca",
            ],
        );
    }
    for mode in ["verify-ca", "verify-full"] {
        fixture.both_refuse(
            &format!("sslmode={mode}"),
            &["needs to know who may sign", "/.postgresql/root.crt"],
        );
    }
    fixture.both_refuse(
        &format!("sslmode=verify-ca sslrootcert={}", fixture.path("ca.key")),
        &["holds no certificate in PEM"],
    );
    // libpq's default place.
    fs::create_dir(fixture.home.join(".postgresql")).unwrap();
    fs::copy(&other, fixture.home.join(".postgresql/root.crt")).unwrap();
    fixture.both_refuse("sslmode=require", &["signed by none of the authorities"]);
    fs::copy(&ca, fixture.home.join(".postgresql/root.crt")).unwrap();
    fixture.both_connect("sslmode=verify-full");
    fs::remove_dir_all(fixture.home.join(".postgresql")).unwrap();

    fixture.serve("wild");
    fixture.both_connect(&full);
    fixture.both_refuse(&format!("{full} host=a.b.example"), &["\"*.example\""]);

    fixture.serve("common-name");
    fixture.both_connect(&full);
    fixture.both_refuse(
        &format!("{full} host=elsewhere"),
        &["made out to \"db.example\""],
    );

    fixture.serve("address");
    fixture.both_connect(&format!("{full} host=127.0.0.1"));
    fixture.both_refuse(&full, &["not made out to host"]);
    fixture.both_refuse(&format!("{full} host=127.0.0.2"), &["127.0.0.1, other"]);

    // A name of the host's kind rules the common name out.
    fixture.serve("other-name");
    fixture.both_refuse(&full, &["made out to \"elsewhere.example\""]);

    fixture.serve("leaf");
    fixture.both_connect(&full);

    fixture.serve("expired");
    fixture.both_refuse(&full, &["the server's certificate expired at"]);
    fixture.both_refuse(&ca_only, &["the server's certificate expired at"]);
    fixture.both_connect("sslmode=require");

    fixture.serve("for-clients");
    fixture.both_refuse(&full, &["not for servers"]);

    fixture.serve("self-signed");
    fixture.both_connect("sslmode=require");
    fixture.both_refuse(&full, &["self-signed and not among those of"]);
    fixture.both_connect(&format!(
        "sslmode=verify-full sslrootcert={}",
        fixture.path("self-signed.crt")
    ));

    fixture.serve("rsa");
    fixture.both_connect(&full);
    fixture.serve("ed25519");
    fixture.both_connect(&format!(
        "sslmode=verify-full sslrootcert={}",
        fixture.path("ed25519.crt")
    ));

    // The one verdict that differs: version 1 has no names but the common
    // one, and is refused with the way out.
    fixture.serve("version-1");
    let source = fixture.source(&full);
    assert_eq!(fixture.psql(&source), Ok(true));
    let error = fixture.connect(&source).unwrap_err();
    assert!(
        error.contains("of X.509 version 1") && error.contains("hint: "),
        "{error}"
    );
}

#[test]
fn the_modes_that_leave_tls_open_choose_as_libpq_does() {
    let fixture = Fixture::new();
    let other = fixture.path("other-ca.crt");
    fixture.serve("good");
    for (mode, tls) in [
        ("disable", false),
        ("allow", false),
        ("prefer", true),
        ("require", true),
    ] {
        assert_eq!(fixture.both(&format!("sslmode={mode}")), Ok(tls), "{mode}");
    }
    assert_eq!(fixture.both(""), Ok(true), "prefer is the default");
    // pg_hba.conf decides where the mode leaves it open.
    for mode in ["allow", "prefer", "require"] {
        assert_eq!(
            fixture.both(&format!("sslmode={mode} user=tls_only")),
            Ok(true),
            "{mode}"
        );
    }
    for mode in ["disable", "allow", "prefer"] {
        assert_eq!(
            fixture.both(&format!("sslmode={mode} user=plain_only")),
            Ok(false),
            "{mode}"
        );
    }
    fixture.both_refuse("sslmode=disable user=tls_only", &["pg_hba.conf rejects"]);
    fixture.both_refuse("sslmode=require user=plain_only", &["pg_hba.conf rejects"]);
    // A certificate that does not hold: prefer goes on without.
    let untrusted = format!("sslmode=prefer sslrootcert={other}");
    assert_eq!(fixture.both(&untrusted), Ok(false));
    fixture.both_refuse(
        &format!("{untrusted} user=tls_only"),
        &[
            "signed by none of the authorities",
            "without TLS: pg_hba.conf rejects",
        ],
    );
    // Over a unix socket the mode says nothing.
    let socket = format!(
        "host={} port={} user=postgres dbname=postgres sslmode=verify-full",
        fixture.server.socket_dir().display(),
        fixture.server.port()
    );
    assert_eq!(fixture.psql(&socket), Ok(false));
    assert_eq!(fixture.connect(&socket), Ok(false));

    fixture.serve("");
    for mode in ["disable", "allow", "prefer"] {
        assert_eq!(
            fixture.both(&format!("sslmode={mode}")),
            Ok(false),
            "{mode}"
        );
    }
    fixture.both_refuse("sslmode=require", &["the server has no TLS", "ssl = on"]);
}

#[test]
fn a_certificate_of_ours_is_shown_and_its_key_read_in_every_usual_form() {
    let fixture = Fixture::new();
    fixture.serve("good");
    let f = fixture.files.as_path();
    let base = format!(
        "user=by_cert sslmode=verify-full sslrootcert={}",
        fixture.path("ca.crt")
    );
    let with = |certificate: &str, key: &str| {
        format!(
            "{base} sslcert={} sslkey={}",
            fixture.path(certificate),
            fixture.path(key)
        )
    };
    let good = with("client.crt", "client.key");
    fixture.both_connect(&good);
    fixture.both_refuse(&base, &["requires a valid client certificate", "sslcert"]);
    fixture.both_refuse(
        &with("stranger.crt", "stranger.key"),
        &["the server refuses our certificate"],
    );
    fixture.both_refuse(
        &with("somebody.crt", "somebody.key"),
        &["certificate authentication failed"],
    );
    fixture.both_refuse(
        &with("client.crt", "somebody.key"),
        &["does not belong to the certificate"],
    );
    fixture.both_refuse(&with("client.crt", "absent.key"), &["absent.key"]);
    fs::write(f.join("not-a-key"), fs::read(f.join("client.crt")).unwrap()).unwrap();
    fs::set_permissions(f.join("not-a-key"), fs::Permissions::from_mode(0o600)).unwrap();
    fixture.both_refuse(
        &with("client.crt", "not-a-key"),
        &["no key in a form that walferry reads"],
    );
    fs::set_permissions(f.join("client.key"), fs::Permissions::from_mode(0o644)).unwrap();
    fixture.both_refuse(&good, &["read or written by group or others", "chmod 0600"]);
    fs::set_permissions(f.join("client.key"), fs::Permissions::from_mode(0o600)).unwrap();

    // libpq's default places.
    let defaults = fixture.home.join(".postgresql");
    fs::create_dir(&defaults).unwrap();
    fs::copy(f.join("client.crt"), defaults.join("postgresql.crt")).unwrap();
    fixture.both_refuse(&base, &["no private key file", "postgresql.key"]);
    fs::copy(f.join("client.key"), defaults.join("postgresql.key")).unwrap();
    fixture.both_connect(&base);
    fs::remove_dir_all(&defaults).unwrap();

    // Forms of the key. libpq has all but encrypted DER.
    openssl(f, "ec -in client.key -out sec1.pem");
    openssl(
        f,
        "pkcs8 -topk8 -nocrypt -in client.key -outform DER -out plain.pk8",
    );
    openssl(
        f,
        &format!(
            "pkcs8 -topk8 -v2 aes-256-cbc -in client.key -passout pass:{KEY_PASSWORD} -out aes.pem"
        ),
    );
    openssl(
        f,
        &format!(
            "pkcs8 -topk8 -v2 aes-256-cbc -in client.key -passout pass:{KEY_PASSWORD} -outform DER -out aes.pk8"
        ),
    );
    for (key, password) in [
        ("sec1.pem", ""),
        ("plain.pk8", ""),
        ("aes.pem", KEY_PASSWORD),
        ("aes.pk8", KEY_PASSWORD),
    ] {
        fs::set_permissions(f.join(key), fs::Permissions::from_mode(0o600)).unwrap();
        let settings = format!("{} sslpassword='{password}'", with("client.crt", key));
        if key == "aes.pk8" {
            assert_eq!(fixture.connect(&fixture.source(&settings)), Ok(true));
        } else {
            fixture.both_connect(&settings);
        }
    }
    fixture.both_refuse(
        &format!("{} sslpassword=wrong", with("client.crt", "aes.pem")),
        &["the password does not open"],
    );
    fixture.both_refuse(
        &with("client.crt", "aes.pk8"),
        &["its password is not given"],
    );

    // PKCS#12, which libpq has not: modern and of old, with its certificate
    // and without.
    for (name, how) in [
        ("modern.p12", ""),
        ("old.p12", "-legacy"),
        (
            "triple-des.p12",
            "-legacy -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1",
        ),
    ] {
        openssl(
            f,
            &format!(
                "pkcs12 -export {how} -inkey client.key -in client.crt -passout pass:{KEY_PASSWORD} -out {name}"
            ),
        );
        fs::set_permissions(f.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        for certificate in [
            String::new(),
            format!(" sslcert={}", fixture.path("client.crt")),
        ] {
            let settings = format!(
                "{base}{certificate} sslkey={} sslpassword={KEY_PASSWORD}",
                fixture.path(name)
            );
            assert_eq!(
                fixture.connect(&fixture.source(&settings)),
                Ok(true),
                "{settings}"
            );
        }
    }
    let wrong = format!(
        "{base} sslkey={} sslpassword=wrong",
        fixture.path("modern.p12")
    );
    let error = fixture.connect(&fixture.source(&wrong)).unwrap_err();
    assert!(error.contains("the password does not open"), "{error}");
}

#[test]
fn keys_under_encryptions_of_old_are_refused_with_a_command_that_converts_them() {
    let fixture = Fixture::new();
    fixture.serve("good");
    let f = fixture.files.as_path();
    openssl(
        f,
        &format!(
            "pkcs8 -topk8 -inform PEM -in client.key -outform DER -out md5.pk8 -v1 PBE-MD5-DES -passout pass:{KEY_PASSWORD} -provider default -provider legacy"
        ),
    );
    openssl(
        f,
        &format!(
            "pkcs8 -topk8 -in client.key -out sha1.pem -v1 PBE-SHA1-3DES -passout pass:{KEY_PASSWORD}"
        ),
    );
    openssl(
        f,
        &format!("ec -in client.key -aes256 -passout pass:{KEY_PASSWORD} -out own.pem"),
    );
    for (key, scheme) in [
        ("md5.pk8", "PBE-MD5-DES"),
        ("sha1.pem", "PBE-SHA1-3DES"),
        ("own.pem", "OpenSSL's own encryption"),
    ] {
        fs::set_permissions(f.join(key), fs::Permissions::from_mode(0o600)).unwrap();
        let settings = |key: &str| {
            format!(
                "type: POSTGRESQL\nhost: 127.0.0.1\nport: {}\ndatabase: postgres\nusername: by_cert\nssl:\n  mode: verify-ca\n  root-cert: {}\n  ssl-cert: {}\n  ssl-key: {}\n  ssl-key-password: ${{KEY_PASSWORD}}\n",
                fixture.server.port(),
                fixture.path("ca.crt"),
                fixture.path("client.crt"),
                fixture.path(key)
            )
        };
        let run = |key: &str| {
            fs::write(f.join("connection.yaml"), settings(key)).unwrap();
            fixture
                .walferry()
                .args(["run", "--connection"])
                .arg(f.join("connection.yaml"))
                .args(["--sink", "null", "--until-lsn", "0/1"])
                .env("KEY_PASSWORD", KEY_PASSWORD)
                .run(SECONDS)
        };
        let error = run(key).expect_code(2).stderr.join("\n");
        assert!(error.contains(scheme), "{error}");
        assert!(!error.contains(KEY_PASSWORD), "{error}");
        // The command as it is printed, but that it would ask for the password.
        let command = error.split_once("hint: convert it: ").expect("a command").1;
        let command = command.lines().next().unwrap_or_default().replace(
            "-topk8",
            &format!("-topk8 -passin pass:{KEY_PASSWORD} -passout pass:{KEY_PASSWORD}"),
        );
        let status = Command::new("/bin/sh").args(["-c", &command]).status();
        assert!(status.is_ok_and(|status| status.success()), "{command}");
        run(&format!("{key}.aes")).expect_code(0);
    }
}

#[test]
fn scram_is_bound_to_the_servers_certificate_where_it_can_be() {
    let fixture = Fixture::new();
    for (name, can_bind) in [("good", true), ("rsa", true), ("", false)] {
        fixture.serve(name);
        let tls = !name.is_empty();
        for (user, binding, works) in [
            ("by_scram", "disable", true),
            ("by_scram", "prefer", true),
            ("by_scram", "require", can_bind),
            ("by_md5", "prefer", true),
            ("by_md5", "require", false),
            ("postgres", "require", false),
        ] {
            let settings = format!("user={user} password=pw channel_binding={binding}");
            match fixture.both(&settings) {
                Ok(in_tls) => assert!(works && in_tls == tls, "{name} {settings}"),
                Err(error) => {
                    assert!(!works, "{name} {settings}: {error}");
                    assert!(error.contains("channel_binding=require"), "{error}");
                }
            }
        }
        fixture.both_refuse(
            "user=by_scram password=wrong",
            &["password authentication failed"],
        );
    }
    // There is no binding to a signature of Ed25519: libpq and the server know
    // none either, and then SCRAM works without it only.
    fixture.serve("ed25519");
    fixture.both_connect("user=by_scram password=pw channel_binding=disable");
    let error = fixture
        .both("user=by_scram password=pw channel_binding=require")
        .unwrap_err();
    assert!(error.contains("Ed25519"), "{error}");
}

#[test]
fn revoked_certificates_are_refused_by_the_list_that_sslcrl_names() {
    let fixture = Fixture::new();
    let f = fixture.files.as_path();
    fs::write(f.join("index"), "").unwrap();
    fs::write(f.join("crlnumber"), "01\n").unwrap();
    fs::write(
        f.join("ca.conf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=crlnumber\ndefault_md=sha256\ncertificate=ca.crt\nprivate_key=ca.key\ndefault_crl_days=30\n",
    )
    .unwrap();
    openssl(f, "ca -config ca.conf -revoke rsa.crt");
    openssl(f, "ca -config ca.conf -gencrl -out ca.crl");
    let settings = format!(
        "sslmode=verify-full sslrootcert={} sslcrl={}",
        fixture.path("ca.crt"),
        fixture.path("ca.crl")
    );
    fixture.serve("good");
    fixture.both_connect(&settings);
    fixture.serve("rsa");
    fixture.both_refuse(&settings, &["was revoked"]);
}

#[test]
fn changes_stream_through_tls_and_a_cancel_request_goes_the_same_way() {
    let fixture = Fixture::new();
    fixture.serve("good");
    let server = &fixture.server;
    let source = fixture.source(&format!(
        "sslmode=verify-full sslrootcert={} sslpassword={KEY_PASSWORD} user=tls_only",
        fixture.path("ca.crt")
    ));
    server.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
    server.create_slot("ferry", "walferry");
    server.sql("INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(1, 20000) n");
    let end = server.flushed_lsn();
    let out = fixture.home.join("out.jsonl");
    let run = || {
        fixture
            .walferry()
            .args(["run", "--source", &source, "--slot", "ferry", "--sink"])
            .arg(format!("file://{}", out.display()))
    };
    run()
        .args(["--until-lsn", &end.to_string()])
        .run(SECONDS)
        .expect_code(0);
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 20_000);

    // The server's end is the stream's, and what comes after it arrives.
    let mut streamer = run().start();
    streamer.wait_for_stderr("delivering from");
    let arguments = fs::read(format!("/proc/{}/cmdline", streamer.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(KEY_PASSWORD));
    server.restart(walferry_tests::Shutdown::Immediate);
    server.sql("INSERT INTO t VALUES (0, 'after')");
    wait_until("the row after the crash", || {
        fs::read_to_string(&out).unwrap().contains("after")
    });
    let exit = streamer.stop();
    assert!(!exit.stderr.join("\n").contains(KEY_PASSWORD));

    // Making a slot waits for a transaction; when the command ends, so must
    // the server's process that waits.
    let mut client = server.client();
    let mut transaction = client.transaction().unwrap();
    transaction
        .execute("INSERT INTO t VALUES (-1, 'open')", &[])
        .unwrap();
    let streamer = fixture
        .walferry()
        .args(["slot", "create", "late", "--source", &source])
        .start();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'";
    wait_until("a walsender that makes the slot", || {
        server.value::<i64>(waiting) == 1
            && server
                .value::<i64>("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'late'")
                == 1
    });
    streamer.stop();
    wait_until("the walsender to be gone", || {
        server.value::<i64>(waiting) == 0
    });
}
