//! PostgreSQL's values as a server stores them, and the text it prints for
//! them. One file a family; nothing here knows rows, relations or JSON
//! envelopes.
//!
//! Everything reads bytes that came over a network: what does not hold is a
//! [`Malformed`], never a panic, and nothing is allocated from a length that
//! the bytes themselves do not bear out.

pub mod array;
pub mod float;
pub mod jsonb;
pub mod numeric;
pub mod pglz;
pub mod quote;
pub mod temporal;
mod types;
pub mod varlena;

pub use types::{ScalarType, Type};

use std::fmt;

/// Bytes that no server writes for the type they are said to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// What reading a datum depends on beside its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The server's byte order.
    pub big_endian: bool,
    /// Whether the largest and the smallest interval mean infinity, as they do
    /// from PostgreSQL 17 on.
    pub infinite_intervals: bool,
}

impl Layout {
    pub fn of_server(server_version: u32, big_endian: bool) -> Self {
        Layout {
            big_endian,
            infinite_intervals: server_version >= 170_000,
        }
    }

    #[inline]
    pub(crate) fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    }

    #[inline]
    pub(crate) fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }

    #[inline]
    pub(crate) fn u64(self, bytes: [u8; 8]) -> u64 {
        if self.big_endian {
            u64::from_be_bytes(bytes)
        } else {
            u64::from_le_bytes(bytes)
        }
    }

    /// The `u32` at an offset.
    #[inline]
    pub(crate) fn u32_at(
        self,
        bytes: &[u8],
        at: usize,
        what: &'static str,
    ) -> Result<u32, Malformed> {
        match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(chunk) => Ok(self.u32(*chunk)),
            None => Err(Malformed(what)),
        }
    }
}

/// Two digits for each number below 100.
pub(crate) const TWO_DIGITS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

#[inline]
pub(crate) fn two_digits(value: u32) -> [u8; 2] {
    let at = (value % 100) as usize * 2;
    [TWO_DIGITS[at], TWO_DIGITS[at + 1]]
}
