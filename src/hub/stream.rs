//! One stream of a session as this node holds it: events go out once and in order, whatever order
//! they arrive in. An event is written if its predecessor was the last one written; older ones are
//! dropped, newer ones wait for the gap to close.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use tokio::time::Instant;

use super::outlet::{Buffer, Outlet};
use crate::domain::{Event, EventId, EventNumber, Fence, StreamKey, StreamKind};
use crate::ports::{Tail, Takeover};
use crate::protocol::sse::{Frame, retry_line};
use crate::telemetry::StreamEnd;

/// How many early events wait for a gap to close; more are read from the log again.
const EARLY_MAX: usize = 256;

/// How long after its time an answer may still be on its way.
const OVERDUE: Duration = Duration::from_secs(1);

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
    /// How often somebody wanted its log to be read since the last time that it was.
    looks: AtomicUsize,
}

#[derive(Debug)]
struct Writer {
    fence: Option<Fence>,
    /// A newer stream of the same name took over; this one stays open, silent (L19).
    silent: bool,
    /// It is silent and being bound anew: what comes under a fence that it does not know may be its own.
    promoting: bool,
    /// The newest binding that was heard of while it was being bound.
    newer: Option<(Fence, Takeover)>,
    /// While it was being bound something was appended that did not travel.
    rung: bool,
    written: EventNumber,
    early: Vec<Early>,
    said_retry: bool,
    /// When the last request that is to be answered here has run out of time.
    answer_by: Option<Instant>,
}

/// An event that came before its predecessor, or before its stream was bound.
#[derive(Debug)]
struct Early {
    fence: Fence,
    event: Event,
    last: bool,
}

impl LocalStream {
    pub(crate) fn new(key: StreamKey, framing: Framing, buffer: Buffer) -> Self {
        let writer = Writer {
            fence: None,
            silent: false,
            promoting: false,
            newer: None,
            rung: false,
            written: EventNumber::default(),
            early: Vec::new(),
            said_retry: false,
            answer_by: None,
        };
        Self {
            key,
            outlet: Outlet::new(buffer),
            framing,
            writer: Mutex::new(writer),
            older_elsewhere: AtomicBool::new(false),
            looks: AtomicUsize::new(0),
        }
    }

    /// The stream is bound: the opening goes first, then the tail, then what arrived meanwhile.
    pub(crate) fn bound(&self, fence: Fence, tail: &Tail, opening: &Opening<'_>) -> Delivered {
        let mut writer = self.lock();
        if let Some(frame) = self.first_frame(tail.after, opening.endpoint) {
            writer.said_retry = true;
            self.outlet.push_replayed(frame);
        }
        for notice in opening.notices {
            self.push_unlogged(notice);
        }
        self.bind(&mut writer, fence, tail)
    }

    fn bind(&self, writer: &mut Writer, fence: Fence, tail: &Tail) -> Delivered {
        writer.fence = Some(fence);
        writer.promoting = false;
        writer.written = tail.after;
        // What came under another fence went to the socket that was bound by it.
        writer.early.retain(|early| early.fence == fence);
        self.write_tail(writer, tail, false);
        let delivered = self.write_early(writer, tail.events.len());
        let newer = writer.newer.take().filter(|(newer, _)| *newer > fence);
        writer.silent = newer.is_some();
        if let Some((_, Takeover::Resumed)) = newer {
            self.outlet.end(StreamEnd::Replaced);
        }
        if std::mem::take(&mut writer.rung) { Delivered::Gap } else { delivered }
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

    /// A silent stream is about to be bound anew. False if that is under way already.
    pub(crate) fn promote(&self) -> bool {
        let mut writer = self.lock();
        writer.silent && !std::mem::replace(&mut writer.promoting, true)
    }

    /// A silent stream is the newest again.
    pub(crate) fn promoted(&self, fence: Fence, tail: &Tail) -> Delivered {
        self.bind(&mut self.lock(), fence, tail)
    }

    /// The log was read from the written position on: closes a gap.
    pub(crate) fn caught_up(&self, tail: &Tail) -> usize {
        let mut writer = self.lock();
        if tail.after <= writer.written {
            self.write_tail(&mut writer, tail, true);
        }
        match self.write_early(&mut writer, tail.events.len()) {
            Delivered::Written(events) => events,
            Delivered::Duplicate | Delivered::Gap | Delivered::Waiting => 0,
        }
    }

    /// An event that was appended while the stream was bound under `fence`. If that is this one's, nobody
    /// else got it: it is written even if a newer stream took over since.
    pub(crate) fn deliver(&self, fence: Fence, event: Event, last: bool) -> Delivered {
        let mut writer = self.lock();
        let bound = writer.fence == Some(fence);
        if !bound && !writer.is_being_bound() {
            return Delivered::Waiting;
        }
        if bound && event.number <= writer.written {
            return Delivered::Duplicate;
        }
        if bound && event.previous == writer.written {
            self.write(&mut writer, &event, last, true);
            return self.write_early(&mut writer, 1);
        }
        if writer.early.len() < EARLY_MAX {
            writer.early.push(Early { fence, event, last });
        } else {
            writer.rung = !bound;
        }
        if bound { Delivered::Gap } else { Delivered::Waiting }
    }

    /// Whether this is the stream that was bound under `fence`, or may turn out to be.
    pub(crate) fn may_be_bound_under(&self, fence: Fence) -> bool {
        let writer = self.lock();
        writer.fence == Some(fence) || writer.is_being_bound()
    }

    /// Something was appended under `fence` that did not travel. Whether the log is to be read now: a stream
    /// that is being bound reads it once it is.
    pub(crate) fn ring(&self, fence: Fence) -> bool {
        let mut writer = self.lock();
        writer.rung |= writer.is_being_bound() && writer.fence != Some(fence);
        writer.fence == Some(fence)
    }

    /// The stream was bound to another socket under `newer`.
    pub(crate) fn give_way(&self, newer: Fence, takeover: Takeover) {
        let mut writer = self.lock();
        if writer.is_being_bound() {
            // Whether that is newer shows once this one has its fence.
            if writer.newer.is_none_or(|(known, _)| known < newer) {
                writer.newer = Some((newer, takeover));
            }
        } else if writer.fence.is_some_and(|own| own < newer) {
            match takeover {
                Takeover::Resumed => self.outlet.end(StreamEnd::Replaced),
                Takeover::Second => writer.silent = true,
            }
        }
    }

    /// Until then somebody may answer on this stream.
    pub(crate) fn answer_by(&self, at: Instant) {
        self.lock().answer_by = Some(at);
    }

    /// Whether nobody can answer on it any more who would have by now; once.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.lock().answer_by.take_if(|at| now >= *at + OVERDUE).is_some()
    }

    /// Asks for its log to be read; true for the first who does, who has to do it.
    pub(crate) fn ask_for_a_look(&self) -> bool {
        self.looks.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// How often was asked up to now.
    pub(crate) fn looks(&self) -> usize {
        self.looks.load(Ordering::Acquire)
    }

    /// The log was read for all who had asked; false if somebody asked since.
    pub(crate) fn looked(&self, asked: usize) -> bool {
        self.looks.compare_exchange(asked, 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Something that was sent here before the stream fell silent is missing.
    pub(crate) fn is_silent_with_a_gap(&self) -> bool {
        let writer = self.lock();
        writer.silent && !writer.promoting && !writer.early.is_empty()
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

    /// `is_news` if it should have come by itself.
    fn write_tail(&self, writer: &mut Writer, tail: &Tail, is_news: bool) {
        for (index, event) in tail.events.iter().enumerate() {
            if event.number > writer.written {
                self.write(writer, event, tail.ended && index + 1 == tail.events.len(), is_news);
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
            writer.early.retain(|early| early.event.number > position);
            let Some(next) = writer.early.iter().position(|early| early.event.previous == position) else {
                break;
            };
            let Early { event, last, .. } = writer.early.swap_remove(next);
            self.write(writer, &event, last, true);
            written += 1;
        }
        if writer.early.is_empty() {
            writer.early = Vec::new();
            Delivered::Written(written)
        } else {
            Delivered::Gap
        }
    }

    fn write(&self, writer: &mut Writer, event: &Event, last: bool, is_news: bool) {
        writer.written = event.number;
        let id = self.event_id(event.number).to_string();
        let retry = (!std::mem::replace(&mut writer.said_retry, true)).then_some(self.framing.retry);
        let frame = Frame { id: Some(&id), event: Some("message"), retry, data: Some(&event.payload) };
        self.outlet.push_event(frame.encode(), is_news.then_some(event.number.ms));
        if last {
            self.outlet.end(StreamEnd::Finished);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.writer.lock().expect("no panic while holding it")
    }
}

impl Writer {
    const fn is_being_bound(&self) -> bool {
        self.fence.is_none() || self.promoting
    }
}

#[cfg(test)]
mod tests;
