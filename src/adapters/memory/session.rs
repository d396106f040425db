//! One session's state: pure, synchronous steps that are given the time. Here are its attributes,
//! its running records, and how it ages; what happens on a stream is in delivery.rs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::stream::{Stream, Streams};
use crate::domain::{
    Binding, EventNumber, Fence, NodeId, RequestId, RunningRecord, Session, SessionPart, StreamId, StreamKind,
};
use crate::ports::{
    Begin, Begun, Bounds, CloseIf, Closed, Inspected, Mark, SEEN_EVENTS, SeenStream, Steal, Stolen, Updated,
};

/// What a POST's stream costs beside its events.
pub(super) const STREAM_COST_BYTES: usize = 512;

/// Everything that is known of one session.
#[derive(Debug)]
pub(super) struct SessionState {
    pub(super) facts: Arc<Session>,
    touched_ms: u64,
    /// The newest fence given out in this session.
    fence: Option<Fence>,
    pub(super) streams: Streams,
    pub(super) records: Vec<Record>,
    /// What goes next, oldest first: of each stream its oldest event, or, if it ended and has none,
    /// the stream.
    pub(super) fronts: BTreeSet<(EventNumber, StreamId)>,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Record {
    pub running: RunningRecord,
    /// The fence of the runner that it was taken from, so that a repeated steal is known.
    pub from: Option<Fence>,
}

impl SessionState {
    pub(super) fn new(facts: Session, now_ms: u64) -> Self {
        Self {
            facts: Arc::new(facts),
            touched_ms: now_ms,
            fence: None,
            streams: Streams::default(),
            records: Vec::new(),
            fronts: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// When the session ends, if nobody uses it before.
    pub(super) fn ends_ms(&self, bounds: &Bounds) -> u64 {
        self.touched_ms.saturating_add(millis(bounds.session_idle_timeout))
    }

    pub(super) fn touch(&mut self, now_ms: u64) {
        self.touched_ms = now_ms;
    }

    /// When there is something to let go of, or the session ends.
    pub(super) fn next_visit_ms(&self, bounds: &Bounds, now_ms: u64) -> u64 {
        let ends_ms = self.ends_ms(bounds);
        let ages = !self.fronts.is_empty() || !self.streams.posts().is_empty();
        if ages { ends_ms.min(now_ms.saturating_add(millis(bounds.log.event_ttl))) } else { ends_ms }
    }

    /// Lets go of all that is past its time.
    pub(super) fn age(&mut self, bounds: &Bounds, now_ms: u64) {
        self.settle(bounds, now_ms);
        let posts = self.streams.posts().iter();
        let past: Vec<_> = posts
            .filter(|(id, stream)| self.is_past(id, stream, bounds, now_ms))
            .map(|(id, _)| id.clone())
            .collect();
        for id in past {
            self.forget_post(&id);
        }
    }

    /// Drops records past their deadline and events past their time.
    pub(super) fn settle(&mut self, bounds: &Bounds, now_ms: u64) {
        for record in self.records.extract_if(.., |record| record.running.deadline_ms <= now_ms) {
            if let Some(stream) = self.streams.get_mut(&record.running.stream) {
                stream.give_up(record.running.fence);
            }
        }
        let event_ttl = millis(bounds.log.event_ttl);
        while let Some((front, id)) = self.fronts.first() {
            if front.ms.saturating_add(event_ttl) > now_ms {
                break;
            }
            let id = id.clone();
            self.let_go(&id);
        }
    }

    /// A POST's stream is forgotten when its events are, unless something still runs towards it.
    fn is_past(&self, id: &StreamId, stream: &Stream, bounds: &Bounds, now_ms: u64) -> bool {
        let since_ms = stream.ended_ms.unwrap_or(stream.log.top().ms);
        let runs = stream.ended_ms.is_none() && self.running(id).next().is_some();
        !runs && since_ms.saturating_add(millis(bounds.log.event_ttl)) <= now_ms
    }

    pub(super) fn forget_if_past(&mut self, id: &StreamId, bounds: &Bounds, now_ms: u64) {
        let Some(stream) = self.streams.get(id).filter(|_| id.kind() == StreamKind::Post) else { return };
        if self.is_past(id, stream, bounds, now_ms) {
            self.forget_post(id);
        }
    }

    fn forget_post(&mut self, id: &StreamId) {
        while self.trim_front(id) {}
        if let Some(stream) = self.streams.forget_post(id) {
            self.fronts.remove(&(stream.log.top(), id.clone()));
            self.bytes -= STREAM_COST_BYTES;
        }
    }

    /// Lets go of a stream's oldest event, or of the stream, which then ended and has none.
    fn let_go(&mut self, id: &StreamId) {
        if !self.trim_front(id) {
            self.forget_post(id);
        }
    }

    /// Lets go of a stream's oldest event, if it has one.
    pub(super) fn trim_front(&mut self, id: &StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let ended = stream.ended_ms.map(|_| stream.log.top());
        let Some(front) = stream.log.front() else { return false };
        self.bytes -= stream.log.trim_front();
        let next = stream.log.front();
        let (_, id) = self.fronts.take(&(front, id.clone())).unwrap_or_else(|| (front, id.clone()));
        if let Some(next) = next.or(ended) {
            self.fronts.insert((next, id));
        }
        true
    }

    /// Keeps the session's bytes in bounds: what is oldest goes first, but not the stream that is
    /// being appended to.
    pub(super) fn trim_session(&mut self, bounds: &Bounds, but: &StreamId) {
        while self.bytes > bounds.log.session_bytes_max {
            let empty =
                |id: &StreamId| self.streams.get(id).is_none_or(|stream| stream.log.front().is_none());
            let Some((_, id)) = self.fronts.iter().find(|(_, id)| id != but || !empty(id)) else { break };
            let id = id.clone();
            self.let_go(&id);
        }
    }

    /// A fence above all before it.
    pub(super) fn draw_fence(&mut self, now_ms: u64) -> Fence {
        let fence = Fence::after(self.fence, now_ms);
        self.fence = Some(fence);
        fence
    }

    /// A fence that a holder remembers and the store may have forgotten.
    pub(super) fn saw_fence(&mut self, fence: Fence) {
        self.fence = self.fence.max(Some(fence));
    }

    pub(super) fn running(&self, stream: &StreamId) -> impl Iterator<Item = &RunningRecord> {
        self.records.iter().map(|record| &record.running).filter(move |running| &running.stream == stream)
    }

    fn record_of(&self, request: &RequestId) -> Option<&RunningRecord> {
        self.records.iter().map(|record| &record.running).find(|running| &running.request == request)
    }

    pub(super) fn update(&mut self, part: SessionPart, bounds: &Bounds) -> Updated {
        let facts = Arc::make_mut(&mut self.facts);
        match part {
            SessionPart::Client(client) => {
                facts.client.get_or_insert(client);
            }
            SessionPart::Upstream(handle) => {
                let next = facts.upstream.as_ref().is_none_or(|old| handle.generation == old.generation + 1);
                if next {
                    facts.upstream = Some(handle);
                }
            }
            SessionPart::LogLevel(level) => facts.log_level = Some(level),
            SessionPart::Subscribed(uri) if facts.subscriptions.contains(&uri) => {}
            SessionPart::Subscribed(_)
                if facts.subscriptions.len() >= bounds.subscriptions_per_session_max =>
            {
                return Updated::Full;
            }
            SessionPart::Subscribed(uri) => facts.subscriptions.push(uri),
            SessionPart::Unsubscribed(uri) => facts.subscriptions.retain(|known| known != &uri),
            SessionPart::Carried(sealed) => _ = facts.carried.get_or_insert(sealed),
        }
        Updated::Now(Box::new(facts.clone()))
    }

    pub(super) fn begin(&mut self, begin: &Begin, bounds: &Bounds, now_ms: u64) -> Begun {
        self.settle(bounds, now_ms);
        let id = &begin.stream.stream;
        self.forget_if_past(id, bounds, now_ms);
        if let Some(fence) = self.begun_before(begin) {
            return self.begun(id, fence, now_ms);
        }
        if let Some(request) = self.refused(begin) {
            return Begun::Duplicate(request.clone());
        }
        let fence = self.draw_fence(now_ms);
        let deadline_ms = now_ms.saturating_add(millis(begin.lifetime));
        self.records.extend(begin.requests.iter().map(|request| Record {
            running: RunningRecord {
                request: request.clone(),
                stream: id.clone(),
                runner: begin.runner.clone(),
                fence,
                deadline_ms,
                upstream_event: begin.upstream_event.clone(),
            },
            from: None,
        }));
        if self.streams.get(id).is_none() && id.kind() == StreamKind::Post {
            self.bytes += STREAM_COST_BYTES;
        }
        let stream = self.streams.ensure(id, now_ms);
        if begin.bind {
            stream.bind(Binding { node: begin.runner.clone(), fence });
        }
        self.trim_session(bounds, id);
        self.begun(id, fence, now_ms)
    }

    fn begun(&mut self, id: &StreamId, fence: Fence, now_ms: u64) -> Begun {
        let stream = self.streams.ensure(id, now_ms);
        Begun::Recorded { fence, binding: stream.binding.clone(), top: stream.log.top() }
    }

    /// The fence given before, if every request is recorded as this very begin would.
    fn begun_before(&self, begin: &Begin) -> Option<Fence> {
        let first = self.record_of(begin.requests.first()?)?;
        let same = |request: &RequestId| {
            let running = self.record_of(request)?;
            let same = running.stream == begin.stream.stream && running.runner == begin.runner;
            (same && running.fence == first.fence).then_some(())
        };
        begin.requests.iter().all(|request| same(request).is_some()).then_some(first.fence)
    }

    /// The request that can't be begun: it runs already, it is named twice, or its stream was begun
    /// before (then this begin comes late).
    fn refused<'a>(&self, begin: &'a Begin) -> Option<&'a RequestId> {
        let id = &begin.stream.stream;
        let late = id.kind() == StreamKind::Post && self.streams.get(id).is_some();
        let mut requests = begin.requests.iter().enumerate();
        let refused = requests.find(|(index, request)| {
            late || self.record_of(request).is_some() || begin.requests[..*index].contains(request)
        });
        refused.map(|(_, request)| request)
    }

    pub(super) fn mark(&mut self, mark: &Mark) {
        let id = &mark.stream.stream;
        let found = self.find_record(id, &mark.request, mark.fence);
        let newest = self.streams.get(id).is_some_and(|stream| stream.is_last(mark.producer));
        if let Some(index) = found.filter(|_| newest) {
            self.records[index].running.upstream_event = Some(mark.upstream_event.clone());
        }
    }

    pub(super) fn steal(&mut self, steal: &Steal, bounds: &Bounds, now_ms: u64) -> Stolen {
        self.settle(bounds, now_ms);
        let mut records = self.records.iter();
        let found = records.position(|Record { running, .. }| {
            running.request == steal.request && running.stream == steal.stream.stream
        });
        let Some(index) = found else { return Stolen::Lost };
        let Record { running, from } = &self.records[index];
        if running.runner == steal.by && *from == Some(steal.from) {
            return Stolen::Taken(running.clone());
        }
        if running.fence != steal.from {
            return Stolen::Lost;
        }
        let fence = self.draw_fence(now_ms);
        let record = &mut self.records[index];
        record.hand_to(&steal.by, fence);
        let taken = record.running.clone();
        if let Some(stream) = self.streams.get_mut(&taken.stream) {
            stream.give_up(steal.from);
        }
        Stolen::Taken(taken)
    }

    pub(super) fn may_close(&self, condition: &CloseIf) -> bool {
        match condition {
            CloseIf::Always => true,
            CloseIf::Abandoned(id, since) => self.streams.get(id).is_none_or(|stream| {
                stream.binding.is_none() && stream.newest.is_none_or(|newest| newest <= *since)
            }),
        }
    }

    pub(super) fn inspect(&self) -> Inspected {
        let seen = |(id, stream): (StreamId, &Stream)| SeenStream {
            stream: id,
            binding: stream.binding.clone(),
            top: stream.log.top(),
            events: stream.log.len(),
            last: stream.log.last(SEEN_EVENTS),
        };
        let mut streams: Vec<_> = self.streams.all().map(seen).collect();
        streams.sort_by(|one, other| one.stream.cmp(&other.stream));
        let running = self.records.iter().map(|record| record.running.clone()).collect();
        Inspected { session: Session::clone(&self.facts), streams, running }
    }

    pub(super) fn close(self) -> Closed {
        let bound =
            self.streams.all().filter_map(|(id, stream)| Some((id, stream.binding.clone()?))).collect();
        Closed { session: Arc::unwrap_or_clone(self.facts), bound }
    }
}

impl Record {
    fn hand_to(&mut self, runner: &NodeId, fence: Fence) {
        self.from = Some(self.running.fence);
        self.running.fence = fence;
        self.running.runner = runner.clone();
    }
}

/// A bound in the store's unit; nothing lives for no time at all.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
