//! Headers of clients that go on to a server because its owner says so, with and without a request at hand.

use axum::body::Body;
use axum::http::Response;
use holdfast::app::Shared;
use holdfast::domain::SessionId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{
    Asked, Client, Gateway, POST, Stream, Upstream, accepted, call, configured, initialize, initialized,
    json, sse, status, wait_until,
};

const KEY: (&str, &str) =
    ("cluster.keys.a.secret", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");

fn answer(asked: &Asked, session: &str) -> Response<Body> {
    match (asked.method.as_str(), asked.rpc()) {
        ("GET", _) => sse().1,
        ("DELETE", _) => status(204),
        (_, "initialize") => initialized(asked, session),
        (_, "server/discover") => status(400),
        _ if asked.body["id"].is_null() => accepted(),
        _ => json(asked, &serde_json::json!({ "ok": true })),
    }
}

fn of(gateway: &Gateway, tenant: &str) -> Client {
    let mut client = gateway.client();
    client.headers = vec![
        ("x-tenant", tenant.to_owned()),
        ("x-other", "stays".to_owned()),
        ("user-agent", "mine".to_owned()),
    ];
    client
}

#[tokio::test]
async fn a8_named_headers_go_on_and_no_others_and_none_of_ours_are_changed() {
    let upstream = Upstream::bare(|asked| answer(asked, "up-1")).await;
    let gateway = Gateway::start(&upstream.url, &[("servers.default.pass_headers", "X-Tenant")]).await;
    let mut client = of(&gateway, "red");
    client.initialize("2025-11-25").await;
    let _stream = Stream::new(client.get(None).await);
    // Each request has its own.
    client.headers[0].1 = "blue".to_owned();
    assert_eq!(client.posted(&call(1)).await.status, 200);
    client.headers.clear();
    assert_eq!(client.posted(&call(2)).await.status, 200);
    client.headers = of(&gateway, "green").headers;
    assert_eq!(client.delete().await.status, 204);
    wait_until("its end is told", || upstream.count(|asked| asked.method == "DELETE") == 1).await;
    let tenant_of = |method: &str, id: u64| {
        let asked = upstream.asked();
        let found = asked.iter().find(|asked| asked.method == method && (id == 0 || asked.body["id"] == id));
        let found = found.unwrap_or_else(|| panic!("{method} {id}: {asked:?}"));
        found
            .headers
            .get_all("x-tenant")
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(tenant_of("GET", 0), ["red"], "of the client's GET");
    assert_eq!(tenant_of("POST", 1), ["blue"]);
    assert_eq!(tenant_of("POST", 2), Vec::<String>::new());
    assert_eq!(tenant_of("DELETE", 0), ["green"]);
    for asked in upstream.asked() {
        assert!(!asked.headers.contains_key("x-other"));
        assert!(asked.header("user-agent").starts_with("holdfast/"));
    }
}

#[tokio::test]
async fn a_session_that_its_server_lost_is_opened_anew_with_them() {
    let sessions = Arc::new(AtomicUsize::new(1));
    let current = sessions.clone();
    let upstream = Upstream::bare(move |asked| {
        let session = format!("up-{}", current.load(Ordering::SeqCst));
        let named = asked.header("mcp-session-id");
        if !named.is_empty() && named != session { status(404) } else { answer(asked, &session) }
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[("servers.default.pass_headers", "x-tenant")]).await;
    let mut client = of(&gateway, "red");
    client.initialize("2025-11-25").await;
    sessions.store(2, Ordering::SeqCst);
    assert_eq!(client.posted(&call(1)).await.status, 200);
    let asked = upstream.asked();
    let opened: Vec<_> = asked.iter().filter(|asked| asked.rpc() == "initialize").collect();
    assert!(opened.len() >= 2, "{opened:?}");
    assert!(opened.iter().all(|asked| asked.header("x-tenant") == "red"), "{opened:?}");
}

#[tokio::test]
async fn an_http_sse_session_has_those_of_its_opening_get_at_every_node_and_nobody_reads_them_in_the_store() {
    let upstream = Upstream::bare(|asked| answer(asked, "up-1")).await;
    let config = configured(&upstream.url, &[("servers.default.pass_headers", "x-tenant"), KEY]);
    let shared = Shared::memory(&config);
    let a = Gateway::start_on(&config, shared.clone()).await;
    let b = Gateway::start_on(&config, shared.clone()).await;
    let client = of(&a, "red-and-secret");
    let mut stream = Stream::new(client.sse().await);
    let endpoint = String::from_utf8(stream.any().await.unwrap().data.unwrap().to_vec()).unwrap();
    let mut elsewhere = b.client();
    // Those of a POST are not the session's.
    elsewhere.headers = vec![("x-tenant", "blue".to_owned())];
    for message in [initialize("2024-11-05"), call(1)] {
        assert_eq!(elsewhere.ask("POST", &endpoint, &POST, &message.to_string()).await.status, 202);
        assert!(stream.message().await["result"].is_object());
    }
    wait_until("the server's own stream is read", || upstream.count(|asked| asked.method == "GET") == 1)
        .await;
    for asked in upstream.asked().iter().filter(|asked| asked.rpc() != "server/discover") {
        let shown: Vec<_> = asked.headers.get_all("x-tenant").iter().collect();
        assert_eq!(shown, ["red-and-secret"], "{} {}", asked.method, asked.rpc());
    }
    let id = SessionId::parse(endpoint.split_once('=').unwrap().1).unwrap();
    let kept = shared.store.load(&id).await.unwrap().unwrap();
    let text = format!("{kept:?}");
    assert!(kept.carried.is_some() && !text.contains("tenant") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_session_whose_key_was_taken_away_is_as_good_as_gone() {
    let upstream = Upstream::bare(|asked| answer(asked, "up-1")).await;
    let passes = ("servers.default.pass_headers", "x-tenant");
    let config = configured(&upstream.url, &[passes, KEY]);
    let shared = Shared::memory(&config);
    let a = Gateway::start_on(&config, shared.clone()).await;
    let other = configured(
        &upstream.url,
        &[
            passes,
            ("cluster.keys.b.secret", "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"),
        ],
    );
    let b = Gateway::start_on(&other, shared).await;
    let client = of(&a, "red");
    let mut stream = Stream::new(client.sse().await);
    let endpoint = String::from_utf8(stream.any().await.unwrap().data.unwrap().to_vec()).unwrap();
    let message = initialize("2024-11-05").to_string();
    assert_eq!(b.client().ask("POST", &endpoint, &POST, &message).await.status, 404);
    assert_eq!(a.client().ask("POST", &endpoint, &POST, &message).await.status, 202);
    assert!(stream.message().await["result"].is_object());
    let tenants: Vec<_> = upstream
        .asked()
        .iter()
        .filter(|asked| asked.rpc() == "initialize")
        .map(|asked| asked.header("x-tenant").to_owned())
        .collect();
    assert_eq!(tenants, ["red"]);
}
