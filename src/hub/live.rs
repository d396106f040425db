//! What this node holds of a session: a cached copy of its facts, its streams with sockets here, and
//! the requests that run here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::stream::LocalStream;
use crate::domain::{Fence, RequestId, Session, SessionId, StreamId, StreamKind, UpstreamHandle};

/// A session as this node knows it.
#[derive(Debug)]
pub struct Live {
    pub(super) id: SessionId,
    facts: Mutex<(Arc<Session>, Instant)>,
    state: Mutex<State>,
    pub(super) stale: AtomicBool,
    /// Used since the janitor last told the store.
    pub(super) used: AtomicBool,
    /// Fires when the session ends: what runs for it stops.
    pub(super) ended: CancellationToken,
    /// One at a time replaces a lost upstream session.
    pub(super) reopening: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    streams: Vec<Arc<LocalStream>>,
    carried: Arc<HeaderMap>,
    running: HashMap<RequestId, Arc<Notify>>,
    pump: Option<Pump>,
}

/// The task that reads the upstream's own stream for this session.
#[derive(Debug)]
struct Pump {
    stop: CancellationToken,
    turn: Arc<()>,
    unheld_since: Option<Instant>,
    /// Of the upstream's session that it reads.
    generation: u64,
}

/// A request that runs here, until this is dropped: also by a panic.
#[derive(Debug)]
pub(super) struct Running {
    live: Arc<Live>,
    request: RequestId,
    cancel: Arc<Notify>,
}

impl Running {
    /// Tells it that its client cancelled it.
    pub(super) fn cancel(&self) -> Arc<Notify> {
        self.cancel.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.live.state();
        // The id may be another request's by now.
        if state.running.get(&self.request).is_some_and(|cancel| Arc::ptr_eq(cancel, &self.cancel)) {
            state.running.remove(&self.request);
        }
    }
}

/// The session is pumped until this is dropped, or the pump was stopped before.
#[derive(Debug)]
pub(super) struct Pumping {
    live: Arc<Live>,
    /// Of the stream that it reads for.
    pub fence: Fence,
    pub stop: CancellationToken,
    turn: Arc<()>,
}

impl Drop for Pumping {
    fn drop(&mut self) {
        // After a stop another one may have started.
        self.live.state().pump.take_if(|pump| Arc::ptr_eq(&pump.turn, &self.turn));
    }
}

/// Why a request could not be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Duplicate,
    TooMany,
}

impl Live {
    pub(super) fn new(session: Session) -> Self {
        Self {
            id: session.id.clone(),
            facts: Mutex::new((Arc::new(session), Instant::now())),
            state: Mutex::default(),
            stale: AtomicBool::new(false),
            // Having been looked up, maybe by somebody whom it does not belong to, is no use.
            used: AtomicBool::new(false),
            ended: CancellationToken::new(),
            reopening: tokio::sync::Mutex::new(()),
        }
    }

    /// The session's facts, at most a cache life old.
    pub fn session(&self) -> Arc<Session> {
        self.facts.lock().expect("no panic while holding it").0.clone()
    }

    pub(super) fn set_session(&self, session: Session) {
        *self.facts.lock().expect("no panic while holding it") = (Arc::new(session), Instant::now());
        self.stale.store(false, Ordering::Relaxed);
    }

    /// What goes up for its client without a request of the client's.
    pub(super) fn carried(&self) -> Arc<HeaderMap> {
        self.state().carried.clone()
    }

    pub(super) fn carry(&self, headers: HeaderMap) {
        self.state().carried = Arc::new(headers);
    }

    pub(super) fn upstream(&self) -> Option<UpstreamHandle> {
        self.session().upstream.clone()
    }

    pub(super) fn read_at(&self) -> Instant {
        self.facts.lock().expect("no panic while holding it").1
    }

    /// What is cached is not to be trusted any more.
    pub(super) fn expire(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    pub(super) fn mark_used(&self) {
        // A plain load first: a hot session's cache line is not written each time.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn take_used(&self) -> bool {
        let state = self.state();
        self.used.swap(false, Ordering::Relaxed) || !state.streams.is_empty() || !state.running.is_empty()
    }

    /// Enters a stream with a socket here; false if there are `limit` already, not counting those that
    /// end anyway: with `replaces`, also the older ones of its name.
    pub(super) fn enter_stream(&self, stream: &Arc<LocalStream>, limit: usize, replaces: bool) -> bool {
        let mut state = self.state();
        let stays = |known: &&Arc<LocalStream>| {
            known.outlet.ended().is_none() && !(replaces && known.key == stream.key)
        };
        let fits = state.streams.iter().filter(stays).count() < limit;
        if fits {
            state.streams.push(stream.clone());
        }
        fits
    }

    pub(super) fn leave_stream(&self, stream: &Arc<LocalStream>) {
        let mut state = self.state();
        state.streams.retain(|known| !Arc::ptr_eq(known, stream));
        let held = state.streams.iter().any(|stream| stream.key.stream.kind() != StreamKind::Post);
        if let Some(pump) = &mut state.pump
            && !held
        {
            pump.unheld_since = Some(Instant::now());
        }
    }

    pub(super) fn has_stream(&self, stream: &Arc<LocalStream>) -> bool {
        self.state().streams.iter().any(|known| Arc::ptr_eq(known, stream))
    }

    pub(super) fn streams(&self) -> Vec<Arc<LocalStream>> {
        self.state().streams.clone()
    }

    /// Those of one name, bound or about to be.
    pub(super) fn streams_named(&self, name: &StreamId) -> Vec<Arc<LocalStream>> {
        self.state().streams.iter().filter(|stream| stream.key.stream == *name).cloned().collect()
    }

    /// The one that is bound under the newest fence.
    pub(super) fn holder(&self, name: &StreamId) -> Option<Arc<LocalStream>> {
        let fence = |stream: &Arc<LocalStream>| stream.fence().unwrap_or(Fence(0));
        self.streams_named(name).into_iter().filter(|stream| !stream.is_silent()).max_by_key(fence)
    }

    /// Enters requests, all or none.
    pub(super) fn enter_requests(
        self: &Arc<Self>,
        requests: &[RequestId],
        limit: usize,
    ) -> Result<Vec<Running>, Refused> {
        let mut state = self.state();
        if state.running.len() + requests.len() > limit {
            return Err(Refused::TooMany);
        }
        if requests.iter().any(|request| state.running.contains_key(request)) {
            return Err(Refused::Duplicate);
        }
        let mut entered = Vec::with_capacity(requests.len());
        for request in requests {
            let cancel = Arc::new(Notify::new());
            if state.running.insert(request.clone(), cancel.clone()).is_some() {
                // The same id twice in one batch: leave nothing behind.
                for request in requests {
                    state.running.remove(request);
                }
                // Each of them would look for its entry.
                drop(state);
                return Err(Refused::Duplicate);
            }
            entered.push(Running { live: self.clone(), request: request.clone(), cancel });
        }
        Ok(entered)
    }

    /// Tells a running request that its client cancelled it; unknown ids are ignored (L16).
    pub(super) fn cancel(&self, request: &RequestId) -> bool {
        let cancel = self.state().running.get(request).cloned();
        cancel.is_some_and(|cancel| {
            cancel.notify_one();
            true
        })
    }

    pub(super) fn uses(&self) -> (usize, usize) {
        let state = self.state();
        (state.streams.len(), state.running.len())
    }

    pub(super) fn runs_anything(&self) -> bool {
        !self.state().running.is_empty()
    }

    /// Starts the session's pump for a stream that is held here, unless there is one. One that reads an older
    /// session of the upstream's ends.
    pub(super) fn start_pump(self: &Arc<Self>, held: &StreamId, generation: u64) -> Option<Pumping> {
        let mut state = self.state();
        let holders = state.streams.iter().filter(|stream| stream.key.stream == *held && !stream.is_silent());
        let fence = holders.filter_map(|stream| stream.fence()).max()?;
        match &mut state.pump {
            Some(pump) if pump.generation >= generation => {
                pump.unheld_since = None;
                return None;
            }
            Some(older) => older.stop.cancel(),
            None => {}
        }
        let stop = self.ended.child_token();
        let turn = Arc::new(());
        state.pump = Some(Pump { stop: stop.clone(), turn: turn.clone(), unheld_since: None, generation });
        Some(Pumping { live: self.clone(), fence, stop, turn })
    }

    /// Whether the upstream's stream is read, that of the newest session of it that is known here.
    pub(super) fn is_pumped(&self) -> bool {
        let newest = self.upstream().map_or(0, |handle| handle.generation);
        self.state().pump.as_ref().is_some_and(|pump| pump.generation >= newest)
    }

    /// The pump has gone on to this session of the upstream's.
    pub(super) fn pumps(&self, generation: u64) {
        if let Some(pump) = &mut self.state().pump {
            pump.generation = pump.generation.max(generation);
        }
    }

    /// Another node reads the upstream's stream from now on.
    pub(super) fn stop_pump(&self) {
        if let Some(pump) = self.state().pump.take() {
            pump.stop.cancel();
        }
    }

    /// Stops a pump whose client went longer than `grace` ago.
    pub(super) fn stop_unheld_pump(&self, grace: Duration) {
        let mut state = self.state();
        let over = |pump: &Pump| pump.unheld_since.is_some_and(|since| since.elapsed() >= grace);
        if state.pump.as_ref().is_some_and(over)
            && let Some(pump) = state.pump.take()
        {
            pump.stop.cancel();
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.streams.is_empty() && state.running.is_empty() && state.pump.is_none()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding it")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::{EventNumber, Principal, ServerName, StreamKey, Transport};
    use crate::hub::attach::empty_tail;
    use crate::hub::outlet::Buffer;
    use crate::hub::stream::{Framing, Opening};

    pub(in crate::hub) fn session() -> Session {
        Session {
            id: SessionId::mint(),
            server: ServerName::parse("a").unwrap(),
            owner: Principal::anonymous(),
            transport: Transport::Streamable,
            opened_ms: None,
            client: None,
            upstream: None,
            log_level: None,
            subscriptions: Vec::new(),
            carried: None,
        }
    }

    fn request(id: u64) -> RequestId {
        RequestId::from_json(&id.to_string())
    }

    #[tokio::test]
    async fn p8_a_request_whose_task_panics_is_not_counted_any_more() {
        let live = Arc::new(Live::new(session()));
        let entered = live.enter_requests(&[request(1), request(2)], 2).unwrap();
        assert_eq!(live.enter_requests(&[request(3)], 2).unwrap_err(), Refused::TooMany);
        let panics = std::panic::AssertUnwindSafe(async move {
            let _entered = entered;
            std::panic::resume_unwind(Box::new("a panic"));
        });
        assert!(futures::FutureExt::catch_unwind(panics).await.is_err());
        assert!(!live.runs_anything());
    }

    #[tokio::test]
    async fn who_leaves_late_does_not_take_the_next_one_along() {
        let live = Arc::new(Live::new(session()));
        let twice = live.enter_requests(&[request(1), request(1)], 2);
        assert_eq!(twice.unwrap_err(), Refused::Duplicate);
        assert!(!live.runs_anything());
        let mut first = live.enter_requests(&[request(1)], 2).unwrap();
        let first = first.pop().unwrap();
        live.state().running.clear();
        let _second = live.enter_requests(&[request(1)], 2).unwrap();
        drop(first);
        assert!(live.runs_anything());
    }

    #[tokio::test]
    async fn a_session_with_a_running_request_is_in_use() {
        let live = Arc::new(Live::new(session()));
        assert!(!live.take_used(), "it was only looked up");
        let running = live.enter_requests(&[request(1)], 1).unwrap();
        assert!(live.take_used());
        drop(running);
        assert!(!live.take_used());
    }

    #[tokio::test]
    async fn a_pump_that_ended_late_leaves_its_successor_alone() {
        let live = Arc::new(Live::new(session()));
        let key = StreamKey { session: live.id.clone(), stream: StreamId::get() };
        let framing = Framing { primes: true, retry: Duration::ZERO };
        let stream = LocalStream::new(key.clone(), framing, Buffer { events_max: 8, bytes_max: 8 });
        let stream = Arc::new(stream);
        live.enter_stream(&stream, 1, false);
        assert!(live.start_pump(&key.stream, 1).is_none(), "nobody holds it yet");
        stream.bound(Fence(7), &empty_tail(EventNumber::default()), &Opening::default());
        let first = live.start_pump(&key.stream, 1).unwrap();
        assert_eq!(first.fence, Fence(7));
        live.stop_pump();
        let second = live.start_pump(&key.stream, 1).unwrap();
        drop(first);
        assert!(live.is_pumped() && !second.stop.is_cancelled());
        assert!(live.start_pump(&key.stream, 1).is_none(), "it is read");
        let third = live.start_pump(&key.stream, 2).unwrap();
        assert!(second.stop.is_cancelled(), "that of a session that is no more");
        drop(second);
        assert!(live.is_pumped() && !third.stop.is_cancelled());
        drop(third);
        assert!(!live.is_pumped());
    }
}
