//! Nothing waits longer than its limit says, and what ended is over (L16, L32, P5).

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use holdfast::app::Shared;
use serde_json::{Value, json as value};
use tokio::time::{Instant, sleep};

use crate::harness::{
    Client, Gateway, Hand, Upstream, accepted, call, configured, faulty, initialized, json, status, step,
    steps, wait_until,
};

async fn by_hand(settings: &[(&'static str, &str)]) -> (Hand, Gateway, Client) {
    let hand = Hand::start().await;
    let gateway = Gateway::start(&hand.upstream.url, settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    (hand, gateway, client)
}

fn cancel(id: u64) -> Value {
    value!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } })
}

#[tokio::test]
async fn l32_progress_prolongs_up_to_the_hard_limit_only() {
    let (hand, _gateway, client) =
        by_hand(&[("requests.timeout", "300ms"), ("requests.timeout_max", "900ms")]).await;
    let body = call(1);
    let started = Instant::now();
    let (mut stream, answer) = futures::join!(client.streamed(&body), async {
        let answer = hand.take("tools/call").await;
        answer.say(&step(0)).await;
        answer
    });
    let babbling = async {
        for number in 1.. {
            sleep(Duration::from_millis(50)).await;
            if answer.is_closed() {
                return;
            }
            answer.say(&step(number)).await;
        }
    };
    let (rest, ()) = futures::join!(stream.rest(), babbling);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(850) && took < Duration::from_secs(5), "{took:?}");
    let last = rest.last().unwrap();
    assert_eq!((last["id"].clone(), last["error"]["code"].clone()), (value!(1), value!(-32001)), "{last}");
    assert!(steps(&rest).len() >= 5, "it lived on progress for longer than requests.timeout");
    wait_until("the server is told", || {
        hand.upstream.count(|asked| asked.rpc() == "notifications/cancelled") == 1
    })
    .await;
}

#[tokio::test]
async fn l32_a_question_to_the_client_stops_the_soft_clock() {
    let (hand, _gateway, client) =
        by_hand(&[("requests.timeout", "200ms"), ("requests.timeout_max", "20s")]).await;
    let body = call(1);
    let (mut stream, answer) = futures::join!(client.streamed(&body), async {
        let answer = hand.take("tools/call").await;
        answer
            .say(&value!({ "jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {} }))
            .await;
        answer
    });
    assert_eq!(stream.message().await["id"], "q");
    // People take longer than servers.
    sleep(Duration::from_millis(500)).await;
    assert_eq!(client.posted(&value!({ "jsonrpc": "2.0", "id": "q", "result": {} })).await.status, 202);
    answer.finish().await;
    assert_eq!(stream.rest().await[0]["result"]["ok"], true);
}

#[tokio::test]
async fn l16_a_cancelled_call_may_still_answer_within_the_grace_and_frees_its_id() {
    let (hand, gateway, client) =
        by_hand(&[("requests.cancel_grace", "200ms"), ("requests.json_wait", "0s")]).await;
    let body = call(1);
    let mut stream = client.streamed(&body).await;
    let answer = hand.take("tools/call").await;
    assert_eq!(client.posted(&cancel(1)).await.status, 202);
    answer.finish().await;
    assert_eq!(stream.rest().await[0]["result"]["ok"], true, "it was faster than the cancel");
    let mut stream = client.streamed(&body).await;
    let answer = hand.take("tools/call").await;
    assert_eq!(client.posted(&cancel(1)).await.status, 202);
    let rest = stream.rest().await;
    assert!(rest.len() <= 1 && rest.iter().all(|message| message["id"] == 1), "{rest:?}");
    assert!(answer.is_closed());
    wait_until("nothing runs", || gateway.metric("holdfast_exchanges") == Some(0.0)).await;
    // Late and unknown ids are passed on and ignored.
    for id in [1, 99] {
        assert_eq!(client.posted(&cancel(id)).await.status, 202);
    }
    let (reply, ()) =
        futures::join!(client.streamed(&body), async { hand.take("tools/call").await.finish().await });
    drop(reply);
}

#[tokio::test]
async fn p4_the_same_id_twice_at_once_is_refused_and_the_first_goes_on() {
    let (hand, _gateway, client) = by_hand(&[("requests.json_wait", "0s")]).await;
    let body = call(1);
    let mut stream = client.streamed(&body).await;
    let second = client.posted(&body).await;
    assert_eq!((second.status, second.code()), (400, -32600), "{}", second.text);
    let other_spelling = value!({ "jsonrpc": "2.0", "id": "1", "method": "ping" });
    let (other, ()) =
        futures::join!(client.posted(&other_spelling), async { hand.take("ping").await.finish().await });
    assert_eq!(other.status, 200, "\"1\" is not 1");
    hand.take("tools/call").await.finish().await;
    assert_eq!(stream.rest().await.len(), 1);
}

/// A body that begins well and never ends.
fn hanging(kind: &str, start: &'static str) -> Response<Body> {
    let body =
        futures::stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from_static(start.as_bytes()))]);
    let body = futures::StreamExt::chain(body, futures::stream::pending());
    Response::builder().header("content-type", kind).body(Body::from_stream(body)).unwrap()
}

#[tokio::test]
async fn p5_wherever_an_upstream_hangs_there_is_an_answer_in_time() {
    let upstream = Upstream::bare(|asked| match asked.rpc() {
        "initialize" if asked.body["params"]["clientInfo"]["name"] == "hang" => {
            hanging("application/json", "{")
        }
        "initialize" => initialized(asked, "up-1"),
        "notifications/initialized" => accepted(),
        "in json" => hanging("application/json", r#"{"jsonrpc":"2.0","id":1,"#),
        "in an event" => hanging("text/event-stream", "data: {\"jsonrpc\":\"2.0\",\n"),
        "in comments" => hanging("text/event-stream", ":\n\n:\n\n"),
        _ if asked.method == "DELETE" => status(204),
        _ => hanging("text/plain", "x"),
    })
    .await;
    let settings = [("requests.timeout", "300ms"), ("requests.json_wait", "10s")];
    let gateway = Gateway::start(&upstream.url, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    for method in ["in json", "in an event", "in comments"] {
        let reply = client.posted(&value!({ "jsonrpc": "2.0", "id": 1, "method": method })).await;
        assert_eq!((reply.status, reply.code()), (504, -32001), "{method}: {}", reply.text);
    }
    let params =
        value!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "hang" } });
    let reply = gateway
        .client()
        .posted(&value!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }))
        .await;
    assert_eq!((reply.status, reply.code()), (504, -32001), "{}", reply.text);
    assert_eq!(
        upstream.count(|asked| asked.body["params"]["requestId"] == 0),
        0,
        "initialize is never cancelled"
    );
}

#[tokio::test]
async fn p5_a_server_that_accepts_connections_and_says_nothing_is_late() {
    // Nobody ever accepts: the kernel does, and that is all.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let settings = [("requests.timeout", "300ms"), ("servers.default.era", "legacy")];
    let gateway = Gateway::start(&url, &settings).await;
    let params = value!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} });
    let reply = gateway
        .client()
        .posted(&value!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }))
        .await;
    assert_eq!((reply.status, reply.code()), (504, -32001), "{}", reply.text);
    drop(listener);
}

#[tokio::test]
async fn p5_a_notification_that_hangs_is_504() {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let slow = Upstream::bare(move |asked| match asked.rpc() {
        "initialize" => initialized(asked, "up-1"),
        "notifications/initialized" => accepted(),
        _ => Response::builder()
            .status(500)
            .body(Body::from_stream(futures::stream::pending::<Result<Bytes, std::convert::Infallible>>()))
            .unwrap(),
    })
    .await;
    drop(upstream);
    let gateway = Gateway::start(&slow.url, &[("requests.timeout", "300ms")]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let started = Instant::now();
    let reply = client.posted(&value!({ "jsonrpc": "2.0", "method": "notifications/x" })).await;
    assert!(matches!(reply.status, 500 | 504), "{reply:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// A server that talks without a pause.
async fn babbling() -> Upstream {
    Upstream::start(|asked| match asked.rpc() {
        "tools/call" => {
            let line = Bytes::from(format!("data: {}\n\n", step(1)).repeat(1000));
            let lines = futures::stream::repeat_with(move || Ok::<_, std::convert::Infallible>(line.clone()));
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::from_stream(lines))
                .unwrap()
        }
        _ => json(asked, &value!({})),
    })
    .await
}

/// Each message takes longer to be logged than the next one to arrive.
async fn slowly_logging(upstream: &Upstream, settings: &[(&'static str, &str)]) -> Gateway {
    let config = configured(&upstream.url, settings);
    let (shared, faults) = faulty(Shared::memory(&config));
    faults.delay("append", Duration::from_millis(5), usize::MAX);
    Gateway::start_on(&config, shared).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l32_a_server_that_never_pauses_meets_the_hard_limit_all_the_same() {
    let upstream = babbling().await;
    let settings = [
        ("requests.timeout", "600ms"),
        ("requests.timeout_max", "600ms"),
        ("servers.default.answers", "json"),
    ];
    let gateway = slowly_logging(&upstream, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let reply = client.posted(&call(1)).await;
    assert_eq!((reply.status, reply.code()), (504, -32001), "{}", reply.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l16_a_server_that_never_pauses_can_be_cancelled() {
    let upstream = babbling().await;
    let settings = [("requests.cancel_grace", "200ms"), ("servers.default.answers", "json")];
    let gateway = slowly_logging(&upstream, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let body = call(1);
    let (_, cancelled) = futures::join!(client.posted(&body), async {
        wait_until("it runs", || upstream.count(|asked| asked.rpc() == "tools/call") == 1).await;
        client.posted(&cancel(1)).await
    });
    assert_eq!(cancelled.status, 202);
    wait_until("nothing runs", || gateway.metric("holdfast_exchanges") == Some(0.0)).await;
}

#[tokio::test]
async fn l16_a_cancel_counts_here_even_if_the_server_does_not_take_it() {
    let upstream = Upstream::bare(|asked| match asked.rpc() {
        "initialize" => initialized(asked, "up-1"),
        "notifications/initialized" => accepted(),
        "tools/call" => hanging("text/event-stream", ":\n"),
        // Its answer never ends.
        _ => {
            let mut response = hanging("text/plain", "x");
            *response.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    })
    .await;
    let settings =
        [("requests.cancel_grace", "100ms"), ("requests.json_wait", "0s"), ("requests.timeout", "30s")];
    let gateway = Gateway::start(&upstream.url, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let mut stream = client.streamed(&call(1)).await;
    let message = cancel(1);
    let told = client.posted(&message);
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.rest());
    tokio::select! {
        rest = ended => assert_eq!(rest.expect("the call ends in time").len(), 1),
        reply = told => panic!("{reply:?}"),
    }
}
