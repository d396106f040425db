//! Cases of the standard, and properties: what is encoded is decoded again under any division into chunks, arbitrary
//! bytes never break the decoder, and it never holds more than it promised.

use proptest::{collection::vec, option, prelude::*, string::string_regex};

use super::*;

const ROOMY: usize = 1 << 20;

/// Everything a decoder gives for the chunks, and whether it ended in `TooLong`.
fn decode<'c>(limit: usize, chunks: impl IntoIterator<Item = &'c [u8]>) -> (Vec<Event>, bool) {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(TooLong { event_bytes_max }) => {
                    assert_eq!(event_bytes_max, limit);
                    assert_eq!(decoder.held_bytes(), 0);
                    return (events, true);
                }
            }
        }
        // An unfinished line, and what the block has so far.
        assert!(decoder.held_bytes() <= 2 * limit + 8, "holds {}", decoder.held_bytes());
    }
    (events, false)
}

/// (id, event, retry in ms, data)
type Fields<'a> = (Option<&'a str>, Option<&'a str>, Option<u64>, Option<&'a str>);

#[track_caller]
fn check(stream: &str, expected: &[Fields<'_>]) {
    let expected: Vec<Event> = expected
        .iter()
        .map(|(id, event, retry, data)| Event {
            id: id.map(Into::into),
            event: event.map(Into::into),
            retry: retry.map(Duration::from_millis),
            data: data.map(|data| Bytes::copy_from_slice(data.as_bytes())),
        })
        .collect();
    assert_eq!(decode(ROOMY, [stream.as_bytes()]), (expected.clone(), false), "{stream:?}");
    assert_eq!(decode(ROOMY, stream.as_bytes().chunks(1)), (expected, false), "{stream:?} bytewise");
}

const fn data(text: &str) -> Fields<'_> {
    (None, None, None, Some(text))
}

#[test]
fn the_examples_of_the_standard() {
    check("data: This is the first message.\n\n", &[data("This is the first message.")]);
    check("data: YHOO\ndata: +2\ndata: 10\n\n", &[data("YHOO\n+2\n10")]);
    check(
        ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        &[
            (Some("1"), None, None, Some("first event")),
            (Some(""), None, None, Some("second event")),
            data(" third event"),
        ],
    );
    check("data\n\ndata\ndata\n\ndata:", &[data(""), data("\n")]);
    check("data:test\n\ndata: test\n\n", &[data("test"), data("test")]);
}

#[test]
fn every_line_end_counts_once() {
    for end in ["\n", "\r", "\r\n"] {
        check(&format!("id: 1{end}data: a{end}data: b{end}{end}"), &[(Some("1"), None, None, Some("a\nb"))]);
    }
    check("data: a\r\n\rdata: b\n\r\n", &[data("a"), data("b")]);
    check("data: a\r\r\r\ndata: b\r\n\n", &[data("a"), data("b")]);
}

#[test]
fn a_byte_order_mark_counts_at_the_start_only() {
    check("\u{feff}data: a\n\n", &[data("a")]);
    check("\u{feff}\u{feff}data: a\n\n", &[]);
    check("data: a\n\n\u{feff}data: b\n\n", &[data("a")]);
}

#[test]
fn fields_are_read_as_the_standard_says() {
    check("event: message\nevent: endpoint\ndata: /x\n\n", &[(None, Some("endpoint"), None, Some("/x"))]);
    check("id: a\0b\n\n", &[]);
    check("id: 1\nid: a\0b\n\n", &[(Some("1"), None, None, None)]);
    check("retry: 1500\n\n", &[(None, None, Some(1500), None)]);
    check("retry: +15\nretry: 1.5\nretry: -1\nretry:\nretry: 99999999999999999999\n\n", &[]);
    check("Data: a\ndata : b\n data: c\nunknown: d\n: data\n:\n\n", &[]);
    check("data: unfinished\n", &[]);
}

#[test]
fn l12_a_priming_event_is_surfaced() {
    check("id: s-1\ndata: \n\n", &[(Some("s-1"), None, None, Some(""))]);
    check("id: s-1\nretry: 3\n\n", &[(Some("s-1"), None, Some(3), None)]);
}

#[test]
fn m6_keep_alive_is_no_event() {
    check(&String::from_utf8_lossy(KEEP_ALIVE).repeat(3), &[]);
    check(&format!("data: a\n\n{}data: b\n\n", String::from_utf8_lossy(KEEP_ALIVE)), &[data("a"), data("b")]);
    assert!(!KEEP_ALIVE.ends_with(b"\n\n"), "a blank line is an event to some");
    assert_eq!(retry_line(Duration::from_secs(2)), &b"retry: 2000\n"[..]);
}

#[test]
fn frames_look_as_clients_expect_them() {
    let retry = Some(Duration::from_millis(1500));
    let frame = Frame { id: Some("s-1"), event: Some("message"), retry, data: Some(b"{}") };
    assert_eq!(frame.encode(), "id: s-1\nevent: message\nretry: 1500\ndata: {}\n\n");
    assert_eq!(Frame { data: Some(b""), id: Some("1"), ..Frame::default() }.encode(), "id: 1\ndata: \n\n");
    assert_eq!(
        Frame { data: Some(b"a\r\n\rb\n"), ..Frame::default() }.encode(),
        "data: a\ndata: \ndata: b\ndata: \n\n"
    );
    assert_eq!(Frame::default().encode(), "");
    let forged = Frame { id: Some("1\ndata: x"), event: Some("a\rid: 2"), ..Frame::default() };
    assert_eq!(forged.encode(), "");
    assert_eq!(Frame { id: Some("a\0"), event: Some("b\0"), ..Frame::default() }.encode(), "");
}

#[test]
fn endless_lines_and_events_end_the_stream() {
    let exact = format!("data: {}\n\n", "x".repeat(10));
    assert_eq!(decode(10, [exact.as_bytes()]).0.len(), 1);
    assert!(!decode(10, exact.as_bytes().chunks(1)).1);
    let above = format!("{exact}data: {}\n\n{exact}", "x".repeat(11));
    for size in [1, 3, 1000] {
        let (events, too_long) = decode(10, above.as_bytes().chunks(size));
        assert_eq!((events.len(), too_long), (1, true), "in chunks of {size}");
    }
    assert!(decode(10, std::iter::repeat_n(&b"data: x\n"[..], 100)).1);
    assert!(decode(10, std::iter::repeat_n(&b": comment\n"[..], 100)).0.is_empty());
    assert!(decode(10, std::iter::repeat_n(&b"xxxx"[..], 100)).1);
    let mut decoder = Decoder::new(1);
    decoder.push(&[b'x'; 100]);
    assert!(decoder.next().is_err());
    decoder.push(b"\n\ndata: a\n\n");
    assert!(decoder.next().is_err());
}

/// The standard's algorithm, told simply: whole text, no limit.
fn reference(stream: &[u8]) -> Vec<Event> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut lines = vec![Vec::new()];
    let mut bytes = stream.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                lines.push(Vec::new());
            }
            b'\n' => lines.push(Vec::new()),
            byte => lines.last_mut().unwrap().push(byte),
        }
    }
    lines.pop();
    let (mut events, mut event) = (Vec::new(), Event::default());
    for line in lines {
        if line.is_empty() {
            let finished = std::mem::take(&mut event);
            events.extend((finished != Event::default()).then_some(finished));
            continue;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let text = String::from_utf8_lossy(value).into_owned();
        match name {
            b"id" if !value.contains(&0) => event.id = Some(text),
            b"event" => event.event = Some(text),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                event.retry = text.parse().ok().map(Duration::from_millis).or(event.retry);
            }
            b"data" => {
                let before = event.data.take().map(|data| [&data[..], b"\n"].concat()).unwrap_or_default();
                event.data = Some([&before[..], value].concat().into());
            }
            _ => {}
        }
    }
    events
}

/// Bytes that are mostly event stream, cut into chunks.
fn any_chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let token = prop_oneof![
        4 => prop::sample::select(vec!["\n", "\r", "\r\n", "\n\n", ":", " ", "\0", "\u{feff}", "id", "id: 1", "data",
            "data:", "data: x", "event: e", "retry: 12", "retry: x", ": c"]).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..6),
    ];
    let chunk = vec(token, 0..5).prop_map(|tokens| tokens.concat());
    // Cutting again anywhere also divides CR from LF, and the byte order mark.
    (vec(chunk, 0..12), 1..5usize).prop_map(|(chunks, size)| {
        chunks.iter().flat_map(|chunk| chunk.chunks(size)).map(<[u8]>::to_vec).collect()
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        frames in vec((
            option::of(string_regex("[^\n\r\0]{0,12}").unwrap()),
            option::of(string_regex("[^\n\r\0]{0,12}").unwrap()),
            option::of(0..100_000u64),
            option::of(string_regex("[a-z\n\r\u{e9}: ]{0,12}").unwrap()),
        ), 0..6),
        sizes in vec(1..9usize, 1..40),
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (id, event, retry, data) in &frames {
            let retry = retry.map(Duration::from_millis);
            let (id, event) = (id.as_deref(), event.as_deref());
            stream.extend(Frame { id, event, retry, data: data.as_ref().map(String::as_bytes) }.encode());
            let data = data.as_ref().map(|data| data.replace("\r\n", "\n").replace('\r', "\n").into());
            let event = Event { id: id.map(Into::into), event: event.map(Into::into), retry, data };
            expected.extend((event != Event::default()).then_some(event));
        }
        let mut rest = &stream[..];
        let mut sizes = sizes.into_iter().cycle();
        let chunks = std::iter::from_fn(|| {
            let chunk;
            (chunk, rest) = rest.split_at(sizes.next()?.min(rest.len()));
            (!chunk.is_empty()).then_some(chunk)
        });
        prop_assert_eq!(decode(ROOMY, chunks), (expected, false));
    }

    #[test]
    fn agrees_with_the_standard_however_it_arrives(chunks in any_chunks()) {
        let whole = chunks.concat();
        prop_assert_eq!(decode(ROOMY, chunks.iter().map(Vec::as_slice)), (reference(&whole), false));
    }

    #[test]
    fn limits_hold_and_do_not_depend_on_chunks(chunks in any_chunks(), limit in 0..24usize) {
        let whole = chunks.concat();
        let outcome = decode(limit, chunks.iter().map(Vec::as_slice));
        prop_assert_eq!(&outcome, &decode(limit, [&whole[..]]));
        let all = reference(&whole);
        prop_assert_eq!(&outcome.0[..], &all[..outcome.0.len()]);
        if !outcome.1 {
            prop_assert_eq!(outcome.0.len(), all.len());
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..200), limit in 0..64usize, size in 1..50usize) {
        decode(limit, bytes.chunks(size));
    }
}
