//! Two nodes race through two connections to one Redis, ten thousand times: always exactly one wins,
//! and both are told the same.

use std::sync::Arc;

use futures::StreamExt as _;
use holdfast::adapters::redis::RedisSessionStore;
use holdfast::domain::{Principal, SessionId, Transport};
use holdfast::ports::{
    Append, Appended, Attached, Begin, Begun, Bounds, Opened, SessionStore as _, Steal, Stolen,
};

use super::{attach, begin, begun, bounds, get_stream, message, node, opened, request, server};
use crate::servers::Redis;

const RACES: usize = 10_000;

/// Races that run at the same time.
const AT_ONCE: usize = 64;

struct Two {
    _redis: Redis,
    a: RedisSessionStore,
    b: RedisSessionStore,
}

async fn two() -> Arc<Two> {
    let redis = Redis::start();
    let bounds = Bounds { sessions_max: 1_000_000, ..bounds() };
    let (a, b) = (redis.store(bounds).await, redis.store(bounds).await);
    Arc::new(Two { _redis: redis, a, b })
}

async fn race<F: Future<Output = ()>>(run: impl Fn(Arc<Two>, usize) -> F) {
    let two = two().await;
    let races = futures::stream::iter(0..RACES).map(|number| run(two.clone(), number));
    races.buffer_unordered(AT_ONCE).for_each(|()| async {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_two_principals_claim_one_session_id() {
    race(|two, number| async move {
        let id = SessionId::mint();
        let (one, other) = (Principal::named("one"), Principal::named("other"));
        let (own, at) = (server(), Transport::Streamable);
        let (a, b) = if number % 2 == 0 { (&two.a, &two.b) } else { (&two.b, &two.a) };
        let (first, second) = futures::join!(a.open(&id, &own, &one, at), b.open(&id, &own, &other, at));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first, second, "both are told the same");
        let Opened::Owned(owner) = first else { panic!("{first:?}") };
        assert_eq!(two.b.load(&id).await.unwrap().unwrap().owner, owner);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_two_nodes_attach_one_stream() {
    race(|two, _| async move {
        let stream = get_stream(&opened(&two.a).await);
        let (first, second) = (attach(&stream, "a", None), attach(&stream, "b", None));
        let (first, second) = futures::join!(two.a.attach(&first), two.b.attach(&second));
        let fence = |attached| match attached {
            Ok(Attached::Bound { fence, previous, .. }) => (fence, previous),
            other => panic!("{other:?}"),
        };
        let ((first, before_first), (second, before_second)) = (fence(first), fence(second));
        assert_ne!(first, second);
        let newer = if first > second { "a" } else { "b" };
        assert_eq!(before_first.is_some(), first > second, "the later one is told of the earlier");
        assert_eq!(before_second.is_some(), second > first);
        let appended = two.a.append(&message(&stream, "x")).await.unwrap();
        let Appended::Logged { binding: Some(holder), .. } = appended else { panic!("{appended:?}") };
        assert_eq!((holder.node, holder.fence), (node(newer), first.max(second)), "one holder");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_two_nodes_begin_steal_and_end_one_request() {
    race(|two, _| async move {
        let id = opened(&two.a).await;
        let first = begin(&id, &[request(1)]);
        let second = Begin { runner: node("b"), stream: begin(&id, &[request(1)]).stream, ..first.clone() };
        let (one, other) = futures::join!(two.a.begin(&first), two.b.begin(&second));
        let recorded = [one.unwrap(), other.unwrap()].map(|begun| matches!(begun, Begun::Recorded { .. }));
        assert_eq!(recorded.iter().filter(|&&recorded| recorded).count(), 1, "one runner");

        let id = opened(&two.a).await;
        let dead = Begin { runner: node("dead"), ..begin(&id, &[request(1)]) };
        let (from, _) = begun(&two.a, &dead).await;
        let steal = |by: &str| Steal { stream: dead.stream.clone(), request: request(1), from, by: node(by) };
        let (one, other) = (steal("a"), steal("b"));
        let (one, other) = futures::join!(two.a.steal(&one), two.b.steal(&other));
        let taken: Vec<_> = [one.unwrap(), other.unwrap()]
            .into_iter()
            .filter_map(|stolen| if let Stolen::Taken(record) = stolen { Some(record) } else { None })
            .collect();
        assert_eq!(taken.len(), 1, "one thief");

        let end =
            |fence| Append { request: Some((request(1), fence)), last: true, ..message(&dead.stream, "end") };
        let (thief, late) = (end(taken[0].fence), end(from));
        let (thief, late) = futures::join!(two.a.append(&thief), two.b.append(&late));
        assert!(matches!(thief.unwrap(), Appended::Logged { ended: true, .. }));
        assert!(matches!(late.unwrap(), Appended::StaleFence | Appended::Ended), "it ends once");
    })
    .await;
}
