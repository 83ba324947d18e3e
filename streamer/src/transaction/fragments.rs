//! A record that was too large for one frame is joined again.

use bytes::Bytes;
use walferry_protocol::{Flags, Frame, ProtocolError};

use crate::decode::native::malformed_frame;
use crate::error::Result;

/// The fragments seen so far of one record.
#[derive(Debug, Default)]
pub struct Fragments {
    open: Option<Vec<u8>>,
}

impl Fragments {
    /// The records of `frame`, or `None` while its record goes on. `message`
    /// is the CopyData message that the frame was read from.
    ///
    /// # Errors
    /// Definite, when a fragment is missing.
    pub fn join(&mut self, frame: &Frame<'_>, message: &Bytes) -> Result<Option<Bytes>> {
        let continued = frame.flags.has(Flags::CONTINUED);
        if continued != self.open.is_some() {
            return Err(malformed_frame(ProtocolError::Inconsistent {
                what: if continued {
                    "a record goes on that never began"
                } else {
                    "a record that goes on is cut off"
                },
            }));
        }
        if !frame.flags.is_fragment() {
            return Ok(Some(message.slice_ref(frame.record_bytes())));
        }
        let open = self.open.get_or_insert_default();
        open.extend_from_slice(frame.record_bytes());
        if frame.flags.has(Flags::CONTINUES) {
            return Ok(None);
        }
        Ok(self.open.take().map(Bytes::from))
    }

    /// # Errors
    /// Definite, when the transaction ended inside a record.
    pub fn finish(&self) -> Result<()> {
        match self.open {
            None => Ok(()),
            Some(_) => Err(malformed_frame(ProtocolError::Inconsistent {
                what: "a transaction ends inside a record",
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use walferry_protocol::{Context, Streamed, encode_frame};

    fn frame(flags: u16, records: &[u8]) -> Bytes {
        let context = Context::Streamed(Streamed { xid: 1 });
        Bytes::from(encode_frame(&context, Flags(flags), &[], records))
    }

    fn join(fragments: &mut Fragments, message: &Bytes) -> Result<Option<Bytes>> {
        fragments.join(&Frame::decode(message).unwrap(), message)
    }

    #[test]
    fn three_fragments_become_one_record() {
        let mut fragments = Fragments::default();
        assert_eq!(join(&mut fragments, &frame(8, b"ab")).unwrap(), None);
        assert_eq!(join(&mut fragments, &frame(12, b"cd")).unwrap(), None);
        assert!(fragments.finish().is_err());
        let whole = join(&mut fragments, &frame(4, b"e")).unwrap().unwrap();
        assert_eq!(&whole[..], b"abcde");
        fragments.finish().unwrap();
    }

    #[test]
    fn a_missing_fragment_is_an_error() {
        let mut fragments = Fragments::default();
        assert!(join(&mut fragments, &frame(4, b"e")).is_err());
        let mut fragments = Fragments::default();
        join(&mut fragments, &frame(8, b"ab")).unwrap();
        assert!(join(&mut fragments, &frame(0, b"x")).is_err());
    }
}
