//! What happens on one stream of a session: events are appended, a socket attaches and lets go.
//! Both run under the session's lock, so every event is either in an attach's tail or its append
//! names the node that attached.

use super::session::SessionState;
use super::stream::{Produced, Stream};
use crate::domain::{Binding, EventNumber, Fence, RequestId, StreamId, StreamKind};
use crate::ports::{Append, Appended, Attach, Attached, Bounds, Tail};

impl SessionState {
    pub(super) fn append(&mut self, append: Append, bounds: &Bounds, now_ms: u64) -> Appended {
        self.settle(bounds, now_ms);
        let id = append.to.stream;
        self.forget_if_past(&id, bounds, now_ms);
        let record =
            append.request.as_ref().and_then(|(request, fence)| self.find_record(&id, request, *fence));
        let unrecorded = append.request.as_ref().filter(|_| record.is_none());
        let unrecorded = unrecorded.map(|(request, fence)| self.unrecorded(&id, request, *fence));
        let Some(stream) = self.stream_to_append_to(&id, append.request.is_some(), now_ms) else {
            return unrecorded.unwrap_or(Appended::Ended);
        };
        if let Some(earlier) = stream.repeated(append.producer) {
            return stream.logged(earlier);
        }
        if stream.ended_ms.is_some() {
            return Appended::Ended;
        }
        let stale_reader = append.reader.is_some_and(|reader| {
            stream.newest.is_some_and(|newest| newest > reader.fence) || stream.upstream_event != reader.after
        });
        if let Some(refused) = unrecorded.or(stale_reader.then_some(Appended::StaleFence)) {
            return refused;
        }
        let previous = stream.log.top();
        if stream.binding.is_none() {
            stream.unheld_from.get_or_insert(previous);
        }
        if append.request.is_none() && append.upstream_event.is_some() {
            stream.upstream_event.clone_from(&append.upstream_event);
        }
        let empty = stream.log.front().is_none();
        let cost = stream.log.push(append.payload, now_ms);
        let number = stream.log.top();
        self.bytes += cost;
        if empty {
            self.fronts.insert((number, id.clone()));
        }
        if let Some(index) = record {
            if append.last {
                self.records.swap_remove(index);
            } else if append.upstream_event.is_some() {
                self.records[index].running.upstream_event = append.upstream_event;
            }
        }
        let running = self.running(&id).count();
        let ends = append.last && running == 0 && id.kind() == StreamKind::Post;
        let produced = Produced { producer: append.producer, number, previous };
        let stream = self.streams.ensure(&id, now_ms);
        stream.produced(produced, running);
        if ends {
            stream.ended_ms = Some(now_ms);
        }
        let logged = stream.logged(produced);
        self.trim(&id, bounds);
        logged
    }

    pub(super) fn find_record(&self, stream: &StreamId, request: &RequestId, fence: Fence) -> Option<usize> {
        self.records.iter().map(|record| &record.running).position(|running| {
            &running.request == request && &running.stream == stream && running.fence == fence
        })
    }

    /// Why nothing is recorded under this fence: whether it may have ended, or been taken over.
    fn unrecorded(&self, id: &StreamId, request: &RequestId, fence: Fence) -> Appended {
        let given_up = self.streams.get(id).is_some_and(|stream| stream.given_up >= fence);
        let recorded = self.records.iter().any(|record| &record.running.request == request);
        if id.kind() == StreamKind::Post || given_up || recorded {
            Appended::StaleFence
        } else {
            Appended::Forgotten
        }
    }

    /// A POST's stream is made by `begin`, the standing ones by their first use; but never by an
    /// append for a request that isn't recorded.
    fn stream_to_append_to(&mut self, id: &StreamId, for_request: bool, now_ms: u64) -> Option<&mut Stream> {
        let makes = id.kind() != StreamKind::Post && !for_request;
        if makes { Some(self.streams.ensure(id, now_ms)) } else { self.streams.get_mut(id) }
    }

    fn trim(&mut self, id: &StreamId, bounds: &Bounds) {
        while self.streams.get(id).is_some_and(|stream| stream.log.exceeds(&bounds.log)) {
            self.trim_front(id);
        }
        self.trim_session(bounds, id);
    }

    pub(super) fn attach(&mut self, attach: &Attach, bounds: &Bounds, now_ms: u64) -> Attached {
        if attach.not_after_ms.is_some_and(|not_after_ms| not_after_ms < now_ms) {
            return Attached::TooLate;
        }
        self.settle(bounds, now_ms);
        let id = &attach.stream.stream;
        self.forget_if_past(id, bounds, now_ms);
        if id.kind() == StreamKind::Post && self.streams.get(id).is_none() {
            return Attached::Unknown;
        }
        let stream = self.streams.ensure(id, now_ms);
        if let Some(newer) = attach.reassert.and_then(|fence| stream.supersedes(attach, fence)) {
            return Attached::Superseded(newer);
        }
        let top = stream.log.top();
        let Some(after) = stream.start(attach.position) else {
            return Attached::Lost { top, rest: stream.log.below(attach.position.unwrap_or_default()) };
        };
        let ended = stream.ended_ms.is_some();
        if ended && after == top {
            return Attached::Ended;
        }
        let fence = match attach.reassert {
            Some(fence) => {
                self.saw_fence(fence);
                fence
            }
            None => self.draw_fence(now_ms),
        };
        let stream = self.streams.ensure(id, now_ms);
        let last_bound = stream.newest;
        let upstream_event = stream.upstream_event.clone();
        let previous = stream.bind(Binding { node: attach.node.clone(), fence });
        let tail = Tail { after, events: stream.log.after(after), ended };
        Attached::Bound {
            fence,
            tail,
            running: self.running(id).cloned().collect(),
            previous,
            last_bound,
            upstream_event,
        }
    }

    pub(super) fn release(&mut self, id: &StreamId, fence: Fence) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.binding.take_if(|binding| binding.fence == fence);
        }
    }
}

impl Stream {
    fn logged(&self, Produced { number, previous, .. }: Produced) -> Appended {
        // An earlier event of a stream that ended since isn't its last one.
        let ended = self.ended_ms.is_some() && number == self.log.top();
        Appended::Logged { number, previous, binding: self.binding.clone(), ended }
    }

    /// The newest fence, if a holder under `fence` may not go on. One that was released is refused
    /// as well: the request to re-assert it came late.
    fn supersedes(&self, attach: &Attach, fence: Fence) -> Option<Fence> {
        let holds = |binding: &Binding| binding.fence == fence && binding.node == attach.node;
        let newest = self.newest.filter(|newest| *newest >= fence)?;
        (!self.binding.as_ref().is_some_and(holds)).then_some(newest)
    }

    /// Where the tail for a client at `position` starts, if the log reaches back to it.
    fn start(&self, position: Option<EventNumber>) -> Option<EventNumber> {
        match position {
            Some(position) => self.log.reaches(position).then_some(position),
            None => Some(self.unheld_from.map_or(self.log.top(), |unheld| self.log.nearest(unheld))),
        }
    }
}
