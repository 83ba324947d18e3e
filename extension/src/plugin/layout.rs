//! How a relation's tuples are laid out, and how each attribute is written.

use pgrx::pg_sys;

/// What is done with an attribute's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Written raw, of this fixed width.
    Raw1,
    Raw2,
    Raw4,
    Raw8,
    /// Written raw, of the fixed width `attlen`.
    RawFixed,
    /// Written raw, without its header.
    RawVarlena,
    /// Written as text, by `Layout::outputs[output]`.
    Text {
        output: u16,
    },
    /// Dropped, generated without being stored, or not asked for.
    Skip,
}

impl Step {
    pub fn is_sent(self) -> bool {
        self != Step::Skip
    }

    pub fn is_raw(self) -> bool {
        !matches!(self, Step::Skip | Step::Text { .. })
    }
}

/// One attribute of the tuple descriptor; dropped ones are here too, for
/// tuples hold their bytes.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    pub step: Step,
    /// `attlen`: bytes, -1 for varlena, -2 for a C string.
    pub length: i16,
    /// `attalign` in bytes, less one.
    pub align: u8,
    pub by_value: bool,
    /// Part of the replica identity.
    pub key: bool,
}

/// How a Text column's text comes about.
pub struct Output {
    /// The column, from 0 in the definition: to name it in errors.
    pub column: usize,
    /// A varlena that is its own text needs no output function.
    pub plain: bool,
    /// The output function, whose memory belongs to the cache entry.
    pub function: Box<pg_sys::FmgrInfo>,
}

/// A relation's layout.
#[derive(Default)]
pub struct Layout {
    /// In order of attribute number.
    pub attributes: Vec<Attribute>,
    /// Of each attribute that was added with a default: the value of rows that
    /// are older than it, encoded; for the format json, its text.
    pub missing: Vec<Option<Box<[u8]>>>,
    /// How many attributes are sent.
    pub columns: u16,
    /// Whether every attribute is sent raw, so that a tuple with all of them,
    /// none of them out of line, can go in one piece.
    pub all_raw: bool,
    /// One for each Text column.
    pub outputs: Vec<Output>,
}

/// `attalign` as the number of bytes, less one.
pub fn alignment(attalign: std::ffi::c_char) -> u8 {
    match attalign as u8 {
        b'c' => 0,
        b's' => 1,
        b'i' => 3,
        _ => 7,
    }
}
