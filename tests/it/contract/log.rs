//! What a stream's log keeps, how it numbers, and what leaves it.

use std::time::Duration;

use holdfast::domain::{EventNumber, Fence, SessionId};
use holdfast::ports::{Append, Appended, Attached, Bounds, LogBounds, Producer, Reader};

use super::{
    Harness, attach, begin, begun, bound, bounds, get_stream, logged, message, opened, request, texts,
};

pub(crate) async fn numbers_rise_and_name_their_predecessor(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let mut before = EventNumber::default();
    for text in ["1", "2", "3"] {
        match store.append(&message(&stream, text)).await.unwrap() {
            Appended::Logged { number, previous, binding, ended } => {
                assert!(number > before && (before == EventNumber::default() || previous == before));
                assert_eq!((binding, ended), (None, false));
                before = number;
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn a_repeated_append_changes_nothing(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let (_, tail) = bound(&*store, &attach(&stream, "a", None)).await;
    let mut append = message(&stream, "once");
    append.producer = Producer { id: 7, sequence: 1 };
    let number = logged(&*store, &append).await;
    assert_eq!(logged(&*store, &append).await, number);
    append.producer.sequence = 2;
    assert_ne!(logged(&*store, &append).await, number);
    let (_, tail) = bound(&*store, &attach(&stream, "a", Some(tail.after))).await;
    assert_eq!(texts(&tail), ["once", "once"]);
}

pub(crate) async fn a_gone_session_takes_nothing(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&SessionId::mint());
    assert_eq!(store.append(&message(&stream, "x")).await.unwrap(), Appended::Gone);
    assert_eq!(store.attach(&attach(&stream, "a", None)).await.unwrap(), Attached::Gone);
    store.release(&stream, Fence(1)).await.unwrap();
}

pub(crate) async fn the_top_of_a_lasting_stream_is_never_lost(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let top = logged(&*store, &message(&stream, "1")).await;
    harness.pass(Duration::from_secs(3000)).await;
    let (_, tail) = bound(&*store, &attach(&stream, "a", Some(top))).await;
    assert!(tail.events.is_empty());
}

/// A write that timed out may run after its producer went on.
pub(crate) async fn a_repeat_that_was_overtaken_is_not_logged_again(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let (_, start) = bound(&*store, &attach(&stream, "a", None)).await;
    let by = |id, sequence, text: &str| {
        let producer = Producer { id, sequence };
        holdfast::ports::Append { producer, ..message(&stream, text) }
    };
    for append in [by(7, 9, "1"), by(7, 10, "2"), by(8, 9, "other"), by(7, 9, "1"), by(7, 10, "2")] {
        logged(&*store, &append).await;
    }
    let (_, tail) = bound(&*store, &attach(&stream, "a", Some(start.after))).await;
    assert_eq!(texts(&tail), ["1", "2", "other"]);
}

fn keeping(log: LogBounds) -> Bounds {
    Bounds { log, ..bounds() }
}

async fn is_lost(
    store: &dyn holdfast::ports::SessionStore,
    to: &holdfast::domain::StreamKey,
    at: EventNumber,
) {
    let attached = store.attach(&attach(to, "a", Some(at))).await.unwrap();
    assert!(matches!(attached, Attached::Lost { .. }), "{attached:?}");
}

pub(crate) async fn a_stream_keeps_so_many_bytes(harness: &impl Harness) {
    let log = LogBounds { events_max: 100, stream_bytes_max: 2500, ..bounds().log };
    let store = harness.store(keeping(log)).await;
    let stream = get_stream(&opened(&*store).await);
    let (_, start) = bound(&*store, &attach(&stream, "a", None)).await;
    let kilobyte = "x".repeat(1000);
    let one = logged(&*store, &message(&stream, &kilobyte)).await;
    logged(&*store, &message(&stream, &kilobyte)).await;
    logged(&*store, &message(&stream, &kilobyte)).await;
    let (_, tail) = bound(&*store, &attach(&stream, "a", Some(one))).await;
    assert_eq!(tail.events.len(), 2, "two and a half kilobytes hold two of them");
    is_lost(&*store, &stream, start.after).await;
}

pub(crate) async fn an_event_beyond_all_bounds_is_lost_and_not_a_hole(harness: &impl Harness) {
    let store = harness.store(keeping(LogBounds { stream_bytes_max: 500, ..bounds().log })).await;
    let stream = get_stream(&opened(&*store).await);
    let (fence, start) = bound(&*store, &attach(&stream, "a", None)).await;
    let huge = logged(&*store, &message(&stream, &"x".repeat(1000))).await;
    is_lost(&*store, &stream, start.after).await;
    let next = logged(&*store, &message(&stream, "next")).await;
    let (newer, tail) = bound(&*store, &attach(&stream, "a", Some(huge))).await;
    assert!(newer > fence);
    assert_eq!((tail.events[0].number, tail.events[0].previous), (next, huge));
}

/// Whichever stream they are on.
pub(crate) async fn the_oldest_events_of_a_session_go_first(harness: &impl Harness) {
    let store = harness.store(keeping(LogBounds { session_bytes_max: 3000, ..bounds().log })).await;
    let session = opened(&*store).await;
    let get = get_stream(&session);
    let post = begin(&session, &[request(1)]);
    let (_, start) = bound(&*store, &attach(&get, "a", None)).await;
    let (_, post_start) = begun(&*store, &post).await;
    let kilobyte = "x".repeat(1000);
    let first = logged(&*store, &message(&get, &kilobyte)).await;
    harness.pass(Duration::from_millis(5)).await;
    logged(&*store, &message(&post.stream, &kilobyte)).await;
    harness.pass(Duration::from_millis(5)).await;
    logged(&*store, &message(&get, &kilobyte)).await;
    is_lost(&*store, &get, start.after).await;
    let (_, tail) = bound(&*store, &attach(&get, "a", Some(first))).await;
    assert_eq!(tail.events.len(), 1);
    let (_, tail) = bound(&*store, &attach(&post.stream, "a", Some(post_start))).await;
    assert_eq!(tail.events.len(), 1);
    harness.pass(Duration::from_millis(5)).await;
    logged(&*store, &message(&get, &kilobyte)).await;
    is_lost(&*store, &post.stream, post_start).await;
}

pub(crate) async fn events_live_so_long(harness: &impl Harness) {
    let store = harness.store(keeping(LogBounds { event_ttl: Duration::from_secs(1), ..bounds().log })).await;
    let stream = get_stream(&opened(&*store).await);
    let (_, start) = bound(&*store, &attach(&stream, "a", None)).await;
    let one = logged(&*store, &message(&stream, "1")).await;
    let two = logged(&*store, &message(&stream, "2")).await;
    harness.pass(Duration::from_millis(1100)).await;
    is_lost(&*store, &stream, start.after).await;
    is_lost(&*store, &stream, one).await;
    let three = logged(&*store, &message(&stream, "3")).await;
    let (_, tail) = bound(&*store, &attach(&stream, "a", Some(two))).await;
    assert_eq!(tail.events.iter().map(|event| event.number).collect::<Vec<_>>(), [three], "the last trimmed");
}

pub(crate) async fn what_was_read_before_the_stream_moved_is_refused(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let (first, _) = bound(&*store, &attach(&stream, "a", None)).await;
    let read = |fence, after: Option<&str>, text| Append {
        reader: Some(Reader { fence, after: after.map(str::to_owned) }),
        upstream_event: Some(format!("u-{text}")),
        ..message(&stream, text)
    };
    logged(&*store, &read(first, None, "1")).await;
    assert_eq!(
        store.append(&read(first, None, "1")).await.unwrap(),
        Appended::StaleFence,
        "another came further"
    );
    store.release(&stream, first).await.unwrap();
    let position = logged(&*store, &read(first, Some("u-1"), "2")).await;
    let moved = store.attach(&attach(&stream, "b", Some(position))).await.unwrap();
    let Attached::Bound { fence: second, upstream_event, last_bound, .. } = moved else {
        panic!("{moved:?}")
    };
    assert_eq!((upstream_event.as_deref(), last_bound), (Some("u-2"), Some(first)));
    assert_eq!(store.append(&read(first, Some("u-2"), "3")).await.unwrap(), Appended::StaleFence);
    logged(&*store, &read(second, Some("u-2"), "3")).await;
    let (_, tail) = bound(&*store, &attach(&stream, "b", Some(position))).await;
    assert_eq!(texts(&tail), ["3"]);
}
