//! One stream's log: numbers what is appended, lets go of the oldest, reads what follows a
//! position. When something has to go is the session's business.

use std::collections::VecDeque;

use crate::domain::{Event, EventNumber, Payload};
use crate::ports::LogBounds;

/// What an event costs beside its payload.
const EVENT_COST_BYTES: usize = 64;

/// The replayable tail of a stream. Its events are a chain: each one's predecessor is the entry
/// before it, the first one's is the last trimmed.
#[derive(Debug)]
pub(super) struct Log {
    top: EventNumber,
    last_trimmed: EventNumber,
    bytes: usize,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    number: EventNumber,
    payload: Payload,
}

impl Log {
    /// Empty, with a top that no event has: a position to start from.
    pub(super) fn new(now_ms: u64) -> Self {
        let top = EventNumber::default().next(now_ms);
        Self { top, last_trimmed: top, bytes: 0, entries: VecDeque::new() }
    }

    pub(super) fn top(&self) -> EventNumber {
        self.top
    }

    /// The number of the oldest event that is still here.
    pub(super) fn front(&self) -> Option<EventNumber> {
        self.entries.front().map(|entry| entry.number)
    }

    /// Appends, and answers what it cost.
    pub(super) fn push(&mut self, payload: Payload, now_ms: u64) -> usize {
        let cost = cost(&payload);
        self.top = self.top.next(now_ms);
        self.entries.push_back(Entry { number: self.top, payload });
        self.bytes += cost;
        cost
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The last `count` numbers, oldest first, with the size of their payloads.
    pub(super) fn last(&self, count: usize) -> Vec<(EventNumber, usize)> {
        let skipped = self.entries.len().saturating_sub(count);
        self.entries.iter().skip(skipped).map(|entry| (entry.number, entry.payload.len())).collect()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the stream's own bounds ask for its oldest event.
    pub(super) fn exceeds(&self, bounds: &LogBounds) -> bool {
        self.entries.len() > bounds.events_max || self.bytes > bounds.stream_bytes_max
    }

    /// Lets go of the oldest event, and answers what it had cost.
    pub(super) fn trim_front(&mut self) -> usize {
        let Some(entry) = self.entries.pop_front() else { return 0 };
        self.last_trimmed = entry.number;
        let cost = cost(&entry.payload);
        self.bytes -= cost;
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
        cost
    }

    /// Whether everything after the position is still here.
    pub(super) fn reaches(&self, position: EventNumber) -> bool {
        position == self.top || position == self.last_trimmed || self.index_of(position).is_ok()
    }

    /// The nearest position from which everything is still here.
    pub(super) fn nearest(&self, position: EventNumber) -> EventNumber {
        position.max(self.last_trimmed)
    }

    /// The last position up to this one from which everything is still here, or else the first of all.
    pub(super) fn below(&self, position: EventNumber) -> EventNumber {
        let index = self.index_of(position).map_or_else(|index| index, |index| index + 1);
        index.checked_sub(1).map_or(self.last_trimmed, |index| self.entries[index].number)
    }

    /// What follows a position that the log reaches.
    pub(super) fn after(&self, position: EventNumber) -> Vec<Event> {
        let first = self.index_of(position).map_or_else(|index| index, |index| index + 1);
        let mut previous = position;
        let event = |entry: &Entry| {
            let event = Event { number: entry.number, previous, payload: entry.payload.clone() };
            previous = entry.number;
            event
        };
        self.entries.range(first..).map(event).collect()
    }

    fn index_of(&self, position: EventNumber) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&position, |entry| entry.number)
    }
}

fn cost(payload: &Payload) -> usize {
    payload.len() + EVENT_COST_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(log: &Log, after: EventNumber) -> Vec<EventNumber> {
        let events = log.after(after);
        let chained = events.iter().scan(after, |previous, event| {
            let fits = event.previous == *previous;
            *previous = event.number;
            Some(fits)
        });
        assert!(chained.into_iter().all(|fits| fits), "{events:?}");
        events.into_iter().map(|event| event.number).collect()
    }

    #[test]
    fn numbers_rise_when_the_clock_stands_still_or_steps_back() {
        let mut log = Log::new(100);
        let start = log.top();
        for now_ms in [100, 100, 40, 101] {
            let before = log.top();
            log.push(Payload::from_static(b"x"), now_ms);
            assert!(log.top() > before);
        }
        assert_eq!(log.top(), EventNumber::new(101, 0));
        assert_eq!(numbers(&log, start).len(), 4);
    }

    #[test]
    fn a_log_reaches_its_top_its_events_and_the_last_trimmed() {
        let mut log = Log::new(1);
        let start = log.top();
        log.push(Payload::from_static(b"1"), 2);
        log.push(Payload::from_static(b"2"), 3);
        assert!(log.reaches(start) && log.reaches(EventNumber::new(2, 0)) && log.reaches(log.top()));
        log.trim_front();
        assert!(!log.reaches(start));
        assert_eq!(numbers(&log, EventNumber::new(2, 0)), [EventNumber::new(3, 0)]);
        log.trim_front();
        assert!(!log.reaches(EventNumber::new(2, 0)) && log.reaches(log.top()));
        assert!(!log.reaches(EventNumber::new(3, 1)));
        assert!(numbers(&log, log.top()).is_empty());
        assert_eq!((log.bytes, log.trim_front()), (0, 0));
    }
}
