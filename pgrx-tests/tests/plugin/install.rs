//! Installing the extension, and what the server itself refuses.

use walferry_tests::{Server, ServerTree};

#[test]
fn the_extension_says_its_version_and_only_a_superuser_installs_it() {
    let server = Server::start_default();
    server.sql("CREATE EXTENSION walferry");
    assert_eq!(
        server.value::<String>("SELECT walferry.version()"),
        env!("CARGO_PKG_VERSION")
    );
    server.sql("CREATE ROLE somebody LOGIN; GRANT CREATE ON DATABASE postgres TO somebody; GRANT ALL ON SCHEMA public TO somebody; DROP EXTENSION walferry");
    let refused = server
        .try_sql("postgres", "SET ROLE somebody; CREATE EXTENSION walferry")
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
}

#[test]
fn a_plugin_that_is_not_allowed_is_refused_by_the_server() {
    if !ServerTree::get().has_output_plugin_libraries() {
        return;
    }
    let server = Server::builder().default_output_plugin_libraries().start();
    let refused = server
        .try_sql(
            "postgres",
            "SELECT pg_create_logical_replication_slot('s', 'walferry')",
        )
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
}
