//! A client whose connection is cut at any byte and that comes back with its position gets each event
//! once and in order; on bare sockets, so that the byte is exact.

use holdfast::protocol::sse::Decoder;
use proptest::prelude::*;
use serde_json::{Value, json as value};

use crate::harness::{Gateway, Hand, Heard, POST, Socket, call, step, steps};

/// The kinds of streams that can be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Post,
    Get,
    HttpSse,
}

/// What happens to a client's stream.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// The server says this many things.
    Say(u64),
    /// The client reads to at most this byte of its connection, and the connection is cut.
    Cut(usize),
}

/// What a client knows after some connections.
#[derive(Debug, Default)]
struct Known {
    messages: Vec<Value>,
    position: Option<String>,
}

/// The events that were complete within the first `bytes` of a body.
fn events(body: &[u8], bytes: usize) -> Known {
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(&body[..bytes.min(body.len())]);
    let mut known = Known::default();
    while let Some(event) = decoder.next().unwrap() {
        known.position = event.id.or(known.position);
        let data = event.data.filter(|data| !data.is_empty());
        known.messages.extend(data.and_then(|data| serde_json::from_slice::<Value>(&data).ok()));
    }
    known
}

impl Known {
    fn add(&mut self, more: Self) {
        self.messages.extend(more.messages);
        self.position = more.position.or(self.position.take());
    }
}

struct Cutting {
    gateway: Gateway,
    hand: Hand,
}

impl Cutting {
    async fn start() -> Self {
        let hand = Hand::start().await;
        let settings = [("streams.keep_alive", "off"), ("requests.json_wait", "0s")];
        let gateway = Gateway::start(&hand.upstream.url, &settings).await;
        Self { gateway, hand }
    }

    /// Plays one stream's life. Whatever is said, cut and resumed: the client has it all at the end.
    async fn play(&self, kind: Kind, acts: &[Act]) {
        let mut client = self.gateway.client();
        let base = self.gateway.url.clone();
        let mut known = Known::default();
        let body = call(1).to_string();
        let session;
        let mut socket = match kind {
            Kind::Post | Kind::Get => {
                client.initialize("2025-11-25").await;
                session = client.session.clone().unwrap();
                let own = [("Mcp-Session-Id", &*session)];
                match kind {
                    Kind::Post => {
                        let headers: Vec<_> = POST.into_iter().chain(own).collect();
                        Socket::request(&base, "POST", "/mcp", &headers, &body).await
                    }
                    _ => resume(&base, kind, &session, None).await,
                }
            }
            Kind::HttpSse => {
                session = String::new();
                let mut socket = resume(&base, kind, &session, None).await;
                let heard = socket.hear(|heard| !events_text(&heard.body).is_empty()).await;
                let endpoint = events_text(&heard.body).remove(0);
                let initialize = value!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params":
                    { "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {} } });
                let posted = client.ask("POST", &endpoint, &POST, &initialize.to_string()).await;
                assert_eq!(posted.status, 202, "{posted:?}");
                socket.hear(|heard| events(&heard.body, usize::MAX).messages.len() == 1).await;
                assert_eq!(client.ask("POST", &endpoint, &POST, &body).await.status, 202);
                socket
            }
        };
        let writing = self.hand.take(if kind == Kind::Get { "GET" } else { "tools/call" }).await;
        let mut said = 0;
        for act in acts {
            match *act {
                Act::Say(count) => {
                    for _ in 0..count {
                        writing.say(&step(said)).await;
                        said += 1;
                    }
                }
                Act::Cut(bytes) => {
                    let first = steps(&known.messages).len() as u64;
                    let enough = |heard: &Heard| {
                        heard.body.len() >= bytes
                            || first + steps(&events(&heard.body, usize::MAX).messages).len() as u64 >= said
                                && events(&heard.body, usize::MAX).position.is_some()
                    };
                    let heard = socket.hear(enough).await;
                    assert_eq!(heard.status, 200, "{kind:?} {acts:?}");
                    let more = events(&heard.body, bytes);
                    if more.position.is_none() && known.position.is_none() {
                        // Before the first event id there is nothing to come back with: this connection goes on.
                        continue;
                    }
                    known.add(more);
                    drop(socket);
                    socket = resume(&base, kind, &session, known.position.as_deref()).await;
                }
            }
        }
        let last = step(said);
        writing.say(&last).await;
        // A server's own stream stays open; dropped, it would be asked for again.
        let _listening = match kind {
            Kind::Get => Some(writing),
            Kind::Post | Kind::HttpSse => {
                writing.finish().await;
                None
            }
        };
        let answered = |messages: &[Value]| messages.iter().filter(|message| message["id"] == 1).count();
        let got = steps(&known.messages).len() as u64;
        let heard = socket
            .hear(|heard| {
                let more = events(&heard.body, usize::MAX).messages;
                let complete = got + steps(&more).len() as u64 > said;
                complete && (kind == Kind::Get || answered(&more) > 0)
            })
            .await;
        known.add(events(&heard.body, usize::MAX));
        let wanted: Vec<u64> = (0..=said).collect();
        assert_eq!(steps(&known.messages), wanted, "{kind:?} {acts:?}");
        assert_eq!(answered(&known.messages), usize::from(kind != Kind::Get), "{kind:?} {acts:?}");
        if kind != Kind::HttpSse {
            assert_eq!(client.delete().await.status, 204);
        }
    }
}

async fn resume(base: &str, kind: Kind, session: &str, position: Option<&str>) -> Socket {
    let mut headers = vec![("Accept", "text/event-stream")];
    headers.extend(position.map(|position| ("Last-Event-ID", position)));
    match kind {
        Kind::HttpSse => Socket::request(base, "GET", "/sse", &headers, "").await,
        Kind::Post | Kind::Get => {
            headers.push(("Mcp-Session-Id", session));
            Socket::request(base, "GET", "/mcp", &headers, "").await
        }
    }
}

/// The data of the events, whatever it is.
fn events_text(body: &[u8]) -> Vec<String> {
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(body);
    let mut all = Vec::new();
    while let Some(event) = decoder.next().unwrap() {
        all.extend(event.data.map(|data| String::from_utf8_lossy(&data).into_owned()));
    }
    all
}

/// Every byte of what a stream begins with and of two events, one client for each.
async fn every_byte(kind: Kind) {
    let cutting = Cutting::start().await;
    let bytes_max = if kind == Kind::HttpSse { 680 } else { 360 };
    for bytes in 1..bytes_max {
        cutting.play(kind, &[Act::Say(2), Act::Cut(bytes), Act::Say(1)]).await;
    }
}

#[tokio::test]
async fn l22_a_post_stream_cut_at_every_byte_loses_nothing() {
    every_byte(Kind::Post).await;
}

#[tokio::test]
async fn l22_a_get_stream_cut_at_every_byte_loses_nothing() {
    every_byte(Kind::Get).await;
}

#[tokio::test]
async fn s1_an_http_sse_stream_cut_at_every_byte_loses_nothing() {
    every_byte(Kind::HttpSse).await;
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![(0u64..6).prop_map(Act::Say), (1usize..1200).prop_map(Act::Cut)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 60, ..ProptestConfig::default() })]
    #[test]
    fn cut_again_and_again_while_the_server_speaks_each_event_comes_once(
        kind in prop::sample::select(vec![Kind::Post, Kind::Get, Kind::HttpSse]),
        acts in prop::collection::vec(act(), 1..14),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Cutting::start().await.play(kind, &acts).await });
    }
}
