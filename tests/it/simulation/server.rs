//! The MCP server behind the cluster: it keeps sessions, runs what it is asked, asks back, says things
//! unasked, and resumes its streams if the schedule says that it can.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::unfold;
use holdfast::upstream::{BoxError, Received};
use http_body_util::{Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::ledger::Ledger;
use super::spawn;
use super::watched::Watched;

/// A question is given up after this.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub(super) struct Server {
    ledger: Arc<Ledger>,
    rng: Mutex<fastrand::Rng>,
    resumes: bool,
    state: Mutex<State>,
    over: Watched<bool>,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<String, Session>,
    opened: u64,
    runs: u64,
}

#[derive(Debug)]
struct Session {
    client: String,
    streams: BTreeMap<String, Arc<Log>>,
    by_tag: BTreeMap<String, Arc<Log>>,
    unasked: Option<Arc<Log>>,
}

/// What was said on one stream.
#[derive(Debug)]
struct Log {
    name: String,
    said: Mutex<Said>,
    changed: Watched<u64>,
}

#[derive(Debug, Default)]
struct Said {
    messages: Vec<String>,
    over: bool,
    answered: bool,
}

impl Log {
    fn new(name: String) -> Arc<Self> {
        Arc::new(Self { name, said: Mutex::default(), changed: Watched::default() })
    }

    fn say(&self, message: &Value) {
        self.change(|said| said.messages.push(message.to_string()));
    }

    fn change(&self, change: impl FnOnce(&mut Said)) {
        let mut said = self.said.lock().unwrap();
        if !said.over {
            change(&mut said);
        }
        drop(said);
        self.changed.change(|changes| *changes += 1);
    }

    fn len(&self) -> usize {
        self.said.lock().unwrap().messages.len()
    }

    fn over(&self) -> bool {
        self.said.lock().unwrap().over
    }

    async fn until(&self, reached: impl Fn(&Said) -> bool) {
        self.changed.until(|_| reached(&self.said.lock().unwrap())).await;
    }
}

pub(super) type Answer = Response<Received>;

fn status(status: StatusCode) -> Answer {
    respond(Response::builder().status(status), String::new())
}

fn respond(builder: hyper::http::response::Builder, body: String) -> Answer {
    let body = Full::new(Bytes::from(body));
    builder.body(Received::within(http_body_util::BodyExt::map_err(body, |never| match never {}))).unwrap()
}

impl Server {
    pub(super) fn new(ledger: Arc<Ledger>, seed: u64, resumes: bool) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            resumes,
            state: Mutex::default(),
            over: Watched::new(false),
        })
    }

    /// From now on it says nothing unasked.
    pub(super) fn falls_silent(&self) {
        self.over.set(true);
    }

    /// Forgets a session: its client's next request gets 404.
    pub(super) fn forget(&self, choice: usize) -> bool {
        let mut state = self.state.lock().unwrap();
        let Some(name) = state.sessions.keys().nth(choice % state.sessions.len().max(1)).cloned() else {
            return false;
        };
        let session = state.sessions.remove(&name);
        drop(state);
        self.ledger.tell(format_args!("server forgets {name}"));
        self.ledger.forgive(&name);
        for log in
            session.into_iter().flat_map(|session| session.streams.into_values().chain(session.unasked))
        {
            log.change(|said| said.over = true);
        }
        true
    }

    /// What the session is called here, by its client.
    pub(super) fn sessions_of(&self, client: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let own = state.sessions.iter().filter(|(_, session)| session.client == client);
        own.map(|(name, _)| name.clone()).collect()
    }

    pub(super) async fn answer(self: &Arc<Self>, request: Request<Bytes>, breaks: Option<usize>) -> Answer {
        let header = |name: &str| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
        let session = header("mcp-session-id");
        match *request.method() {
            Method::GET => self.get(session.as_deref(), header("last-event-id").as_deref(), breaks),
            Method::DELETE => self.delete(session.as_deref()),
            _ => {
                let message: Value = serde_json::from_slice(request.body()).unwrap();
                self.post(session.as_deref(), &message, breaks).await
            }
        }
    }

    fn delete(&self, session: Option<&str>) -> Answer {
        let removed = self.state.lock().unwrap().sessions.remove(session.unwrap_or_default());
        let Some(session) = removed else { return status(StatusCode::NOT_FOUND) };
        for log in session.streams.into_values().chain(session.unasked) {
            log.change(|said| said.over = true);
        }
        status(StatusCode::OK)
    }

    fn get(self: &Arc<Self>, session: Option<&str>, from: Option<&str>, breaks: Option<usize>) -> Answer {
        let name = session.unwrap_or_default();
        let mut state = self.state.lock().unwrap();
        let Some(session) = state.sessions.get_mut(name) else { return status(StatusCode::NOT_FOUND) };
        if let Some((stream, position)) = from.and_then(|from| from.rsplit_once(':')) {
            let log =
                session.streams.get(stream).or(session.unasked.as_ref().filter(|log| log.name == stream));
            return match (log, position.parse()) {
                (Some(log), Ok(position)) if self.resumes => {
                    let log = log.clone();
                    drop(state);
                    self.stream(log, position, breaks)
                }
                _ => status(StatusCode::BAD_REQUEST),
            };
        }
        let client = session.client.clone();
        let log = match &session.unasked {
            Some(log) => log.clone(),
            None => {
                let log = Log::new(format!("g-{name}"));
                session.unasked = Some(log.clone());
                spawn(self.clone().talk(name.to_owned(), client, log.clone()));
                log
            }
        };
        drop(state);
        // Who comes without a position hears what is said from now on.
        self.ledger.unheard(name);
        let position = log.len();
        self.stream(log, position, breaks)
    }

    async fn talk(self: Arc<Self>, session: String, client: String, log: Arc<Log>) {
        loop {
            let pause = self.rng.lock().unwrap().u64(500..4000);
            let pause = tokio::time::sleep(Duration::from_millis(pause));
            tokio::select! {
                biased;
                _ = self.over.until(|over| *over) => return,
                () = pause => {}
            }
            if log.over() {
                return;
            }
            let number = self.ledger.says(&session);
            let data = json!({ "client": client, "session": session, "number": number });
            let params = json!({ "level": "info", "data": data });
            log.say(&json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": params }));
        }
    }

    async fn post(self: &Arc<Self>, session: Option<&str>, message: &Value, breaks: Option<usize>) -> Answer {
        let method = message["method"].as_str();
        if method == Some("initialize") {
            return self.initialize(message);
        }
        let name = session.unwrap_or_default().to_owned();
        if !self.state.lock().unwrap().sessions.contains_key(&name) {
            return status(StatusCode::NOT_FOUND);
        }
        match (method, message.get("id")) {
            (Some("tools/call"), Some(id)) => {
                self.call(&name, id, &message["params"]["arguments"], breaks).await
            }
            (Some(_), Some(id)) => {
                let body = json!({ "jsonrpc": "2.0", "id": id, "result": {} }).to_string();
                respond(Response::builder().header("content-type", "application/json"), body)
            }
            (Some("notifications/cancelled"), None) => {
                let tag = message["params"]["tag"].as_str().unwrap_or_default();
                let log = self.state.lock().unwrap().sessions[&name].by_tag.get(tag).cloned();
                if let Some(log) = log {
                    log.change(|said| said.over = true);
                }
                self.ledger.cancelled(tag);
                self.ledger.acknowledges(&format!("cancel {tag}"));
                status(StatusCode::ACCEPTED)
            }
            (Some(_), None) => {
                self.ledger.acknowledges(message["params"]["tag"].as_str().unwrap_or_default());
                status(StatusCode::ACCEPTED)
            }
            (None, _) => {
                let question = message["id"].as_str().unwrap_or_default();
                self.ledger.acknowledges(question);
                let tag = question.strip_prefix("q-").unwrap_or_default();
                if let Some(log) = self.state.lock().unwrap().sessions[&name].by_tag.get(tag) {
                    log.change(|said| said.answered = true);
                }
                status(StatusCode::ACCEPTED)
            }
        }
    }

    fn initialize(&self, message: &Value) -> Answer {
        let client = message["params"]["clientInfo"]["name"].as_str().unwrap_or_default().to_owned();
        let mut state = self.state.lock().unwrap();
        state.opened += 1;
        let name = format!("u{}", state.opened);
        let session = Session { client, streams: BTreeMap::new(), by_tag: BTreeMap::new(), unasked: None };
        state.sessions.insert(name.clone(), session);
        let result = json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {}, "logging": {} },
            "serverInfo": { "name": "simulated", "version": "1" },
        });
        let body = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string();
        let head = Response::builder().header("content-type", "application/json");
        respond(head.header("mcp-session-id", name), body)
    }

    async fn call(
        self: &Arc<Self>,
        session: &str,
        id: &Value,
        arguments: &Value,
        breaks: Option<usize>,
    ) -> Answer {
        let tag = arguments["tag"].as_str().unwrap().to_owned();
        self.ledger.runs(&tag);
        let log = {
            let mut state = self.state.lock().unwrap();
            state.runs += 1;
            let log = Log::new(format!("r{}", state.runs));
            let session = state.sessions.get_mut(session).unwrap();
            session.streams.insert(log.name.clone(), log.clone());
            session.by_tag.insert(tag.clone(), log.clone());
            log
        };
        spawn(run(log.clone(), tag, id.clone(), arguments.clone()));
        if arguments["json"] == true {
            log.until(|said| said.over).await;
            let last = log.said.lock().unwrap().messages.last().cloned();
            let Some(last) = last else { return status(StatusCode::INTERNAL_SERVER_ERROR) };
            return respond(Response::builder().header("content-type", "application/json"), last);
        }
        self.stream(log, 0, breaks)
    }

    /// An event stream from a position on; it breaks after so many events.
    fn stream(&self, log: Arc<Log>, position: usize, breaks: Option<usize>) -> Answer {
        let resumes = self.resumes;
        let primed = !resumes;
        let events =
            unfold((log, position, primed, breaks), move |(log, position, primed, breaks)| async move {
                if !primed {
                    let frame = format!("id: {}:{position}\ndata:\n\n", log.name);
                    return Some((Ok(Frame::data(Bytes::from(frame))), (log, position, true, breaks)));
                }
                if breaks == Some(0) {
                    let broken: BoxError = "the connection broke".into();
                    return Some((Err(broken), (log, position, true, None)));
                }
                log.until(|said| said.messages.len() > position || said.over).await;
                let message = log.said.lock().unwrap().messages.get(position).cloned()?;
                let id = if resumes { format!("id: {}:{}\n", log.name, position + 1) } else { String::new() };
                let frame = Bytes::from(format!("{id}data: {message}\n\n"));
                Some((Ok(Frame::data(frame)), (log, position + 1, true, breaks.map(|left| left - 1))))
            });
        let head = Response::builder().header("content-type", "text/event-stream");
        head.body(Received::within(StreamBody::new(events))).unwrap()
    }
}

/// Progress, perhaps a question, and the result.
async fn run(log: Arc<Log>, tag: String, id: Value, arguments: Value) {
    let steps = arguments["steps"].as_u64().unwrap();
    let pause = Duration::from_millis(arguments["pause"].as_u64().unwrap());
    // In plain JSON there is room for the result only.
    let alone = arguments["json"] == true;
    for number in 1..=steps {
        tokio::time::sleep(pause).await;
        if alone {
            continue;
        }
        let params = json!({ "progressToken": tag, "progress": number });
        log.say(&json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }));
    }
    if arguments["asks"] == true && !alone {
        let question = format!("q-{tag}");
        let params = json!({ "message": tag, "requestedSchema": { "type": "object", "properties": {} } });
        log.say(
            &json!({ "jsonrpc": "2.0", "id": question, "method": "elicitation/create", "params": params }),
        );
        let answered = log.until(|said| said.answered || said.over);
        let _ = tokio::time::timeout(ANSWER_WITHIN, answered).await;
    }
    tokio::time::sleep(pause).await;
    let said = log.len();
    let result = json!({ "tag": tag, "before": said });
    log.say(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
    log.change(|said| said.over = true);
}

/// An answer without anything in it.
pub(super) fn accepted() -> Answer {
    let body = http_body_util::BodyExt::map_err(Empty::new(), |never| match never {});
    Response::builder().status(StatusCode::ACCEPTED).body(Received::within(body)).unwrap()
}
