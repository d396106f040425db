//! What was promised is kept: the node that said 202, or began to answer with a stream, is killed right
//! then, and every client gets a result or an error all the same (P4, P5).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json as value};
use tokio::time::{Instant, timeout};

use super::load::{Load, call};
use super::server::LedgerServer;
use super::{Scene, load};
use crate::harness::{Client, POST, Stream, request};
use crate::servers::{Cluster, Setup};

/// The node that everybody posts to.
const DOOMED: usize = 1;

const CLIENTS: usize = 100;
const ROUNDS: u64 = 4;

/// From its death. It is known after three seconds.
const SOON: Duration = Duration::from_secs(10);

/// A client between two calls. Its streams come from the balancer.
enum Asker {
    Streamable(Client),
    HttpSse { client: Client, endpoint: String, stream: Box<Stream> },
}

/// What became of one call.
enum Outcome {
    /// The connection broke before anything was said: nothing was promised.
    Unpromised,
    Answered {
        answer: Value,
        at: Instant,
    },
    /// A promise that nothing followed.
    Silence,
}

#[derive(Default)]
struct Tally {
    unpromised: usize,
    results: usize,
    errors: usize,
    worst: Duration,
}

impl Asker {
    async fn streamable(base: &str) -> Self {
        let mut client = Client::new(base);
        client.initialize("2025-11-25").await;
        Self::Streamable(client)
    }

    async fn http_sse(base: &str) -> Self {
        let client = Client::new(base);
        let mut stream = Box::new(Stream::new(client.sse().await));
        let endpoint = String::from_utf8(stream.event().await.unwrap().data.unwrap().to_vec()).unwrap();
        let params = value!({ "protocolVersion": "2024-11-05", "capabilities": {},
            "clientInfo": { "name": "old", "version": "1" } });
        let initialize = request(0, "initialize", &params).to_string();
        assert_eq!(client.ask("POST", &endpoint, &POST, &initialize).await.status, 202);
        while stream.message().await["id"] != 0 {}
        Self::HttpSse { client, endpoint, stream }
    }

    /// Asks the doomed node, and counts the promise.
    async fn ask(&mut self, doomed: &str, body: &Value, promises: &AtomicUsize) -> Outcome {
        let promised = match self {
            Self::Streamable(client) => {
                let mut there = client.clone();
                there.base = doomed.to_owned();
                match there.try_post(body).await {
                    Ok(response) if response.status() == 200 => {
                        let mut stream = Stream::new(response);
                        // The first event has an id, and no data.
                        stream.any().await.and_then(|event| event.id).map(|_| Some(stream))
                    }
                    Ok(_) | Err(_) => None,
                }
            }
            Self::HttpSse { client, endpoint, .. } => {
                let mut there = client.clone();
                there.base = doomed.to_owned();
                match there.try_send("POST", endpoint, &POST, &body.to_string()).await {
                    Ok(response) if response.status() == 202 => Some(None),
                    Ok(_) | Err(_) => None,
                }
            }
        };
        let Some(stream) = promised else { return Outcome::Unpromised };
        promises.fetch_add(1, Ordering::SeqCst);
        match timeout(Duration::from_secs(20), self.answer(stream, &body["id"])).await {
            Ok(answer) => Outcome::Answered { answer, at: Instant::now() },
            Err(_) => Outcome::Silence,
        }
    }

    /// Reads on, and comes back for the rest when the stream breaks.
    async fn answer(&mut self, begun: Option<Stream>, id: &Value) -> Value {
        let (client, stream, http_sse) = match self {
            Self::Streamable(client) => (client, &mut Box::new(begun.unwrap()), false),
            Self::HttpSse { client, stream, .. } => (client, stream, true),
        };
        loop {
            while let Some(event) = stream.any().await {
                let data = event.data.filter(|data| data.starts_with(b"{"));
                let message = data.map(|data| serde_json::from_slice::<Value>(&data).unwrap());
                if let Some(answer) = message.filter(|message| message["id"] == *id) {
                    return answer;
                }
            }
            **stream = come_back(client, http_sse, stream.position.clone()).await;
        }
    }
}

async fn come_back(client: &Client, http_sse: bool, position: Option<String>) -> Stream {
    loop {
        let sent = match http_sse {
            true => client.try_sse(position.as_deref()).await,
            false => client.try_get(position.as_deref()).await,
        };
        if let Some(response) = sent.ok().filter(|response| response.status() == 200) {
            let mut stream = Stream::new(response);
            stream.position = position;
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(50 + fastrand::u64(..50))).await;
    }
}

/// Everybody asks at once, and the node dies while it promises.
async fn round(cluster: &mut Cluster, askers: &mut [Asker], id: u64, tallies: &mut [Tally; 2]) {
    let promises = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let doomed = cluster.node_urls().swap_remove(DOOMED);
    let asked = askers.iter_mut().enumerate().map(|(number, asker)| {
        let body = call(id, &format!("{number}-{id}"), Load { steps: 2, ..load() });
        let (doomed, promises) = (&doomed, &promises);
        async move {
            let transport = usize::from(matches!(asker, Asker::HttpSse { .. }));
            (transport, asker.ask(doomed, &body, &promises[transport]).await)
        }
    });
    let killed = async {
        // A 202 comes sooner than the first event of an answer: each is waited for in turn.
        let (transport, each) = (id as usize % 2, CLIENTS / 2);
        let enough = fastrand::usize(each / 5..each * 4 / 5);
        while promises[transport].load(Ordering::SeqCst) < enough {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::task::block_in_place(|| cluster.kill_node(DOOMED));
        Instant::now()
    };
    let (outcomes, died) = futures::join!(futures::future::join_all(asked), killed);
    for (number, (transport, outcome)) in outcomes.into_iter().enumerate() {
        let tally = &mut tallies[transport];
        match outcome {
            Outcome::Unpromised => tally.unpromised += 1,
            Outcome::Answered { answer, at } => {
                tally.worst = tally.worst.max(at.saturating_duration_since(died));
                if answer["error"].is_null() {
                    tally.results += 1;
                } else {
                    tally.errors += 1;
                    let said = answer["error"]["message"].as_str().unwrap();
                    assert!(said.contains("may have run"), "client {number}: {answer}");
                }
            }
            Outcome::Silence => panic!("client {number}: a promise, and then silence"),
        }
    }
}

/// The tally of the clients of each transport.
async fn suffer(resumes: bool) -> [Tally; 2] {
    let mut scene = Scene::start(LedgerServer::that(resumes).await, Setup::default()).await;
    let base = scene.cluster.url();
    let mut tallies = [Tally::default(), Tally::default()];
    let askers =
        (0..CLIENTS).map(|number| {
            let base = &base;
            async move {
                if number % 2 == 0 { Asker::streamable(base).await } else { Asker::http_sse(base).await }
            }
        });
    let mut askers = futures::future::join_all(askers).await;
    for id in 1..=ROUNDS {
        round(&mut scene.cluster, &mut askers, id, &mut tallies).await;
        tokio::task::block_in_place(|| scene.cluster.start_node(DOOMED));
    }
    for (name, tally) in ["Streamable HTTP", "HTTP+SSE"].into_iter().zip(&tallies) {
        let Tally { unpromised, results, errors, worst } = tally;
        println!(
            "promises over {name}, a server that {} resume: {results} results, {errors} errors, {unpromised} not promised; worst {worst:.1?}",
            if resumes { "can" } else { "can't" }
        );
        assert!(*worst < SOON, "{worst:?}");
        assert!(results + errors > 0);
    }
    let repeated = scene.server.repeated();
    assert!(repeated.is_empty(), "the server ran them twice: {repeated:?}");
    tallies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_p5_a_promise_of_a_node_that_is_killed_is_kept() {
    let [streamable, http_sse] = suffer(true).await;
    // On a busy machine a few die between the promise and the server's position.
    assert!(streamable.errors * 4 < streamable.results, "the server can resume: the result arrives");
    // Over HTTP+SSE the promise comes before the server is asked.
    assert!(http_sse.results + http_sse.errors > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_p5_a_promise_that_can_not_be_kept_is_answered_with_an_error() {
    let [streamable, http_sse] = suffer(false).await;
    assert!(streamable.errors > 0 && http_sse.errors > 0, "nobody knows what became of them");
}
