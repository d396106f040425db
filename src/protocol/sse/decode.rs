//! Reading an event stream that arrives in pieces of any size, with bounded memory.

use std::{error::Error, fmt, mem, time::Duration};

use bytes::Bytes;

/// Room for a field's name, colon and space, so that data of exactly the permitted size fits its line.
const FIELD_NAME_BYTES_MAX: usize = 8;
/// An emptied buffer larger than this is given back; most streams are quiet most of the time.
const IDLE_BUFFER_BYTES_MAX: usize = 16 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One block of an event stream that set at least one field.
///
/// Unlike a browser, the decoder hands out blocks without data too: an id or a `retry` alone matters to who resumes
/// the stream. Nothing is remembered from block to block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The id that this block set; empty means: forget the last one.
    pub id: Option<String>,
    /// The type; absent means `message`.
    pub event: Option<String>,
    /// How long to wait before reconnecting.
    pub retry: Option<Duration>,
    /// The data lines, joined by `\n`. A single empty line gives empty data (L12).
    pub data: Option<Bytes>,
}

/// A line or an event is longer than permitted. The stream is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The limit, in bytes.
    pub event_bytes_max: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an event is longer than {} bytes", self.event_bytes_max)
    }
}

impl Error for TooLong {}

/// Turns the bytes of an event stream into events (WHATWG HTML, section 9.2.6).
///
/// Push what arrived, then take events until there are none. It holds at most what was pushed last, an unfinished
/// line and an unfinished event, the latter two bounded by the limit. The end of a stream discards an unfinished
/// event, as the standard says: just drop the decoder.
#[derive(Debug)]
pub struct Decoder {
    event_bytes_max: usize,
    buffer: Vec<u8>,
    /// Where the current line starts, and up to where it is known to have no end.
    line_start: usize,
    searched: usize,
    at_stream_start: bool,
    /// The last line ended in CR: an LF next belongs to it.
    after_cr: bool,
    too_long: bool,
    block: Block,
}

/// The fields of the block being read.
#[derive(Debug, Default)]
struct Block {
    id: Option<String>,
    event: Option<String>,
    retry: Option<Duration>,
    data: Option<Vec<u8>>,
}

impl Decoder {
    /// A decoder at the start of a stream. `event_bytes_max` bounds id, type and data of one event together, and any
    /// single line.
    #[must_use]
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            buffer: Vec::new(),
            line_start: 0,
            searched: 0,
            at_stream_start: true,
            after_cr: false,
            too_long: false,
            block: Block::default(),
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        if !self.too_long {
            self.buffer.extend_from_slice(chunk);
        }
    }

    /// The next complete event; `None` until more is pushed.
    ///
    /// # Errors
    /// [`TooLong`] once the limit is passed, and at every later call. Which events come before it does not depend on
    /// how the bytes were divided.
    #[expect(clippy::should_implement_trait, reason = "it can go on after None, an iterator's caller won't")]
    pub fn next(&mut self) -> Result<Option<Event>, TooLong> {
        while !self.too_long {
            let Some((start, end)) = self.next_line() else { break };
            if start == end {
                let block = mem::take(&mut self.block);
                if let Some(event) = block.finish() {
                    return Ok(Some(event));
                }
                continue;
            }
            self.block.take_line(&self.buffer[start..end]);
            if end - start > self.line_bytes_max() || self.block.bytes() > self.event_bytes_max {
                self.too_long = true;
            }
        }
        self.tidy();
        if self.too_long { Err(TooLong { event_bytes_max: self.event_bytes_max }) } else { Ok(None) }
    }

    /// How many bytes are held: not yet read, and of the event begun.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.buffer.len() - self.line_start + self.block.bytes()
    }

    /// Finds the next complete line and steps over it.
    fn next_line(&mut self) -> Option<(usize, usize)> {
        self.skip_byte_order_mark()?;
        if self.after_cr && self.line_start < self.buffer.len() {
            self.after_cr = false;
            if self.buffer[self.line_start] == b'\n' {
                self.line_start += 1;
                self.searched = self.line_start;
            }
        }
        let Some(found) = memchr::memchr2(b'\n', b'\r', &self.buffer[self.searched..]) else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = (self.line_start, self.searched + found);
        self.after_cr = self.buffer[line.1] == b'\r';
        self.line_start = line.1 + 1;
        self.searched = self.line_start;
        Some(line)
    }

    /// `None` while the first bytes may still turn out to be a byte order mark.
    fn skip_byte_order_mark(&mut self) -> Option<()> {
        if self.at_stream_start {
            if self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.line_start = BYTE_ORDER_MARK.len();
                self.searched = self.line_start;
            } else if BYTE_ORDER_MARK.starts_with(&self.buffer) {
                return None;
            }
            self.at_stream_start = false;
        }
        Some(())
    }

    /// Gives back what was read, and notices a line without end.
    fn tidy(&mut self) {
        self.too_long |= self.buffer.len() - self.line_start > self.line_bytes_max();
        if self.too_long {
            self.buffer = Vec::new();
            self.block = Block::default();
        } else {
            self.buffer.drain(..self.line_start);
            if self.buffer.is_empty() && self.buffer.capacity() > IDLE_BUFFER_BYTES_MAX {
                self.buffer = Vec::new();
            }
        }
        self.searched = self.buffer.len().min(self.searched.saturating_sub(self.line_start));
        self.line_start = 0;
    }

    fn line_bytes_max(&self) -> usize {
        self.event_bytes_max.saturating_add(FIELD_NAME_BYTES_MAX)
    }
}

impl Block {
    fn take_line(&mut self, line: &[u8]) {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            },
            b"id" if !value.contains(&0) => self.id = Some(String::from_utf8_lossy(value).into_owned()),
            b"event" => self.event = Some(String::from_utf8_lossy(value).into_owned()),
            b"retry" => self.retry = milliseconds(value).or(self.retry),
            // A comment has an empty name; unknown fields are ignored.
            _ => {}
        }
    }

    fn finish(self) -> Option<Event> {
        let Self { id, event, retry, data } = self;
        let event = Event { id, event, retry, data: data.map(Bytes::from) };
        (event != Event::default()).then_some(event)
    }

    fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        text(&self.id) + text(&self.event) + self.data.as_ref().map_or(0, Vec::len)
    }
}

/// Digits only; anything else, and what no clock can hold, is ignored.
fn milliseconds(value: &[u8]) -> Option<Duration> {
    let digits =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().map(Duration::from_millis)
}
