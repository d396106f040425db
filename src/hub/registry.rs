//! Which sessions this node holds something of, and what it read about them: caches that are bounded in
//! time, and given up when something may have been missed. Sessions that merely exist cost nothing here.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::live::Live;
use crate::domain::{Session, SessionId};

const SHARDS: usize = 64;

/// The sessions that this node holds something of.
#[derive(Debug)]
pub(super) struct Registry {
    shards: Vec<Mutex<Shard>>,
    cache_ttl: Duration,
}

#[derive(Debug, Default)]
struct Shard {
    /// In order, so that a sweep can be replayed.
    sessions: BTreeMap<SessionId, Arc<Live>>,
    /// Rises when something was forgotten: a load that it overtook must not be entered.
    forgotten: u64,
}

impl Registry {
    pub(super) fn new(cache_ttl: Duration) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, cache_ttl }
    }

    /// A session whose facts are fresh.
    pub(super) fn fresh(&self, id: &SessionId) -> Option<Arc<Live>> {
        let live = self.known(id)?;
        let fresh = live.read_at().elapsed() < self.cache_ttl && !live.stale.load(Ordering::Relaxed);
        fresh.then_some(live)
    }

    /// A session that something is held of, however old its facts.
    pub(super) fn known(&self, id: &SessionId) -> Option<Arc<Live>> {
        self.shard(id).sessions.get(id).cloned()
    }

    /// What [`Self::enter`] needs to see whether a load was overtaken.
    pub(super) fn mark(&self, id: &SessionId) -> u64 {
        self.shard(id).forgotten
    }

    /// Enters what was loaded after `mark` was taken; `None` if something was forgotten since.
    pub(super) fn enter(&self, session: Session, mark: u64) -> Option<Arc<Live>> {
        let mut shard = self.shard(&session.id);
        if shard.forgotten != mark {
            return None;
        }
        if let Some(live) = shard.sessions.get(&session.id).cloned() {
            drop(shard);
            live.set_session(session);
            return Some(live);
        }
        let live = Arc::new(Live::new(session));
        shard.sessions.insert(live.id.clone(), live.clone());
        Some(live)
    }

    /// The session ended: nothing of it is served any more.
    pub(super) fn forget(&self, id: &SessionId) -> Option<Arc<Live>> {
        let mut shard = self.shard(id);
        shard.forgotten += 1;
        shard.sessions.remove(id)
    }

    /// Nothing that was read up to now is trusted, nor what is being read.
    pub(super) fn distrust(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().expect("no panic while holding it");
            shard.forgotten += 1;
            shard.sessions.values().for_each(|live| live.expire());
        }
    }

    /// Every session held, a shard at a time; idle ones with stale facts are dropped.
    pub(super) fn sweep(&self, mut visit: impl FnMut(&Arc<Live>)) {
        for shard in &self.shards {
            let mut shard = shard.lock().expect("no panic while holding it");
            shard.sessions.retain(|_, live| {
                visit(live);
                // Whoever holds it is about to enter a stream or a request, which have to be found here.
                !(Arc::strong_count(live) == 1
                    && live.is_idle()
                    && live.read_at().elapsed() >= self.cache_ttl
                    && !live.used.load(Ordering::Relaxed))
            });
        }
    }

    /// Every session held, a shard at a time.
    pub(super) fn each(&self, mut visit: impl FnMut(&Live)) {
        for shard in &self.shards {
            shard.lock().expect("no panic while holding it").sessions.values().for_each(|live| visit(live));
        }
    }

    fn shard(&self, id: &SessionId) -> std::sync::MutexGuard<'_, Shard> {
        // Ids of sessions are our own random ones: any of their bytes spreads them.
        let bytes = id.as_str().as_bytes().iter().take(4);
        let hash = bytes.fold(0_usize, |hash, byte| hash * 31 + usize::from(*byte));
        self.shards[hash % SHARDS].lock().expect("no panic while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::super::live::tests::session;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_that_somebody_works_with_is_not_dropped_from_the_registry() {
        let registry = Registry::new(Duration::from_secs(30));
        let session = session();
        let id = session.id.clone();
        let mark = registry.mark(&id);
        // Found a moment ago by a request that waits for its turn.
        let live = registry.enter(session, mark).unwrap();
        live.mark_used();
        tokio::time::advance(Duration::from_secs(30)).await;
        registry.sweep(|live| assert!(live.take_used()));
        let known = registry.known(&id).expect("events for its streams are looked for here");
        assert!(Arc::ptr_eq(&known, &live));
        drop((known, live));
        registry.sweep(|_| ());
        assert!(registry.known(&id).is_none());
    }
}
