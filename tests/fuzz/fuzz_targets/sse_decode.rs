//! First byte: limit; second: chunk size; the rest: an event stream. Chunks must not matter, limits must hold, and
//! what was decoded must survive being encoded.
#![no_main]

use holdfast_fuzz::protocol::sse::{Decoder, Event, Frame};
use libfuzzer_sys::fuzz_target;

/// As if there were none; the decoder adds to it.
const NO_LIMIT: usize = usize::MAX / 4;

fuzz_target!(|input: &[u8]| {
    let [limit, chunk_bytes, stream @ ..] = input else { return };
    let limit = usize::from(*limit);
    let chunk_bytes = usize::from(*chunk_bytes).max(1);
    let divided = decode(limit, stream, chunk_bytes);
    assert_eq!(divided, decode(limit, stream, stream.len().max(1)));

    let (events, too_long) = decode(NO_LIMIT, stream, chunk_bytes);
    assert!(!too_long && events.starts_with(&divided.0));
    let encoded: Vec<u8> = events.iter().flat_map(|event| frame(event).encode()).collect();
    let expected: Vec<Event> = events.into_iter().filter_map(sendable).collect();
    assert_eq!(decode(NO_LIMIT, &encoded, chunk_bytes).0, expected);
});

fn decode(limit: usize, stream: &[u8], chunk_bytes: usize) -> (Vec<Event>, bool) {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    for chunk in stream.chunks(chunk_bytes) {
        decoder.push(chunk);
        loop {
            match decoder.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => return (events, true),
            }
        }
        assert!(decoder.held_bytes() <= limit * 2 + 8);
    }
    (events, false)
}

/// NUL in a type can be received but is never sent.
fn sendable(mut event: Event) -> Option<Event> {
    event.event = event.event.filter(|event| !event.contains('\0'));
    (event != Event::default()).then_some(event)
}

fn frame(event: &Event) -> Frame<'_> {
    let Event { id, event, retry, data } = event;
    Frame { id: id.as_deref(), event: event.as_deref(), retry: *retry, data: data.as_deref() }
}
