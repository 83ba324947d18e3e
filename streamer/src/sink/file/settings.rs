//! What a `file:` URL may say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use walferry_protocol::Lsn;

use super::writer::unusable;
use crate::error::{Failure, Result};
use crate::sink::url::{Options, decode};

/// Stands for the slot's name in a path.
const SLOT: &str = "{slot}";

const OPTIONS: &[&str] = &["rotate-size", "rotate-every", "compress", "append"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub place: Place,
    /// Compression level when compressed.
    pub zstd: Option<i32>,
    /// Add to a file or folder that holds what the state knows nothing of.
    pub append: bool,
    /// The folder is a slot's own, inside the one that was named.
    in_named_folder: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// One file that grows.
    File(PathBuf),
    /// A folder of files.
    Folder {
        path: PathBuf,
        /// Rotate once a file holds this many bytes.
        rotate_size: u64,
        /// Rotate once a file is this old.
        rotate_every: Option<Duration>,
    },
}

impl Settings {
    pub fn parse(place: &str, mut options: Options) -> Result<Self> {
        let path = place
            .strip_prefix("file://")
            .filter(|path| path.starts_with('/'))
            .ok_or_else(|| {
                Failure::usage(format!("{place} does not name an absolute path")).hint(
                    "write file:///folder/name.jsonl for one file, file:///folder/ for rotated ones",
                )
            })?;
        let path = decode(path)?;
        let rotate_size = options.take_size("rotate-size")?;
        let rotate_every = options.take_duration("rotate-every")?;
        let zstd = match options.take("compress").as_deref() {
            None | Some("none") => None,
            Some("zstd") => Some(3),
            Some(other) => {
                return Err(Failure::usage(format!("unknown compression {other:?}"))
                    .hint("use compress=zstd or compress=none"));
            }
        };
        let append = options.take_flag("append")?;
        options.finish("file", OPTIONS)?;
        let folder = path.ends_with('/') || Path::new(&path).is_dir();
        let place = if folder {
            Place::Folder {
                path: PathBuf::from(path),
                rotate_size: rotate_size.unwrap_or(1 << 30),
                rotate_every,
            }
        } else if rotate_size.is_some() || rotate_every.is_some() {
            return Err(Failure::usage("only files in a folder are rotated")
                .hint(format!("write file://{path}/ with a slash at its end")));
        } else {
            Place::File(PathBuf::from(path))
        };
        Ok(Settings {
            place,
            zstd,
            append,
            in_named_folder: false,
        })
    }

    fn path(&self) -> &Path {
        match &self.place {
            Place::File(path) | Place::Folder { path, .. } => path,
        }
    }

    /// See [`crate::sink::Target::of_slot`].
    pub fn of_slot(&self, slot: Option<&str>, several: bool) -> Result<Self> {
        let mut own = self.clone();
        let path = match &mut own.place {
            Place::File(path) | Place::Folder { path, .. } => path,
        };
        let text = path.to_string_lossy().into_owned();
        match (slot, text.contains(SLOT)) {
            (Some(slot), true) => *path = PathBuf::from(text.replace(SLOT, slot)),
            (None, true) => {
                return Err(Failure::usage(format!(
                    "the sink's {SLOT} is a slot's name, and a temporary slot has none"
                ))
                .hint("name a slot with --slot, or write a file's name"));
            }
            (Some(slot), false) if several => match &mut own.place {
                Place::Folder { path, .. } => {
                    path.push(slot);
                    own.in_named_folder = true;
                }
                Place::File(path) => {
                    let (stem, end) = text.rsplit_once('.').unwrap_or((&text, "jsonl"));
                    return Err(Failure::usage(format!(
                        "several slots can't be written to one file, {}",
                        path.display()
                    ))
                    .hint(format!(
                        "write file://{stem}.{SLOT}.{end} for a file a slot, or name a folder"
                    )));
                }
            },
            _ => {}
        }
        Ok(own)
    }

    /// What the state knows this sink by.
    pub fn target(&self) -> String {
        format!("file://{}", self.path().display())
    }

    /// A folder beside the file, a hidden one in the folder.
    pub fn default_state_dir(&self) -> PathBuf {
        match &self.place {
            Place::File(path) => {
                let mut name = path.as_os_str().to_owned();
                name.push(".walferry");
                PathBuf::from(name)
            }
            Place::Folder { path, .. } => path.join(".walferry"),
        }
    }

    /// Makes the folder of rotated files, but not those above it.
    pub fn make_folder(&self) -> Result<()> {
        let Place::Folder { path, .. } = &self.place else {
            return Ok(());
        };
        let make = |path: &Path| match std::fs::create_dir(path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(unusable(path, &e)),
            _ => Ok(()),
        };
        match path.parent() {
            Some(named) if self.in_named_folder => make(named)?,
            _ => {}
        }
        make(path)
    }

    /// The folder that the files are in.
    pub fn folder(&self) -> PathBuf {
        match &self.place {
            Place::Folder { path, .. } => path.clone(),
            Place::File(path) => match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("/"),
            },
        }
    }

    /// The name of a file that begins after `position`.
    pub fn file_name(&self, position: Lsn) -> String {
        match &self.place {
            Place::File(path) => path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            Place::Folder { .. } => {
                let end = if self.zstd.is_some() { ".zst" } else { "" };
                format!("changes-{:016X}.jsonl{end}", position.0)
            }
        }
    }
}

/// Whether a name is one that [`Settings::file_name`] gives in a folder.
pub fn is_rotated_name(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("changes-") else {
        return false;
    };
    let Some((digits, end)) = rest.split_at_checked(16) else {
        return false;
    };
    digits
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
        && matches!(end, ".jsonl" | ".jsonl.zst")
}
