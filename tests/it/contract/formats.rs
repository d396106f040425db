//! What another version keeps in the same Redis: its format is refused and nothing else is, what it adds
//! within this one is passed over and kept, and what it means by strange values is not guessed.

use std::time::Duration;

use holdfast::domain::{ClientFacts, SessionId, SessionPart};
use holdfast::ports::{
    Append, Attached, Bounds, CloseIf, Lease, Query, SessionStore, Steal, Stolen, StoreError, Updated,
};

use super::{attach, begin, begun, bound, bounds, get_stream, logged, message, node, opened, request, texts};
use crate::servers::Redis;

fn set(redis: &Redis, key: &str, field: &str, value: &str) {
    redis.ask(&["hset", key, field, value]);
}

fn got(redis: &Redis, key: &str, field: &str) -> String {
    redis.ask(&["hget", key, field]).trim().to_owned()
}

fn key(id: &SessionId) -> String {
    format!("hf:{{{id}}}")
}

#[tokio::test]
async fn p2_a_session_of_another_format_is_refused_and_no_other_one() {
    let redis = Redis::start();
    let brief = Duration::from_millis(1500);
    let store = redis.store(Bounds { session_idle_timeout: brief, ..bounds() }).await;
    let (newer, own) = (opened(&store).await, opened(&store).await);
    let stream = get_stream(&newer);
    let before = logged(&store, &message(&stream, "before")).await;
    set(&redis, &key(&newer), "format", "2");
    let refused = Err(StoreError::Unavailable);
    assert_eq!(store.load(&newer).await.map(|_| ()), refused, "never gone");
    assert_eq!(store.append(&message(&stream, "x")).await.map(|_| ()), refused);
    assert_eq!(store.attach(&attach(&stream, "a", Some(before))).await.map(|_| ()), refused);
    assert_eq!(store.begin(&begin(&newer, &[request(1)])).await.map(|_| ()), refused);
    assert_eq!(store.close(&newer, &CloseIf::Always).await.map(|_| ()), refused);
    assert_eq!(store.inspect(&newer).await.map(|_| ()), refused);
    let level = SessionPart::LogLevel("info".into());
    assert_eq!(store.update(&newer, level).await.map(|_| ()), refused);
    assert_eq!(
        store.find(&Query { limit: 9, ..Query::default() }).await.map(|_| ()),
        refused,
        "nor left out"
    );
    // Those of this format are prolonged, used and ended all the same.
    assert_eq!(store.touch(&[newer.clone(), own.clone()]).await.map(|_| ()), refused);
    logged(&store, &message(&get_stream(&own), "x")).await;
    tokio::time::sleep(brief).await;
    let mut reaped = Vec::new();
    // However many there are of the other: each is looked at again an idle life later.
    while reaped.is_empty() {
        reaped = store.reap(1).await.unwrap();
    }
    assert_eq!(reaped.iter().map(|closed| &closed.session.id).collect::<Vec<_>>(), [&own]);
    // Nothing of it was changed.
    set(&redis, &key(&newer), "format", "1");
    let store = redis.store(bounds()).await;
    let (_, tail) = bound(&store, &attach(&stream, "a", None)).await;
    assert_eq!(texts(&tail), ["before"]);
}

#[tokio::test]
async fn what_another_version_adds_within_the_format_is_passed_over_and_kept() {
    let redis = Redis::start();
    let store = redis.store(bounds()).await;
    let id = opened(&store).await;
    let facts = ClientFacts {
        protocol_version: "2025-11-25".into(),
        initialize: "{}".into(),
        capabilities: vec!["roots".into()],
        server_capabilities: "{}".into(),
    };
    store.update(&id, SessionPart::Client(facts.clone())).await.unwrap();
    let session = key(&id);
    let more = |stored: &str| stored.replacen('{', r#"{"later":[1],"#, 1);
    set(&redis, &session, "client", &more(&got(&redis, &session, "client")));
    set(&redis, &session, "later", "x");
    let begin = begin(&id, &[request(1)]);
    let (fence, top) = begun(&store, &begin).await;
    let (records, book) = (format!("{session}:r"), format!("{session}:{}:b", begin.stream.stream));
    set(&redis, &records, "1", &more(&got(&redis, &records, "1")));
    set(&redis, &book, "later", "x");
    // Steps that read, and steps that write what they read.
    assert_eq!(store.load(&id).await.unwrap().unwrap().client, Some(facts));
    let level = store.update(&id, SessionPart::LogLevel("info".into())).await.unwrap();
    assert!(matches!(level, Updated::Now(_)));
    let step = Append {
        request: Some((request(1), fence)),
        upstream_event: Some("u-1".into()),
        ..message(&begin.stream, "step")
    };
    logged(&store, &step).await;
    let steal = Steal { stream: begin.stream.clone(), request: request(1), from: fence, by: node("b") };
    assert!(matches!(store.steal(&steal).await.unwrap(), Stolen::Taken(_)));
    let attached = store.attach(&attach(&begin.stream, "b", Some(top))).await.unwrap();
    let Attached::Bound { tail, running, .. } = attached else { panic!("{attached:?}") };
    assert_eq!((texts(&tail), running.len()), (vec!["step".to_owned()], 1));
    assert!(got(&redis, &records, "1").contains("later"), "a record is kept as a whole");
    assert_eq!((got(&redis, &session, "later"), got(&redis, &book, "later")), ("x".into(), "x".into()));
    let facts = r#"{"version":"9","later":true}"#.to_owned();
    let lease = Lease { node: node("newer"), lifetime: Duration::from_secs(9), facts: facts.clone() };
    store.beat(&lease).await.unwrap();
    assert_eq!(store.nodes().await.unwrap()[0].facts, facts);
}

#[tokio::test]
async fn p2_values_that_no_version_of_this_format_writes_are_not_guessed() {
    let redis = Redis::start();
    let store = redis.store(bounds()).await;
    for (field, strange) in [("owner", "somebody"), ("owner", ""), ("transport", "w"), ("client", "[]")] {
        let id = opened(&store).await;
        assert!(store.load(&id).await.unwrap().is_some());
        set(&redis, &key(&id), field, strange);
        assert_eq!(store.load(&id).await, Err(StoreError::Unknown), "{field} {strange:?}");
    }
}
