//! Somebody reaches the NATS of three nodes and has none of their keys: what they make up, record and send again,
//! or send elsewhere, does nothing to a session, and is counted. Without keys, each of it works.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use holdfast::adapters::nats::{Config, Keys, NatsBus};
use holdfast::app::Shared;
use holdfast::domain::SessionId;
use holdfast::hub::Audience;
use holdfast::ports::SessionStore;
use holdfast::protocol::jsonrpc;
use serde_json::{Value, json as value};
use tokio::time::{Instant, timeout, timeout_at};

use crate::harness::{Client, Gateway, Stream, Upstream, call, configured, json, step, wait_until};
use crate::servers::{KILLS_CLIENTS, Link, NOBODY_LISTENS, Nats, Way};

/// What has an effect has it within this time.
const SOON: Duration = Duration::from_millis(700);

const CHANGED: &str = "notifications/tools/list_changed";

/// What came out of a stream.
#[derive(Debug, PartialEq)]
enum Heard {
    Nothing,
    Message(Value),
    End,
}

async fn heard(stream: &mut Stream) -> Heard {
    let next = async {
        loop {
            match stream.any().await {
                None => return Heard::End,
                Some(event) => {
                    if let Some(data) = event.data.filter(|data| !data.is_empty()) {
                        return Heard::Message(serde_json::from_slice(&data).unwrap());
                    }
                }
            }
        }
    };
    timeout(SOON, next).await.unwrap_or(Heard::Nothing)
}

struct Outsider {
    nats: async_nats::Client,
    heard: Subscriber,
}

impl Outsider {
    async fn at(nats: &Nats) -> Self {
        let nats = async_nats::connect(nats.url()).await.unwrap();
        let heard = nats.subscribe("holdfast.>").await.unwrap();
        // The server does what a client says in order: once it hears itself, its subscription stands.
        nats.publish("holdfast.settled", "".into()).await.unwrap();
        let mut outsider = Self { nats, heard };
        outsider.record("holdfast.settled", "").await;
        outsider
    }

    /// The next message to this subject of which this is a part.
    async fn record(&mut self, subject: &str, part: &str) -> Message {
        let is = |message: &Message| {
            &*message.subject == subject && String::from_utf8_lossy(&message.payload).contains(part)
        };
        let next = async {
            loop {
                let message = self.heard.next().await.unwrap();
                if is(&message) {
                    return message;
                }
            }
        };
        timeout(SOON, next).await.expect("it passes by")
    }

    /// What has passed by, and does within a moment.
    async fn record_all(&mut self, subject: &str) -> Vec<Message> {
        let (mut recorded, until) = (Vec::new(), Instant::now() + SOON / 2);
        while let Ok(Some(message)) = timeout_at(until, self.heard.next()).await {
            recorded.extend(Some(message).filter(|message| &*message.subject == subject));
        }
        recorded
    }

    /// Sends what was recorded, to the same subject or to another, and waits a moment for an answer.
    async fn repeat(&self, subject: &str, message: &Message) {
        let headers = message.headers.clone().unwrap_or_default();
        let sent = self.nats.request_with_headers(subject.to_owned(), headers, message.payload.clone());
        let _ = timeout(SOON / 2, sent).await;
    }

    async fn forge(&self, subject: &str, head: &Value, payload: &str) {
        let message = Bytes::from(format!("{head}\n{payload}"));
        let _ = timeout(SOON / 2, self.nats.request(subject.to_owned(), message)).await;
    }
}

struct Scene {
    nats: Nats,
    /// Before it, for the nodes.
    link: Link,
    nodes: Vec<Gateway>,
    store: Arc<dyn SessionStore>,
    upstream: Upstream,
    session: String,
    /// The victim, at the node that does not have the session's upstream.
    client: Client,
    stream: Stream,
    outsider: Outsider,
}

impl Scene {
    async fn start(keys: Option<Keys>) -> Self {
        let nats = Nats::start();
        let link = Link::to(nats.port());
        let url = format!("nats://127.0.0.1:{}", link.port());
        let upstream = Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await;
        let config = configured(&upstream.url, &[("servers.default.pinned", "on")]);
        let shared = Shared::memory(&config);
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let bus = NatsBus::connect(&Config { url: url.clone(), keys: keys.clone(), ..nats.config() })
                .await
                .unwrap();
            let shared = Shared { bus: Arc::new(bus), ..shared.clone() };
            nodes.push(Gateway::start_on(&config, shared).await);
        }
        for node in &nodes {
            wait_until("all are alive", || node.metric("holdfast_nodes") == Some(3.0)).await;
        }
        let mut opened = nodes[0].client();
        opened.initialize("2025-11-25").await;
        let mut client = nodes[1].client();
        (client.session, client.version) = (opened.session.clone(), opened.version.clone());
        let stream = Stream::new(client.get(None).await);
        let outsider = Outsider::at(&nats).await;
        let (session, store) = (opened.session.unwrap(), shared.store);
        let mut scene = Self { nats, link, nodes, store, upstream, session, client, stream, outsider };
        scene.attach().await;
        scene
    }

    /// A stream on which what the first node says arrives.
    async fn attach(&mut self) {
        self.stream = Stream::new(self.client.get(None).await);
        self.stream.primed().await;
        self.say(1).await;
        let mut first = heard(&mut self.stream).await;
        // Whoever comes back is told what changed meanwhile.
        while first == Heard::Message(value!({ "jsonrpc": "2.0", "method": CHANGED })) {
            first = heard(&mut self.stream).await;
        }
        assert_eq!(first, Heard::Message(step(1)));
    }

    fn subject(&self, kind: &str, node: usize) -> String {
        format!("holdfast.v1.{kind}.{}", self.nodes[node].hub().node())
    }

    /// By the first node, to the victim's session.
    async fn say(&self, number: u64) {
        let message = jsonrpc::Message::parse(step(number).to_string().into()).unwrap();
        let to = Audience::Session(SessionId::parse(&self.session).unwrap());
        self.nodes[0].hub().publish(&to, &message).await.unwrap();
    }

    fn refused(&self) -> f64 {
        let reasons = ["unsigned", "unknown_key", "bad_signature", "stale", "replayed", "overtaken"];
        let of = |node: &Gateway, reason| {
            node.metric(&format!("holdfast_bus_refused_total{{reason=\"{reason}\"}}")).unwrap()
        };
        self.nodes.iter().map(|node| reasons.iter().map(|reason| of(node, reason)).sum::<f64>()).sum()
    }

    /// A parcel's head, as a node that there is not sends it.
    fn head(&self, number: u64, kind: &str) -> Value {
        let at = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        value!({
            "format": 1, "from": "outsider", "number": number, "at": at, "kind": kind, "session": self.session,
        })
    }

    async fn forged_hint(&mut self) -> bool {
        let mut head = self.head(1, "hint");
        (head["to_all"], head["server"]) = (true.into(), Value::Null);
        self.outsider.forge("holdfast.v1.all", &head, &step(66).to_string()).await;
        heard(&mut self.stream).await == Heard::Message(step(66))
    }

    async fn hint_for_all_sent_to_one(&mut self) -> bool {
        let hint = value!({ "jsonrpc": "2.0", "method": CHANGED });
        let message = jsonrpc::Message::parse(hint.to_string().into()).unwrap();
        self.nodes[0].hub().publish(&Audience::All, &message).await.unwrap();
        assert_eq!(heard(&mut self.stream).await, Heard::Message(hint.clone()));
        let recorded = self.outsider.record("holdfast.v1.all", CHANGED).await;
        self.outsider.repeat(&self.subject("node", 1), &recorded).await;
        heard(&mut self.stream).await == Heard::Message(hint)
    }

    async fn repeated_close(&mut self) -> bool {
        let id = SessionId::parse(&self.session).unwrap();
        assert!(self.nodes[0].hub().close_streams(&id).await.unwrap());
        assert_eq!(heard(&mut self.stream).await, Heard::End);
        let recorded = self.outsider.record("holdfast.v1.all", "close_streams").await;
        self.attach().await;
        self.outsider.repeat("holdfast.v1.all", &recorded).await;
        heard(&mut self.stream).await == Heard::End
    }

    async fn forged_close(&mut self) -> bool {
        let head = self.head(1, "close_streams");
        self.outsider.forge(&self.subject("node", 1), &head, "").await;
        heard(&mut self.stream).await == Heard::End
    }

    /// An event after the last one that the victim saw, of the stream's own fence.
    async fn forged_event(&mut self) -> bool {
        self.outsider.record_all("").await;
        self.say(2).await;
        assert_eq!(heard(&mut self.stream).await, Heard::Message(step(2)));
        let subject = self.subject("node", 1);
        let recorded = self.outsider.record(&subject, "appended").await;
        let head = recorded.payload.split(|&byte| byte == b'\n').next().unwrap();
        let mut head: Value = serde_json::from_slice(head).unwrap();
        let (ms, counter) = head["event"].as_str().unwrap().split_once('-').unwrap();
        let event = format!("{ms}-{}", counter.parse::<u64>().unwrap() + 1);
        (head["previous"], head["event"]) = (head["event"].clone(), event.into());
        let payload = Bytes::from(format!("{head}\n{}", step(66)));
        self.outsider.repeat(&subject, &Message { payload, ..recorded }).await;
        heard(&mut self.stream).await == Heard::Message(step(66))
    }

    async fn forged_end(&mut self) -> bool {
        let head = self.head(2, "session_ended");
        self.outsider.forge(&self.subject("node", 1), &head, "").await;
        heard(&mut self.stream).await == Heard::End
    }

    fn runs(&self, id: u64) -> usize {
        self.upstream.count(|asked| asked.rpc() == "tools/call" && asked.body["id"] == id)
    }

    /// A request that ran is told again, step by step.
    async fn repeated_request(&mut self) -> bool {
        let subject = self.subject("relay", 0);
        self.outsider.record_all("").await;
        assert_eq!(self.client.posted(&call(7)).await.status, 200);
        let steps = self.outsider.record_all(&subject).await;
        assert!(steps.len() >= 3 && self.runs(7) == 1, "{}", steps.len());
        for step in &steps {
            self.outsider.repeat(&subject, step).await;
        }
        self.runs(7) > 1
    }

    /// A request in the victim's session, by whoever knows the upstream's id of it.
    async fn forged_request(&mut self) -> bool {
        let subject = self.subject("relay", 0);
        let of = |step: Value| {
            let mut head = value!({ "format": 1, "from": "outsider", "relay": 1 });
            head.as_object_mut().unwrap().extend(step.as_object().unwrap().clone());
            head
        };
        let open = of(value!({ "step": "open", "server": "default", "lifetime_ms": 5000, "pieces": 1 }));
        let head = "POST\ncontent-type:application/json\naccept:application/json, text/event-stream\nmcp-session-id:up-1";
        self.outsider.forge(&subject, &open, head).await;
        let piece = of(value!({ "step": "piece", "number": 1 }));
        self.outsider.forge(&subject, &piece, &call(66).to_string()).await;
        let want = of(value!({ "step": "want", "number": 1, "within_ms": 1000 }));
        self.outsider.forge(&subject, &want, "").await;
        self.runs(66) > 0
    }
}

/// Which attacks worked, and whether each was counted.
async fn attacked(scene: &mut Scene) -> Vec<(&'static str, bool, bool)> {
    let mut outcomes = Vec::new();
    macro_rules! attack {
        ($($name:ident),+) => {$(
            let before = scene.refused();
            let worked = scene.$name().await;
            outcomes.push((stringify!($name), worked, scene.refused() > before));
            if worked {
                scene.attach().await;
            }
        )+};
    }
    attack!(forged_hint, hint_for_all_sent_to_one, repeated_close, forged_close, repeated_request);
    attack!(forged_request, forged_event, forged_end);
    outcomes
}

fn keys() -> Option<Keys> {
    let known = [("one".to_owned(), vec![7; 32])].into();
    Some(Keys { known, signing: "one".to_owned(), accept_unsigned: false })
}

#[tokio::test]
async fn a_poisoned_or_repeated_message_does_nothing_to_a_session_on_three_nodes() {
    let mut scene = Scene::start(keys()).await;
    for (attack, worked, counted) in attacked(&mut scene).await {
        assert!(!worked && counted, "{attack}: worked {worked}, counted {counted}");
    }
    scene.say(9).await;
    assert_eq!(heard(&mut scene.stream).await, Heard::Message(step(9)), "and what is genuine arrives");
    assert_eq!(scene.client.posted(&call(8)).await.status, 200);
    assert_eq!((scene.runs(7), scene.runs(66), scene.runs(8)), (1, 0, 1));
}

/// So that the other test can fail.
#[tokio::test]
async fn without_keys_each_of_these_attacks_works() {
    let mut scene = Scene::start(None).await;
    for (attack, worked, counted) in attacked(&mut scene).await {
        assert!(worked && !counted, "{attack}: worked {worked}, counted {counted}");
    }
}

/// Within which everything is as before, once nobody does harm any more.
const BACK: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_header_that_makes_the_clients_of_three_nodes_give_up_keeps_none_of_them_deaf() {
    let mut scene = Scene::start(keys()).await;
    let replaced = |node: &Gateway| node.metric("holdfast_bus_clients_replaced_total").unwrap();
    // Once, and again and again.
    for times in [1, 400] {
        let before: Vec<_> = scene.nodes.iter().map(replaced).collect();
        let mut raw = scene.nats.raw();
        for _ in 0..times {
            raw.say(KILLS_CLIENTS, &["holdfast.v1.all"]);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let since = Instant::now();
        for (node, before) in scene.nodes.iter().zip(before) {
            wait_until("it is noticed", || replaced(node) > before).await;
            assert!(replaced(node) - before < 12.0, "clients are replaced ever more slowly");
        }
        let answered = async {
            while scene.client.posted(&call(times)).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(BACK, answered).await.expect("requests reach another node's server");
        // Announced, so that nothing but the bus brings it.
        let hint = value!({ "jsonrpc": "2.0", "method": "notifications/prompts/list_changed" });
        let message = jsonrpc::Message::parse(hint.to_string().into()).unwrap();
        let heard_hint = async {
            loop {
                scene.nodes[0].hub().publish(&Audience::All, &message).await.unwrap();
                match heard(&mut scene.stream).await {
                    Heard::Message(heard) if heard == hint => return,
                    Heard::End => scene.stream = Stream::new(scene.client.get(None).await),
                    Heard::Nothing | Heard::Message(_) => {}
                }
            }
        };
        timeout(BACK, heard_hint).await.expect("nodes hear each other");
        for node in &scene.nodes {
            wait_until("all are alive", || node.metric("holdfast_nodes") == Some(3.0)).await;
        }
        println!("{times} times: back after {:?}", since.elapsed());
    }
}

/// Says of whatever nodes ask each other, before it is asked, that nobody hears it.
async fn say_that_nobody_listens(nats: &Nats, mut pings: Subscriber) {
    let next: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let (mut raw, subjects) = (nats.raw(), next.clone());
    let forging = std::thread::spawn(move || {
        while Arc::strong_count(&subjects) > 1 {
            let next = subjects.lock().unwrap().clone();
            let next = next
                .iter()
                .flat_map(|(inbox, number)| [1, 2].map(|more| format!("{inbox}.{}", number + more)));
            raw.say(NOBODY_LISTENS, &next.collect::<Vec<_>>());
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let until = Instant::now() + Duration::from_secs(6);
    while let Ok(ping) = timeout_at(until, pings.next()).await {
        let reply = ping.unwrap().reply.unwrap().to_string();
        let (inbox, number) = reply.rsplit_once('.').unwrap();
        next.lock().unwrap().insert(inbox.to_owned(), number.parse().unwrap());
    }
    drop(next);
    forging.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_that_nobody_listens_makes_no_node_dead() {
    let scene = Scene::start(keys()).await;
    let pings = scene.outsider.nats.subscribe("holdfast.v1.ping.*").await.unwrap();
    // What is said meanwhile comes before any answer.
    scene.link.set(Way::Slow(Duration::from_millis(15)));
    let alive = async {
        loop {
            assert_eq!(scene.store.nodes().await.unwrap().len(), 3, "all keep their leases");
            for node in &scene.nodes {
                assert_eq!(node.metric("holdfast_node_deaths_total"), Some(0.0));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = alive => {}
        () = say_that_nobody_listens(&scene.nats, pings) => {}
    }
    assert_eq!(scene.client.posted(&call(7)).await.status, 200);
}
