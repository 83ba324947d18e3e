//! One file being written, plain or as zstd frames.

use std::fs::File;
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Failure, Result};

/// Plain bytes gathered before they become a zstd frame.
const FRAME: usize = 1 << 20;

pub struct Output {
    pub path: PathBuf,
    pub file: Arc<File>,
    /// Bytes in the file.
    length: u64,
    /// Bytes of the file that are whole transactions; a zstd frame ends there.
    boundary: u64,
    packing: Option<Packing>,
    /// Bytes written since the last flush began.
    dirty: bool,
}

struct Packing {
    compressor: zstd::bulk::Compressor<'static>,
    /// Not compressed yet.
    pending: Vec<u8>,
    /// How much of it is whole transactions.
    boundary: usize,
}

impl Output {
    /// `length`: what the file holds; all of it is whole transactions.
    pub fn new(path: PathBuf, file: File, length: u64, zstd: Option<i32>) -> Result<Self> {
        let packing = zstd
            .map(|level| {
                zstd::bulk::Compressor::new(level).map(|compressor| Packing {
                    compressor,
                    pending: Vec::with_capacity(FRAME),
                    boundary: 0,
                })
            })
            .transpose()
            .map_err(|e| Failure::definite(format!("cannot start zstd: {e}")))?;
        Ok(Output {
            path,
            file: Arc::new(file),
            length,
            boundary: length,
            packing,
            dirty: false,
        })
    }

    /// Takes whole events.
    pub fn write(&mut self, events: &[u8]) -> Result<()> {
        match &mut self.packing {
            None => self.append(events),
            Some(packing) => {
                packing.pending.extend_from_slice(events);
                if packing.pending.len() < FRAME {
                    return Ok(());
                }
                // A frame never holds the end of one transaction and the
                // beginning of a large one: the file can be cut between them.
                match packing.boundary {
                    0 => self.pack(usize::MAX),
                    whole => self.pack(whole),
                }
            }
        }
    }

    /// Everything written so far is whole transactions.
    pub fn boundary(&mut self) {
        match &mut self.packing {
            Some(packing) if !packing.pending.is_empty() => {
                packing.boundary = packing.pending.len();
            }
            _ => self.boundary = self.length,
        }
    }

    /// Brings everything up to the last boundary into the file.
    pub fn settle(&mut self) -> Result<()> {
        match self.packing.as_ref().map(|p| p.boundary) {
            None | Some(0) => Ok(()),
            Some(whole) => self.pack(whole),
        }
    }

    /// Drops everything after the last boundary.
    pub fn rewind(&mut self) -> Result<()> {
        if let Some(packing) = &mut self.packing {
            packing.pending.truncate(packing.boundary);
        }
        if self.length > self.boundary {
            self.file
                .set_len(self.boundary)
                .map_err(|e| failed(&self.path, &e))?;
            self.length = self.boundary;
            self.dirty = true;
        }
        Ok(())
    }

    /// Bytes of the file that are whole transactions.
    pub fn whole(&self) -> u64 {
        self.boundary
    }

    /// Bytes written, compressed or not yet.
    pub fn size(&self) -> u64 {
        self.length + self.packing.as_ref().map_or(0, |p| p.pending.len() as u64)
    }

    /// Whether bytes reached the file since this was last asked.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.dirty = true;
        let at = self.length;
        // Counted before it is written: of a write that fails, part may be in
        // the file.
        self.length += bytes.len() as u64;
        self.file
            .write_all_at(bytes, at)
            .map_err(|e| failed(&self.path, &e))
    }

    /// Compresses the first `count` pending bytes as a frame of their own.
    fn pack(&mut self, count: usize) -> Result<()> {
        let Some(packing) = &mut self.packing else {
            return Ok(());
        };
        let count = count.min(packing.pending.len());
        let frame = packing
            .compressor
            .compress(&packing.pending[..count])
            .map_err(|e| failed(&self.path, &e))?;
        packing.pending.drain(..count);
        let whole = packing.boundary >= count && packing.boundary > 0;
        packing.boundary = packing.boundary.saturating_sub(count);
        self.append(&frame)?;
        if whole {
            self.boundary = self.length;
        }
        Ok(())
    }
}

/// Why a write or a flush failed, and what to do.
pub fn failed(path: &Path, error: &Error) -> Failure {
    Failure::definite(format!("cannot write to {}: {error}", path.display()))
        .detail("nothing that is not safely in the file was acknowledged to the server")
        .hint(match error.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge => {
                "free space or raise the limit and start again: delivery goes on where it stopped"
            }
            _ => "mend the cause and start again: delivery goes on where it stopped",
        })
}
