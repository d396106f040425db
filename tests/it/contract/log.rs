//! The log of a stream and the binding of its socket.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use holdfast::domain::{EventNumber, Fence};
use holdfast::ports::{Appended, Attach, Attached, Bounds, LogBounds, Producer};

use super::{Harness, attach, bound, bounds, get_stream, logged, message, opened, texts};

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
    for position in [numbers[0], EventNumber::default(), beyond, between] {
        let attached = store.attach(&attach(&stream, "a", Some(position))).await.unwrap();
        assert_eq!(attached, Attached::Lost { top: numbers[5] }, "{position}");
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

pub(crate) async fn a_gone_session_takes_nothing(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&holdfast::domain::SessionId::mint());
    assert_eq!(store.append(&message(&stream, "x")).await.unwrap(), Appended::Gone);
    assert_eq!(store.attach(&attach(&stream, "a", None)).await.unwrap(), Attached::Gone);
    store.release(&stream, Fence(1)).await.unwrap();
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

/// Every event is in an attach's tail, or its append names the binding that attach made.
pub(crate) async fn appends_and_attaches_are_serial(harness: &impl Harness) {
    let roomy = Bounds { log: LogBounds { events_max: 10_000, ..bounds().log }, ..bounds() };
    let store = harness.store(roomy).await;
    let stream = Arc::new(get_stream(&opened(&*store).await));
    let appends = (0..200).map(|number| {
        let (store, stream) = (store.clone(), stream.clone());
        async move {
            tokio::task::yield_now().await;
            match store.append(&message(&stream, &number.to_string())).await.unwrap() {
                Appended::Logged { number, binding, .. } => (number, binding.map(|binding| binding.fence)),
                other => panic!("{other:?}"),
            }
        }
    });
    let attaches = (0..50).map(|_| {
        let (store, stream) = (store.clone(), stream.clone());
        async move {
            tokio::task::yield_now().await;
            bound(&*store, &attach(&stream, "a", None)).await
        }
    });
    let (appended, mut attached) =
        futures::join!(futures::future::join_all(appends), futures::future::join_all(attaches));
    attached.sort_by_key(|(fence, _)| *fence);
    let mut delivered = HashSet::new();
    for (fence, tail) in &attached {
        for event in &tail.events {
            assert!(delivered.insert(event.number), "twice: {}", event.number);
        }
        let sent = appended.iter().filter(|(_, to)| to == &Some(*fence)).map(|(number, _)| *number);
        for number in sent {
            assert!(delivered.insert(number), "twice: {number}");
        }
    }
    let numbers: HashSet<_> = appended.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers.len(), 200, "no number is given twice");
    assert_eq!(delivered, numbers, "nothing is lost between an append and an attach");
}

pub(crate) async fn the_log_is_trimmed_by_count_bytes_and_age(harness: &impl Harness) {
    let log =
        LogBounds { events_max: 100, stream_bytes_max: 2500, session_bytes_max: 1 << 20, ..bounds().log };
    let store = harness.store(Bounds { log, ..bounds() }).await;
    let stream = get_stream(&opened(&*store).await);
    let (_, start) = bound(&*store, &attach(&stream, "a", None)).await;
    let kilobyte = "x".repeat(1000);
    let one = logged(&*store, &message(&stream, &kilobyte)).await;
    logged(&*store, &message(&stream, &kilobyte)).await;
    logged(&*store, &message(&stream, &kilobyte)).await;
    let (_, tail) = bound(&*store, &attach(&stream, "a", Some(one))).await;
    assert_eq!(tail.events.len(), 2, "two and a half kilobytes hold two of them");
    let lost = store.attach(&attach(&stream, "a", Some(start.after))).await.unwrap();
    assert!(matches!(lost, Attached::Lost { .. }), "{lost:?}");
    harness.pass(Duration::from_secs(601)).await;
    let aged = store.attach(&attach(&stream, "a", Some(one))).await.unwrap();
    assert!(matches!(aged, Attached::Lost { .. }), "{aged:?}");
}

pub(crate) async fn the_top_of_a_lasting_stream_is_never_lost(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let stream = get_stream(&opened(&*store).await);
    let top = logged(&*store, &message(&stream, "1")).await;
    harness.pass(Duration::from_secs(3000)).await;
    let (_, tail) = bound(&*store, &attach(&stream, "a", Some(top))).await;
    assert!(tail.events.is_empty());
}
