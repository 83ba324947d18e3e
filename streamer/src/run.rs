//! `walferry run`.
