//! A prototype of the Redis adapter, written before the ports were fixed: each step is one script on
//! the keys of one hash tag. It has what is hardest (existence and ownership, records, the log,
//! bindings); idle lives, bytes, stealing and queries are the adapter's own issue.

mod server;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::prelude::{Client, ClientLike as _, Config, HashesInterface as _, LuaInterface as _};
use holdfast::domain::{
    Binding, ClientFacts, Event, Fence, NodeId, Principal, RequestId, ServerName, Session, SessionId,
    SessionPart, StreamId, StreamKey, StreamKind, Transport, UpstreamHandle,
};
use holdfast::ports::{
    Append, Appended, Attach, Attached, Begin, Begun, Bounds, CloseIf, Closed, Durability, Opened, Page,
    PortFuture, Query, SessionStore, Steal, Stolen, StoreError, Tail, Updated,
};

use super::{Harness, core_contract};
use server::{Server, script};

struct Redis;

/// Owns its server, so that nothing outlives a test.
struct RedisPrototype {
    client: Client,
    bounds: Bounds,
    _server: Server,
}

impl std::fmt::Debug for RedisPrototype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisPrototype")
    }
}

impl Harness for Redis {
    async fn store(&self, bounds: Bounds) -> Arc<dyn SessionStore> {
        let server = Server::start();
        let config = Config::from_url(&format!("redis://127.0.0.1:{}", server.port)).unwrap();
        let client = Client::new(config, None, None, None);
        client.init().await.unwrap();
        Arc::new(RedisPrototype { client, bounds, _server: server })
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

core_contract! { #[tokio::test] Redis }

impl RedisPrototype {
    async fn run(&self, name: &'static str, key: &StreamKey, arguments: Vec<String>) -> Vec<String> {
        let session = session_key(&key.session);
        let keys =
            vec![session.clone(), format!("{session}:{}", key.stream), format!("{session}:{}:b", key.stream)];
        self.client.eval(script(name), keys, arguments).await.unwrap()
    }
}

fn session_key(id: &SessionId) -> String {
    format!("hf:{{{id}}}")
}

fn on(id: &SessionId) -> StreamKey {
    StreamKey { session: id.clone(), stream: StreamId::get() }
}

fn flag(set: bool) -> String {
    String::from(if set { "1" } else { "0" })
}

fn is_post(key: &StreamKey) -> String {
    flag(key.stream.kind() == StreamKind::Post)
}

fn fence(text: &str) -> Fence {
    Fence(text.parse().unwrap())
}

fn binding(node: &str, held: &str) -> Option<Binding> {
    (!node.is_empty()).then(|| Binding { node: NodeId::parse(node).unwrap(), fence: fence(held) })
}

fn facts(stored: &str) -> ClientFacts {
    let mut parts = stored.split('\n');
    let mut next = || parts.next().unwrap().to_owned();
    ClientFacts {
        protocol_version: next(),
        initialize: next(),
        server_capabilities: next(),
        capabilities: next().split(',').map(str::to_owned).collect(),
    }
}

fn session(id: &SessionId, fields: &std::collections::HashMap<String, String>) -> Session {
    let owner = &fields["owner"];
    Session {
        id: id.clone(),
        server: ServerName::parse(&fields["server"]).unwrap(),
        owner: owner.strip_prefix('=').map_or_else(Principal::anonymous, Principal::named),
        transport: if fields["transport"] == "s" { Transport::HttpSse } else { Transport::Streamable },
        client: fields.get("client").map(|stored| facts(stored)),
        upstream: fields.get("upstream").map(|stored| {
            let (session, version) = stored.split_once('\n').unwrap();
            UpstreamHandle {
                generation: fields["generation"].parse().unwrap(),
                session: Some(session.to_owned()),
                protocol_version: version.to_owned(),
            }
        }),
        log_level: None,
        subscriptions: Vec::new(),
    }
}

impl SessionStore for RedisPrototype {
    fn durability(&self) -> Durability {
        Durability::Shared
    }

    fn open<'a>(
        &'a self,
        id: &'a SessionId,
        server: &'a ServerName,
        owner: &'a Principal,
        transport: Transport,
    ) -> PortFuture<'a, Result<Opened, StoreError>> {
        Box::pin(async move {
            let transport = if transport == Transport::HttpSse { "s" } else { "g" };
            let arguments = [server.as_str(), owner.as_str(), transport].map(str::to_owned).to_vec();
            let owner = self.run("open", &on(id), arguments).await.remove(0);
            Ok(Opened::Owned(owner.strip_prefix('=').map_or_else(Principal::anonymous, Principal::named)))
        })
    }

    fn load<'a>(&'a self, id: &'a SessionId) -> PortFuture<'a, Result<Option<Session>, StoreError>> {
        Box::pin(async move {
            let fields: std::collections::HashMap<String, String> =
                self.client.hgetall(session_key(id)).await.unwrap();
            Ok((!fields.is_empty()).then(|| session(id, &fields)))
        })
    }

    fn update<'a>(
        &'a self,
        id: &'a SessionId,
        part: SessionPart,
    ) -> PortFuture<'a, Result<Updated, StoreError>> {
        Box::pin(async move {
            let arguments = match part {
                SessionPart::Client(facts) => {
                    let capabilities = facts.capabilities.join(",");
                    let stored =
                        [facts.protocol_version, facts.initialize, facts.server_capabilities, capabilities];
                    vec!["client".to_owned(), stored.join("\n")]
                }
                SessionPart::Upstream(handle) => {
                    let stored =
                        format!("{}\n{}", handle.session.unwrap_or_default(), handle.protocol_version);
                    vec!["upstream".to_owned(), handle.generation.to_string(), stored]
                }
                SessionPart::LogLevel(level) => vec!["level".to_owned(), level],
                SessionPart::Subscribed(_) | SessionPart::Unsubscribed(_) => panic!("not in the prototype"),
            };
            if self.run("update", &on(id), arguments).await[0] == "gone" {
                return Ok(Updated::Gone);
            }
            Ok(self.load(id).await?.map_or(Updated::Gone, |session| Updated::Now(Box::new(session))))
        })
    }

    fn begin<'a>(&'a self, begin: &'a Begin) -> PortFuture<'a, Result<Begun, StoreError>> {
        Box::pin(async move {
            let mut arguments =
                vec![begin.runner.to_string(), begin.lifetime.as_millis().to_string(), flag(begin.bind)];
            arguments.extend(begin.requests.iter().map(|request| request.as_json().to_owned()));
            let answer = self.run("begin", &begin.stream, arguments).await;
            Ok(match &*answer[0] {
                "gone" => Begun::Gone,
                "duplicate" => Begun::Duplicate(RequestId::from_json(&answer[1])),
                _ => Begun::Recorded {
                    fence: fence(&answer[1]),
                    binding: binding(&answer[2], &answer[3]),
                    top: answer[4].parse().unwrap(),
                },
            })
        })
    }

    fn append<'a>(&'a self, append: &'a Append) -> PortFuture<'a, Result<Appended, StoreError>> {
        Box::pin(async move {
            let (request, held) =
                append.request.as_ref().map_or((String::new(), String::new()), |(request, fence)| {
                    (request.as_json().to_owned(), fence.to_string())
                });
            let arguments = vec![
                String::from_utf8(append.payload.to_vec()).unwrap(),
                append.producer.id.to_string(),
                append.producer.sequence.to_string(),
                request,
                held,
                flag(append.last),
                append.upstream_event.clone().unwrap_or_default(),
                is_post(&append.to),
                self.bounds.log.events_max.to_string(),
            ];
            let answer = self.run("append", &append.to, arguments).await;
            Ok(match &*answer[0] {
                "gone" => Appended::Gone,
                "stale" => Appended::StaleFence,
                "ended" => Appended::Ended,
                _ => Appended::Logged {
                    number: answer[1].parse().unwrap(),
                    previous: answer[2].parse().unwrap(),
                    binding: binding(&answer[3], &answer[4]),
                    ended: answer[5] == "1",
                },
            })
        })
    }

    fn attach<'a>(&'a self, attach: &'a Attach) -> PortFuture<'a, Result<Attached, StoreError>> {
        Box::pin(async move {
            let or_empty = |text: Option<String>| text.unwrap_or_default();
            let arguments = vec![
                attach.node.to_string(),
                or_empty(attach.position.map(|position| position.to_string())),
                or_empty(attach.reassert.map(|fence| fence.to_string())),
                or_empty(attach.not_after_ms.map(|ms| ms.to_string())),
                is_post(&attach.stream),
            ];
            let answer = self.run("attach", &attach.stream, arguments).await;
            Ok(match &*answer[0] {
                "gone" => Attached::Gone,
                "late" => Attached::TooLate,
                "unknown" => Attached::Unknown,
                "ended" => Attached::Ended,
                "lost" => Attached::Lost { top: answer[1].parse().unwrap() },
                "superseded" => Attached::Superseded(fence(&answer[1])),
                _ => {
                    let after = answer[2].parse().unwrap();
                    let mut previous = after;
                    let events = answer[6..].chunks_exact(2).map(|entry| {
                        let number = entry[0].parse().unwrap();
                        let payload = Bytes::from(entry[1].clone());
                        Event { number, previous: std::mem::replace(&mut previous, number), payload }
                    });
                    let events = events.collect();
                    Attached::Bound {
                        fence: fence(&answer[1]),
                        tail: Tail { after, events, ended: answer[5] == "1" },
                        running: Vec::new(),
                        previous: binding(&answer[3], &answer[4]),
                    }
                }
            })
        })
    }

    fn release<'a>(&'a self, stream: &'a StreamKey, fence: Fence) -> PortFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.run("release", stream, vec![fence.to_string()]).await;
            Ok(())
        })
    }

    fn close<'a>(
        &'a self,
        id: &'a SessionId,
        _: &'a CloseIf,
    ) -> PortFuture<'a, Result<Option<Closed>, StoreError>> {
        Box::pin(async move {
            let session = self.load(id).await?;
            let answer = self.run("close", &on(id), Vec::new()).await;
            let bound = |entry: &[String]| {
                let binding = binding(&entry[1], &entry[2]).unwrap();
                (StreamId::parse(&entry[0]).unwrap(), binding)
            };
            let closed =
                |session| Closed { session, bound: answer[1..].chunks_exact(3).map(bound).collect() };
            Ok(session.filter(|_| answer[0] == "closed").map(closed))
        })
    }

    fn steal<'a>(&'a self, _: &'a Steal) -> PortFuture<'a, Result<Stolen, StoreError>> {
        panic!("not in the prototype")
    }

    fn touch<'a>(&'a self, _: &'a [SessionId]) -> PortFuture<'a, Result<Vec<SessionId>, StoreError>> {
        panic!("not in the prototype")
    }

    fn reap<'a>(&'a self, _: usize) -> PortFuture<'a, Result<Vec<Closed>, StoreError>> {
        panic!("not in the prototype")
    }

    fn find<'a>(&'a self, _: &'a Query) -> PortFuture<'a, Result<Page, StoreError>> {
        panic!("not in the prototype")
    }
}
