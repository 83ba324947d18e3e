//! Relation definitions: the schema a row was written under, sent before the
//! first row that needs it.
//!
//! Every definition gets a number of its own, counted up within a connection;
//! rows name the number, never the oid. So two rows of one transaction around
//! an ALTER TABLE can stand in one frame, and a definition seen inside an
//! uncommitted streamed transaction can serve no other.

use crate::{Cursor, ProtocolError, Put};

/// More columns than a heap relation can have (`MaxHeapAttributeNumber` is
/// 1600, `src/include/access/htup_details.h`).
pub const MAX_COLUMNS: usize = 1664;

/// A relation as the historic catalog showed it when a row of it was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// This definition's number within the connection, from 1.
    pub number: u32,
    /// `pg_class.oid`
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: RelationKind,
    pub replica_identity: ReplicaIdentity,
    /// Whether the server logs enough of old rows to find them again: REPLICA
    /// IDENTITY FULL, or an index that serves as identity exists.
    pub identity_usable: bool,
    /// The topmost partitioned table, when this is a partition.
    pub root: Option<Root>,
    /// A hash over everything else but `number`, equal on every server and in
    /// every connection for equal definitions.
    pub fingerprint: u64,
    /// In order of attribute number. Dropped and virtual generated columns,
    /// and columns that the slot's options leave out, are not here.
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub oid: u32,
    pub schema: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// `pg_attribute.attnum`
    pub attnum: i16,
    /// The declared type.
    pub type_oid: u32,
    pub type_schema: String,
    /// `pg_type.typname`, for example `timestamptz` or `_int4`.
    pub type_name: String,
    /// `pg_attribute.atttypmod`, -1 when there is none.
    pub typmod: i32,
    /// The type that decides how a raw value reads: the declared one, or what
    /// is under its domains.
    pub base_type_oid: u32,
    pub encoding: Encoding,
    pub flags: ColumnFlags,
}

/// How the plugin sends the column's values (nulls and marks apart).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As the type's output function printed it, under the pinned settings.
    Text,
    /// The datum's bytes, of the type `base_type_oid`.
    Raw(Storage),
}

const TEXT: u8 = 0;
const RAW: u8 = 1;

/// How a heap tuple holds the column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// `pg_attribute.attlen`: bytes, or [`Storage::VARLENA`].
    pub length: i16,
    /// `pg_attribute.attalign` in bytes: 1, 2, 4 or 8.
    pub align: u8,
}

/// What is known of a column. Unknown bits are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnFlags(pub u8);

impl ColumnFlags {
    /// Part of the replica identity (under FULL: of the primary key).
    pub const KEY: u8 = 1;
    pub const NOT_NULL: u8 = 2;
    /// GENERATED ALWAYS AS (…) STORED
    pub const GENERATED: u8 = 4;
    /// Of an array type (under its domains) whose elements are separated by
    /// commas, so that a value that comes as text is an array literal.
    pub const ARRAY: u8 = 8;
    const KNOWN: u8 = Self::KEY | Self::NOT_NULL | Self::GENERATED | Self::ARRAY;

    pub fn is_key(self) -> bool {
        self.0 & Self::KEY != 0
    }
    pub fn is_not_null(self) -> bool {
        self.0 & Self::NOT_NULL != 0
    }
    pub fn is_generated(self) -> bool {
        self.0 & Self::GENERATED != 0
    }
    pub fn is_array(self) -> bool {
        self.0 & Self::ARRAY != 0
    }
}

/// `pg_class.relkind`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RelationKind {
    Table = b'r',
    Partitioned = b'p',
    MaterializedView = b'm',
    Foreign = b'f',
    Sequence = b'S',
    Other = b'?',
}

impl RelationKind {
    pub fn from_relkind(relkind: u8) -> Self {
        match relkind {
            b'r' => Self::Table,
            b'p' => Self::Partitioned,
            b'm' => Self::MaterializedView,
            b'f' => Self::Foreign,
            b'S' => Self::Sequence,
            _ => Self::Other,
        }
    }
}

/// `pg_class.relreplident`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReplicaIdentity {
    Default = b'd',
    Nothing = b'n',
    Full = b'f',
    Index = b'i',
}

impl ReplicaIdentity {
    pub fn from_relreplident(byte: u8) -> Option<Self> {
        Some(match byte {
            b'd' => Self::Default,
            b'n' => Self::Nothing,
            b'f' => Self::Full,
            b'i' => Self::Index,
            _ => return None,
        })
    }
}

const HAS_ROOT: u8 = 1;
const IDENTITY_USABLE: u8 = 2;

impl Relation {
    /// Sets `fingerprint` from the other fields (64-bit FNV-1a over the
    /// encoded definition without its number and fingerprint).
    pub fn seal(&mut self) {
        let mut bytes = Vec::new();
        self.encode_body(&mut bytes);
        self.fingerprint = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
    }

    /// Writes `u32` length, number, fingerprint, body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u32(0);
        out.put_u32(self.number);
        out.put_u64(self.fingerprint);
        self.encode_body(out);
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.put_u32(self.oid);
        out.put_string(&self.schema);
        out.put_string(&self.name);
        out.put_u8(self.kind as u8);
        out.put_u8(self.replica_identity as u8);
        let mut flags = 0;
        if self.root.is_some() {
            flags |= HAS_ROOT;
        }
        if self.identity_usable {
            flags |= IDENTITY_USABLE;
        }
        out.put_u8(flags);
        if let Some(root) = &self.root {
            out.put_u32(root.oid);
            out.put_string(&root.schema);
            out.put_string(&root.name);
        }
        out.put_u16(self.columns.len() as u16);
        for column in &self.columns {
            column.encode(out);
        }
    }

    /// The twin of [`Relation::encode`].
    pub fn decode(input: &mut Cursor<'_>) -> Result<Relation, ProtocolError> {
        let length = input.u32("definition length")?;
        let mut body = Cursor::new(input.take(length as usize, "relation definition")?);
        let number = body.u32("definition number")?;
        let fingerprint = body.u64("fingerprint")?;
        let oid = body.u32("relation oid")?;
        let schema = body.string("schema name")?.to_owned();
        let name = body.string("relation name")?.to_owned();
        let kind = RelationKind::from_relkind(body.u8("relation kind")?);
        let identity = body.u8("replica identity")?;
        let replica_identity =
            ReplicaIdentity::from_relreplident(identity).ok_or(ProtocolError::Unknown {
                what: "replica identity",
                found: identity.into(),
            })?;
        let flags = body.u8("relation flags")?;
        let unknown = flags & !(HAS_ROOT | IDENTITY_USABLE);
        if unknown != 0 {
            return Err(ProtocolError::UnknownBits {
                what: "relation",
                found: unknown.into(),
            });
        }
        let root = if flags & HAS_ROOT != 0 {
            Some(Root {
                oid: body.u32("root oid")?,
                schema: body.string("root schema")?.to_owned(),
                name: body.string("root name")?.to_owned(),
            })
        } else {
            None
        };
        let count = usize::from(body.u16("column count")?);
        if count > MAX_COLUMNS {
            return Err(ProtocolError::TooLarge {
                what: "column count",
                found: count as u64,
                limit: MAX_COLUMNS as u64,
            });
        }
        let columns = (0..count)
            .map(|_| Column::decode(&mut body))
            .collect::<Result<_, _>>()?;
        body.finish("relation definition")?;
        Ok(Relation {
            number,
            oid,
            schema,
            name,
            kind,
            replica_identity,
            identity_usable: flags & IDENTITY_USABLE != 0,
            root,
            fingerprint,
            columns,
        })
    }
}

impl Column {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_string(&self.name);
        out.put_u16(self.attnum as u16);
        out.put_u32(self.type_oid);
        out.put_string(&self.type_schema);
        out.put_string(&self.type_name);
        out.put_u32(self.typmod as u32);
        out.put_u32(self.base_type_oid);
        match self.encoding {
            Encoding::Text => out.put_u8(TEXT),
            Encoding::Raw(storage) => {
                out.put_u8(RAW);
                storage.encode(out);
            }
        }
        out.put_u8(self.flags.0);
    }

    fn decode(input: &mut Cursor<'_>) -> Result<Column, ProtocolError> {
        let name = input.string("column name")?.to_owned();
        let attnum = input.u16("attribute number")? as i16;
        let type_oid = input.u32("type oid")?;
        let type_schema = input.string("type schema")?.to_owned();
        let type_name = input.string("type name")?.to_owned();
        let typmod = input.u32("typmod")? as i32;
        let base_type_oid = input.u32("base type oid")?;
        let encoding = match input.u8("column encoding")? {
            TEXT => Encoding::Text,
            RAW => Encoding::Raw(Storage::decode(input)?),
            found => {
                return Err(ProtocolError::Unknown {
                    what: "column encoding",
                    found: found.into(),
                });
            }
        };
        let flags = input.u8("column flags")?;
        let unknown = flags & !ColumnFlags::KNOWN;
        if unknown != 0 {
            return Err(ProtocolError::UnknownBits {
                what: "column",
                found: unknown.into(),
            });
        }
        Ok(Column {
            name,
            attnum,
            type_oid,
            type_schema,
            type_name,
            typmod,
            base_type_oid,
            encoding,
            flags: ColumnFlags(flags),
        })
    }
}
