//! Bounds-checked reading, and the one way bytes are written.

use crate::{Lsn, ProtocolError};

/// Where encoders put their bytes. The plugin's frame buffer implements it
/// with a bounded buffer that can be written out in the middle of a record.
pub trait Put {
    fn put(&mut self, bytes: &[u8]);

    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    #[inline]
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    #[inline]
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    #[inline]
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    #[inline]
    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }
    #[inline]
    fn put_lsn(&mut self, value: Lsn) {
        self.put_u64(value.0);
    }
    /// A string: its length in bytes as `u16`, then UTF-8. Longer strings than
    /// 65,535 bytes do not occur where this is used (names are at most 63
    /// bytes, a gid 200, a message prefix is checked by its encoder), and are
    /// cut at that bound rather than corrupting the frame.
    fn put_string(&mut self, text: &str) {
        let mut end = text.len().min(usize::from(u16::MAX));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.put_u16(end as u16);
        self.put(&text.as_bytes()[..end]);
    }
}

impl Put for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Reads forward through a slice; every step names what it wants, so that a
/// frame cut short says where.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    /// What has not been read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], ProtocolError> {
        match self.rest.split_at_checked(count) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(ProtocolError::Short {
                what,
                needed: count,
                left: self.rest.len(),
            }),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ProtocolError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(*head)
            }
            None => Err(ProtocolError::Short {
                what,
                needed: N,
                left: self.rest.len(),
            }),
        }
    }

    #[inline]
    pub fn u8(&mut self, what: &'static str) -> Result<u8, ProtocolError> {
        self.array::<1>(what).map(|[byte]| byte)
    }
    #[inline]
    pub fn u16(&mut self, what: &'static str) -> Result<u16, ProtocolError> {
        self.array(what).map(u16::from_le_bytes)
    }
    #[inline]
    pub fn u32(&mut self, what: &'static str) -> Result<u32, ProtocolError> {
        self.array(what).map(u32::from_le_bytes)
    }
    #[inline]
    pub fn u64(&mut self, what: &'static str) -> Result<u64, ProtocolError> {
        self.array(what).map(u64::from_le_bytes)
    }
    #[inline]
    pub fn i64(&mut self, what: &'static str) -> Result<i64, ProtocolError> {
        self.array(what).map(i64::from_le_bytes)
    }
    pub fn lsn(&mut self, what: &'static str) -> Result<Lsn, ProtocolError> {
        self.u64(what).map(Lsn)
    }
    /// The twin of [`Put::put_string`].
    pub fn string(&mut self, what: &'static str) -> Result<&'a str, ProtocolError> {
        let length = self.u16(what)?;
        let bytes = self.take(usize::from(length), what)?;
        std::str::from_utf8(bytes).map_err(|_| ProtocolError::NotUtf8 { what })
    }

    /// Refuses bytes that nothing accounts for.
    pub fn finish(self, what: &'static str) -> Result<(), ProtocolError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ProtocolError::LeftOver {
                what,
                extra: self.rest.len(),
            })
        }
    }
}
