//! Long results in JSON pass before their end is there, at the pace of their client.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json as value};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::hostile::{MIB, costs};
use crate::harness::{Client, Gateway, POST, Stream, Upstream, call, initialize, request, wait_until};
use crate::peers::process::holdfast;

const SOON: Duration = Duration::from_secs(10);

/// Longer than what is held, and shorter than what passes at once between two sockets.
const LONG: usize = 100_000;

type Pen = mpsc::Sender<io::Result<String>>;

/// A server whose answers the test writes, piece by piece, into bodies of JSON.
struct Scribe {
    upstream: Upstream,
    pens: mpsc::Receiver<Pen>,
}

impl Scribe {
    async fn start() -> Self {
        let (give, pens) = mpsc::channel(8);
        let upstream = Upstream::start(move |_| {
            let (pen, mut pieces) = mpsc::channel(1);
            give.try_send(pen).unwrap();
            let pieces = futures::stream::poll_fn(move |context| pieces.poll_recv(context));
            Response::builder()
                .header("content-type", "application/json")
                .body(Body::from_stream(pieces))
                .unwrap()
        })
        .await;
        Self { upstream, pens }
    }

    /// The next request's answer, of which `head` and a long text were said.
    async fn begun(&mut self, head: &str) -> Pen {
        let pen = self.pens.recv().await.unwrap();
        pen.send(Ok(format!("{head}{}", "x".repeat(LONG)))).await.unwrap();
        pen
    }

    async fn before(&self, settings: &[(&'static str, &str)]) -> (Gateway, Client) {
        let gateway = Gateway::start(&self.upstream.url, settings).await;
        let mut client = gateway.client();
        client.initialize("2025-11-25").await;
        (gateway, client)
    }
}

/// What the TypeScript SDK writes: whose result it is comes last.
const HEAD: &str = r#"{"result":{"text":""#;
const TAIL: &str = r#""},"jsonrpc":"2.0","id":1}"#;

fn whole() -> String {
    format!("{HEAD}{}{TAIL}", "x".repeat(LONG))
}

async fn some(body: &mut Incoming) -> usize {
    let frame = timeout(SOON, body.frame()).await.expect("a piece in time").unwrap().unwrap();
    frame.data_ref().unwrap().len()
}

/// The rest of a body, or nothing if it broke off.
async fn rest(body: Incoming) -> Option<usize> {
    let collected = timeout(SOON, body.collect()).await.expect("an end in time");
    collected.ok().map(|body| body.to_bytes().len())
}

fn modern_call() -> (Vec<(&'static str, &'static str)>, Value) {
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let headers =
        POST.into_iter().chain([("mcp-method", "tools/list"), ("mcp-protocol-version", "2026-07-28")]);
    (headers.collect(), request(1, "tools/list", &value!({ "_meta": meta })))
}

#[tokio::test]
async fn a_long_result_passes_before_its_end_is_there() {
    let mut scribe = Scribe::start().await;
    for setting in [("servers.default.answers", "auto"), ("servers.default.answers", "json")] {
        let (gateway, client) = scribe.before(&[setting]).await;
        let asking = call(1);
        let (mut response, pen) = futures::join!(client.post(&asking), scribe.begun(HEAD));
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"application/json".parse().unwrap())
        );
        let mut read = 0;
        while read < HEAD.len() + LONG {
            read += some(response.body_mut()).await;
        }
        assert_eq!(gateway.metric("holdfast_exchanges"), Some(1.0));
        pen.send(Ok(TAIL.to_owned())).await.unwrap();
        drop(pen);
        assert_eq!(rest(response.into_body()).await, Some(TAIL.len()));
        assert_eq!(gateway.metric("holdfast_exchanges"), Some(0.0));
        assert_eq!(
            gateway.metric(r#"holdfast_exchanges_ended_total{method="tools/call",outcome="answered"}"#),
            Some(1.0)
        );
    }
}

#[tokio::test]
async fn a_long_result_passes_without_a_session_too() {
    let mut scribe = Scribe::start().await;
    let (headers, body) = modern_call();
    let alone = call(1);
    for (setting, headers, body) in [
        (("servers.default.era", "modern"), &headers[..], &body),
        (("servers.default.sessions", "stateless"), &POST[..], &alone),
    ] {
        let gateway = Gateway::start(&scribe.upstream.url, &[setting]).await;
        let (client, body) = (gateway.client(), body.to_string());
        let (mut response, pen) =
            futures::join!(client.send("POST", "/mcp", headers, &body), scribe.begun(HEAD));
        assert_eq!(response.status(), 200);
        let mut read = some(response.body_mut()).await;
        pen.send(Ok(TAIL.to_owned())).await.unwrap();
        drop(pen);
        read += rest(response.into_body()).await.unwrap();
        assert_eq!(read, whole().len());
    }
}

#[tokio::test]
async fn p9_a_long_answer_is_the_same_however_it_goes_on() {
    let mut scribe = Scribe::start().await;
    // On a stream, and where the answer is remembered, it is held to its end.
    let (_gateway, client) = scribe.before(&[("servers.default.answers", "sse")]).await;
    let asking = call(1);
    let (mut stream, ()) = futures::join!(client.streamed(&asking), async {
        scribe.begun(HEAD).await.send(Ok(TAIL.to_owned())).await.unwrap();
    });
    assert_eq!(stream.message().await.to_string().len(), whole().len());
    let (_gateway, client) = scribe.before(&[]).await;
    let asking = request(1, "resources/subscribe", &value!({ "uri": "x:1" }));
    let (reply, ()) = futures::join!(client.posted(&asking), async {
        scribe.begun(HEAD).await.send(Ok(TAIL.to_owned())).await.unwrap();
    });
    assert_eq!(reply.text, whole());
    // A longer error than is held, and one that does not know its request.
    let head = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"#;
    let asking = call(7);
    let (reply, ()) = futures::join!(client.posted(&asking), async {
        scribe.begun(&format!("{head}\"")).await.send(Ok("\"}}".to_owned())).await.unwrap();
    });
    assert_eq!((reply.status, reply.json()["id"].clone(), reply.code()), (200, value!(7), -1));
}

#[tokio::test]
async fn a_long_answer_of_a_batch_is_held() {
    let mut scribe = Scribe::start().await;
    let mut second = call(2);
    second["method"] = value!("prompts/get");
    for settings in [&[][..], &[("servers.default.sessions", "stateless")][..]] {
        let gateway = Gateway::start(&scribe.upstream.url, settings).await;
        let mut client = gateway.client();
        if settings.is_empty() {
            client.initialize("2025-03-26").await;
        }
        let asking = value!([call(1), second]);
        let (reply, ()) = futures::join!(client.posted(&asking), async {
            for tail in [TAIL.to_owned(), TAIL.replace(":1}", ":2}")] {
                scribe.begun(HEAD).await.send(Ok(tail)).await.unwrap();
            }
        });
        let ids: Vec<_> =
            reply.json().as_array().unwrap().iter().map(|answer| answer["id"].clone()).collect();
        assert!(ids.len() == 2 && ids.contains(&value!(1)) && ids.contains(&value!(2)), "{ids:?}");
    }
}

#[tokio::test]
async fn what_turns_out_to_be_no_answer_breaks_off() {
    let mut scribe = Scribe::start().await;
    let (gateway, client) = scribe.before(&[("upstream.message_bytes_max", "150KiB")]).await;
    let ends: [(&str, io::Result<String>); 7] = [
        ("another's", Ok(TAIL.replace(":1}", ":2}"))),
        ("cut", Err(io::Error::other("cut"))),
        ("not whole", Ok(r#""},"jsonrpc":"2.0","id":1"#.to_owned())),
        ("nobody's", Ok(r#""},"jsonrpc":"2.0"}"#.to_owned())),
        ("two things", Ok(r#""},"error":{},"jsonrpc":"2.0","id":1}"#.to_owned())),
        ("more than one", Ok(format!("{TAIL}{{}}"))),
        ("too long", Ok(format!("{}{TAIL}", "x".repeat(LONG)))),
    ];
    let broken = ends.len();
    for (what, end) in ends {
        let asking = call(1);
        let (mut response, pen) = futures::join!(client.post(&asking), scribe.begun(HEAD));
        some(response.body_mut()).await;
        pen.send(end).await.unwrap();
        drop(pen);
        assert_eq!(rest(response.into_body()).await, None, "{what}");
    }
    let failed =
        gateway.metric(r#"holdfast_exchanges_ended_total{method="tools/call",outcome="upstream_failed"}"#);
    assert_eq!(failed, Some(broken as f64));
    // What is known at once is said at once.
    for head in [r#"{"jsonrpc":"2.0","id":2,"result":{"text":""#, r#"{"result":{},"result":{"text":""#] {
        let asking = call(1);
        let (reply, ()) = futures::join!(client.posted(&asking), async {
            let _ = scribe.begun(head).await.send(Ok(TAIL.to_owned())).await;
        });
        assert_eq!((reply.status, reply.json()["id"].clone()), (502, value!(1)), "{}", reply.text);
    }
}

#[tokio::test]
async fn p5_a_long_answer_ends_with_its_time_its_session_its_request_and_its_client() {
    let mut scribe = Scribe::start().await;
    let times = [("requests.timeout", "700ms"), ("requests.cancel_grace", "50ms")];
    let (gateway, client) = scribe.before(&times).await;
    let other = client.clone();
    let cancel =
        value!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    for what in ["cancelled", "timed_out", "client_gone", "abandoned"] {
        let asking = call(1);
        let (mut response, pen) = futures::join!(client.post(&asking), scribe.begun(HEAD));
        some(response.body_mut()).await;
        match what {
            "cancelled" => assert_eq!(other.posted(&cancel).await.status, 202),
            "abandoned" => assert_eq!(other.delete().await.status, 204),
            _ => {}
        }
        if what == "client_gone" {
            drop(response);
        } else {
            assert_eq!(rest(response.into_body()).await, None, "{what}");
        }
        timeout(SOON, pen.closed()).await.expect("its server is let go");
        let line = format!(r#"holdfast_exchanges_ended_total{{method="tools/call",outcome="{what}"}}"#);
        wait_until(what, || gateway.metric(&line) == Some(1.0)).await;
        assert_eq!(gateway.metric("holdfast_exchanges"), Some(0.0), "{what}");
    }
}

#[tokio::test]
async fn p8_a_client_that_reads_nothing_has_an_end_too() {
    let mut scribe = Scribe::start().await;
    let settings = [("requests.timeout", "500ms"), ("requests.timeout_max", "1s")];
    let (gateway, client) = scribe.before(&settings).await;
    let asking = call(1);
    let (response, pen) = futures::join!(client.post(&asking), scribe.begun(HEAD));
    let writing = async { while pen.send(Ok("x".repeat(LONG))).await.is_ok() {} };
    timeout(SOON, writing).await.expect("its server is let go");
    let line = r#"holdfast_exchanges_ended_total{method="tools/call",outcome="timed_out"}"#;
    wait_until("counted", || gateway.metric(line) == Some(1.0)).await;
    assert_eq!(rest(response.into_body()).await, None);
    let told = |asked: &crate::harness::Asked| asked.rpc() == "notifications/cancelled";
    wait_until("its server is told", || scribe.upstream.count(told) == 1).await;
}

#[tokio::test]
async fn a_long_answer_of_a_known_length_keeps_it() {
    let upstream = Upstream::start(|_| {
        Response::builder().header("content-type", "application/json").body(Body::from(whole())).unwrap()
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    for round in 1..=3 {
        let reply = client.posted(&call(1)).await;
        assert_eq!(
            (reply.text, reply.headers["content-length"].to_str().ok()),
            (whole(), Some(&*whole().len().to_string()))
        );
        let line = r#"holdfast_exchanges_ended_total{method="tools/call",outcome="answered"}"#;
        wait_until("counted", || gateway.metric(line) == Some(f64::from(round))).await;
    }
}

#[tokio::test]
async fn a_slow_client_is_not_held_against_its_server() {
    let mut scribe = Scribe::start().await;
    let (_gateway, client) = scribe.before(&[("requests.timeout", "300ms")]).await;
    let asking = call(1);
    let (mut response, pen) = futures::join!(client.post(&asking), scribe.begun(HEAD));
    let mut read = some(response.body_mut()).await;
    let writing = async {
        for _ in 0..100 {
            pen.send(Ok("x".repeat(LONG))).await.unwrap();
        }
        pen.send(Ok(TAIL.to_owned())).await.unwrap();
        drop(pen);
    };
    let reading = async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        read += rest(response.into_body()).await.expect("all of it");
    };
    futures::join!(writing, reading);
    assert_eq!(read, whole().len() + 100 * LONG);
}

#[tokio::test]
async fn p6_a_node_that_ends_lets_a_long_answer_pass() {
    let mut scribe = Scribe::start().await;
    let (gateway, client) = scribe.before(&[]).await;
    let asking = call(1);
    let (mut response, pen) = futures::join!(client.post(&asking), scribe.begun(HEAD));
    let mut read = some(response.body_mut()).await;
    let stopping = gateway.stop();
    let finishing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        pen.send(Ok(TAIL.to_owned())).await.unwrap();
        drop(pen);
        read += rest(response.into_body()).await.expect("all of it");
    };
    let (ending, ()) = futures::join!(stopping, finishing);
    assert_eq!((ending, read), (holdfast::lifecycle::Ending::Clean, whole().len()));
}

#[tokio::test]
async fn s4_a_long_answer_of_an_older_client_is_one_event() {
    let mut scribe = Scribe::start().await;
    let gateway = Gateway::start(&scribe.upstream.url, &[]).await;
    let client = gateway.client();
    let mut stream = Stream::new(client.sse().await);
    let endpoint = stream.any().await.unwrap().data.unwrap();
    let path = String::from_utf8(endpoint.to_vec()).unwrap();
    let say = |body: Value| {
        let (client, path) = (client.clone(), path.clone());
        async move { client.ask("POST", &path, &POST, &body.to_string()).await.status }
    };
    assert_eq!(say(initialize("2024-11-05")).await, 202);
    assert!(stream.message().await["result"].is_object());
    assert_eq!(say(call(1)).await, 202);
    scribe.begun(HEAD).await.send(Ok(TAIL.to_owned())).await.unwrap();
    assert_eq!(stream.message().await["result"]["text"].as_str().map(str::len), Some(LONG));
}

/// Forty clients that do not read, of answers of 12 MiB each, against the binary, whose memory can be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_long_answers_cost_what_is_under_way() {
    const ANSWERS: u64 = 40;
    let upstream = Upstream::start(|asked| {
        let head = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"text":""#, asked.body["id"]);
        let pieces = std::iter::once(head)
            .chain(std::iter::repeat_n("x".repeat(MIB as usize / 16), 12 * 16))
            .chain([r#""}}"#.to_owned()]);
        let pieces = futures::stream::iter(pieces.map(Ok::<_, std::convert::Infallible>));
        Response::builder()
            .header("content-type", "application/json")
            .body(Body::from_stream(pieces))
            .unwrap()
    })
    .await;
    let process = holdfast(&["--upstream", &upstream.url]);
    let mut client = Client::new(&process.url());
    client.initialize("2025-11-25").await;
    let cost = costs(&process, async {
        let responses: Vec<_> = futures::stream::iter(0..ANSWERS)
            .then(|number| {
                let client = &client;
                async move { client.post(&call(number + 1)).await }
            })
            .collect()
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for response in responses {
            assert!(rest(response.into_body()).await.is_some_and(|read| read as u64 > 12 * MIB));
        }
    })
    .await;
    println!("{ANSWERS} answers of 12 MiB cost {} MiB", cost / MIB);
    assert!(cost < 60 * MIB, "{} MiB", cost / MIB);
}
