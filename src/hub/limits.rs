//! What use cases ask of the limits of principals (`crate::limits`), and the sessions that this node opened
//! for them. Whoever ends a session tells all nodes; as that may get lost, the store is asked now and then.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::{Error, Hub};
use crate::domain::{Principal, SessionId};
use crate::limits::{Exceeded, Intake, Place};

/// Of the sessions opened here, so many are looked at in one round, and so many are asked for.
const LOOKED_AT: usize = 4096;
const ASKED_FOR: usize = 64;

impl Hub {
    /// Counts a body of a principal, of which `announced` bytes are said to come.
    ///
    /// # Errors
    /// [`Error::Exceeded`].
    pub fn intake(&self, principal: &Principal, announced: Option<u64>) -> Result<Intake, Error> {
        self.inner.limits.intake(principal, announced).map_err(|exceeded| self.exceeded(exceeded))
    }

    /// A limit that was met, counted.
    pub fn exceeded(&self, exceeded: Exceeded) -> Error {
        self.inner.metrics.limit_hit(exceeded.limit);
        Error::Exceeded(exceeded)
    }

    /// A place for a running request.
    pub(super) fn running_place(&self, principal: &Principal) -> Result<Place, Error> {
        self.inner.limits.running(principal).map_err(|exceeded| self.exceeded(exceeded))
    }

    /// A place for a session, if they are counted.
    pub(super) fn session_place(&self, principal: &Principal) -> Result<Option<Place>, Error> {
        self.inner.limits.session(principal).map_err(|exceeded| self.exceeded(exceeded))
    }

    /// Forgets principals who use nothing, some at each call.
    pub(super) fn sweep_principals(&self) {
        self.inner.metrics.principals(self.inner.limits.sweep());
    }

    /// Looks for sessions that ended without this node having heard of it.
    pub(super) async fn look_for_ended(&self) {
        for id in self.inner.opened.due(self.inner.config.session_idle_timeout) {
            match self.store().inspect(&id).await {
                Ok(Some(_)) => self.inner.opened.seen(&id),
                Ok(None) => self.inner.opened.forget(&id),
                Err(error) => {
                    tracing::debug!(session = ?id, %error, "whether a session ended is not known yet");
                    return;
                }
            }
        }
    }
}

/// The sessions that this node opened and that, as far as it knows, are there: each has its principal's place.
#[derive(Debug)]
pub(super) struct Opened {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sessions: BTreeMap<SessionId, Seen>,
    /// What was seen before may have ended unheard of.
    doubted_at: Instant,
    looked_at: Option<SessionId>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    _place: Place,
}

impl Opened {
    pub(super) fn new() -> Self {
        let state = State { sessions: BTreeMap::new(), doubted_at: Instant::now(), looked_at: None };
        Self { state: Mutex::new(state) }
    }

    pub(super) fn enter(&self, id: &SessionId, place: Option<Place>) {
        if let Some(place) = place {
            self.state().sessions.insert(id.clone(), Seen { at: Instant::now(), _place: place });
        }
    }

    pub(super) fn forget(&self, id: &SessionId) {
        self.state().sessions.remove(id);
    }

    /// Messages may have got lost.
    pub(super) fn doubt(&self) {
        self.state().doubted_at = Instant::now();
    }

    fn seen(&self, id: &SessionId) {
        if let Some(seen) = self.state().sessions.get_mut(id) {
            seen.at = Instant::now();
        }
    }

    /// Some of those that were seen longer than `trusted` ago; the next call goes on where this one ends.
    fn due(&self, trusted: Duration) -> Vec<SessionId> {
        let mut state = self.state();
        let from = state.looked_at.take().map_or(Unbounded, Excluded);
        let (mut due, mut last) = (Vec::new(), None);
        for (id, seen) in state.sessions.range((from, Unbounded)).take(LOOKED_AT) {
            last = Some(id.clone());
            if seen.at.elapsed() >= trusted || seen.at < state.doubted_at {
                due.push(id.clone());
                if due.len() == ASKED_FOR {
                    break;
                }
            }
        }
        state.looked_at = last;
        due
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Allowance, Config, Limits};

    #[tokio::test(start_paused = true)]
    async fn sessions_opened_here_are_looked_at_in_turn() {
        let own = Allowance { sessions_max: Some(1000), ..Allowance::default() };
        let limits = Limits::new(Config { principal: own, total: Allowance::default() });
        let opened = Opened::new();
        for _ in 0..100 {
            opened.enter(&SessionId::mint(), limits.session(&Principal::anonymous()).unwrap());
        }
        let trusted = Duration::from_secs(60);
        let due = || opened.due(trusted);
        assert_eq!((due().len(), due().len()), (0, 0));
        tokio::time::advance(trusted).await;
        let (first, second) = (due(), due());
        assert_eq!((first.len(), second.len()), (ASKED_FOR, 100 - ASKED_FOR));
        first.iter().chain(&second).for_each(|id| opened.seen(id));
        assert_eq!((due().len(), due().len(), due().len()), (0, 0, 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        opened.doubt();
        assert_eq!(due().len(), ASKED_FOR, "a message may have got lost");
        first.iter().for_each(|id| opened.forget(id));
        assert_eq!(opened.state().sessions.len(), 100 - ASKED_FOR);
    }
}
