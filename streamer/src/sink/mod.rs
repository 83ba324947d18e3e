//! Where events go.
//!
//! A sink takes encoded events in commit order. `Accepted` is not `Durable`:
//! [`Sink::write`] and [`Sink::boundary`] only accept; what is durable is what
//! a [`Flush`] covered whose work has returned without an error.
//!
//! Every sink has the same files: `settings` (what its URL may say), `writer`
//! (the sink itself) and its module page (what it promises).

pub mod file;
pub mod null;
pub mod stdout;
pub(crate) mod url;

use walferry_protocol::Lsn;

use crate::error::{Failure, Result};
use crate::state::Resume;

/// One destination. Used by one thread, in commit order.
pub trait Sink: Send {
    /// Takes whole events, perhaps of a transaction that goes on.
    fn write(&mut self, events: &[u8]) -> Result<()>;

    /// Everything written so far is whole transactions, up to `position`.
    fn boundary(&mut self, position: Lsn) -> Result<()>;

    /// Begins to make durable what was written up to the last boundary. The
    /// caller took its candidate before; the work runs on another thread while
    /// this one goes on writing.
    fn begin_flush(&mut self) -> Result<Flush>;

    /// Drops what was written after the last boundary. `false` when that has
    /// left already and cannot be taken back (a pipe).
    fn rewind(&mut self) -> Result<bool>;

    /// Where to go on after a restart, as of the last boundary; `None` when
    /// the sink has no place to go on from.
    fn resume(&self) -> Option<Resume>;
}

/// A flush under way.
pub struct Flush {
    /// Blocks until it is durable. An error means that nothing of it may be
    /// taken as durable, ever: the kernel may have dropped what it could not
    /// write.
    pub work: Box<dyn FnOnce() -> Result<()> + Send>,
    /// To be saved with the position, after the work.
    pub resume: Option<Resume>,
}

impl Flush {
    /// Of a sink whose events are as safe as they get once written.
    pub fn nothing() -> Self {
        Flush {
            work: Box::new(|| Ok(())),
            resume: None,
        }
    }
}

/// A sink's URL, read and checked: `stdout`, `null`, `file:///…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Stdout,
    Null,
    File(file::Settings),
}

/// What a sink is opened with.
#[derive(Clone, Debug)]
pub struct Opening {
    /// What the state says of this very target; `None` on a first start.
    pub resume: Option<Resume>,
    /// Where delivery starts.
    pub position: Lsn,
}

impl Target {
    /// Reads a sink's URL.
    ///
    /// # Errors
    /// Usage, for an unknown sink and for an option the sink does not have.
    pub fn parse(text: &str) -> Result<Self> {
        let (place, options) = url::split(text)?;
        let scheme = place.split_once(':').map_or(place, |(scheme, _)| scheme);
        match scheme {
            "stdout" | "-" => stdout::settings::check(place, options).map(|()| Target::Stdout),
            "null" => null::settings::check(place, options).map(|()| Target::Null),
            "file" => file::Settings::parse(place, options).map(Target::File),
            "kafka" | "postgres" | "postgresql" | "s3" => {
                Err(Failure::usage(format!("sink {scheme} is not built yet"))
                    .hint("use stdout, null or file:///dir/or/name.jsonl"))
            }
            _ => Err(Failure::usage(format!("unknown sink {text:?}"))
                .hint("use stdout, null or file:///dir/or/name.jsonl")),
        }
    }

    /// The same for one slot of a run: `{slot}` in a file's path is its name,
    /// and of several slots each has a folder of its own in a folder of files.
    /// Standard output they share, by whole lines.
    ///
    /// # Errors
    /// Usage: several slots and one file.
    pub fn of_slot(&self, slot: Option<&str>, several: bool) -> Result<Self> {
        match self {
            Target::File(settings) => settings.of_slot(slot, several).map(Target::File),
            Target::Stdout | Target::Null => Ok(self.clone()),
        }
    }

    /// What the state knows this sink by.
    pub fn name(&self) -> String {
        match self {
            Target::Stdout => "stdout".into(),
            Target::Null => "null".into(),
            Target::File(settings) => settings.target(),
        }
    }

    /// Where the state is kept when no folder was named. Only files have one:
    /// beside them. A folder of files that is missing is made for it.
    pub fn default_state_dir(&self) -> Result<Option<std::path::PathBuf>> {
        match self {
            Target::File(settings) => {
                settings.make_folder()?;
                Ok(Some(settings.default_state_dir()))
            }
            Target::Stdout | Target::Null => Ok(None),
        }
    }

    /// Opens it for writing; a file is cut back to its last durable commit.
    pub fn open(&self, opening: &Opening) -> Result<Box<dyn Sink>> {
        Ok(match self {
            Target::Stdout => Box::new(stdout::StdoutSink::open()?),
            Target::Null => Box::new(null::NullSink),
            Target::File(settings) => Box::new(file::FileSink::open(settings, opening)?),
        })
    }
}
