//! `format 'json'`; not offered by the options yet.
use super::change::RowChange;
use super::decoder::Decoder;
use super::failure::Outcome;
use super::message::LogicalMessage;
use super::options::{Given, Options};
use pgrx::pg_sys;
#[derive(Clone, Debug, Default)]
pub struct JsonOptions {}
#[derive(Clone, Debug, Default)]
pub struct Json {}
#[derive(Clone, Debug, Default)]
pub struct Names {}
impl Options {
    pub fn read_wal2json(&mut self, _option: &Given) -> Outcome<bool> {
        Ok(false)
    }
    pub fn check_json(&mut self) -> Outcome {
        Ok(())
    }
}
impl Decoder {
    pub unsafe fn json_begin(&mut self, _txn: *const pg_sys::ReorderBufferTXN) -> Outcome {
        Ok(())
    }
    pub unsafe fn json_commit(&mut self, _txn: *const pg_sys::ReorderBufferTXN) -> Outcome<bool> {
        Ok(true)
    }
    pub unsafe fn json_prepared(
        &mut self,
        _: &str,
        _txn: *const pg_sys::ReorderBufferTXN,
    ) -> Outcome {
        Ok(())
    }
    pub fn json_change(&mut self, _: RowChange<'_>) -> Outcome {
        Ok(())
    }
    pub fn json_truncate(&mut self) -> Outcome {
        Ok(())
    }
    pub fn json_message(&mut self, _: &LogicalMessage<'_>, _: &str) -> Outcome {
        Ok(())
    }
}
