use walferry_protocol::Lsn;

use crate::error::Result;
use crate::sink::{Flush, Sink};
use crate::state::Resume;

/// See [the module](super).
#[derive(Debug)]
pub struct NullSink;

impl Sink for NullSink {
    fn write(&mut self, _events: &[u8]) -> Result<()> {
        Ok(())
    }
    fn boundary(&mut self, _position: Lsn) -> Result<()> {
        Ok(())
    }
    fn begin_flush(&mut self) -> Result<Flush> {
        Ok(Flush::nothing())
    }
    fn rewind(&mut self) -> Result<bool> {
        Ok(true)
    }
    fn resume(&self) -> Option<Resume> {
        None
    }
}
