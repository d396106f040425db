//! Existence, ownership and attributes of sessions, and finding them.

use std::time::Duration;

use futures::future::join_all;
use holdfast::domain::{ClientFacts, Principal, Session, SessionId, SessionPart, Transport, UpstreamHandle};
use holdfast::ports::{CloseIf, Lease, Opened, Query, SessionStore, Updated};

use super::{Harness, bounds, node, opened, server};

fn facts(version: &str) -> ClientFacts {
    ClientFacts {
        protocol_version: version.to_owned(),
        initialize: r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#.to_owned(),
        capabilities: vec!["elicitation".to_owned()],
        server_capabilities: "{}".to_owned(),
    }
}

pub(crate) fn handle(generation: u64, session: &str) -> UpstreamHandle {
    UpstreamHandle {
        generation,
        session: Some(session.to_owned()),
        node: None,
        protocol_version: "2025-11-25".to_owned(),
    }
}

pub(crate) async fn updated(store: &dyn SessionStore, id: &SessionId, part: SessionPart) -> Session {
    match store.update(id, part).await.unwrap() {
        Updated::Now(session) => *session,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn one_owner_for_good(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = SessionId::mint();
    let owners: Vec<_> = (0..8).map(|number| Principal::named(&format!("p{number}"))).collect();
    let server = server();
    let opens = owners.iter().map(|owner| store.open(&id, &server, owner, Transport::Streamable));
    let answers: Vec<_> = join_all(opens).await.into_iter().map(Result::unwrap).collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "everybody sees the same owner: {answers:?}");
    let Opened::Owned(owner) = &answers[0] else { panic!("{answers:?}") };
    let again = store.open(&id, &server, owner, Transport::Streamable).await.unwrap();
    assert_eq!(again, answers[0], "repeating one's own is fine");
    assert_eq!(&store.load(&id).await.unwrap().unwrap().owner, owner);
}

pub(crate) async fn an_absent_session_is_none_and_a_gone_one_too(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    assert_eq!(store.load(&SessionId::mint()).await.unwrap(), None);
    let id = opened(&*store).await;
    let session = store.load(&id).await.unwrap().unwrap();
    assert_eq!((session.server, session.transport, session.client), (server(), Transport::Streamable, None));
    store.close(&id, &CloseIf::Always).await.unwrap();
    assert_eq!(store.load(&id).await.unwrap(), None);
    let gone = store.update(&id, SessionPart::LogLevel("debug".to_owned())).await.unwrap();
    assert_eq!(gone, Updated::Gone);
}

pub(crate) async fn client_facts_are_set_once(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    let first = updated(&*store, &id, SessionPart::Client(facts("2025-11-25"))).await;
    let second = updated(&*store, &id, SessionPart::Client(facts("2024-11-05"))).await;
    assert_eq!(first.client, Some(facts("2025-11-25")));
    assert_eq!(second.client, first.client, "a second one is answered with the first");
}

pub(crate) async fn of_two_upstream_handles_the_first_wins(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    updated(&*store, &id, SessionPart::Upstream(handle(1, "u1"))).await;
    let winner = updated(&*store, &id, SessionPart::Upstream(handle(2, "u2"))).await;
    let loser = updated(&*store, &id, SessionPart::Upstream(handle(2, "other"))).await;
    assert_eq!(winner.upstream, Some(handle(2, "u2")));
    assert_eq!(loser.upstream, winner.upstream, "the loser adopts the winner's");
    let skipped = updated(&*store, &id, SessionPart::Upstream(handle(9, "u9"))).await;
    assert_eq!(skipped.upstream, winner.upstream, "generations rise by one");
}

pub(crate) async fn sessions_are_counted_and_know_when_they_were_opened(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let lease = Lease { node: node("a"), lifetime: Duration::from_secs(60), facts: "{}".to_owned() };
    let before = store.beat(&lease).await.unwrap().now_ms;
    let ids = [opened(&*store).await, opened(&*store).await, opened(&*store).await];
    let after = store.beat(&lease).await.unwrap().now_ms;
    let opened_ms = store.load(&ids[0]).await.unwrap().unwrap().opened_ms.unwrap();
    assert!((before..=after).contains(&opened_ms), "{opened_ms} is not between {before} and {after}");
    assert!(store.reap(1).await.unwrap().is_empty());
    assert_eq!(store.known_sessions(), 3);
    let closed = store.close(&ids[0], &CloseIf::Always).await.unwrap().unwrap();
    assert_eq!(closed.session.opened_ms, Some(opened_ms), "used or not");
    store.reap(1).await.unwrap();
    assert_eq!(store.known_sessions(), 2);
}

/// Attributes come back byte for byte, the absent and the empty ones too.
pub(crate) async fn attributes_are_kept_as_they_came(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    let client = ClientFacts {
        initialize: "{\n  \"id\": \"a,\u{fc}\\n\"\r\n}".to_owned(),
        capabilities: Vec::new(),
        server_capabilities: "{\"tools\":{},\n\"x\":null}".to_owned(),
        ..facts("2025-11-25")
    };
    let upstream = UpstreamHandle { session: None, ..handle(1, "") };
    updated(&*store, &id, SessionPart::Client(client.clone())).await;
    updated(&*store, &id, SessionPart::Upstream(upstream.clone())).await;
    let session = updated(&*store, &id, SessionPart::LogLevel("debug".to_owned())).await;
    assert_eq!((session.client.as_ref(), session.upstream.as_ref()), (Some(&client), Some(&upstream)));
    assert_eq!(session.log_level.as_deref(), Some("debug"));
    assert_eq!(store.load(&id).await.unwrap(), Some(session));
    let pinned = UpstreamHandle { node: Some(node("a-1")), ..handle(2, "u2") };
    let session = updated(&*store, &id, SessionPart::Upstream(pinned.clone())).await;
    assert_eq!(session.upstream, Some(pinned), "and the node that has it");
    assert_eq!(session.carried, None);
    for again in ["1 a x_-\u{fc}", "another"] {
        let session = updated(&*store, &id, SessionPart::Carried(again.to_owned())).await;
        assert_eq!(session.carried.as_deref(), Some("1 a x_-\u{fc}"), "it is set once");
    }
}

pub(crate) async fn of_many_handles_one_is_adopted_by_all(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    for generation in 1..4 {
        let names: Vec<_> = (0..8).map(|index| format!("u{generation}.{index}")).collect();
        let updates =
            names.iter().map(|name| store.update(&id, SessionPart::Upstream(handle(generation, name))));
        let updates = join_all(updates).await;
        let adopted: Vec<_> =
            updates.iter().map(|update| update.as_ref().unwrap().upstream().unwrap().clone()).collect();
        assert!(adopted.iter().all(|handle| *handle == adopted[0] && handle.generation == generation));
    }
}

pub(crate) async fn there_is_room_for_so_many(harness: &impl Harness) {
    let store = harness.store(holdfast::ports::Bounds { sessions_max: 2, ..bounds() }).await;
    let id = opened(&*store).await;
    opened(&*store).await;
    let owner = Principal::anonymous();
    let third = SessionId::mint();
    let (server_name, transport) = (server(), Transport::Streamable);
    assert_eq!(store.open(&third, &server_name, &owner, transport).await.unwrap(), Opened::Full);
    store.close(&id, &CloseIf::Always).await.unwrap();
    assert_eq!(
        store.open(&third, &server_name, &owner, transport).await.unwrap(),
        Opened::Owned(owner.clone())
    );
}

pub(crate) async fn subscriptions_are_bounded(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    let subscribe = |uri: &str| SessionPart::Subscribed(uri.to_owned());
    updated(&*store, &id, subscribe("a")).await;
    updated(&*store, &id, subscribe("b")).await;
    updated(&*store, &id, subscribe("a")).await;
    assert_eq!(store.update(&id, subscribe("c")).await.unwrap(), Updated::Full);
    let left = updated(&*store, &id, SessionPart::Unsubscribed("a".to_owned())).await;
    assert_eq!(left.subscriptions, ["b"]);
}

pub(crate) async fn found_by_what_they_are(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let mut asking = Vec::new();
    for number in 0..7 {
        let id = opened(&*store).await;
        if number % 2 == 0 {
            updated(&*store, &id, SessionPart::Client(facts("2025-11-25"))).await;
            asking.push(id);
        }
    }
    asking.sort();
    let mut query = Query {
        capability: Some("elicitation".to_owned()),
        server: Some(server()),
        limit: 3,
        ..Query::default()
    };
    let first = store.find(&query).await.unwrap();
    query.after = first.sessions.last().map(|session| session.id.clone());
    let second = store.find(&query).await.unwrap();
    assert!(first.more && !second.more);
    let found: Vec<_> =
        first.sessions.iter().chain(&second.sessions).map(|session| session.id.clone()).collect();
    assert_eq!(found, asking);
    let nobody = Query { owner: Some(Principal::named("x")), limit: 9, ..Query::default() };
    assert!(store.find(&nobody).await.unwrap().sessions.is_empty());
}

pub(crate) async fn pages_are_ordered_and_whole(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let other = holdfast::domain::ServerName::parse("other").unwrap();
    let owner = Principal::named("o");
    let mut own = Vec::new();
    for number in 0..12 {
        let id = SessionId::mint();
        let server = if number % 3 == 0 { &other } else { &server() };
        store.open(&id, server, &owner, Transport::Streamable).await.unwrap();
        if number % 3 == 0 {
            own.push(id);
        }
        opened(&*store).await;
    }
    own.sort();
    let mut query =
        Query { server: Some(other), owner: Some(owner), limit: 1, after: None, capability: None };
    for (index, id) in own.iter().enumerate() {
        let page = store.find(&query).await.unwrap();
        assert_eq!(page.sessions.iter().map(|session| &session.id).collect::<Vec<_>>(), [id]);
        assert_eq!(page.more, index + 1 < own.len());
        query.after = Some(id.clone());
    }
    assert!(store.find(&query).await.unwrap().sessions.is_empty());
}
