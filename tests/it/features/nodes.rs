//! Several nodes on one shared state, and the end of a node.

use holdfast::app::Shared;
use holdfast::lifecycle::Ending;
use serde_json::{Value, json as value};

use crate::harness::{Gateway, Stream, Upstream, configured, json, sse};

fn call(id: u64) -> Value {
    value!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "slow" } })
}

fn line(message: &Value) -> String {
    format!("data: {message}\n\n")
}

fn progress(step: u64) -> String {
    line(&value!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "step": step } }))
}

/// A slow tool that the test feeds; everything else at once.
async fn slow() -> (Upstream, tokio::sync::mpsc::Sender<String>) {
    let (send, receive) = tokio::sync::mpsc::channel::<String>(16);
    let receive = std::sync::Mutex::new(Some(receive));
    let upstream = Upstream::start(move |asked| {
        if asked.body["params"]["name"] != "slow" {
            return json(asked, &value!({}));
        }
        let Some(mut receive) = receive.lock().unwrap().take() else { return sse().1 };
        let frames = futures::stream::poll_fn(move |context| receive.poll_recv(context));
        let frames = futures::StreamExt::map(frames, Ok::<_, std::convert::Infallible>);
        axum::http::Response::builder()
            .header("content-type", "text/event-stream")
            .body(axum::body::Body::from_stream(frames))
            .unwrap()
    })
    .await;
    (upstream, send)
}

#[tokio::test]
async fn p1_any_node_serves_any_session_and_takes_over_its_streams() {
    let (upstream, feed) = slow().await;
    let config = configured(&upstream.url, &[]);
    let shared = Shared::memory(&config);
    let a = Gateway::start_on(&config, shared.clone()).await;
    let b = Gateway::start_on(&config, shared).await;
    let mut client = a.client();
    client.initialize("2025-11-25").await;
    let mut elsewhere = b.client();
    (elsewhere.session, elsewhere.version) = (client.session.clone(), client.version.clone());
    let ping = value!({ "jsonrpc": "2.0", "id": 9, "method": "ping" });
    assert_eq!(elsewhere.posted(&ping).await.status, 200);

    feed.send(progress(1)).await.unwrap();
    let mut stream = client.streamed(&call(1)).await;
    assert_eq!(stream.message().await["params"]["step"], 1);
    let position = stream.position.clone().unwrap();
    // The client comes back on the other node, while the call runs on the first.
    let mut moved = Stream::new(elsewhere.get(Some(&position)).await);
    feed.send(progress(2)).await.unwrap();
    assert_eq!(moved.message().await["params"]["step"], 2);
    feed.send(line(&value!({ "jsonrpc": "2.0", "id": 1, "result": {} }))).await.unwrap();
    let rest = moved.rest().await;
    assert_eq!((rest.len(), rest[0]["id"].clone()), (1, value!(1)));
    assert!(stream.rest().await.is_empty(), "the old socket was closed, and said nothing twice");

    let mut open = Stream::new(client.get(None).await);
    assert_eq!(elsewhere.delete().await.status, 204);
    assert!(open.rest().await.is_empty(), "its streams end on every node");
    assert_eq!(client.posted(&ping).await.status, 404);
}

#[tokio::test]
async fn a_node_that_is_told_to_end_finishes_what_runs_and_says_when_to_come_back() {
    let (upstream, feed) = slow().await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let mut get = Stream::new(client.get(None).await);
    feed.send(progress(1)).await.unwrap();
    let mut running = client.streamed(&call(1)).await;
    assert_eq!(running.message().await["params"]["step"], 1);
    let client_url = gateway.url.clone();
    let ending = async { gateway.stop().await };
    let meanwhile = async {
        assert!(get.rest().await.is_empty());
        assert_eq!(get.retries, 2, "one at the start, one at the end");
        feed.send(line(&value!({ "jsonrpc": "2.0", "id": 1, "result": {} }))).await.unwrap();
        assert_eq!(running.rest().await.len(), 1, "the running call gets its answer");
    };
    let (ending, ()) = futures::join!(ending, meanwhile);
    assert_eq!(ending, Ending::Clean);
    assert_eq!(upstream.count(|asked| asked.method == "DELETE"), 1, "the upstream is told");
    let address = client_url.trim_start_matches("http://");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_ended_with_an_error() {
    let (upstream, feed) = slow().await;
    let gateway = Gateway::start(&upstream.url, &[("drain.timeout", "1s")]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    feed.send(progress(1)).await.unwrap();
    let mut running = client.streamed(&call(1)).await;
    assert_eq!(running.message().await["params"]["step"], 1);
    let (ending, rest) = futures::join!(gateway.stop(), running.rest());
    assert!(matches!(ending, Ending::Forced { .. }), "{ending:?}");
    assert_eq!(rest[0]["error"]["code"], -32000, "{rest:?}");
    let _ = upstream;
}

#[tokio::test]
async fn operators_see_whether_it_lives_and_is_ready() {
    let (upstream, _feed) = slow().await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let admin = crate::harness::Client::new(&gateway.admin);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(admin.ask("GET", path, &[], "").await.status, 200, "{path}");
    }
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let health = gateway.client().ask("GET", "/health", &[], "").await.json();
    assert_eq!(
        (health["status"].clone(), health["paths"]["http_sse"].clone()),
        (value!("ok"), value!("/sse"))
    );
    let query =
        holdfast::ports::Query { capability: Some("elicitation".to_owned()), limit: 5, ..Default::default() };
    assert_eq!(
        gateway.hub().find(&query).await.unwrap().sessions.len(),
        1,
        "which sessions can do elicitation?"
    );
}
