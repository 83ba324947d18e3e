//! The sink: opening where the state left off, rotation, flushing.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use walferry_protocol::Lsn;

use super::output::{Output, failed};
use super::settings::{Place, Settings, is_rotated_name};
use crate::error::{Failure, Result};
use crate::sink::{Flush, Opening, Sink};
use crate::state::{Resume, sync_folder_of};

/// See [the module](super).
pub struct FileSink {
    settings: Settings,
    output: Output,
    /// When the file was begun, for rotation.
    begun: SystemTime,
    /// The last boundary.
    position: Lsn,
    /// Whether nothing was written since the last boundary.
    between: bool,
    /// Rotated away since the last flush began.
    retired: Vec<Arc<File>>,
    /// Whether files were created or removed since the last flush began.
    names_changed: bool,
}

impl FileSink {
    /// Opens the file the state names and cuts it back, or begins a new one.
    ///
    /// # Errors
    /// Definite: the file is shorter than the state says, or holds something
    /// that the state knows nothing of; the folder cannot be written.
    pub fn open(settings: &Settings, opening: &Opening) -> Result<Self> {
        settings.make_folder()?;
        let (output, begun) = match &opening.resume {
            Some(resume) => resumed(settings, resume)?,
            None => begun(settings, opening.position)?,
        };
        Ok(FileSink {
            settings: settings.clone(),
            output,
            begun,
            position: opening.position,
            between: true,
            retired: Vec::new(),
            names_changed: true,
        })
    }

    fn rotation_is_due(&self) -> bool {
        let Place::Folder {
            rotate_size,
            rotate_every,
            ..
        } = &self.settings.place
        else {
            return false;
        };
        if self.output.size() == 0 {
            return false;
        }
        let age = self.begun.elapsed().unwrap_or(Duration::ZERO);
        self.output.size() >= *rotate_size || rotate_every.is_some_and(|every| age >= every)
    }

    fn rotate(&mut self) -> Result<()> {
        self.output.settle()?;
        let path = self
            .settings
            .folder()
            .join(self.settings.file_name(self.position));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| unusable(&path, &e))?;
        let next = Output::new(path, file, 0, self.settings.zstd)?;
        let mut last = std::mem::replace(&mut self.output, next);
        if last.take_dirty() {
            self.retired.push(last.file);
        }
        self.begun = SystemTime::now();
        self.names_changed = true;
        Ok(())
    }
}

impl Sink for FileSink {
    fn write(&mut self, events: &[u8]) -> Result<()> {
        if self.between && self.rotation_is_due() {
            self.rotate()?;
        }
        self.between = false;
        self.output.write(events)
    }

    fn boundary(&mut self, position: Lsn) -> Result<()> {
        self.between = true;
        self.position = position;
        self.output.boundary();
        Ok(())
    }

    fn begin_flush(&mut self) -> Result<Flush> {
        self.output.settle()?;
        let mut files = std::mem::take(&mut self.retired);
        if self.output.take_dirty() {
            files.push(Arc::clone(&self.output.file));
        }
        let names_changed = std::mem::take(&mut self.names_changed);
        let path = self.output.path.clone();
        Ok(Flush {
            work: Box::new(move || {
                for file in &files {
                    file.sync_data().map_err(|e| failed(&path, &e))?;
                }
                if names_changed {
                    sync_folder_of(&path).map_err(|e| failed(&path, &e))?;
                }
                Ok(())
            }),
            resume: self.resume(),
        })
    }

    fn rewind(&mut self) -> Result<bool> {
        self.between = true;
        self.output.rewind()?;
        Ok(true)
    }

    fn resume(&self) -> Option<Resume> {
        Some(Resume {
            target: self.settings.target(),
            file: self
                .output
                .path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            offset: self.output.whole(),
        })
    }
}

/// Goes on in the file that the state names.
fn resumed(settings: &Settings, resume: &Resume) -> Result<(Output, SystemTime)> {
    let folder = settings.folder();
    let path = folder.join(&resume.file);
    let file = OpenOptions::new().write(true).open(&path).map_err(|e| {
        if e.kind() == std::io::ErrorKind::NotFound {
            gone(
                &path,
                format!(
                    "the state says that {} bytes of it were delivered",
                    resume.offset
                ),
            )
        } else {
            unusable(&path, &e)
        }
    })?;
    let length = file.metadata().map_err(|e| unusable(&path, &e))?.len();
    if length < resume.offset {
        return Err(gone(
            &path,
            format!(
                "it holds {length} bytes, the state says that {} were delivered",
                resume.offset
            ),
        ));
    }
    if length > resume.offset {
        tracing::info!(
            file = %path.display(),
            bytes = length - resume.offset,
            "cut off what a crash left after the last durable commit"
        );
        file.set_len(resume.offset)
            .and_then(|()| file.sync_data())
            .map_err(|e| failed(&path, &e))?;
    }
    if let Place::Folder { .. } = settings.place {
        for name in rotated_names(&folder)? {
            if name > resume.file {
                tracing::info!(
                    file = name,
                    "removed a file begun after the last durable commit"
                );
                let later = folder.join(&name);
                std::fs::remove_file(&later).map_err(|e| unusable(&later, &e))?;
            }
        }
    }
    let begun = file.metadata().and_then(|m| m.created());
    let output = Output::new(path, file, resume.offset, settings.zstd)?;
    Ok((output, begun.unwrap_or_else(|_| SystemTime::now())))
}

/// Begins a file on a first start.
fn begun(settings: &Settings, position: Lsn) -> Result<(Output, SystemTime)> {
    let folder = settings.folder();
    let name = settings.file_name(position);
    let path = folder.join(&name);
    if let Place::Folder { path: folder, .. } = &settings.place {
        let present = rotated_names(folder)?;
        if let Some(newest) = present.last() {
            if !settings.append {
                return Err(foreign(folder, format!("it holds {newest}")));
            }
            if *newest >= name {
                return Err(Failure::definite(format!(
                    "{} would not be the newest file of {}",
                    name,
                    folder.display()
                ))
                .detail(format!("it holds {newest}"))
                .hint("move the files away, or name another folder"));
            }
        }
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| unusable(&path, &e))?;
    let length = file.metadata().map_err(|e| unusable(&path, &e))?.len();
    if length > 0 && !settings.append {
        return Err(foreign(&path, format!("it holds {length} bytes")));
    }
    let output = Output::new(path, file, length, settings.zstd)?;
    Ok((output, SystemTime::now()))
}

/// The files in a folder whose names walferry gives, in order.
fn rotated_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| unusable(folder, &e))? {
        let entry = entry.map_err(|e| unusable(folder, &e))?;
        if let Ok(name) = entry.file_name().into_string()
            && is_rotated_name(&name)
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

pub fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::definite(format!("cannot use {}: {error}", path.display()))
        .hint("make its folder exist and be writable for the user that runs walferry")
}

fn gone(path: &Path, detail: String) -> Failure {
    Failure::definite(format!(
        "{} is not as delivery left it: changes that were acknowledged are gone from it",
        path.display()
    ))
    .detail(detail)
    .hint(
        "put the file back; or, when its changes were taken elsewhere, name another file for --sink: \
         delivery then goes on there from the state's position",
    )
}

fn foreign(path: &Path, detail: String) -> Failure {
    Failure::definite(format!(
        "{} is not empty, and the state knows nothing of what is in it",
        path.display()
    ))
    .detail(detail)
    .hint("move it away, name another file, give the --state-dir it was written with, or add ?append=true to the sink's URL to write after what is there")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Target;

    fn open(url: &str, resume: Option<Resume>, position: u64) -> Result<Box<dyn Sink>> {
        Target::parse(url)?.open(&Opening {
            resume,
            position: Lsn(position),
        })
    }

    fn flush(sink: &mut dyn Sink) -> Resume {
        let flush = sink.begin_flush().unwrap();
        (flush.work)().unwrap();
        flush.resume.unwrap()
    }

    #[test]
    fn a_torn_tail_is_cut_off_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        let url = format!("file://{}", path.display());
        let mut sink = open(&url, None, 1).unwrap();
        sink.write(b"one\n").unwrap();
        sink.boundary(Lsn(2)).unwrap();
        let resume = flush(&mut *sink);
        sink.write(b"two\n").unwrap();
        sink.boundary(Lsn(3)).unwrap();
        sink.write(b"thr").unwrap();
        drop(sink);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\nthr");
        let mut sink = open(&url, Some(resume), 2).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
        sink.write(b"two\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_shorter_or_a_foreign_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        let url = format!("file://{}", path.display());
        std::fs::write(&path, b"mine\n").unwrap();
        let Err(failure) = open(&url, None, 1) else {
            panic!("a foreign file was opened");
        };
        assert!(failure.message.contains("not empty"), "{failure}");
        let mut sink = open(&format!("{url}?append=true"), None, 1).unwrap();
        sink.write(b"x\n").unwrap();
        sink.boundary(Lsn(2)).unwrap();
        let resume = flush(&mut *sink);
        assert_eq!(resume.offset, 7);
        std::fs::write(&path, b"mine\n").unwrap();
        let Err(failure) = open(&url, Some(resume), 1) else {
            panic!("a file cut by somebody else was opened");
        };
        assert!(failure.message.contains("not as delivery left it"));
    }

    #[test]
    fn rotation_happens_between_transactions_and_names_sort_in_commit_order() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/?rotate-size=6B", folder.path().display());
        let mut sink = open(&url, None, 0x10).unwrap();
        for n in 0..4u64 {
            sink.write(format!("a{n}\n").as_bytes()).unwrap();
            sink.write(format!("b{n}\n").as_bytes()).unwrap();
            sink.write(format!("c{n}\n").as_bytes()).unwrap();
            sink.boundary(Lsn(0x20 + n)).unwrap();
        }
        let resume = flush(&mut *sink);
        let names = rotated_names(folder.path()).unwrap();
        assert_eq!(names.len(), 4);
        assert_eq!(names[0], "changes-0000000000000010.jsonl");
        assert_eq!(resume.file, names[3]);
        for (n, name) in names.iter().enumerate() {
            assert_eq!(
                std::fs::read_to_string(folder.path().join(name)).unwrap(),
                format!("a{n}\nb{n}\nc{n}\n")
            );
        }
    }

    #[test]
    fn a_file_begun_after_the_last_durable_commit_is_removed_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/?rotate-size=2B", folder.path().display());
        let mut sink = open(&url, None, 1).unwrap();
        sink.write(b"one\n").unwrap();
        sink.boundary(Lsn(2)).unwrap();
        let resume = flush(&mut *sink);
        sink.write(b"two\n").unwrap();
        sink.boundary(Lsn(3)).unwrap();
        drop(sink);
        assert_eq!(rotated_names(folder.path()).unwrap().len(), 2);
        drop(open(&url, Some(resume.clone()), 2).unwrap());
        assert_eq!(rotated_names(folder.path()).unwrap(), [resume.file]);
    }

    #[test]
    fn a_compressed_file_cut_at_any_flush_decompresses_to_whole_transactions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zst");
        let url = format!("file://{}?compress=zstd", path.display());
        let mut sink = open(&url, None, 1).unwrap();
        let mut expected = Vec::new();
        let mut cuts = Vec::new();
        for n in 0..20u64 {
            // Every fifth transaction is larger than a frame.
            let lines = if n % 5 == 4 { 200_000 } else { 10 };
            for line in 0..lines {
                let text = format!("{n} {line}\n");
                sink.write(text.as_bytes()).unwrap();
                expected.extend_from_slice(text.as_bytes());
            }
            sink.boundary(Lsn(n + 2)).unwrap();
            if n % 3 == 0 {
                cuts.push((flush(&mut *sink).offset, expected.len()));
            }
        }
        // A transaction that is not whole, larger than two frames.
        for line in 0..300_000 {
            sink.write(format!("x {line}\n").as_bytes()).unwrap();
        }
        cuts.push((flush(&mut *sink).offset, expected.len()));
        assert!(sink.rewind().unwrap());
        drop(sink);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, cuts.last().unwrap().0);
        for (offset, length) in cuts {
            let plain = zstd::decode_all(&bytes[..offset as usize]).unwrap();
            assert_eq!(plain, expected[..length]);
        }
    }
}
