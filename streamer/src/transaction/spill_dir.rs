//! The folder that transactions in progress overflow into.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::error::{Failure, Result};

/// What folders under `$TMPDIR` are called.
const PREFIX: &str = "walferry-spill-";

/// What it holds is worth nothing after the process ends, and is removed at
/// start. Rows are in it, so nobody else may read it.
#[derive(Debug)]
pub struct SpillDir {
    path: PathBuf,
    /// Bytes that may be in it at a time.
    limit: Option<u64>,
    used: AtomicU64,
    next: AtomicU64,
    /// This process's own folder under `$TMPDIR`, removed with it.
    _temporary: Option<Temporary>,
}

/// Locked as long as its process lives: a folder that can be locked was left
/// behind.
#[derive(Debug)]
struct Temporary {
    folder: TempDir,
    _lock: File,
}

impl Temporary {
    fn new() -> std::io::Result<Self> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let lock = File::open(folder.path())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Temporary {
            folder,
            _lock: lock,
        })
    }
}

/// Removes the folders of processes that were killed. One that can't be
/// opened, locked or removed is another user's or in use, and stays.
fn remove_abandoned(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(lock) = File::open(entry.path())
            && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl SpillDir {
    /// Opens the folder and removes what an earlier process left in it.
    /// `path` is `None` for a folder of this process's own under `$TMPDIR`.
    ///
    /// # Errors
    /// Definite: the folder can't be made, read or cleared.
    pub fn open(path: Option<&Path>, limit: Option<u64>) -> Result<Self> {
        let temporary = match path {
            Some(_) => None,
            None => Some(Temporary::new().map_err(|e| unusable(&std::env::temp_dir(), &e))?),
        };
        let path = match (path, &temporary) {
            (Some(path), _) => path.to_owned(),
            (None, Some(temporary)) => temporary.folder.path().to_owned(),
            (None, None) => std::env::temp_dir(),
        };
        let clear = || -> std::io::Result<()> {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)?;
            for entry in std::fs::read_dir(&path)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().ends_with(".spill") {
                    std::fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        clear().map_err(|e| unusable(&path, &e))?;
        Ok(SpillDir {
            path,
            limit,
            used: AtomicU64::new(0),
            next: AtomicU64::new(0),
            _temporary: temporary,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes spilled at the moment.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A new file in it.
    pub(super) fn create(&self) -> Result<(PathBuf, File)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{number}.spill"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| self.full(&e))?;
        Ok((path, file))
    }

    /// Counts bytes that are about to be written.
    ///
    /// # Errors
    /// Definite: they would be more than the limit.
    pub(super) fn take(&self, bytes: u64) -> Result<()> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        match self.limit {
            Some(limit) if used > limit => {
                self.give_back(bytes);
                Err(Failure::definite(format!(
                    "transactions in progress need more than the spill limit of {limit} bytes"
                ))
                .detail("nothing of them was acknowledged; they come again whole")
                .hint("raise --spill-limit, or let the server keep them: --streaming off"))
            }
            _ => Ok(()),
        }
    }

    /// Bytes that [`SpillDir::take`] counted are gone.
    pub(super) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn full(&self, error: &std::io::Error) -> Failure {
        Failure::definite(format!(
            "cannot spill a transaction to {}: {error}",
            self.path.display()
        ))
        .detail("nothing of it was acknowledged; it comes again whole")
        .hint("free space, name another folder with --spill-dir, or let the server keep transactions in progress: --streaming off")
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::definite(format!(
        "cannot use the spill folder {}: {error}",
        path.display()
    ))
    .hint("make it writable, or name another with --spill-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_process_spilled_is_removed_at_start() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("7.spill"), b"old").unwrap();
        std::fs::write(folder.path().join("kept"), b"x").unwrap();
        SpillDir::open(Some(folder.path()), None).unwrap();
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn onlyfolders_of_processes_that_are_gone_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let in_use = parent.path().join(format!("{PREFIX}alive"));
        let abandoned = parent.path().join(format!("{PREFIX}killed"));
        let other = parent.path().join("other");
        for folder in [&in_use, &abandoned, &other] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("0.spill"), b"rows").unwrap();
        }
        let lock = File::open(&in_use).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        remove_abandoned(parent.path());
        assert!(in_use.exists() && other.exists() && !abandoned.exists());
    }

    #[test]
    fn a_temporaryfolder_is_its_owners_alone_and_goes_with_it() {
        let dir = SpillDir::open(None, None).unwrap();
        let path = dir.path().to_owned();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        drop(dir);
        assert!(!path.exists());
    }
}
