//! Rows between the assembler, which numbers them, and the worker that reads
//! them: the plugin's messages one after the other, each with its event's id.

use walferry_protocol::Lsn;

/// What a message tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    Insert = b'I',
    Update = b'U',
    Delete = b'D',
    Truncate = b'T',
    Message = b'M',
}

impl Action {
    pub fn from_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'I' => Action::Insert,
            b'U' => Action::Update,
            b'D' => Action::Delete,
            b'T' => Action::Truncate,
            b'M' => Action::Message,
            _ => return None,
        })
    }
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub action: Action,
    pub lsn: Lsn,
    pub index: u32,
    /// The plugin's message.
    pub message: &'a [u8],
    /// Where in it the members begin that the assembler did not read.
    pub rest: usize,
}

/// Length, LSN, index, rest, action.
const HEADER: usize = 8 + 8 + 4 + 4 + 1;

impl Record<'_> {
    pub fn push(&self, out: &mut Vec<u8>) {
        out.reserve(HEADER + self.message.len());
        out.extend_from_slice(&(self.message.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.lsn.0.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&(self.rest as u32).to_le_bytes());
        out.push(self.action as u8);
        out.extend_from_slice(self.message);
    }
}

/// The records that [`Record::push`] wrote. Ends early where the bytes are no
/// such thing.
pub fn records(mut bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (lsn, rest) = rest.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let (&action, rest) = rest.split_first()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (message, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        Some(Record {
            action: Action::from_letter(action)?,
            lsn: Lsn(u64::from_le_bytes(*lsn)),
            index: u32::from_le_bytes(*index),
            message,
            rest: u32::from_le_bytes(*at) as usize,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_went_in() {
        let some = [
            Record {
                action: Action::Insert,
                lsn: Lsn(u64::MAX),
                index: 7,
                message: b"{}",
                rest: 1,
            },
            Record {
                action: Action::Truncate,
                lsn: Lsn(1),
                index: 0,
                message: b"",
                rest: 0,
            },
        ];
        let mut bytes = Vec::new();
        some.iter().for_each(|record| record.push(&mut bytes));
        assert_eq!(records(&bytes).collect::<Vec<_>>(), some);
        assert_eq!(records(&bytes[..bytes.len() - 1]).count(), 1);
        assert_eq!(records(b"").count(), 0);
    }
}
