//! The id of a JSON-RPC request, comparable by value and printable as JSON.

use std::{fmt, sync::Arc};

use super::Malformed;
use crate::protocol::peek;

/// A request id or a progress token: a string or a number, held as compact JSON text.
///
/// Strings are equal by value, however they were escaped. Numbers are equal as written: `1` and `1.0` differ, and so
/// do `1` and `"1"`. MCP forbids `null` (2025-11-25, Basic, Requests).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Arc<str>);

impl Id {
    /// The longest id that is read, in bytes of JSON text.
    pub const BYTES_MAX: usize = 4096;

    /// Reads an id from JSON text.
    ///
    /// # Errors
    /// [`Malformed::NotJson`], or [`Malformed::NotJsonRpc`] for any other value than a string or a number, for
    /// escapes that form no Unicode text, and beyond [`Id::BYTES_MAX`].
    pub fn parse(json: &str) -> Result<Self, Malformed> {
        let raw: &serde_json::value::RawValue = serde_json::from_str(json).map_err(|_| Malformed::NotJson)?;
        Self::read(raw.get())
    }

    /// The id that is this number.
    #[must_use]
    pub fn number(number: u64) -> Self {
        Self(number.to_string().into())
    }

    /// The id that is this string.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self(peek::quoted(text).into())
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// Reads an id from one JSON value without outer white space.
    pub(super) fn read(json: &str) -> Result<Self, Malformed> {
        if json.len() > Self::BYTES_MAX {
            return Err(Malformed::new("the id is too long"));
        }
        match json.as_bytes().first() {
            Some(b'"') => {
                let text = peek::string(json).ok_or_else(|| Malformed::new("the id is not Unicode text"))?;
                Ok(Self::string(&text))
            }
            Some(b'-' | b'0'..=b'9') => Ok(Self(json.into())),
            _ => Err(Malformed::new("an id is a string or a number")),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Id({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Option<&str>) {
        assert_eq!(Id::parse(json).ok().as_ref().map(Id::as_json), expected, "{json}");
    }

    #[test]
    fn strings_are_normalised_and_numbers_kept() {
        check("1", Some("1"));
        check(" -1.50e3\n", Some("-1.50e3"));
        check("18446744073709551616", Some("18446744073709551616"));
        check(r#""a""#, Some(r#""a""#));
        check(r#""\u0061\/\u00e9""#, Some(r#""a/é""#));
        check(r#""\u001F\b""#, Some(r#""\u001f\b""#));
        check(r#""1""#, Some(r#""1""#));
    }

    #[test]
    fn other_values_are_refused() {
        for json in ["null", "true", "{}", "[1]", "", "01", "1 2", "\"", r#""\ud800""#, "-", "\"a\nb\""] {
            check(json, None);
        }
    }

    #[test]
    fn length_is_bounded() {
        assert!(Id::parse(&format!("\"{}\"", "x".repeat(Id::BYTES_MAX - 2))).is_ok());
        assert!(Id::parse(&format!("\"{}\"", "x".repeat(Id::BYTES_MAX - 1))).is_err());
        assert!(Id::parse(&"1".repeat(Id::BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn made_ids_equal_read_ones() {
        assert_eq!(Id::number(7), Id::parse("7").unwrap());
        assert_eq!(Id::string("a\"\n"), Id::parse(r#""a\"\u000a""#).unwrap());
        assert_ne!(Id::number(1), Id::string("1"));
    }
}
