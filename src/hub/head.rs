//! The head of a request or response as bytes: its method or status on the first line, then a line for each
//! header.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// `first` has no line break.
pub(super) fn encode(first: &str, headers: &HeaderMap) -> Bytes {
    let mut head = BytesMut::from(first.as_bytes());
    for (name, value) in headers {
        head.put_u8(b'\n');
        head.extend_from_slice(name.as_str().as_bytes());
        head.put_u8(b':');
        head.extend_from_slice(value.as_bytes());
    }
    head.freeze()
}

/// `None` if these bytes are no head.
pub(super) fn decode(head: &[u8]) -> Option<(&str, HeaderMap)> {
    let mut lines = head.split(|&byte| byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = memchr::memchr(b':', line)?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        headers.append(name, HeaderValue::from_bytes(&line[colon + 1..]).ok()?);
    }
    Some((first, headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(first: &str, pairs: &[(&'static str, &[u8])]) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        assert_eq!(decode(&encode(first, &headers)), Some((first, headers)));
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        check("POST", &[]);
        check("200", &[("a", b""), ("a", b" b:c "), ("b", b"\xff\t")]);
    }

    #[test]
    fn bytes_that_are_no_head_are_refused() {
        for bytes in [&b"\xff"[..], b"200\nno colon", b"200\n: no name", b"200\na:\x01", b"200\n"] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
