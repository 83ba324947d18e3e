//! The types whose datums are read, by their fixed oids
//! (`src/include/catalog/pg_type.dat`).

use walferry_protocol::Storage;

/// How a column's raw values read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Scalar(ScalarType),
    /// An array of these, of any dimension.
    Array(ScalarType),
    /// Any other type: it comes as text.
    Other,
    /// An array of any other type: it comes as the text of one.
    OtherArray,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScalarType {
    Bool,
    Bytea,
    /// The one-byte `"char"`.
    Char,
    Name,
    Int8,
    Int2,
    Int4,
    Text,
    Oid,
    Json,
    Float4,
    Float8,
    Bpchar,
    Varchar,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    TimeTz,
    Numeric,
    Uuid,
    Jsonb,
}

/// oid, oid of the type's array, type
const TYPES: [(u32, u32, ScalarType); 23] = [
    (16, 1000, ScalarType::Bool),
    (17, 1001, ScalarType::Bytea),
    (18, 1002, ScalarType::Char),
    (19, 1003, ScalarType::Name),
    (20, 1016, ScalarType::Int8),
    (21, 1005, ScalarType::Int2),
    (23, 1007, ScalarType::Int4),
    (25, 1009, ScalarType::Text),
    (26, 1028, ScalarType::Oid),
    (114, 199, ScalarType::Json),
    (700, 1021, ScalarType::Float4),
    (701, 1022, ScalarType::Float8),
    (1042, 1014, ScalarType::Bpchar),
    (1043, 1015, ScalarType::Varchar),
    (1082, 1182, ScalarType::Date),
    (1083, 1183, ScalarType::Time),
    (1114, 1115, ScalarType::Timestamp),
    (1184, 1185, ScalarType::TimestampTz),
    (1186, 1187, ScalarType::Interval),
    (1266, 1270, ScalarType::TimeTz),
    (1700, 1231, ScalarType::Numeric),
    (2950, 2951, ScalarType::Uuid),
    (3802, 3807, ScalarType::Jsonb),
];

impl Type {
    pub fn from_oid(oid: u32) -> Self {
        TYPES
            .iter()
            .find_map(|&(own, array, scalar)| {
                if own == oid {
                    Some(Type::Scalar(scalar))
                } else if array == oid {
                    Some(Type::Array(scalar))
                } else {
                    None
                }
            })
            .unwrap_or(Type::Other)
    }
}

impl Type {
    /// How a heap tuple holds values of the type (`typlen`, `typalign`). Any
    /// other type is taken for a varlena.
    pub fn storage(self) -> Storage {
        let varlena = |align| Storage {
            length: Storage::VARLENA,
            align,
        };
        match self {
            Type::Scalar(scalar) => {
                let (size, align) = scalar.element_layout();
                Storage {
                    length: size.map_or(Storage::VARLENA, |size| size as i16),
                    align: align as u8,
                }
            }
            // The array's header itself needs four.
            Type::Array(element) => varlena(element.element_layout().1.max(4) as u8),
            Type::Other | Type::OtherArray => varlena(4),
        }
    }
}

impl ScalarType {
    pub fn from_oid(oid: u32) -> Option<Self> {
        match Type::from_oid(oid) {
            Type::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Every type there is, for tests that must not forget one.
    pub fn all() -> impl Iterator<Item = ScalarType> {
        TYPES.iter().map(|&(_, _, scalar)| scalar)
    }

    pub fn oid(self) -> u32 {
        TYPES[self as usize].0
    }

    pub fn array_oid(self) -> u32 {
        TYPES[self as usize].1
    }

    /// Size (`None`: a varlena) and alignment of an element in an array
    /// (`typlen`, `typalign`).
    pub(crate) fn element_layout(self) -> (Option<usize>, usize) {
        match self {
            Self::Bool | Self::Char => (Some(1), 1),
            Self::Int2 => (Some(2), 2),
            Self::Int4 | Self::Oid | Self::Float4 | Self::Date => (Some(4), 4),
            Self::Int8 | Self::Float8 | Self::Time | Self::Timestamp | Self::TimestampTz => {
                (Some(8), 8)
            }
            Self::TimeTz => (Some(12), 8),
            Self::Interval => (Some(16), 8),
            Self::Uuid => (Some(16), 1),
            Self::Name => (Some(64), 1),
            Self::Bytea
            | Self::Text
            | Self::Json
            | Self::Bpchar
            | Self::Varchar
            | Self::Numeric
            | Self::Jsonb => (None, 4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TYPES, Type};

    #[test]
    fn every_type_stands_at_its_own_place_in_the_table() {
        for (place, &(oid, array, scalar)) in TYPES.iter().enumerate() {
            assert_eq!(scalar as usize, place);
            assert_eq!(Type::from_oid(oid), Type::Scalar(scalar));
            assert_eq!(Type::from_oid(array), Type::Array(scalar));
        }
        assert_eq!(Type::from_oid(600), Type::Other);
    }
}
