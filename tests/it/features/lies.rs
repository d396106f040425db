//! Upstreams that lie about what they send, or break off in the middle of it.

use std::time::Duration;

use serde_json::{Value, json as value};

use crate::harness::{Act, Client, Gateway, Hand, Request, call, raw_upstream, step, wait_until, whole};

const JSON: &str = "200 OK\r\nContent-Type: application/json";
const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";

fn result(id: &Value, said: &str) -> String {
    value!({ "jsonrpc": "2.0", "id": id, "result": { "said": said } }).to_string()
}

fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

fn say(text: impl Into<Vec<u8>>) -> Act {
    Act::Say(text.into())
}

fn answer(request: &Request) -> Vec<Act> {
    let id = &request.body["id"];
    let ours = result(id, "ours");
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let ok = whole(JSON, &ours);
    let events = |text: &str| whole("200 OK\r\nContent-Type: text/event-stream", text);
    match request.rpc() {
        "early hints" => vec![say("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), ok],
        "many 100" => vec![say("HTTP/1.1 100 Continue\r\n\r\n".repeat(50)), ok],
        "until the end" => {
            vec![say(format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{ours}")), Act::Close]
        }
        "odd lines" => vec![events(&format!(
            "\u{feff}: hi\r\rid: a\0b\rretry: soon\rretry: 99999999999999999999\rdata:{ours}\r\r"
        ))],
        "drip" => vec![Act::Drip(
            format!("{EVENTS}Content-Length: {}\r\n\r\n{}", event(&ours).len(), event(&ours)).into_bytes(),
        )],
        "two responses" => vec![events(&[event(&ours), event(&result(id, "again"))].concat())],
        "nameless error" => {
            vec![events(&event(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"said ours"}}"#))]
        }
        // Whoever takes the rest for the next answer gives one client what another asked for.
        "a second response behind" => match whole(JSON, &result(&value!(1), "theirs")) {
            Act::Say(behind) => vec![ok, Act::Say(behind)],
            _ => vec![],
        },
        "switching" => {
            vec![say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")]
        }
        "gzip" => vec![say([
            format!("HTTP/1.1 {JSON}\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n").as_bytes(),
            b"\x1f\x8b\x08\x00",
        ]
        .concat())],
        "gzip events" => vec![say([
            format!("{EVENTS}Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n").as_bytes(),
            b"\x1f\x8b\x08\x00\r\n",
        ]
        .concat())],
        "too short" => {
            vec![say(format!("HTTP/1.1 {JSON}\r\nContent-Length: 1000\r\n\r\n{ours}")), Act::Close]
        }
        "half a chunk" => vec![
            say(format!("HTTP/1.1 {JSON}\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n{ours}")),
            Act::Close,
        ],
        "no chunk" => {
            vec![say(format!("HTTP/1.1 {JSON}\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{ours}"))]
        }
        "reset" => vec![say(format!("HTTP/1.1 {JSON}\r\nContent-Length: 1000\r\n\r\n{{")), Act::Reset],
        "reset events" => vec![
            say(format!("{EVENTS}Transfer-Encoding: chunked\r\n\r\n{}", chunk(&event(&ours)[..20]))),
            Act::Reset,
        ],
        "reset at once" => vec![Act::Reset],
        "half a head" => vec![say("HTTP/1.1 200 OK\r\nContent-"), Act::Close],
        "no http" => vec![say(b"\x16\x03\x01\x00\xff".repeat(20))],
        "endless head" => vec![say(format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(200_000)))],
        "two lengths" => vec![say(format!(
            "HTTP/1.1 {JSON}\r\nContent-Length: 5\r\nContent-Length: {}\r\n\r\n{ours}",
            ours.len()
        ))],
        "no type" => vec![whole("200 OK", &ours)],
        "wrong type" => vec![whole("200 OK\r\nContent-Type: text/event-stream", &ours)],
        "events as json" => vec![whole(JSON, &event(&ours))],
        "accepted" => vec![whole("202 Accepted", "")],
        "other id" => vec![events(&event(&result(&value!("1"), "theirs")))],
        "moved" => vec![whole("308 Permanent Redirect\r\nLocation: http://127.0.0.1:9/", "")],
        "utf-16" => {
            vec![say([format!("HTTP/1.1 {JSON}\r\nContent-Length: 6\r\n\r\n").as_bytes(), b"\xff\xfe{\0}\0"]
                .concat())]
        }
        "not utf-8" => vec![events("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"\u{fffd}\"")],
        _ => vec![ok],
    }
}

async fn lying() -> (Gateway, Client) {
    let gateway = Gateway::start(&raw_upstream(answer).await, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    (gateway, client)
}

async fn ask(client: &Client, method: &str) -> (u16, String) {
    let asking = value!({ "jsonrpc": "2.0", "id": 1, "method": method });
    let reply = tokio::time::timeout(Duration::from_secs(5), client.posted(&asking));
    let reply = reply.await.unwrap_or_else(|_| panic!("{method} hangs"));
    (reply.status, reply.text)
}

#[tokio::test]
async fn odd_answers_that_are_right_are_understood() {
    let (_gateway, client) = lying().await;
    for method in [
        "early hints",
        "many 100",
        "until the end",
        "odd lines",
        "drip",
        "two responses",
        "nameless error",
        "a second response behind",
    ] {
        let (status, text) = ask(&client, method).await;
        assert!(
            status == 200 && text.contains("ours") && !text.contains("again"),
            "{method}: {status} {text}"
        );
        let (status, text) = ask(&client, "plain").await;
        assert!(status == 200 && text.contains("ours"), "after {method}: {status} {text}");
    }
}

#[tokio::test]
async fn false_and_broken_answers_are_a_502_at_once() {
    let (_gateway, client) = lying().await;
    for method in [
        "switching",
        "gzip",
        "gzip events",
        "too short",
        "half a chunk",
        "no chunk",
        "reset",
        "reset events",
        "reset at once",
        "half a head",
        "no http",
        "endless head",
        "two lengths",
        "no type",
        "wrong type",
        "events as json",
        "accepted",
        "other id",
        "moved",
        "utf-16",
        "not utf-8",
    ] {
        let (status, text) = ask(&client, method).await;
        assert!(status == 502 && text.contains("upstream default at"), "{method}: {status} {text}");
        let named = method.split(' ').next().filter(|name| *name == "gzip");
        assert!(named.is_none_or(|name| text.contains(name)), "{method}: {text}");
        let (status, text) = ask(&client, "plain").await;
        assert!(status == 200 && text.contains("ours"), "after {method}: {status} {text}");
    }
}

#[tokio::test]
async fn a_notification_is_not_answered_with_a_redirect_or_an_upgrade() {
    let (_gateway, client) = lying().await;
    for method in ["switching", "moved", "reset at once"] {
        let reply = client.posted(&value!({ "jsonrpc": "2.0", "method": method })).await;
        assert_eq!(reply.status, 502, "{method}: {}", reply.text);
    }
}

#[tokio::test]
async fn upstreams_are_asked_for_plain_bytes() {
    let hand = Hand::start().await;
    let gateway = Gateway::start(&hand.upstream.url, &[]).await;
    gateway.client().initialize("2025-11-25").await;
    assert_eq!(hand.upstream.count(|asked| asked.header("accept-encoding") != "identity"), 0);
}

/// A position that can't be said again must not become a request for another stream.
#[tokio::test]
async fn an_upstreams_event_id_goes_back_as_it_came_or_not_at_all() {
    let hand = Hand::start().await;
    let settings = [("upstream.reconnect_delay", "100ms")];
    let gateway = Gateway::start(&hand.upstream.url, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    for (number, id) in
        ["plain", "\u{e9}\u{4e16}", "two words", "\u{1}", &"x".repeat(100_000)].into_iter().enumerate()
    {
        let number = u64::try_from(number).unwrap();
        let mut stream = client.streamed(&call(number)).await;
        let written = hand.take("tools/call").await;
        written.say_as(id, &step(number)).await;
        assert_eq!(stream.message().await["params"]["progress"], number);
        drop(written);
        if number < 3 {
            let again = hand.take("GET").await;
            let position =
                again.asked.headers.get("last-event-id").map(|position| position.as_bytes().to_vec());
            assert_eq!(position.as_deref(), Some(id.as_bytes()));
            again.say(&serde_json::from_str(&result(&value!(number), "ours")).unwrap()).await;
            assert_eq!(stream.message().await["result"]["said"], "ours");
        } else {
            assert_eq!(stream.message().await["error"]["code"], -32000, "{id:.10}");
            assert_eq!(
                hand.upstream
                    .count(|asked| asked.method == "GET" && !asked.headers.contains_key("last-event-id")),
                0
            );
        }
    }
    wait_until("nothing runs", || gateway.metric("holdfast_exchanges") == Some(0.0)).await;
}
