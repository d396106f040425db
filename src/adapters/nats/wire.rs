//! Parcels as bytes: a JSON head on one line, then the payload as it is. The head begins with a format
//! version; what another version wrote is refused, never guessed.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::domain::{
    Event, Fence, NodeId, Payload, RequestId, ServerName, SessionId, StreamId, StreamKey, TraceContext,
    UpstreamHandle,
};
use crate::ports::{Envelope, Lane, Parcel, Takeover};

const FORMAT: u32 = 1;

/// Why bytes are no parcel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it has format {0}, and this node knows {FORMAT}")]
    Format(u32),
    #[error("it is no parcel")]
    NoParcel,
    #[error("its head can't be read: {0}")]
    Head(String),
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    from: String,
    /// Direct if absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    to_all: bool,
    number: u64,
    /// The sender's Unix time in ms.
    at: u64,
    /// A `traceparent` and a `tracestate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace_state: Option<String>,
    #[serde(flatten)]
    body: Body,
}

/// Only the version, of whatever format the rest is.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Body {
    Appended { session: String, stream: String, fence: u64, event: String, previous: String, last: bool },
    Doorbell { session: String, stream: String, fence: u64 },
    Rebound { session: String, stream: String, fence: u64, resumed: bool },
    Released { session: String, stream: String },
    SessionEnded { session: String },
    Initialized { session: String },
    Moved { session: String, server: String, lost: Lost },
    Cancelled { session: String, request: String },
    CloseStreams { session: String },
    Hint { server: Option<String> },
    NoLease,
    Tally,
}

/// An upstream handle.
#[derive(Serialize, Deserialize)]
struct Lost {
    generation: u64,
    session: Option<String>,
    node: Option<String>,
    protocol_version: String,
}

pub(super) fn encode(parcel: &Parcel, at: u64) -> Bytes {
    let (body, payload) = body_of(&parcel.envelope);
    let head = Head {
        format: FORMAT,
        from: parcel.from.to_string(),
        to_all: parcel.lane == Lane::All,
        number: parcel.number,
        at,
        trace: parcel.trace.as_ref().map(|trace| trace.parent().to_owned()),
        trace_state: parcel.trace.as_ref().and_then(|trace| trace.state()).map(str::to_owned),
        body,
    };
    let mut bytes = BytesMut::new().writer();
    serde_json::to_writer(&mut bytes, &head).expect("texts and numbers are JSON");
    let mut bytes = bytes.into_inner();
    bytes.put_u8(b'\n');
    if let Some(payload) = payload {
        bytes.extend_from_slice(payload);
    }
    bytes.freeze()
}

fn body_of(envelope: &Envelope) -> (Body, Option<&Payload>) {
    let parts = |key: &StreamKey| (key.session.to_string(), key.stream.to_string());
    let body = match envelope {
        Envelope::Appended { to, fence, event, last } => {
            let ((session, stream), fence) = (parts(to), fence.0);
            let (number, previous) = (event.number.to_string(), event.previous.to_string());
            let body = Body::Appended { session, stream, fence, event: number, previous, last: *last };
            return (body, Some(&event.payload));
        }
        Envelope::Hint { server, notification } => {
            let server = server.as_ref().map(ToString::to_string);
            return (Body::Hint { server }, Some(notification));
        }
        Envelope::Doorbell { to, fence } => {
            let (session, stream) = parts(to);
            Body::Doorbell { session, stream, fence: fence.0 }
        }
        Envelope::Rebound { stream, fence, takeover } => {
            let (session, stream) = parts(stream);
            Body::Rebound { session, stream, fence: fence.0, resumed: *takeover == Takeover::Resumed }
        }
        Envelope::Released { stream } => {
            let (session, stream) = parts(stream);
            Body::Released { session, stream }
        }
        Envelope::SessionEnded { session } => Body::SessionEnded { session: session.to_string() },
        Envelope::Initialized { session } => Body::Initialized { session: session.to_string() },
        Envelope::Moved { session, server, lost } => {
            let UpstreamHandle { generation, session: upstream, node, protocol_version } = lost.clone();
            let node = node.map(|node| node.to_string());
            let lost = Lost { generation, session: upstream, node, protocol_version };
            Body::Moved { session: session.to_string(), server: server.to_string(), lost }
        }
        Envelope::Cancelled { session, request } => {
            Body::Cancelled { session: session.to_string(), request: request.as_json().to_owned() }
        }
        Envelope::CloseStreams { session } => Body::CloseStreams { session: session.to_string() },
        Envelope::NoLease => Body::NoLease,
        Envelope::Tally => Body::Tally,
    };
    (body, None)
}

/// The parcel, and when it was sent.
pub(super) fn decode(bytes: &Bytes) -> Result<(Parcel, u64), Malformed> {
    let end = memchr::memchr(b'\n', bytes).ok_or(Malformed::NoParcel)?;
    let Version { format } = serde_json::from_slice(&bytes[..end]).map_err(|_| Malformed::NoParcel)?;
    if format != FORMAT {
        return Err(Malformed::Format(format));
    }
    let head = serde_json::from_slice(&bytes[..end]);
    let head: Head = head.map_err(|error| Malformed::Head(error.to_string()))?;
    let payload = bytes.slice(end + 1..);
    let envelope = envelope_of(head.body, payload).ok_or(Malformed::NoParcel)?;
    let from = NodeId::parse(&head.from).map_err(|_| Malformed::NoParcel)?;
    let lane = if head.to_all { Lane::All } else { Lane::Direct };
    let trace = head.trace.and_then(|parent| TraceContext::parse(&parent, head.trace_state.as_deref()));
    Ok((Parcel { from, lane, number: head.number, envelope, trace }, head.at))
}

fn envelope_of(body: Body, payload: Payload) -> Option<Envelope> {
    let id = |text: &str| SessionId::parse(text).ok();
    let key = |session: &str, stream: &str| {
        Some(StreamKey { session: id(session)?, stream: StreamId::parse(stream).ok()? })
    };
    Some(match body {
        Body::Appended { session, stream, fence, event, previous, last } => {
            let event = Event { number: event.parse().ok()?, previous: previous.parse().ok()?, payload };
            Envelope::Appended { to: key(&session, &stream)?, fence: Fence(fence), event, last }
        }
        Body::Doorbell { session, stream, fence } => {
            Envelope::Doorbell { to: key(&session, &stream)?, fence: Fence(fence) }
        }
        Body::Rebound { session, stream, fence, resumed } => {
            let takeover = if resumed { Takeover::Resumed } else { Takeover::Second };
            Envelope::Rebound { stream: key(&session, &stream)?, fence: Fence(fence), takeover }
        }
        Body::Released { session, stream } => Envelope::Released { stream: key(&session, &stream)? },
        Body::SessionEnded { session } => Envelope::SessionEnded { session: id(&session)? },
        Body::Initialized { session } => Envelope::Initialized { session: id(&session)? },
        Body::Moved { session, server, lost } => {
            let Lost { generation, session: upstream, node, protocol_version } = lost;
            let node = node.map(|node| NodeId::parse(&node)).transpose().ok()?;
            let lost = UpstreamHandle { generation, session: upstream, node, protocol_version };
            Envelope::Moved { session: id(&session)?, server: ServerName::parse(&server).ok()?, lost }
        }
        Body::Cancelled { session, request } => {
            Envelope::Cancelled { session: id(&session)?, request: RequestId::from_json(&request) }
        }
        Body::CloseStreams { session } => Envelope::CloseStreams { session: id(&session)? },
        Body::Hint { server } => {
            let server = server.map(|server| ServerName::parse(&server)).transpose().ok()?;
            Envelope::Hint { server, notification: payload }
        }
        Body::NoLease => Envelope::NoLease,
        Body::Tally => Envelope::Tally,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::EventNumber;

    fn key() -> impl Strategy<Value = StreamKey> {
        let streams =
            [StreamId::get(), StreamId::http_sse(), StreamId::post(&[RequestId::from_json("1")], 7)];
        prop::sample::select(streams.to_vec())
            .prop_map(|stream| StreamKey { session: SessionId::mint(), stream })
    }

    fn payload() -> impl Strategy<Value = Payload> {
        prop::collection::vec(any::<u8>(), 0..64).prop_map(Payload::from)
    }

    fn number() -> impl Strategy<Value = EventNumber> {
        (any::<u64>(), any::<u64>()).prop_map(|(ms, counter)| EventNumber::new(ms, counter))
    }

    fn envelope() -> impl Strategy<Value = Envelope> {
        let event = (number(), number(), payload()).prop_map(|(number, previous, payload)| Event {
            number,
            previous,
            payload,
        });
        let fence = || any::<u64>().prop_map(Fence);
        prop_oneof![
            (key(), fence(), event, any::<bool>()).prop_map(|(to, fence, event, last)| Envelope::Appended {
                to,
                fence,
                event,
                last
            }),
            (key(), fence()).prop_map(|(to, fence)| Envelope::Doorbell { to, fence }),
            (key(), fence(), any::<bool>()).prop_map(|(stream, fence, resumed)| {
                let takeover = if resumed { Takeover::Resumed } else { Takeover::Second };
                Envelope::Rebound { stream, fence, takeover }
            }),
            key().prop_map(|stream| Envelope::Released { stream }),
            key().prop_map(|key| Envelope::SessionEnded { session: key.session }),
            key().prop_map(|key| Envelope::Initialized { session: key.session }),
            (key(), any::<u64>(), any::<Option<String>>(), any::<bool>()).prop_map(
                |(key, generation, session, pinned)| {
                    let node = pinned.then(|| NodeId::incarnate("a"));
                    let lost = UpstreamHandle { generation, session, node, protocol_version: "v".to_owned() };
                    let server = ServerName::parse("files").unwrap();
                    Envelope::Moved { session: key.session, server, lost }
                }
            ),
            (key(), "\"[^\"\\\\]{0,8}\"").prop_map(|(key, json)| Envelope::Cancelled {
                session: key.session,
                request: RequestId::from_json(&json)
            }),
            key().prop_map(|key| Envelope::CloseStreams { session: key.session }),
            (any::<bool>(), payload()).prop_map(|(named, notification)| {
                let server = named.then(|| ServerName::parse("files").unwrap());
                Envelope::Hint { server, notification }
            }),
            Just(Envelope::NoLease),
            Just(Envelope::Tally),
        ]
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(envelope in envelope(), number: u64, all: bool, at: u64, traced: bool) {
            let lane = if all { Lane::All } else { Lane::Direct };
            let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            let trace = TraceContext::parse(parent, Some("a=b")).filter(|_| traced);
            let parcel = Parcel { from: NodeId::incarnate("a"), lane, number, envelope, trace };
            prop_assert_eq!(decode(&encode(&parcel, at)), Ok((parcel, at)));
        }

        #[test]
        fn bytes_that_are_no_parcel_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&Bytes::from(bytes)).is_err());
        }
    }

    fn told(head: &str) -> Result<(Parcel, u64), Malformed> {
        decode(&Bytes::from(format!("{head}\n")))
    }

    #[test]
    fn fields_that_a_newer_version_adds_are_passed_over() {
        let plain = r#"{"format":1,"from":"a","number":1,"at":2,"kind":"tally"}"#;
        let (parcel, at) = told(plain).unwrap();
        let added = r#"{"format":1,"from":"a","number":1,"at":2,"later":{"x":[1]},"kind":"tally","more":1}"#;
        assert_eq!(told(added), Ok((parcel, at)));
    }

    #[test]
    fn a_kind_that_only_a_newer_version_knows_is_named() {
        let newer = r#"{"format":1,"from":"a","number":1,"at":2,"kind":"gossip","of":"b"}"#;
        let Err(Malformed::Head(why)) = told(newer) else { panic!("it is unknown") };
        assert!(why.contains("gossip"), "{why}");
    }

    #[test]
    fn another_format_is_named() {
        let bytes = Bytes::from_static(b"{\"format\":2,\"what\":[]}\nrest");
        assert_eq!(decode(&bytes), Err(Malformed::Format(2)));
    }
}
