//! The heartbeat from inside the server: something small is committed in each
//! of some databases now and then, so that their slots move on however quiet
//! it is there, and the way to the sink is seen to work.
//!
//! It takes the library in `shared_preload_libraries`. A [`launcher`] belongs
//! to no database, and for each beat starts a process of a few milliseconds
//! that connects, calls `walferry.heartbeat` and ends ([`beat`]): one that
//! stayed connected would keep its database from being dropped. Without an
//! interval the launcher sleeps and nothing wakes it.

mod beat;
mod databases;
mod launcher;

use std::ffi::CString;
use std::time::Duration;

use pgrx::bgworkers::BackgroundWorkerBuilder;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;

static INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(0);
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static SOURCE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"walferry"));

/// The function that a launched process begins with, by the library's name.
const LIBRARY: &str = "walferry";

/// In `shared_preload_libraries`: the settings, and the launcher.
pub fn preload() {
    GucRegistry::define_int_guc(
        c"walferry.heartbeat_interval",
        c"Time between two heartbeats in each of walferry.heartbeat_databases.",
        c"0 turns them off.",
        &INTERVAL,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_string_guc(
        c"walferry.heartbeat_databases",
        c"Names of the databases in which walferry.heartbeat(source) is called.",
        c"The extension or the managed pack has to be installed there.",
        &DATABASES,
        GucContext::Sighup,
        GucFlags::from_bits_retain(pg_sys::GUC_LIST_INPUT as i32),
    );
    GucRegistry::define_string_guc(
        c"walferry.heartbeat_source",
        c"What walferry.heartbeat is called with: the row of walferry.heartbeats.",
        c"1 to 63 characters.",
        &SOURCE,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    BackgroundWorkerBuilder::new("walferry heartbeat launcher")
        .set_library(LIBRARY)
        .set_function("walferry_heartbeat_launcher")
        .enable_spi_access()
        .set_restart_time(Some(Duration::from_secs(5)))
        .load();
}
