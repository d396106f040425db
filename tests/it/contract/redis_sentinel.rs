//! The Redis adapter behind three Sentinels: it keeps the whole contract, and follows the primary by
//! itself. What a failover forgets is told to be lost, and nothing is given out twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holdfast::adapters::redis::{Config, RedisSessionStore};
use holdfast::domain::{EventNumber, Fence, SessionId, StreamKey};
use holdfast::ports::{
    Append, Appended, Attached, Begin, Bounds, Lease, LogBounds, SessionStore, StoreError,
};
use tokio::time::Instant;

use super::redis::redis_contract;
use super::{
    Harness, attach, begin, begun, bound, bounds, get_stream, logged, message, node, opened, request, texts,
};
use crate::servers::{Sentinels, Shared, redis_config};

/// From when the Sentinels have decided; a busy machine is given more than the second it takes.
const SOON: Duration = Duration::from_secs(10);

static GROUP: Shared<Sentinels> = Shared::new();

impl Harness for Arc<Sentinels> {
    async fn store(&self, bounds: Bounds) -> Arc<dyn SessionStore> {
        let config = Config { prefix: format!("hf-{}", fastrand::u64(..)), ..redis_config(self.url()) };
        Arc::new(RedisSessionStore::connect(&config, bounds).await.unwrap())
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

mod whole {
    use super::{GROUP, Sentinels, redis_contract};

    redis_contract! { #[tokio::test] GROUP.get(Sentinels::start) }
}

fn roomy() -> Bounds {
    Bounds { log: LogBounds { events_max: 100_000, ..bounds().log }, ..bounds() }
}

async fn store(group: &Sentinels) -> RedisSessionStore {
    RedisSessionStore::connect(&redis_config(group.url()), roomy()).await.unwrap()
}

/// Blocks without keeping the store's tasks from their work.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Waits until a store answers about a session again, and says what.
async fn found_again(store: &RedisSessionStore, id: &SessionId) -> bool {
    let since = Instant::now();
    loop {
        match store.load(id).await {
            Ok(session) => return session.is_some(),
            Err(error) => assert!(since.elapsed() < SOON, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Appends until it is done, as the hub does.
async fn appended(store: &RedisSessionStore, append: &Append) -> (EventNumber, EventNumber) {
    let since = Instant::now();
    loop {
        match store.append(append).await {
            Ok(Appended::Logged { number, previous, .. }) => return (number, previous),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(since.elapsed() < SOON * 2, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Appends one after the other until it is told to end; answers the number that each was given.
async fn use_until(
    store: Arc<RedisSessionStore>,
    stream: StreamKey,
    mut end: tokio::sync::oneshot::Receiver<()>,
) -> Vec<EventNumber> {
    let mut given = Given::default();
    let mut all = Vec::new();
    while end.try_recv().is_err() {
        let (number, _) = appended(&store, &message(&stream, &all.len().to_string())).await;
        given.number(number);
        all.push(number);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_killed_and_all_that_was_copied_is_there() {
    let mut group = Sentinels::start();
    let store = store(&group).await;
    let id = opened(&store).await;
    let stream = get_stream(&id);
    let (fence, _) = bound(&store, &attach(&stream, "a", None)).await;
    let first = logged(&store, &message(&stream, "1")).await;
    logged(&store, &message(&stream, "2")).await;
    let lease = Lease { node: node("a"), lifetime: Duration::from_secs(600), facts: "{}".to_owned() };
    assert!(!store.beat(&lease).await.unwrap().shaken);
    group.in_step();
    group.kill_primary();
    let killed = Instant::now();
    let said = store.load(&id).await;
    assert!(matches!(said, Ok(Some(_)) | Err(_)), "never gone: {said:?}");
    let group = aside(move || {
        group.promoted();
        group
    })
    .await;
    let promoted = Instant::now();
    assert!(found_again(&store, &id).await);
    println!("promoted after {:?}, found after {:?} more", promoted - killed, promoted.elapsed());
    let (newer, tail) = bound(&store, &attach(&stream, "a", Some(first))).await;
    assert_eq!(texts(&tail), ["2"]);
    assert!(newer > fence);
    let beat = store.beat(&lease).await.unwrap();
    assert!(beat.shaken && !beat.lapsed, "what was bound at last may be forgotten, and leases are not");
    assert!(!store.beat(&lease).await.unwrap().shaken, "it is said once");
    // A node that starts now finds it as well, though one of those that the URL names is gone.
    assert!(found_again(&self::store(&group).await, &id).await);
}

/// Exchanges primary and replica under use. Answers how many of how many acknowledged events are lost;
/// all others stand in the log once and in order, and whoever saw a lost one is told.
async fn exchanged(settings: &str) -> (usize, usize) {
    let group = Arc::new(Sentinels::with(settings));
    let store = Arc::new(store(&group).await);
    let id = opened(&*store).await;
    let stream = get_stream(&id);
    let first = logged(&*store, &message(&stream, "first")).await;
    let (done, end) = tokio::sync::oneshot::channel();
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    let user = tokio::spawn(use_until(store.clone(), stream.clone(), end));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let there = group.clone();
    aside(move || {
        there.swap();
        there.promoted();
        there.follows();
    })
    .await;
    // What is said from now on is said to the new one.
    let (sign, _) = appended(&store, &message(&get_stream(&id), "sign")).await;
    done.send(()).unwrap();
    let given = user.await.unwrap();
    let (_, tail) = bound(&*store, &attach(&stream, "a", Some(first))).await;
    let mut kept = Vec::new();
    for event in tail.events.iter().filter(|event| event.number != sign) {
        let which: usize = String::from_utf8_lossy(&event.payload).parse().unwrap();
        assert_eq!(given[which], event.number, "under the number that was acknowledged");
        assert!(kept.last().is_none_or(|last| which > *last), "once, and in order");
        kept.push(which);
    }
    let lost: Vec<_> = (0..given.len()).filter(|which| !kept.contains(which)).collect();
    for which in &lost {
        let said = store.attach(&attach(&stream, "a", Some(given[*which]))).await.unwrap();
        assert!(matches!(said, Attached::Lost { .. }), "{said:?}");
    }
    println!("{} of {} are lost", lost.len(), given.len());
    (lost.len(), given.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_exchanged_under_use() {
    // For a moment there are two primaries: the old one's last events are lost, and that is told.
    let (lost, given) = exchanged("").await;
    assert!(given > lost + 20, "it was used: {given}, {lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_needs_its_replica_forgets_next_to_nothing() {
    let (lost, given) = exchanged("--min-replicas-to-write 1").await;
    assert!(given > lost + 20, "it was used: {given}, {lost}");
    assert!(lost <= 3, "no more than was on its way to the replica: {lost}");
}

/// Everything that a stream gave out.
#[derive(Default)]
struct Given {
    fences: BTreeSet<Fence>,
    numbers: BTreeSet<EventNumber>,
}

impl Given {
    fn fence(&mut self, fence: Fence) {
        assert!(self.fences.last().is_none_or(|last| fence > *last), "a fence was given out again");
        self.fences.insert(fence);
    }

    fn number(&mut self, number: EventNumber) {
        assert!(self.numbers.last().is_none_or(|last| number > *last), "a number was given out again");
        self.numbers.insert(number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failover_forgot_is_lost_and_never_given_out_again() {
    let mut group = Sentinels::start();
    let store = store(&group).await;
    let (id, mut given) = (opened(&store).await, Given::default());
    let stream = get_stream(&id);
    let (fence, _) = bound(&store, &attach(&stream, "a", None)).await;
    given.fence(fence);
    let kept = logged(&store, &message(&stream, "kept")).await;
    given.number(kept);
    let running = begin(&id, &[request(1)]);
    let (runner, running_top) = begun(&store, &running).await;
    given.fence(runner);
    group.in_step();
    group.cut_replica();
    // All of this is acknowledged.
    let mut forgotten = Vec::new();
    for text in ["one", "two", "three"] {
        let number = logged(&store, &message(&stream, text)).await;
        given.number(number);
        forgotten.push(number);
    }
    given.fence(bound(&store, &attach(&stream, "b", Some(kept))).await.0);
    let end = Append { request: Some((request(1), runner)), last: true, ..message(&running.stream, "end") };
    let ended = logged(&store, &end).await;
    let later = Begin { requests: vec![request(2)], ..begin(&id, &[request(2)]) };
    given.fence(begun(&store, &later).await.0);
    let new = opened(&store).await;
    group.kill_primary();
    let _group = aside(move || {
        group.promoted();
        group
    })
    .await;
    assert!(found_again(&store, &id).await);
    assert_eq!(store.load(&new).await, Ok(None), "it was forgotten as a whole");
    for position in forgotten {
        let said = store.attach(&attach(&stream, "c", Some(position))).await.unwrap();
        assert!(matches!(said, Attached::Lost { .. }), "{position:?}: {said:?}");
    }
    let said = store.attach(&attach(&running.stream, "c", Some(ended))).await.unwrap();
    assert!(matches!(said, Attached::Lost { .. }), "{said:?}");
    // What is known is resumed as it is known.
    let (fence, tail) = bound(&store, &attach(&stream, "c", Some(kept))).await;
    given.fence(fence);
    assert!(tail.events.is_empty());
    given.number(logged(&store, &message(&stream, "four")).await);
    // The holder from before, whose binding was forgotten, has the older fence or takes it up.
    given.fence(begun(&store, &Begin { requests: vec![request(3)], ..begin(&id, &[request(3)]) }).await.0);
    // The request that had ended runs again, for the same runner: it can end it again.
    let (_, tail) = bound(&store, &attach(&running.stream, "c", Some(running_top))).await;
    assert!(tail.events.is_empty() && !tail.ended);
    let again = store.append(&end).await.unwrap();
    let Appended::Logged { number, .. } = again else { panic!("{again:?}") };
    assert!(number > ended, "under another number");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_frozen_wakes_up_and_does_no_harm() {
    let group = Sentinels::start();
    // With so much patience the connections live on until it wakes up.
    let patient = Config { timeout: Duration::from_secs(20), ..redis_config(group.url()) };
    let patient = Arc::new(RedisSessionStore::connect(&patient, roomy()).await.unwrap());
    let store = store(&group).await;
    let id = opened(&store).await;
    let stream = get_stream(&id);
    let first = logged(&store, &message(&stream, "first")).await;
    group.in_step();
    group.freeze_primary();
    // Told to the frozen one, which does it when it wakes up.
    let late = message(&stream, "late");
    let (waiting, told) = (patient.clone(), late.clone());
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    let waiting = tokio::spawn(async move { waiting.append(&told).await });
    let group = aside(move || {
        group.promoted();
        group
    })
    .await;
    let mut given = Given::default();
    given.number(first);
    let (second, previous) = appended(&store, &message(&stream, "second")).await;
    given.number(second);
    assert_eq!(previous, first);
    // The patient one is told as well, by the Sentinels.
    let (third, previous) = appended(&patient, &message(&stream, "third")).await;
    given.number(third);
    assert_eq!(previous, second);
    group.thaw_primary();
    let said = waiting.await.unwrap();
    match &said {
        Ok(Appended::Logged { number, previous, .. }) => {
            assert_eq!(*previous, first, "by the old one");
            assert!(!given.numbers.contains(number));
            let said = store.attach(&attach(&stream, "a", Some(*number))).await.unwrap();
            assert!(matches!(said, Attached::Lost { .. }), "a client that saw it is told: {said:?}");
        }
        other => assert!(matches!(other, Err(StoreError::Unknown | StoreError::Unavailable)), "{other:?}"),
    }
    // Nobody goes back to it.
    for _ in 0..50 {
        for store in [&store, &*patient] {
            let (number, previous) = appended(store, &message(&stream, "more")).await;
            assert_eq!(Some(&previous), given.numbers.last());
            given.number(number);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let group = aside(move || {
        group.follows();
        group
    })
    .await;
    let (_, tail) = bound(&store, &attach(&stream, "a", Some(first))).await;
    let mut told: BTreeSet<_> = tail.events.iter().map(|event| event.number).collect();
    told.insert(first);
    assert_eq!(told, given.numbers, "exactly what was acknowledged by the new one");
    drop(group);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_sentinel_does_not_keep_the_primary_from_being_found() {
    let mut group = Sentinels::start();
    let store = store(&group).await;
    let id = opened(&store).await;
    group.in_step();
    // The first that the URL names.
    group.freeze_watcher(0);
    group.kill_primary();
    let group = aside(move || {
        group.promoted();
        group
    })
    .await;
    assert!(found_again(&store, &id).await);
    // By a node that starts now as well.
    assert!(found_again(&self::store(&group).await, &id).await);
}
