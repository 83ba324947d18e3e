//! Random predicates, mostly well typed, with and without the parentheses that
//! precedence makes needless.

use rand::Rng;
use rand::rngs::StdRng;

use super::values::*;

pub struct Generator {
    random: StdRng,
}

impl Generator {
    pub fn new(random: StdRng) -> Self {
        Generator { random }
    }

    fn one(&mut self, of: u32) -> bool {
        self.random.random_ratio(1, of)
    }

    fn pick<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.random.random_range(0..texts.len())]
    }

    fn column(&mut self, kind: Kind) -> &'static Column {
        let of: Vec<&Column> = COLUMNS
            .iter()
            .filter(|column| column.kind == kind)
            .collect();
        of[self.random.random_range(0..of.len())]
    }

    /// Parentheses, mostly.
    fn wrapped(&mut self, text: String) -> String {
        if self.one(4) {
            text
        } else {
            format!("({text})")
        }
    }

    pub fn predicate(&mut self) -> String {
        let depth = self.random.random_range(0..4);
        self.truth(depth)
    }

    fn any(&mut self, kind: Kind, depth: u32) -> String {
        match kind {
            Kind::Bool => self.truth(depth),
            Kind::Number => self.number(depth),
            Kind::Text => self.text(depth),
            Kind::Date => self.date(depth),
            Kind::Timestamp => self.timestamp(depth),
            Kind::Interval => self.interval(depth),
            Kind::Time | Kind::TimeTz | Kind::Uuid | Kind::Bytea | Kind::Json => {
                let column = self.column(kind);
                if kind == Kind::Time && depth > 0 && self.one(3) {
                    let sign = self.pick(&["+", "-"]);
                    let span = self.interval(0);
                    return format!("({} {sign} {span})", column.name);
                }
                if self.one(3) {
                    let value = self.pick(column.values);
                    return format!("{}::{}", quoted(value), column.declared);
                }
                column.name.into()
            }
        }
    }

    fn kind(&mut self) -> Kind {
        const KINDS: [Kind; 14] = [
            Kind::Number,
            Kind::Number,
            Kind::Number,
            Kind::Number,
            Kind::Text,
            Kind::Text,
            Kind::Text,
            Kind::Date,
            Kind::Timestamp,
            Kind::Interval,
            Kind::Time,
            Kind::TimeTz,
            Kind::Uuid,
            Kind::Bytea,
        ];
        KINDS[self.random.random_range(0..KINDS.len())]
    }

    fn comparison(&mut self) -> &'static str {
        self.pick(&["=", "<>", "!=", "<", "<=", ">", ">="])
    }

    fn truth(&mut self, depth: u32) -> String {
        if depth > 0 {
            let (left, right) = (depth - 1, self.random.random_range(0..depth));
            match self.random.random_range(0..14) {
                0..=2 => {
                    let (a, b) = (self.truth(left), self.truth(right));
                    let junction = self.pick(&["AND", "OR"]);
                    let (a, b) = (self.wrapped(a), self.wrapped(b));
                    return format!("{a} {junction} {b}");
                }
                3 => {
                    let a = self.truth(left);
                    let a = self.wrapped(a);
                    return format!("NOT {a}");
                }
                4 => {
                    let a = self.truth(left);
                    let what = self.pick(&[
                        "TRUE",
                        "FALSE",
                        "UNKNOWN",
                        "NOT TRUE",
                        "NOT FALSE",
                        "NOT UNKNOWN",
                        "NULL",
                        "NOT NULL",
                    ]);
                    return format!("({a}) IS {what}");
                }
                5 => {
                    let (c, a, b) = (self.truth(right), self.truth(left), self.truth(0));
                    return if self.one(2) {
                        format!("CASE WHEN {c} THEN {a} ELSE {b} END")
                    } else {
                        format!("CASE WHEN {c} THEN {a} END")
                    };
                }
                6 => {
                    let (a, b) = (self.truth(left), self.truth(0));
                    return format!("COALESCE({a}, {b})");
                }
                _ => {}
            }
        }
        match self.random.random_range(0..16) {
            0 => {
                let column = &COLUMNS[self.random.random_range(0..COLUMNS.len())];
                let what = self.pick(&["NULL", "NOT NULL"]);
                format!("{} IS {what}", column.name)
            }
            1 => "b".into(),
            2 => {
                let kind = self.kind();
                let (a, b) = (self.any(kind, depth), self.any(kind, 0));
                let what = self.pick(&["IS DISTINCT FROM", "IS NOT DISTINCT FROM"]);
                if self.one(6) {
                    return format!("{a} {what} NULL");
                }
                format!("{a} {what} {b}")
            }
            3 | 4 => self.in_list(depth),
            5 => {
                let kind = self.kind();
                let not = self.pick(&["", "NOT "]);
                let (a, b, c) = (self.any(kind, depth), self.any(kind, 0), self.any(kind, 0));
                format!("{a} {not}BETWEEN {b} AND {c}")
            }
            6 | 7 => {
                let text = self.text(depth);
                let like = self.pick(&["LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"]);
                let pattern = self.pick(&[
                    "%", "a%", "%a", "_", "__", "a_c", "%b%", "", "\\%", "a\\%", "A%", "%é%",
                    "ab   ", "abc__", "a\\",
                ]);
                let escape = if self.one(6) { " ESCAPE '#'" } else { "" };
                format!("{text} {like} {}{escape}", quoted(pattern))
            }
            8 => {
                // A literal without a type takes the column's.
                let column = &COLUMNS[self.random.random_range(0..COLUMNS.len() - 1)];
                let literal = quoted(self.pick(column.values));
                let comparison = self.comparison();
                if self.one(2) {
                    format!("{} {comparison} {literal}", column.name)
                } else {
                    format!("{literal} {comparison} {}", column.name)
                }
            }
            9 => {
                let (a, b) = (self.date(depth), self.timestamp(0));
                let comparison = self.comparison();
                format!("{a} {comparison} {b}")
            }
            _ => {
                let kind = self.kind();
                let (a, b) = (self.any(kind, depth), self.any(kind, depth / 2));
                let comparison = self.comparison();
                format!("{a} {comparison} {b}")
            }
        }
    }

    fn in_list(&mut self, depth: u32) -> String {
        let kind = self.kind();
        let argument = self.any(kind, depth);
        let not = self.pick(&["", "NOT "]);
        let count = self.random.random_range(1..5);
        let items: Vec<String> = (0..count)
            .map(|_| {
                if self.one(10) {
                    return "NULL".into();
                }
                let column = self.column(kind);
                match self.random.random_range(0..4) {
                    0 => column.name.into(),
                    1 if kind == Kind::Number => self.number(0),
                    _ => {
                        let literal = quoted(self.pick(column.values));
                        if self.one(3) {
                            format!("{literal}::{}", column.declared)
                        } else {
                            literal
                        }
                    }
                }
            })
            .collect();
        format!("{argument} {not}IN ({})", items.join(", "))
    }

    fn literal(&mut self) -> String {
        match self.random.random_range(0..6) {
            0 => {
                let column = self.column(Kind::Number);
                let value = self.pick(column.values);
                format!("{}::{}", quoted(value), column.declared)
            }
            _ => self
                .pick(&[
                    "0",
                    "1",
                    "2",
                    "-1",
                    "3",
                    "7",
                    "10",
                    "0.5",
                    "1.0",
                    "-2.50",
                    "100",
                    "32768",
                    "2147483648",
                    "-2147483648",
                    "9223372036854775807",
                    "-9223372036854775808",
                    "9223372036854775808",
                    "1e3",
                    "1e-7",
                    ".25",
                    "5.",
                    "12345678901234567890.5",
                ])
                .into(),
        }
    }

    fn number(&mut self, depth: u32) -> String {
        if depth == 0 || self.one(5) {
            return if self.one(3) {
                self.literal()
            } else {
                self.column(Kind::Number).name.into()
            };
        }
        let depth = depth - 1;
        match self.random.random_range(0..14) {
            0..=6 => {
                let operator = self.pick(&["+", "-", "*", "/", "%"]);
                let (a, b) = (self.number(depth), self.number(depth / 2));
                if self.one(3) {
                    format!("{a} {operator} {b}")
                } else {
                    format!("({a} {operator} {b})")
                }
            }
            7 => {
                let a = self.number(depth);
                format!("(- {a})")
            }
            8 => {
                let a = self.number(depth);
                format!("abs({a})")
            }
            9 | 10 => {
                let a = self.number(depth);
                let kind = self.pick(&[
                    "int2",
                    "int4",
                    "int8",
                    "float4",
                    "float8",
                    "numeric",
                    "numeric(10,2)",
                    "numeric(5)",
                    "int",
                    "bigint",
                    "real",
                    "double precision",
                ]);
                if self.one(2) {
                    format!("({a})::{kind}")
                } else {
                    format!("CAST({a} AS {kind})")
                }
            }
            11 => {
                let (a, b) = (self.number(depth), self.number(0));
                let function = self.pick(&["COALESCE", "NULLIF"]);
                format!("{function}({a}, {b})")
            }
            12 => {
                let a = self.text(depth);
                let function = self.pick(&["length", "char_length"]);
                format!("{function}({a})")
            }
            _ => {
                if self.one(2) {
                    let (a, b) = (self.date(depth), self.date(0));
                    format!("({a} - {b})")
                } else {
                    let (c, a, b) = (self.truth(0), self.number(depth), self.number(0));
                    format!("CASE WHEN {c} THEN {a} ELSE {b} END")
                }
            }
        }
    }

    fn text(&mut self, depth: u32) -> String {
        if depth == 0 || self.one(3) {
            return match self.random.random_range(0..5) {
                0 => quoted(self.pick(TEXT)),
                1 => {
                    let value = quoted(self.pick(TEXT));
                    let kind = self.pick(&["text", "varchar(2)", "char(3)", "varchar"]);
                    format!("{value}::{kind}")
                }
                _ => self.column(Kind::Text).name.into(),
            };
        }
        let depth = depth - 1;
        match self.random.random_range(0..7) {
            0 | 1 => {
                let a = self.text(depth);
                let b = if self.one(3) {
                    self.column(Kind::Number).name.into()
                } else {
                    self.text(0)
                };
                format!("({a} || {b})")
            }
            2 => {
                let a = self.text(depth);
                let function = self.pick(&["lower", "upper"]);
                format!("{function}({a})")
            }
            3 => {
                let kind = self.kind();
                let a = self.any(kind, depth);
                let target = self.pick(&["text", "varchar(4)", "char(4)"]);
                format!("({a})::{target}")
            }
            4 => {
                let (a, b) = (self.text(depth), self.text(0));
                let function = self.pick(&["COALESCE", "NULLIF"]);
                format!("{function}({a}, {b})")
            }
            5 => {
                let a = self.text(depth);
                format!("{a} COLLATE \"C\"")
            }
            _ => {
                let (c, a, b) = (self.truth(0), self.text(depth), self.text(0));
                format!("CASE WHEN {c} THEN {a} ELSE {b} END")
            }
        }
    }

    fn date(&mut self, depth: u32) -> String {
        if depth == 0 || self.one(3) {
            return if self.one(3) {
                format!("date {}", quoted(self.pick(DATE)))
            } else {
                "d".into()
            };
        }
        match self.random.random_range(0..4) {
            0 | 1 => {
                let sign = self.pick(&["+", "-"]);
                let days = self.pick(&["1", "i2", "i4", "-365", "2147483647"]);
                format!("(d {sign} {days})")
            }
            2 => {
                let timestamp = self.timestamp(depth - 1);
                format!("({timestamp})::date")
            }
            _ => {
                let (a, b) = (self.date(depth - 1), self.date(0));
                format!("COALESCE({a}, {b})")
            }
        }
    }

    fn timestamp(&mut self, depth: u32) -> String {
        if depth == 0 || self.one(3) {
            return match self.random.random_range(0..5) {
                0 => {
                    let kind = self.pick(&["timestamp", "timestamptz"]);
                    format!("{kind} {}", quoted(self.pick(TIMESTAMP)))
                }
                1 => "timestamptz '2024-02-29 12:30:00+05:30'".into(),
                _ => self.pick(&["ts", "tz"]).into(),
            };
        }
        match self.random.random_range(0..4) {
            0 | 1 => {
                let moment = if self.one(3) {
                    self.date(depth - 1)
                } else {
                    self.timestamp(depth - 1)
                };
                let span = self.interval(0);
                let sign = self.pick(&["+", "-"]);
                format!("({moment} {sign} {span})")
            }
            2 => {
                let date = self.date(depth - 1);
                let kind = self.pick(&["timestamp", "timestamptz"]);
                format!("({date})::{kind}")
            }
            _ => {
                let (a, b) = (self.timestamp(depth - 1), self.timestamp(0));
                format!("COALESCE({a}, {b})")
            }
        }
    }

    fn interval(&mut self, depth: u32) -> String {
        if depth == 0 || self.one(3) {
            return match self.random.random_range(0..4) {
                0 => format!("interval {}", quoted(self.pick(INTERVAL))),
                1 => self
                    .pick(&[
                        "interval '1' day",
                        "interval 'P1Y2M3DT4H5M6.5S'",
                        "'2 weeks ago'::interval",
                        "interval '-1 day 02:03'",
                    ])
                    .into(),
                _ => "iv".into(),
            };
        }
        match self.random.random_range(0..5) {
            0 | 1 => {
                let (a, b) = (self.timestamp(depth - 1), self.timestamp(0));
                format!("({a} - {b})")
            }
            2 | 3 => {
                let (a, b) = (self.interval(depth - 1), self.interval(0));
                let sign = self.pick(&["+", "-"]);
                format!("({a} {sign} {b})")
            }
            _ => {
                let a = self.interval(depth - 1);
                format!("(- {a})")
            }
        }
    }
}
