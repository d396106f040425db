//! Events: one message on a stream, its number, and the id that a client hands back as
//! `Last-Event-ID`. The number is what Redis Streams give: milliseconds and a counter.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use super::id::SessionId;
use super::stream::StreamId;

/// One JSON-RPC message as it stood on the wire.
pub type Payload = Bytes;

/// Where an event stands in its stream: the server's time in ms and a counter; always above its
/// predecessor's, also after a failover that forgot some.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventNumber {
    pub ms: u64,
    pub counter: u64,
}

impl EventNumber {
    #[must_use]
    pub const fn new(ms: u64, counter: u64) -> Self {
        Self { ms, counter }
    }

    /// The first number at or after `now_ms` that is above this one.
    #[must_use]
    pub fn next(self, now_ms: u64) -> Self {
        if now_ms > self.ms { Self::new(now_ms, 0) } else { Self::new(self.ms, self.counter + 1) }
    }
}

impl fmt::Display for EventNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.counter)
    }
}

impl fmt::Debug for EventNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EventNumber {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let (ms, counter) = text.split_once('-').ok_or(InvalidEventId)?;
        Ok(Self::new(decimal(ms)?, decimal(counter)?))
    }
}

/// Only the one spelling that we print: no sign, no leading zero.
fn decimal(text: &str) -> Result<u64, InvalidEventId> {
    let printed = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if printed { text.parse().map_err(|_| InvalidEventId) } else { Err(InvalidEventId) }
}

/// One message on a stream. It names its predecessor, so that a receiver knows a gap when it sees
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub number: EventNumber,
    pub previous: EventNumber,
    pub payload: Payload,
}

/// What goes over the wire as `id:` and comes back as `Last-Event-ID`: stream and number, and on
/// HTTP+SSE the session too, since its reconnecting GET names none (L20, L21).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventId {
    pub session: Option<SessionId>,
    pub stream: StreamId,
    pub number: EventNumber,
}

/// Not an event id that Holdfast gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event id of this gateway")]
pub struct InvalidEventId;

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(session) = &self.session {
            write!(f, "{session}.")?;
        }
        write!(f, "{}.{}", self.stream, self.number)
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let mut parts = text.rsplitn(3, '.');
        let number = parts.next().ok_or(InvalidEventId)?.parse()?;
        let stream = StreamId::parse(parts.next().ok_or(InvalidEventId)?).map_err(|_| InvalidEventId)?;
        let session = match parts.next() {
            Some(session) => Some(SessionId::parse(session).map_err(|_| InvalidEventId)?),
            None => None,
        };
        Ok(Self { session, stream, number })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, valid: bool) {
        let parsed = text.parse::<EventId>();
        assert_eq!(parsed.is_ok(), valid, "{text:?}");
        if let Ok(event_id) = parsed {
            assert_eq!(event_id.to_string(), text);
        }
    }

    #[test]
    fn an_event_id_has_one_spelling() {
        check("g.1763683200000-0", true);
        check("s3ss10n.s.1763683200000-12", true);
        check("pAbCdEfGh.5-1", true);
        check("g.05-1", false);
        check("g.+5-1", false);
        check("g.5", false);
        check("5-1", false);
        check("", false);
        check("zz.5-1", false);
        check("a b.s.5-1", false);
        check("g.99999999999999999999-1", false);
    }

    #[test]
    fn numbers_grow_even_when_the_clock_steps_back() {
        let first = EventNumber::default().next(10);
        let second = first.next(10);
        let third = second.next(3);
        assert!(first < second && second < third);
        assert_eq!(third.next(11), EventNumber::new(11, 0));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,60}") {
            check_round_trip(&text);
        }

        #[test]
        fn printed_ids_parse_back(ms in any::<u64>(), counter in any::<u64>(), named in any::<bool>()) {
            let session = named.then(SessionId::mint);
            let event_id = EventId { session, stream: StreamId::get(), number: EventNumber::new(ms, counter) };
            prop_assert_eq!(event_id.to_string().parse::<EventId>(), Ok(event_id));
        }
    }

    fn check_round_trip(text: &str) {
        if let Ok(event_id) = text.parse::<EventId>() {
            assert_eq!(event_id.to_string(), text);
        }
    }
}
