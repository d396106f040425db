//! One stream of a session as this node holds it: events go out once and in order, whatever order
//! they arrive in. An event is written if its predecessor was the last one written; older ones are
//! dropped, newer ones wait for the gap to close.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::outlet::{Buffer, Outlet};
use crate::domain::{Event, EventId, EventNumber, Fence, StreamKey, StreamKind};
use crate::ports::Tail;
use crate::protocol::sse::{Frame, retry_line};
use crate::telemetry::StreamEnd;

/// How many early events wait for a gap to close; more are read from the log again.
const EARLY_MAX: usize = 256;

/// What a delivery came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// This many events went to the socket.
    Written(usize),
    Duplicate,
    /// Something is missing before it: the log has to be read.
    Gap,
    /// The stream isn't bound (yet, or any more); `attach` has the rest.
    Waiting,
}

/// How the client of a stream wants its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Framing {
    /// Events without data are understood (clients of 2025-11-25 and later).
    pub primes: bool,
    /// To be said with the first event.
    pub retry: Duration,
}

/// What a stream says before its events.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Opening<'a> {
    /// Where an HTTP+SSE client posts to.
    pub endpoint: Option<&'a str>,
    /// Messages that have no place in the log.
    pub notices: &'a [Bytes],
}

/// The local end of a stream: where it stands, and its socket.
#[derive(Debug)]
pub(crate) struct LocalStream {
    pub key: StreamKey,
    pub outlet: Outlet,
    framing: Framing,
    writer: Mutex<Writer>,
    /// Another node may hold an older, silent socket of this stream.
    older_elsewhere: AtomicBool,
}

#[derive(Debug)]
struct Writer {
    fence: Option<Fence>,
    /// A newer stream of the same name took over; this one stays open, silent (L19).
    silent: bool,
    written: EventNumber,
    early: Vec<(Event, bool)>,
    said_retry: bool,
}

impl LocalStream {
    pub(crate) fn new(key: StreamKey, framing: Framing, buffer: Buffer) -> Self {
        let writer = Writer {
            fence: None,
            silent: false,
            written: EventNumber::default(),
            early: Vec::new(),
            said_retry: false,
        };
        Self {
            key,
            outlet: Outlet::new(buffer),
            framing,
            writer: Mutex::new(writer),
            older_elsewhere: AtomicBool::new(false),
        }
    }

    /// The stream is bound: the opening goes first, then the tail, then what arrived meanwhile.
    pub(crate) fn bound(&self, fence: Fence, tail: &Tail, opening: &Opening<'_>) -> Delivered {
        let mut writer = self.lock();
        writer.fence = Some(fence);
        writer.silent = false;
        writer.written = tail.after;
        if let Some(frame) = self.first_frame(tail.after, opening.endpoint) {
            writer.said_retry = true;
            self.outlet.push_replayed(frame);
        }
        for notice in opening.notices {
            self.push_unlogged(notice);
        }
        self.write_tail(&mut writer, tail);
        self.write_early(&mut writer, 0)
    }

    /// `endpoint` on HTTP+SSE (S1), a priming event where the client knows them (L12); both name the
    /// position, so that a client that loses the connection right now can resume.
    fn first_frame(&self, position: EventNumber, endpoint: Option<&str>) -> Option<Bytes> {
        let id = self.event_id(position).to_string();
        let (event, data) = match endpoint {
            Some(endpoint) => (Some("endpoint"), endpoint.as_bytes()),
            None if self.framing.primes => (None, &b""[..]),
            None => return None,
        };
        Some(Frame { id: Some(&id), event, retry: Some(self.framing.retry), data: Some(data) }.encode())
    }

    /// A silent stream is the newest again.
    pub(crate) fn promoted(&self, fence: Fence, tail: &Tail) -> Delivered {
        let mut writer = self.lock();
        writer.fence = Some(fence);
        writer.silent = false;
        writer.written = tail.after;
        writer.early.clear();
        self.write_tail(&mut writer, tail);
        Delivered::Written(tail.events.len())
    }

    /// The log was read from the written position on: closes a gap.
    pub(crate) fn caught_up(&self, tail: &Tail) -> usize {
        let mut writer = self.lock();
        if tail.after <= writer.written {
            self.write_tail(&mut writer, tail);
        }
        match self.write_early(&mut writer, tail.events.len()) {
            Delivered::Written(events) => events,
            Delivered::Duplicate | Delivered::Gap | Delivered::Waiting => 0,
        }
    }

    /// An event that was appended under the present binding.
    pub(crate) fn deliver(&self, event: Event, last: bool) -> Delivered {
        let mut writer = self.lock();
        if writer.silent {
            return Delivered::Waiting;
        }
        if writer.fence.is_some() && event.number <= writer.written {
            return Delivered::Duplicate;
        }
        if writer.fence.is_some() && event.previous == writer.written {
            self.write(&mut writer, &event, last);
            return self.write_early(&mut writer, 1);
        }
        if writer.early.len() < EARLY_MAX {
            writer.early.push((event, last));
        }
        if writer.fence.is_some() { Delivered::Gap } else { Delivered::Waiting }
    }

    /// A newer stream of the same name took over.
    pub(crate) fn fall_silent(&self, newer: Fence) {
        let mut writer = self.lock();
        if writer.fence.is_some_and(|fence| fence < newer) {
            writer.silent = true;
        }
    }

    pub(crate) fn has_older_elsewhere(&self) -> bool {
        self.older_elsewhere.load(Ordering::Relaxed)
    }

    pub(crate) fn set_older_elsewhere(&self) {
        self.older_elsewhere.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.lock().silent
    }

    pub(crate) fn fence(&self) -> Option<Fence> {
        self.lock().fence
    }

    /// Fence and position, to re-assert the binding with.
    pub(crate) fn position(&self) -> Option<(Fence, EventNumber)> {
        let writer = self.lock();
        writer.fence.filter(|_| !writer.silent).map(|fence| (fence, writer.written))
    }

    /// Ends the stream with a hint when to come back, in a form that does its client no harm.
    pub(crate) fn end_with_retry(&self, end: StreamEnd, retry: Duration) {
        let hint = if self.framing.primes {
            Frame { retry: Some(retry), ..Frame::default() }.encode()
        } else {
            retry_line(retry)
        };
        self.outlet.end_with(end, Some(hint));
    }

    /// A message outside the log: it has no id and is not repeated.
    pub(crate) fn push_unlogged(&self, payload: &[u8]) {
        self.outlet.push_replayed(
            Frame { event: Some("message"), data: Some(payload), ..Frame::default() }.encode(),
        );
    }

    /// Whether its client comes back for what a stream that ended early still owes.
    pub(crate) fn resumes(&self) -> bool {
        self.framing.primes
    }

    /// Whether what the server says unasked belongs here.
    pub(crate) fn hears_unasked(&self) -> bool {
        let writer = self.lock();
        self.key.stream.kind() != StreamKind::Post && writer.fence.is_some() && !writer.silent
    }

    /// A hint: no id, not logged, may be repeated.
    pub(crate) fn hint(&self, notification: &[u8]) {
        self.outlet
            .push(Frame { event: Some("message"), data: Some(notification), ..Frame::default() }.encode());
    }

    pub(crate) fn event_id(&self, number: EventNumber) -> EventId {
        let session = (self.key.stream.kind() == StreamKind::HttpSse).then(|| self.key.session.clone());
        EventId { session, stream: self.key.stream.clone(), number }
    }

    fn write_tail(&self, writer: &mut Writer, tail: &Tail) {
        for (index, event) in tail.events.iter().enumerate() {
            if event.number > writer.written {
                self.write(writer, event, tail.ended && index + 1 == tail.events.len());
            }
        }
        if tail.ended {
            self.outlet.end(StreamEnd::Finished);
        }
    }

    /// Writes what waited for its predecessor.
    fn write_early(&self, writer: &mut Writer, mut written: usize) -> Delivered {
        loop {
            let position = writer.written;
            writer.early.retain(|(event, _)| event.number > position);
            let Some(next) = writer.early.iter().position(|(event, _)| event.previous == position) else {
                break;
            };
            let (event, last) = writer.early.swap_remove(next);
            self.write(writer, &event, last);
            written += 1;
        }
        if writer.early.is_empty() {
            writer.early = Vec::new();
            Delivered::Written(written)
        } else {
            Delivered::Gap
        }
    }

    fn write(&self, writer: &mut Writer, event: &Event, last: bool) {
        writer.written = event.number;
        let id = self.event_id(event.number).to_string();
        let retry = (!std::mem::replace(&mut writer.said_retry, true)).then_some(self.framing.retry);
        let frame = Frame { id: Some(&id), event: Some("message"), retry, data: Some(&event.payload) };
        self.outlet.push(frame.encode());
        if last {
            self.outlet.end(StreamEnd::Finished);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.writer.lock().expect("no panic while holding it")
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use futures::task::noop_waker;

    use super::*;
    use crate::domain::{SessionId, StreamId};

    fn stream() -> LocalStream {
        let key = StreamKey { session: SessionId::mint(), stream: StreamId::get() };
        let framing = Framing { primes: false, retry: Duration::from_secs(1) };
        LocalStream::new(key, framing, Buffer { events_max: 64, bytes_max: 1 << 20 })
    }

    fn event(number: u64) -> Event {
        let at = |counter| EventNumber::new(0, counter);
        Event { number: at(number), previous: at(number - 1), payload: Bytes::from(format!("e{number}")) }
    }

    fn tail(after: u64, events: &[u64]) -> Tail {
        Tail {
            after: EventNumber::new(0, after),
            events: events.iter().map(|n| event(*n)).collect(),
            ended: false,
        }
    }

    fn written(stream: &LocalStream) -> Vec<String> {
        let waker = noop_waker();
        let mut all = String::new();
        while let Poll::Ready(Some(frame)) = stream.outlet.poll_next(&Context::from_waker(&waker)) {
            all.push_str(std::str::from_utf8(&frame).unwrap());
        }
        all.lines().filter_map(|line| line.strip_prefix("data:")).map(|data| data.trim().to_owned()).collect()
    }

    #[tokio::test]
    async fn events_go_out_once_and_in_order_whatever_order_they_come_in() {
        let stream = stream();
        assert_eq!(stream.deliver(event(3), false), Delivered::Waiting);
        assert_eq!(stream.bound(Fence(1), &tail(0, &[1]), &Opening::default()), Delivered::Gap);
        assert_eq!(stream.deliver(event(1), false), Delivered::Duplicate);
        assert_eq!(stream.deliver(event(2), false), Delivered::Written(2));
        assert_eq!(stream.deliver(event(5), false), Delivered::Gap);
        assert_eq!(stream.caught_up(&tail(3, &[4])), 2);
        assert_eq!(written(&stream), ["e1", "e2", "e3", "e4", "e5"]);
    }

    #[tokio::test]
    async fn the_last_event_ends_the_stream() {
        let stream = stream();
        stream.bound(Fence(1), &tail(0, &[]), &Opening::default());
        stream.deliver(event(1), true);
        assert_eq!(stream.outlet.ended(), Some(StreamEnd::Finished));
        assert_eq!(written(&stream), ["e1"]);
    }

    #[tokio::test]
    async fn a_stream_that_was_taken_over_is_silent() {
        let stream = stream();
        stream.bound(Fence(1), &tail(0, &[]), &Opening::default());
        stream.fall_silent(Fence(2));
        assert_eq!(stream.deliver(event(1), false), Delivered::Waiting);
        assert!(stream.is_silent());
        assert!(written(&stream).is_empty());
    }
}
