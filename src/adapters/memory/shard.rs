//! The sessions whose ids lie in one range, and when to look at each of them again. Ranges, not
//! hashes: paging by id then visits few shards. Ids that Holdfast mints are even hex digits.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::session::SessionState;
use crate::domain::{Session, SessionId};
use crate::ports::{Bounds, Query};

pub(super) const SHARDS: usize = 64;

/// How many sessions one look at a shard visits at most, so that its lock is not held for long.
const VISITS_MAX: usize = 256;

/// Which shard an id belongs to; rises with the id.
pub(super) fn shard_of(id: &SessionId) -> usize {
    let mut digits = id.as_str().bytes().map(digit);
    let first = digits.next().unwrap_or(Digit::Between(0));
    let second = digits.next().unwrap_or(Digit::Between(0));
    let rank = match (first, second) {
        (Digit::Between(first), _) => first * 16,
        (Digit::Exact(first), Digit::Exact(second) | Digit::Between(second)) => first * 16 + second.min(15),
    };
    rank.min(255) * SHARDS / 256
}

enum Digit {
    Exact(usize),
    /// No hex digit; sorts before this one.
    Between(usize),
}

fn digit(byte: u8) -> Digit {
    match byte {
        b'0'..=b'9' => Digit::Exact(usize::from(byte - b'0')),
        b'a'..=b'f' => Digit::Exact(usize::from(byte - b'a') + 10),
        0..b'0' => Digit::Between(0),
        b':'..b'a' => Digit::Between(10),
        b'g'.. => Digit::Between(16),
    }
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    sessions: HashMap<SessionId, Box<Placed>>,
    /// When each session is to be looked at; one entry for each.
    visits: BTreeSet<(u64, SessionId)>,
    /// Past their idle life, not reaped yet, and their ids are other sessions' by now.
    replaced: Vec<SessionState>,
}

#[derive(Debug)]
struct Placed {
    state: SessionState,
    visit_ms: u64,
}

impl Shard {
    /// A session that is not past its idle life.
    pub(super) fn get(&self, id: &SessionId, bounds: &Bounds, now_ms: u64) -> Option<&SessionState> {
        self.sessions.get(id).map(|placed| &placed.state).filter(|state| state.ends_ms(bounds) > now_ms)
    }

    /// Takes a step on a session, and plans the next look at it.
    pub(super) fn step<T>(
        &mut self,
        id: &SessionId,
        bounds: &Bounds,
        now_ms: u64,
        step: impl FnOnce(&mut SessionState) -> T,
    ) -> Option<T> {
        let placed = self.sessions.get_mut(id)?;
        if placed.state.ends_ms(bounds) <= now_ms {
            return None;
        }
        let answer = step(&mut placed.state);
        let next_ms = placed.state.next_visit_ms(bounds, now_ms);
        if next_ms < placed.visit_ms {
            self.visits.remove(&(placed.visit_ms, id.clone()));
            self.visits.insert((next_ms, id.clone()));
            placed.visit_ms = next_ms;
        }
        Some(answer)
    }

    /// Places a session; one of the same id (past its idle life) makes room, and is still reaped.
    pub(super) fn insert(&mut self, id: &SessionId, state: SessionState, bounds: &Bounds, now_ms: u64) {
        let replaced = self.remove(id);
        self.replaced.extend(replaced);
        let visit_ms = state.next_visit_ms(bounds, now_ms);
        self.visits.insert((visit_ms, id.clone()));
        self.sessions.insert(id.clone(), Box::new(Placed { state, visit_ms }));
    }

    pub(super) fn remove(&mut self, id: &SessionId) -> Option<SessionState> {
        let placed = self.sessions.remove(id)?;
        self.visits.remove(&(placed.visit_ms, id.clone()));
        Some(placed.state)
    }

    /// Looks at the sessions that are due: some are past their idle life and are taken out, the
    /// others let go of what is past its time.
    pub(super) fn visit(&mut self, limit: usize, bounds: &Bounds, now_ms: u64) -> Vec<SessionState> {
        let mut ended = self.replaced.split_off(self.replaced.len().saturating_sub(limit));
        for _ in 0..VISITS_MAX {
            let due = self.visits.first().is_some_and(|(visit_ms, _)| *visit_ms <= now_ms);
            if !due || ended.len() >= limit {
                break;
            }
            let Some((_, id)) = self.visits.pop_first() else { break };
            let Some(placed) = self.sessions.get_mut(&id) else { continue };
            if placed.state.ends_ms(bounds) <= now_ms {
                ended.extend(self.sessions.remove(&id).map(|placed| placed.state));
                continue;
            }
            placed.state.age(bounds, now_ms);
            placed.visit_ms = placed.state.next_visit_ms(bounds, now_ms);
            self.visits.insert((placed.visit_ms, id));
        }
        ended
    }

    /// Sessions that the query asks for, in no order.
    pub(super) fn matching(&self, query: &Query, bounds: &Bounds, now_ms: u64) -> Vec<Arc<Session>> {
        let alive = self.sessions.values().map(|placed| &placed.state).filter(|s| s.ends_ms(bounds) > now_ms);
        alive.map(|state| &state.facts).filter(|facts| matches(facts, query)).cloned().collect()
    }
}

fn matches(session: &Session, query: &Query) -> bool {
    let declares = |name: &String| session.client.as_ref().is_some_and(|c| c.capabilities.contains(name));
    query.after.as_ref().is_none_or(|after| session.id > *after)
        && query.server.as_ref().is_none_or(|server| session.server == *server)
        && query.owner.as_ref().is_none_or(|owner| session.owner == *owner)
        && query.capability.as_ref().is_none_or(declares)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shards_are_in_the_order_of_ids(one in "[A-Za-z0-9_-]{1,4}", other in "[A-Za-z0-9_-]{1,4}") {
            let (one, other) = (SessionId::parse(&one).unwrap(), SessionId::parse(&other).unwrap());
            let (low, high) = if one < other { (one, other) } else { (other, one) };
            prop_assert!(shard_of(&low) <= shard_of(&high));
            prop_assert!(shard_of(&high) < SHARDS);
        }
    }

    #[test]
    fn minted_ids_are_spread_evenly() {
        let mut count = [0_usize; SHARDS];
        for _ in 0..6400 {
            count[shard_of(&SessionId::mint())] += 1;
        }
        assert!(count.iter().all(|sessions| (40..200).contains(sessions)), "{count:?}");
    }
}
