//! The output plugin on real servers: what it writes for what SQL does.

mod encodings;
mod events;
mod json;
mod nasty;
mod newer_servers;
mod options;
mod rows;
mod size;
mod streaming;
mod transactions;
mod walsender;
