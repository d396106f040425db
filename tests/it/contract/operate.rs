//! Leases of nodes, hints, marks, and what operators may see.

use std::time::Duration;

use holdfast::domain::StreamId;
use holdfast::ports::{Append, Attached, Lease, Mark, Producer, SeenNode, Steal, Stolen};

use super::{
    Harness, attach, begin, begun, bound, bounds, get_stream, logged, message, node, opened, request, server,
};

fn lease(name: &str, lifetime: Duration) -> Lease {
    Lease { node: node(name), lifetime, facts: format!(r#"{{"of":"{name}"}}"#) }
}

pub(crate) async fn nodes_are_alive_while_they_beat(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(300));
    let first = store.beat(&lease("b", long)).await.unwrap();
    assert_eq!((first.alive, first.lapsed), (vec![node("b")], true), "there was no lease before");
    let other = store.beat(&lease("a", short)).await.unwrap();
    assert_eq!(other.alive, [node("a"), node("b")]);
    let again = store.beat(&lease("a", short)).await.unwrap();
    assert!(!again.lapsed && again.now_ms >= first.now_ms);
    let seen = |name: &str| SeenNode { node: node(name), facts: format!(r#"{{"of":"{name}"}}"#) };
    assert_eq!(store.nodes().await.unwrap(), [seen("a"), seen("b")]);
    harness.pass(Duration::from_millis(400)).await;
    assert_eq!(store.nodes().await.unwrap(), [seen("b")]);
    let late = store.beat(&lease("a", long)).await.unwrap();
    assert!(late.lapsed && late.now_ms >= first.now_ms + 400, "others may have taken it for dead");
    assert!(late.left.is_empty(), "it had let its lease run out");
    store.leave(&node("a")).await.unwrap();
    store.leave(&node("a")).await.unwrap();
    store.leave(&node("c")).await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), [seen("b")]);
    let without = store.beat(&lease("b", long)).await.unwrap();
    assert_eq!((without.alive, without.left), (vec![node("b")], vec![node("a")]), "only one left");
}

pub(crate) async fn hints_are_kept_with_their_time(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    assert!(store.hints(&server()).await.unwrap().is_empty());
    let stream = get_stream(&opened(&*store).await);
    let (fence, _) = bound(&*store, &attach(&stream, "a", None)).await;
    store.release(&stream, fence).await.unwrap();
    harness.pass(Duration::from_millis(5)).await;
    store.hint(&server(), "notifications/tools/list_changed").await.unwrap();
    let hints = store.hints(&server()).await.unwrap();
    assert_eq!(hints.len(), 1);
    assert_eq!(hints[0].0, "notifications/tools/list_changed");
    let Attached::Bound { last_bound: Some(since), .. } =
        store.attach(&attach(&stream, "a", None)).await.unwrap()
    else {
        panic!("not bound before")
    };
    assert!(hints[0].1 >= since.0, "it came after the stream was bound");
}

pub(crate) async fn a_mark_tells_a_thief_where_to_go_on(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    let dead = begin(&id, &[request(1)]);
    let (from, _) = begun(&*store, &dead).await;
    let producer = Producer { id: 7, sequence: 0 };
    let mark = |fence, at: &str| Mark {
        stream: dead.stream.clone(),
        request: request(1),
        fence,
        producer,
        upstream_event: at.to_owned(),
    };
    store.mark(&mark(from, "~1")).await.unwrap();
    let steal = Steal { stream: dead.stream.clone(), request: request(1), from, by: node("b") };
    let Stolen::Taken(taken) = store.steal(&steal).await.unwrap() else { panic!("not taken") };
    assert_eq!((taken.upstream_event.as_deref(), taken.runner), (Some("~1"), node("b")));
    store.mark(&mark(from, "~2")).await.unwrap();
    let Attached::Bound { running, .. } = store.attach(&attach(&dead.stream, "b", None)).await.unwrap()
    else {
        panic!("not bound")
    };
    assert_eq!(running[0].upstream_event.as_deref(), Some("~1"), "the dead one marks nothing any more");
    let append = Append {
        request: Some((request(1), taken.fence)),
        upstream_event: Some("=3".to_owned()),
        ..message(&dead.stream, "x")
    };
    logged(&*store, &append).await;
    let Attached::Bound { running, .. } = store.attach(&attach(&dead.stream, "b", None)).await.unwrap()
    else {
        panic!("not bound")
    };
    assert_eq!(running[0].upstream_event.as_deref(), Some("=3"));
    for (sequence, at, then) in [(0, "~2", "=3"), (1, "~4", "~4")] {
        let producer = Producer { sequence, ..append.producer };
        store.mark(&Mark { producer, ..mark(taken.fence, at) }).await.unwrap();
        let inspected = store.inspect(&id).await.unwrap().unwrap();
        assert_eq!(
            inspected.running[0].upstream_event.as_deref(),
            Some(then),
            "one that comes late is older"
        );
    }
}

pub(crate) async fn what_operators_see(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    let stream = get_stream(&id);
    let post = begin(&id, &[request(7)]);
    begun(&*store, &post).await;
    let (fence, _) = bound(&*store, &attach(&stream, "b", None)).await;
    let mut numbers = Vec::new();
    for text in ["1", "22", "333", "4444", "55555"] {
        numbers.push((logged(&*store, &message(&stream, text)).await, text.len()));
    }
    let seen = store.inspect(&id).await.unwrap().unwrap();
    assert_eq!((seen.session.id, seen.session.server), (id.clone(), server()));
    assert_eq!(seen.streams.len(), 2);
    let get = &seen.streams[0];
    assert_eq!((get.stream.clone(), get.events, get.top), (StreamId::get(), 4, numbers[4].0));
    assert_eq!(get.last, numbers[1..], "the oldest was trimmed");
    assert_eq!(get.binding.as_ref().map(|held| (held.node.clone(), held.fence)), Some((node("b"), fence)));
    let running: Vec<_> = seen.running.iter().map(|record| record.request.clone()).collect();
    assert_eq!(running, [request(7)]);
    assert_eq!(store.inspect(&holdfast::domain::SessionId::mint()).await.unwrap(), None);
}
