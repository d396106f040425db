//! Binding a stream's socket: which positions can be resumed, who holds the stream, and who is
//! refused without a trace.

use holdfast::domain::{Binding, EventNumber, Fence, StreamKey};
use holdfast::ports::{Appended, Attach, Attached, SessionStore};

use super::{Harness, attach, bound, bounds, get_stream, logged, message, opened, texts};

/// Where the store says the stream's socket is.
async fn binding(store: &dyn SessionStore, stream: &StreamKey) -> Option<Binding> {
    match store.append(&message(stream, "x")).await.unwrap() {
        Appended::Logged { binding, .. } => binding,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_client_that_comes_back_gets_the_rest(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let (first, _) = bound(&*store, &attach(&stream, "a", None)).await;
    let one = logged(&*store, &message(&stream, "1")).await;
    logged(&*store, &message(&stream, "2")).await;
    logged(&*store, &message(&stream, "3")).await;
    let (second, tail) = bound(&*store, &attach(&stream, "b", Some(one))).await;
    assert!(second > first);
    assert_eq!((tail.after, texts(&tail)), (one, vec!["2".to_owned(), "3".to_owned()]));
    let mut before = one;
    for event in &tail.events {
        assert_eq!(event.previous, before);
        before = event.number;
    }
    match store.append(&message(&stream, "4")).await.unwrap() {
        Appended::Logged { binding: Some(binding), .. } => {
            assert_eq!((binding.node.as_str(), binding.fence), ("b", second));
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn positions_that_cannot_be_resumed_are_lost(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let mut numbers = Vec::new();
    for text in ["1", "2", "3", "4", "5", "6"] {
        numbers.push(logged(&*store, &message(&stream, text)).await);
    }
    // Four are kept: 3 to 6. The second was trimmed last.
    let (_, tail) = bound(&*store, &attach(&stream, "a", Some(numbers[1]))).await;
    assert_eq!(texts(&tail), ["3", "4", "5", "6"]);
    let (_, tail) = bound(&*store, &attach(&stream, "a", Some(numbers[5]))).await;
    assert!(tail.events.is_empty());
    let beyond = EventNumber::new(numbers[5].ms + 1_000_000, 0);
    let between = EventNumber::new(numbers[3].ms, numbers[3].counter + 1_000);
    let attach = |position| attach(&stream, "a", Some(position));
    for position in [numbers[0], EventNumber::default(), beyond, between] {
        let attached = store.attach(&attach(position)).await.unwrap();
        let rest = numbers[1..].iter().rfind(|number| **number <= position).unwrap_or(&numbers[1]);
        assert_eq!(attached, Attached::Lost { top: numbers[5], rest: *rest }, "{position}");
        // What is left can be had from there.
        let (_, tail) = bound(&*store, &attach(*rest)).await;
        assert!(tail.events.iter().all(|event| event.number > position), "{position}: {tail:?}");
    }
}

pub(crate) async fn without_a_position_the_tail_starts_where_nobody_held_the_stream(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    logged(&*store, &message(&stream, "early")).await;
    let (fence, tail) = bound(&*store, &attach(&stream, "a", None)).await;
    assert_eq!(texts(&tail), ["early"]);
    logged(&*store, &message(&stream, "held")).await;
    store.release(&stream, fence).await.unwrap();
    logged(&*store, &message(&stream, "unheld")).await;
    let (_, tail) = bound(&*store, &attach(&stream, "a", None)).await;
    assert_eq!(texts(&tail), ["unheld"]);
    let (_, tail) = bound(&*store, &attach(&stream, "b", None)).await;
    assert!(tail.events.is_empty(), "somebody held it: {tail:?}");
}

pub(crate) async fn a_newer_binding_supersedes(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let (own, tail) = bound(&*store, &attach(&stream, "a", None)).await;
    let again = Attach { reassert: Some(own), ..attach(&stream, "a", Some(tail.after)) };
    logged(&*store, &message(&stream, "1")).await;
    let (fence, read) = bound(&*store, &again).await;
    assert_eq!((fence, texts(&read)), (own, vec!["1".to_owned()]), "re-asserting keeps the fence");
    let (newer, _) = bound(&*store, &attach(&stream, "b", None)).await;
    assert_eq!(store.attach(&again).await.unwrap(), Attached::Superseded(newer));
}

pub(crate) async fn only_the_own_binding_is_released(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let (old, _) = bound(&*store, &attach(&stream, "a", None)).await;
    let (new, _) = bound(&*store, &attach(&stream, "b", None)).await;
    store.release(&stream, old).await.unwrap();
    let binding = |appended| match appended {
        Appended::Logged { binding, .. } => binding.map(|binding| binding.fence),
        other => panic!("{other:?}"),
    };
    assert_eq!(binding(store.append(&message(&stream, "1")).await.unwrap()), Some(new));
    store.release(&stream, new).await.unwrap();
    store.release(&stream, new).await.unwrap();
    assert_eq!(binding(store.append(&message(&stream, "2")).await.unwrap()), None);
}

pub(crate) async fn a_late_attach_is_refused(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let late = Attach { not_after_ms: Some(1), ..attach(&stream, "a", None) };
    assert_eq!(store.attach(&late).await.unwrap(), Attached::TooLate);
}

pub(crate) async fn what_was_trimmed_while_nobody_held_the_stream_is_no_silent_hole(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let mut numbers = Vec::new();
    for text in ["1", "2", "3", "4", "5", "6"] {
        numbers.push(logged(&*store, &message(&stream, text)).await);
    }
    let (_, tail) = bound(&*store, &attach(&stream, "a", None)).await;
    assert_eq!(texts(&tail), ["3", "4", "5", "6"]);
    assert_eq!(
        (tail.after, tail.events[0].previous),
        (numbers[1], numbers[1]),
        "the tail says where it starts"
    );
}

pub(crate) async fn a_position_that_no_event_has_is_lost(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let zero = attach(&stream, "a", Some(EventNumber::default()));
    assert!(matches!(store.attach(&zero).await.unwrap(), Attached::Lost { .. }), "on a new stream");
    let top = logged(&*store, &message(&stream, "1")).await;
    for position in [EventNumber::default(), EventNumber::new(u64::MAX, u64::MAX), EventNumber::new(1, 0)] {
        let attached = store.attach(&attach(&stream, "a", Some(position))).await.unwrap();
        let Attached::Lost { top: stands, rest } = attached else { panic!("{position}: {attached:?}") };
        assert_eq!((stands, rest == top), (top, position > top), "{position}");
    }
}

pub(crate) async fn a_refused_attach_binds_nothing(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    logged(&*store, &message(&stream, "1")).await;
    let lost = attach(&stream, "b", Some(EventNumber::new(1, 0)));
    let late = Attach { not_after_ms: Some(1), ..attach(&stream, "b", None) };
    for refused in [&lost, &late] {
        assert!(!matches!(store.attach(refused).await.unwrap(), Attached::Bound { .. }));
        assert_eq!(binding(&*store, &stream).await, None);
    }
    let (fence, tail) = bound(&*store, &attach(&stream, "a", None)).await;
    assert_eq!(texts(&tail), ["1", "x", "x"], "nor does it take what waits for the next");
    let stale = Attach { reassert: Some(Fence(fence.0 - 1)), ..attach(&stream, "b", None) };
    assert_eq!(store.attach(&stale).await.unwrap(), Attached::Superseded(fence));
    for refused in [&lost, &late] {
        store.attach(refused).await.unwrap();
    }
    assert_eq!(binding(&*store, &stream).await.unwrap().fence, fence);
    let in_time =
        Attach { not_after_ms: Some(u64::from(u32::MAX) * 1_000_000), ..attach(&stream, "b", None) };
    bound(&*store, &in_time).await;
}

pub(crate) async fn the_holder_before_is_named(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let mut before = None;
    for name in ["a", "b", "b"] {
        match store.attach(&attach(&stream, name, None)).await.unwrap() {
            Attached::Bound { fence, previous, .. } => {
                assert_eq!(previous, before);
                before = Some(Binding { node: super::node(name), fence });
            }
            other => panic!("{other:?}"),
        }
    }
    store.release(&stream, before.unwrap().fence).await.unwrap();
    let attached = store.attach(&attach(&stream, "a", None)).await.unwrap();
    assert!(matches!(attached, Attached::Bound { previous: None, .. }), "{attached:?}");
}

/// A holder that let go, and whose last resync arrives afterwards.
pub(crate) async fn a_released_binding_is_not_reasserted(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let (fence, tail) = bound(&*store, &attach(&stream, "a", None)).await;
    let again = |by: &str| Attach { reassert: Some(fence), ..attach(&stream, by, Some(tail.after)) };
    assert_eq!(
        store.attach(&again("b")).await.unwrap(),
        Attached::Superseded(fence),
        "the fence is another's"
    );
    store.release(&stream, fence).await.unwrap();
    assert_eq!(store.attach(&again("a")).await.unwrap(), Attached::Superseded(fence));
    assert_eq!(binding(&*store, &stream).await, None);
}

/// A failover may forget a fence that a node holds: it is kept, and the next one is above it.
pub(crate) async fn a_fence_that_the_store_forgot_is_taken_up(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let (known, tail) = bound(&*store, &attach(&stream, "b", None)).await;
    let ahead = Fence(known.0 + 1_000_000);
    let again = Attach { reassert: Some(ahead), ..attach(&stream, "a", Some(tail.after)) };
    assert_eq!(bound(&*store, &again).await.0, ahead);
    assert_eq!(binding(&*store, &stream).await, Some(Binding { node: super::node("a"), fence: ahead }));
    let (next, _) = bound(&*store, &attach(&stream, "b", None)).await;
    assert!(next > ahead, "{next} after {ahead}");
}
