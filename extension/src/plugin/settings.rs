//! The settings that shape text, as the event model wants it, and those that
//! give the text of a condition its meaning.
//!
//! A session that reads a slot by SQL must not lose its own settings, so there
//! they are set as `SET LOCAL` within the transaction in which the server
//! replays changes. That one always ends in an abort, whether decoding
//! succeeds or fails, so a session that reads a slot by SQL has its own
//! settings back afterwards.

use std::ffi::CStr;

use pgrx::pg_sys;

/// Setting, the value it gets, and how its value looks when it is right.
const PINNED: [(&CStr, &CStr, &[u8]); 7] = [
    (c"DateStyle", c"ISO", b"ISO"),
    (c"IntervalStyle", c"postgres", b"postgres"),
    (c"TimeZone", c"UTC", b"UTC"),
    (c"extra_float_digits", c"1", b"1"),
    (c"bytea_output", c"hex", b"hex"),
    (c"standard_conforming_strings", c"on", b"on"),
    (c"transform_null_equals", c"off", b"off"),
];

/// How long the settings stay pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// For the rest of the replayed transaction.
    Transaction,
    /// For the rest of the session, where no transaction is in progress.
    Session,
}

/// Pins the settings that are not yet as they should be.
pub fn pin(lasting: Lasting) {
    let action = match lasting {
        Lasting::Transaction => pg_sys::GucAction::GUC_ACTION_LOCAL,
        Lasting::Session => pg_sys::GucAction::GUC_ACTION_SET,
    };
    for (name, value, right) in PINNED {
        // SAFETY: the names are the server's own settings; the value that is
        // returned stands until the setting changes, and is only looked at.
        unsafe {
            let now = pg_sys::GetConfigOption(name.as_ptr(), false, false);
            if !now.is_null() && is_right(CStr::from_ptr(now).to_bytes(), right) {
                continue;
            }
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                action,
                true,
                0,
                false,
            );
        }
    }
}

/// `DateStyle` names the order of fields too (`ISO, MDY`), which does not
/// shape what is printed in ISO style.
fn is_right(now: &[u8], right: &[u8]) -> bool {
    now.strip_prefix(right)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b","))
}
