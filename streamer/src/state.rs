//! Durable state: how far delivery got, bound to the source it belongs to.
//!
//! The state's position is never below anything acknowledged to the server:
//! it is saved before the ledger moves. So after a restart the slot's
//! `confirmed_flush_lsn` can only be at or below it; a slot that is ahead was
//! recreated or advanced by somebody else, and changes may be missing.
//!
//! The file holds two records of fixed size that are written in turn, each
//! with a generation and a checksum. A record torn by a crash leaves the other
//! one, and nothing was acknowledged for the torn one yet.

pub mod admission;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use walferry_protocol::Lsn;

use crate::error::{Failure, Result};

/// Who the position belongs to. An LSN means nothing on any other server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `IDENTIFY_SYSTEM`'s `systemid`.
    pub system_identifier: u64,
    pub timeline: u32,
    pub database: String,
    pub slot: String,
    pub plugin: String,
}

impl Identity {
    /// Whether both are the same slot of the same server, before or after a
    /// promotion.
    pub fn same_source(&self, other: &Identity) -> bool {
        self.system_identifier == other.system_identifier
            && self.database == other.database
            && self.slot == other.slot
            && self.plugin == other.plugin
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "slot {:?} (plugin {}) of database {:?} on system {} timeline {}",
            self.slot, self.plugin, self.database, self.system_identifier, self.timeline
        )
    }
}

/// Where the sink goes on after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The sink this is about, as its URL names it without options.
    pub target: String,
    /// The file written last, empty when there was none yet.
    pub file: String,
    /// Bytes of it that are whole, durable transactions.
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub identity: Identity,
    /// Everything up to this LSN was delivered durably.
    #[serde(with = "lsn_text")]
    pub position: Lsn,
    pub sink: Option<Resume>,
}

mod lsn_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use walferry_protocol::Lsn;

    pub fn serialize<S: Serializer>(lsn: &Lsn, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(lsn)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Lsn, D::Error> {
        String::deserialize(input)?
            .parse()
            .map_err(D::Error::custom)
    }
}

const MAGIC: &[u8; 8] = b"WALFSTA\x01";
const RECORD: usize = 8192;
/// magic, generation `u64`, body length `u32`, CRC-32 of generation, length
/// and body `u32`; all little-endian.
const HEADER: usize = 24;

/// The folder a streamer keeps its state in, locked against a second one.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Held for its lock; the system releases it when the process ends,
    /// however it ends.
    _lock: File,
}

impl StateDir {
    /// Creates the folder where it is missing, but not those above it, and
    /// locks it.
    pub fn open(path: &Path) -> Result<Self> {
        match std::fs::create_dir(path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(cannot("create the state folder", path, &e));
            }
            _ => {}
        }
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|e| cannot("open the state folder's lock", &lock_path, &e))?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            // Only for the message; without it the message is still true.
            let _ = lock.read_to_string(&mut holder);
            return Err(Failure::definite(format!(
                "another streamer uses the state folder {}",
                path.display()
            ))
            .detail(match holder.trim() {
                "" => "its lock is held".to_owned(),
                pid => format!("process {pid} holds its lock"),
            })
            .hint("stop the other streamer, or give this one a --state-dir of its own"));
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()));
        written.map_err(|e| cannot("write", &lock_path, &e))?;
        Ok(StateDir {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The state file of a [`StateDir`].
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    file: Option<File>,
    generation: u64,
}

impl StateFile {
    /// Opens the file and reads the newest whole record, if there is a file.
    pub fn open(dir: &StateDir) -> Result<(Self, Option<State>)> {
        let path = dir.path().join("state");
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let state = StateFile {
                    path,
                    file: None,
                    generation: 0,
                };
                return Ok((state, None));
            }
            Err(e) => return Err(cannot("open the state file", &path, &e)),
        };
        let mut bytes = Vec::new();
        (&file)
            .read_to_end(&mut bytes)
            .map_err(|e| cannot("read the state file", &path, &e))?;
        let newest = bytes
            .chunks(RECORD)
            .filter_map(read_record)
            .max_by_key(|(generation, _)| *generation);
        let Some((generation, body)) = newest else {
            return Err(damaged(&path, "neither of its two records is whole"));
        };
        let state = serde_json::from_slice(body).map_err(|e| damaged(&path, &e.to_string()))?;
        let file = StateFile {
            path,
            file: Some(file),
            generation,
        };
        Ok((file, Some(state)))
    }

    /// Durable when it returns.
    pub fn save(&mut self, state: &State) -> Result<()> {
        self.generation += 1;
        let record = write_record(self.generation, state).ok_or_else(|| {
            Failure::definite("the state does not fit its file")
                .detail(format!(
                    "{} holds at most {RECORD} bytes",
                    self.path.display()
                ))
                .hint("use a shorter path for the sink")
        })?;
        match &self.file {
            Some(file) => {
                let at = (self.generation % 2) * RECORD as u64;
                file.write_all_at(&record, at)
                    .and_then(|()| file.sync_data())
                    .map_err(|e| cannot("save the state in", &self.path, &e))
            }
            None => {
                self.file = Some(
                    self.create(&record)
                        .map_err(|e| cannot("create the state file", &self.path, &e))?,
                );
                Ok(())
            }
        }
    }

    /// The first save: written beside and renamed, so that a state file is
    /// there whole or not at all.
    fn create(&self, record: &[u8]) -> std::io::Result<File> {
        let beside = self.path.with_extension("new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&beside)?;
        file.set_len(2 * RECORD as u64)?;
        file.write_all_at(record, (self.generation % 2) * RECORD as u64)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        sync_folder_of(&self.path)?;
        Ok(file)
    }
}

/// Makes a file's name durable: its folder's entry.
pub fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn checksum(generation: u64, body: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&generation.to_le_bytes());
    hash.update(&(body.len() as u32).to_le_bytes());
    hash.update(body);
    hash.finalize()
}

/// `None` when the state is too large for a record.
fn write_record(generation: u64, state: &State) -> Option<Vec<u8>> {
    let body = serde_json::to_vec(state).ok()?;
    if body.len() > RECORD - HEADER {
        return None;
    }
    let mut record = Vec::with_capacity(RECORD);
    record.extend_from_slice(MAGIC);
    record.extend_from_slice(&generation.to_le_bytes());
    record.extend_from_slice(&(body.len() as u32).to_le_bytes());
    record.extend_from_slice(&checksum(generation, &body).to_le_bytes());
    record.extend_from_slice(&body);
    record.resize(RECORD, 0);
    Some(record)
}

/// The twin of [`write_record`]: generation and body, `None` when torn.
fn read_record(record: &[u8]) -> Option<(u64, &[u8])> {
    let rest = record.strip_prefix(MAGIC)?;
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let generation = u64::from_le_bytes(*generation);
    let body = rest.get(..u32::from_le_bytes(*length) as usize)?;
    (checksum(generation, body) == u32::from_le_bytes(*crc)).then_some((generation, body))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::definite(format!("cannot {what} {}: {error}", path.display())).hint(
        "make its folder exist, writable for the user that runs walferry and with space, \
             or choose another with --state-dir",
    )
}

fn damaged(path: &Path, why: &str) -> Failure {
    Failure::definite(format!("the state file {} is damaged", path.display()))
        .detail(why.to_owned())
        .hint(
            "restore it from a copy; or remove it to go on from the slot's confirmed_flush_lsn, \
             with the sink's output moved away",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(position: u64) -> State {
        State {
            identity: Identity {
                system_identifier: u64::MAX - 5,
                timeline: 3,
                database: "größe".into(),
                slot: "s".into(),
                plugin: "walferry".into(),
            },
            position: Lsn(position),
            sink: Some(Resume {
                target: "file:///x".into(),
                file: "x".into(),
                offset: 1 << 40,
            }),
        }
    }

    #[test]
    fn what_was_saved_last_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let (mut file, none) = StateFile::open(&dir).unwrap();
        assert_eq!(none, None);
        for position in 1..=5 {
            file.save(&state(position)).unwrap();
            assert_eq!(StateFile::open(&dir).unwrap().1, Some(state(position)));
        }
    }

    #[test]
    fn a_torn_record_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let (mut file, _) = StateFile::open(&dir).unwrap();
        for position in 1..=4 {
            file.save(&state(position)).unwrap();
        }
        let path = folder.path().join("state");
        let mut bytes = std::fs::read(&path).unwrap();
        // Generation 4 is in record 0.
        bytes[HEADER + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(StateFile::open(&dir).unwrap().1, Some(state(3)));
        // Generation 3 is in record 1.
        bytes[RECORD + 9] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let failure = StateFile::open(&dir).unwrap_err();
        assert!(failure.message.contains("is damaged"), "{failure}");
    }

    #[test]
    fn saving_goes_on_after_a_restart_without_overwriting_the_newest_record() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let (mut file, _) = StateFile::open(&dir).unwrap();
        file.save(&state(1)).unwrap();
        let (mut again, _) = StateFile::open(&dir).unwrap();
        again.save(&state(2)).unwrap();
        let bytes = std::fs::read(folder.path().join("state")).unwrap();
        let generations: Vec<u64> = bytes
            .chunks(RECORD)
            .filter_map(read_record)
            .map(|(generation, _)| generation)
            .collect();
        assert_eq!(generations, [2, 1]);
    }

    #[test]
    fn two_streamers_on_one_state_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDir::open(folder.path()).unwrap();
        let failure = StateDir::open(folder.path()).unwrap_err();
        assert!(failure.message.starts_with("another streamer uses"));
        drop(first);
        StateDir::open(folder.path()).unwrap();
    }

    #[test]
    fn a_state_too_large_for_its_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let (mut file, _) = StateFile::open(&dir).unwrap();
        let mut large = state(1);
        large.identity.database = "x".repeat(RECORD);
        assert!(file.save(&large).is_err());
    }
}
