//! Clients that behave as the specification allows: over both legacy transports, cut off at any moment,
//! back with what they saw last, on whichever node the balancer chooses.

mod hearing;
mod listening;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use hyper::Request;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::spawn;
use super::watched::Watched;
use super::world::{Broken, Connection, World};

/// How long it waits for the end of what it cancelled.
const CANCEL_PATIENCE: Duration = Duration::from_secs(8);

/// A call that takes less is over before its node ends.
const DRAINS_WITHIN: Duration = Duration::from_secs(12);

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// With priming events.
    Streamable,
    /// Before there were any.
    StreamableOld,
    HttpSse,
}

impl Speaks {
    const fn version(self) -> &'static str {
        match self {
            Self::Streamable => "2025-11-25",
            Self::StreamableOld => "2025-06-18",
            Self::HttpSse => "2024-11-05",
        }
    }
}

pub(super) struct Client {
    pub name: String,
    pub speaks: Speaks,
    world: Arc<World>,
    rng: Mutex<fastrand::Rng>,
    state: Mutex<State>,
    /// How many sessions it has had; whoever waits for one hears of it.
    session: Watched<Option<String>>,
    over: Watched<bool>,
}

#[derive(Default)]
struct State {
    ids: u64,
    calls: BTreeMap<String, Call>,
    /// The last message unasked that each of the server's sessions sent.
    unasked: BTreeMap<String, u64>,
    ended: Vec<String>,
    /// Answered requests, by session.
    answered: Vec<(String, u64)>,
    doing: BTreeMap<u64, String>,
    doings: u64,
}

/// A call as its client sees it.
struct Call {
    id: u64,
    session: String,
    began: Instant,
    /// Messages that came before the result.
    before: u64,
    cancelled: bool,
    /// Nothing is expected of it any more.
    given_up: bool,
    done: Arc<Watched<bool>>,
}

/// Says what the client waits for, in case it waits for ever.
struct Doing<'a>(&'a Client, u64);

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().doing.remove(&self.1);
    }
}

/// How a stream came to its end, for its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By what the reader waited for.
    Answered,
    /// In good order, by the node.
    Over,
    /// The connection broke, or the client let go of it.
    Cut,
}

impl Client {
    pub(super) fn new(world: &Arc<World>, number: usize, speaks: Speaks, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            name: format!("c{number}"),
            speaks,
            world: world.clone(),
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            state: Mutex::default(),
            session: Watched::default(),
            over: Watched::default(),
        })
    }

    fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.rng.lock().unwrap().u64(range)
    }

    fn one_in(&self, many: u64) -> bool {
        self.draw(0..many) == 0
    }

    async fn pause(&self, range: std::ops::Range<u64>) {
        let wait = self.draw(range);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    fn doing(&self, what: String) -> Doing<'_> {
        let mut state = self.state.lock().unwrap();
        state.doings += 1;
        let number = state.doings;
        state.doing.insert(number, what);
        Doing(self, number)
    }

    /// What it waits for now.
    pub(super) fn waits_for(&self) -> Vec<String> {
        self.state.lock().unwrap().doing.values().cloned().collect()
    }

    pub(super) fn session(&self) -> Option<String> {
        self.session.get()
    }

    pub(super) fn ended(&self) -> Vec<String> {
        self.state.lock().unwrap().ended.clone()
    }

    pub(super) fn answered(&self) -> Vec<(String, u64)> {
        self.state.lock().unwrap().answered.clone()
    }

    /// It needs nothing more.
    pub(super) fn stop(&self) {
        self.over.set(true);
    }

    fn wrong(&self, what: std::fmt::Arguments<'_>) {
        self.world.ledger.wrong(format_args!("{}: {what}", self.name));
    }

    /// A failure that only a fault may cause.
    fn fails(&self, began: Instant, what: std::fmt::Arguments<'_>) {
        self.world.ledger.tell(format_args!("{}: {what}", self.name));
        if !self.world.ledger.excuses(began) {
            self.wrong(what);
        }
    }

    fn request(&self, method: &str, path: &str, session: Option<&str>, body: String) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:4444");
        if method == "POST" {
            request = request
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream");
        } else {
            request = request.header("accept", "text/event-stream");
        }
        if let (Some(session), true) = (session, self.speaks != Speaks::HttpSse) {
            request = request.header("mcp-session-id", session);
            request = request.header("mcp-protocol-version", self.speaks.version());
        }
        request.body(Body::from(body)).unwrap()
    }

    fn posting(&self, session: Option<&str>, message: &Value) -> Request<Body> {
        let path = match (self.speaks, session) {
            (Speaks::HttpSse, Some(session)) => format!("/message?sessionId={session}"),
            _ => "/mcp".to_owned(),
        };
        self.request("POST", &path, session, message.to_string())
    }

    /// Asks for a stream, from where it was left.
    fn getting(&self, path: &str, session: Option<&str>, position: Option<&str>) -> Request<Body> {
        let mut get = self.request("GET", path, session, String::new());
        if let Some(position) = position {
            get.headers_mut().insert("last-event-id", position.parse().unwrap());
            self.world.ledger.count(|counts| counts.resumes += 1);
        }
        get
    }

    /// Lives through its steps.
    pub(super) async fn live(self: Arc<Self>, steps: u64) {
        let listening = self.clone();
        match self.speaks {
            Speaks::HttpSse => spawn(async move { listening.listen_http_sse().await }),
            Speaks::Streamable | Speaks::StreamableOld => {
                self.initialize().await;
                spawn(async move { listening.listen().await });
            }
        }
        let mut calls = Vec::new();
        for _ in 0..steps {
            self.pause(0..700).await;
            self.world.ledger.count(|counts| counts.steps += 1);
            let client = self.clone();
            match self.draw(0..20) {
                0 | 1 => self.notify().await,
                2 if self.speaks != Speaks::HttpSse && self.one_in(2) => {
                    self.delete().await;
                    self.initialize().await;
                }
                3..=9 => client.call().await,
                _ => {
                    let (told, done) = tokio::sync::oneshot::channel();
                    spawn(async move {
                        client.call().await;
                        let _ = told.send(());
                    });
                    calls.push(done);
                }
            }
        }
        for call in calls {
            let _ = call.await;
        }
    }

    async fn has_session(&self) -> String {
        let _doing = self.doing("a session".into());
        self.session.until(Option::is_some).await.unwrap()
    }

    fn opening(&self, id: u64) -> Value {
        let params = json!({
            "protocolVersion": self.speaks.version(),
            "capabilities": { "elicitation": {} },
            "clientInfo": { "name": self.name, "version": "1" },
        });
        json!({ "jsonrpc": "2.0", "id": id, "method": "initialize", "params": params })
    }

    fn next_id(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.ids += 1;
        state.ids
    }

    async fn initialize(&self) {
        let _doing = self.doing("initialize".into());
        let session = loop {
            let began = Instant::now();
            let opening = self.opening(self.next_id());
            match self.world.request(self.posting(None, &opening)).await {
                Ok(answer) if answer.status == 200 => {
                    let session =
                        answer.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
                    match (session, answer.whole().await) {
                        (Some(session), Ok(_)) => break session,
                        (None, _) => self.wrong(format_args!("initialize gave no session")),
                        (Some(_), Err(Broken)) => {}
                    }
                }
                Ok(answer) => self.fails(began, format_args!("initialize: {}", answer.status)),
                Err(Broken) => self.fails(began, format_args!("initialize: broken")),
            }
            self.pause(100..1000).await;
        };
        self.world.ledger.tell(format_args!("{} has {session}", self.name));
        self.say(&session, "notifications/initialized", &format!("initialized {session}")).await;
        self.session.set(Some(session));
    }

    async fn notify(&self) {
        let session = self.has_session().await;
        let tag = format!("{}-n{}", self.name, self.next_id());
        self.say(&session, "notifications/roots/list_changed", &tag).await;
    }

    async fn say(&self, session: &str, method: &str, tag: &str) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": { "tag": tag } });
        self.insist(session, &message, tag).await;
    }

    /// Posts what is answered with 202 until it is.
    async fn insist(&self, session: &str, message: &Value, tag: &str) {
        let _doing = self.doing(format!("202 for {tag}"));
        loop {
            let began = Instant::now();
            match self.world.request(self.posting(Some(session), message)).await {
                Ok(answer) if answer.status == 202 => return self.world.ledger.was_accepted(tag),
                Ok(answer) if answer.status == 404 && self.may_be_gone(session) => return,
                Ok(answer) => {
                    let status = answer.status;
                    let text = answer.whole().await.unwrap_or_default();
                    self.fails(began, format_args!("{tag}: {status} {text}"));
                    if status == 404 {
                        return self.wrong(format_args!("{tag}: {session} is said to be gone"));
                    }
                }
                Err(Broken) => self.fails(began, format_args!("{tag}: broken")),
            }
            if self.may_be_gone(session) {
                return;
            }
            self.pause(100..1000).await;
        }
    }

    /// The client ended the session, or let it go.
    fn may_be_gone(&self, session: &str) -> bool {
        self.state.lock().unwrap().ended.iter().any(|ended| ended == session)
    }

    async fn delete(&self) {
        let _doing = self.doing("delete".into());
        let Some(session) = self.session() else { return };
        self.let_go(&session);
        loop {
            let began = Instant::now();
            match self.world.request(self.request("DELETE", "/mcp", Some(&session), String::new())).await {
                Ok(answer) if answer.status == 204 || answer.status == 404 => break,
                Ok(answer) => self.fails(began, format_args!("DELETE: {}", answer.status)),
                Err(Broken) => self.fails(began, format_args!("DELETE: broken")),
            }
            self.pause(100..1000).await;
        }
        self.world.ledger.tell(format_args!("{} ended {session}", self.name));
        let (world, began) = (self.world.clone(), Instant::now());
        let ping = self.posting(Some(&session), &json!({ "jsonrpc": "2.0", "id": 0, "method": "ping" }));
        spawn(async move {
            tokio::time::sleep(Duration::from_secs(4)).await;
            if let Ok(answer) = world.request(ping).await
                && answer.status != 404
                && !world.ledger.excuses(began)
            {
                world
                    .ledger
                    .wrong(format_args!("P2: {session} ended, and is answered with {}", answer.status));
            }
        });
    }

    /// Nothing is expected of a session any more.
    fn let_go(&self, session: &str) {
        self.forgive();
        let mut state = self.state.lock().unwrap();
        state.ended.push(session.to_owned());
        for call in state.calls.values_mut().filter(|call| call.session == session) {
            call.given_up = true;
            call.done.set(true);
        }
        drop(state);
        self.session.set(None);
    }

    /// One request from its sending to its answer, however often its stream breaks.
    async fn call(self: Arc<Self>) {
        let session = self.has_session().await;
        for _ in 0..8 {
            let id = self.next_id();
            let tag = format!("{}-{id}", self.name);
            let _doing = self.doing(format!("the answer to {tag}"));
            if self.clone().attempt(&session, id, &tag).await || self.may_be_gone(&session) {
                return;
            }
            self.pause(200..1500).await;
        }
    }

    /// False if it was refused and may be tried again.
    async fn attempt(self: Arc<Self>, session: &str, id: u64, tag: &str) -> bool {
        // Most are over soon; some outlive a node's lease.
        let (steps, pause) = match self.draw(0..10) {
            0..=2 => (0, self.draw(0..400)),
            3 if self.one_in(2) => (self.draw(8..12), self.draw(500..800)),
            _ => (self.draw(1..5), self.draw(0..400)),
        };
        let arguments = json!({
            "tag": tag,
            "steps": steps,
            "pause": pause,
            "asks": self.one_in(5),
            "json": self.one_in(8),
        });
        let params = json!({ "name": "run", "arguments": arguments, "_meta": { "progressToken": tag } });
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        let (began, done) = (Instant::now(), Arc::new(Watched::new(false)));
        let (call, session) = (done.clone(), session.to_owned());
        let entered = Call {
            id,
            session: session.clone(),
            began,
            before: 0,
            cancelled: false,
            given_up: false,
            done: call,
        };
        self.state.lock().unwrap().calls.insert(tag.to_owned(), entered);
        self.world.ledger.tell(format_args!("{tag} is asked: {arguments}"));
        if self.one_in(12) {
            spawn(self.clone().cancel(session.clone(), id, tag.to_owned()));
        }
        let posted = self.world.request(self.posting(Some(&session), &message));
        let answered = tokio::select! {
            biased;
            answered = posted => answered,
            () = finished(Some(&done)) => return true,
        };
        let answer = match answered {
            Ok(answer) => answer,
            Err(Broken) => {
                self.unknown(tag);
                self.fails(began, format_args!("{tag}: broken before an answer"));
                return true;
            }
        };
        let status = answer.status;
        self.world.ledger.tell(format_args!("{tag} at {}: {status}", answer.node.id));
        if status == 202 {
            self.wait(done).await;
        } else if answer.streams() {
            self.follow(answer, &session, tag, &done).await;
        } else if let Ok(text) = answer.whole().await {
            let message = serde_json::from_str(&text).unwrap_or(Value::Null);
            if status == 200 {
                self.world.ledger.count(|counts| counts.in_json += 1);
                self.answered_with(tag, &message, false);
                return true;
            }
            let gone = status == 404 && self.may_be_gone(&session);
            if status == 404 && !gone {
                self.wrong(format_args!("{tag}: {session} is said to be gone: {text}"));
            } else if !gone && !self.forgiven(tag) && began.elapsed() < DRAINS_WITHIN {
                self.fails(began, format_args!("{tag}: {status} {text}"));
            }
            self.unknown(tag);
            self.world.ledger.count(|counts| counts.refused += 1);
            return status != 503;
        } else {
            self.unknown(tag);
            self.fails(began, format_args!("{tag}: broken in its answer"));
        }
        true
    }

    /// Nobody can know what became of a call.
    fn unknown(&self, tag: &str) {
        self.world.ledger.count(|counts| counts.unknown += 1);
        let mut state = self.state.lock().unwrap();
        if let Some(call) = state.calls.get_mut(tag) {
            call.given_up = true;
            call.done.set(true);
        }
    }

    fn forgiven(&self, tag: &str) -> bool {
        self.state.lock().unwrap().calls.get(tag).is_none_or(|call| call.cancelled || call.given_up)
    }

    async fn wait(&self, done: Arc<Watched<bool>>) {
        done.until(|done| *done).await;
    }

    async fn cancel(self: Arc<Self>, session: String, id: u64, tag: String) {
        self.pause(50..2000).await;
        {
            let mut state = self.state.lock().unwrap();
            let Some(call) = state.calls.get_mut(&tag).filter(|call| !call.done.get()) else { return };
            call.cancelled = true;
        }
        self.world.ledger.tell(format_args!("{tag} is cancelled"));
        let params = json!({ "requestId": id, "tag": tag });
        let message = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
        self.insist(&session, &message, &format!("cancel {tag}")).await;
        // It does not wait for what it does not want.
        tokio::time::sleep(CANCEL_PATIENCE).await;
        self.unknown(&tag);
    }

    /// Reads a POST's stream, and resumes it until the answer is there.
    async fn follow(self: &Arc<Self>, answer: Connection, session: &str, tag: &str, done: &Watched<bool>) {
        let mut position = None;
        let mut connection = Some(answer);
        loop {
            let began = Instant::now();
            if let Some(answer) = connection.take() {
                let cut = if self.one_in(3) { self.draw(0..1500) } else { 1 << 32 };
                let time = Duration::from_millis(cut);
                let end = self.read(answer, &mut position, time, Some(done)).await;
                if end == End::Answered {
                    return;
                }
                self.world.ledger.tell(format_args!("{tag}: its stream is {end:?}"));
            }
            let Some(from) = position.clone() else {
                self.unknown(tag);
                return;
            };
            self.pause(0..400).await;
            if done.get() || self.may_be_gone(session) {
                return self.unknown(tag);
            }
            match self.world.request(self.getting("/mcp", Some(session), Some(&from))).await {
                Ok(answer) if answer.status == 200 => connection = Some(answer),
                Ok(answer) if answer.status == 405 => {
                    if !self.forgiven(tag) {
                        self.wrong(format_args!("P5: {tag} ended without an answer"));
                    }
                    return self.unknown(tag);
                }
                Ok(answer) if answer.status == 404 => {
                    if !self.may_be_gone(session) {
                        self.wrong(format_args!("P1: {session} is said to be gone"));
                    }
                    return self.unknown(tag);
                }
                Ok(answer) => self.fails(began, format_args!("{tag}: its resume: {}", answer.status)),
                Err(Broken) => self.fails(began, format_args!("{tag}: its resume: broken")),
            }
        }
    }
}

async fn finished(done: Option<&Watched<bool>>) {
    match done {
        Some(done) => _ = done.until(|done| *done).await,
        None => std::future::pending().await,
    }
}
