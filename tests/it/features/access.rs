//! Who may call, and whose a session is: on every node what is somebody else's looks as if it did not exist (P2).

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast::app::Shared;
use holdfast::auth::mint;
use serde_json::{Value, json as value};

use crate::harness::{
    Client, Faults, Gateway, POST, Reply, Stream, Upstream, call, configured, faulty, initialize, json, read,
    step,
};

const GET: [(&str, &str); 1] = [("accept", "text/event-stream")];

/// Method, path, headers and body.
type Way = (&'static str, String, Vec<(&'static str, String)>, String);

struct Callers {
    nodes: Vec<(Gateway, Arc<Faults>)>,
    alice: String,
    bob: String,
}

impl Callers {
    /// Three nodes on one state, and two who may call.
    async fn start(upstream: &Upstream) -> Self {
        let ((alice, alices), (bob, bobs)) = (mint(), mint());
        let settings = [
            ("auth.mode", "tokens"),
            ("auth.tokens.alice.sha256", &*alices),
            ("auth.tokens.bob.sha256", &*bobs),
        ];
        let config = configured(&upstream.url, &settings);
        let shared = Shared::memory(&config);
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let (shared, faults) = faulty(shared.clone());
            nodes.push((Gateway::start_on(&config, shared).await, faults));
        }
        Self { nodes, alice, bob }
    }

    fn client(&self, node: usize, token: &str) -> Client {
        let mut client = self.nodes[node].0.client();
        client.token = Some(token.to_owned());
        client
    }
}

async fn answering() -> Upstream {
    Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await
}

/// Every way to ask, of a session `id` that is reached over Streamable HTTP and one over HTTP+SSE.
fn ways(streamable: &str, http_sse: &str) -> Vec<Way> {
    let note = value!({ "jsonrpc": "2.0", "method": "notifications/x" });
    let answer = value!({ "jsonrpc": "2.0", "id": "q", "result": { "action": "accept" } });
    let cancel =
        value!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    let session = ("mcp-session-id", streamable.to_owned());
    let mut ways = Vec::new();
    for base in ["", "/servers/default"] {
        for body in [&call(1), &note, &answer, &cancel] {
            ways.push(("POST", format!("{base}/mcp"), vec![session.clone()], body.to_string()));
            let path = format!("{base}/message?sessionId={http_sse}");
            ways.push(("POST", path, vec![], body.to_string()));
        }
        let position = |text: String| ("last-event-id", text);
        ways.push(("GET", format!("{base}/mcp"), vec![session.clone()], String::new()));
        let resume = vec![session.clone(), position("g.1-0".to_owned())];
        ways.push(("GET", format!("{base}/mcp"), resume, String::new()));
        let resume = vec![position(format!("{http_sse}.s.1-0"))];
        ways.push(("GET", format!("{base}/sse"), resume, String::new()));
        ways.push(("DELETE", format!("{base}/mcp"), vec![session.clone()], String::new()));
    }
    ways
}

async fn asked(client: &Client, way: &Way) -> Reply {
    let (method, path, own, body) = way;
    let mut headers: Vec<(&str, &str)> = if *method == "POST" { POST.to_vec() } else { GET.to_vec() };
    headers.extend(own.iter().map(|(name, value)| (*name, value.as_str())));
    read(client.send(method, path, &headers, body).await).await
}

/// All that a client sees of an answer, but the time.
fn seen(reply: &Reply, session: &str) -> (u16, BTreeMap<String, String>, String) {
    let headers = reply.headers.iter().filter(|(name, _)| *name != "date");
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
    (reply.status, headers, reply.text.replace(session, "ID"))
}

#[tokio::test]
async fn a2_whoever_has_no_valid_token_gets_no_further() {
    let upstream = answering().await;
    let callers = Callers::start(&upstream).await;
    let opening = initialize("2025-11-25").to_string();
    let mut ways = ways("s", "s");
    ways.push(("POST", "/mcp".to_owned(), vec![], opening));
    ways.push(("GET", "/sse".to_owned(), vec![], String::new()));
    let shown = [
        (None, 401, "Bearer"),
        (Some("Basic abc"), 401, "Bearer"),
        (Some("Bearer"), 400, r#"Bearer error="invalid_request""#),
        (Some("Bearer nobodys"), 401, r#"Bearer error="invalid_token""#),
    ];
    for (node, faults) in &callers.nodes {
        faults.count();
        for way in &ways {
            for (credential, status, challenge) in shown {
                let mut way = way.clone();
                way.2.extend(credential.map(|credential| ("authorization", credential.to_owned())));
                let reply = asked(&node.client(), &way).await;
                assert_eq!((reply.status, reply.header("www-authenticate")), (status, challenge), "{way:?}");
                assert_eq!((reply.code(), reply.json()["id"].clone()), (-32000, Value::Null), "{way:?}");
            }
        }
        assert_eq!(faults.count(), BTreeMap::new(), "the store is not asked");
    }
    assert_eq!(upstream.asked().len(), 0);
    let health = callers.nodes[0].0.client().ask("GET", "/health", &[], "").await;
    assert_eq!(health.status, 200);
}

#[tokio::test]
async fn p2_a_foreign_session_looks_like_one_that_does_not_exist() {
    let upstream = answering().await;
    let callers = Callers::start(&upstream).await;
    let mut alice = callers.client(0, &callers.alice);
    alice.initialize("2025-11-25").await;
    let mut unasked = Stream::new(alice.get(None).await);
    let own_sse = callers.client(1, &callers.alice);
    let mut http_sse = Stream::new(own_sse.sse().await);
    let endpoint = String::from_utf8(http_sse.any().await.unwrap().data.unwrap().to_vec()).unwrap();
    let opened = own_sse.ask("POST", &endpoint, &POST, &initialize("2024-11-05").to_string()).await;
    assert_eq!(opened.status, 202);
    assert!(http_sse.message().await["result"].is_object());
    let (theirs, theirs_sse) =
        (alice.session.clone().unwrap(), endpoint.split_once('=').unwrap().1.to_owned());
    let absent = uuid::Uuid::new_v4().simple().to_string();
    let before = upstream.asked().len();
    // Twice: what a node has learnt of the session shows no more than what it has not.
    for _ in 0..2 {
        for (node, (_, faults)) in callers.nodes.iter().enumerate() {
            let bob = callers.client(node, &callers.bob);
            for (foreign, missing) in ways(&theirs, &theirs_sse).iter().zip(&ways(&absent, &absent)) {
                faults.count();
                let foreign_reply = asked(&bob, foreign).await;
                let foreign_steps = faults.count();
                let missing_reply = asked(&bob, missing).await;
                let missing_steps = faults.count();
                let session = if foreign.1.contains("message") || foreign.1.contains("sse") {
                    &theirs_sse
                } else {
                    &theirs
                };
                assert_eq!(seen(&foreign_reply, session), seen(&missing_reply, &absent), "{foreign:?}");
                assert_eq!(foreign_steps, missing_steps, "{foreign:?} on node {node}");
                assert_eq!(foreign_reply.status, 404, "{foreign:?}");
            }
        }
    }
    assert_eq!(upstream.asked().len(), before, "nothing of it reached the server");
    // Nothing happened to it.
    let mut elsewhere = callers.client(2, &callers.alice);
    (elsewhere.session, elsewhere.version) = (alice.session.clone(), alice.version.clone());
    assert_eq!(elsewhere.posted(&call(2)).await.status, 200);
    let published = step(1);
    let message =
        holdfast::protocol::jsonrpc::Message::parse(published.to_string().into_bytes().into()).unwrap();
    let session = holdfast::domain::SessionId::parse(&theirs).unwrap();
    let audience = holdfast::hub::Audience::Session(session);
    callers.nodes[1].0.hub().publish(&audience, &message).await.unwrap();
    assert_eq!(unasked.message().await, published);
    let reply = own_sse.ask("POST", &endpoint, &POST, &call(3).to_string()).await;
    assert_eq!((reply.status, http_sse.message().await["id"].clone()), (202, value!(3)));
}

#[tokio::test]
async fn a8_a_token_never_goes_up() {
    let upstream = answering().await;
    let callers = Callers::start(&upstream).await;
    let mut alice = callers.client(0, &callers.alice);
    alice.initialize("2025-11-25").await;
    let _stream = alice.get(None).await;
    assert_eq!(alice.posted(&call(1)).await.status, 200);
    assert_eq!(alice.delete().await.status, 204);
    assert!(upstream.count(|asked| asked.rpc() == "tools/call") == 1);
    let told = |asked: &crate::harness::Asked| {
        asked.headers.values().any(|value| value.to_str().is_ok_and(|value| value.contains(&*callers.alice)))
    };
    assert_eq!(upstream.count(told), 0);
}
