//! The session store in this process: finds the shard, takes its lock, lets the session take the
//! step. Unless one process is all there is, its sessions end with it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::Instant;

use super::nodes::{Hints, Nodes};
use super::session::{SessionState, millis};
use super::shard::{SHARDS, Shard, shard_of};
use crate::domain::{
    Fence, NodeId, Principal, ServerName, Session, SessionId, SessionPart, StreamKey, Transport,
};
use crate::ports::{
    Append, Appended, Attach, Attached, Beat, Begin, Begun, Bounds, CloseIf, Closed, Durability, Inspected,
    Lease, Mark, Opened, Page, PortFuture, Query, SeenNode, SessionStore, Steal, Stolen, StoreError, Updated,
};

/// Sessions in this process's memory.
#[derive(Debug)]
pub struct MemorySessionStore {
    bounds: Bounds,
    clock: Clock,
    shards: [Mutex<Shard>; SHARDS],
    sessions: AtomicUsize,
    nodes: Mutex<Nodes>,
    hints: Mutex<Hints>,
    /// The shard that the next reap begins with.
    reaping: AtomicUsize,
}

/// Unix time in ms that never steps back and follows tokio's clock.
#[derive(Debug)]
struct Clock {
    started_ms: u64,
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started_ms: millis(since_epoch), started: Instant::now() }
    }

    fn now_ms(&self) -> u64 {
        self.started_ms + u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl MemorySessionStore {
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            clock: Clock::start(),
            shards: std::array::from_fn(|_| Mutex::default()),
            sessions: AtomicUsize::new(0),
            nodes: Mutex::default(),
            hints: Mutex::default(),
            reaping: AtomicUsize::new(0),
        }
    }

    /// How many sessions there are, those past their idle life and not reaped yet included.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    fn shard(&self, id: &SessionId) -> MutexGuard<'_, Shard> {
        self.locked(shard_of(id))
    }

    fn locked(&self, index: usize) -> MutexGuard<'_, Shard> {
        lock(&self.shards[index])
    }

    /// Takes a step that counts as use.
    fn step<T>(&self, id: &SessionId, step: impl FnOnce(&mut SessionState, &Bounds, u64) -> T) -> Option<T> {
        let now_ms = self.clock.now_ms();
        self.shard(id).step(id, &self.bounds, now_ms, |state| {
            state.touch(now_ms);
            step(state, &self.bounds, now_ms)
        })
    }

    fn open_now(
        &self,
        id: &SessionId,
        server: &ServerName,
        owner: &Principal,
        transport: Transport,
    ) -> Opened {
        let now_ms = self.clock.now_ms();
        let session = Session {
            id: id.clone(),
            server: server.clone(),
            owner: owner.clone(),
            transport,
            opened_ms: Some(now_ms),
            client: None,
            upstream: None,
            log_level: None,
            subscriptions: Vec::new(),
            carried: None,
        };
        let state = SessionState::new(session, now_ms);
        let mut shard = self.shard(id);
        if let Some(known) = shard.get(id, &self.bounds, now_ms).map(|state| state.facts.owner.clone()) {
            if known == *owner {
                shard.step(id, &self.bounds, now_ms, |state| state.touch(now_ms));
            }
            return Opened::Owned(known);
        }
        let more = |sessions: usize| (sessions < self.bounds.sessions_max).then_some(sessions + 1);
        if self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Opened::Full;
        }
        shard.insert(id, state, &self.bounds, now_ms);
        Opened::Owned(owner.clone())
    }

    fn forget(&self, sessions: usize) {
        self.sessions.fetch_sub(sessions, Ordering::Relaxed);
    }

    fn close_now(&self, id: &SessionId, condition: &CloseIf) -> Option<Closed> {
        let now_ms = self.clock.now_ms();
        let mut shard = self.shard(id);
        let state = shard.get(id, &self.bounds, now_ms).filter(|state| state.may_close(condition));
        let state = state.is_some().then(|| shard.remove(id))?;
        drop(shard);
        self.forget(1);
        state.map(SessionState::close)
    }

    fn reap_now(&self, limit: usize) -> Vec<Closed> {
        let now_ms = self.clock.now_ms();
        let first = self.reaping.load(Ordering::Relaxed);
        let mut ended = Vec::new();
        for index in (0..SHARDS).map(|step| (first + step) % SHARDS) {
            if ended.len() >= limit {
                self.reaping.store(index, Ordering::Relaxed);
                break;
            }
            ended.extend(self.locked(index).visit(limit - ended.len(), &self.bounds, now_ms));
        }
        self.forget(ended.len());
        ended.into_iter().map(SessionState::close).collect()
    }

    fn find_now(&self, query: &Query) -> Page {
        let now_ms = self.clock.now_ms();
        let first = query.after.as_ref().map_or(0, shard_of);
        let mut found = Vec::new();
        for index in first..SHARDS {
            let mut more = self.locked(index).matching(query, &self.bounds, now_ms);
            more.sort_by(|one, other| one.id.cmp(&other.id));
            found.append(&mut more);
            if found.len() > query.limit {
                break;
            }
        }
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        Page { sessions: found.iter().map(|facts| Session::clone(facts)).collect(), more }
    }
}

/// Nothing here waits, but nothing runs before it is polled either.
impl SessionStore for MemorySessionStore {
    fn durability(&self) -> Durability {
        Durability::Process
    }

    fn known_sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    fn open<'a>(
        &'a self,
        id: &'a SessionId,
        server: &'a ServerName,
        owner: &'a Principal,
        transport: Transport,
    ) -> PortFuture<'a, Result<Opened, StoreError>> {
        Box::pin(async move { Ok(self.open_now(id, server, owner, transport)) })
    }

    fn load<'a>(&'a self, id: &'a SessionId) -> PortFuture<'a, Result<Option<Session>, StoreError>> {
        Box::pin(async move {
            let now_ms = self.clock.now_ms();
            let facts = self.shard(id).get(id, &self.bounds, now_ms).map(|state| state.facts.clone());
            Ok(facts.map(|facts| Session::clone(&facts)))
        })
    }

    fn update<'a>(
        &'a self,
        id: &'a SessionId,
        part: SessionPart,
    ) -> PortFuture<'a, Result<Updated, StoreError>> {
        Box::pin(async move {
            let updated = self.step(id, |state, bounds, _| state.update(part, bounds));
            Ok(updated.unwrap_or(Updated::Gone))
        })
    }

    fn begin<'a>(&'a self, begin: &'a Begin) -> PortFuture<'a, Result<Begun, StoreError>> {
        Box::pin(async move {
            let id = &begin.stream.session;
            Ok(self
                .step(id, |state, bounds, now_ms| state.begin(begin, bounds, now_ms))
                .unwrap_or(Begun::Gone))
        })
    }

    fn append<'a>(&'a self, append: &'a Append) -> PortFuture<'a, Result<Appended, StoreError>> {
        Box::pin(async move {
            // A copy: a slice of a large read buffer would keep all of it, beyond the bounds.
            let payload = Bytes::copy_from_slice(&append.payload);
            let append = Append { payload, ..append.clone() };
            let id = append.to.session.clone();
            let appended = self.step(&id, |state, bounds, now_ms| state.append(append, bounds, now_ms));
            Ok(appended.unwrap_or(Appended::Gone))
        })
    }

    fn mark<'a>(&'a self, mark: &'a Mark) -> PortFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.step(&mark.stream.session, |state, _, _| state.mark(mark));
            Ok(())
        })
    }

    fn steal<'a>(&'a self, steal: &'a Steal) -> PortFuture<'a, Result<Stolen, StoreError>> {
        Box::pin(async move {
            let id = &steal.stream.session;
            Ok(self
                .step(id, |state, bounds, now_ms| state.steal(steal, bounds, now_ms))
                .unwrap_or(Stolen::Gone))
        })
    }

    fn attach<'a>(&'a self, attach: &'a Attach) -> PortFuture<'a, Result<Attached, StoreError>> {
        Box::pin(async move {
            let id = &attach.stream.session;
            let attached = self.step(id, |state, bounds, now_ms| state.attach(attach, bounds, now_ms));
            Ok(attached.unwrap_or(Attached::Gone))
        })
    }

    fn release<'a>(&'a self, stream: &'a StreamKey, fence: Fence) -> PortFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let now_ms = self.clock.now_ms();
            let id = &stream.session;
            self.shard(id).step(id, &self.bounds, now_ms, |state| state.release(&stream.stream, fence));
            Ok(())
        })
    }

    fn touch<'a>(&'a self, sessions: &'a [SessionId]) -> PortFuture<'a, Result<Vec<SessionId>, StoreError>> {
        Box::pin(async move {
            let gone = sessions.iter().filter(|id| self.step(id, |_, _, _| ()).is_none());
            Ok(gone.cloned().collect())
        })
    }

    fn close<'a>(
        &'a self,
        id: &'a SessionId,
        condition: &'a CloseIf,
    ) -> PortFuture<'a, Result<Option<Closed>, StoreError>> {
        Box::pin(async move { Ok(self.close_now(id, condition)) })
    }

    fn reap<'a>(&'a self, limit: usize) -> PortFuture<'a, Result<Vec<Closed>, StoreError>> {
        Box::pin(async move { Ok(self.reap_now(limit)) })
    }

    fn find<'a>(&'a self, query: &'a Query) -> PortFuture<'a, Result<Page, StoreError>> {
        Box::pin(async move { Ok(self.find_now(query)) })
    }

    fn inspect<'a>(&'a self, id: &'a SessionId) -> PortFuture<'a, Result<Option<Inspected>, StoreError>> {
        Box::pin(async move {
            let now_ms = self.clock.now_ms();
            Ok(self.shard(id).get(id, &self.bounds, now_ms).map(SessionState::inspect))
        })
    }

    fn hint<'a>(&'a self, server: &'a ServerName, method: &'a str) -> PortFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            lock(&self.hints).give(server, method, self.clock.now_ms());
            Ok(())
        })
    }

    fn hints<'a>(&'a self, server: &'a ServerName) -> PortFuture<'a, Result<Vec<(String, u64)>, StoreError>> {
        Box::pin(async move { Ok(lock(&self.hints).of(server)) })
    }

    fn beat<'a>(&'a self, lease: &'a Lease) -> PortFuture<'a, Result<Beat, StoreError>> {
        Box::pin(async move { Ok(lock(&self.nodes).beat(lease, self.clock.now_ms())) })
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            lock(&self.nodes).leave(node, self.clock.now_ms());
            Ok(())
        })
    }

    fn nodes(&self) -> PortFuture<'_, Result<Vec<SeenNode>, StoreError>> {
        Box::pin(async move { Ok(lock(&self.nodes).seen(self.clock.now_ms())) })
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("no step panics")
}
