//! How a node reaches a Redis behind TLS or with a login, and what it says when it is not let in, or
//! when it is the wrong kind of server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holdfast::adapters::redis::{Config, ConnectError, RedisSessionStore};
use holdfast::ports::{Bounds, SessionStore};
use tokio::time::Instant;

use super::{Harness, bounds, get_stream, instantiate, logged, message, opened};
use crate::servers::{Folder, Redis, RedisCluster, Sentinels, Tls, redis_config};

/// A Redis that speaks TLS alone, and whom to believe.
struct Secure {
    redis: Redis,
    tls: Tls,
}

impl Secure {
    fn start() -> Self {
        let tls = Tls::new();
        Self { redis: Redis::secure(&tls), tls }
    }

    fn config(&self) -> Config {
        Config { ca_file: Some(self.tls.root.clone()), ..self.redis.config() }
    }
}

impl Harness for Secure {
    async fn store(&self, bounds: Bounds) -> Arc<dyn SessionStore> {
        Arc::new(RedisSessionStore::connect(&self.config(), bounds).await.unwrap())
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

// What it says does not depend on how it is carried: some of each kind, and what is large or many.
instantiate! { #[tokio::test] Secure::start();
    sessions: one_owner_for_good, attributes_are_kept_as_they_came, pages_are_ordered_and_whole;
    ends: nothing_of_a_closed_session_is_left;
    log: numbers_rise_and_name_their_predecessor, a_stream_keeps_so_many_bytes;
    attach: a_client_that_comes_back_gets_the_rest, a_newer_binding_supersedes;
    running: the_last_answer_ends_the_stream;
    operate: nodes_are_alive_while_they_beat, hints_are_kept_with_their_time;
    serial: appends_and_attaches_are_serial, of_many_begins_one_is_recorded;
}

async fn works(config: &Config) {
    let store = RedisSessionStore::connect(config, bounds()).await.unwrap();
    let id = opened(&store).await;
    logged(&store, &message(&get_stream(&id), "1")).await;
}

async fn error(config: &Config) -> ConnectError {
    let connecting = RedisSessionStore::connect(config, bounds());
    let connected = tokio::time::timeout(Duration::from_secs(10), connecting).await;
    let error = connected.expect("an answer in time").unwrap_err();
    println!("{error}");
    error
}

/// Waiting will not help.
async fn untrusted(config: &Config) {
    let error = error(config).await;
    assert!(matches!(error, ConnectError::Tls(_)) && !error.may_pass(), "{error:?}");
}

#[tokio::test]
async fn over_tls_to_whom_a_file_trusts() {
    let secure = Secure::start();
    works(&secure.config()).await;
    untrusted(&secure.redis.config()).await;
    untrusted(&Config { ca_file: Some(Tls::new().root), ..secure.config() }).await;
    let folder = Folder::new();
    for text in ["nothing", "-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n"] {
        untrusted(&Config { ca_file: Some(folder.write("root.pem", text)), ..secure.config() }).await;
    }
    let absent = Config { ca_file: Some(folder.path().join("absent")), ..secure.config() };
    assert!(matches!(error(&absent).await, ConnectError::File(..)));
    // The certificate is for 127.0.0.1 alone.
    let url = secure.redis.url().replace("127.0.0.1", "localhost");
    untrusted(&Config { url, ..secure.config() }).await;
}

#[tokio::test]
async fn all_servers_of_a_cluster_are_reached_over_tls() {
    let cluster = RedisCluster::secure();
    let config = Config { ca_file: cluster.root(), ..redis_config(cluster.url()) };
    let store = RedisSessionStore::connect(&config, bounds()).await.unwrap();
    let mut seen = BTreeSet::new();
    while seen.len() < 3 {
        let id = opened(&store).await;
        logged(&store, &message(&get_stream(&id), "1")).await;
        seen.insert(cluster.of(&format!("{{{id}}}")));
    }
    untrusted(&redis_config(cluster.url())).await;
}

#[tokio::test]
async fn sentinels_and_both_primaries_are_reached_over_tls() {
    let mut group = Sentinels::secure();
    let config = Config { ca_file: group.root(), ..redis_config(group.url()) };
    let store = RedisSessionStore::connect(&config, bounds()).await.unwrap();
    let id = opened(&store).await;
    group.in_step();
    untrusted(&redis_config(group.url())).await;
    group.kill_primary();
    let since = Instant::now();
    loop {
        match store.load(&id).await {
            Ok(session) => break assert!(session.is_some()),
            Err(error) => assert!(since.elapsed() < Duration::from_secs(20), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_taken_for_one_with_it() {
    let (plain, tls) = (Redis::start(), Tls::new());
    let url = plain.url().replace("redis://", "rediss://");
    // Such a server says nothing, as one that hangs: waiting may help.
    let said = error(&Config { url, ca_file: Some(tls.root.clone()), ..plain.config() }).await;
    assert!(said.to_string().contains("without TLS"), "{said}");
    let secure = Secure::start();
    let url = secure.redis.url().replace("rediss://", "redis://");
    let said = error(&Config { url, ..secure.config() }).await;
    assert!(said.to_string().contains("begins with rediss"), "{said}");
}

#[tokio::test]
async fn a_server_of_another_kind_is_named() {
    let (single, cluster, sentinels) = (Redis::start(), RedisCluster::start(), Sentinels::start());
    let names = |error: &ConnectError, scheme: &str| {
        assert!(matches!(error, ConnectError::Kind(_, named) if *named == scheme), "{error:?}");
        assert!(!error.may_pass());
    };
    let at = |scheme: &str, port: u16, more: &str| Config {
        url: format!("{scheme}://127.0.0.1:{port}{more}"),
        ..single.config()
    };
    names(&error(&at("redis", cluster.port(0), "")).await, "redis-cluster");
    names(&error(&at("redis", sentinels.port(), "")).await, "redis-sentinel");
    names(&error(&at("redis-cluster", single.port(), "")).await, "redis");
    names(&error(&at("redis-cluster", sentinels.port(), "")).await, "redis-sentinel");
    names(&error(&at("redis-sentinel", single.port(), "?sentinelServiceName=hold")).await, "redis");
    names(&error(&at("redis-sentinel", cluster.port(0), "?sentinelServiceName=hold")).await, "redis-cluster");
    let unknown = error(&at("redis-sentinel", sentinels.port(), "?sentinelServiceName=another")).await;
    assert!(unknown.to_string().contains("another"), "{unknown}");
    let unnamed = error(&at("redis-sentinel", sentinels.port(), "")).await;
    assert!(matches!(unnamed, ConnectError::Url(_)), "{unnamed:?}");
}
