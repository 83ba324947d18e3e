//! Random and extreme literals of every type that is read raw.

use rand::Rng;
use rand::rngs::StdRng;

/// A type, how to make a random literal of it, and the literals nobody may
/// forget.
pub struct TypeUnderTest {
    /// As in `CREATE TABLE`.
    pub sql: &'static str,
    pub random: fn(&mut StdRng) -> String,
    pub extremes: &'static [&'static str],
}

const TEXTS: &[&str] = &[
    "",
    " ",
    "NULL",
    "null",
    "nUlL",
    "\"",
    "\\",
    "{",
    "}",
    "{}",
    ",",
    "a,b",
    "a b",
    "\t",
    "\n",
    "\r\n",
    "\u{b}",
    "\u{c}",
    "\u{1}",
    "\u{1f}",
    "\u{7f}",
    "é",
    "😀",
    "%s%n%%",
    "'",
    "''",
    "\\x41",
    "\\N",
    "\\.",
    "漢字 かな",
    "trailing   ",
    "   leading",
    "[1:2]={a}",
    "\u{2028}",
    "\u{feff}",
    "e\u{301}",
];

pub const TYPES: &[TypeUnderTest] = &[
    TypeUnderTest {
        sql: "bool",
        random: |rng| rng.random::<bool>().to_string(),
        extremes: &["t", "f"],
    },
    TypeUnderTest {
        sql: "bytea",
        random: bytea,
        extremes: &["", "\\x00", "\\xff", "\\x5c", "\\x22"],
    },
    TypeUnderTest {
        sql: "\"char\"",
        random: |rng| char::from(rng.random_range(32u8..127)).to_string(),
        extremes: &["", "a", "\\", "\"", ",", "{", " ", "\u{1}", "\u{7f}"],
    },
    TypeUnderTest {
        sql: "name",
        random: |rng| cut(text(rng), 60),
        extremes: TEXTS,
    },
    TypeUnderTest {
        sql: "int8",
        random: |rng| bits(rng).to_string(),
        extremes: &["0", "-1", "9223372036854775807", "-9223372036854775808"],
    },
    TypeUnderTest {
        sql: "int2",
        random: |rng| (bits(rng) as i16).to_string(),
        extremes: &["0", "-1", "32767", "-32768"],
    },
    TypeUnderTest {
        sql: "int4",
        random: |rng| (bits(rng) as i32).to_string(),
        extremes: &["0", "-1", "2147483647", "-2147483648"],
    },
    TypeUnderTest {
        sql: "text",
        random: text,
        extremes: TEXTS,
    },
    TypeUnderTest {
        sql: "oid",
        random: |rng| (bits(rng) as u32).to_string(),
        extremes: &["0", "4294967295", "2147483648"],
    },
    TypeUnderTest {
        sql: "json",
        random: json,
        extremes: JSON,
    },
    TypeUnderTest {
        sql: "float4",
        random: float4,
        extremes: &[
            "0",
            "-0",
            "NaN",
            "Infinity",
            "-Infinity",
            "3.4028235e38",
            "-3.4028235e38",
            "1.17549435e-38",
            "1e-45",
            "0.1",
            "1e6",
            "999999",
            "1000000",
            "123456.7",
            "0.0001",
            "0.00001",
            "0.00012345",
            "16777216",
            "16777218",
            "33554432",
            "33554436",
            "8388608.5",
            "1.00000005e9",
        ],
    },
    TypeUnderTest {
        sql: "float8",
        random: float8,
        extremes: &[
            "0",
            "-0",
            "NaN",
            "Infinity",
            "-Infinity",
            "1.7976931348623157e308",
            "5e-324",
            "2.2250738585072014e-308",
            "0.1",
            "1e15",
            "1e14",
            "999999999999999",
            "1000000000000000",
            "123456789012345.6",
            "0.0001",
            "0.00001",
            "0.30000000000000004",
            "9007199254740993",
            "18014398509481988",
            "18014398509481990",
            "1e22",
            "1e23",
            "9.5367431640625e-07",
            "4.35e-322",
            "9007199254740992",
            "36028797018963972",
        ],
    },
    TypeUnderTest {
        sql: "char(12)",
        random: |rng| cut(text(rng), 12),
        extremes: &[
            "",
            " ",
            "a",
            "a   ",
            "   a",
            "NULL",
            "123456789012",
            "é",
            "{\"",
            "\t",
        ],
    },
    TypeUnderTest {
        sql: "varchar(40)",
        random: |rng| cut(text(rng), 40),
        extremes: TEXTS,
    },
    TypeUnderTest {
        sql: "varchar",
        random: text,
        extremes: TEXTS,
    },
    TypeUnderTest {
        sql: "date",
        random: date,
        extremes: &[
            "infinity",
            "-infinity",
            "4714-11-24 BC",
            "5874897-12-31",
            "0001-01-01",
            "0001-12-31 BC",
            "0001-01-01 BC",
            "0004-02-29",
            "0005-02-28 BC",
            "0001-02-29 BC",
            "2000-02-29",
            "1900-02-28",
            "9999-12-31",
            "10000-01-01",
            "2000-01-01",
            "1999-12-31",
            "0044-03-15 BC",
        ],
    },
    TypeUnderTest {
        sql: "time",
        random: time,
        extremes: &[
            "00:00:00",
            "24:00:00",
            "23:59:59.999999",
            "00:00:00.000001",
            "12:34:56.7",
            "12:34:56.070",
        ],
    },
    TypeUnderTest {
        sql: "time(2)",
        random: time,
        extremes: &["00:00:00", "24:00:00", "23:59:59.99"],
    },
    TypeUnderTest {
        sql: "timestamp",
        random: timestamp,
        extremes: TIMESTAMPS,
    },
    TypeUnderTest {
        sql: "timestamptz",
        random: timestamp,
        extremes: TIMESTAMPS,
    },
    TypeUnderTest {
        sql: "timestamp(3)",
        random: timestamp,
        extremes: &["2026-11-21 04:24:00.1235", "infinity"],
    },
    TypeUnderTest {
        sql: "interval",
        random: interval,
        extremes: &[
            "0",
            "1 year",
            "-1 year",
            "1 mon",
            "-1 mon",
            "1 day",
            "-1 day",
            "1 second",
            "-1 second",
            "0.000001 seconds",
            "-0.000001 seconds",
            "1 year -1 mon",
            "-1 year 1 mon 1 day",
            "1 mon -1 day 1 second",
            "-1 mon 1 day -1 second",
            "1 day -00:00:01",
            "-1 day +00:00:01",
            "-13 mons",
            "13 mons",
            "11 mons",
            "-1 year +1 day",
            "100:00:00",
            "-100:59:59.5",
            "178956970 years 7 mons 2147483647 days",
            "-178956970 years -8 mons -2147483648 days",
            "2562047788:00:54.775807",
            "-2562047788:00:54.775807",
            "1 year 2 mons 3 days 04:05:06.789",
        ],
    },
    TypeUnderTest {
        sql: "timetz",
        random: timetz,
        extremes: &[
            "00:00:00+00",
            "24:00:00+00",
            "23:59:59.999999-15:59:59",
            "00:00:00+15:59:59",
            "12:00:00+05:30",
            "12:00:00-00:00:01",
            "12:00:00+00:30",
            "12:00:00-11",
            "12:00:00.5+14",
        ],
    },
    TypeUnderTest {
        sql: "numeric",
        random: numeric,
        extremes: &[
            "0",
            "-0",
            "0.0",
            "0.000",
            "NaN",
            "Infinity",
            "-Infinity",
            "1",
            "-1",
            "10",
            "9999",
            "10000",
            "10001",
            "99999999",
            "100000000",
            "0.1",
            "0.0001",
            "0.00001",
            "-0.00000001",
            "1e100",
            "1e-100",
            "1.0e0",
            "123456789.987654321",
            "1e131071",
            "-1e131071",
            "1e-16383",
            "0e-16383",
            "12345678901234567890123456789012345678901234567890.12345678901234567890",
            "5000.5000",
            "1e63",
            "1e64",
            "1e-63",
            "1e-64",
            "0.00000000000000000000",
        ],
    },
    TypeUnderTest {
        sql: "numeric(20,6)",
        random: |rng| {
            format!(
                "{}.{}",
                bits(rng) % 10_000_000_000,
                rng.random_range(0..10_000_000)
            )
        },
        extremes: &["0", "NaN", "0.000001", "-99999999999999.999999"],
    },
    TypeUnderTest {
        sql: "uuid",
        random: |rng| format!("{:032x}", rng.random::<u128>()),
        extremes: &[
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
    },
    TypeUnderTest {
        sql: "jsonb",
        random: json,
        extremes: JSON,
    },
];

/// Literals that older servers do not take or print in another way.
pub fn extremes_since(sql: &str, server_version: i32) -> &'static [&'static str] {
    match sql {
        "\"char\"" if server_version >= 160_000 => &["\\377", "\\200"],
        "interval" if server_version >= 170_000 => &["infinity", "-infinity"],
        _ => &[],
    }
}

const TIMESTAMPS: &[&str] = &[
    "infinity",
    "-infinity",
    "4714-11-24 00:00:00 BC",
    "294276-12-31 23:59:59.999999",
    "0001-01-01 00:00:00",
    "0001-12-31 23:59:59.999999 BC",
    "0001-02-29 12:00:00 BC",
    "2000-01-01 00:00:00",
    "1999-12-31 23:59:59.999999",
    "1970-01-01 00:00:00",
    "9999-12-31 23:59:59.999999",
    "10000-01-01 00:00:00",
    "2026-11-21 04:24:00.1",
    "2026-11-21 04:24:00.000001",
    "2026-11-21 24:00:00",
    "0044-03-15 12:00:00.5 BC",
    "1582-10-15 00:00:00",
    "2016-12-31 23:59:60",
];

const JSON: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "1e10",
    "1E-5",
    "1.50",
    "12345678901234567890.123456789",
    "\"\"",
    "\"a\\u0001\\n\\\"\\\\\\/\\u00e9\\ud83d\\ude00\"",
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    "{\"\":{}}",
    "[[[[[[[[1]]]]]]]]",
    "{\"a\":1,\"a\":2}",
    "  {  \"a\" :\n [ 1 ,\r\n 2 ] }  ",
    "{\"b\":1,\"a\":2,\"aa\":3}",
    "[null,true,false,1,\"x\",{},[]]",
    "1e400",
    "-1e-400",
    "\"\u{7f}\u{2028}\"",
    "{\"%s\":\"%n\"}",
];

/// Random bits of a random magnitude, so that small numbers occur too.
fn bits(rng: &mut StdRng) -> i64 {
    rng.random::<i64>() >> rng.random_range(0..64)
}

fn cut(text: String, characters: usize) -> String {
    text.chars().take(characters / 4).collect()
}

fn text(rng: &mut StdRng) -> String {
    let pieces = rng.random_range(0..8);
    (0..pieces)
        .map(|_| match rng.random_range(0..3) {
            0 => TEXTS[rng.random_range(0..TEXTS.len())].to_owned(),
            1 => format!("{:x}", rng.random::<u32>()),
            _ => loop {
                match char::from_u32(rng.random_range(1..0x11_0000)) {
                    Some(character) => break character.to_string(),
                    None => continue,
                }
            },
        })
        .collect()
}

fn bytea(rng: &mut StdRng) -> String {
    let length = rng.random_range(0..40);
    let digits: String = (0..length)
        .map(|_| format!("{:02x}", rng.random::<u8>()))
        .collect();
    format!("\\x{digits}")
}

fn float8(rng: &mut StdRng) -> String {
    let value = match rng.random_range(0..4) {
        // Any bit pattern; whole numbers whose halfway points are short; few digits.
        0 | 1 => f64::from_bits(rng.random()),
        2 => (rng.random::<u64>() >> rng.random_range(0..12)) as f64,
        _ => f64::from(rng.random::<i32>()) / 10f64.powi(rng.random_range(0..12)),
    };
    if value.is_finite() {
        format!("{value:e}")
    } else {
        "NaN".into()
    }
}

fn float4(rng: &mut StdRng) -> String {
    let value = match rng.random_range(0..4) {
        0 | 1 => f32::from_bits(rng.random()),
        2 => (rng.random::<u64>() >> rng.random_range(0..64)) as f32,
        _ => f32::from(rng.random::<i16>()) / 10f32.powi(rng.random_range(0..8)),
    };
    if value.is_finite() {
        format!("{value:e}")
    } else {
        "NaN".into()
    }
}

fn numeric(rng: &mut StdRng) -> String {
    let mut digits = |most: usize| -> String {
        let length = rng.random_range(0..=most);
        (0..length)
            .map(|_| char::from(b"0000123456789999"[rng.random_range(0..16)]))
            .collect()
    };
    let (whole, fraction) = (digits(30), digits(30));
    let sign = if rng.random() { "-" } else { "" };
    let exponent = match rng.random_range(0..4) {
        0 => format!("e{}", rng.random_range(-60..60)),
        _ => String::new(),
    };
    format!("{sign}0{whole}.{fraction}{exponent}")
}

fn date(rng: &mut StdRng) -> String {
    let (month, day) = (rng.random_range(1..13), rng.random_range(1..29));
    match rng.random_range(0..4) {
        0 => format!("{:04}-{month:02}-{day:02} BC", rng.random_range(1..4713)),
        1 => format!(
            "{}-{month:02}-{day:02}",
            rng.random_range(10_000..5_874_897)
        ),
        _ => format!("{:04}-{month:02}-{day:02}", rng.random_range(1..10_000)),
    }
}

fn time(rng: &mut StdRng) -> String {
    let clock = format!(
        "{:02}:{:02}:{:02}",
        rng.random_range(0..24),
        rng.random_range(0..60),
        rng.random_range(0..60)
    );
    match rng.random_range(0..3) {
        0 => clock,
        1 => format!("{clock}.{:03}", rng.random_range(0..1000)),
        _ => format!("{clock}.{:06}", rng.random_range(0..1_000_000)),
    }
}

fn timetz(rng: &mut StdRng) -> String {
    let sign = if rng.random() { '+' } else { '-' };
    let zone = match rng.random_range(0..3) {
        0 => format!("{:02}", rng.random_range(0..16)),
        1 => format!(
            "{:02}:{:02}",
            rng.random_range(0..15),
            rng.random_range(0..60)
        ),
        _ => format!(
            "{:02}:{:02}:{:02}",
            rng.random_range(0..15),
            rng.random_range(0..60),
            rng.random_range(0..60)
        ),
    };
    format!("{}{sign}{zone}", time(rng))
}

fn timestamp(rng: &mut StdRng) -> String {
    let (month, day) = (rng.random_range(1..13), rng.random_range(1..29));
    let clock = time(rng);
    match rng.random_range(0..4) {
        0 => format!(
            "{:04}-{month:02}-{day:02} {clock} BC",
            rng.random_range(1..4713)
        ),
        1 => format!(
            "{}-{month:02}-{day:02} {clock}",
            rng.random_range(10_000..294_276)
        ),
        _ => format!(
            "{:04}-{month:02}-{day:02} {clock}",
            rng.random_range(1..10_000)
        ),
    }
}

fn interval(rng: &mut StdRng) -> String {
    let mut part = |most: i64| match rng.random_range(0..3) {
        0 => 0,
        1 => rng.random_range(-3..4),
        _ => rng.random_range(-most..most),
    };
    format!(
        "{} mons {} days {} microseconds",
        part(1_000_000),
        part(1_000_000),
        part(1_000_000_000_000)
    )
}

/// A random document, written with random white space.
fn json(rng: &mut StdRng) -> String {
    let mut out = String::new();
    json_value(rng, 4, &mut out);
    out
}

fn json_space(rng: &mut StdRng, out: &mut String) {
    if rng.random_range(0..6) == 0 {
        out.push_str([" ", "\n", "\t", "\r\n"][rng.random_range(0..4)]);
    }
}

fn json_string(rng: &mut StdRng, out: &mut String) {
    let plain: String = text(rng).chars().filter(|&c| c != '\0').collect();
    out.push_str(&serde_json::to_string(&plain).expect("a string"));
}

fn json_value(rng: &mut StdRng, depth: u32, out: &mut String) {
    json_space(rng, out);
    let most = if depth == 0 { 5 } else { 8 };
    match rng.random_range(0..most) {
        0 => out.push_str(["null", "true", "false"][rng.random_range(0..3)]),
        1 => out.push_str(&bits(rng).to_string()),
        2 => out.push_str(&format!("{}.{:04}", bits(rng), rng.random_range(0..10_000))),
        3 => out.push_str(&format!(
            "{}e{}",
            rng.random_range(-99..99),
            rng.random_range(-40..40)
        )),
        4 => json_string(rng, out),
        // Now and then more entries than lie between two stored offsets (32).
        kind => {
            let object = kind == 5;
            let count = if rng.random_range(0..30) == 0 {
                70
            } else {
                rng.random_range(0..5)
            };
            out.push(if object { '{' } else { '[' });
            for place in 0..count {
                if place > 0 {
                    out.push(',');
                }
                if object {
                    json_space(rng, out);
                    json_string(rng, out);
                    out.push(':');
                }
                json_value(rng, if count > 10 { 0 } else { depth - 1 }, out);
            }
            json_space(rng, out);
            out.push(if object { '}' } else { ']' });
        }
    }
    json_space(rng, out);
}
