use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::Duration;

use walferry_protocol::Lsn;

use crate::error::{Failure, Result};
use crate::sink::{Flush, Sink};
use crate::state::Resume;

/// Held while lines are written: the slots of a run share the descriptor.
static WRITING: Mutex<()> = Mutex::new(());

/// See [the module](super). Writes to the descriptor itself, without a buffer
/// of its own: what was written has left the process.
#[derive(Debug)]
pub struct StdoutSink {
    out: File,
}

impl StdoutSink {
    /// # Errors
    /// When standard output is closed.
    pub fn open() -> Result<Self> {
        let out = std::io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| Failure::definite(format!("cannot use standard output: {e}")))?;
        Ok(StdoutSink { out: out.into() })
    }
}

impl Sink for StdoutSink {
    fn write(&mut self, events: &[u8]) -> Result<()> {
        // Whole events, so whole lines, whichever slots they are of.
        let _whole = WRITING
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut rest = events;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // A terminal that another program left in non-blocking mode.
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                    return Err(
                        Failure::definite("the reader of standard output is gone").detail(
                            "only what was written in whole transactions is acknowledged; \
                         the rest comes again at the next start",
                        ),
                    );
                }
                Err(e) => {
                    return Err(Failure::definite(format!(
                        "cannot write to standard output: {e}"
                    )));
                }
            }
        }
        Ok(())
    }
    fn boundary(&mut self, _position: Lsn) -> Result<()> {
        Ok(())
    }
    fn begin_flush(&mut self) -> Result<Flush> {
        Ok(Flush::nothing())
    }
    fn rewind(&mut self) -> Result<bool> {
        Ok(false)
    }
    fn resume(&self) -> Option<Resume> {
        None
    }
}
