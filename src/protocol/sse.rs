//! Server-Sent Events, both ways (WHATWG HTML, section 9.2): frames to bytes, and bytes in any pieces to events.
//! What an id means is for `domain`, what the data holds for `jsonrpc`.

mod decode;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

pub use self::decode::{Decoder, Event, TooLong};

/// A comment that keeps a quiet connection open and says nothing (M6). No blank line follows it: httpx-sse, which
/// Python's clients read with, makes an event with empty data of any blank line once it has seen an id, and clients
/// from before 2025-11-25 choke on that (L12).
pub const KEEP_ALIVE: &[u8] = b":\n";

/// Says how long to wait before a reconnect to clients that choke on an event without data: a `retry` counts as soon
/// as its line is read, and without a blank line after it there is no event.
#[must_use]
pub fn retry_line(retry: Duration) -> Bytes {
    let mut text = Vec::with_capacity(16);
    field(&mut text, b"retry", retry.as_millis().to_string().as_bytes());
    text.into()
}

/// One event to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The position a client comes back with.
    pub id: Option<&'a str>,
    /// The type; clients take an absent one for `message`.
    pub event: Option<&'a str>,
    /// How long the client shall wait before it reconnects; sent in whole milliseconds.
    pub retry: Option<Duration>,
    /// The payload, UTF-8. Empty data is sent as an empty `data` line (L12), which is not the same as none.
    pub data: Option<&'a [u8]>,
}

impl Frame<'_> {
    /// The frame as it goes on the wire, ended by a blank line; nothing at all for an empty frame.
    ///
    /// Line breaks in the data become several `data` lines, so the receiver sees each as `\n`. An id or a type with a
    /// line break or NUL is left out: no value of a field can start another field.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut text = Vec::with_capacity(self.data.map_or(0, <[u8]>::len) + 64);
        for (name, value) in [("id", self.id), ("event", self.event)] {
            if let Some(value) = value.filter(|value| !value.contains(['\n', '\r', '\0'])) {
                field(&mut text, name.as_bytes(), value.as_bytes());
            }
        }
        if let Some(retry) = self.retry {
            field(&mut text, b"retry", retry.as_millis().to_string().as_bytes());
        }
        if let Some(data) = self.data {
            data_lines(&mut text, data);
        }
        if !text.is_empty() {
            text.push(b'\n');
        }
        text.into()
    }
}

fn field(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    text.extend_from_slice(name);
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.push(b'\n');
}

fn data_lines(text: &mut Vec<u8>, mut data: &[u8]) {
    while let Some(at) = memchr::memchr2(b'\n', b'\r', data) {
        field(text, b"data", &data[..at]);
        data = &data[at..];
        data = data.strip_prefix(b"\r\n").unwrap_or(&data[1..]);
    }
    field(text, b"data", data);
}
