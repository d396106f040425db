//! What really happened, and what clients saw: where the two disagree, a promise is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// After the end of a fault what it broke may still show for so long: a lease, a second for a lost
/// message, a time limit on what was in flight.
const AFTERMATH: Duration = Duration::from_secs(6);

#[derive(Debug)]
pub(super) struct Ledger {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    calls: BTreeMap<String, Call>,
    /// What a session of the server said unasked, by the server's session.
    unasked: BTreeMap<String, Unasked>,
    acknowledged: BTreeSet<String>,
    broken: Vec<String>,
    /// What holds: how many faults last now, and when the last one ended.
    faults: usize,
    calm_since: Instant,
    trace: DefaultHasher,
    told: bool,
    pub counts: Counts,
}

/// One call at the server.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    pub runs: u32,
    pub cancelled: bool,
}

#[derive(Debug, Default)]
struct Unasked {
    said: u64,
    /// Said while nobody could hear them.
    unheard: BTreeSet<u64>,
    heard: BTreeSet<u64>,
    /// What the client was told to be lost, or could not ask for.
    forgiven: bool,
}

/// What a schedule came to.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub results: u64,
    pub in_json: u64,
    pub errors: u64,
    pub taken_over: u64,
    pub unknown: u64,
    pub refused: u64,
    pub events: u64,
    pub unasked: u64,
    pub resumes: u64,
    pub losses_told: u64,
    pub steps: u64,
    pub faults: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.results += other.results;
        self.in_json += other.in_json;
        self.errors += other.errors;
        self.taken_over += other.taken_over;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.events += other.events;
        self.unasked += other.unasked;
        self.resumes += other.resumes;
        self.losses_told += other.losses_told;
        self.steps += other.steps;
        self.faults += other.faults;
    }
}

impl Ledger {
    pub(super) fn new(told: bool) -> Self {
        let now = Instant::now();
        let state = State {
            calls: BTreeMap::new(),
            unasked: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            broken: Vec::new(),
            faults: 0,
            calm_since: now,
            trace: DefaultHasher::new(),
            told,
            counts: Counts::default(),
        };
        Self { started: now, state: Mutex::new(state) }
    }

    fn at(&self) -> u128 {
        self.started.elapsed().as_millis()
    }

    /// A line of the schedule's story; two runs of one seed tell the same.
    pub(super) fn tell(&self, what: fmt::Arguments<'_>) {
        let at = self.at();
        let mut state = self.state.lock().unwrap();
        let line = what.to_string();
        (at, &line).hash(&mut state.trace);
        if state.told {
            println!("{at:>6} {line}");
        }
    }

    /// The same, for what says nothing new.
    pub(super) fn show(&self, what: fmt::Arguments<'_>) {
        let at = self.at();
        if self.state.lock().unwrap().told {
            println!("{at:>6} {what}");
        }
    }

    pub(super) fn trace(&self) -> u64 {
        self.state.lock().unwrap().trace.finish()
    }

    /// A promise is broken.
    pub(super) fn wrong(&self, what: std::fmt::Arguments<'_>) {
        self.tell(format_args!("WRONG {what}"));
        let at = self.at();
        self.state.lock().unwrap().broken.push(format!("{at} ms: {what}"));
    }

    pub(super) fn broken(&self) -> Vec<String> {
        self.state.lock().unwrap().broken.clone()
    }

    pub(super) fn count(&self, what: impl FnOnce(&mut Counts)) {
        what(&mut self.state.lock().unwrap().counts);
    }

    pub(super) fn counts(&self) -> Counts {
        self.state.lock().unwrap().counts
    }

    pub(super) fn fault_begins(&self) {
        let mut state = self.state.lock().unwrap();
        state.faults += 1;
        state.counts.faults += 1;
    }

    pub(super) fn fault_ends(&self) {
        let mut state = self.state.lock().unwrap();
        state.faults -= 1;
        state.calm_since = Instant::now();
    }

    /// Nothing that fails now is anybody's fault.
    pub(super) fn is_upset(&self) {
        self.state.lock().unwrap().calm_since = Instant::now();
    }

    /// Whether a failure of something that began then is nobody's broken promise.
    pub(super) fn excuses(&self, began: Instant) -> bool {
        let state = self.state.lock().unwrap();
        state.faults > 0 || state.calm_since + AFTERMATH >= began
    }

    /// The server runs a call.
    pub(super) fn runs(&self, tag: &str) {
        let mut state = self.state.lock().unwrap();
        let call = state.calls.entry(tag.to_owned()).or_default();
        call.runs += 1;
        let twice = call.runs > 1;
        drop(state);
        if twice {
            self.wrong(format_args!("{tag} ran twice"));
        }
    }

    pub(super) fn cancelled(&self, tag: &str) {
        self.state.lock().unwrap().calls.entry(tag.to_owned()).or_default().cancelled = true;
    }

    /// The server has acknowledged a notification or an answer.
    pub(super) fn acknowledges(&self, what: &str) {
        self.state.lock().unwrap().acknowledged.insert(what.to_owned());
    }

    /// P4: 202 says that it did.
    pub(super) fn was_accepted(&self, what: &str) {
        if !self.state.lock().unwrap().acknowledged.contains(what) {
            self.wrong(format_args!("P4: {what} was answered with 202, and the server has not seen it"));
        }
    }

    /// The server says something unasked, and gets its number.
    pub(super) fn says(&self, session: &str) -> u64 {
        let mut state = self.state.lock().unwrap();
        let unasked = state.unasked.entry(session.to_owned()).or_default();
        unasked.said += 1;
        unasked.said
    }

    /// Nobody could have heard what the session said up to now.
    pub(super) fn unheard(&self, session: &str) {
        let mut state = self.state.lock().unwrap();
        let unasked = state.unasked.entry(session.to_owned()).or_default();
        unasked.unheard.extend(1..=unasked.said);
    }

    pub(super) fn heard(&self, session: &str, number: u64) {
        let mut state = self.state.lock().unwrap();
        state.counts.unasked += 1;
        let unasked = state.unasked.entry(session.to_owned()).or_default();
        if !unasked.heard.insert(number) {
            drop(state);
            self.wrong(format_args!("P3: message {number} of {session} came twice"));
        }
    }

    /// The client has no claim on what it missed so far.
    pub(super) fn forgive(&self, session: &str) {
        let mut state = self.state.lock().unwrap();
        state.unasked.entry(session.to_owned()).or_default().forgiven = true;
    }

    /// P3, once all is calm and everybody has listened: no silent hole.
    pub(super) fn all_heard(&self, session: &str) {
        let state = self.state.lock().unwrap();
        let Some(unasked) = state.unasked.get(session).filter(|unasked| !unasked.forgiven) else { return };
        let missing = (1..=unasked.said)
            .filter(|number| !unasked.heard.contains(number) && !unasked.unheard.contains(number));
        let missing: Vec<_> = missing.collect();
        drop(state);
        if !missing.is_empty() {
            self.wrong(format_args!("P3: messages {missing:?} of {session} never came"));
        }
    }
}
