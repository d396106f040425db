//! A result that is too long to be held: read as it passes, so far as it takes to know whose it is and that it is
//! whole. Only the envelope's shape is judged; what its values hold is for the client's parser.

use memchr::memchr2;

use super::{Id, Malformed};

/// Longer names are no member of the envelope.
const NAME_BYTES_MAX: usize = 16;

/// What was seen of one JSON-RPC result so far.
#[derive(Debug, Default)]
pub struct Passing {
    at: At,
    name: Vec<u8>,
    value: Vec<u8>,
    id: Option<Id>,
    is_versioned: bool,
    has_result: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// Before the object.
    #[default]
    Outside,
    /// Where a member begins. The first place may also be the object's end.
    Member {
        first: bool,
    },
    Name,
    Colon,
    Value,
    /// Inside a value of this depth; a string that stands in it, and whether a backslash was its last byte.
    Inside {
        depth: usize,
        string: Option<Escaped>,
    },
    /// A number, `true`, `false` or `null`.
    Scalar,
    AfterValue,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Escaped(bool);

impl Passing {
    /// Reads the next piece, however the text was cut.
    ///
    /// # Errors
    /// [`Malformed`] as soon as it can't be a result in JSON-RPC 2.0, section 5, any more: another kind of message, a
    /// member of the envelope twice, a name of one written with escapes.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), Malformed> {
        while let Some(&byte) = piece.first() {
            let taken = match self.at {
                At::Inside { depth, string } => self.inside(piece, depth, string)?,
                _ => self.envelope(byte)?,
            };
            piece = &piece[taken..];
        }
        Ok(())
    }

    /// The id of its request, once it was read.
    #[must_use]
    pub fn id(&self) -> Option<&Id> {
        self.id.as_ref()
    }

    /// Whether its result has begun.
    #[must_use]
    pub fn has_result(&self) -> bool {
        self.has_result
    }

    /// To be asked at the end of the text.
    ///
    /// # Errors
    /// [`Malformed`] unless all of a result was there.
    pub fn finish(&self) -> Result<(), Malformed> {
        let reason = match (self.at, self.is_versioned, self.has_result, &self.id) {
            (At::End, true, true, Some(_)) => return Ok(()),
            (At::End, false, ..) => "`jsonrpc` has to be \"2.0\"",
            (At::End, true, false, _) => "neither `method` nor `result` nor `error`",
            (At::End, true, true, None) => "a result names the id of its request",
            _ => return Err(Malformed::NotJson),
        };
        Err(Malformed::new(reason))
    }

    /// One byte of the object itself, or of a scalar in it; answers how many were taken.
    fn envelope(&mut self, byte: u8) -> Result<usize, Malformed> {
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at = match (self.at, byte) {
            (At::Scalar, b',' | b'}') => {
                self.value_ends()?;
                return Ok(0);
            }
            (At::Scalar, _) if is_space => {
                self.value_ends()?;
                At::AfterValue
            }
            (At::Scalar, _) => {
                self.keep(&[byte])?;
                At::Scalar
            }
            (At::Name, b'"') => At::Colon,
            (At::Name, b'\\') => {
                return Err(Malformed::new("a name in the envelope is written with escapes"));
            }
            (At::Name, _) => {
                if self.name.len() <= NAME_BYTES_MAX {
                    self.name.push(byte);
                }
                At::Name
            }
            (at, _) if is_space => at,
            (At::Outside, b'{') => At::Member { first: true },
            (At::Member { .. }, b'"') => {
                self.name.clear();
                At::Name
            }
            (At::Member { first: true }, b'}') | (At::AfterValue, b'}') => At::End,
            (At::Colon, b':') => At::Value,
            (At::Value, _) => {
                self.value_begins()?;
                self.keep(&[byte])?;
                match byte {
                    b'"' => At::Inside { depth: 0, string: Some(Escaped(false)) },
                    b'{' | b'[' => At::Inside { depth: 1, string: None },
                    b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => At::Scalar,
                    _ => return Err(Malformed::NotJson),
                }
            }
            (At::AfterValue, b',') => At::Member { first: false },
            _ => return Err(Malformed::NotJson),
        };
        Ok(1)
    }

    /// What `piece` has of a string, an object or an array; answers how many bytes were taken.
    fn inside(&mut self, piece: &[u8], depth: usize, string: Option<Escaped>) -> Result<usize, Malformed> {
        let (taken, depth, string) = match string {
            Some(Escaped(true)) => (1, depth, Some(Escaped(false))),
            Some(Escaped(false)) => match memchr2(b'"', b'\\', piece) {
                None => (piece.len(), depth, string),
                Some(found) if piece[found] == b'"' => (found + 1, depth, None),
                Some(found) => (found + 1, depth, Some(Escaped(true))),
            },
            None => match piece.iter().position(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']')) {
                None => (piece.len(), depth, None),
                Some(found) if piece[found] == b'"' => (found + 1, depth, Some(Escaped(false))),
                Some(found) if matches!(piece[found], b'{' | b'[') => (found + 1, depth + 1, None),
                Some(found) => (found + 1, depth - 1, None),
            },
        };
        self.keep(&piece[..taken])?;
        self.at = if depth == 0 && string.is_none() {
            self.value_ends()?;
            At::AfterValue
        } else {
            At::Inside { depth, string }
        };
        Ok(taken)
    }

    fn value_begins(&mut self) -> Result<(), Malformed> {
        self.value.clear();
        let twice = match &*self.name {
            b"id" => self.id.is_some(),
            b"jsonrpc" => self.is_versioned,
            b"result" => std::mem::replace(&mut self.has_result, true),
            b"error" | b"method" => return Err(Malformed::new("it is no result")),
            _ => false,
        };
        if twice { Err(Malformed::new("a member occurs twice")) } else { Ok(()) }
    }

    /// Only the values that are looked at are kept, and they are short.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if matches!(&*self.name, b"id" | b"jsonrpc") {
            self.value.extend_from_slice(bytes);
            if self.value.len() > Id::BYTES_MAX {
                return Err(Malformed::new("the id is too long"));
            }
        }
        Ok(())
    }

    fn value_ends(&mut self) -> Result<(), Malformed> {
        self.at = At::AfterValue;
        let text = || std::str::from_utf8(&self.value).map_err(|_| Malformed::NotJson);
        match &*self.name {
            b"id" => self.id = Some(Id::parse(text()?)?),
            b"jsonrpc" if self.value == br#""2.0""# => self.is_versioned = true,
            b"jsonrpc" => return Err(Malformed::new("`jsonrpc` has to be \"2.0\"")),
            _ => {}
        }
        Ok(())
    }
}
