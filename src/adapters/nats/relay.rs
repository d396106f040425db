//! Steps of relays and their answers as bytes: a JSON head on one line, which begins with a format version,
//! then the payload as it is. A step of another version is answered as unreadable.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::{NodeId, Payload, ServerName};
use crate::ports::{RelayAnswer, RelayAsk, RelayId, RelayRefusal, RelayStep};

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head<T> {
    format: u32,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize, Deserialize)]
struct Asked {
    from: String,
    relay: u64,
    #[serde(flatten)]
    step: Step,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
enum Step {
    Open {
        server: String,
        lifetime_ms: Option<u64>,
        #[serde(default)]
        moves: bool,
        pieces: u64,
    },
    Piece {
        number: u64,
    },
    Want {
        number: u64,
        within_ms: u64,
    },
    Hold,
    Drop,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
enum Told {
    Taken,
    NotYet,
    Part { number: u64, last: bool },
    Failed { why: String },
    Refused { why: Refusal },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Refusal {
    Unknown,
    OutOfOrder,
    NoServer,
    Leaving,
    Full,
    Unreadable,
}

pub(super) fn encode_ask(ask: &RelayAsk) -> Bytes {
    let none = Payload::new();
    let (step, payload) = match &ask.step {
        RelayStep::Open { server, lifetime, moves, pieces, head } => {
            let (server, lifetime_ms) = (server.to_string(), lifetime.map(milliseconds));
            (Step::Open { server, lifetime_ms, moves: *moves, pieces: *pieces }, head)
        }
        RelayStep::Piece { number, bytes } => (Step::Piece { number: *number }, bytes),
        RelayStep::Want { number, within } => {
            (Step::Want { number: *number, within_ms: milliseconds(*within) }, &none)
        }
        RelayStep::Hold => (Step::Hold, &none),
        RelayStep::Drop => (Step::Drop, &none),
    };
    encode(Asked { from: ask.relay.from.to_string(), relay: ask.relay.number, step }, payload)
}

/// `None` if it is none, or of another version.
pub(super) fn decode_ask(bytes: &Bytes) -> Option<RelayAsk> {
    let (Asked { from, relay, step }, payload) = decode(bytes)?;
    let step = match step {
        Step::Open { server, lifetime_ms, moves, pieces } => RelayStep::Open {
            moves,
            server: ServerName::parse(&server).ok()?,
            lifetime: lifetime_ms.map(Duration::from_millis),
            pieces,
            head: payload,
        },
        Step::Piece { number } => RelayStep::Piece { number, bytes: payload },
        Step::Want { number, within_ms } => {
            RelayStep::Want { number, within: Duration::from_millis(within_ms) }
        }
        Step::Hold => RelayStep::Hold,
        Step::Drop => RelayStep::Drop,
    };
    Some(RelayAsk { relay: RelayId { from: NodeId::parse(&from).ok()?, number: relay }, step })
}

pub(super) fn encode_answer(answer: &RelayAnswer) -> Bytes {
    let none = Payload::new();
    let (told, payload) = match answer {
        RelayAnswer::Taken => (Told::Taken, &none),
        RelayAnswer::NotYet => (Told::NotYet, &none),
        RelayAnswer::Part { number, last, bytes } => (Told::Part { number: *number, last: *last }, bytes),
        RelayAnswer::Failed(why) => (Told::Failed { why: why.clone() }, &none),
        RelayAnswer::Refused(refusal) => {
            let why = match refusal {
                RelayRefusal::Unknown => Refusal::Unknown,
                RelayRefusal::OutOfOrder => Refusal::OutOfOrder,
                RelayRefusal::NoServer => Refusal::NoServer,
                RelayRefusal::Leaving => Refusal::Leaving,
                RelayRefusal::Full => Refusal::Full,
                RelayRefusal::Unreadable => Refusal::Unreadable,
            };
            (Told::Refused { why }, &none)
        }
    };
    encode(told, payload)
}

/// What is no answer, or of another version, counts as [`RelayRefusal::Unreadable`].
pub(super) fn decode_answer(bytes: &Bytes) -> RelayAnswer {
    match decode(bytes) {
        None => RelayAnswer::Refused(RelayRefusal::Unreadable),
        Some((Told::Taken, _)) => RelayAnswer::Taken,
        Some((Told::NotYet, _)) => RelayAnswer::NotYet,
        Some((Told::Part { number, last }, bytes)) => RelayAnswer::Part { number, last, bytes },
        Some((Told::Failed { why }, _)) => RelayAnswer::Failed(why),
        Some((Told::Refused { why }, _)) => RelayAnswer::Refused(match why {
            Refusal::Unknown => RelayRefusal::Unknown,
            Refusal::OutOfOrder => RelayRefusal::OutOfOrder,
            Refusal::NoServer => RelayRefusal::NoServer,
            Refusal::Leaving => RelayRefusal::Leaving,
            Refusal::Full => RelayRefusal::Full,
            Refusal::Unreadable => RelayRefusal::Unreadable,
        }),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn encode(body: impl Serialize, payload: &Payload) -> Bytes {
    let mut bytes = BytesMut::with_capacity(payload.len() + 256).writer();
    serde_json::to_writer(&mut bytes, &Head { format: FORMAT, body }).expect("texts and numbers are JSON");
    let mut bytes = bytes.into_inner();
    bytes.put_u8(b'\n');
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

fn decode<T: DeserializeOwned>(bytes: &Bytes) -> Option<(T, Payload)> {
    let end = memchr::memchr(b'\n', bytes)?;
    let head: Head<T> = serde_json::from_slice(&bytes[..end]).ok()?;
    (head.format == FORMAT).then(|| (head.body, bytes.slice(end + 1..)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload() -> impl Strategy<Value = Payload> {
        prop::collection::vec(any::<u8>(), 0..64).prop_map(Payload::from)
    }

    fn step() -> impl Strategy<Value = RelayStep> {
        prop_oneof![
            (any::<Option<u32>>(), any::<u64>(), payload()).prop_map(|(ms, pieces, head)| RelayStep::Open {
                moves: pieces % 2 == 1,
                server: ServerName::parse("files").unwrap(),
                lifetime: ms.map(|ms| Duration::from_millis(ms.into())),
                pieces,
                head
            }),
            (any::<u64>(), payload()).prop_map(|(number, bytes)| RelayStep::Piece { number, bytes }),
            (any::<u64>(), any::<u32>()).prop_map(|(number, ms)| RelayStep::Want {
                number,
                within: Duration::from_millis(ms.into())
            }),
            Just(RelayStep::Hold),
            Just(RelayStep::Drop),
        ]
    }

    fn answer() -> impl Strategy<Value = RelayAnswer> {
        let refusals = vec![
            RelayRefusal::Unknown,
            RelayRefusal::OutOfOrder,
            RelayRefusal::NoServer,
            RelayRefusal::Leaving,
            RelayRefusal::Full,
            RelayRefusal::Unreadable,
        ];
        prop_oneof![
            Just(RelayAnswer::Taken),
            Just(RelayAnswer::NotYet),
            (any::<u64>(), any::<bool>(), payload()).prop_map(|(number, last, bytes)| RelayAnswer::Part {
                number,
                last,
                bytes
            }),
            any::<String>().prop_map(RelayAnswer::Failed),
            prop::sample::select(refusals).prop_map(RelayAnswer::Refused),
        ]
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(step in step(), number: u64, answer in answer()) {
            let ask = RelayAsk { relay: RelayId { from: NodeId::incarnate("a"), number }, step };
            prop_assert_eq!(decode_ask(&encode_ask(&ask)), Some(ask));
            prop_assert_eq!(decode_answer(&encode_answer(&answer)), answer);
        }

        #[test]
        fn bytes_that_are_neither_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            prop_assert!(decode_ask(&bytes).is_none());
            prop_assert_eq!(decode_answer(&bytes), RelayAnswer::Refused(RelayRefusal::Unreadable));
        }
    }

    #[test]
    fn another_version_is_refused_however_well_it_reads() {
        let ask = Bytes::from_static(b"{\"format\":2,\"from\":\"a\",\"relay\":1,\"step\":\"hold\"}\n");
        assert_eq!(decode_ask(&ask), None);
        let answer = Bytes::from_static(b"{\"format\":2,\"answer\":\"taken\"}\n");
        assert_eq!(decode_answer(&answer), RelayAnswer::Refused(RelayRefusal::Unreadable));
    }
}
