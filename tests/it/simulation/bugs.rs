//! Mistakes on purpose: each is one that an adapter, or whoever calls it, could make. A simulation that
//! does not find them proves nothing.

use std::sync::Arc;

use futures::FutureExt as _;
use holdfast::domain::{
    EventNumber, Fence, NodeId, Principal, ServerName, Session, SessionId, SessionPart, StreamKey, Transport,
};
use holdfast::ports::{
    Append, Appended, Attach, Attached, Beat, Begin, Begun, CloseIf, Closed, Durability, Envelope, Inspected,
    Lease, Mark, Opened, Page, Parcel, PortFuture, Query, SeenNode, SessionStore, Steal, Stolen, StoreError,
    Updated,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// An append is taken whatever its fence says.
    FenceIgnored,
    /// A repeated append is logged again.
    ProducerIgnored,
    /// An append is acknowledged, and forgotten now and then.
    AppendForgotten,
    /// A request's record outlives its answer.
    RecordKept,
    /// A position that is not in the log is taken for the top.
    LostTakenForTop,
    /// The first event after the client's position is left out.
    TailCut,
    /// What was appended a moment before an attach is missing in its answer.
    TailReadBeforeBinding,
    /// Nodes never seem dead.
    DeathUnseen,
    /// Nobody notices that messages between nodes are missing.
    GapsUnseen,
    /// A receiver does not look at what an event follows.
    SequenceSkipped,
    /// Whoever claims a session is told that it is theirs.
    ClaimGranted,
    /// A store that can't be asked is taken for one that says no.
    ErrorTakenForGone,
    /// 202 before the server has heard it.
    AcceptedUnheard,
    /// Where the server's answer was read to is not kept.
    PositionForgotten,
}

impl Bug {
    pub(super) const ALL: [Self; 14] = [
        Self::FenceIgnored,
        Self::ProducerIgnored,
        Self::AppendForgotten,
        Self::RecordKept,
        Self::LostTakenForTop,
        Self::TailCut,
        Self::TailReadBeforeBinding,
        Self::DeathUnseen,
        Self::GapsUnseen,
        Self::SequenceSkipped,
        Self::ClaimGranted,
        Self::ErrorTakenForGone,
        Self::AcceptedUnheard,
        Self::PositionForgotten,
    ];
}

/// The same store, with one mistake.
#[derive(Debug)]
pub(super) struct BentStore {
    store: Arc<dyn SessionStore>,
    bug: Bug,
    chance: std::sync::Mutex<fastrand::Rng>,
    seen: std::sync::Mutex<std::collections::BTreeSet<NodeId>>,
}

impl BentStore {
    pub(super) fn bent(store: Arc<dyn SessionStore>, bug: Option<Bug>, seed: u64) -> Arc<dyn SessionStore> {
        let Some(bug) = bug else { return store };
        let chance = std::sync::Mutex::new(fastrand::Rng::with_seed(seed));
        Arc::new(Self { store, bug, chance, seen: std::sync::Mutex::default() })
    }

    fn one_in(&self, many: u32) -> bool {
        self.chance.lock().unwrap().u32(0..many) == 0
    }

    async fn forget_append(&self, append: &Append) -> Option<Appended> {
        let inspected = self.store.inspect(&append.to.session).await.ok()??;
        let stream = inspected.streams.into_iter().find(|stream| stream.stream == append.to.stream)?;
        let number = EventNumber::new(stream.top.ms, stream.top.counter + 1);
        Some(Appended::Logged { number, previous: stream.top, binding: stream.binding, ended: append.last })
    }

    async fn append_now(&self, append: &Append) -> Result<Appended, StoreError> {
        let mut append = append.clone();
        match self.bug {
            Bug::FenceIgnored => {
                append.reader = None;
                if let (Some((request, fence)), Some(inspected)) =
                    (&mut append.request, self.store.inspect(&append.to.session).await?)
                    && let Some(record) = inspected.running.iter().find(|record| record.request == *request)
                {
                    *fence = record.fence;
                }
            }
            Bug::ProducerIgnored => append.producer.id = self.chance.lock().unwrap().u64(..),
            Bug::AppendForgotten if self.one_in(20) => {
                if let Some(appended) = self.forget_append(&append).await {
                    return Ok(appended);
                }
            }
            Bug::PositionForgotten => append.upstream_event = None,
            Bug::RecordKept if append.last => {
                append.last = false;
                let appended = self.store.append(&append).await?;
                return Ok(match appended {
                    Appended::Logged { number, previous, binding, .. } => {
                        Appended::Logged { number, previous, binding, ended: true }
                    }
                    other => other,
                });
            }
            _ => {}
        }
        self.store.append(&append).await
    }

    async fn attach_now(&self, attach: &Attach) -> Result<Attached, StoreError> {
        let mut attach = attach.clone();
        let attached = self.store.attach(&attach).await?;
        match (self.bug, attached) {
            (Bug::LostTakenForTop, Attached::Lost { .. }) => {
                attach.position = None;
                self.store.attach(&attach).await
            }
            (
                Bug::TailCut,
                Attached::Bound { fence, mut tail, running, previous, last_bound, upstream_event },
            ) if attach.reassert.is_none() && tail.events.len() > 1 => {
                tail.after = tail.events.remove(0).number;
                Ok(Attached::Bound { fence, tail, running, previous, last_bound, upstream_event })
            }
            (
                Bug::TailReadBeforeBinding,
                Attached::Bound { fence, mut tail, running, previous, last_bound, upstream_event },
            ) if attach.reassert.is_none() => {
                // Nothing tells the holder of what came between: not even a later event's predecessor.
                if let Some(event) = tail.events.pop() {
                    if tail.events.is_empty() {
                        tail.after = event.number;
                    } else if let Some(last) = tail.events.last_mut() {
                        last.number = event.number;
                    }
                }
                Ok(Attached::Bound { fence, tail, running, previous, last_bound, upstream_event })
            }
            (_, attached) => Ok(attached),
        }
    }

    async fn beat_now(&self, lease: &Lease) -> Result<Beat, StoreError> {
        let mut beat = self.store.beat(lease).await?;
        if self.bug == Bug::DeathUnseen {
            let mut seen = self.seen.lock().unwrap();
            seen.extend(beat.alive.iter().cloned());
            beat.alive = seen.iter().cloned().collect();
        }
        Ok(beat)
    }
}

/// What the way to the store does to it; see [`Bug::ErrorTakenForGone`].
pub(super) fn bend_load(
    bug: Option<Bug>,
    loaded: Result<Option<Session>, StoreError>,
) -> Result<Option<Session>, StoreError> {
    match loaded {
        Err(_) if bug == Some(Bug::ErrorTakenForGone) => Ok(None),
        other => other,
    }
}

/// What arrives of a message; `None` if nothing does. `numbers` counts what arrived on its lane, and
/// `last` is the last event that its stream was given here.
pub(super) fn bend_parcel(
    bug: Option<Bug>,
    mut parcel: Parcel,
    numbers: &mut u64,
    last: &mut Option<EventNumber>,
) -> Option<Parcel> {
    match bug {
        Some(Bug::GapsUnseen) => {
            if parcel.envelope == Envelope::Tally {
                return None;
            }
            *numbers += 1;
            parcel.number = *numbers;
        }
        Some(Bug::SequenceSkipped) => {
            if let Envelope::Appended { event, .. } = &mut parcel.envelope {
                if let Some(last) = last.filter(|last| *last < event.number) {
                    event.previous = last;
                }
                *last = Some(event.number);
            }
        }
        _ => {}
    }
    Some(parcel)
}

macro_rules! pass {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        $(fn $name<'a>(&'a self, $($argument: $kind),*) -> PortFuture<'a, Result<$answer, StoreError>> {
            self.store.$name($($argument),*)
        })*
    };
}

impl SessionStore for BentStore {
    fn durability(&self) -> Durability {
        self.store.durability()
    }

    fn known_sessions(&self) -> usize {
        self.store.known_sessions()
    }

    pass! {
        load(id: &'a SessionId) -> Option<Session>;
        update(id: &'a SessionId, part: SessionPart) -> Updated;
        begin(begin: &'a Begin) -> Begun;
        steal(steal: &'a Steal) -> Stolen;
        touch(sessions: &'a [SessionId]) -> Vec<SessionId>;
        close(id: &'a SessionId, condition: &'a CloseIf) -> Option<Closed>;
        reap(limit: usize) -> Vec<Closed>;
        find(query: &'a Query) -> Page;
        inspect(id: &'a SessionId) -> Option<Inspected>;
        hint(server: &'a ServerName, method: &'a str) -> ();
        hints(server: &'a ServerName) -> Vec<(String, u64)>;
        leave(node: &'a NodeId) -> ();
    }

    fn open<'a>(
        &'a self,
        id: &'a SessionId,
        server: &'a ServerName,
        owner: &'a Principal,
        transport: Transport,
    ) -> PortFuture<'a, Result<Opened, StoreError>> {
        Box::pin(async move {
            let opened = self.store.open(id, server, owner, transport).await?;
            Ok(if self.bug == Bug::ClaimGranted { Opened::Owned(owner.clone()) } else { opened })
        })
    }

    fn append<'a>(&'a self, append: &'a Append) -> PortFuture<'a, Result<Appended, StoreError>> {
        self.append_now(append).boxed()
    }

    fn mark<'a>(&'a self, mark: &'a Mark) -> PortFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            if self.bug == Bug::PositionForgotten {
                return Ok(());
            }
            self.store.mark(mark).await
        })
    }

    fn attach<'a>(&'a self, attach: &'a Attach) -> PortFuture<'a, Result<Attached, StoreError>> {
        self.attach_now(attach).boxed()
    }

    fn release<'a>(&'a self, stream: &'a StreamKey, fence: Fence) -> PortFuture<'a, Result<(), StoreError>> {
        self.store.release(stream, fence)
    }

    fn beat<'a>(&'a self, lease: &'a Lease) -> PortFuture<'a, Result<Beat, StoreError>> {
        self.beat_now(lease).boxed()
    }

    fn nodes(&self) -> PortFuture<'_, Result<Vec<SeenNode>, StoreError>> {
        self.store.nodes()
    }
}
