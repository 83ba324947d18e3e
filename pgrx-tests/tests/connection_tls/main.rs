//! TLS: the same connection through libpq (the server's psql) and through
//! walferry, and the same verdict from both, on certificates good and bad.

mod fixture;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use fixture::*;
use walferry_tests::wait_until;

const SECONDS: Duration = Duration::from_secs(30);

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
