//! walferry inside PostgreSQL.
//!
//! The output plugin `walferry` (see [`plugin`]) turns what logical decoding
//! reads from the WAL into the frames of `walferry-protocol`. The SQL objects
//! live in `sql/*.sql` at the top of the repository, and only there: Rust
//! supplies the C functions that those files name.

use pgrx::prelude::*;

mod diagnostics;
mod heartbeat;
mod plugin;
mod shared;

::pgrx::pg_module_magic!();

// In the order of their names, which is the order `scripts/install-extension` has them in.
extension_sql_file!("../../sql/00_schema.sql", name = "schema");
extension_sql_file!(
    "../../sql/00_version.sql",
    name = "version",
    requires = ["schema"]
);
extension_sql_file!(
    "../../sql/01_library.sql",
    name = "library",
    requires = ["version"]
);
extension_sql_file!(
    "../../sql/05_quoting.sql",
    name = "quoting",
    requires = ["library"]
);
extension_sql_file!(
    "../../sql/10_preflight_facts.sql",
    name = "preflight_facts",
    requires = ["quoting"]
);
extension_sql_file!(
    "../../sql/11_preflight_columns.sql",
    name = "preflight_columns",
    requires = ["preflight_facts"]
);
extension_sql_file!(
    "../../sql/20_limits.sql",
    name = "limits",
    requires = ["preflight_columns"]
);
extension_sql_file!(
    "../../sql/30_samples.sql",
    name = "samples",
    requires = ["limits"]
);
extension_sql_file!(
    "../../sql/33_ddl_log.sql",
    name = "ddl_log",
    requires = ["samples"]
);
extension_sql_file!(
    "../../sql/34_ddl_capture.sql",
    name = "ddl_capture",
    requires = ["ddl_log"]
);
extension_sql_file!(
    "../../sql/40_slots.sql",
    name = "slots",
    requires = ["ddl_capture"]
);
extension_sql_file!(
    "../../sql/45_setting_fix.sql",
    name = "setting_fix",
    requires = ["slots"]
);
extension_sql_file!(
    "../../sql/46_words.sql",
    name = "words",
    requires = ["setting_fix"]
);
extension_sql_file!(
    "../../sql/47_standby_slots.sql",
    name = "standby_slots",
    requires = ["words"]
);
extension_sql_file!(
    "../../sql/48_plugin_statistics.sql",
    name = "plugin_statistics",
    requires = ["standby_slots"]
);
extension_sql_file!(
    "../../sql/50_blockers.sql",
    name = "blockers",
    requires = ["plugin_statistics"]
);
extension_sql_file!(
    "../../sql/60_forecast.sql",
    name = "forecast",
    requires = ["blockers"]
);
extension_sql_file!(
    "../../sql/65_slot_wal.sql",
    name = "slot_wal",
    requires = ["forecast"]
);
extension_sql_file!(
    "../../sql/70_preflight.sql",
    name = "preflight",
    requires = ["slot_wal"]
);
extension_sql_file!(
    "../../sql/80_diagnose.sql",
    name = "diagnose",
    requires = ["preflight"]
);
extension_sql_file!(
    "../../sql/99_rights.sql",
    name = "rights",
    requires = ["diagnose"]
);

/// What takes being loaded when the server starts. Loaded later, by a decoding
/// process or a function, the library needs nothing of it.
#[allow(non_snake_case)]
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // SAFETY: a flag of the server.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        shared::preload();
        heartbeat::preload();
    }
}

/// `walferry.version()`: the version of the loaded library.
#[pg_extern(sql = false)]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
