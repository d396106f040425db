//! Secret keys as random bytes, written in base64 or in hexadecimal, here or in a file.

use std::fmt;
use std::fs::File;
use std::io::Read as _;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::catalogue::Shape;
use super::reader::Section;
use super::units::Reason;

/// As long as what HMAC-SHA256 makes: a shorter key is a weaker one (RFC 2104, section 3).
const BYTES_MIN: usize = 32;

/// Far more than anybody needs; a wrong file may be of any size.
const FILE_BYTES_MAX: u64 = 4096;

/// Bytes that are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyBytes(Vec<u8>);

impl KeyBytes {
    /// The bytes themselves, for the one place that uses them.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        let bytes = hexadecimal(text).or_else(|| base64(text)).ok_or("is neither base64 nor hexadecimal")?;
        match bytes.len() {
            BYTES_MIN.. => Ok(Self(bytes)),
            few => Err(format!("has {few} bytes").into()),
        }
    }

    fn read(path: &str) -> Result<Self, Reason> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
        read.map_err(|error| Reason::Owned(format!("can't be read: {error}")))?;
        Self::parse(text.trim()).map_err(|reason| format!("holds a secret that {reason}").into())
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

/// Of both alphabets, with padding or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabets = [alphabet::STANDARD, alphabet::URL_SAFE];
    alphabets.iter().find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
}

const RANGE: &str = "at least 32 bytes, in base64 or hexadecimal";

impl Section<'_, '_> {
    /// Key bytes, given as they are or by a file.
    pub(super) fn key_bytes(
        &mut self,
        key: &'static str,
        file_key: &'static str,
        doc: &'static str,
        file_doc: &'static str,
    ) -> Option<KeyBytes> {
        let shape = Shape { kind: "secret", default: "none".into(), range: RANGE.into(), doc };
        let given = self.single(key, shape, KeyBytes::parse);
        let range = format!("the path of a file with {RANGE}");
        let shape = Shape { kind: "text", default: "none".into(), range, doc: file_doc };
        let read = self.single(file_key, shape, KeyBytes::read);
        match (self.was_given(key), self.was_given(file_key)) {
            (true, true) => {
                self.fault(
                    &[file_key, key],
                    format!("there are both {key} and {file_key}: give one of them"),
                );
            }
            (false, false) => self.fault(&[key], format!("must be given, or {file_key}")),
            (true, false) | (false, true) => {}
        }
        given.or(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_every_usual_form() {
        let bytes: Vec<u8> = (224..=255).collect();
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let standard = "4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8=";
        let urls = standard.replace('+', "-").replace('/', "_");
        let forms =
            [&hexadecimal, &hexadecimal.to_uppercase(), standard, standard.trim_end_matches('='), &urls];
        for form in forms {
            assert_eq!(KeyBytes::parse(form), Ok(KeyBytes(bytes.clone())), "{form}");
        }
        assert_eq!(KeyBytes::parse(&"ab".repeat(100)).unwrap().reveal().len(), 100);
    }

    #[test]
    fn what_is_no_key_says_why() {
        fn check(text: &str, expected: &str) {
            assert_eq!(KeyBytes::parse(text), Err(expected.into()), "{text}");
        }
        check("", "has 0 bytes");
        check(&"ab".repeat(31), "has 31 bytes");
        check("QUJD", "has 3 bytes");
        check("correct horse battery staple", "is neither base64 nor hexadecimal");
        check("é", "is neither base64 nor hexadecimal");
    }

    #[test]
    fn never_shown() {
        let key = KeyBytes::parse(&"ab".repeat(32)).unwrap();
        assert_eq!(format!("{key:?}"), "(secret)");
    }
}
