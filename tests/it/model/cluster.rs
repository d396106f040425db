//! States, steps and promises.

use std::collections::BTreeSet;

use stateright::{Model, Property};

/// Events of the request, the answer included: so many are appended, then it is over.
const EVENTS: u8 = 3;
const NODES: usize = 2;

/// How often things may go wrong on one path.
const CUTS: u8 = 2;
const CRASHES: u8 = 1;
const FREEZES: u8 = 1;
const LOSSES: u8 = 1;

/// What the model can be made to get wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// `append` takes whatever a runner says, however old its fence.
    AppendIgnoresFence,
    /// Events are written in the order in which they come.
    WritesOutOfOrder,
    /// An older event is written again.
    WritesTwice,
    /// `attach` reads no tail.
    AttachWithoutTail,
    /// A gap is not closed from the log.
    NoResync,
    /// A dead runner's record is left alone.
    NoSteal,
    /// Two nodes may steal one record.
    StealIgnoresFence,
}

impl Bug {
    pub(super) const ALL: [Self; 7] = [
        Self::AppendIgnoresFence,
        Self::WritesOutOfOrder,
        Self::WritesTwice,
        Self::AttachWithoutTail,
        Self::NoResync,
        Self::NoSteal,
        Self::StealIgnoresFence,
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Health {
    Up,
    Frozen,
    Dead,
}

/// A stream as a node holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Local {
    fence: u8,
    written: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    health: Health,
    local: Option<Local>,
    /// It runs the request under this fence, and has read so much of the upstream.
    running: Option<(u8, u8)>,
    /// Something was lost on the way to it.
    missed: bool,
}

/// An event on its way to the node that held the stream when it was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Message {
    to: usize,
    fence: u8,
    event: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// The upstream's event that each entry of the log carries.
    log: Vec<u8>,
    binding: Option<(usize, u8)>,
    newest: u8,
    /// Runner and fence of the request's record.
    record: Option<(usize, u8)>,
    nodes: Vec<Node>,
    bus: BTreeSet<Message>,
    /// Which socket the client reads, if any.
    connected: Option<(usize, u8)>,
    /// What the client has seen.
    seen: Vec<u8>,
    cuts: u8,
    crashes: u8,
    freezes: u8,
    losses: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Append(usize),
    Deliver(Message),
    Lose(Message),
    Resync(usize),
    Steal(usize),
    Connect(usize),
    Cut,
    Crash(usize),
    Freeze(usize),
    Thaw(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Cluster {
    bug: Option<Bug>,
}

impl Cluster {
    pub(super) const fn new(bug: Option<Bug>) -> Self {
        Self { bug }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// A node writes an event to its socket, if it should.
    fn write(&self, state: &mut State, node: usize, position: u8) {
        let Some(local) = state.nodes[node].local.as_mut() else { return };
        let next = position == local.written + 1;
        let older = position <= local.written;
        let wrongly = if older { Bug::WritesTwice } else { Bug::WritesOutOfOrder };
        if !next && !self.has(wrongly) {
            state.nodes[node].missed |= !older;
            return;
        }
        local.written = local.written.max(position);
        let socket = (node, local.fence);
        if state.connected == Some(socket) {
            state.seen.push(state.log[usize::from(position) - 1]);
        }
    }

    fn write_tail(&self, state: &mut State, node: usize) {
        let Some(local) = state.nodes[node].local else { return };
        for position in local.written + 1..=u8::try_from(state.log.len()).unwrap() {
            self.write(state, node, position);
        }
    }

    /// The store's append, and what follows from its answer.
    fn append(&self, state: &mut State, node: usize) {
        let Some((fence, read)) = state.nodes[node].running else { return };
        let recorded = state.record.map(|(_, fence)| fence);
        let valid = recorded == Some(fence) || self.has(Bug::AppendIgnoresFence);
        if !valid {
            state.nodes[node].running = None;
            return;
        }
        state.log.push(read + 1);
        let position = u8::try_from(state.log.len()).unwrap();
        if read + 1 == EVENTS {
            state.record = None;
            state.nodes[node].running = None;
        } else {
            state.nodes[node].running = Some((fence, read + 1));
        }
        match state.binding {
            Some((holder, _)) if holder == node => self.write(state, node, position),
            Some((holder, fence)) => {
                state.bus.insert(Message { to: holder, fence, event: position });
            }
            None => {}
        }
    }

    fn attach(&self, state: &mut State, node: usize) {
        state.newest += 1;
        let fence = state.newest;
        state.binding = Some((node, fence));
        let written = u8::try_from(state.seen.len()).unwrap();
        state.nodes[node].local = Some(Local { fence, written });
        state.connected = Some((node, fence));
        if !self.has(Bug::AttachWithoutTail) {
            self.write_tail(state, node);
        }
    }

    /// Re-asserts the own binding and reads what is missing; a newer binding ends the stream.
    fn resync(&self, state: &mut State, node: usize) {
        state.nodes[node].missed = false;
        let Some(local) = state.nodes[node].local else { return };
        if state.newest > local.fence {
            state.nodes[node].local = None;
            state.connected.take_if(|socket| *socket == (node, local.fence));
        } else {
            self.write_tail(state, node);
        }
    }

    fn steal(&self, state: &mut State, node: usize) {
        let Some((_, fence)) = state.record else { return };
        let fence = if self.has(Bug::StealIgnoresFence) { fence } else { fence + 1 };
        state.record = Some((node, fence));
        // The record says how far the upstream was read when something was last appended.
        let read = state.log.last().copied().unwrap_or(0);
        state.nodes[node].running = Some((fence, read));
    }

    fn may_steal(&self, state: &State, node: usize) -> bool {
        let suspected = |runner: usize| runner != node && state.nodes[runner].health != Health::Up;
        // Only who holds the stream learns of the record.
        let holds = state.binding.is_some_and(|(holder, _)| holder == node);
        let left = match self.bug {
            Some(Bug::NoSteal) => false,
            // A thief that does not look at the fence steals from the living.
            Some(Bug::StealIgnoresFence) => state.record.is_some_and(|(runner, _)| runner != node),
            _ => state.record.is_some_and(|(runner, _)| suspected(runner)),
        };
        holds && left && state.nodes[node].running.is_none()
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let idle = Node { health: Health::Up, local: None, running: None, missed: false };
        let mut nodes = vec![idle; NODES];
        // begin: the first node records the request, binds the stream, and holds the client's socket.
        nodes[0].running = Some((1, 0));
        nodes[0].local = Some(Local { fence: 1, written: 0 });
        vec![State {
            log: Vec::new(),
            binding: Some((0, 1)),
            newest: 1,
            record: Some((0, 1)),
            nodes,
            bus: BTreeSet::new(),
            connected: Some((0, 1)),
            seen: Vec::new(),
            cuts: 0,
            crashes: 0,
            freezes: 0,
            losses: 0,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (number, node) in state.nodes.iter().enumerate() {
            match node.health {
                Health::Up => {
                    if node.running.is_some() {
                        steps.push(Step::Append(number));
                    }
                    if node.missed && !self.has(Bug::NoResync) {
                        steps.push(Step::Resync(number));
                    }
                    if self.may_steal(state, number) {
                        steps.push(Step::Steal(number));
                    }
                    if state.connected.is_none() && state.seen.last() != Some(&EVENTS) {
                        steps.push(Step::Connect(number));
                    }
                    if state.crashes < CRASHES {
                        steps.push(Step::Crash(number));
                    }
                    if state.freezes < FREEZES {
                        steps.push(Step::Freeze(number));
                    }
                }
                Health::Frozen => steps.push(Step::Thaw(number)),
                Health::Dead => {}
            }
        }
        if state.connected.is_some() && state.cuts < CUTS {
            steps.push(Step::Cut);
        }
        for message in &state.bus {
            if state.nodes[message.to].health != Health::Frozen {
                steps.push(Step::Deliver(*message));
            }
            if state.losses < LOSSES {
                steps.push(Step::Lose(*message));
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        match step {
            Step::Append(node) => self.append(&mut next, node),
            Step::Deliver(message) => {
                next.bus.remove(&message);
                let same = next.nodes[message.to].local.is_some_and(|local| local.fence == message.fence);
                if same {
                    self.write(&mut next, message.to, message.event);
                }
            }
            Step::Lose(message) => {
                next.bus.remove(&message);
                next.losses += 1;
                // The next number shows it.
                next.nodes[message.to].missed |= next.nodes[message.to].health != Health::Dead;
            }
            Step::Resync(node) => self.resync(&mut next, node),
            Step::Steal(node) => self.steal(&mut next, node),
            Step::Connect(node) => self.attach(&mut next, node),
            Step::Cut => {
                next.cuts += 1;
                next.connected = None;
            }
            Step::Crash(node) => {
                next.crashes += 1;
                next.nodes[node] = Node { health: Health::Dead, local: None, running: None, missed: false };
                next.connected.take_if(|(at, _)| *at == node);
            }
            Step::Freeze(node) => {
                next.freezes += 1;
                next.nodes[node].health = Health::Frozen;
                // The balancer cuts what it carries.
                next.connected.take_if(|(at, _)| *at == node);
            }
            Step::Thaw(node) => {
                next.nodes[node].health = Health::Up;
                // It finds its lease gone.
                next.nodes[node].missed = true;
            }
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the client sees each event once, in order", |_, state: &State| {
                as_the_upstream_said(&state.seen)
            }),
            Property::always("the log holds each event once, in order", |_, state: &State| {
                as_the_upstream_said(&state.log)
            }),
            Property::always("one runner", |_, state: &State| {
                let recorded = state.record.map(|(_, fence)| fence);
                let fences = state.nodes.iter().filter_map(|node| node.running.map(|(fence, _)| fence));
                fences.filter(|fence| Some(*fence) == recorded).count() <= 1
            }),
            Property::eventually("the answer arrives, while a node is up", |_, state: &State| {
                state.seen.last() == Some(&EVENTS)
            }),
            Property::sometimes("can lose its runner and go on", |_, state: &State| {
                state.crashes == 1 && state.seen.last() == Some(&EVENTS)
            }),
        ]
    }
}

fn as_the_upstream_said(events: &[u8]) -> bool {
    events.iter().copied().eq(1..=u8::try_from(events.len()).unwrap())
}
