//! Shared state that fails when told to: a store that is away, or says too late what it did, and a
//! bus that loses what it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast::app::Shared;
use holdfast::domain::{
    Fence, NodeId, Principal, Rate, ServerName, Session, SessionId, SessionPart, StreamKey, Transport,
};
use holdfast::ports::{
    Append, Appended, Attach, Attached, Beat, Begin, Begun, Bus, BusError, CloseIf, Closed, Durability,
    Envelope, Inbox, Inspected, Lease, Mark, Opened, Page, Parcel, PortFuture, Query, RateLimits,
    RelayAnswer, RelayAsk, SeenNode, SessionStore, Steal, Stolen, StoreError, Taken, Updated,
};

/// What is broken now.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The store is away: nothing runs.
    pub away: AtomicBool,
    /// Every append runs, and its answer is lost once: the caller repeats it.
    pub forgetful: AtomicBool,
    /// Steps that run at once and answer late: by how much, and how often.
    late: Mutex<BTreeMap<&'static str, (Duration, usize)>>,
    /// Steps that run late.
    slow: Mutex<BTreeMap<&'static str, Duration>>,
    /// Steps that run once without an answer.
    forgotten: Mutex<BTreeSet<&'static str>>,
    /// A node that is not there does not refuse a ping, but says nothing.
    pub frozen: AtomicBool,
    /// The store is away after so many more steps of a kind.
    leaving: Mutex<Option<(&'static str, usize)>>,
    /// The bus takes messages and loses them.
    pub deaf: AtomicBool,
    /// The bus can't be reached, and knows it.
    pub cut: AtomicBool,
    /// The state outlives the node that ends, as one that is shared does.
    pub lasting: AtomicBool,
    lost_last: AtomicBool,
    /// How often each step was taken, messages of the bus included.
    pub taken: Mutex<BTreeMap<&'static str, usize>>,
}

impl Faults {
    fn takes(&self, step: &'static str) {
        *self.taken.lock().unwrap().entry(step).or_default() += 1;
    }

    /// What was taken since the last time, but for what a node does of its own.
    pub(crate) fn count(&self) -> BTreeMap<&'static str, usize> {
        let mut taken = std::mem::take(&mut *self.taken.lock().unwrap());
        taken.retain(|step, _| !["beat", "reap", "tally", "touch"].contains(step));
        taken
    }

    /// The next so many steps of this kind answer late.
    pub(crate) fn delay(&self, step: &'static str, by: Duration, times: usize) {
        self.late.lock().unwrap().insert(step, (by, times));
    }

    /// Steps of this kind run late.
    pub(crate) fn slow(&self, step: &'static str, by: Duration) {
        self.slow.lock().unwrap().insert(step, by);
    }

    async fn hesitate(&self, step: &'static str) {
        let by = self.slow.lock().unwrap().get(step).copied();
        if let Some(by) = by {
            tokio::time::sleep(by).await;
        }
    }

    /// The next step of this kind runs, and its answer is lost.
    pub(crate) fn forget(&self, step: &'static str) {
        self.forgotten.lock().unwrap().insert(step);
    }

    /// The store goes away after so many more steps of this kind.
    pub(crate) fn leave_after(&self, step: &'static str, times: usize) {
        *self.leaving.lock().unwrap() = Some((step, times));
    }

    async fn linger(&self, step: &'static str) {
        if let Some((leaving, times)) = &mut *self.leaving.lock().unwrap()
            && *leaving == step
        {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.away.store(true, Ordering::SeqCst);
            }
        }
        let late =
            self.late.lock().unwrap().get_mut(step).filter(|(_, times)| *times > 0).map(|(by, times)| {
                *times -= 1;
                *by
            });
        if let Some(by) = late {
            tokio::time::sleep(by).await;
        }
    }

    fn store(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) { Err(StoreError::Unavailable) } else { Ok(()) }
    }

    fn bus(&self) -> Result<(), BusError> {
        if self.cut.load(Ordering::SeqCst) { Err(BusError::Unavailable) } else { Ok(()) }
    }

    pub(crate) fn set(fault: &AtomicBool, broken: bool) {
        fault.store(broken, Ordering::SeqCst);
    }
}

/// The same state, behind faults.
pub(crate) fn faulty(shared: Shared) -> (Shared, Arc<Faults>) {
    let faults: Arc<Faults> = Arc::default();
    let store = FaultyStore { store: shared.store, faults: faults.clone() };
    let bus = FaultyBus { bus: shared.bus, faults: faults.clone() };
    let rates = FaultyRates { rates: shared.rates, faults: faults.clone() };
    (Shared { store: Arc::new(store), bus: Arc::new(bus), rates: Arc::new(rates) }, faults)
}

#[derive(Debug)]
struct FaultyRates {
    rates: Arc<dyn RateLimits>,
    faults: Arc<Faults>,
}

impl RateLimits for FaultyRates {
    fn take<'a>(
        &'a self,
        principal: &'a Principal,
        rate: Rate,
        requests: u64,
    ) -> PortFuture<'a, Result<Taken, StoreError>> {
        Box::pin(async move {
            self.faults.takes("take");
            self.faults.hesitate("take").await;
            self.faults.store()?;
            self.rates.take(principal, rate, requests).await
        })
    }
}

#[derive(Debug)]
struct FaultyStore {
    store: Arc<dyn SessionStore>,
    faults: Arc<Faults>,
}

macro_rules! pass {
    ($self:ident, $step:literal, $call:expr) => {
        Box::pin(async move {
            $self.faults.takes($step);
            $self.faults.store()?;
            $self.faults.hesitate($step).await;
            let answer = $call.await;
            $self.faults.linger($step).await;
            if $self.faults.forgotten.lock().unwrap().remove($step) {
                return Err(StoreError::Unknown);
            }
            answer
        })
    };
}

impl SessionStore for FaultyStore {
    fn durability(&self) -> Durability {
        let lasting = self.faults.lasting.load(Ordering::SeqCst);
        if lasting { Durability::Shared } else { self.store.durability() }
    }

    fn known_sessions(&self) -> usize {
        self.store.known_sessions()
    }

    fn open<'a>(
        &'a self,
        id: &'a SessionId,
        server: &'a ServerName,
        owner: &'a Principal,
        transport: Transport,
    ) -> PortFuture<'a, Result<Opened, StoreError>> {
        pass!(self, "open", self.store.open(id, server, owner, transport))
    }

    fn load<'a>(&'a self, id: &'a SessionId) -> PortFuture<'a, Result<Option<Session>, StoreError>> {
        pass!(self, "load", self.store.load(id))
    }

    fn update<'a>(
        &'a self,
        id: &'a SessionId,
        part: SessionPart,
    ) -> PortFuture<'a, Result<Updated, StoreError>> {
        pass!(self, "update", self.store.update(id, part))
    }

    fn begin<'a>(&'a self, begin: &'a Begin) -> PortFuture<'a, Result<Begun, StoreError>> {
        pass!(self, "begin", self.store.begin(begin))
    }

    fn append<'a>(&'a self, append: &'a Append) -> PortFuture<'a, Result<Appended, StoreError>> {
        Box::pin(async move {
            self.faults.takes("append");
            self.faults.store()?;
            let appended = self.store.append(append).await;
            self.faults.linger("append").await;
            let forgetful = self.faults.forgetful.load(Ordering::SeqCst);
            if forgetful && !self.faults.lost_last.fetch_xor(true, Ordering::SeqCst) {
                return Err(StoreError::Unknown);
            }
            appended
        })
    }

    fn mark<'a>(&'a self, mark: &'a Mark) -> PortFuture<'a, Result<(), StoreError>> {
        pass!(self, "mark", self.store.mark(mark))
    }

    fn steal<'a>(&'a self, steal: &'a Steal) -> PortFuture<'a, Result<Stolen, StoreError>> {
        pass!(self, "steal", self.store.steal(steal))
    }

    fn attach<'a>(&'a self, attach: &'a Attach) -> PortFuture<'a, Result<Attached, StoreError>> {
        pass!(self, "attach", self.store.attach(attach))
    }

    fn release<'a>(&'a self, stream: &'a StreamKey, fence: Fence) -> PortFuture<'a, Result<(), StoreError>> {
        pass!(self, "release", self.store.release(stream, fence))
    }

    fn touch<'a>(&'a self, sessions: &'a [SessionId]) -> PortFuture<'a, Result<Vec<SessionId>, StoreError>> {
        pass!(self, "touch", self.store.touch(sessions))
    }

    fn close<'a>(
        &'a self,
        id: &'a SessionId,
        condition: &'a CloseIf,
    ) -> PortFuture<'a, Result<Option<Closed>, StoreError>> {
        pass!(self, "close", self.store.close(id, condition))
    }

    fn reap<'a>(&'a self, limit: usize) -> PortFuture<'a, Result<Vec<Closed>, StoreError>> {
        pass!(self, "reap", self.store.reap(limit))
    }

    fn find<'a>(&'a self, query: &'a Query) -> PortFuture<'a, Result<Page, StoreError>> {
        pass!(self, "find", self.store.find(query))
    }

    fn inspect<'a>(&'a self, id: &'a SessionId) -> PortFuture<'a, Result<Option<Inspected>, StoreError>> {
        pass!(self, "inspect", self.store.inspect(id))
    }

    fn hint<'a>(&'a self, server: &'a ServerName, method: &'a str) -> PortFuture<'a, Result<(), StoreError>> {
        pass!(self, "hint", self.store.hint(server, method))
    }

    fn hints<'a>(&'a self, server: &'a ServerName) -> PortFuture<'a, Result<Vec<(String, u64)>, StoreError>> {
        pass!(self, "hints", self.store.hints(server))
    }

    fn beat<'a>(&'a self, lease: &'a Lease) -> PortFuture<'a, Result<Beat, StoreError>> {
        pass!(self, "beat", self.store.beat(lease))
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<(), StoreError>> {
        pass!(self, "leave", self.store.leave(node))
    }

    fn nodes(&self) -> PortFuture<'_, Result<Vec<SeenNode>, StoreError>> {
        pass!(self, "nodes", self.store.nodes())
    }
}

#[derive(Debug)]
struct FaultyBus {
    bus: Arc<dyn Bus>,
    faults: Arc<Faults>,
}

impl Bus for FaultyBus {
    fn open_inbox<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<Inbox, BusError>> {
        self.bus.open_inbox(node)
    }

    fn send<'a>(&'a self, to: &'a NodeId, parcel: Parcel) -> PortFuture<'a, Result<(), BusError>> {
        self.faults.takes(if parcel.envelope == Envelope::Tally { "tally" } else { "send" });
        if self.faults.deaf.load(Ordering::SeqCst) {
            return Box::pin(async { Ok(()) });
        }
        Box::pin(async move {
            self.faults.bus()?;
            self.bus.send(to, parcel).await
        })
    }

    fn announce(&self, parcel: Parcel) -> PortFuture<'_, Result<(), BusError>> {
        self.faults.takes(if parcel.envelope == Envelope::Tally { "tally" } else { "announce" });
        if self.faults.deaf.load(Ordering::SeqCst) {
            return Box::pin(async { Ok(()) });
        }
        Box::pin(async move {
            self.faults.bus()?;
            self.bus.announce(parcel).await
        })
    }

    fn ping<'a>(&'a self, node: &'a NodeId, patience: Duration) -> PortFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            self.faults.bus()?;
            let answer = self.bus.ping(node, patience).await;
            if answer.is_err() && self.faults.frozen.load(Ordering::SeqCst) {
                tokio::time::sleep(patience).await;
                return Err(BusError::Unavailable);
            }
            answer
        })
    }
    fn relay<'a>(
        &'a self,
        to: &'a NodeId,
        ask: RelayAsk,
        patience: Duration,
    ) -> PortFuture<'a, Result<RelayAnswer, BusError>> {
        self.faults.takes("relay");
        Box::pin(async move {
            self.faults.bus()?;
            if self.faults.deaf.load(Ordering::SeqCst) {
                tokio::time::sleep(patience).await;
                return Err(BusError::Unavailable);
            }
            self.bus.relay(to, ask, patience).await
        })
    }
}
