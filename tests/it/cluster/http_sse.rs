//! Clients of the old transport: one stream for everything, and each POST may reach another node than
//! the one that holds it. What a 202 promised arrives on the stream.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use serde_json::{Value, json as value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ledger::{Counted, Ledger, Seen};
use super::load::{Load, call};
use crate::harness::{Client, POST, Stream, request};

pub(super) struct OldWorker {
    pub number: usize,
    pub load: Load,
    pub base: String,
    pub ledger: Arc<Ledger>,
    /// Of the last request.
    pub id: AtomicU64,
}

/// One session: what is waited for, by request id, and where to post.
struct Session {
    client: Client,
    endpoint: String,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

struct Waiting {
    token: String,
    seen: Seen,
    done: oneshot::Sender<(Value, Seen)>,
}

/// What a POST came to.
enum Posted {
    Accepted,
    Refused,
    Gone,
}

impl OldWorker {
    pub(super) async fn work(self, stop: Arc<AtomicBool>) {
        // Not all at once.
        tokio::time::sleep(self.load.pause.mul_f64(fastrand::f64() * self.load.steps as f64)).await;
        while !stop.load(Ordering::SeqCst) {
            let Some((session, stream)) = self.open().await else { continue };
            tokio::select! {
                () = self.listen(&session, stream) => {}
                () = self.talk(&session, &stop) => continue,
            }
            self.ledger.gone.fetch_add(1, Ordering::Relaxed);
            if !self.load.sessions_end {
                return self.ledger.wrong(format!("client {}: its session is gone", self.number));
            }
        }
    }

    async fn open(&self) -> Option<(Session, Stream)> {
        let client = self.load.client(&self.base);
        let Some(mut stream) = self.get(&client, None).await.ok().map(Stream::new) else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            return None;
        };
        let first = stream.any().await.and_then(|event| event.data)?;
        // A comment may come before the endpoint.
        let endpoint = if first.is_empty() { stream.any().await?.data? } else { first };
        let endpoint = String::from_utf8(endpoint.to_vec()).unwrap();
        Some((Session { client, endpoint, waiting: Mutex::default() }, stream))
    }

    /// Or the status with which it was refused, if there was one.
    async fn get(&self, client: &Client, position: Option<&str>) -> Result<Response<Incoming>, Option<u16>> {
        match client.try_sse(position).await {
            Ok(response) if response.status() == 200 => Ok(response),
            Ok(response) => {
                let status = response.status().as_u16();
                if status != 404 {
                    self.ledger.refused.lock().unwrap().push(status);
                }
                Err(Some(status))
            }
            Err(error) => {
                self.ledger.unanswered.lock().unwrap().push(format!("old {}: {error:?}", self.number));
                Err(None)
            }
        }
    }

    /// Reads the stream, and comes back for the rest when it breaks, until the session is gone.
    async fn listen(&self, session: &Session, mut stream: Stream) {
        let mut counted = Counted::default();
        loop {
            while let Some(event) = stream.any().await {
                let Some(data) = event.data.filter(|data| data.starts_with(b"{")) else { continue };
                self.take(session, &mut counted, &serde_json::from_slice(&data).unwrap());
            }
            let broken = Instant::now();
            let position = stream.position.clone();
            stream = loop {
                match self.get(&session.client, position.as_deref()).await {
                    Ok(response) => break Stream::new(response),
                    Err(Some(404)) => return,
                    Err(_) => {}
                }
                tokio::time::sleep(Duration::from_millis(50 + fastrand::u64(..50))).await;
            };
            self.ledger.resumed.lock().unwrap().push(broken.elapsed());
            stream.position = position;
        }
    }

    fn take(&self, session: &Session, counted: &mut Counted, message: &Value) {
        if message["method"] == "notifications/message" {
            let whole = self.ledger.said_unasked(self.number, counted, message);
            let mut waiting = session.waiting.lock().unwrap();
            return waiting.values_mut().for_each(|call| call.seen.loss_told |= !whole);
        }
        let mut waiting = session.waiting.lock().unwrap();
        let id = match message["method"].as_str() {
            None => message["id"].as_u64(),
            Some(_) => message["params"]["progressToken"]
                .as_str()
                .and_then(|token| waiting.iter().find(|(_, call)| call.token == token).map(|(id, _)| *id)),
        };
        self.ledger.events.fetch_add(1, Ordering::Relaxed);
        // Of a POST whose answer did not arrive.
        let Some(id) = id.filter(|id| waiting.contains_key(id)) else { return };
        if let Some(step) = message["params"]["progress"].as_u64() {
            return waiting.get_mut(&id).unwrap().seen.steps.push(step);
        }
        let ended = waiting.remove(&id).unwrap();
        let _ = ended.done.send((message.clone(), ended.seen));
    }

    async fn talk(&self, session: &Session, stop: &AtomicBool) {
        let mut open = false;
        while !stop.load(Ordering::SeqCst) {
            let id = self.id.fetch_add(1, Ordering::Relaxed) + 1;
            let token = format!("old{}-{id}", self.number);
            if open {
                self.call(session, id, token).await;
                continue;
            }
            let (done, answer) = oneshot::channel();
            session.waiting.lock().unwrap().insert(id, Waiting { token, seen: Seen::default(), done });
            let params = value!({ "protocolVersion": "2024-11-05", "capabilities": {},
                "clientInfo": { "name": "old", "version": "1" } });
            match self.post(session, &request(id, "initialize", &params)).await {
                Posted::Accepted => {}
                Posted::Refused => continue,
                Posted::Gone => return std::future::pending().await,
            }
            let (answer, _) = answer.await.unwrap();
            let done = value!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
            open = answer["error"].is_null() && matches!(self.post(session, &done).await, Posted::Accepted);
        }
    }

    async fn call(&self, session: &Session, id: u64, token: String) {
        let began = Instant::now();
        let (done, answer) = oneshot::channel();
        let waiting = Waiting { token: token.clone(), seen: Seen::default(), done };
        session.waiting.lock().unwrap().insert(id, waiting);
        match self.post(session, &call(id, &token, self.load)).await {
            Posted::Accepted => {
                let (message, seen) = answer.await.unwrap();
                self.ledger.ended(&token, &message, &seen, self.load.steps, began.elapsed());
            }
            Posted::Refused => {
                session.waiting.lock().unwrap().remove(&id);
            }
            // The stream says so as well.
            Posted::Gone => std::future::pending().await,
        }
    }

    async fn post(&self, session: &Session, message: &Value) -> Posted {
        let sent = session.client.try_send("POST", &session.endpoint, &POST, &message.to_string()).await;
        let pause = match sent {
            Ok(response) => match response.status().as_u16() {
                202 => return Posted::Accepted,
                404 => return Posted::Gone,
                status => {
                    self.ledger.refused.lock().unwrap().push(status);
                    500
                }
            },
            Err(error) => {
                self.ledger.broken.lock().unwrap().push(format!("old {}: {error:?}", self.number));
                100
            }
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        Posted::Refused
    }
}
