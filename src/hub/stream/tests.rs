//! How a stream keeps its events in order, whatever comes in whatever order.

use std::task::{Context, Poll};

use futures::task::noop_waker;

use super::*;
use crate::domain::{SessionId, StreamId};

fn stream() -> LocalStream {
    let key = StreamKey { session: SessionId::mint(), stream: StreamId::get() };
    let framing = Framing { primes: false, retry: Duration::from_secs(1) };
    LocalStream::new(key, framing, Buffer { events_max: 64, bytes_max: 1 << 20 })
}

fn event(number: u64) -> Event {
    let at = |counter| EventNumber::new(0, counter);
    Event { number: at(number), previous: at(number - 1), payload: Bytes::from(format!("e{number}")) }
}

fn tail(after: u64, events: &[u64]) -> Tail {
    Tail {
        after: EventNumber::new(0, after),
        events: events.iter().map(|n| event(*n)).collect(),
        ended: false,
    }
}

fn written(stream: &LocalStream) -> Vec<String> {
    let waker = noop_waker();
    let mut all = String::new();
    while let Poll::Ready(Some(queued)) = stream.outlet.poll_next(&Context::from_waker(&waker)) {
        all.push_str(std::str::from_utf8(&queued.frame).unwrap());
    }
    all.lines().filter_map(|line| line.strip_prefix("data:")).map(|data| data.trim().to_owned()).collect()
}

#[tokio::test]
async fn events_go_out_once_and_in_order_whatever_order_they_come_in() {
    let stream = stream();
    assert_eq!(stream.deliver(Fence(1), event(3), false), Delivered::Waiting);
    assert_eq!(stream.bound(Fence(1), &tail(0, &[1]), &Opening::default()), Delivered::Gap);
    assert_eq!(stream.deliver(Fence(1), event(1), false), Delivered::Duplicate);
    assert_eq!(stream.deliver(Fence(1), event(2), false), Delivered::Written(2));
    assert_eq!(stream.deliver(Fence(1), event(5), false), Delivered::Gap);
    assert_eq!(stream.caught_up(&tail(3, &[4])), 2);
    assert_eq!(written(&stream), ["e1", "e2", "e3", "e4", "e5"]);
}

#[tokio::test]
async fn the_last_event_ends_the_stream() {
    let stream = stream();
    stream.bound(Fence(1), &tail(0, &[]), &Opening::default());
    stream.deliver(Fence(1), event(1), true);
    assert_eq!(stream.outlet.ended(), Some(StreamEnd::Finished));
    assert_eq!(written(&stream), ["e1"]);
}

#[tokio::test]
async fn a_stream_that_was_taken_over_is_silent_but_for_what_was_its_own() {
    let stream = stream();
    stream.bound(Fence(1), &tail(0, &[]), &Opening::default());
    stream.give_way(Fence(2), Takeover::Second);
    assert!(stream.is_silent());
    assert_eq!(stream.deliver(Fence(2), event(2), false), Delivered::Waiting);
    // Appended before the other took over, and overtaken by that news.
    assert_eq!(stream.deliver(Fence(1), event(1), false), Delivered::Written(1));
    assert_eq!(written(&stream), ["e1"]);
}

#[tokio::test]
async fn a_stream_that_is_bound_late_knows_who_was_faster() {
    for (newer, takeover, silent, ended) in [
        (Fence(2), Takeover::Second, false, None),
        (Fence(4), Takeover::Second, true, None),
        (Fence(4), Takeover::Resumed, true, Some(StreamEnd::Replaced)),
    ] {
        let stream = stream();
        stream.give_way(newer, takeover);
        // To the other one, on this node.
        stream.deliver(newer, event(2), false);
        stream.bound(Fence(3), &tail(0, &[1]), &Opening::default());
        assert_eq!((stream.is_silent(), stream.outlet.ended()), (silent, ended), "{newer:?}");
        assert_eq!(written(&stream), ["e1"]);
    }
}

#[tokio::test]
async fn what_comes_while_a_silent_stream_is_bound_again_is_kept() {
    let stream = stream();
    stream.bound(Fence(1), &tail(0, &[]), &Opening::default());
    stream.give_way(Fence(2), Takeover::Second);
    assert!(stream.promote() && !stream.promote());
    assert_eq!(stream.deliver(Fence(3), event(5), false), Delivered::Waiting);
    assert!(!stream.ring(Fence(3)));
    assert_eq!(stream.promoted(Fence(3), &tail(3, &[4])), Delivered::Gap, "the log is read");
    assert_eq!(written(&stream), ["e4", "e5"]);
    assert!(stream.ring(Fence(3)));
}
