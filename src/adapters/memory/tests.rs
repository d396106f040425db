//! A session's steps, given the time: what they add up to, whatever comes in whatever order, and what
//! they do when the clock does not help.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::session::{STREAM_COST_BYTES, SessionState};
use crate::domain::{
    EventNumber, Fence, NodeId, Payload, Principal, RequestId, ServerName, Session, SessionId, StreamId,
    StreamKey, Transport,
};
use crate::ports::{Append, Appended, Attach, Attached, Begin, Begun, Bounds, LogBounds, Producer};

const TTL_MS: u64 = 1000;

fn bounds() -> Bounds {
    Bounds {
        log: LogBounds {
            events_max: 5,
            event_ttl: Duration::from_millis(TTL_MS),
            stream_bytes_max: 600,
            session_bytes_max: 2500,
        },
        session_idle_timeout: Duration::from_secs(3600),
        sessions_max: 1,
        subscriptions_per_session_max: 1,
    }
}

fn new() -> SessionState {
    let session = Session {
        id: SessionId::parse("s").unwrap(),
        server: ServerName::parse("files").unwrap(),
        owner: Principal::anonymous(),
        transport: Transport::Streamable,
        opened_ms: None,
        client: None,
        upstream: None,
        log_level: None,
        subscriptions: Vec::new(),
        carried: None,
    };
    SessionState::new(session, 1)
}

fn key(stream: &StreamId) -> StreamKey {
    StreamKey { session: SessionId::parse("s").unwrap(), stream: stream.clone() }
}

fn append(stream: &StreamId, bytes: usize, request: Option<(RequestId, Fence)>) -> Append {
    Append {
        to: key(stream),
        payload: Payload::from(vec![b'x'; bytes]),
        producer: Producer { id: fastrand::u64(..), sequence: 1 },
        last: request.is_some(),
        request,
        upstream_event: None,
        reader: None,
    }
}

fn begun(state: &mut SessionState, id: u64, lifetime_ms: u64, now_ms: u64) -> (StreamId, RequestId, Fence) {
    let request = RequestId::from_json(&id.to_string());
    let stream = StreamId::post(std::slice::from_ref(&request), fastrand::u128(..));
    let begin = Begin {
        stream: key(&stream),
        requests: vec![request.clone()],
        runner: NodeId::parse("a").unwrap(),
        lifetime: Duration::from_millis(lifetime_ms),
        bind: true,
        upstream_event: None,
    };
    match state.begin(&begin, &bounds(), now_ms) {
        Begun::Recorded { fence, .. } => (stream, request, fence),
        other => panic!("{other:?}"),
    }
}

fn attached(
    state: &mut SessionState,
    stream: &StreamId,
    position: Option<EventNumber>,
    now_ms: u64,
) -> Attached {
    let node = NodeId::parse("a").unwrap();
    let attach = Attach { stream: key(stream), node, position, reassert: None, not_after_ms: None };
    state.attach(&attach, &bounds(), now_ms)
}

fn number(appended: Appended) -> EventNumber {
    match appended {
        Appended::Logged { number, .. } => number,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fences_and_numbers_grow_when_the_clock_steps_back() {
    let mut state = new();
    let get = StreamId::get();
    let (mut fence, mut before) = (Fence(0), EventNumber::default());
    for now_ms in [5000, 4000, 4000, 5000, 5001] {
        let Attached::Bound { fence: newer, .. } = attached(&mut state, &get, None, now_ms) else {
            panic!("not bound")
        };
        let next = number(state.append(append(&get, 1, None), &bounds(), now_ms));
        assert!(newer > fence && next > before);
        (fence, before) = (newer, next);
    }
}

#[test]
fn a_record_past_its_deadline_is_no_runner_any_more() {
    let mut state = new();
    let (stream, request, fence) = begun(&mut state, 1, 50, 100);
    let late = append(&stream, 1, Some((request, fence)));
    assert!(matches!(state.append(late.clone(), &bounds(), 149), Appended::Logged { ended: true, .. }));
    let (stream, request, fence) = begun(&mut state, 2, 50, 100);
    let late = append(&stream, 1, Some((request, fence)));
    assert_eq!(state.append(late, &bounds(), 150), Appended::StaleFence);
}

#[test]
fn a_post_stream_outlives_its_end_by_the_age_of_its_events() {
    let mut state = new();
    let (stream, request, fence) = begun(&mut state, 1, 60_000, 100);
    let top = number(state.append(append(&stream, 1, Some((request, fence))), &bounds(), 200));
    assert_eq!(attached(&mut state, &stream, Some(top), 200 + TTL_MS - 1), Attached::Ended);
    assert_eq!(attached(&mut state, &stream, Some(top), 200 + TTL_MS), Attached::Unknown);
    assert_eq!(state.bytes, 0);
}

#[test]
fn a_post_stream_lives_while_its_request_runs() {
    let mut state = new();
    let (stream, ..) = begun(&mut state, 1, 10 * TTL_MS, 100);
    let long_after = 100 + 5 * TTL_MS;
    state.age(&bounds(), long_after);
    assert!(matches!(attached(&mut state, &stream, None, long_after), Attached::Bound { .. }));
    state.age(&bounds(), 100 + 10 * TTL_MS);
    assert_eq!(state.bytes, 0, "its deadline is past, and nothing was said for long");
}

/// Seen: ended streams whose answers were too large for any log took all of the session's bytes.
#[test]
fn answers_too_large_to_keep_leave_room_for_others() {
    let mut state = new();
    let get = StreamId::get();
    let Attached::Bound { tail, .. } = attached(&mut state, &get, None, 100) else { panic!("not bound") };
    for id in 0..20 {
        let (stream, request, fence) = begun(&mut state, id, 60_000, 100 + id);
        state.append(append(&stream, 700, Some((request, fence))), &bounds(), 100 + id);
    }
    state.append(append(&get, 400, None), &bounds(), 130);
    assert!(state.bytes <= bounds().log.session_bytes_max, "{}", state.bytes);
    match attached(&mut state, &get, Some(tail.after), 131) {
        Attached::Bound { tail, .. } => assert_eq!(tail.events.len(), 1),
        other => panic!("{other:?}"),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    /// To the GET stream, or for one of the requests begun so far.
    Append {
        to: Option<prop::sample::Index>,
        bytes: usize,
        last: bool,
    },
    Age,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let to = prop::option::of(any::<prop::sample::Index>());
    prop_oneof![
        2 => Just(Step::Begin),
        6 => (to, 0usize..800, any::<bool>()).prop_map(|(to, bytes, last)| Step::Append { to, bytes, last }),
        1 => Just(Step::Age),
        2 => (0u64..700).prop_map(Step::Pass),
    ]
}

/// The sums and the order that the session keeps are those of its streams.
fn check(state: &SessionState) {
    let get = StreamId::get();
    let posts = state.streams.posts();
    let all = posts.keys().chain([&get]).filter_map(|id| Some((id, state.streams.get(id)?)));
    let mut fronts = BTreeSet::new();
    let mut bytes = posts.len() * STREAM_COST_BYTES;
    for (id, stream) in all {
        bytes += stream.log.bytes();
        let stub = stream.ended_ms.map(|_| stream.log.top());
        fronts.extend(stream.log.front().or(stub).map(|number| (number, id.clone())));
        assert!(!stream.log.exceeds(&bounds().log));
    }
    assert_eq!((state.bytes, &state.fronts), (bytes, &fronts));
    // What may come still has its place, and so has the stream of the last step.
    let open = posts.values().filter(|stream| stream.ended_ms.is_none()).count();
    assert!(bytes <= bounds().log.session_bytes_max.max((open + 1) * STREAM_COST_BYTES), "{bytes}");
}

proptest! {
    #[test]
    fn the_session_knows_what_its_streams_hold(steps in prop::collection::vec(step(), 1..80)) {
        let mut state = new();
        let (mut now_ms, mut started) = (100, Vec::new());
        for step in steps {
            match step {
                Step::Begin => started.push(begun(&mut state, started.len() as u64, 2 * TTL_MS, now_ms)),
                Step::Append { to, bytes, last } => {
                    let to = to.filter(|_| !started.is_empty()).map(|index| index.get(&started));
                    let (stream, request) = to.map_or((StreamId::get(), None), |(stream, request, fence)| {
                        (stream.clone(), Some((request.clone(), *fence)))
                    });
                    let append = append(&stream, bytes, request);
                    state.append(Append { last: last && to.is_some(), ..append }, &bounds(), now_ms);
                }
                Step::Age => state.age(&bounds(), now_ms),
                Step::Pass(ms) => now_ms += ms,
            }
            check(&state);
        }
    }
}
