//! A cluster in one process: nodes that can be killed, frozen, drained and cut off, a balancer that
//! knows nothing of MCP, and the state that they share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use fastrand::Rng;
use holdfast::adapters::memory::{MemoryBus, MemoryRates};
use holdfast::app::{Gateway, Shared, Surroundings};
use holdfast::config::Config;
use holdfast::domain::{Entropy, EventNumber, NodeId};
use holdfast::edge::Routes;
use holdfast::lifecycle::Tasks;
use holdfast::ports::{Bus as _, Envelope, Parcel, SessionStore};
use holdfast::upstream::HttpClient;
use http_body_util::BodyExt as _;
use hyper::{HeaderMap, Request, StatusCode};
use tower_service::Service as _;

use super::bugs::{self, BentStore, Bug};
use super::gate::{Gate, Mode};
use super::ledger::Ledger;
use super::ports::{Harm, Links, NodesBus, NodesStore, NodesTransport, Ports, Queues, Trap, lane_index};
use super::server::Server;
use super::spawn;
use super::tally::Tally;
use super::watched::Watched;
use crate::harness::configured;

pub(super) const NODES: usize = 3;

/// What the balancer takes to see that a node does not answer.
const CHECKED: Duration = Duration::from_secs(1);

/// The way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Way {
    #[default]
    Open,
    /// Connections are refused.
    Refused,
    /// Nothing comes back.
    Silent,
}

/// The connection broke, or there is no node to connect to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken;

pub(super) struct World {
    pub store: Arc<dyn SessionStore>,
    pub bus: MemoryBus,
    pub server: Arc<Server>,
    pub ledger: Arc<Ledger>,
    pub tally: Tally,
    pub bug: Option<Bug>,
    /// Whatever begins at the server can be resumed there.
    pub resumes: bool,
    /// The log is so short that it can't reach back to every position.
    pub forgets: bool,
    config: Config,
    rng: Mutex<Rng>,
    slots: Mutex<Vec<Slot>>,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    queues: Queues,
    bent: Mutex<BTreeMap<(NodeId, NodeId, u8), u64>>,
    given: Mutex<BTreeMap<(NodeId, String), EventNumber>>,
}

#[derive(Default)]
struct Slot {
    node: Option<Arc<Node>>,
    incarnations: u32,
}

/// One incarnation.
pub(super) struct Node {
    pub id: NodeId,
    pub gate: Gate,
    pub links: Arc<Links>,
    routes: Routes,
    gateway: Mutex<Option<Gateway>>,
    /// Changes when its connections break.
    cuts: Watched<u64>,
    /// The balancer sends it requests.
    routed: AtomicBool,
    /// It was told to end.
    leaves: AtomicBool,
}

#[derive(Clone)]
struct Peer {
    gate: Gate,
    links: Arc<Links>,
}

impl Node {
    /// Open streams; nothing is known of a node that ends.
    pub(super) fn streams(&self) -> Option<usize> {
        self.gateway.lock().unwrap().as_ref().map(|gateway| gateway.hub().stream_count())
    }
}

impl World {
    pub(super) fn new(
        seed: u64,
        bug: Option<Bug>,
        ledger: Arc<Ledger>,
        resumes: bool,
        forgets: bool,
        server_resumes: bool,
    ) -> Arc<Self> {
        let settings = [
            ("servers.default.era", "legacy"),
            ("sessions.idle_timeout", "1m"),
            ("sessions.sse_grace", "40s"),
            ("sessions.cache_ttl", "10s"),
            ("streams.retry", "100ms"),
            ("streams.retry_max", "300ms"),
            ("drain.notice", "2s"),
            ("drain.handover", "1s"),
            ("drain.timeout", "15s"),
            ("log.events_max", if forgets { "3" } else { "256" }),
        ];
        let config = configured("http://server/mcp", &settings);
        let shared = Shared::memory(&config);
        Arc::new(Self {
            store: BentStore::bent(shared.store, bug, seed),
            bus: MemoryBus::new(1 << 16),
            server: Server::new(ledger.clone(), seed, server_resumes),
            resumes,
            forgets,
            ledger,
            tally: Tally::default(),
            bug,
            config,
            rng: Mutex::new(Rng::with_seed(seed)),
            slots: Mutex::new((0..NODES).map(|_| Slot::default()).collect()),
            peers: Mutex::default(),
            queues: Queues::default(),
            bent: Mutex::default(),
            given: Mutex::default(),
        })
    }

    pub(super) fn draw(&self, range: Range<u64>) -> u64 {
        self.rng.lock().unwrap().u64(range)
    }

    pub(super) fn pause(&self, range: Range<u64>) -> tokio::time::Sleep {
        tokio::time::sleep(Duration::from_millis(self.draw(range)))
    }

    /// Starts a node in its place, as a new incarnation.
    pub(super) fn start(self: &Arc<Self>, index: usize) {
        let mut slots = self.slots.lock().unwrap();
        let slot = &mut slots[index];
        if slot.node.is_some() {
            return;
        }
        slot.incarnations += 1;
        let id = NodeId::parse(&format!("n{index}-{}", slot.incarnations)).unwrap();
        let (gate, links) = (Gate::default(), Links::new());
        let ports = Ports { world: self.clone(), node: id.clone(), links: links.clone() };
        let shared = Shared {
            store: Arc::new(NodesStore(ports.clone())),
            bus: Arc::new(NodesBus(ports.clone())),
            rates: Arc::new(MemoryRates::default()),
        };
        let rng = Mutex::new(self.rng.lock().unwrap().fork());
        let surroundings = Surroundings {
            node: id.clone(),
            client: HttpClient::within(Arc::new(NodesTransport(ports))),
            tasks: Tasks::through({
                let gate = gate.clone();
                move |task| gate.wrap(task)
            }),
            entropy: Entropy::of(move || rng.lock().unwrap().u128(..)),
            address: SocketAddr::from(([127, 0, 0, 1], 4444)),
        };
        self.peers.lock().unwrap().insert(id.clone(), Peer { gate: gate.clone(), links: links.clone() });
        let (gateway, routes) = Gateway::assemble(&self.config, shared, surroundings).unwrap();
        self.ledger.tell(format_args!("{id} starts"));
        slot.node = Some(Arc::new(Node {
            id,
            gate,
            links,
            routes,
            gateway: Mutex::new(Some(gateway)),
            cuts: Watched::default(),
            routed: AtomicBool::new(true),
            leaves: AtomicBool::new(false),
        }));
    }

    pub(super) fn node(&self, index: usize) -> Option<Arc<Node>> {
        self.slots.lock().unwrap()[index].node.clone()
    }

    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.slots.lock().unwrap().iter().filter_map(|slot| slot.node.clone()).collect()
    }

    /// The store as a node reaches it.
    pub(super) fn port(self: &Arc<Self>, node: &Node) -> NodesStore {
        let (id, links) = (node.id.clone(), node.links.clone());
        NodesStore(Ports { world: self.clone(), node: id, links })
    }

    pub(super) fn mode_of(&self, node: &NodeId) -> Mode {
        self.peers.lock().unwrap().get(node).map_or(Mode::Dead, |peer| peer.gate.mode())
    }

    pub(super) fn bus_of(&self, node: &NodeId) -> Option<Arc<Links>> {
        self.peers.lock().unwrap().get(node).map(|peer| peer.links.clone())
    }

    pub(super) fn others(&self, node: &NodeId) -> Vec<NodeId> {
        let peers = self.peers.lock().unwrap();
        let others = peers.iter().filter(|(id, peer)| *id != node && peer.gate.mode() != Mode::Dead);
        others.map(|(id, _)| id.clone()).collect()
    }

    /// Brings a message to a node, in order but for what is `late`, in ms.
    pub(super) fn carry(self: &Arc<Self>, from: NodeId, to: NodeId, parcel: Parcel, late: u64) {
        let at = self.queues.arrival(&from, &to, self.draw(0..4), late);
        let world = self.clone();
        spawn(async move {
            tokio::time::sleep_until(at).await;
            let reached = world.bus_of(&to).is_some_and(|links| !links.bus_is_cut());
            if !reached || world.mode_of(&to) == Mode::Dead {
                return;
            }
            if let Some(parcel) = world.bend(from, &to, parcel) {
                let _ = world.bus.send(&to, parcel).await;
            }
        });
    }

    fn bend(&self, from: NodeId, to: &NodeId, parcel: Parcel) -> Option<Parcel> {
        let lane = (from, to.clone(), lane_index(parcel.lane));
        let stream = match &parcel.envelope {
            Envelope::Appended { to: stream, .. } => stream.to_string(),
            _ => String::new(),
        };
        let mut bent = self.bent.lock().unwrap();
        let mut given = self.given.lock().unwrap();
        let place = (to.clone(), stream);
        let mut last = given.get(&place).copied();
        let parcel = bugs::bend_parcel(self.bug, parcel, bent.entry(lane).or_default(), &mut last);
        if let Some(last) = last {
            given.insert(place, last);
        }
        parcel
    }

    /// A node ran into a trap.
    pub(super) fn spring(self: &Arc<Self>, node: &NodeId, trap: Trap) {
        let place = |index: &usize| self.node(*index).is_some_and(|now| now.id == *node);
        let Some(index) = (0..NODES).find(place) else { return };
        self.ledger.tell(format_args!("{node} meets {trap:?}"));
        match trap.harm {
            Harm::Kill => self.kill(index, Duration::from_millis(self.draw(500..6000))),
            Harm::Freeze(time) => self.freeze(index, time),
            Harm::Cut(time) => self.cut_store(index, time, Way::Refused),
        }
    }

    /// A node does not get to the store for a while.
    pub(super) fn cut_store(self: &Arc<Self>, index: usize, time: Duration, way: Way) {
        self.for_a_while(
            index,
            time,
            move |node| node.links.set_store(way),
            |node| node.links.set_store(Way::Open),
        );
    }

    /// Something is wrong with a node's links.
    pub(super) fn for_a_while(
        self: &Arc<Self>,
        index: usize,
        time: Duration,
        on: impl Fn(&Node) + Send + 'static,
        off: impl Fn(&Node) + Send + 'static,
    ) {
        let Some(node) = self.node(index) else { return };
        self.ledger.tell(format_args!("{}: its links fail for {time:?}", node.id));
        on(&node);
        self.fault(time);
        let world = self.clone();
        spawn(async move {
            tokio::time::sleep(time).await;
            world.ledger.tell(format_args!("{}: its links are well", node.id));
            off(&node);
        });
    }

    /// Something goes wrong that nobody is told of.
    pub(super) fn fault(self: &Arc<Self>, time: Duration) {
        let world = self.clone();
        self.ledger.fault_begins();
        spawn(async move {
            tokio::time::sleep(time).await;
            world.ledger.fault_ends();
        });
    }

    /// kill -9; another incarnation comes after a while.
    pub(super) fn kill(self: &Arc<Self>, index: usize, back: Duration) {
        let Some(node) = self.slots.lock().unwrap()[index].node.take() else { return };
        self.ledger.tell(format_args!("{} is killed for {back:?}", node.id));
        node.links.in_flight().into_iter().for_each(|path| self.tally.met("killed", path));
        self.tally.met("killed", "node");
        self.ledger.fault_begins();
        node.gate.kill();
        node.cuts.change(|cuts| *cuts += 1);
        let world = self.clone();
        spawn(async move {
            tokio::time::sleep(back).await;
            world.start(index);
            world.ledger.fault_ends();
        });
    }

    /// SIGSTOP, and SIGCONT after a while.
    pub(super) fn freeze(self: &Arc<Self>, index: usize, time: Duration) {
        let Some(node) = self.node(index) else { return };
        self.ledger.tell(format_args!("{} is frozen for {time:?}", node.id));
        node.links.in_flight().into_iter().for_each(|path| self.tally.met("frozen", path));
        self.tally.met("frozen", "node");
        self.ledger.fault_begins();
        node.gate.freeze();
        let world = self.clone();
        spawn(async move {
            tokio::time::sleep(time.min(CHECKED)).await;
            if time > CHECKED {
                node.routed.store(false, Ordering::Relaxed);
                node.cuts.change(|cuts| *cuts += 1);
                tokio::time::sleep(time.saturating_sub(CHECKED)).await;
            }
            world.ledger.tell(format_args!("{} wakes up", node.id));
            node.gate.thaw();
            node.routed.store(!node.leaves.load(Ordering::Relaxed), Ordering::Relaxed);
            world.ledger.fault_ends();
        });
    }

    /// SIGTERM, and another incarnation a while after it ended. No excuse for anything (P6).
    pub(super) fn drain(self: &Arc<Self>, index: usize, back: Duration) {
        let Some(node) = self.node(index) else { return };
        let Some(gateway) = node.gateway.lock().unwrap().take() else { return };
        self.ledger.tell(format_args!("{} is told to end", node.id));
        self.ledger.count(|counts| counts.faults += 1);
        self.tally.met("drained", "node");
        node.leaves.store(true, Ordering::Relaxed);
        let world = self.clone();
        let leaves = node.clone();
        spawn(async move {
            tokio::time::sleep(CHECKED).await;
            leaves.routed.store(false, Ordering::Relaxed);
        });
        spawn(async move {
            let ending = node.gate.pass(gateway.stop()).await;
            world.ledger.tell(format_args!("{} ended: {ending:?}", node.id));
            node.gate.kill();
            node.cuts.change(|cuts| *cuts += 1);
            {
                let mut slots = world.slots.lock().unwrap();
                if slots[index].node.as_ref().is_some_and(|now| now.id == node.id) {
                    slots[index].node = None;
                }
            }
            tokio::time::sleep(back).await;
            world.start(index);
        });
    }

    /// A node that the balancer takes for a healthy one.
    fn balanced(&self) -> Option<Arc<Node>> {
        let mut nodes = self.nodes();
        nodes.retain(|node| node.routed.load(Ordering::Relaxed));
        if nodes.is_empty() {
            // No rollout takes them all at once: here it met other faults.
            self.ledger.is_upset();
        }
        let choice = self.draw(0..nodes.len().max(1) as u64) as usize;
        nodes.into_iter().nth(choice)
    }

    /// Sends a request through the balancer.
    pub(super) async fn request(&self, request: Request<Body>) -> Result<Connection, Broken> {
        let Some(node) = self.balanced() else { return Err(Broken) };
        self.request_at(&node, request).await
    }

    pub(super) async fn request_at(
        &self,
        node: &Arc<Node>,
        request: Request<Body>,
    ) -> Result<Connection, Broken> {
        let cuts = node.cuts.get();
        let mut routes = node.routes.clone();
        let answered = node.gate.pass(async move { routes.call(request).await });
        let latency = self.pause(0..3);
        let response = tokio::select! {
            biased;
            _ = node.cuts.until(|now| *now != cuts) => return Err(Broken),
            answered = async { latency.await; answered.await } => match answered {
                Ok(response) => response,
                Err(never) => match never {},
            },
        };
        let (head, body) = response.into_parts();
        Ok(Connection { node: node.clone(), cuts, status: head.status, headers: head.headers, body })
    }
}

/// An answer, and the connection that it comes on.
pub(super) struct Connection {
    pub node: Arc<Node>,
    cuts: u64,
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Body,
}

impl Connection {
    pub(super) fn streams(&self) -> bool {
        self.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream")
    }

    /// The next piece; `None` at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Broken> {
        let frame = self.node.gate.pass(self.body.frame());
        tokio::select! {
            biased;
            _ = self.node.cuts.until(|now| *now != self.cuts) => Err(Broken),
            frame = frame => match frame {
                None => Ok(None),
                Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
                Some(Err(_)) => Err(Broken),
            },
        }
    }

    pub(super) async fn whole(mut self) -> Result<String, Broken> {
        let mut text = String::new();
        while let Some(piece) = self.piece().await? {
            text += &String::from_utf8_lossy(&piece);
        }
        Ok(text)
    }
}
