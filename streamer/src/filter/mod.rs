//! What goes through of a table's changes: rows by a condition, UPDATEs by
//! what they changed, operations, columns. docs/filters.md is the user's page.
//!
//! A condition is read once ([`predicate`]), made one of each definition of a
//! table that comes along ([`compile`]), and asked of each row ([`evaluate`])
//! between decoding and encoding ([`RowFilter::apply`]). It means what it
//! would mean on the server, whichever plugin the rows come from. Events keep
//! their ids: those were counted before.

pub mod calendar;
mod cast;
pub mod compile;
pub mod decimal;
pub mod evaluate;
mod examine;
pub mod failing;
mod image;
pub mod input;
pub mod like;
mod moment;
pub mod operators;
pub mod predicate;
pub mod push;
mod rules;
mod stage;
pub mod value;

pub use examine::{Knowledge, examine};
pub use predicate::Predicate;
pub use rules::{Operations, Rules, TableRule, where_clause};
pub use stage::{Outcome, RowFilter, table_of};
