//! The store of prepared transactions.
//!
//! With a state folder a PREPARE's rows are fsynced in it before its position
//! is accepted, so acknowledging the PREPARE is safe. Without one the rows are
//! only kept for the life of the process, and the ledger is held at the
//! PREPARE until its COMMIT or ROLLBACK PREPARED is durable.
//!
//! Everything here may happen twice: after a restart the server sends a
//! PREPARE again, or its end, or both.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use walferry_protocol::{Lsn, Prepared};

use super::Dialect;
use super::prepared_file::{Head, Reader, Writer, cannot, mark_finished};
use crate::error::{Failure, Result};
use crate::ledger::Ledger;
use crate::state::Identity;

/// What names a prepared transaction: a gid alone can be used again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub xid: u32,
    pub gid: String,
}

impl Key {
    pub fn of(prepared: &Prepared) -> Self {
        Key {
            xid: prepared.xid,
            gid: prepared.gid.clone(),
        }
    }

    fn hold(&self) -> u64 {
        u64::from(self.xid)
    }
}

/// See [the module](self).
pub struct PreparedStore {
    folder: PathBuf,
    durable: bool,
    identity: Identity,
    ledger: Arc<Ledger>,
    entries: Mutex<HashMap<Key, PathBuf>>,
}

impl PreparedStore {
    /// `state_dir`: where rows are kept durably. Without one they go to
    /// `spill_dir`, which does not outlive the process. Entries whose end was
    /// delivered at or before `position` are removed.
    ///
    /// # Errors
    /// Definite: an entry is damaged, or of another server.
    pub fn open(
        state_dir: Option<&Path>,
        spill_dir: &Path,
        identity: &Identity,
        position: Lsn,
        ledger: Arc<Ledger>,
    ) -> Result<Self> {
        let folder = match state_dir {
            Some(dir) => dir.join("prepared"),
            None => spill_dir.to_owned(),
        };
        let store = PreparedStore {
            folder,
            durable: state_dir.is_some(),
            identity: identity.clone(),
            ledger,
            entries: Mutex::new(HashMap::new()),
        };
        if store.durable {
            store.load(position)?;
        }
        Ok(store)
    }

    fn load(&self, position: Lsn) -> Result<()> {
        let failed = |e: std::io::Error| cannot(&self.folder, &e);
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        crate::state::sync_folder_of(&self.folder).map_err(failed)?;
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            match path.extension().and_then(|e| e.to_str()) {
                // Half written when the process ended: its PREPARE was not
                // acknowledged.
                Some("new") => std::fs::remove_file(&path).map_err(failed)?,
                Some("prepared") => self.load_one(path, position)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn load_one(&self, path: PathBuf, position: Lsn) -> Result<()> {
        let Head {
            finished,
            identity,
            prepared,
        } = Reader::head(&path)?;
        if !identity.same_source(&self.identity) {
            return Err(Failure::definite(format!(
                "the stored prepared transaction {} is of another source",
                path.display()
            ))
            .detail(format!(
                "it came from {identity}, this is {}",
                self.identity
            ))
            .hint("give each slot a --state-dir of its own"));
        }
        if finished != Lsn::INVALID && finished <= position {
            return std::fs::remove_file(&path).map_err(|e| cannot(&path, &e));
        }
        self.entries().insert(Key::of(&prepared), path);
        Ok(())
    }

    /// Begins to store the rows of a PREPARE.
    pub fn begin(&self, dialect: &Dialect, prepared: &Prepared) -> Result<Writer> {
        let name = format!("{}-{:016X}.prepared", prepared.xid, prepared.end_lsn.0);
        Writer::create(self.folder.join(name), &self.identity, dialect, prepared)
    }

    /// All rows of the PREPARE are written: makes them safe, or holds the
    /// ledger. Only after this may the PREPARE's position be accepted.
    pub fn finish(
        &self,
        writer: Writer,
        dialect: &Dialect,
        prepared: &Prepared,
        aborted: &HashSet<u32>,
    ) -> Result<()> {
        let key = Key::of(prepared);
        if !self.durable {
            self.ledger.hold(key.hold(), prepared.prepare_lsn);
        }
        let path = writer.finish(dialect, aborted, self.durable)?;
        crate::failpoint::reached("prepared-stored");
        let replaced = self.entries().insert(key, path.clone());
        match replaced {
            Some(old) if old != path => std::fs::remove_file(&old).map_err(|e| cannot(&old, &e)),
            _ => Ok(()),
        }
    }

    /// The rows of a transaction whose COMMIT PREPARED, ending at `end_lsn`,
    /// is about to be delivered.
    ///
    /// # Errors
    /// Definite: there are none. The PREPARE was acknowledged by somebody who
    /// did not keep its rows, and the server does not send them again.
    pub fn open_for_commit(&self, key: &Key, end_lsn: Lsn) -> Result<Reader> {
        let path = self.entries().get(key).cloned();
        let Some(path) = path else {
            return Err(Failure::definite(format!(
                "the rows of prepared transaction {:?} are missing",
                key.gid
            ))
            .detail(format!(
                "its COMMIT PREPARED at {end_lsn} came (xid {}), but its PREPARE was acknowledged by another \
                 consumer of the slot or under another state folder, and the server does not send the rows again",
                key.xid
            ))
            .hint(
                "start with the --state-dir that was used at the PREPARE; or, when that is lost, make a new slot \
                 and take a new copy of the tables",
            ));
        };
        self.finished(key, end_lsn)?;
        Reader::open(&path)
    }

    /// The COMMIT or ROLLBACK PREPARED that ends at `end_lsn` is on its way.
    pub fn finished(&self, key: &Key, end_lsn: Lsn) -> Result<()> {
        match self.entries().get(key) {
            Some(path) => mark_finished(path, end_lsn).map_err(|e| cannot(path, &e)),
            None => Ok(()),
        }
    }

    /// The end of the transaction is durable.
    pub fn remove(&self, key: &Key) -> Result<()> {
        let removed = self.entries().remove(key);
        if let Some(path) = removed {
            std::fs::remove_file(&path).map_err(|e| cannot(&path, &e))?;
        }
        self.ledger.release(key.hold());
        Ok(())
    }

    /// How many wait for their end.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, PathBuf>> {
        self.entries.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::native::Native;
    use walferry_protocol::{
        Context, Flags, Frame, Message, RecordTag, Start, close_record, encode_frame,
        encode_message, open_change,
    };

    fn identity() -> Identity {
        Identity {
            system_identifier: 1,
            timeline: 1,
            database: "d".into(),
            slot: "s".into(),
            plugin: "walferry".into(),
        }
    }

    fn dialect() -> Dialect {
        let start = Start {
            server_version: 150_000,
            system_identifier: 1,
            database_oid: 5,
            database: "d".into(),
            server_encoding: "UTF8".into(),
            big_endian: false,
            streaming: true,
            two_phase: true,
            plugin_version: "0.1.0".into(),
        };
        let frame = encode_frame(&Context::Start(start.clone()), Flags(0), &[], &[]);
        assert!(Frame::decode(&frame).is_ok());
        Dialect::Native(Native::new(start, &frame))
    }

    fn prepared(gid: &str) -> Prepared {
        Prepared {
            xid: 77,
            prepare_lsn: Lsn(100),
            end_lsn: Lsn(200),
            prepare_time: 0,
            gid: gid.into(),
            origin: None,
        }
    }

    fn record(content: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        open_change(&mut record, RecordTag::Message, Some(77), Lsn(90), 0);
        let message = Message {
            prefix: "p",
            content,
        };
        encode_message(&mut record, message);
        close_record(&mut record);
        record
    }

    fn store(folder: &Path, position: u64, ledger: &Arc<Ledger>) -> PreparedStore {
        PreparedStore::open(
            Some(folder),
            folder,
            &identity(),
            Lsn(position),
            Arc::clone(ledger),
        )
        .unwrap()
    }

    fn put(store: &PreparedStore, prepared: &Prepared) {
        let dialect = dialect();
        let mut writer = store.begin(&dialect, prepared).unwrap();
        writer.records(&dialect, &record(b"one"), true).unwrap();
        writer.records(&dialect, &record(b"two"), true).unwrap();
        let aborted = HashSet::from([78]);
        store.finish(writer, &dialect, prepared, &aborted).unwrap();
    }

    #[test]
    fn rows_stored_at_prepare_survive_a_restart_until_their_end_is_durable() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::new(Lsn(0)));
        put(&store(folder.path(), 0, &ledger), &prepared("g"));
        let again = store(folder.path(), 200, &ledger);
        let key = Key::of(&prepared("g"));
        let mut reader = again.open_for_commit(&key, Lsn(300)).unwrap();
        assert_eq!(reader.head.prepared, prepared("g"));
        assert_eq!(reader.aborted, HashSet::from([78]));
        assert_eq!(reader.dialect.sender(), dialect().sender());
        for text in [b"one", b"two"] {
            let (records, streamed) = reader.next_records().unwrap().unwrap();
            assert!(streamed);
            assert_eq!(records, record(text));
        }
        assert!(reader.next_records().unwrap().is_none());
        // Its end was on its way, not durable: after a crash it is still there.
        assert_eq!(store(folder.path(), 299, &ledger).len(), 1);
        // Durable, but the process ended before the removal.
        assert_eq!(store(folder.path(), 300, &ledger).len(), 0);
        assert_eq!(
            std::fs::read_dir(folder.path().join("prepared"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn a_prepare_that_comes_twice_is_stored_once() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::new(Lsn(0)));
        let store = store(folder.path(), 0, &ledger);
        put(&store, &prepared("g"));
        put(&store, &prepared("g"));
        assert_eq!(store.len(), 1);
        store.remove(&Key::of(&prepared("g"))).unwrap();
        store.remove(&Key::of(&prepared("g"))).unwrap();
    }

    #[test]
    fn a_commit_prepared_without_rows_is_a_failure_that_explains() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::new(Lsn(0)));
        let store = store(folder.path(), 0, &ledger);
        let Err(failure) = store.open_for_commit(&Key::of(&prepared("g")), Lsn(300)) else {
            panic!("rows came from nowhere");
        };
        assert!(failure.message.contains("\"g\" are missing"), "{failure}");
    }

    #[test]
    fn a_damaged_entry_is_never_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::new(Lsn(0)));
        let store = store(folder.path(), 0, &ledger);
        put(&store, &prepared("g"));
        let path = store.entries().values().next().unwrap().clone();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 20;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(
            store
                .open_for_commit(&Key::of(&prepared("g")), Lsn(300))
                .is_err()
        );
    }

    #[test]
    fn without_a_state_folder_the_ledger_waits_at_the_prepare() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::new(Lsn(50)));
        let store = PreparedStore::open(
            None,
            folder.path(),
            &identity(),
            Lsn(0),
            Arc::clone(&ledger),
        )
        .unwrap();
        put(&store, &prepared("g"));
        ledger.accept(Lsn(500));
        ledger.durable_through(ledger.candidate());
        assert_eq!(ledger.flush_lsn(), Lsn(100));
        store.remove(&Key::of(&prepared("g"))).unwrap();
        assert_eq!(ledger.flush_lsn(), Lsn(500));
    }
}
