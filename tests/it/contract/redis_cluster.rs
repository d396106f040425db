//! The Redis adapter on a cluster of three primaries: it keeps the whole contract, and a primary that is
//! away or a slot that moves concerns its own sessions alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holdfast::adapters::redis::{Config, RedisSessionStore};
use holdfast::domain::{EventNumber, Principal, SessionId, StreamKey, Transport};
use holdfast::ports::{
    Append, Appended, Bounds, Lease, LogBounds, Opened, Query, RateLimits, SessionStore, StoreError,
};
use tokio::time::Instant;

use super::rates::Rating;
use super::redis::redis_contract;
use super::{Harness, attach, bound, bounds, get_stream, logged, message, node, opened, server, texts};
use crate::servers::{RedisCluster, Shared, redis_config};

static CLUSTER: Shared<RedisCluster> = Shared::new();

impl RedisCluster {
    /// With keys of its own.
    async fn fresh(&self, bounds: Bounds) -> RedisSessionStore {
        let config = Config { prefix: format!("hf-{}", fastrand::u64(..)), ..redis_config(self.url()) };
        RedisSessionStore::connect(&config, bounds).await.unwrap()
    }

    /// Which of them has a session.
    fn has(&self, id: &SessionId) -> usize {
        self.of(&format!("{{{id}}}"))
    }
}

impl Rating for Arc<RedisCluster> {
    async fn rates(&self) -> Arc<dyn RateLimits> {
        Arc::new(self.fresh(bounds()).await)
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

impl Harness for Arc<RedisCluster> {
    async fn store(&self, bounds: Bounds) -> Arc<dyn SessionStore> {
        Arc::new(self.fresh(bounds).await)
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

mod whole {
    use super::{CLUSTER, RedisCluster, redis_contract};
    use crate::contract::instantiate;

    redis_contract! { #[tokio::test] CLUSTER.get(RedisCluster::start) }

    instantiate! { #[tokio::test] CLUSTER.get(RedisCluster::start);
        rates: each_principal_has_its_own;
    }
}

/// Sessions until each primary has at least one, and one of each.
async fn one_on_each(
    cluster: &RedisCluster,
    store: &RedisSessionStore,
) -> ([SessionId; 3], BTreeSet<SessionId>) {
    let (mut one, mut all) = ([None, None, None], BTreeSet::new());
    while one.iter().any(Option::is_none) {
        let id = opened(store).await;
        one[cluster.has(&id)].get_or_insert_with(|| id.clone());
        all.insert(id);
        assert!(all.len() < 90, "they spread");
    }
    (one.map(Option::unwrap), all)
}

/// Appends `text` until it is done, as the hub does; answers its number and its predecessor's.
async fn appended(store: &RedisSessionStore, append: &Append) -> (EventNumber, EventNumber) {
    let since = Instant::now();
    loop {
        match store.append(append).await {
            Ok(Appended::Logged { number, previous, .. }) => return (number, previous),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(since.elapsed() < Duration::from_secs(20), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_concerns_all_sessions_is_whole() {
    let cluster = CLUSTER.get(RedisCluster::start);
    let brief = Duration::from_millis(1500);
    let store = cluster.fresh(Bounds { session_idle_timeout: brief, ..bounds() }).await;
    let (_, all) = one_on_each(&cluster, &store).await;
    let mut found = BTreeSet::new();
    let mut after = None;
    loop {
        let query = Query { after: after.take(), limit: 3, ..Query::default() };
        let page = store.find(&query).await.unwrap();
        found.extend(page.sessions.iter().map(|session| session.id.clone()));
        if !page.more {
            break;
        }
        after = page.sessions.last().map(|session| session.id.clone());
    }
    assert_eq!(found, all);
    let gone = SessionId::mint();
    let ids: Vec<_> = all.iter().cloned().chain([gone.clone()]).collect();
    assert_eq!(store.touch(&ids).await.unwrap(), [gone]);
    tokio::time::sleep(brief).await;
    let mut reaped = BTreeSet::new();
    loop {
        let portion = store.reap(4).await.unwrap();
        if portion.is_empty() {
            break;
        }
        for closed in portion {
            assert!(reaped.insert(closed.session.id), "each once");
        }
    }
    assert_eq!(reaped, all);
}

#[tokio::test]
async fn a_frozen_primary_takes_only_its_own_sessions_with_it() {
    let mut cluster = RedisCluster::start();
    let config = Config { timeout: Duration::from_millis(500), ..redis_config(cluster.url()) };
    let store = RedisSessionStore::connect(&config, bounds()).await.unwrap();
    let (one, _) = one_on_each(&cluster, &store).await;
    let lease = Lease { node: node("a"), lifetime: Duration::from_secs(60), facts: "{}".to_owned() };
    store.beat(&lease).await.unwrap();
    // Every primary in turn: one has the index, one the leases.
    for frozen in 0..3 {
        let stream = get_stream(&one[frozen]);
        let before = logged(&store, &message(&stream, "before")).await;
        let append = message(&stream, "meanwhile");
        cluster.freeze(frozen);
        let since = Instant::now();
        let mut said = store.append(&append).await;
        while said != Err(StoreError::Unavailable) {
            assert_eq!(said, Err(StoreError::Unknown), "never that it is done, or gone");
            assert!(since.elapsed() < Duration::from_secs(10), "it is noticed");
            others_go_on(&store, &one, frozen).await;
            said = store.append(&append).await;
        }
        // Once it is noticed, nobody waits.
        let asked = Instant::now();
        assert_eq!(store.load(&one[frozen]).await, Err(StoreError::Unavailable));
        assert!(asked.elapsed() < Duration::from_millis(250), "{:?}", asked.elapsed());
        others_are_touched(&cluster, &store, &one, frozen).await;
        for _ in 0..20 {
            others_go_on(&store, &one, frozen).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if frozen != cluster.of("{index}") {
            opens_elsewhere(&cluster, &store, frozen).await;
        }
        cluster.thaw(frozen);
        let (_, previous) = appended(&store, &append).await;
        assert_eq!(previous, before, "it stands in the log once");
        let (_, tail) = bound(&store, &attach(&stream, "a", Some(before))).await;
        assert_eq!(texts(&tail), ["meanwhile"]);
    }
    assert!(!store.beat(&lease).await.unwrap().lapsed);
}

async fn others_go_on(store: &RedisSessionStore, one: &[SessionId; 3], frozen: usize) {
    for (index, id) in one.iter().enumerate() {
        if index != frozen {
            let asked = Instant::now();
            logged(store, &message(&get_stream(id), "x")).await;
            assert!(asked.elapsed() < Duration::from_millis(450), "{:?}", asked.elapsed());
        }
    }
}

/// A batch in which one can't be prolonged.
async fn others_are_touched(
    cluster: &RedisCluster,
    store: &RedisSessionStore,
    one: &[SessionId; 3],
    frozen: usize,
) {
    let touched = |other: usize| {
        let said = cluster.ask(other, &["hget", &format!("hf:{{{}}}", one[other]), "touched"]);
        said.trim().parse::<u64>().unwrap()
    };
    let others = [(frozen + 1) % 3, (frozen + 2) % 3];
    let before = others.map(touched);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let batch = [one[frozen].clone(), one[others[0]].clone(), one[others[1]].clone()];
    assert_eq!(store.touch(&batch).await, Err(StoreError::Unavailable));
    let after = others.map(touched);
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
}

async fn opens_elsewhere(cluster: &RedisCluster, store: &RedisSessionStore, frozen: usize) {
    let id = std::iter::repeat_with(SessionId::mint).find(|id| cluster.has(id) != frozen).unwrap();
    let owner = Principal::anonymous();
    let opened = store.open(&id, &server(), &owner, Transport::Streamable).await;
    assert_eq!(opened, Ok(Opened::Owned(owner)));
}

#[tokio::test]
async fn a_dead_primary_takes_only_its_own_sessions_with_it() {
    let mut cluster = RedisCluster::start();
    let store = cluster.fresh(bounds()).await;
    let (one, _) = one_on_each(&cluster, &store).await;
    let dead = (0..3).find(|&index| index != cluster.of("{index}")).unwrap();
    cluster.kill(dead);
    let since = Instant::now();
    while store.load(&one[dead]).await != Err(StoreError::Unavailable) {
        assert!(since.elapsed() < Duration::from_secs(5), "it is noticed");
    }
    for _ in 0..40 {
        others_go_on(&store, &one, dead).await;
        assert_eq!(store.load(&one[dead]).await, Err(StoreError::Unavailable));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A node that starts now serves the others' sessions.
    let late = RedisSessionStore::connect(&redis_config(cluster.url()), bounds()).await.unwrap();
    opens_elsewhere(&cluster, &late, dead).await;
    assert!(late.load(&one[dead]).await.is_err());
    cluster.restart(dead);
    let back = Instant::now();
    while store.load(&one[dead]).await.is_err() || late.load(&one[dead]).await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(10), "it is found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.load(&one[dead]).await, Ok(None), "without its data the session is gone");
}

#[tokio::test]
async fn the_replica_of_a_dead_primary_takes_over() {
    let mut cluster = RedisCluster::with_replicas(1);
    let store = RedisSessionStore::connect(&redis_config(cluster.url()), bounds()).await.unwrap();
    let (one, _) = one_on_each(&cluster, &store).await;
    let stream = get_stream(&one[1]);
    let first = logged(&store, &message(&stream, "first")).await;
    logged(&store, &message(&stream, "second")).await;
    let lease = Lease { node: node("a"), lifetime: Duration::from_secs(60), facts: "{}".to_owned() };
    assert!(!store.beat(&lease).await.unwrap().shaken);
    cluster.in_step(1);
    cluster.kill(1);
    let killed = Instant::now();
    loop {
        others_go_on(&store, &one, 1).await;
        match store.load(&one[1]).await {
            Ok(session) => break assert!(session.is_some(), "it is never taken for gone"),
            Err(error) => assert!(killed.elapsed() < Duration::from_secs(20), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("found after {:?}", killed.elapsed());
    let (_, tail) = bound(&store, &attach(&stream, "a", Some(first))).await;
    assert_eq!(texts(&tail), ["second"]);
    assert!(store.beat(&lease).await.unwrap().shaken, "what was bound at last may be forgotten");
    assert!(!store.beat(&lease).await.unwrap().shaken, "it is said once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_under_use_takes_its_sessions_along() {
    let cluster = Arc::new(RedisCluster::start());
    let roomy = Bounds { log: LogBounds { events_max: 100_000, ..bounds().log }, ..bounds() };
    let config = redis_config(cluster.url());
    let store = Arc::new(RedisSessionStore::connect(&config, roomy).await.unwrap());
    let idle = RedisSessionStore::connect(&config, roomy).await.unwrap();
    let id = opened(&*store).await;
    let stream = get_stream(&id);
    let first = logged(&*store, &message(&stream, "first")).await;
    store.hint(&server(), "before").await.unwrap();
    let key = format!("hf:{{{id}}}");
    let home = cluster.has(&id);
    let (moved, end) = tokio::sync::oneshot::channel();
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    let user = tokio::spawn(use_until(store.clone(), stream.clone(), first, end));
    for _ in 0..3 {
        let (cluster, key) = (cluster.clone(), key.clone());
        let moving = tokio::task::spawn_blocking(move || {
            cluster.move_slot_of(&key, || std::thread::sleep(Duration::from_millis(300)));
        });
        moving.await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(cluster.has(&id), home, "it went round");
    let (there, key) = (cluster.clone(), key.clone());
    tokio::task::spawn_blocking(move || there.move_slot_of(&key, || ())).await.unwrap();
    moved.send(()).unwrap();
    let count = user.await.unwrap();
    assert!(count > 20, "it was used: {count}");
    assert_ne!(cluster.has(&id), home);
    // One that was told nothing of it.
    let (_, tail) = bound(&idle, &attach(&stream, "a", Some(first))).await;
    let expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    assert_eq!(texts(&tail), expected, "nothing is lost, doubled or out of order");
}

/// Appends one after the other; answers how many.
async fn use_until(
    store: Arc<RedisSessionStore>,
    stream: StreamKey,
    first: EventNumber,
    mut end: tokio::sync::oneshot::Receiver<()>,
) -> u64 {
    let (mut count, mut last) = (0, first);
    while end.try_recv().is_err() {
        let (number, previous) = appended(&store, &message(&stream, &count.to_string())).await;
        assert_eq!(previous, last);
        assert!(number > last);
        (count, last) = (count + 1, number);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_slot_moves_its_keys_are_asked_for_where_they_are() {
    let cluster = Arc::new(RedisCluster::start());
    let store = Arc::new(RedisSessionStore::connect(&redis_config(cluster.url()), bounds()).await.unwrap());
    store.hint(&server(), "before").await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    let (there, asking) = (cluster.clone(), store.clone());
    // The only key of its slot: while it is on its way the old owner says ASK.
    let moving = tokio::task::spawn_blocking(move || {
        there.move_slot_of("hf:hints:{files}", || {
            runtime.block_on(async {
                assert_eq!(asking.hints(&server()).await.unwrap().len(), 1);
                asking.hint(&server(), "meanwhile").await.unwrap();
                assert_eq!(asking.hints(&server()).await.unwrap().len(), 2);
            });
        });
    });
    moving.await.unwrap();
    store.hint(&server(), "after").await.unwrap();
    assert_eq!(store.hints(&server()).await.unwrap().len(), 3);
}
