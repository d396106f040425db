//! The ports of one node, with what may go wrong between it and what it reaches: steps that are
//! refused, lost, late, done twice or slow, messages that are dropped, doubled or overtaken, and
//! moments at which the node is killed or frozen.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use holdfast::domain::{
    Fence, NodeId, Principal, ServerName, Session, SessionId, SessionPart, StreamKey, Transport,
};
use holdfast::ports::{
    Append, Appended, Attach, Attached, Beat, Begin, Begun, Bus, BusError, CloseIf, Closed, Durability,
    Inbox, Inspected, Lane, Lease, Mark, Opened, Page, Parcel, PortFuture, Query, RelayAnswer, RelayAsk,
    SeenNode, SessionStore, Steal, Stolen, StoreError, Updated,
};
use holdfast::upstream::{self, BoxError, Received};
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response};
use tokio::sync::watch;
use tokio::time::Instant;

use super::bugs::{self, Bug};
use super::gate::Mode;
use super::server;
use super::spawn;
use super::world::{Way, World};

/// What a step that gets no answer waits.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What may happen to a node in the middle of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trap {
    pub path: &'static str,
    /// Before the step, or after it and before its answer.
    pub after: bool,
    pub harm: Harm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    Kill,
    Freeze(Duration),
    /// Its store is out of reach.
    Cut(Duration),
}

/// What a node's links are like now.
#[derive(Debug)]
pub(super) struct Links {
    state: Mutex<State>,
    missed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    store: Way,
    bus_cut: bool,
    store_noise: u32,
    bus_noise: u32,
    server_noise: u32,
    trap: Option<Trap>,
    in_flight: Vec<&'static str>,
}

impl Links {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), missed: watch::Sender::new(0) })
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub(super) fn set_store(&self, way: Way) {
        self.with(|state| state.store = way);
    }

    pub(super) fn cut_bus(&self, cut: bool) {
        self.with(|state| state.bus_cut = cut);
        if !cut {
            // Its client comes back, and says so.
            self.missed.send_modify(|missed| *missed += 1);
        }
    }

    pub(super) fn bus_is_cut(&self) -> bool {
        self.with(|state| state.bus_cut)
    }

    /// In percent of what passes.
    pub(super) fn set_noise(&self, store: u32, bus: u32, server: u32) {
        self.with(|state| (state.store_noise, state.bus_noise, state.server_noise) = (store, bus, server));
    }

    pub(super) fn set_trap(&self, trap: Trap) {
        self.with(|state| state.trap = Some(trap));
    }

    /// A trap that nothing ran into.
    pub(super) fn take_trap(&self) -> Option<Trap> {
        self.with(|state| state.trap.take())
    }

    pub(super) fn in_flight(&self) -> Vec<&'static str> {
        self.with(|state| state.in_flight.clone())
    }
}

/// One node's side of everything.
#[derive(Clone)]
pub(super) struct Ports {
    pub world: Arc<World>,
    pub node: NodeId,
    pub links: Arc<Links>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").field("node", &self.node).finish_non_exhaustive()
    }
}

/// A step that is under way.
struct InFlight<'a>(&'a Links, &'static str);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.with(|state| {
            if let Some(found) = state.in_flight.iter().position(|path| *path == self.1) {
                state.in_flight.swap_remove(found);
            }
        });
    }
}

impl Ports {
    fn enters(&self, path: &'static str) -> InFlight<'_> {
        self.links.with(|state| state.in_flight.push(path));
        InFlight(&self.links, path)
    }

    fn meets(&self, fault: &'static str, path: &'static str) {
        self.world.ledger.tell(format_args!("{}: {path} is {fault}", self.node));
        self.world.tally.met(fault, path);
    }

    async fn trapped(&self, path: &'static str, after: bool) {
        let met = self.links.with(|state| {
            let met = state.trap.is_some_and(|trap| trap.path == path && trap.after == after);
            if met { state.trap.take() } else { None }
        });
        if let Some(trap) = met {
            self.world.spring(&self.node, trap);
            // From here the gate is shut.
            tokio::task::yield_now().await;
        }
    }

    async fn latency(&self) {
        let wait = self.world.draw(0..4);
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    fn noisy(&self, percent: impl FnOnce(&State) -> u32) -> bool {
        let percent = self.links.with(|state| percent(state));
        percent > 0 && self.world.draw(0..100) < u64::from(percent)
    }

    /// Takes a step at the store, if the way there is well.
    async fn step<T: Send + fmt::Debug + 'static>(
        &self,
        path: &'static str,
        doing: impl Fn(Arc<dyn SessionStore>) -> BoxFuture<'static, Result<T, StoreError>> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let _in_flight = self.enters(path);
        let store = self.world.store.clone();
        self.trapped(path, false).await;
        self.latency().await;
        match self.links.with(|state| state.store) {
            Way::Open => {}
            Way::Refused => {
                self.meets("cut", path);
                return Err(StoreError::Unavailable);
            }
            Way::Silent => {
                self.meets("silent", path);
                tokio::time::sleep(TIMEOUT).await;
                return Err(StoreError::Unknown);
            }
        }
        let fault = if self.noisy(|state| state.store_noise) { self.world.draw(0..5) } else { 5 };
        let done = match fault {
            0 => {
                self.meets("refused", path);
                return Err(StoreError::Unavailable);
            }
            1 => {
                self.meets("lost", path);
                let _ = doing(store).await;
                self.trapped(path, true).await;
                return Err(StoreError::Unknown);
            }
            2 => {
                self.meets("late", path);
                let wait = Duration::from_millis(self.world.draw(50..3000));
                spawn(async move {
                    tokio::time::sleep(wait).await;
                    let _ = doing(store).await;
                });
                tokio::time::sleep(wait.min(Duration::from_millis(300))).await;
                return Err(StoreError::Unknown);
            }
            3 => {
                self.meets("twice", path);
                let _ = doing(store.clone()).await;
                self.latency().await;
                doing(store).await
            }
            4 => {
                self.meets("slow", path);
                tokio::time::sleep(Duration::from_millis(self.world.draw(20..1500))).await;
                doing(store).await
            }
            _ => doing(store).await,
        };
        if let Ok(done) = &done {
            self.world.ledger.show(format_args!("{}: {path}: {done:?}", self.node));
        }
        self.trapped(path, true).await;
        self.latency().await;
        done
    }
}

#[derive(Debug)]
pub(super) struct NodesStore(pub Ports);

/// What the step needs is copied, since it may run when its caller is gone.
macro_rules! step {
    ($self:ident, $path:literal, ($($own:ident = $value:expr),*), $store:ident => $call:expr) => {{
        $(let $own = $value.clone();)*
        Box::pin(async move {
            $self.0.step($path, move |$store| {
                $(let $own = $own.clone();)*
                async move { $call.await }.boxed()
            }).await
        })
    }};
}

impl SessionStore for NodesStore {
    fn durability(&self) -> Durability {
        Durability::Shared
    }

    fn known_sessions(&self) -> usize {
        self.0.world.store.known_sessions()
    }

    fn open<'a>(
        &'a self,
        id: &'a SessionId,
        server: &'a ServerName,
        owner: &'a Principal,
        transport: Transport,
    ) -> PortFuture<'a, Result<Opened, StoreError>> {
        step!(self, "open", (id = id, server = server, owner = owner), store => store.open(&id, &server, &owner, transport))
    }

    fn load<'a>(&'a self, id: &'a SessionId) -> PortFuture<'a, Result<Option<Session>, StoreError>> {
        let loaded: PortFuture<'a, _> = step!(self, "load", (id = id), store => store.load(&id));
        Box::pin(async move { bugs::bend_load(self.0.world.bug, loaded.await) })
    }

    fn update<'a>(
        &'a self,
        id: &'a SessionId,
        part: SessionPart,
    ) -> PortFuture<'a, Result<Updated, StoreError>> {
        step!(self, "update", (id = id, part = part), store => store.update(&id, part))
    }

    fn begin<'a>(&'a self, begin: &'a Begin) -> PortFuture<'a, Result<Begun, StoreError>> {
        step!(self, "begin", (begin = begin), store => store.begin(&begin))
    }

    fn append<'a>(&'a self, append: &'a Append) -> PortFuture<'a, Result<Appended, StoreError>> {
        step!(self, "append", (append = append), store => store.append(&append))
    }

    fn mark<'a>(&'a self, mark: &'a Mark) -> PortFuture<'a, Result<(), StoreError>> {
        step!(self, "mark", (mark = mark), store => store.mark(&mark))
    }

    fn steal<'a>(&'a self, steal: &'a Steal) -> PortFuture<'a, Result<Stolen, StoreError>> {
        step!(self, "steal", (steal = steal), store => store.steal(&steal))
    }

    fn attach<'a>(&'a self, attach: &'a Attach) -> PortFuture<'a, Result<Attached, StoreError>> {
        if attach.reassert.is_some() {
            return step!(self, "resync", (attach = attach), store => store.attach(&attach));
        }
        step!(self, "attach", (attach = attach), store => store.attach(&attach))
    }

    fn release<'a>(&'a self, stream: &'a StreamKey, fence: Fence) -> PortFuture<'a, Result<(), StoreError>> {
        step!(self, "release", (stream = stream), store => store.release(&stream, fence))
    }

    fn touch<'a>(&'a self, sessions: &'a [SessionId]) -> PortFuture<'a, Result<Vec<SessionId>, StoreError>> {
        let sessions = sessions.to_vec();
        step!(self, "touch", (sessions = sessions), store => store.touch(&sessions))
    }

    fn close<'a>(
        &'a self,
        id: &'a SessionId,
        condition: &'a CloseIf,
    ) -> PortFuture<'a, Result<Option<Closed>, StoreError>> {
        step!(self, "close", (id = id, condition = condition), store => store.close(&id, &condition))
    }

    fn reap<'a>(&'a self, limit: usize) -> PortFuture<'a, Result<Vec<Closed>, StoreError>> {
        step!(self, "reap", (), store => store.reap(limit))
    }

    fn find<'a>(&'a self, query: &'a Query) -> PortFuture<'a, Result<Page, StoreError>> {
        step!(self, "find", (query = query), store => store.find(&query))
    }

    fn inspect<'a>(&'a self, id: &'a SessionId) -> PortFuture<'a, Result<Option<Inspected>, StoreError>> {
        step!(self, "inspect", (id = id), store => store.inspect(&id))
    }

    fn hint<'a>(&'a self, server: &'a ServerName, method: &'a str) -> PortFuture<'a, Result<(), StoreError>> {
        let method = method.to_owned();
        step!(self, "hint", (server = server, method = method), store => store.hint(&server, &method))
    }

    fn hints<'a>(&'a self, server: &'a ServerName) -> PortFuture<'a, Result<Vec<(String, u64)>, StoreError>> {
        step!(self, "hints", (server = server), store => store.hints(&server))
    }

    fn beat<'a>(&'a self, lease: &'a Lease) -> PortFuture<'a, Result<Beat, StoreError>> {
        step!(self, "beat", (lease = lease), store => store.beat(&lease))
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<(), StoreError>> {
        step!(self, "leave", (node = node), store => store.leave(&node))
    }

    fn nodes(&self) -> PortFuture<'_, Result<Vec<SeenNode>, StoreError>> {
        Box::pin(self.0.step("nodes", |store| async move { store.nodes().await }.boxed()))
    }
}

#[derive(Debug)]
pub(super) struct NodesBus(pub Ports);

impl NodesBus {
    /// Messages from one node to another keep their order, but for faults.
    fn hand(&self, path: &'static str, to: NodeId, parcel: Parcel) {
        let Ports { world, .. } = &self.0;
        let fault = if self.0.noisy(|state| state.bus_noise) { world.draw(0..4) } else { 4 };
        let mut late = 0;
        match fault {
            0 => return self.0.meets("lost", path),
            1 => {
                self.0.meets("late", path);
                late = world.draw(20..3000);
            }
            2 => {
                self.0.meets("twice", path);
                world.carry(self.0.node.clone(), to.clone(), parcel.clone(), world.draw(1..500));
            }
            3 => {
                self.0.meets("overtaken", path);
                late = world.draw(1..20);
            }
            _ => {}
        }
        world.carry(self.0.node.clone(), to, parcel, late);
    }
}

impl Bus for NodesBus {
    fn open_inbox<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<Inbox, BusError>> {
        Box::pin(async move {
            let _in_flight = self.0.enters("open_inbox");
            self.0.latency().await;
            if self.0.links.bus_is_cut() {
                self.0.meets("cut", "open_inbox");
                return Err(BusError::Unavailable);
            }
            let inbox = self.0.world.bus.open_inbox(node).await?;
            // The inner one tells only of full inboxes; none of these fills.
            let missed = self.0.links.missed.subscribe();
            Ok(Inbox { messages: inbox.messages, relays: inbox.relays, missed })
        })
    }

    fn send<'a>(&'a self, to: &'a NodeId, parcel: Parcel) -> PortFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            let _in_flight = self.0.enters("send");
            self.0.trapped("send", false).await;
            if self.0.links.bus_is_cut() {
                self.0.meets("cut", "send");
                return Err(BusError::Unavailable);
            }
            if self.0.world.mode_of(to) == Mode::Dead {
                return Err(BusError::NoResponders);
            }
            self.hand("send", to.clone(), parcel);
            Ok(())
        })
    }

    fn announce(&self, parcel: Parcel) -> PortFuture<'_, Result<(), BusError>> {
        Box::pin(async move {
            let _in_flight = self.0.enters("announce");
            self.0.trapped("announce", false).await;
            if self.0.links.bus_is_cut() {
                self.0.meets("cut", "announce");
                return Err(BusError::Unavailable);
            }
            for to in self.0.world.others(&self.0.node) {
                self.hand("announce", to, parcel.clone());
            }
            Ok(())
        })
    }

    fn ping<'a>(&'a self, node: &'a NodeId, patience: Duration) -> PortFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            let _in_flight = self.0.enters("ping");
            self.0.trapped("ping", false).await;
            self.0.latency().await;
            if self.0.links.bus_is_cut() {
                self.0.meets("cut", "ping");
                return Err(BusError::Unavailable);
            }
            if self.0.noisy(|state| state.bus_noise) {
                self.0.meets("lost", "ping");
                tokio::time::sleep(patience).await;
                return Err(BusError::Unavailable);
            }
            match self.0.world.mode_of(node) {
                Mode::Dead => Err(BusError::NoResponders),
                Mode::Open if !self.0.world.bus_of(node).is_none_or(|links| links.bus_is_cut()) => Ok(()),
                Mode::Open | Mode::Frozen => {
                    tokio::time::sleep(patience).await;
                    Err(BusError::Unavailable)
                }
            }
        })
    }

    /// No server of a simulation is pinned to a node.
    fn relay<'a>(
        &'a self,
        _: &'a NodeId,
        _: RelayAsk,
        _: Duration,
    ) -> PortFuture<'a, Result<RelayAnswer, BusError>> {
        Box::pin(async { Err(BusError::Unavailable) })
    }
}

/// The way to the server.
#[derive(Debug)]
pub(super) struct NodesTransport(pub Ports);

impl upstream::Transport for NodesTransport {
    fn send(&self, request: Request<Full<Bytes>>) -> BoxFuture<'_, Result<Response<Received>, BoxError>> {
        Box::pin(self.send_now(request))
    }
}

impl NodesTransport {
    async fn send_now(&self, request: Request<Full<Bytes>>) -> Result<Response<Received>, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let is_call =
            head.method == Method::POST && String::from_utf8_lossy(&body).contains("\"tools/call\"");
        let path = match head.method {
            Method::GET if head.headers.contains_key("last-event-id") => "resume",
            Method::GET => "listen",
            Method::DELETE => "delete",
            _ if is_call => "call",
            _ => "say",
        };
        let _in_flight = self.0.enters(path);
        self.0.trapped(path, false).await;
        self.0.latency().await;
        let world = &self.0.world;
        let mut breaks = None;
        if self.0.noisy(|state| state.server_noise) {
            match world.draw(0..3) {
                0 => {
                    self.0.meets("refused", path);
                    return Err("connection refused".into());
                }
                1 => {
                    self.0.meets("broken", path);
                    breaks = Some(world.draw(0..4) as usize);
                }
                _ => {
                    self.0.meets("slow", path);
                    tokio::time::sleep(Duration::from_millis(world.draw(20..1500))).await;
                }
            }
        }
        if path == "say" && world.bug == Some(Bug::AcceptedUnheard) && world.draw(0..10) == 0 {
            return Ok(server::accepted());
        }
        let answer = world.server.answer(Request::from_parts(head, body), breaks).await;
        self.0.trapped(path, true).await;
        self.0.latency().await;
        Ok(answer)
    }
}

/// When the last message from one node to another arrives: the next one is not earlier.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<std::collections::BTreeMap<(NodeId, NodeId), Instant>>);

impl Queues {
    pub(super) fn arrival(&self, from: &NodeId, to: &NodeId, wait: u64, late: u64) -> Instant {
        let now = Instant::now();
        if late > 0 {
            return now + Duration::from_millis(wait + late);
        }
        let mut queues = self.0.lock().unwrap();
        let last = queues.entry((from.clone(), to.clone())).or_insert(now);
        *last = (*last + Duration::from_millis(1)).max(now + Duration::from_millis(wait));
        *last
    }
}

/// Messages that tell nothing of their own.
pub(super) const fn lane_index(lane: Lane) -> u8 {
    match lane {
        Lane::Direct => 0,
        Lane::All => 1,
    }
}
