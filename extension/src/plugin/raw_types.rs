//! Which types travel as raw datums: built-in types whose on-disk form is
//! stable across the supported versions and that the streamer reads itself.

/// (type, its array type, whether it holds text in the server's encoding);
/// oids from `src/include/catalog/pg_type.dat`.
const RAW_TYPES: [(u32, u32, bool); 23] = [
    (16, 1000, false),   // bool
    (17, 1001, false),   // bytea
    (18, 1002, true),    // "char"
    (19, 1003, true),    // name
    (20, 1016, false),   // int8
    (21, 1005, false),   // int2
    (23, 1007, false),   // int4
    (25, 1009, true),    // text
    (26, 1028, false),   // oid
    (114, 199, true),    // json
    (700, 1021, false),  // float4
    (701, 1022, false),  // float8
    (1042, 1014, true),  // bpchar
    (1043, 1015, true),  // varchar
    (1082, 1182, false), // date
    (1083, 1183, false), // time
    (1114, 1115, false), // timestamp
    (1184, 1185, false), // timestamptz
    (1186, 1187, false), // interval
    (1266, 1270, false), // timetz
    (1700, 1231, false), // numeric
    (2950, 2951, false), // uuid
    (3802, 3807, true),  // jsonb
];

/// Whether values of `base_type` (under all domains) travel raw. Text-bearing
/// types do only where the server's encoding is UTF8 (`utf8`).
pub fn is_raw(base_type: u32, utf8: bool) -> bool {
    RAW_TYPES.iter().any(|&(element, array, text)| {
        (base_type == element || base_type == array) && (utf8 || !text)
    })
}

/// Whether a varlena of this type is its own text: text, varchar, bpchar and
/// json need no output function, only a conversion to UTF-8.
pub fn is_plain_text(base_type: u32) -> bool {
    matches!(base_type, 25 | 114 | 1042 | 1043)
}
