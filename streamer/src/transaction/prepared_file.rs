//! One prepared transaction's rows in a file that can be read without
//! anything else: who sent them, the definitions they name, and the records.
//!
//! ```text
//! offset  size
//!      0     8  magic and version
//!      8     8  end LSN of its COMMIT or ROLLBACK PREPARED once that was
//!               delivered, 0 before; the only bytes that are ever rewritten
//!     16     8  length of the body
//!     24     4  CRC-32 of the body
//!     28     4  0
//!     32        the body: sections, each a u64 length and its bytes
//! ```
//! Sections: identity (JSON), sender (a native Start frame), Prepared frame (its context), then
//! record sections up to one of length 0, then definitions, then the xids of
//! aborted subtransactions (u32 each). One byte before each record section
//! says whether its records are streamed ones.

use std::collections::{BTreeSet, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Error, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use walferry_protocol::{Context, Cursor, Flags, Frame, Lsn, Prepared, Relation, encode_frame};

use super::Dialect;
use crate::decode::native::malformed_frame;
use crate::error::{Failure, Result};
use crate::state::Identity;

const MAGIC: &[u8; 8] = b"WALFPRE\x01";
const HEADER: u64 = 32;

pub fn cannot(path: &Path, error: &Error) -> Failure {
    Failure::definite(format!(
        "cannot keep a prepared transaction in {}: {error}",
        path.display()
    ))
    .detail("its PREPARE was not acknowledged, it comes again")
    .hint("make the state folder writable and give it space")
}

pub fn damaged(path: &Path, why: &str) -> Failure {
    Failure::definite(format!(
        "the stored prepared transaction {} is damaged",
        path.display()
    ))
    .detail(why.to_owned())
    .hint("restore it from a copy of the state folder; the server does not send its rows again")
}

/// Writes a file as the records come.
pub struct Writer {
    path: PathBuf,
    beside: PathBuf,
    out: BufWriter<File>,
    crc: crc32fast::Hasher,
    length: u64,
    numbers: BTreeSet<u32>,
}

impl Writer {
    pub fn create(
        path: PathBuf,
        identity: &Identity,
        dialect: &Dialect,
        prepared: &Prepared,
    ) -> Result<Self> {
        let beside = path.with_extension("new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&beside)
            .map_err(|e| cannot(&path, &e))?;
        let mut writer = Writer {
            path,
            beside,
            out: BufWriter::with_capacity(1 << 18, file),
            crc: crc32fast::Hasher::new(),
            length: 0,
            numbers: BTreeSet::new(),
        };
        writer
            .out
            .write_all(&[0; HEADER as usize])
            .map_err(|e| cannot(&writer.path, &e))?;
        let identity =
            serde_json::to_vec(identity).map_err(|e| cannot(&writer.path, &Error::from(e)))?;
        writer.section(&identity)?;
        writer.section(&dialect.sender())?;
        let context = Context::Prepared(prepared.clone());
        writer.section(&encode_frame(&context, Flags(0), &[], &[]))?;
        Ok(writer)
    }

    /// Takes whole records, as they stand in a frame.
    pub fn records(&mut self, dialect: &Dialect, records: &[u8], streamed: bool) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        dialect.named(records, streamed, &mut self.numbers)?;
        self.raw(&(records.len() as u64).to_le_bytes())?;
        self.raw(&[u8::from(streamed)])?;
        self.raw(records)
    }

    /// Ends the file and gives its path. With `durable` it is safe when this
    /// returns.
    pub fn finish(
        mut self,
        dialect: &Dialect,
        aborted: &HashSet<u32>,
        durable: bool,
    ) -> Result<PathBuf> {
        self.raw(&0u64.to_le_bytes())?;
        let mut definitions = Vec::new();
        dialect
            .relations()
            .encode(std::mem::take(&mut self.numbers), &mut definitions)
            .map_err(|number| {
                Failure::definite("a row came before its relation's definition")
                    .detail(format!("definition {number} is not known"))
            })?;
        self.section(&definitions)?;
        let aborted: Vec<u8> = aborted.iter().flat_map(|xid| xid.to_le_bytes()).collect();
        self.section(&aborted)?;
        let Writer {
            path,
            beside,
            out,
            crc,
            length,
            ..
        } = self;
        let end = || -> std::io::Result<()> {
            let file = out
                .into_inner()
                .map_err(std::io::IntoInnerError::into_error)?;
            let mut header = Vec::with_capacity(HEADER as usize);
            header.extend_from_slice(MAGIC);
            header.extend_from_slice(&0u64.to_le_bytes());
            header.extend_from_slice(&length.to_le_bytes());
            header.extend_from_slice(&crc.finalize().to_le_bytes());
            header.extend_from_slice(&[0; 4]);
            file.write_all_at(&header, 0)?;
            if durable {
                file.sync_all()?;
            }
            std::fs::rename(&beside, &path)?;
            if durable {
                crate::state::sync_folder_of(&path)?;
            }
            Ok(())
        };
        end().map_err(|e| cannot(&path, &e))?;
        Ok(path)
    }

    fn section(&mut self, bytes: &[u8]) -> Result<()> {
        self.raw(&(bytes.len() as u64).to_le_bytes())?;
        self.raw(bytes)
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.length += bytes.len() as u64;
        self.out
            .write_all(bytes)
            .map_err(|e| cannot(&self.path, &e))
    }
}

/// Notes that the transaction's end was delivered at `end_lsn`; the file can
/// go once that is durable.
pub fn mark_finished(path: &Path, end_lsn: Lsn) -> std::io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all_at(&end_lsn.0.to_le_bytes(), 8)
}

/// What stands at the beginning of a file.
pub struct Head {
    pub finished: Lsn,
    pub identity: Identity,
    pub prepared: Prepared,
}

/// A file read back: definitions first, then the records one section a call.
pub struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    pub head: Head,
    /// Of the connection that the PREPARE came over.
    pub dialect: Arc<Dialect>,
    pub aborted: HashSet<u32>,
}

impl Reader {
    /// Only the head, without a look at the rest.
    pub fn head(path: &Path) -> Result<Head> {
        let mut input = BufReader::new(open(path)?);
        let header = read_header(path, &mut input)?;
        let head = |input: &mut BufReader<File>| -> std::io::Result<_> {
            let identity = read_section(input, header.length)?;
            let _sender = read_section(input, header.length)?;
            Ok((identity, read_section(input, header.length)?))
        };
        let (identity, context) = head(&mut input).map_err(|e| damaged(path, &e.to_string()))?;
        Ok(Head {
            finished: header.finished,
            identity: read_identity(path, &identity)?,
            prepared: read_prepared(path, &context)?,
        })
    }

    /// Checks all of it, then stands at the first record.
    pub fn open(path: &Path) -> Result<Self> {
        let bad = |e: Error| damaged(path, &e.to_string());
        let mut input = BufReader::with_capacity(1 << 18, open(path)?);
        let header = read_header(path, &mut input)?;
        check_body(&mut input, &header).map_err(bad)?;
        input.seek(SeekFrom::Start(HEADER)).map_err(bad)?;
        let limit = header.length;
        let identity = read_section(&mut input, limit).map_err(bad)?;
        let sender = read_section(&mut input, limit).map_err(bad)?;
        let context = read_section(&mut input, limit).map_err(bad)?;
        let head = Head {
            finished: header.finished,
            identity: read_identity(path, &identity)?,
            prepared: read_prepared(path, &context)?,
        };
        let dialect = Dialect::restore(&head.identity.plugin, &sender)
            .map_err(|failure| damaged(path, &failure.to_string()))?;
        let first = input.stream_position().map_err(bad)?;
        loop {
            let length = read_u64(&mut input).map_err(bad)?;
            if length == 0 {
                break;
            }
            let skip = i64::try_from(length).unwrap_or(i64::MAX).saturating_add(1);
            input.seek_relative(skip).map_err(bad)?;
        }
        let definitions = read_section(&mut input, limit).map_err(bad)?;
        let mut cursor = Cursor::new(&definitions);
        while !cursor.is_empty() {
            let definition =
                Relation::decode(&mut cursor).map_err(|e| damaged(path, &e.to_string()))?;
            dialect.relations().insert(definition);
        }
        let aborted = read_section(&mut input, limit).map_err(bad)?;
        let aborted = aborted
            .chunks_exact(4)
            .map(|xid| u32::from_le_bytes([xid[0], xid[1], xid[2], xid[3]]))
            .collect();
        input.seek(SeekFrom::Start(first)).map_err(bad)?;
        Ok(Reader {
            path: path.to_owned(),
            input,
            head,
            dialect: Arc::new(dialect),
            aborted,
        })
    }

    /// The next records, and whether they are streamed ones.
    pub fn next_records(&mut self) -> Result<Option<(Bytes, bool)>> {
        let mut next = || -> std::io::Result<_> {
            let length = read_u64(&mut self.input)?;
            if length == 0 {
                return Ok(None);
            }
            let mut streamed = [0];
            self.input.read_exact(&mut streamed)?;
            let mut records = vec![0; length as usize];
            self.input.read_exact(&mut records)?;
            Ok(Some((Bytes::from(records), streamed[0] != 0)))
        };
        next().map_err(|e| damaged(&self.path, &e.to_string()))
    }
}

struct Header {
    finished: Lsn,
    length: u64,
    crc: u32,
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| {
        Failure::definite(format!(
            "cannot read the stored prepared transaction {}: {e}",
            path.display()
        ))
    })
}

fn read_header(path: &Path, input: &mut impl Read) -> Result<Header> {
    let mut header = [0; HEADER as usize];
    input
        .read_exact(&mut header)
        .map_err(|e| damaged(path, &e.to_string()))?;
    let mut cursor = Cursor::new(&header);
    let read = |cursor: &mut Cursor<'_>| {
        let magic = cursor.take(8, "magic")?;
        Ok((
            magic == MAGIC,
            cursor.lsn("finished")?,
            cursor.u64("length")?,
            cursor.u32("crc")?,
        ))
    };
    match read(&mut cursor).map_err(malformed_frame)? {
        (true, finished, length, crc) => Ok(Header {
            finished,
            length,
            crc,
        }),
        _ => Err(damaged(path, "it does not begin as one")),
    }
}

fn check_body(input: &mut impl Read, header: &Header) -> std::io::Result<()> {
    let mut crc = crc32fast::Hasher::new();
    let mut left = header.length;
    let mut buffer = vec![0; 1 << 18];
    while left > 0 {
        let count = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        input.read_exact(&mut buffer[..count])?;
        crc.update(&buffer[..count]);
        left -= count as u64;
    }
    if crc.finalize() == header.crc {
        Ok(())
    } else {
        Err(Error::new(
            ErrorKind::InvalidData,
            "its checksum does not match",
        ))
    }
}

fn read_u64(input: &mut impl Read) -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// `limit` bounds the allocation: a section is smaller than the body.
fn read_section(input: &mut impl Read, limit: u64) -> std::io::Result<Vec<u8>> {
    let length = read_u64(input)?;
    if length > limit {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "a section is longer than the file",
        ));
    }
    let mut section = vec![0; length as usize];
    input.read_exact(&mut section)?;
    Ok(section)
}

fn read_identity(path: &Path, section: &[u8]) -> Result<Identity> {
    serde_json::from_slice(section).map_err(|e| damaged(path, &e.to_string()))
}

fn read_prepared(path: &Path, section: &[u8]) -> Result<Prepared> {
    match Frame::decode(section)
        .map_err(|e| damaged(path, &e.to_string()))?
        .context
    {
        Context::Prepared(prepared) => Ok(prepared),
        _ => Err(damaged(path, "its context is not a PREPARE's")),
    }
}
