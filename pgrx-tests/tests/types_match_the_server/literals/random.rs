//! Random literals of one type each.

use rand::Rng;
use rand::rngs::StdRng;

use super::TEXTS;

/// Random bits of a random magnitude, so that small numbers occur too.
pub fn bits(rng: &mut StdRng) -> i64 {
    rng.random::<i64>() >> rng.random_range(0..64)
}

pub fn cut(text: String, characters: usize) -> String {
    text.chars().take(characters / 4).collect()
}

pub fn text(rng: &mut StdRng) -> String {
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

pub fn bytea(rng: &mut StdRng) -> String {
    let length = rng.random_range(0..40);
    let digits: String = (0..length)
        .map(|_| format!("{:02x}", rng.random::<u8>()))
        .collect();
    format!("\\x{digits}")
}

pub fn float8(rng: &mut StdRng) -> String {
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

pub fn float4(rng: &mut StdRng) -> String {
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

pub fn numeric(rng: &mut StdRng) -> String {
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

pub fn date(rng: &mut StdRng) -> String {
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

pub fn time(rng: &mut StdRng) -> String {
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

pub fn timetz(rng: &mut StdRng) -> String {
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

pub fn timestamp(rng: &mut StdRng) -> String {
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

pub fn interval(rng: &mut StdRng) -> String {
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
pub fn json(rng: &mut StdRng) -> String {
    let mut out = String::new();
    json_value(rng, 4, &mut out);
    out
}

pub fn json_space(rng: &mut StdRng, out: &mut String) {
    if rng.random_range(0..6) == 0 {
        out.push_str([" ", "\n", "\t", "\r\n"][rng.random_range(0..4)]);
    }
}

pub fn json_string(rng: &mut StdRng, out: &mut String) {
    let plain: String = text(rng).chars().filter(|&c| c != '\0').collect();
    out.push_str(&serde_json::to_string(&plain).expect("a string"));
}

pub fn json_value(rng: &mut StdRng, depth: u32, out: &mut String) {
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
