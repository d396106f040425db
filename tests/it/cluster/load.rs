//! Clients that do only what the protocol says, each with a ledger: streams that break are resumed,
//! what was refused is tried again when told, and everything that does not add up is written down.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json as value};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::http_sse::OldWorker;
use super::ledger::{Counted, Ledger, Seen};
use crate::harness::{Client, Stream, read, request};

const VERSION: &str = "2025-11-25";

/// Of so many clients one speaks HTTP+SSE.
pub(super) const OLD: usize = 5;

/// How much each client does.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub clients: usize,
    pub steps: u64,
    pub pause: Duration,
    /// A client whose session is gone opens another; otherwise none may ever be gone.
    pub sessions_end: bool,
    /// What all clients log in with.
    pub token: Option<&'static str>,
}

impl Load {
    pub(super) fn client(&self, base: &str) -> Client {
        let mut client = Client::new(base);
        client.token = self.token.map(str::to_owned);
        client
    }
}

/// Clients at work, until they are stopped.
pub(crate) struct Working {
    pub ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    streams_end: tokio_util::sync::CancellationToken,
    calls: JoinSet<()>,
    streams: JoinSet<()>,
}

impl Working {
    pub(crate) async fn start(base: &str, load: Load) -> Self {
        let mut working = Self {
            ledger: Arc::default(),
            stop: Arc::default(),
            streams_end: tokio_util::sync::CancellationToken::new(),
            calls: JoinSet::new(),
            streams: JoinSet::new(),
        };
        let old = load.clients / OLD;
        for number in 0..old {
            let (base, ledger) = (base.to_owned(), working.ledger.clone());
            let worker = OldWorker { number, load, base, ledger, id: AtomicU64::new(0) };
            working.calls.spawn(worker.work(working.stop.clone()));
        }
        let clients = futures::future::join_all((old..load.clients).map(|_| async {
            let mut client = load.client(base);
            client.initialize(VERSION).await;
            client
        }));
        for (number, client) in clients.await.into_iter().enumerate() {
            let ledger = working.ledger.clone();
            let worker = Worker {
                number,
                load,
                client: Arc::new(Mutex::new(client)),
                opening: Arc::default(),
                ledger,
            };
            let ended = working.streams_end.clone();
            let listener = worker.clone();
            working.streams.spawn(async move {
                ended.run_until_cancelled(listener.listen()).await;
            });
            let stop = working.stop.clone();
            working.calls.spawn(worker.call_again_and_again(stop));
        }
        working
    }

    /// Every call that was begun ends, within `patience`.
    pub(crate) async fn finish(mut self, patience: Duration) -> Arc<Ledger> {
        self.stop.store(true, Ordering::SeqCst);
        let until = Instant::now() + patience;
        while !self.calls.is_empty() {
            match tokio::time::timeout_at(until, self.calls.join_next()).await {
                Ok(ended) => ended.unwrap().unwrap(),
                Err(_) => {
                    self.ledger.wrong(format!("{} calls have no end", self.calls.len()));
                    break;
                }
            }
        }
        self.streams_end.cancel();
        while let Some(ended) = self.streams.join_next().await {
            ended.unwrap();
        }
        self.ledger
    }
}

#[derive(Clone)]
struct Worker {
    number: usize,
    load: Load,
    client: Arc<Mutex<Client>>,
    /// One at a time opens a new session.
    opening: Arc<tokio::sync::Mutex<()>>,
    ledger: Arc<Ledger>,
}

/// What became of an attempt to get a stream.
enum Got {
    Stream(Box<Stream>),
    /// Nothing is left of it.
    Ended,
    /// Nor of the session.
    Gone,
}

impl Worker {
    /// As it is now: what was begun in one session ends in it.
    fn client(&self) -> Client {
        self.client.lock().unwrap().clone()
    }

    /// The session of `client` is gone: whoever sees it first opens another.
    async fn open_anew(&self, client: &Client) {
        if !self.load.sessions_end {
            return self.ledger.wrong(format!("client {}: its session is gone", self.number));
        }
        let _turn = self.opening.lock().await;
        if self.client().session != client.session {
            return;
        }
        self.ledger.gone.fetch_add(1, Ordering::Relaxed);
        let mut anew = self.load.client(&client.base);
        while !anew.try_initialize(VERSION).await {
            anew.session = None;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        *self.client.lock().unwrap() = anew;
    }

    /// GET, again and again until there is an answer.
    async fn get(&self, client: &Client, position: Option<&str>) -> Got {
        loop {
            match client.try_get(position).await {
                Ok(response) if response.status() == 200 => {
                    return Got::Stream(Box::new(Stream::new(response)));
                }
                Ok(response) => match response.status().as_u16() {
                    405 => return Got::Ended,
                    404 => {
                        self.open_anew(client).await;
                        return Got::Gone;
                    }
                    status => self.ledger.refused.lock().unwrap().push(status),
                },
                Err(error) => {
                    self.ledger.unanswered.lock().unwrap().push(format!("client {}: {error:?}", self.number));
                }
            }
            tokio::time::sleep(Duration::from_millis(50 + fastrand::u64(..50))).await;
        }
    }

    /// What the server says unasked: numbers, each once and in order.
    async fn listen(self) {
        while matches!(self.listen_in_session().await, Got::Gone) && self.load.sessions_end {}
    }

    /// Returns why it can't go on.
    async fn listen_in_session(&self) -> Got {
        let client = self.client();
        let mut position: Option<String> = None;
        let mut counted = Counted::default();
        let mut broken: Option<Instant> = None;
        loop {
            let mut stream = match self.get(&client, position.as_deref()).await {
                Got::Stream(stream) => stream,
                over => return over,
            };
            stream.position.clone_from(&position);
            while let Some(event) = stream.any().await {
                if let Some(since) = broken.take() {
                    self.ledger.resumed.lock().unwrap().push(since.elapsed());
                }
                let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
                let message: Value = serde_json::from_slice(&data).unwrap();
                if message["method"] == "notifications/progress" {
                    // Of a call that is answered in JSON.
                    continue;
                }
                self.ledger.said_unasked(self.number, &mut counted, &message);
            }
            position = stream.position.clone();
            broken = Some(Instant::now());
        }
    }

    async fn call_again_and_again(self, stop: Arc<AtomicBool>) {
        let mut id = 0;
        // Not all at once.
        tokio::time::sleep(self.load.pause.mul_f64(fastrand::f64() * self.load.steps as f64)).await;
        while !stop.load(Ordering::SeqCst) {
            id += 1;
            self.call(id).await;
        }
    }

    async fn call(&self, id: u64) {
        let (client, load) = (self.client(), self.load);
        let token = format!("{}-{id}", self.number);
        let began = Instant::now();
        let response = match client.try_post(&call(id, &token, load)).await {
            Ok(response) => response,
            Err(error) => {
                self.ledger.broken.lock().unwrap().push(format!("{token}: {error:?}"));
                return tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match response.status().as_u16() {
            200 => {}
            404 => return self.open_anew(&client).await,
            status => {
                self.ledger.refused.lock().unwrap().push(status);
                return tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        if kind == Some("application/json") {
            // The store was away: the answer comes without its steps.
            let reply = read(response).await.json();
            self.ledger.in_json.fetch_add(1, Ordering::Relaxed);
            let seen = Seen { steps: (1..=load.steps).collect(), loss_told: false };
            return self.ledger.ended(&token, &reply, &seen, load.steps, began.elapsed());
        }
        let mut seen = Seen::default();
        let mut stream = Stream::new(response);
        loop {
            let mut position = stream.position.clone();
            while let Some(event) = stream.any().await {
                position.clone_from(&stream.position);
                let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
                let message: Value = serde_json::from_slice(&data).unwrap();
                self.ledger.events.fetch_add(1, Ordering::Relaxed);
                if message["id"] == id {
                    return self.ledger.ended(&token, &message, &seen, load.steps, began.elapsed());
                }
                seen.steps.extend(message["params"]["progress"].as_u64());
            }
            position = stream.position.clone().or(position);
            let Some(position) = position else {
                // It broke before anything had an id: nothing was promised.
                return self.ledger.broken.lock().unwrap().push(format!("{token}: before the first event"));
            };
            let broken = Instant::now();
            match self.get(&client, Some(&position)).await {
                Got::Stream(resumed) => {
                    stream = *resumed;
                    stream.position = Some(position);
                    self.ledger.resumed.lock().unwrap().push(broken.elapsed());
                }
                Got::Ended => {
                    return self.ledger.wrong(format!("{token}: it ended without an end at {position}"));
                }
                Got::Gone => return,
            }
        }
    }
}

/// A tool that counts, with steps in between.
pub(super) fn call(id: u64, token: &str, load: Load) -> Value {
    let arguments =
        value!({ "token": token, "steps": load.steps, "pause_ms": load.pause.as_millis() as u64 });
    let params = value!({ "name": "count", "arguments": arguments, "_meta": { "progressToken": token } });
    request(id, "tools/call", &params)
}
