//! The attacks of the MCP security pages, each against three nodes: an answer injected into somebody's elicitation, a
//! page that calls a gateway by a name of its own (DNS rebinding), and a gateway that does for one what only another
//! may have done (confused deputy). Stolen ids and resumes are in [`super::access`], messages between nodes in
//! [`super::poison`], every credential at every endpoint in [`super::credentials`].

use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;
use futures::StreamExt as _;
use holdfast::app::Shared;
use holdfast::auth::mint;
use holdfast::config::{self, Overrides};
use serde_json::{Value, json as value};
use tokio::sync::{Mutex, mpsc};

use crate::harness::{
    Asked, Client, Gateway, Issuer, POST, Upstream, call, configured, initialize, json, wait_until,
};

async fn three(config: &config::Config) -> Vec<Gateway> {
    let shared = Shared::memory(config);
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Gateway::start_on(config, shared.clone()).await);
    }
    nodes
}

/// A server that asks its client something before it answers a call.
async fn curious() -> (Upstream, mpsc::Receiver<Value>) {
    let (heard, answers) = mpsc::channel(8);
    let waiting: Arc<Mutex<Option<mpsc::Sender<String>>>> = Arc::default();
    let upstream = Upstream::bare(move |asked| respond(asked, &waiting, &heard)).await;
    (upstream, answers)
}

fn respond(
    asked: &Asked,
    waiting: &Mutex<Option<mpsc::Sender<String>>>,
    heard: &mpsc::Sender<Value>,
) -> Response<Body> {
    match (asked.method.as_str(), asked.rpc()) {
        ("GET", _) => crate::harness::status(405),
        ("DELETE", _) => crate::harness::status(204),
        (_, "initialize") => crate::harness::initialized(asked, "up-1"),
        (_, "server/discover") => crate::harness::status(400),
        (_, "tools/call") => {
            let (send, receive) = mpsc::channel(8);
            let question = value!({
                "jsonrpc": "2.0", "id": "q-1", "method": "elicitation/create",
                "params": { "message": "Really?", "requestedSchema": { "type": "object", "properties": {} } },
            });
            send.try_send(format!("data: {question}\n\n")).unwrap();
            *waiting.try_lock().unwrap() = Some(send);
            let frames = futures::stream::unfold(receive, |mut receive| async move {
                Some((Ok::<_, std::convert::Infallible>(receive.recv().await?), receive))
            });
            let body = Body::from_stream(frames.boxed());
            Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
        }
        _ if asked.body["result"].is_object() => {
            heard.try_send(asked.body.clone()).unwrap();
            let result =
                value!({ "jsonrpc": "2.0", "id": 1, "result": { "said": asked.body["result"]["action"] } });
            if let Some(send) = waiting.try_lock().unwrap().take() {
                send.try_send(format!("data: {result}\n\n")).unwrap();
            }
            crate::harness::accepted()
        }
        _ => crate::harness::accepted(),
    }
}

#[tokio::test]
async fn p2_an_answer_that_is_injected_into_somebodys_elicitation_goes_nowhere() {
    let (upstream, mut heard) = curious().await;
    let ((alice, alices), (mallory, mallorys)) = (mint(), mint());
    let settings = [
        ("auth.mode", "tokens"),
        ("auth.tokens.alice.sha256", &*alices),
        ("auth.tokens.mallory.sha256", &*mallorys),
    ];
    let nodes = three(&configured(&upstream.url, &settings)).await;
    let mut client = nodes[0].client();
    client.token = Some(alice);
    client.initialize("2025-11-25").await;
    let mut stream = client.streamed(&call(1)).await;
    assert_eq!(stream.message().await["method"], "elicitation/create");
    let answer = |action: &str| value!({ "jsonrpc": "2.0", "id": "q-1", "result": { "action": action } });
    for node in &nodes {
        // They know the session's id, its version and the question's id, and may call themselves.
        let mut thief = node.client();
        thief.token = Some(mallory.clone());
        thief.initialize("2025-11-25").await;
        thief.session = client.session.clone();
        assert_eq!(thief.posted(&answer("accept")).await.status, 404);
        thief.token = None;
        assert_eq!(thief.posted(&answer("accept")).await.status, 401);
    }
    assert!(heard.try_recv().is_err(), "the server heard none of them");
    let mut elsewhere = nodes[2].client();
    (elsewhere.token, elsewhere.session) = (client.token.clone(), client.session.clone());
    elsewhere.version = client.version.clone();
    assert_eq!(elsewhere.posted(&answer("decline")).await.status, 202);
    assert_eq!(heard.recv().await.unwrap()["result"]["action"], "decline");
    assert_eq!(stream.message().await["result"]["said"], "decline", "who was asked has answered");
}

#[tokio::test]
async fn a_page_that_calls_a_node_by_a_name_of_its_own_is_refused_before_anything_is_asked() {
    let upstream = Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await;
    let nodes = three(&configured(&upstream.url, &[])).await;
    let mut own = nodes[0].client();
    own.initialize("2025-11-25").await;
    let session = own.session.clone().unwrap();
    let before = upstream.asked().len();
    let body = call(1).to_string();
    for node in &nodes {
        let port = node.url.rsplit(':').next().unwrap();
        // The name that now leads to 127.0.0.1; with it, what the browser says of the page, or nothing.
        let (host, page) = (format!("evil.example.com:{port}"), format!("http://evil.example.com:{port}"));
        let local = format!("127.0.0.1:{port}");
        let rebound = [
            vec![("host", &*host), ("origin", &*page)],
            vec![("host", &*host)],
            vec![("host", &*local), ("origin", &*page)],
            vec![("host", &*local), ("origin", "null")],
        ];
        for attack in rebound {
            for (method, path) in [
                ("POST", "/mcp"),
                ("GET", "/mcp"),
                ("DELETE", "/mcp"),
                ("GET", "/sse"),
                ("POST", "/message?sessionId=x"),
            ] {
                let mut headers = POST.to_vec();
                headers.push(("mcp-session-id", &*session));
                headers.extend(&attack);
                let reply = node
                    .client()
                    .ask(method, path, &headers, if method == "POST" { &body } else { "" })
                    .await;
                assert_eq!(reply.status, 403, "{method} {path} {attack:?}");
                assert!(!reply.headers.contains_key("access-control-allow-origin"), "{reply:?}");
            }
        }
    }
    assert_eq!(upstream.asked().len(), before, "the server was asked nothing");
    assert_eq!(own.posted(&call(2)).await.status, 200);
}

const BASE: &str = "http://gate.example.com";

#[tokio::test]
async fn a7_a_gateway_with_credentials_for_two_servers_uses_each_only_for_who_may() {
    let answering = |name: &'static str| async move {
        Upstream::start(move |asked| json(asked, &value!({ "server": name }))).await
    };
    let (files, vault) = (answering("files").await, answering("vault").await);
    let issuer = Issuer::start().await;
    let entries = [
        ("public_url", BASE),
        ("auth.mode", "tokens"),
        ("auth.issuers.a.issuer", &*issuer.url),
        ("servers.files.upstream", &*files.url),
        ("servers.files.credentials.header", "Authorization: Bearer of-the-gateway-for-files"),
        ("servers.vault.upstream", &*vault.url),
        ("servers.vault.credentials.header", "Authorization: Bearer of-the-gateway-for-the-vault"),
        ("servers.vault.scopes", "vault"),
    ];
    let entries = entries.map(|(key, text)| (key, text.to_owned(), "test")).to_vec();
    let config = config::load(None, std::iter::empty(), Overrides { entries }).unwrap();
    let nodes = three(&config).await;
    let token = |scope: &str, path: &str| {
        let mut claims = issuer.claims("mallory", &format!("{BASE}{path}"));
        claims["scope"] = value!(scope);
        issuer.signing.sign(&claims)
    };
    let opening = initialize("2025-11-25").to_string();
    let asks = async |node: &Gateway, path: &str, token: &str, session: &str, body: &str| {
        let mut client: Client = node.client();
        client.token = Some(token.to_owned());
        let mut headers = POST.to_vec();
        headers.extend(
            [("mcp-session-id", session), ("mcp-protocol-version", "2025-11-25")]
                .into_iter()
                .filter(|_| !session.is_empty()),
        );
        client.ask("POST", path, &headers, body).await
    };
    let for_files = token("vault", "/servers/files/mcp");
    let opened = asks(&nodes[0], "/servers/files/mcp", &for_files, "", &opening).await;
    let session = opened.header("mcp-session-id").to_owned();
    assert_eq!(opened.status, 200, "{opened:?}");
    let vault_before = vault.asked().len();
    for node in &nodes {
        let vaults = "/servers/vault/mcp";
        // A token for the one is none for the other, whatever its scopes; nor is one without the scope.
        assert_eq!(asks(node, vaults, &for_files, "", &opening).await.status, 401);
        assert_eq!(asks(node, vaults, &token("files", vaults), "", &opening).await.status, 403);
        // Nor is a session of the one, with a token for the other, one there.
        let both = token("vault", vaults);
        assert_eq!(asks(node, vaults, &both, &session, &call(1).to_string()).await.status, 404);
        // No consent can be lent that was given to the gateway: it hands out no codes, tokens or registrations.
        for path in ["/authorize", "/token", "/register", "/.well-known/oauth-authorization-server"] {
            for method in ["GET", "POST"] {
                let reply = node.client().ask(method, path, &[], "").await;
                assert!([404, 405].contains(&reply.status), "{method} {path}: {reply:?}");
            }
        }
    }
    assert_eq!(vault.asked().len(), vault_before, "the vault was asked nothing");
    assert_eq!(
        asks(&nodes[1], "/servers/files/mcp", &for_files, &session, &call(1).to_string()).await.status,
        200
    );
    wait_until("the server has answered", || files.count(|asked| asked.rpc() == "tools/call") == 1).await;
    let shown = files.asked();
    assert!(shown.iter().all(|asked| asked.header("authorization") == "Bearer of-the-gateway-for-files"));
}
