//! Points in time as people and programs write them.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use crate::domain::time::Timestamp;

/// The end of the year 9999, the last that every database and format can hold.
const LAST: u64 = 253_402_300_799_999;

/// A point in time: milliseconds since 1970, or RFC 3339 with any offset.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    if let Ok(millis) = text.parse() {
        return from_millis(millis);
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        format!("`{text}` is no time: write RFC 3339 (2026-01-31T12:00:00Z) or milliseconds since 1970")
    })?;
    let millis = u64::try_from(time.as_millisecond()).map_err(|_| format!("`{text}` is before 1970"))?;
    from_millis(millis)
}

/// A point in time in a JSON body: a number or a text.
#[derive(Debug)]
pub(super) enum Written {
    Millis(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenVisitor)
    }
}

/// By hand: what is derived says of anything else that it "did not match any
/// variant", and not where.
struct WrittenVisitor;

impl Visitor<'_> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RFC 3339 text or milliseconds since 1970")
    }

    fn visit_u64<E>(self, millis: u64) -> Result<Written, E> {
        Ok(Written::Millis(millis))
    }

    fn visit_str<E>(self, text: &str) -> Result<Written, E> {
        Ok(Written::Text(text.to_owned()))
    }
}

impl Written {
    /// What is meant.
    pub(super) fn read(self) -> Result<Timestamp, String> {
        match self {
            Self::Millis(millis) => from_millis(millis),
            Self::Text(text) => parse(&text),
        }
    }
}

/// A point in time that every database can hold.
pub fn from_millis(millis: u64) -> Result<Timestamp, String> {
    if millis > LAST { Err(format!("{millis} is after the year 9999")) } else { Ok(Timestamp(millis)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings() {
        for (text, millis) in [
            ("0", 0),
            ("1767225599999", 1_767_225_599_999),
            ("2025-12-31T23:59:59.999Z", 1_767_225_599_999),
            ("2026-01-01T07:59:59.999+08:00", 1_767_225_599_999),
        ] {
            assert_eq!(parse(text), Ok(Timestamp(millis)), "{text}");
        }
        for bad in ["", "soon", "2026-01-01", "2026-01-01T00:00:00", "1969-12-31T23:59:59Z", "999999999999999", "-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
