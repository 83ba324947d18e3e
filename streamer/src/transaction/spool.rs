//! Frames of a transaction that is not finished.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::spill_dir::SpillDir;
use crate::error::{Failure, Result};

/// Frames are gathered in pieces of about this size.
const CHUNK: usize = 1 << 20;

/// Frames in the order they came: those that were spilled first, then those
/// still in memory. Each is its length as `u32` and its bytes.
#[derive(Debug)]
pub struct Spool {
    chunks: Vec<Vec<u8>>,
    in_memory: usize,
    spilled: Option<Spilled>,
}

#[derive(Debug)]
struct Spilled {
    path: PathBuf,
    file: File,
    length: u64,
    dir: Arc<SpillDir>,
}

impl Drop for Spilled {
    fn drop(&mut self) {
        self.dir.give_back(self.length);
        // The next start removes it if this fails.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Spool {
    pub fn new() -> Self {
        Spool {
            chunks: Vec::new(),
            in_memory: 0,
            spilled: None,
        }
    }

    /// Copies a frame in: a slice would keep the whole read buffer alive.
    pub fn push(&mut self, frame: &[u8]) {
        let needed = 4 + frame.len();
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() + needed <= CHUNK => append(chunk, frame),
            _ => {
                let mut chunk = Vec::with_capacity(needed);
                append(&mut chunk, frame);
                self.chunks.push(chunk);
            }
        }
        self.in_memory += needed;
    }

    /// Bytes held in memory.
    pub fn in_memory(&self) -> usize {
        self.in_memory
    }

    /// Moves what is in memory to the file.
    pub fn spill(&mut self, dir: &Arc<SpillDir>) -> Result<()> {
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => {
                let (path, file) = dir.create()?;
                none.insert(Spilled {
                    path,
                    file,
                    length: 0,
                    dir: Arc::clone(dir),
                })
            }
        };
        for chunk in self.chunks.drain(..) {
            dir.take(chunk.len() as u64)?;
            spilled.length += chunk.len() as u64;
            spilled.file.write_all(&chunk).map_err(|e| dir.full(&e))?;
        }
        self.in_memory = 0;
        Ok(())
    }

    /// Reads the frames back, from the first.
    pub fn replay(mut self) -> Result<Replay> {
        let file = match &mut self.spilled {
            Some(spilled) => {
                let dir = Arc::clone(&spilled.dir);
                let file = spilled
                    .file
                    .seek(SeekFrom::Start(0))
                    .and_then(|_| spilled.file.try_clone())
                    .map_err(|e| dir.full(&e))?;
                Some((BufReader::with_capacity(CHUNK / 4, file), spilled.length))
            }
            None => None,
        };
        Ok(Replay {
            file,
            memory: std::mem::take(&mut self.chunks).into_iter(),
            chunk: Bytes::new(),
            spool: self,
        })
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self::new()
    }
}

fn append(chunk: &mut Vec<u8>, frame: &[u8]) {
    chunk.extend_from_slice(&(frame.len() as u32).to_le_bytes());
    chunk.extend_from_slice(frame);
}

/// The frames of a spool, each given back once.
#[derive(Debug)]
pub struct Replay {
    file: Option<(BufReader<File>, u64)>,
    memory: std::vec::IntoIter<Vec<u8>>,
    chunk: Bytes,
    /// Keeps the file until all of it was read.
    spool: Spool,
}

impl Replay {
    pub fn next_frame(&mut self) -> Result<Option<Bytes>> {
        if let Some((reader, left)) = &mut self.file {
            if *left > 0 {
                let frame = read_frame(reader, left).map_err(|e| {
                    let path = self.spool.spilled.as_ref().map(|s| s.path.display());
                    Failure::definite(format!("cannot read a spilled transaction back: {e}"))
                        .detail(path.map_or_else(String::new, |path| path.to_string()))
                        .hint("start again: nothing of it was acknowledged, it comes again whole")
                })?;
                return Ok(Some(frame));
            }
            self.file = None;
        }
        if self.chunk.is_empty() {
            match self.memory.next() {
                Some(chunk) => self.chunk = Bytes::from(chunk),
                None => return Ok(None),
            }
        }
        let length = self.chunk.split_to(4);
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        Ok(Some(self.chunk.split_to(length as usize)))
    }
}

fn read_frame(reader: &mut BufReader<File>, left: &mut u64) -> std::io::Result<Bytes> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    let mut frame = vec![0; length as usize];
    reader.read_exact(&mut frame)?;
    *left -= 4 + u64::from(length);
    Ok(Bytes::from(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(spool: Spool) -> Vec<Vec<u8>> {
        let mut replay = spool.replay().unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = replay.next_frame().unwrap() {
            frames.push(frame.to_vec());
        }
        frames
    }

    #[test]
    fn frames_come_back_in_order_across_the_spill() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Arc::new(SpillDir::open(Some(folder.path()), None).unwrap());
        let mut spool = Spool::new();
        let mut expected = Vec::new();
        for n in 0..2000usize {
            let frame = vec![n as u8; n];
            spool.push(&frame);
            expected.push(frame);
            if n == 700 || n == 1500 {
                spool.spill(&dir).unwrap();
                assert_eq!(spool.in_memory(), 0);
                assert!(dir.used() > 0);
            }
        }
        assert_eq!(frames(spool), expected);
        assert_eq!(dir.used(), 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_spill_limit_is_a_failure_that_names_the_option() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Arc::new(SpillDir::open(Some(folder.path()), Some(100)).unwrap());
        let mut spool = Spool::new();
        spool.push(&[0; 200]);
        let failure = spool.spill(&dir).unwrap_err();
        assert!(failure.hint.unwrap().contains("--spill-limit"));
    }
}
