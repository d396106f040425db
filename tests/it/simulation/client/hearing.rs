//! What a client makes of what it hears: each message once, in order, its own, and nothing after a result.

use std::sync::Arc;
use std::time::Duration;

use holdfast::protocol::sse::{Decoder, Event};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::spawn;
use super::super::watched::Watched;
use super::super::world::{Broken, Connection};
use super::{Client, DRAINS_WITHIN, End, Speaks, finished};

impl Client {
    /// Reads a stream for so long at most, or until `done`.
    pub(super) async fn read(
        self: &Arc<Self>,
        mut connection: Connection,
        position: &mut Option<String>,
        time: Duration,
        done: Option<&Watched<bool>>,
    ) -> End {
        let mut decoder = Decoder::new(1 << 20);
        let until = Instant::now() + time;
        loop {
            let piece = tokio::select! {
                biased;
                piece = connection.piece() => piece,
                () = finished(done) => return End::Answered,
                () = tokio::time::sleep_until(until) => return End::Cut,
                _ = self.over.until(|over| *over) => return End::Cut,
            };
            match piece {
                Ok(Some(piece)) => decoder.push(&piece),
                Ok(None) => return End::Over,
                Err(Broken) => return End::Cut,
            }
            while let Ok(Some(event)) = decoder.next() {
                self.event(&event, position, done.is_some() || self.speaks == Speaks::HttpSse);
                if done.is_some_and(|done| done.get()) {
                    return End::Answered;
                }
            }
        }
    }

    fn event(self: &Arc<Self>, event: &Event, position: &mut Option<String>, answers: bool) {
        let data = event.data.as_deref().filter(|data| !data.is_empty());
        if let (Some(id), Some(before), Some(_)) = (&event.id, &*position, data)
            && event.event.as_deref() != Some("endpoint")
            && number_of(id) <= number_of(before)
        {
            self.wrong(format_args!("P3: {id} came after {before}"));
        }
        if let Some(id) = &event.id {
            *position = Some(id.clone());
        }
        let Some(data) = data else { return };
        if event.event.as_deref() == Some("endpoint") {
            let target = String::from_utf8_lossy(data).into_owned();
            let session = target.split_once('=').unwrap().1.to_owned();
            self.endpoint(session);
            return;
        }
        self.world.ledger.count(|counts| counts.events += 1);
        match serde_json::from_slice(data) {
            Ok(message) => self.message(&message, answers),
            Err(error) => self.wrong(format_args!("{error}: {}", String::from_utf8_lossy(data))),
        }
    }

    /// `answers`: on a stream that answers calls. What can't wait for an answer in plain JSON comes on
    /// the GET stream, and counts for nothing.
    fn message(self: &Arc<Self>, message: &Value, answers: bool) {
        self.world.ledger.tell(format_args!("{} hears {message}", self.name));
        match message["method"].as_str() {
            Some("notifications/progress") => {
                let tag = message["params"]["progressToken"].as_str().unwrap_or_default();
                if answers {
                    self.before_the_result(tag, message["params"]["progress"].as_u64());
                }
            }
            Some("elicitation/create") => {
                let question = message["id"].as_str().unwrap_or_default().to_owned();
                let tag = question.strip_prefix("q-").unwrap_or_default().to_owned();
                if answers {
                    self.before_the_result(&tag, None);
                }
                spawn(self.clone().answer(question, tag));
            }
            Some("notifications/message") if message["params"]["logger"] == "holdfast" => {
                self.world.ledger.count(|counts| counts.losses_told += 1);
                if !self.world.forgets {
                    self.wrong(format_args!("P3: told to be lost, and the log has it all"));
                }
                self.forgive();
                self.is_told_of_a_loss();
            }
            Some("notifications/message") => self.unasked(&message["params"]["data"]),
            Some(other) => self.wrong(format_args!("nobody said {other}")),
            None => {
                let tag = format!("{}-{}", self.name, message["id"]);
                self.answered_with(&tag, message, true);
            }
        }
    }

    /// A message of a call: each once, in order.
    fn before_the_result(&self, tag: &str, number: Option<u64>) {
        let mut state = self.state.lock().unwrap();
        let Some(call) = state.calls.get_mut(tag) else {
            drop(state);
            return self.wrong(format_args!("P2: a message of {tag}, which is somebody else's"));
        };
        call.before += 1;
        let (before, late) = (call.before, call.done.get() && !call.given_up);
        drop(state);
        if late {
            self.wrong(format_args!("P3: a message of {tag} after its result"));
        }
        if number.is_some_and(|number| number != before) && !self.forgiven(tag) {
            self.wrong(format_args!("P3: {tag}: message {number:?} came where {before} was due"));
        }
    }

    pub(super) fn answered_with(&self, tag: &str, message: &Value, on_stream: bool) {
        let mut state = self.state.lock().unwrap();
        let Some(call) = state.calls.get_mut(tag) else {
            // An HTTP+SSE session's initialize is no call.
            if message["result"]["serverInfo"].is_null() && message["error"].is_null() {
                drop(state);
                self.wrong(format_args!("P2: an answer to {tag}, which was not asked: {message}"));
            }
            return;
        };
        let twice = call.done.get() && !call.given_up;
        let (id, session, began, before) = (call.id, call.session.clone(), call.began, call.before);
        let forgiven = call.cancelled || call.given_up;
        call.done.set(true);
        // What was answered because its log is gone may run on.
        let text = message["error"]["message"].as_str().unwrap_or_default();
        if on_stream && !call.given_up && !text.contains("can't be replayed") {
            state.answered.push((session, id));
        }
        drop(state);
        let ledger = &self.world.ledger;
        ledger.tell(format_args!("{tag} is answered"));
        if twice {
            self.wrong(format_args!("P3: {tag} is answered twice"));
        }
        if let Some(result) = message.get("result") {
            ledger.count(|counts| counts.results += 1);
            let expected = result["before"].as_u64();
            if on_stream && !forgiven && (result["tag"] != *tag || expected != Some(before)) {
                self.wrong(format_args!("P3: {tag}: {before} messages before {result}"));
            }
            if result["tag"] != *tag {
                self.wrong(format_args!("P2: {tag} is answered with {result}"));
            }
            return;
        }
        ledger.count(|counts| counts.errors += 1);
        if text.contains("can't resume the answer") {
            ledger.count(|counts| counts.taken_over += 1);
            if self.world.resumes && before > 0 && !forgiven {
                self.wrong(format_args!("P5: {tag}: its server can resume it, and yet: {text}"));
            }
        }
        let forgotten = self.world.forgets && text.contains("can't be replayed");
        // A drain waits only so long, for those that nobody else can go on with (P6).
        let drained = text.contains("shutting down") && began.elapsed() >= DRAINS_WITHIN;
        if !forgiven && !forgotten && !drained {
            self.fails(began, format_args!("{tag}: {text}"));
        }
    }

    /// What the lost part of its one stream answered, nobody can say any more.
    fn is_told_of_a_loss(&self) {
        let mut state = self.state.lock().unwrap();
        state.unasked.clear();
        for call in state.calls.values_mut().filter(|_| self.speaks == Speaks::HttpSse) {
            call.given_up = true;
            call.done.set(true);
        }
    }

    async fn answer(self: Arc<Self>, question: String, tag: String) {
        self.pause(0..500).await;
        let Some(session) = self.state.lock().unwrap().calls.get(&tag).map(|call| call.session.clone())
        else {
            return;
        };
        let result = json!({ "action": "accept", "content": {} });
        let message = json!({ "jsonrpc": "2.0", "id": question, "result": result });
        self.insist(&session, &message, &question).await;
    }

    fn unasked(&self, data: &Value) {
        let session = data["session"].as_str().unwrap_or_default();
        let number = data["number"].as_u64().unwrap_or_default();
        if data["client"] != *self.name {
            return self.wrong(format_args!("P2: {data} is somebody else's"));
        }
        let mut state = self.state.lock().unwrap();
        let before = state.unasked.insert(session.to_owned(), number).unwrap_or(0);
        drop(state);
        if number <= before {
            self.wrong(format_args!("P3: message {number} of {session} came after {before}"));
        }
        self.world.ledger.heard(session, number);
    }

    /// It lost its place by itself, or was told that it is lost.
    pub(super) fn forgive(&self) {
        for session in self.world.server.sessions_of(&self.name) {
            self.world.ledger.forgive(&session);
        }
    }
}

/// The number in an event id.
fn number_of(id: &str) -> (u64, u64) {
    let number = id.rsplit_once('.').map_or(id, |(_, number)| number);
    let (ms, counter) = number.split_once('-').unwrap_or((number, "0"));
    (ms.parse().unwrap_or_default(), counter.parse().unwrap_or_default())
}
