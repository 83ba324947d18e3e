//! walferry inside PostgreSQL.
//!
//! The output plugin `walferry` (see [`plugin`]) turns what logical decoding
//! reads from the WAL into the frames of `walferry-protocol`. The SQL objects
//! live in `sql/*.sql` at the top of the repository, and only there: Rust
//! supplies the C functions that those files name.

use pgrx::prelude::*;

mod plugin;

::pgrx::pg_module_magic!();

extension_sql_file!("../../sql/00_version.sql", name = "version");

/// `walferry.version()`: the version of the loaded library.
#[pg_extern(sql = false)]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
