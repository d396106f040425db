//! Clients that do only what the protocol says, each with a ledger: streams that break are resumed,
//! what was refused is tried again when told, and everything that does not add up is written down.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json as value};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Client, Stream, read};

/// What the clients saw, all together.
#[derive(Default)]
pub(crate) struct Ledger {
    /// What must never happen.
    pub wrong: Mutex<Vec<String>>,
    pub results: AtomicUsize,
    /// Results that came without a stream, for want of a store.
    pub in_json: AtomicUsize,
    /// Calls that ended with an error of the gateway's.
    pub errors: Mutex<Vec<String>>,
    /// Requests that got no answer: the connection broke before one.
    pub broken: Mutex<Vec<String>>,
    /// Requests that were refused with this status.
    pub refused: Mutex<Vec<u16>>,
    pub events: AtomicUsize,
    pub unasked: AtomicUsize,
    pub losses_told: AtomicUsize,
    /// From the break of a stream to its first event afterwards.
    pub resumed: Mutex<Vec<Duration>>,
}

impl Ledger {
    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }
}

/// How much each client does.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub clients: usize,
    pub steps: u64,
    pub pause: Duration,
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
        let clients = futures::future::join_all((0..load.clients).map(|_| async {
            let mut client = Client::new(base);
            client.initialize("2025-11-25").await;
            client
        }));
        for (number, client) in clients.await.into_iter().enumerate() {
            let worker = Worker { number, client, ledger: working.ledger.clone() };
            let ended = working.streams_end.clone();
            let listener = worker.clone();
            working.streams.spawn(async move {
                ended.run_until_cancelled(listener.listen()).await;
            });
            let stop = working.stop.clone();
            working.calls.spawn(worker.call_again_and_again(load, stop));
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
    client: Client,
    ledger: Arc<Ledger>,
}

/// What became of an attempt to get a stream.
enum Got {
    Stream(Box<Stream>),
    /// Nothing is left of it.
    Ended,
}

impl Worker {
    /// GET, again and again until there is an answer.
    async fn get(&self, position: Option<&str>) -> Got {
        loop {
            match self.client.try_get(position).await {
                Ok(response) if response.status() == 200 => {
                    return Got::Stream(Box::new(Stream::new(response)));
                }
                Ok(response) => match response.status().as_u16() {
                    405 => return Got::Ended,
                    404 => {
                        self.ledger.wrong(format!("client {}: its session is gone", self.number));
                        return Got::Ended;
                    }
                    status => self.ledger.refused.lock().unwrap().push(status),
                },
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(50 + fastrand::u64(..50))).await;
        }
    }

    /// What the server says unasked: numbers, each once and in order.
    async fn listen(self) {
        let mut position: Option<String> = None;
        let mut last: Option<u64> = None;
        let mut broken: Option<Instant> = None;
        loop {
            let Got::Stream(mut stream) = self.get(position.as_deref()).await else { return };
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
                let Some(number) = message["params"]["data"]["unasked"].as_u64() else {
                    // The gateway says that it may have lost something.
                    self.ledger.losses_told.fetch_add(1, Ordering::Relaxed);
                    last = None;
                    continue;
                };
                self.ledger.unasked.fetch_add(1, Ordering::Relaxed);
                if last.is_some_and(|last| number != last + 1) {
                    self.ledger.wrong(format!("client {}: {number} after {last:?} unasked", self.number));
                }
                last = Some(number);
            }
            position = stream.position.clone();
            broken = Some(Instant::now());
        }
    }

    async fn call_again_and_again(self, load: Load, stop: Arc<AtomicBool>) {
        let mut id = 0;
        // Not all at once.
        tokio::time::sleep(load.pause.mul_f64(fastrand::f64() * load.steps as f64)).await;
        while !stop.load(Ordering::SeqCst) {
            id += 1;
            self.call(id, load).await;
        }
    }

    async fn call(&self, id: u64, load: Load) {
        let token = format!("{}-{id}", self.number);
        let arguments =
            value!({ "token": token, "steps": load.steps, "pause_ms": load.pause.as_millis() as u64 });
        let params = value!({ "name": "count", "arguments": arguments, "_meta": { "progressToken": token } });
        let request = value!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        let response = match self.client.try_post(&request).await {
            Ok(response) => response,
            Err(error) => {
                self.ledger.broken.lock().unwrap().push(format!("{token}: {error}"));
                return tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match response.status().as_u16() {
            200 => {}
            404 => return self.ledger.wrong(format!("{token}: its session is gone")),
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
            return self.ended(&token, &reply, &(1..=load.steps).collect::<Vec<_>>(), load);
        }
        let mut seen = Vec::new();
        let mut stream = Stream::new(response);
        loop {
            let mut position = stream.position.clone();
            while let Some(event) = stream.any().await {
                position.clone_from(&stream.position);
                let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
                let message: Value = serde_json::from_slice(&data).unwrap();
                self.ledger.events.fetch_add(1, Ordering::Relaxed);
                if message["id"] == id {
                    return self.ended(&token, &message, &seen, load);
                }
                seen.extend(message["params"]["progress"].as_u64());
            }
            position = stream.position.clone().or(position);
            let Some(position) = position else {
                // It broke before anything had an id: nothing was promised.
                return self.ledger.broken.lock().unwrap().push(format!("{token}: before the first event"));
            };
            let broken = Instant::now();
            match self.get(Some(&position)).await {
                Got::Stream(resumed) => {
                    stream = *resumed;
                    stream.position = Some(position);
                    self.ledger.resumed.lock().unwrap().push(broken.elapsed());
                }
                Got::Ended => {
                    return self.ledger.wrong(format!("{token}: it ended without an end at {position}"));
                }
            }
        }
    }

    fn ended(&self, token: &str, message: &Value, seen: &[u64], load: Load) {
        let in_order = seen.iter().copied().eq(1..=seen.len() as u64);
        if !in_order {
            self.ledger.wrong(format!("{token}: {seen:?}"));
        }
        if message["error"].is_null() {
            if seen.len() as u64 != load.steps || message["result"]["token"] != *token {
                self.ledger.wrong(format!("{token}: {seen:?} and then {message}"));
            }
            self.ledger.results.fetch_add(1, Ordering::Relaxed);
        } else {
            self.ledger.errors.lock().unwrap().push(format!("{token}: {}", message["error"]["message"]));
        }
    }
}
