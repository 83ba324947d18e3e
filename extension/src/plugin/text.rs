//! Text to UTF-8, whatever the database's encoding.

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int};

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;

use super::failure::{Failure, Outcome};
use super::server;

/// What to do with bytes that are no text in any known encoding (SQL_ASCII
/// holds anything).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Stop, naming the place.
    Refuse,
    /// Write each such byte as `\xNN`.
    Escape,
}

/// The way from the database's encoding to UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct Converter {
    /// `pg_enc` (`src/include/mb/pg_wchar.h`)
    encoding: c_int,
    invalid: Invalid,
}

/// Larger texts are converted in pieces, because a conversion takes memory
/// for the worst case at once.
const PIECE: usize = 1 << 20;

impl Converter {
    pub fn new(invalid: Invalid) -> Self {
        // SAFETY: reads what is fixed when the backend connects to its database.
        let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
        Converter { encoding, invalid }
    }

    pub fn server_is_utf8(self) -> bool {
        self.encoding == pg_sys::pg_enc::PG_UTF8 as c_int
    }

    /// Converts server text to UTF-8. `place` names it in errors. In encodings
    /// other than UTF8 and SQL_ASCII it has to run in a transaction.
    pub fn to_utf8<'a>(self, bytes: &'a [u8], place: impl Fn() -> String) -> Outcome<Cow<'a, str>> {
        let convertible =
            !self.server_is_utf8() && self.encoding != pg_sys::pg_enc::PG_SQL_ASCII as c_int;
        // ASCII means the same in every server encoding.
        if !convertible || bytes.is_ascii() {
            return match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Cow::Borrowed(text)),
                Err(error) if self.invalid == Invalid::Refuse => {
                    Err(not_utf8(bytes, error.valid_up_to(), &place()))
                }
                Err(_) => Ok(Cow::Owned(escape(bytes)?)),
            };
        }
        let mut converted = String::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = if rest.len() <= PIECE {
                rest.len()
            } else {
                whole_characters(rest)
            };
            let (piece, after) = rest.split_at(length);
            convert(piece, self.encoding, &mut converted, &place)?;
            pgrx::check_for_interrupts!();
            rest = after;
        }
        Ok(Cow::Owned(converted))
    }

    /// [`Converter::to_utf8`] where no transaction may be in progress: starts
    /// one if the conversion needs it.
    pub fn to_utf8_anywhere(self, bytes: &[u8], place: impl Fn() -> String) -> Outcome<String> {
        let convert = || Ok(self.to_utf8(bytes, &place)?.into_owned());
        if bytes.is_ascii() {
            convert()
        } else {
            server::in_transaction(convert)
        }
    }

    /// A NUL-terminated string of the server in UTF-8; empty when null.
    ///
    /// # Safety
    /// `text` is null or a valid C string.
    pub unsafe fn c_string(self, text: *const c_char, what: &str) -> Outcome<String> {
        if text.is_null() {
            return Ok(String::new());
        }
        // SAFETY: as the caller promises.
        let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
        Ok(self.to_utf8(bytes, || what.to_owned())?.into_owned())
    }
}

/// How many of the first [`PIECE`] bytes are whole characters.
fn whole_characters(bytes: &[u8]) -> usize {
    // SAFETY: the slice is at least PIECE long; the server reads no further.
    let whole =
        unsafe { pg_sys::pg_mbcliplen(bytes.as_ptr().cast(), PIECE as c_int, PIECE as c_int) };
    match usize::try_from(whole) {
        Ok(whole) if whole > 0 => whole,
        // Broken text: let the conversion say so.
        _ => PIECE,
    }
}

fn convert(
    piece: &[u8],
    encoding: c_int,
    into: &mut String,
    place: &impl Fn() -> String,
) -> Outcome {
    // SAFETY: the piece is readable for its length (below 1 MiB or, from
    // shorter values, the whole); the result is NUL-terminated and, when it is
    // not the input itself, allocated in the current context and freed here.
    unsafe {
        let source = piece.as_ptr().cast_mut();
        let result = pg_sys::pg_do_encoding_conversion(
            source,
            piece.len() as c_int,
            encoding,
            pg_sys::pg_enc::PG_UTF8 as c_int,
        );
        if result == source {
            let text = std::str::from_utf8(piece)
                .map_err(|error| not_utf8(piece, error.valid_up_to(), &place()))?;
            push(into, text)
        } else {
            let converted = CStr::from_ptr(result.cast()).to_bytes();
            let outcome = match std::str::from_utf8(converted) {
                Ok(text) => push(into, text),
                Err(error) => Err(not_utf8(converted, error.valid_up_to(), &place())),
            };
            pg_sys::pfree(result.cast());
            outcome
        }
    }
}

fn push(into: &mut String, text: &str) -> Outcome {
    into.try_reserve(text.len())
        .map_err(|_| Failure::out_of_memory(text.len()))?;
    into.push_str(text);
    Ok(())
}

fn not_utf8(bytes: &[u8], at: usize, place: &str) -> Failure {
    let byte = bytes.get(at).copied().unwrap_or_default();
    Failure::new(
        PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
        format!("{place} is not valid UTF-8"),
    )
    .detail(format!("Byte {} is 0x{byte:02x}.", at + 1))
    .hint(
        "Correct the value, or start the plugin with the option invalid_text 'escape' \
         to have such bytes written as \\xNN.",
    )
}

/// Valid parts as they are, every other byte as `\xNN`.
fn escape(bytes: &[u8]) -> Outcome<String> {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        push(&mut text, chunk.valid())?;
        for byte in chunk.invalid() {
            push(&mut text, &format!("\\x{byte:02x}"))?;
        }
    }
    Ok(text)
}
