//! What servers are shown of who asks: the gateway's own credential, never a client's (A8).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use holdfast::auth::mint;
use serde_json::{Value, json as value};

use crate::harness::{
    Asked, Gateway, Issuer, POST, Stream, Upstream, accepted, call, initialize, initialized, json, sse,
    status,
};

fn answer(asked: &Asked) -> Response<Body> {
    match (asked.method.as_str(), asked.rpc()) {
        ("GET", _) => status(405),
        ("DELETE", _) => status(204),
        (_, "initialize") => initialized(asked, "up-1"),
        (_, "server/discover") => status(400),
        _ if asked.body["id"].is_null() => accepted(),
        _ => json(asked, &value!({ "ok": true })),
    }
}

/// A server that wants the newest token, and the authorization server that gives them.
#[derive(Default)]
struct Tokens {
    given: AtomicUsize,
    good: AtomicUsize,
    away: AtomicBool,
}

impl Tokens {
    async fn start(self: &Arc<Self>, expires_in: Value) -> (Upstream, Upstream) {
        let tokens = self.clone();
        let issuer = Upstream::bare(move |asked| {
            assert_eq!(asked.header("authorization"), "Basic Z2F0ZTpzJTIwZSUzQWNyJTI1ZXQ=");
            let form = String::from_utf8_lossy(&asked.raw).into_owned();
            assert!(form.starts_with("grant_type=client_credentials&scope=read%20write&resource=http%3A%2F%2F"), "{form}");
            if tokens.away.load(Ordering::SeqCst) {
                return status(500);
            }
            let number = tokens.given.fetch_add(1, Ordering::SeqCst) + 1;
            tokens.good.store(number, Ordering::SeqCst);
            let granted = value!({ "access_token": format!("t{number}"), "token_type": "Bearer", "expires_in": expires_in });
            Response::new(Body::from(granted.to_string()))
        })
        .await;
        let tokens = self.clone();
        let server = Upstream::bare(move |asked| {
            let good = format!("Bearer t{}", tokens.good.load(Ordering::SeqCst));
            if asked.header("authorization") == good { answer(asked) } else { status(401) }
        })
        .await;
        (issuer, server)
    }
}

async fn gateway(issuer: &Upstream, server: &Upstream) -> Gateway {
    let settings = [
        ("servers.default.credentials.token_url", &*issuer.url),
        ("servers.default.credentials.client_id", "gate"),
        ("servers.default.credentials.client_secret", "s e:cr%et"),
        ("servers.default.credentials.scopes", "read, write"),
    ];
    Gateway::start(&server.url, &settings).await
}

#[tokio::test]
async fn a8_a_server_sees_the_gateways_header_and_never_a_clients() {
    let server = Upstream::bare(answer).await;
    let (token, digest) = mint();
    let settings = [
        ("auth.mode", "tokens"),
        ("auth.tokens.ci.sha256", &*digest),
        ("servers.default.credentials.header", "authorization: Bearer of-the-gateway"),
    ];
    let gateway = Gateway::start(&server.url, &settings).await;
    let mut client = gateway.client();
    client.token = Some(token.clone());
    client.initialize("2025-11-25").await;
    let _stream = client.get(None).await;
    assert_eq!(client.posted(&call(1)).await.status, 200);
    assert_eq!(client.delete().await.status, 204);
    let asked = server.asked();
    assert!(asked.len() >= 4);
    for asked in asked {
        let shown: Vec<_> = asked.headers.get_all("authorization").iter().collect();
        assert_eq!(shown, ["Bearer of-the-gateway"], "{} {}", asked.method, asked.rpc());
        let leaked =
            asked.headers.values().any(|value| value.to_str().is_ok_and(|value| value.contains(&token)));
        assert!(!leaked);
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_kept_and_exchanged_when_it_is_refused() {
    let tokens = Arc::new(Tokens::default());
    let (issuer, server) = tokens.start(value!(600)).await;
    let gateway = gateway(&issuer, &server).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let client = &client;
    let posted = async move |id| client.posted(&call(id)).await;
    let crowd = |from: u64| futures::future::join_all((from..from + 20).map(posted));
    assert!(crowd(0).await.iter().all(|reply| reply.status == 200));
    assert_eq!(tokens.given.load(Ordering::SeqCst), 1, "one for all");
    // Withdrawn: those who meet it exchange it once, and nobody notices.
    tokens.good.store(0, Ordering::SeqCst);
    let before = server.count(|asked| asked.rpc() == "tools/call");
    assert!(crowd(100).await.iter().all(|reply| reply.status == 200));
    assert_eq!(tokens.given.load(Ordering::SeqCst), 2, "one for all again");
    assert!(server.count(|asked| asked.rpc() == "tools/call") > before + 20, "some were sent again");
}

#[tokio::test]
async fn a_token_that_is_about_to_expire_is_not_used() {
    let tokens = Arc::new(Tokens::default());
    let (issuer, server) = tokens.start(value!(1)).await;
    let gateway = gateway(&issuer, &server).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let given = tokens.given.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(950)).await;
    assert_eq!(client.posted(&call(1)).await.status, 200);
    assert!(tokens.given.load(Ordering::SeqCst) > given);
    assert_eq!(server.count(|asked| asked.rpc() == "tools/call"), 1, "it was not even tried");
}

#[tokio::test]
async fn without_a_token_a_call_ends_with_an_error_that_names_the_server() {
    let tokens = Arc::new(Tokens::default());
    let (issuer, server) = tokens.start(Value::Null).await;
    let gateway = gateway(&issuer, &server).await;
    tokens.away.store(true, Ordering::SeqCst);
    let mut client = gateway.client();
    let refused = client.posted(&initialize("2025-11-25")).await;
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(refused.text.contains("default"), "{}", refused.text);
    assert!(!refused.text.contains("cr%et") && !refused.text.contains("Basic"), "{}", refused.text);
    tokens.away.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    client.initialize("2025-11-25").await;
    assert_eq!(client.posted(&call(1)).await.status, 200);
}

#[tokio::test]
async fn a_server_that_refuses_whatever_it_is_shown_does_not_cost_everybody_their_token() {
    let tokens = Arc::new(Tokens::default());
    let (issuer, _) = tokens.start(value!("600")).await;
    let server = Upstream::bare(|asked| match asked.rpc() {
        "tools/call" => status(401),
        _ => answer(asked),
    })
    .await;
    let gateway = gateway(&issuer, &server).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    for id in 0..10 {
        assert_eq!(client.posted(&call(id)).await.status, 502);
    }
    assert_eq!(tokens.given.load(Ordering::SeqCst), 2, "the first refusal may have been the token's fault");
    tokens.away.store(true, Ordering::SeqCst);
    let ping = value!({ "jsonrpc": "2.0", "id": 99, "method": "ping" });
    assert_eq!(client.posted(&ping).await.status, 200, "the last one is used on");
}

/// An authorization server that gives a token of its own for a client's, and a server that takes only those.
struct Exchange {
    issuer: Issuer,
    endpoint: Upstream,
    server: Upstream,
    refuses: Arc<AtomicBool>,
}

const BASE: &str = "http://gate.example.com";

impl Exchange {
    async fn start() -> Self {
        let refuses = Arc::<AtomicBool>::default();
        let refused = refuses.clone();
        let endpoint = Upstream::bare(move |asked| {
            assert_eq!(asked.header("authorization"), "Basic Z2F0ZTpzJTIwZSUzQWNyJTI1ZXQ=");
            if refused.load(Ordering::SeqCst) {
                let refusal = Body::from(r#"{"error":"invalid_grant","error_description":"<b>no</b>"}"#);
                return Response::builder().status(400).body(refusal).unwrap();
            }
            let subject = subject_of(asked);
            let granted = value!({
                "access_token": format!("for-{subject}"),
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": 600,
            });
            Response::new(Body::from(granted.to_string()))
        })
        .await;
        let server = Upstream::bare(|asked| match (asked.method.as_str(), asked.header("authorization")) {
            (_, shown) if !shown.starts_with("Bearer for-") => status(401),
            ("GET", _) => sse().1,
            _ => answer(asked),
        })
        .await;
        Self { issuer: Issuer::start().await, endpoint, server, refuses }
    }

    async fn gateway(&self) -> Gateway {
        let settings = [
            ("public_url", BASE),
            ("auth.mode", "tokens"),
            ("auth.issuers.a.issuer", &*self.issuer.url),
            ("servers.default.credentials.grant", "token_exchange"),
            ("servers.default.credentials.token_url", &*self.endpoint.url),
            ("servers.default.credentials.client_id", "gate"),
            ("servers.default.credentials.client_secret", "s e:cr%et"),
            ("servers.default.credentials.resource", "https://files.example.com"),
        ];
        Gateway::start(&self.server.url, &settings).await
    }

    fn token(&self, subject: &str, path: &str) -> String {
        self.issuer.signing.sign(&self.issuer.claims(subject, &format!("{BASE}{path}")))
    }

    /// What the server was shown, and by which kinds of requests; a client's own token never.
    fn shown(&self, tokens: &[&str]) -> Vec<String> {
        let asked = self.server.asked();
        for asked in &asked {
            let mut texts: Vec<_> = asked.headers.values().map(|value| value.as_bytes().to_vec()).collect();
            texts.push(asked.raw.to_vec());
            for token in tokens {
                let leaked = texts.iter().any(|text| String::from_utf8_lossy(text).contains(token));
                assert!(!leaked, "{} {}", asked.method, asked.rpc());
            }
        }
        asked.iter().map(|asked| format!("{} {}", asked.method, asked.header("authorization"))).collect()
    }
}

/// Whose token it is that is to be exchanged.
fn subject_of(asked: &Asked) -> String {
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&asked.raw).into_owned().collect();
    let field =
        |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap();
    assert_eq!(field("grant_type"), "urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!(field("subject_token_type"), "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!(field("resource"), "https://files.example.com");
    let claims = field("subject_token").split('.').nth(1).unwrap().to_owned();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["sub"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a8_each_clients_token_is_exchanged_for_one_of_the_servers() {
    let exchange = Exchange::start().await;
    let gateway = exchange.gateway().await;
    let tokens = ["alice", "bob"].map(|subject| exchange.token(subject, "/mcp"));
    for token in &tokens {
        let mut client = gateway.client();
        client.token = Some(token.clone());
        client.initialize("2025-11-25").await;
        let _stream = Stream::new(client.get(None).await);
        let client = &client;
        let posted = async move |id| client.posted(&call(id)).await;
        let calls = futures::future::join_all((0..10).map(posted)).await;
        assert!(calls.iter().all(|reply| reply.status == 200), "{calls:?}");
        // The stream that the gateway reads for its client, without a request of the client's.
        let own = exchange.endpoint.asked().last().map(subject_of).unwrap();
        let reads = |asked: &Asked| asked.method == "GET" && asked.header("authorization").ends_with(&own);
        let read = || exchange.server.count(reads) > 0;
        crate::harness::wait_until("the server's own stream is read", read).await;
        assert_eq!(client.delete().await.status, 204);
    }
    assert_eq!(exchange.endpoint.asked().len(), 2, "one for each client");
    let ended = || exchange.server.count(|asked| asked.method == "DELETE") == 2;
    crate::harness::wait_until("the server's sessions are ended", ended).await;
    let shown = exchange.shown(&tokens.each_ref().map(String::as_str));
    for method in ["POST", "GET", "DELETE"] {
        for subject in ["alice", "bob"] {
            let expected = format!("{method} Bearer for-{subject}");
            assert!(shown.contains(&expected), "{expected}: {shown:?}");
        }
    }
}

#[tokio::test]
async fn a8_an_http_sse_session_shows_what_its_clients_token_was_exchanged_for() {
    let exchange = Exchange::start().await;
    let gateway = exchange.gateway().await;
    let token = exchange.token("carol", "/sse");
    let mut client = gateway.client();
    client.token = Some(token.clone());
    let mut stream = Stream::new(client.sse().await);
    let endpoint = String::from_utf8(stream.any().await.unwrap().data.unwrap().to_vec()).unwrap();
    for message in [initialize("2024-11-05"), call(1)] {
        assert_eq!(client.ask("POST", &endpoint, &POST, &message.to_string()).await.status, 202);
        assert!(stream.message().await["result"].is_object());
    }
    assert!(exchange.shown(&[&token]).iter().all(|shown| shown.ends_with(" Bearer for-carol")));
}

#[tokio::test]
async fn a_client_whose_token_is_not_exchanged_is_told_so_and_others_go_on() {
    let exchange = Exchange::start().await;
    let gateway = exchange.gateway().await;
    let mut good = gateway.client();
    good.token = Some(exchange.token("alice", "/mcp"));
    good.initialize("2025-11-25").await;
    exchange.refuses.store(true, Ordering::SeqCst);
    let mut refused = gateway.client();
    refused.token = Some(exchange.token("mallory", "/mcp"));
    let reply = refused.posted(&initialize("2025-11-25")).await;
    assert_eq!(reply.status, 502, "{reply:?}");
    assert!(reply.text.contains("default") && !reply.text.contains("no</b>"), "{}", reply.text);
    assert_eq!(exchange.server.count(|asked| asked.header("authorization").contains("mallory")), 0);
    assert_eq!(good.posted(&call(1)).await.status, 200, "what was exchanged before is kept");
}
