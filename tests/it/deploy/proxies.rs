//! The files of deploy/proxies, as they are delivered, before three nodes: streams pass event by event and bear
//! silence, nodes leave without a failed request (at nginx with few) and die without many, and know where clients are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json as value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use crate::harness::{
    Client, Hand, POST, Stream, Upstream, Written, call, json, read, request, step, wait_until,
};
use crate::peers::MACHINE;
use crate::servers::{Balancer, Cluster, Kind, Setup};

/// What the proxies bear of silence here, and for how long streams say nothing.
const SILENCE: (&str, Duration) = ("2s", Duration::from_secs(5));

/// From the server to the client, through a node and the proxy.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Until every proxy has seen that a node left or came back.
const NOTICED: Duration = Duration::from_secs(2);

struct Scene {
    cluster: Cluster,
    /// Behind `/mcp`: its streams are the test's.
    hand: Hand,
    /// Behind `/servers/plain/mcp`: answers in JSON.
    _plain: Upstream,
    _turn: tokio::sync::RwLockReadGuard<'static, ()>,
}

impl Scene {
    async fn start(kind: Kind, settings: &[(&str, &str)]) -> Self {
        let turn = MACHINE.read().await;
        let hand = Hand::start().await;
        let plain = Upstream::start(|asked| json(asked, &value!({ "bytes": asked.raw.len() }))).await;
        let more = [
            ("servers.plain.upstream", &*plain.url),
            ("servers.plain.answers", "json"),
            ("servers.modern.upstream", &*hand.upstream.url),
            ("servers.modern.era", "modern"),
            ("http.trusted_proxies", "127.0.0.1"),
            ("telemetry.log_filter", "info,holdfast::edge=debug"),
            ("streams.keep_alive_interval", "500ms"),
            ("drain.notice", "4s"),
            ("drain.handover", "500ms"),
        ];
        let settings = more.iter().chain(settings);
        let settings = settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let balancer = Balancer { kind, silence: Some(SILENCE.0) };
        let setup = Setup { settings, balancer, ..Setup::default() };
        let url = hand.upstream.url.clone();
        let cluster = tokio::task::spawn_blocking(move || Cluster::set_up(&url, setup)).await.unwrap();
        Self { cluster, hand, _plain: plain, _turn: turn }
    }

    /// A session through the proxy.
    async fn client(&self, path: &str) -> Client {
        let mut client = Client::new(&format!("{}{path}", self.cluster.url()));
        client.initialize("2025-11-25").await;
        client
    }
}

/// The stream of a call, and the server's end of it.
async fn streaming(scene: &Scene, client: &Client) -> (Stream, Written) {
    let asked = call(1);
    let (mut stream, written) = tokio::join!(client.streamed(&asked), scene.hand.take("tools/call"));
    timeout(AT_ONCE, stream.primed()).await.expect("what a stream begins with comes at once");
    (stream, written)
}

async fn streams_pass(kind: Kind) {
    let scene = Scene::start(kind, &[]).await;
    let client = scene.client("").await;
    let (mut stream, written) = streaming(&scene, &client).await;
    let mut listening = Stream::new(client.get(None).await);
    let unasked = scene.hand.take("GET").await;
    for number in 0..5 {
        for (say, hear) in [(&written, &mut stream), (&unasked, &mut listening)] {
            say.say(&step(number)).await;
            let heard = timeout(AT_ONCE, hear.message()).await.expect("each event comes at once");
            assert_eq!(heard, step(number), "{kind:?}");
        }
    }
    sleep(SILENCE.1).await;
    for (say, hear) in [(&written, &mut stream), (&unasked, &mut listening)] {
        say.say(&step(5)).await;
        assert_eq!(timeout(AT_ONCE, hear.message()).await.expect("it is open"), step(5), "{kind:?}");
    }
    written.finish().await;
    assert_eq!(stream.rest().await.len(), 1);
    a_modern_client_cancels_by_leaving(&scene).await;
    large_requests_pass(&scene).await;
}

async fn a_modern_client_cancels_by_leaving(scene: &Scene) {
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let message = request(1, "tools/list", &value!({ "_meta": meta })).to_string();
    let headers: Vec<_> = POST
        .into_iter()
        .chain([("mcp-method", "tools/list"), ("mcp-protocol-version", "2026-07-28")])
        .collect();
    let url = format!("{}/servers/modern", scene.cluster.url());
    let client = Client::new(&url);
    let asking = client.send("POST", "/mcp", &headers, &message);
    let (response, written) = tokio::join!(asking, scene.hand.take("tools/list"));
    assert_eq!(response.status(), 200);
    drop((response, client));
    wait_until("the server learns of it", || written.is_closed()).await;
}

/// A token of some KiB, and a body just below `http.body_bytes_max`.
async fn large_requests_pass(scene: &Scene) {
    let mut client = scene.client("/servers/plain").await;
    client.headers.push(("x-token", "t".repeat(12 << 10)));
    let text = "x".repeat((4 << 20) - 1000);
    let asked = request(1, "tools/call", &value!({ "name": "x", "arguments": { "text": text } }));
    let answer = client.posted(&asked).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["result"]["bytes"].as_u64() > Some((4 << 20) - 1000), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_pass_event_by_event_and_bear_silence() {
    for kind in Kind::ALL {
        streams_pass(kind).await;
    }
}

/// Without comments the proxies cut what is silent, so they do look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_without_comments_is_cut() {
    for kind in Kind::ALL {
        let scene = Scene::start(kind, &[("streams.keep_alive", "off")]).await;
        let client = scene.client("").await;
        let mut listening = Stream::new(client.get(None).await);
        let ended = async { while listening.any().await.is_some() {} };
        timeout(SILENCE.1, ended).await.unwrap_or_else(|_| panic!("{kind:?} bears any silence"));
    }
}

const CLIENTS: usize = 8;

/// Clients that ask all the time, each on its session.
struct Asking {
    failed: Arc<Mutex<Vec<String>>>,
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Asking {
    async fn start(scene: &Scene) -> Self {
        let (failed, answered, stop): (Arc<Mutex<Vec<_>>>, Arc<AtomicUsize>, Arc<AtomicBool>) =
            Default::default();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let client = scene.client("/servers/plain").await;
            let (failed, answered, stop) = (failed.clone(), answered.clone(), stop.clone());
            #[expect(clippy::disallowed_methods, reason = "it is waited for")]
            clients.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match client.try_post(&request(1, "tools/list", &value!({}))).await {
                        Ok(response) if response.status() == 200 => {
                            let _ = read(response).await;
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(response) => failed.lock().unwrap().push(response.status().to_string()),
                        Err(error) => failed.lock().unwrap().push(format!("{error:?}")),
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }));
        }
        Self { failed, answered, stop, clients }
    }

    /// What went wrong since it was asked last.
    fn failed(&self) -> Vec<String> {
        std::mem::take(&mut *self.failed.lock().unwrap())
    }

    /// Nothing goes wrong for a while.
    async fn goes_well(&self, what: &str) {
        let before = self.answered.load(Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(self.failed(), [""; 0], "{what}");
        assert!(self.answered.load(Ordering::Relaxed) > before, "{what}");
    }

    /// What a node was doing is broken, and perhaps what was on its way to it; then nothing is any more.
    async fn recovers(&self, what: &str) {
        let (mut broken, mut well) = (Vec::new(), 0);
        for _ in 0..10 {
            sleep(Duration::from_secs(1)).await;
            let failed = self.failed();
            well = if failed.is_empty() { well + 1 } else { 0 };
            broken.extend(failed);
            assert!(broken.len() <= 2 * CLIENTS, "{what}: {broken:?}");
            if well == 2 {
                return;
            }
        }
        panic!("{what}: requests still fail: {broken:?}");
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        futures::future::join_all(self.clients).await;
    }
}

/// Whether some node of those that the proxy chooses says that it leaves.
async fn meets_a_leaving_node(cluster: &Cluster) -> bool {
    let client = Client::new(&cluster.url());
    let asked = (0..30).map(|_| client.try_ask("/health"));
    futures::future::join_all(asked).await.contains(&Some(503))
}

async fn nodes_come_and_go(kind: Kind) {
    let mut scene = Scene::start(kind, &[]).await;
    let asking = Asking::start(&scene).await;
    asking.goes_well("all are there").await;

    // One leaves.
    scene.cluster.process(0).signal("-TERM");
    sleep(NOTICED).await;
    // nginx doesn't look, and sends it requests as long as it takes them: some meet its end.
    assert_eq!(meets_a_leaving_node(&scene.cluster).await, kind == Kind::Nginx, "{kind:?}");
    let ended = tokio::task::block_in_place(|| scene.cluster.process(0).end(Duration::from_secs(20)));
    assert_eq!(ended, Some(0));
    let left = format!("{kind:?}: a node left");
    match kind {
        Kind::HaProxy | Kind::Envoy => asking.goes_well(&left).await,
        Kind::Nginx => asking.recovers(&left).await,
    }

    // It comes back, and is used again: it is the only one when the others are killed.
    tokio::task::block_in_place(|| scene.cluster.start_node(0));
    sleep(NOTICED).await;
    for node in [1, 2] {
        tokio::task::block_in_place(|| scene.cluster.kill_node(node));
        asking.recovers(&format!("{kind:?}: node {node} was killed")).await;
    }
    asking.finish().await;
    nodes_know_where_clients_are(&mut scene).await;
}

/// What the client says of itself is not believed.
async fn nodes_know_where_clients_are(scene: &mut Scene) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let address = scene.cluster.url().trim_start_matches("http://").parse().unwrap();
    let mut socket = socket.connect(address).await.unwrap();
    let nowhere = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
    socket.write_all(nowhere).await.unwrap();
    tokio::task::block_in_place(|| {
        scene.cluster.process(0).line_after(r#""client":"127.0.0.9","status":404"#)
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_leave_come_back_and_die() {
    for kind in Kind::ALL {
        nodes_come_and_go(kind).await;
    }
}
