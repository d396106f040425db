//! What the clients of a load saw, all together.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

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
    /// The same of GETs for streams, which are harmless to repeat.
    pub unanswered: Mutex<Vec<String>>,
    /// Requests that were refused with this status.
    pub refused: Mutex<Vec<u16>>,
    pub events: AtomicUsize,
    pub unasked: AtomicUsize,
    pub losses_told: AtomicUsize,
    /// Times that a client was told that its session is gone.
    pub gone: AtomicUsize,
    took: Mutex<Vec<Duration>>,
    /// The longest time between two messages that a server says each second.
    silence: Mutex<Duration>,
    /// From the break of a stream to its first event afterwards.
    pub resumed: Mutex<Vec<Duration>>,
}

impl Ledger {
    pub(super) fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    pub(crate) fn results(&self) -> usize {
        self.results.load(Ordering::Relaxed)
    }

    /// How often something was refused so far.
    pub(crate) fn refusals(&self) -> usize {
        self.refused.lock().unwrap().len()
    }

    /// How long calls took, from the shortest to the longest.
    pub(crate) fn took(&self) -> Vec<Duration> {
        let mut took = self.took.lock().unwrap().clone();
        took.sort();
        took
    }

    pub(crate) fn silence(&self) -> Duration {
        *self.silence.lock().unwrap()
    }

    /// A call's end: its steps came once each and in order, all of them before a result, but for what was
    /// told to be lost.
    pub(super) fn ended(&self, token: &str, message: &Value, seen: &Seen, steps: u64, took: Duration) {
        let Seen { steps: seen, loss_told } = seen;
        let in_order = seen.is_sorted_by(|one, next| one < next) && seen.iter().all(|step| *step <= steps);
        let whole = seen.iter().copied().eq(1..=seen.len() as u64);
        if !in_order || !(whole || *loss_told) {
            self.wrong(format!("{token}: {seen:?}"));
        }
        if message["error"].is_null() {
            if seen.len() as u64 != steps && !loss_told || message["result"]["token"] != *token {
                self.wrong(format!("{token}: {seen:?} and then {message}"));
            }
            self.results.fetch_add(1, Ordering::Relaxed);
        } else {
            self.errors.lock().unwrap().push(format!("{token}: {}", message["error"]["message"]));
        }
        self.took.lock().unwrap().push(took);
    }

    /// What the server said unasked: numbers, each once and in order. False if it is the gateway that says
    /// that something may be lost.
    pub(super) fn said_unasked(&self, client: usize, counted: &mut Counted, message: &Value) -> bool {
        let Some(number) = message["params"]["data"]["unasked"].as_u64() else {
            self.losses_told.fetch_add(1, Ordering::Relaxed);
            counted.last = None;
            return false;
        };
        self.unasked.fetch_add(1, Ordering::Relaxed);
        if counted.last.is_some_and(|last| number != last + 1) {
            self.wrong(format!("client {client}: {number} after {:?} unasked", counted.last));
        }
        if let Some(before) = counted.at.replace(Instant::now()) {
            let mut silence = self.silence.lock().unwrap();
            *silence = before.elapsed().max(*silence);
        }
        counted.last = Some(number);
        true
    }
}

/// What a call's client saw before its end.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub steps: Vec<u64>,
    /// Meanwhile it was told that something may be missing on this stream.
    pub loss_told: bool,
}

/// What a session's stream said unasked last.
#[derive(Debug, Default)]
pub(super) struct Counted {
    last: Option<u64>,
    at: Option<Instant>,
}
