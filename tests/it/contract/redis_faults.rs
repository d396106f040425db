//! What the Redis adapter says and does when its server misbehaves.

use std::time::Duration;

use holdfast::adapters::redis::{Config, ConnectError, RedisSessionStore};
use holdfast::domain::{Principal, SessionId, Transport};
use holdfast::ports::{Appended, Attached, Opened, SessionStore as _, StoreError};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{attach, bound, bounds, get_stream, logged, message, opened, server};
use crate::servers::Redis;

#[tokio::test]
async fn scripts_that_the_server_forgot_are_told_again() {
    let redis = Redis::start();
    let store = redis.store(bounds()).await;
    let id = opened(&store).await;
    redis.command(&["SCRIPT", "FLUSH"]);
    logged(&store, &message(&get_stream(&id), "1")).await;
}

#[tokio::test]
async fn after_a_restart_without_data_nothing_is_taken_for_what_it_was() {
    let mut redis = Redis::start();
    let store = redis.store(bounds()).await;
    let id = opened(&store).await;
    let stream = get_stream(&id);
    let (fence, _) = bound(&store, &attach(&stream, "a", None)).await;
    let number = logged(&store, &message(&stream, "1")).await;
    redis.restart();
    let back = Instant::now();
    while store.load(&id).await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(5), "it is found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.load(&id).await, Ok(None), "the session is gone");
    assert_eq!(store.append(&message(&stream, "2")).await, Ok(Appended::Gone));
    // Should the id come back, no number and no fence is given out twice.
    let owner = Principal::anonymous();
    let opened = store.open(&id, &server(), &owner, Transport::Streamable).await.unwrap();
    assert_eq!(opened, Opened::Owned(owner));
    let lost = store.attach(&attach(&stream, "a", Some(number))).await.unwrap();
    assert!(matches!(lost, Attached::Lost { .. }), "{lost:?}");
    let (newer, _) = bound(&store, &attach(&stream, "a", None)).await;
    assert!(newer > fence);
    assert!(logged(&store, &message(&stream, "2")).await > number);
}

#[tokio::test]
async fn a_dead_server_is_unavailable_at_once_and_found_again() {
    let mut redis = Redis::start();
    let store = redis.store(bounds()).await;
    let id = opened(&store).await;
    redis.kill();
    let noticed = Instant::now();
    while store.load(&id).await != Err(StoreError::Unavailable) {
        assert!(noticed.elapsed() < Duration::from_secs(2));
    }
    let asked = Instant::now();
    assert_eq!(store.append(&message(&get_stream(&id), "1")).await, Err(StoreError::Unavailable));
    assert!(asked.elapsed() < Duration::from_millis(100), "{:?}", asked.elapsed());
    redis.restart();
    let back = Instant::now();
    while store.load(&id).await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(3), "it is found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_frozen_server_leaves_it_open_whether_it_was_done_and_late_is_harmless() {
    let redis = Redis::start();
    let config = Config { timeout: Duration::from_millis(400), ..redis.config() };
    let store = RedisSessionStore::connect(&config, bounds()).await.unwrap();
    let stream = get_stream(&opened(&store).await);
    let first = logged(&store, &message(&stream, "1")).await;
    let append = message(&stream, "2");
    redis.freeze();
    let asked = Instant::now();
    assert_eq!(store.append(&append).await, Err(StoreError::Unknown));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    redis.thaw();
    let back = Instant::now();
    let again = loop {
        match store.append(&append).await {
            Ok(Appended::Logged { previous, .. }) => break previous,
            Ok(other) => panic!("{other:?}"),
            Err(_) => assert!(back.elapsed() < Duration::from_secs(5)),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(again, first, "it stands in the log once");
    let (_, tail) = bound(&store, &attach(&stream, "a", Some(first))).await;
    assert_eq!(tail.events.len(), 1);
}

/// The client itself takes each word that it sends for a sign of life.
#[tokio::test]
async fn a_server_that_falls_silent_under_load_is_noticed() {
    let redis = Redis::start();
    let config = Config { timeout: Duration::from_millis(400), ..redis.config() };
    let store = RedisSessionStore::connect(&config, bounds()).await.unwrap();
    let id = opened(&store).await;
    redis.freeze();
    let since = Instant::now();
    let mut noticed = false;
    while !noticed {
        let steps = (0..8).map(|part| {
            let (store, id) = (&store, &id);
            async move {
                tokio::time::sleep(Duration::from_millis(50 * part)).await;
                store.load(id).await
            }
        });
        let said = futures::future::join_all(steps).await;
        assert!(said.iter().all(Result::is_err));
        noticed = said.iter().all(|said| *said == Err(StoreError::Unavailable));
        assert!(since.elapsed() < Duration::from_secs(5), "nobody waits for it for ever");
    }
    redis.thaw();
    let back = Instant::now();
    while store.load(&id).await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(5), "it is found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.load(&id).await.unwrap().is_some());
}

/// A way to a server that can be made to lead nowhere for all connections that there are, as when a
/// router forgets them or a machine loses its power: nothing arrives, and nobody says so.
struct Way {
    port: u16,
    age: watch::Sender<u64>,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Self { port: listener.local_addr().unwrap().port(), age: watch::channel(0).0 };
        let age = way.age.subscribe();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let mut age = age.clone();
                age.mark_unchanged();
                #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = age.changed() => std::future::pending().await,
                    }
                });
            }
        });
        way
    }

    fn forget(&self) {
        self.age.send_modify(|age| *age += 1);
    }
}

#[tokio::test]
async fn a_connection_that_leads_nowhere_is_replaced_under_load() {
    let redis = Redis::start();
    let way = Way::to(redis.port()).await;
    let url = format!("redis://127.0.0.1:{}", way.port);
    let config = Config { url, timeout: Duration::from_millis(500), ..redis.config() };
    let store = RedisSessionStore::connect(&config, bounds()).await.unwrap();
    let stream = get_stream(&opened(&store).await);
    // More than what sockets take.
    let text = "x".repeat(1 << 19);
    let load = || {
        futures::future::join_all((0..24).map(|_| async {
            let append = message(&stream, &text);
            store.append(&append).await
        }))
    };
    assert!(load().await.iter().all(Result::is_ok));
    for _ in 0..2 {
        way.forget();
        let since = Instant::now();
        assert!(load().await.contains(&Err(StoreError::Unknown)), "it was sent to nowhere");
        while !load().await.iter().all(Result::is_ok) {
            assert!(since.elapsed() < Duration::from_secs(8), "another connection works");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_full_server_refuses_and_nothing_is_half_done() {
    let redis = Redis::start();
    let store = redis.store(bounds()).await;
    let stream = get_stream(&opened(&store).await);
    let first = logged(&store, &message(&stream, "1")).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(store.append(&message(&stream, "2")).await, Err(StoreError::Unavailable));
    let open =
        store.open(&SessionId::mint(), &server(), &Principal::anonymous(), Transport::Streamable).await;
    assert_eq!(open, Err(StoreError::Unavailable));
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let (_, tail) = bound(&store, &attach(&stream, "a", Some(first))).await;
    assert!(tail.events.is_empty());
    logged(&store, &message(&stream, "2")).await;
}

#[tokio::test]
async fn a_server_that_will_not_do_is_named_clearly() {
    let mut redis = Redis::with(&["--requirepass", "s3cret"]);
    let refused = RedisSessionStore::connect(&redis.config(), bounds()).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Login(_)), "{refused}");
    let url = redis.url().replace("redis://", "redis://:s3cret@");
    RedisSessionStore::connect(&Config { url, ..redis.config() }, bounds()).await.unwrap();
    redis.kill();
    let away = RedisSessionStore::connect(&redis.config(), bounds()).await.unwrap_err();
    assert!(matches!(away, ConnectError::Unreachable(_)) && away.may_pass(), "{away}");
    let evicting = Redis::with(&["--maxmemory-policy", "allkeys-lru"]);
    let refused = RedisSessionStore::connect(&evicting.config(), bounds()).await.unwrap_err();
    assert!(refused.to_string().contains("noeviction"), "{refused}");
}
