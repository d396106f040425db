//! One stream of a session: its binding, its log, who appended last, whether it ended; and the
//! streams of a session by id. A session that never streamed a POST allocates nothing for them.

use std::collections::BTreeMap;

use super::log::Log;
use crate::domain::{Binding, EventNumber, Fence, StreamId, StreamKind};
use crate::ports::Producer;

/// How many producers beside those of running requests are remembered per stream.
const PRODUCERS_MAX: usize = 64;

/// How far a fence may be ahead of the time at which it was drawn.
const DROPPED_SLACK_MS: u64 = 1000;

#[derive(Debug)]
pub(super) struct Stream {
    pub log: Log,
    pub binding: Option<Binding>,
    /// The newest fence that the stream was ever bound with.
    pub newest: Option<Fence>,
    /// The predecessor of the first event that was appended while nobody held the stream.
    pub unheld_from: Option<EventNumber>,
    /// The upstream's own stream, as far as it was appended here.
    pub upstream_event: Option<String>,
    /// The newest fence of a request that may have ended without its runner's knowing: it was taken over,
    /// ran out of time, or its last append is not remembered.
    pub given_up: Fence,
    /// When a POST's last answer was appended.
    pub ended_ms: Option<u64>,
    /// Least recent first.
    producers: Vec<Produced>,
}

/// A producer's last append.
#[derive(Debug, Clone, Copy)]
pub(super) struct Produced {
    pub producer: Producer,
    pub number: EventNumber,
    pub previous: EventNumber,
}

impl Stream {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            log: Log::new(now_ms),
            binding: None,
            newest: None,
            unheld_from: None,
            upstream_event: None,
            given_up: Fence(0),
            ended_ms: None,
            producers: Vec::new(),
        }
    }

    /// The earlier append that `producer` repeats, if it does.
    pub(super) fn repeated(&self, producer: Producer) -> Option<Produced> {
        let mut known = self.producers.iter();
        let last = known.find(|known| known.producer.id == producer.id)?;
        (producer.sequence <= last.producer.sequence).then_some(*last)
    }

    /// Whether that is the number of the producer's last append (0: none).
    pub(super) fn is_last(&self, producer: Producer) -> bool {
        let known = self.producers.iter().find(|known| known.producer.id == producer.id);
        known.map_or(0, |known| known.producer.sequence) == producer.sequence
    }

    /// Remembers what a producer appended last; `running` requests have producers of their own.
    pub(super) fn produced(&mut self, produced: Produced, running: usize) {
        self.producers.retain(|known| known.producer.id != produced.producer.id);
        if self.producers.len() >= PRODUCERS_MAX + running {
            let dropped = self.producers.remove(0);
            self.give_up(Fence(dropped.number.ms + DROPPED_SLACK_MS));
        }
        self.producers.push(produced);
    }

    pub(super) fn give_up(&mut self, fence: Fence) {
        self.given_up = self.given_up.max(fence);
    }

    /// Binds the stream; whoever held it before is answered.
    pub(super) fn bind(&mut self, binding: Binding) -> Option<Binding> {
        self.newest = self.newest.max(Some(binding.fence));
        self.unheld_from = None;
        self.binding.replace(binding)
    }
}

/// The streams of one session: the two standing ones, and one per POST.
#[derive(Debug, Default)]
pub(super) struct Streams {
    get: Option<Box<Stream>>,
    http_sse: Option<Box<Stream>>,
    posts: BTreeMap<StreamId, Box<Stream>>,
}

impl Streams {
    pub(super) fn get(&self, id: &StreamId) -> Option<&Stream> {
        match id.kind() {
            StreamKind::Get => self.get.as_deref(),
            StreamKind::HttpSse => self.http_sse.as_deref(),
            StreamKind::Post => self.posts.get(id).map(AsRef::as_ref),
        }
    }

    pub(super) fn get_mut(&mut self, id: &StreamId) -> Option<&mut Stream> {
        match id.kind() {
            StreamKind::Get => self.get.as_deref_mut(),
            StreamKind::HttpSse => self.http_sse.as_deref_mut(),
            StreamKind::Post => self.posts.get_mut(id).map(AsMut::as_mut),
        }
    }

    /// Creates the stream, if it isn't there.
    pub(super) fn ensure(&mut self, id: &StreamId, now_ms: u64) -> &mut Stream {
        let new = || Box::new(Stream::new(now_ms));
        match id.kind() {
            StreamKind::Get => self.get.get_or_insert_with(new),
            StreamKind::HttpSse => self.http_sse.get_or_insert_with(new),
            StreamKind::Post => self.posts.entry(id.clone()).or_insert_with(new),
        }
    }

    pub(super) fn posts(&self) -> &BTreeMap<StreamId, Box<Stream>> {
        &self.posts
    }

    pub(super) fn forget_post(&mut self, id: &StreamId) -> Option<Box<Stream>> {
        self.posts.remove(id)
    }

    /// All of them, by id.
    pub(super) fn all(&self) -> impl Iterator<Item = (StreamId, &Stream)> {
        let get = self.get.iter().map(|stream| (StreamId::get(), &**stream));
        let http_sse = self.http_sse.iter().map(|stream| (StreamId::http_sse(), &**stream));
        get.chain(http_sse).chain(self.posts.iter().map(|(id, stream)| (id.clone(), &**stream)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn produced(id: u64, sequence: u64) -> Produced {
        let number = EventNumber::new(id, sequence);
        Produced { producer: Producer { id, sequence }, number, previous: EventNumber::default() }
    }

    #[test]
    fn the_least_recent_producers_are_forgotten() {
        let mut stream = Stream::new(1);
        for id in 0..PRODUCERS_MAX as u64 {
            stream.produced(produced(id, 1), 0);
        }
        stream.produced(produced(0, 2), 0);
        stream.produced(produced(1000, 1), 0);
        assert!(stream.repeated(Producer { id: 1, sequence: 1 }).is_none());
        let again = stream.repeated(Producer { id: 0, sequence: 2 }).unwrap();
        assert_eq!(again.number, EventNumber::new(0, 2));
        assert!(stream.repeated(Producer { id: 0, sequence: 1 }).is_some());
        assert!(stream.repeated(Producer { id: 0, sequence: 3 }).is_none());
        stream.produced(produced(1001, 1), 1);
        assert!(stream.repeated(Producer { id: 2, sequence: 1 }).is_some());
    }
}
