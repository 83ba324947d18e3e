use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn parse(text: &str) -> Result<Conninfo> {
    parse_in(text, [])
}

fn parse_in<const N: usize>(text: &str, environment: [(&str, &str); N]) -> Result<Conninfo> {
    Conninfo::parse_with(Some(text), &Environment::from(environment))
}

fn shown(text: &str) -> String {
    parse(text).unwrap().to_string()
}

fn password(conninfo: &Conninfo) -> Option<String> {
    conninfo
        .password_for(&conninfo.hosts[0])
        .map(|secret| secret.expose().to_owned())
}

#[test]
fn a_uri_gives_user_password_host_port_and_database() {
    let conninfo = parse("postgres://ferry:p%40ss@db.example:6432/shop").unwrap();
    assert_eq!(conninfo.to_string(), "ferry@db.example:6432/shop");
    assert_eq!(password(&conninfo).as_deref(), Some("p@ss"));
}

#[test]
fn several_hosts_keep_their_ports_and_their_order() {
    let text = "postgresql://u@a:1,b,[::1]:3/d?target_session_attrs=read-write";
    let conninfo = parse(text).unwrap();
    assert_eq!(conninfo.to_string(), "u@a:1,b:5432,[::1]:3/d");
    assert_eq!(conninfo.target_session_attrs, TargetSessionAttrs::ReadWrite);
    assert_eq!(shown("host=a,b port=7 user=u dbname=d"), "u@a:7,b:7/d");
    let failure = parse("host=a,b,c port=1,2 user=u").unwrap_err();
    assert_eq!(
        failure.message,
        "the connection settings have 2 ports for 3 hosts"
    );
}

#[test]
fn a_unix_socket_is_named_in_three_ways() {
    for text in [
        "postgres://u@%2Frun%2Fpg:5433/d",
        "postgres://u@/d?host=/run/pg&port=5433",
        "host=/run/pg port=5433 user=u dbname=d",
    ] {
        let conninfo = parse(text).unwrap();
        assert_eq!(
            conninfo.hosts,
            [Host {
                address: Address::Unix("/run/pg".into()),
                port: 5433
            }]
        );
    }
}

#[test]
fn quoted_values_hold_spaces_quotes_and_backslashes() {
    let conninfo = parse(r"host = db user='a b' password='it\'s \\ here' dbname = x\ y").unwrap();
    assert_eq!(conninfo.user, "a b");
    assert_eq!(password(&conninfo).as_deref(), Some(r"it's \ here"));
    assert_eq!(conninfo.dbname, "x y");
}

#[test]
fn a_plain_word_is_a_database_and_the_rest_comes_from_the_environment() {
    let conninfo = parse_in(
        "shop",
        [
            ("PGHOST", "db"),
            ("PGPORT", "6000"),
            ("PGUSER", "ferry"),
            ("PGPASSWORD", "secret"),
            ("PGAPPNAME", "mover"),
            ("PGCONNECT_TIMEOUT", "1"),
            ("PGDATABASE", "not this one"),
        ],
    )
    .unwrap();
    assert_eq!(conninfo.to_string(), "ferry@db:6000/shop");
    assert_eq!(conninfo.application_name, "mover");
    assert_eq!(conninfo.connect_timeout, Some(Duration::from_secs(2)));
    assert_eq!(password(&conninfo).as_deref(), Some("secret"));
}

#[test]
fn the_database_defaults_to_the_user_and_the_name_to_walferry() {
    let conninfo = parse("host=db user=ferry").unwrap();
    assert_eq!(conninfo.dbname, "ferry");
    assert_eq!(conninfo.application_name, "walferry");
}

#[test]
fn a_service_fills_in_what_the_string_leaves_open() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services");
    fs::write(
        &file,
        "# ours\n[other]\nhost=wrong\n\n[shop]\nhost=db\nport=6000\ndbname=shop\n[last]\nhost=x\n",
    )
    .unwrap();
    let path = file.to_str().unwrap();
    let conninfo = parse_in(
        "postgres://ferry@/?service=shop&port=1",
        [("PGSERVICEFILE", path), ("PGHOST", "not this one")],
    )
    .unwrap();
    assert_eq!(conninfo.to_string(), "ferry@db:1/shop");

    let failure = parse_in("service=shops", [("PGSERVICEFILE", path)]).unwrap_err();
    assert_eq!(failure.message, "there is no connection service \"shops\"");
    assert!(failure.hint.unwrap().contains(path));
}

#[test]
fn the_password_file_is_read_only_when_it_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pass");
    fs::write(&file, "db:*:*:ferry:from file\n").unwrap();
    let text = format!("host=db user=ferry passfile={}", file.display());

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(password(&parse(&text).unwrap()), None);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        password(&parse(&text).unwrap()).as_deref(),
        Some("from file")
    );
    let given = format!("{text} password=given");
    assert_eq!(password(&parse(&given).unwrap()).as_deref(), Some("given"));
}

#[test]
fn the_mode_of_tls_is_libpqs() {
    let mode = |text: &str| parse(text).unwrap().tls.mode;
    assert_eq!(mode("host=db user=u"), SslMode::Prefer);
    for known in SslMode::ALL {
        assert_eq!(mode(&format!("host=db user=u sslmode={known}")), known);
    }
    assert_eq!(mode("postgres://u@db/?ssl=true"), SslMode::Require);
    assert_eq!(mode("user=u requiressl=1"), SslMode::Require);
    assert_eq!(
        mode("host=db user=u sslrootcert=system"),
        SslMode::VerifyFull
    );
    let of_environment = parse_in("user=u", [("PGSSLMODE", "verify-ca")]).unwrap();
    assert_eq!(of_environment.tls.mode, SslMode::VerifyCa);
}

#[test]
fn what_can_not_be_had_is_refused_rather_than_ignored() {
    for text in [
        "host=db user=u sslmode=requires",
        "host=db user=u sslmode=require sslrootcert=system",
        "hostaddr=10.0.0.1 user=u sslmode=verify-full",
        "host=/run user=u channel_binding=require",
        "host=db user=u channel_binding=require sslmode=disable",
        "host=db user=u channel_binding=on",
        "host=db user=u sslcertmode=never",
        "host=db user=u ssl_max_protocol_version=TLSv1.1",
        "host=db user=u ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
        "host=db user=u sslnegotiation=direct",
        "host=db user=u sslcrldir=/etc/crls",
        "host=db user=u sslkeylogfile=/tmp/keys",
        "user=u requirepeer=postgres",
        "user=u gssencmode=require",
    ] {
        let failure = parse(text).expect_err(text);
        assert_eq!(failure.exit_code(), 2, "{text}");
        assert!(failure.hint.is_some(), "{text}");
    }
}

#[test]
fn no_error_and_no_debug_text_shows_a_password() {
    for text in [
        "postgres://ferry:hunter2/x@db/shop",
        "postgres://ferry:hunter2?x@db/shop",
        "postgres://ferry:hunter2%zz@db/shop",
        "postgres://ferry:hunter2&a@db:port/shop",
        "postgres://ferry@db/shop?password=hunter2&hunter2",
        "host=db password=secret hunter2 user=ferry",
        "password='hunter2 host=db",
        "mysql://ferry:hunter2@db/shop",
    ] {
        let failure = parse(text).expect_err(text);
        assert_eq!(failure.exit_code(), 2);
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
        assert!(!format!("{failure:?}").contains("hunter2"));
    }
    for text in [
        "postgres://ferry:hunter2@db/shop",
        "host=db user=ferry sslpassword=hunter2",
    ] {
        let conninfo = parse(text).unwrap();
        assert!(!format!("{conninfo:?} {conninfo}").contains("hunter2"));
    }
}

#[test]
fn the_password_in_a_uri_is_found_as_it_was_written() {
    let found = |text: &'static str| -> Vec<&str> {
        password_spans(text)
            .into_iter()
            .map(|span| &text[span])
            .collect()
    };
    assert_eq!(found("postgres://u:p%40s@h/d"), ["p%40s"]);
    assert_eq!(
        found("postgres://u@h/d?port=1&password=a%20b&x=y"),
        ["a%20b"]
    );
    assert_eq!(found("postgres://u@h:5432/d"), [""; 0]);
}

#[test]
fn required_authentication_is_a_list_or_an_exclusion() {
    let of = |text: &str| parse(&format!("user=u require_auth={text}"));
    let only = of("scram-sha-256,md5").unwrap().require_auth;
    assert!(only.allows("md5") && !only.allows("password"));
    let not = of("!password,!none").unwrap().require_auth;
    assert!(not.allows("md5") && !not.allows("password"));
    of("!password,md5").unwrap_err();
    of("scram").unwrap_err();
}
