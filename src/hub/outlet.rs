//! The end of a stream that a socket reads: a bounded queue of frames, without a task, timer or
//! channel of its own. The janitor sends keep-alives; a reader that is too slow costs itself its
//! stream.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::protocol::sse::KEEP_ALIVE;
use crate::telemetry::StreamEnd;

/// What an outlet holds for a reader that is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    pub events_max: usize,
    pub bytes_max: usize,
}

/// A frame that waits for its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queued {
    pub frame: Bytes,
    /// When the event in it was appended, by the store's clock in ms, if it comes as it was.
    pub appended_ms: Option<u64>,
}

/// Frames on their way to one socket.
#[derive(Debug)]
pub(super) struct Outlet {
    state: Mutex<State>,
    buffer: Buffer,
    opened: Instant,
}

#[derive(Debug)]
struct State {
    frames: VecDeque<Queued>,
    queued_bytes: usize,
    waker: Option<Waker>,
    end: Option<StreamEnd>,
    last_write: Instant,
    last_event: Instant,
    until: Option<Instant>,
}

impl Outlet {
    pub(super) fn new(buffer: Buffer) -> Self {
        let now = Instant::now();
        let state = State {
            frames: VecDeque::new(),
            queued_bytes: 0,
            waker: None,
            end: None,
            last_write: now,
            last_event: now,
            until: None,
        };
        Self { state: Mutex::new(state), buffer, opened: now }
    }

    /// Queues an event. A queue that is full ends the stream: what it holds can still be read, so that
    /// the reader gets on however slow it is, and comes back for the rest with its position.
    pub(super) fn push(&self, frame: Bytes) {
        self.push_event(frame, None);
    }

    /// The same, of one that was appended just now.
    pub(super) fn push_event(&self, frame: Bytes, appended_ms: Option<u64>) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        let full = state.frames.len() >= self.buffer.events_max
            || state.queued_bytes + frame.len() > self.buffer.bytes_max.max(frame.len());
        if full {
            state.end = Some(StreamEnd::Lagged);
        } else {
            state.last_event = Instant::now();
            state.queue(frame, appended_ms);
        }
        wake(state);
    }

    /// Queues what the log's own bounds limit already, or what opens the stream.
    pub(super) fn push_replayed(&self, frame: Bytes) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.queue(frame, None);
        }
        wake(state);
    }

    /// Ends the stream once what is queued has been read; the first reason stays.
    pub(super) fn end(&self, end: StreamEnd) {
        self.end_with(end, None);
    }

    /// The same with a last frame, such as a `retry`.
    pub(super) fn end_with(&self, end: StreamEnd, last: Option<Bytes>) {
        let mut state = self.lock();
        if state.end.is_none() {
            if let Some(frame) = last {
                state.queue(frame, None);
            }
            state.end = Some(end);
        }
        wake(state);
    }

    pub(super) fn ended(&self) -> Option<StreamEnd> {
        self.lock().end
    }

    /// Sends a comment if nothing was written for `interval`.
    pub(super) fn keep_alive(&self, now: Instant, interval: Duration) {
        let mut state = self.lock();
        let quiet = state.frames.is_empty() && state.end.is_none();
        if quiet && now.saturating_duration_since(state.last_write) >= interval {
            state.queue(Bytes::from_static(KEEP_ALIVE), None);
            wake(state);
        }
    }

    /// Whoever reads it may do so no longer than that.
    pub(super) fn set_until(&self, until: Instant) {
        self.lock().until = Some(until);
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.lock().until.is_some_and(|until| until <= now)
    }

    /// How long it has been open.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened)
    }

    /// How long no event has passed.
    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.lock().last_event)
    }

    /// A frame went past it, straight to the socket.
    pub(super) fn passed(&self) {
        let mut state = self.lock();
        state.last_write = Instant::now();
        state.last_event = state.last_write;
    }

    /// The next frame; `None` once ended and empty.
    pub(super) fn poll_next(&self, context: &Context<'_>) -> Poll<Option<Queued>> {
        let mut state = self.lock();
        if let Some(queued) = state.frames.pop_front() {
            state.queued_bytes -= queued.frame.len();
            return Poll::Ready(Some(queued));
        }
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        let waker = context.waker();
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        Poll::Pending
    }

    /// Frames and bytes that wait for its reader.
    pub(super) fn queued(&self) -> (usize, usize) {
        let state = self.lock();
        (state.frames.len(), state.queued_bytes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding it")
    }
}

impl State {
    fn queue(&mut self, frame: Bytes, appended_ms: Option<u64>) {
        self.queued_bytes += frame.len();
        self.frames.push_back(Queued { frame, appended_ms });
        self.last_write = Instant::now();
    }
}

/// Wakes the reader after the lock is gone.
fn wake(mut state: std::sync::MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker;

    use super::*;

    fn outlet(events_max: usize, bytes_max: usize) -> Outlet {
        Outlet::new(Buffer { events_max, bytes_max })
    }

    fn read(outlet: &Outlet) -> Poll<Option<Bytes>> {
        outlet.poll_next(&Context::from_waker(&noop_waker())).map(|queued| queued.map(|queued| queued.frame))
    }

    #[tokio::test]
    async fn a_slow_reader_loses_its_stream_and_nothing_of_its_queue() {
        let outlet = outlet(2, 100);
        outlet.push(Bytes::from_static(b"1"));
        outlet.push(Bytes::from_static(b"2"));
        outlet.push(Bytes::from_static(b"3"));
        assert_eq!(outlet.ended(), Some(StreamEnd::Lagged));
        outlet.push(Bytes::from_static(b"4"));
        assert_eq!(read(&outlet), Poll::Ready(Some(Bytes::from_static(b"1"))));
        assert_eq!(read(&outlet), Poll::Ready(Some(Bytes::from_static(b"2"))));
        assert_eq!(read(&outlet), Poll::Ready(None));
    }

    #[tokio::test]
    async fn bytes_are_bounded_but_one_large_event_passes() {
        let outlet = outlet(10, 4);
        outlet.push(Bytes::from_static(b"larger than four"));
        assert_eq!(outlet.ended(), None);
        outlet.push(Bytes::from_static(b"x"));
        assert_eq!(outlet.ended(), Some(StreamEnd::Lagged));
    }

    #[tokio::test]
    async fn what_was_queued_is_read_before_the_end() {
        let outlet = outlet(2, 100);
        outlet.push(Bytes::from_static(b"1"));
        outlet.end_with(StreamEnd::Draining, Some(Bytes::from_static(b"retry")));
        outlet.push(Bytes::from_static(b"late"));
        outlet.end(StreamEnd::Idle);
        assert_eq!(read(&outlet), Poll::Ready(Some(Bytes::from_static(b"1"))));
        assert_eq!(read(&outlet), Poll::Ready(Some(Bytes::from_static(b"retry"))));
        assert_eq!(read(&outlet), Poll::Ready(None));
        assert_eq!(outlet.ended(), Some(StreamEnd::Draining));
    }

    #[tokio::test(start_paused = true)]
    async fn a_comment_is_sent_only_when_quiet() {
        let outlet = outlet(2, 100);
        let interval = Duration::from_secs(5);
        outlet.keep_alive(Instant::now(), interval);
        assert_eq!(read(&outlet), Poll::Pending);
        tokio::time::advance(interval).await;
        outlet.keep_alive(Instant::now(), interval);
        assert_eq!(read(&outlet), Poll::Ready(Some(Bytes::from_static(KEEP_ALIVE))));
        outlet.keep_alive(Instant::now(), interval);
        assert_eq!(read(&outlet), Poll::Pending);
    }
}
