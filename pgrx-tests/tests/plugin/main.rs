//! The output plugin on real servers: encodings, sizes, the format json,
//! definitions of odd tables, SQL of every kind. (What it does with values,
//! catalogs, streams and options otherwise is in `backend_*.rs`.)

mod encodings;
mod events;
mod install;
mod json;
mod nasty;
mod rows;
mod size;
