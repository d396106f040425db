//! The operators' API: the same from any node.

use std::process::Command;
use std::time::Duration;

use holdfast::app::{Listeners, Shared};
use holdfast::auth::mint;
use serde_json::{Value, json as value};

use crate::harness::{Client, Gateway, Hand, Stream, Upstream, call, configured, json, wait_until};
use crate::servers::Folder;

struct Two {
    hand: Hand,
    a: Gateway,
    b: Gateway,
    client: Client,
}

async fn two() -> Two {
    let hand = Hand::start().await;
    let config = configured(&hand.upstream.url, &[("requests.json_wait", "50ms")]);
    let shared = Shared::memory(&config);
    let a = Gateway::start_on(&config, shared.clone()).await;
    let b = Gateway::start_on(&config, shared).await;
    let mut client = a.client();
    client.initialize("2025-11-25").await;
    wait_until("both are alive", || b.metric("holdfast_nodes") == Some(2.0)).await;
    Two { hand, a, b, client }
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn ask(gateway: &Gateway, method: &str, path: &str, body: &str) -> (u16, Value) {
    let reply = Client::new(&gateway.admin).ask(method, path, &JSON, body).await;
    (reply.status, serde_json::from_str(&reply.text).unwrap_or_default())
}

#[tokio::test]
async fn sessions_are_seen_from_any_node() {
    let two = two().await;
    let id = two.client.session.clone().unwrap();
    let _stream = Stream::new(two.client.get(None).await);
    let body = call(1);
    let (_running, answer) = futures::join!(two.client.streamed(&body), two.hand.take("tools/call"));
    for node in [&two.a, &two.b] {
        let (status, list) =
            ask(node, "GET", "/api/sessions?capability=elicitation&server=default", "").await;
        assert_eq!((status, list["sessions"][0]["id"].as_str()), (200, Some(&*id)), "{list}");
        let (_, none) = ask(node, "GET", "/api/sessions?capability=sampling", "").await;
        assert_eq!(none, value!({ "sessions": [], "more": false }));
        let (status, shown) = ask(node, "GET", &format!("/api/sessions/{id}"), "").await;
        assert_eq!((status, shown["streams"].as_array().unwrap().len()), (200, 2), "{shown}");
        assert_eq!(shown["streams"][0]["holder"]["node"], two.a.hub().node().as_str());
        assert_eq!(shown["running"][0]["request"], "1");
        let (_, nodes) = ask(node, "GET", "/api/nodes", "").await;
        assert_eq!(nodes["nodes"].as_array().unwrap().len(), 2, "{nodes}");
    }
    drop(answer);
    for (path, expected) in [
        ("/api/sessions/none", 404),
        ("/api/sessions?server=nope", 404),
        ("/api/sessions?limit=0", 400),
        ("/api/sessions?after=a%20b", 400),
    ] {
        assert_eq!(ask(&two.b, "GET", path, "").await.0, expected, "{path}");
    }
}

#[tokio::test]
async fn streams_and_sessions_are_ended_from_any_node() {
    let two = two().await;
    let id = two.client.session.clone().unwrap();
    let mut stream = Stream::new(two.client.get(None).await);
    let path = format!("/api/sessions/{id}/close-streams");
    assert_eq!(ask(&two.b, "POST", &path, "{}").await.0, 204);
    assert!(stream.rest().await.is_empty());
    assert!(stream.retries >= 1, "it is told when to come back");
    let mut again = Stream::new(two.client.get(stream.position.as_deref()).await);
    assert_eq!(ask(&two.b, "DELETE", &format!("/api/sessions/{id}"), "").await.0, 204);
    assert!(again.rest().await.is_empty());
    assert_eq!(two.client.posted(&call(1)).await.status, 404);
    assert_eq!(ask(&two.b, "DELETE", &format!("/api/sessions/{id}"), "").await.0, 404);
    wait_until("the upstream is told", || two.hand.upstream.count(|asked| asked.method == "DELETE") == 1)
        .await;
}

#[tokio::test]
async fn what_is_published_reaches_every_session_once() {
    let two = two().await;
    let mut other = two.b.client();
    other.initialize("2025-11-25").await;
    let mut streams = [Stream::new(two.client.get(None).await), Stream::new(other.get(None).await)];
    let message = value!({ "jsonrpc": "2.0", "method": "notifications/x", "params": { "n": 1 } });
    let body = value!({ "server": "default", "message": message }).to_string();
    assert_eq!(ask(&two.b, "POST", "/api/publish", &body).await, (200, value!({ "sessions": 2 })));
    for stream in &mut streams {
        assert_eq!(stream.message().await, message);
        assert!(stream.position.is_some(), "it can be resumed after it");
    }
    // A hint isn't logged, and whoever is away learns of it all the same.
    let [_, ended] = streams;
    let position = ended.position.clone();
    drop(ended);
    wait_until("it is gone", || two.b.metric("holdfast_streams{kind=\"get\"}") == Some(0.0)).await;
    let hint = value!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
    let body = value!({ "all": true, "message": hint }).to_string();
    assert_eq!(ask(&two.a, "POST", "/api/publish", &body).await, (200, value!({ "hinted": true })));
    let mut back = Stream::new(other.get(position.as_deref()).await);
    assert_eq!(back.message().await, hint);

    for (body, expected) in [
        (value!({ "message": hint }), 400),
        (value!({ "all": true, "server": "default", "message": hint }), 400),
        (value!({ "all": true, "message": call(1) }), 400),
        (value!({ "session": "none", "message": hint }), 404),
        (value!({ "server": "nope", "message": hint }), 404),
        (value!({ "all": true, "massage": 1, "message": hint }), 400),
    ] {
        let (status, answer) = ask(&two.a, "POST", "/api/publish", &body.to_string()).await;
        assert_eq!((status, answer["error"].is_string()), (expected, true), "{body}: {answer}");
    }
}

#[tokio::test]
async fn pages_in_a_browser_do_not_reach_the_api() {
    let two = two().await;
    let admin = Client::new(&two.a.admin);
    let rebound = admin.ask("GET", "/api/sessions", &[("host", "evil.example:4445")], "").await;
    assert_eq!(rebound.status, 403);
    let origin = admin.ask("GET", "/api/sessions", &[("origin", "https://evil.example")], "").await;
    assert_eq!(origin.status, 403);
    let simple = admin.ask("POST", "/api/publish", &[("content-type", "text/plain")], "{}").await;
    assert_eq!(simple.status, 415);
}

fn holdfast(arguments: &[&str], token: Option<&str>) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    let output =
        command.args(arguments).envs(token.map(|token| ("HOLDFAST_ADMIN_TOKEN", token))).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_is_a_client_of_it() {
    let two = two().await;
    let id = two.client.session.clone().unwrap();
    let admin = two.b.admin.clone();
    let run = |arguments: &[&str]| {
        let arguments = [arguments, &["--admin", &admin]].concat();
        tokio::task::block_in_place(|| holdfast(&arguments, None))
    };
    let (ok, list) = run(&["sessions"]);
    assert!(ok && list.starts_with("SESSION") && list.contains(&id), "{list}");
    let (ok, json) = run(&["sessions", "--json", "--capability", "sampling"]);
    assert!(ok && serde_json::from_str::<Value>(&json).unwrap()["sessions"] == value!([]), "{json}");
    let (ok, shown) = run(&["sessions", "show", &id]);
    assert!(ok && shown.contains("HELD BY") && shown.contains(&id), "{shown}");
    // What a node says of itself is as old as its last beat.
    let mut listed = run(&["nodes"]);
    for _ in 0..100 {
        if listed.1.matches("  ready  ").count() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        listed = run(&["nodes"]);
    }
    let (ok, nodes) = listed;
    assert!(ok && nodes.contains(two.a.hub().node().as_str()) && nodes.contains("(asked)"), "{nodes}");
    let ready = nodes.matches("  ready  ").count();
    assert!(nodes.starts_with("NODE") && nodes.contains("PHASE") && ready == 2, "{nodes}");
    for asking in [&["sessions", "--server", "nope"][..], &["publish", "--server", "nope", "notifications/x"]]
    {
        let (ok, said) = run(asking);
        assert!(!ok && said.contains("no server is called nope; there are: default"), "{said}");
    }
    let (ok, said) = run(&["publish", "--all", "notifications/tools/list_changed"]);
    assert!(ok, "{said}");
    let (ok, said) = run(&["publish", "--session", &id, "notifications/x", r#"{"a":1}"#]);
    assert!(ok && said.contains("1 session"), "{said}");
    let (ok, said) = run(&["sessions", "end", &id]);
    assert!(ok && said == "ended\n", "{said}");
    let (ok, said) = run(&["sessions", "show", &id]);
    assert!(!ok && said.contains("Session not found"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tokens_of_its_own_it_answers_nobody_else_and_says_nothing_secret() {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let ((client_token, clients), (token, digest)) = (mint(), mint());
    let (key, secret) = ("upstr3am-key", "0123456789abcdef0123456789abcdef");
    let settings = [
        ("admin.tokens.ops.sha256", &*digest),
        ("auth.mode", "tokens"),
        ("auth.tokens.ci.sha256", &*clients),
        ("auth.issuers.dev.issuer", "dev"),
        ("auth.issuers.dev.secret", secret),
        ("public_url", "http://localhost"),
    ];
    let gateway = Gateway::start(&format!("{}?key={key}", upstream.url), &settings).await;
    let mut client = gateway.client().with_token(&client_token);
    client.initialize("2025-11-25").await;
    let id = client.session.clone().unwrap();
    let _stream = Stream::new(client.get(None).await);
    let asking = |token: Option<&str>| {
        let client = Client::new(&gateway.admin);
        token.map_or(client.clone(), |token| client.with_token(token))
    };
    let session = format!("/api/sessions/{id}");
    let publication = value!({ "all": true, "message": { "jsonrpc": "2.0", "method": "notifications/x" } });
    let (publication, close) = (publication.to_string(), format!("{session}/close-streams"));
    let all = [
        ("GET", "/api/sessions", ""),
        ("GET", &*session, ""),
        ("GET", "/api/nodes", ""),
        ("POST", "/api/publish", &*publication),
        ("POST", &*close, "{}"),
        ("DELETE", &*session, ""),
    ];
    for (method, path, body) in all {
        for wrong in [None, Some("hf_guess"), Some(&*client_token), Some(&*digest)] {
            let refused = asking(wrong).ask(method, path, &JSON, body).await;
            assert_eq!(
                (refused.status, refused.header("www-authenticate")),
                (401, "Bearer"),
                "{method} {path}"
            );
        }
        let page = [JSON.as_slice(), &[("origin", "https://evil.example")]].concat();
        assert_eq!(asking(Some(&token)).ask(method, path, &page, body).await.status, 403);
    }
    assert_eq!(client.posted(&call(1)).await.status, 200, "nothing of it was done");
    let mut said = String::new();
    for (method, path, body) in all {
        // By whatever name it is reached.
        let named = [JSON.as_slice(), &[("host", "gateway.internal:4445")]].concat();
        let answer = asking(Some(&token)).ask(method, path, &named, body).await;
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        said += &format!("{:?}{}", answer.headers, answer.text);
    }
    for open in ["/livez", "/readyz", "/metrics"] {
        let answer = asking(None).ask("GET", open, &[], "").await;
        assert_eq!(answer.status, 200, "{open}");
        said += &answer.text;
    }
    for hidden in [&*client_token, &clients, &token, &digest, key, secret] {
        assert!(!said.contains(hidden), "{hidden} is in {said}");
    }

    // Its tools.
    let folder = Folder::new();
    let file = folder.write("token", &format!("{token}\n"));
    let run = |arguments: &[&str], token: Option<&str>| {
        let arguments = [arguments, &["--admin", &gateway.admin]].concat();
        tokio::task::block_in_place(|| holdfast(&arguments, token))
    };
    let (ok, said) = run(&["nodes"], None);
    assert!(!ok && said.contains("HOLDFAST_ADMIN_TOKEN"), "{said}");
    let (ok, said) = run(&["nodes"], Some("hf_guess"));
    assert!(!ok && !said.contains("hf_guess"), "{said}");
    let (ok, said) = run(&["nodes"], Some(&token));
    assert!(ok && said.contains("(asked)"), "{said}");
    let (ok, said) = run(&["sessions", "--token-file", file.to_str().unwrap()], None);
    assert!(ok, "{said}");
    let (ok, said) = run(&["nodes", "--token-file", "nowhere"], Some(&token));
    assert!(!ok && said.contains("--token-file"), "{said}");
    let (ok, made) = tokio::task::block_in_place(|| holdfast(&["token", "--admin", "ops"], Some(&token)));
    assert!(ok && made.contains("\nadmin:\n  tokens:\n    ops:\n      sha256: "), "{made}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_this_machine_it_is_there_with_tokens_only() {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let (token, digest) = mint();
    for (settings, status) in [(vec![], 404), (vec![("admin.tokens.ops.sha256", &*digest)], 200)] {
        let config = configured(&upstream.url, &settings);
        // What listens on every address of this machine is asked by its own.
        let listeners = Listeners::bind("127.0.0.1:0".parse().unwrap(), "0.0.0.0:0".parse().unwrap());
        let listeners = listeners.await.unwrap();
        let admin = format!("http://127.0.0.1:{}", listeners.admin_address().unwrap().port());
        let node = holdfast::app::Gateway::start(&config, listeners, Shared::memory(&config)).unwrap();
        let operator = Client::new(&admin).with_token(&token);
        assert_eq!(operator.ask("GET", "/api/nodes", &[], "").await.status, status);
        assert_eq!(operator.ask("GET", "/readyz", &[], "").await.status, 200);
        let asking = ["nodes", "--admin", &admin];
        let (ok, said) = tokio::task::block_in_place(|| holdfast(&asking, Some(&token)));
        assert!(if status == 200 { ok } else { said.contains("set admin.tokens") }, "{said}");
        node.stop().await;
    }
}
