//! The bus between nodes of one process: an inbox each, of a bounded size. What finds an inbox full
//! is lost, and its owner is told.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use crate::domain::NodeId;
use crate::ports::{Bus, BusError, Inbox, Parcel, PortFuture, RelayAnswer, RelayAsk, Relayed};

/// Joins the nodes of one process.
#[derive(Debug)]
pub struct MemoryBus {
    inbox_max: usize,
    seats: RwLock<BTreeMap<NodeId, Seat>>,
}

/// The other end of an inbox.
#[derive(Debug)]
struct Seat {
    messages: mpsc::Sender<Parcel>,
    relays: mpsc::Sender<Relayed>,
    missed: watch::Sender<u64>,
}

impl Seat {
    fn hand(&self, parcel: Parcel) -> Result<(), BusError> {
        self.messages.try_send(parcel).map_err(|error| match error {
            TrySendError::Full(_) => {
                self.missed.send_modify(|missed| *missed += 1);
                BusError::Full
            }
            TrySendError::Closed(_) => BusError::NoResponders,
        })
    }

    fn hand_step(&self, step: Relayed) -> Result<(), BusError> {
        self.relays.try_send(step).map_err(|error| match error {
            TrySendError::Full(_) => BusError::Full,
            TrySendError::Closed(_) => BusError::NoResponders,
        })
    }
}

impl MemoryBus {
    /// Each node's inbox holds `inbox_max` messages, at least one.
    #[must_use]
    pub fn new(inbox_max: usize) -> Self {
        Self { inbox_max: inbox_max.max(1), seats: RwLock::default() }
    }

    fn seats(&self) -> RwLockReadGuard<'_, BTreeMap<NodeId, Seat>> {
        self.seats.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn seats_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<NodeId, Seat>> {
        self.seats.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a node whose inbox was dropped.
    fn forget(&self, node: &NodeId) {
        if let Entry::Occupied(seat) = self.seats_mut().entry(node.clone())
            && seat.get().messages.is_closed()
        {
            seat.remove();
        }
    }

    fn send_now(&self, to: &NodeId, parcel: Parcel) -> Result<(), BusError> {
        let handed = self.seats().get(to).map_or(Err(BusError::NoResponders), |seat| seat.hand(parcel));
        if handed == Err(BusError::NoResponders) {
            self.forget(to);
        }
        handed
    }

    fn announce_now(&self, parcel: &Parcel) {
        let mut left = Vec::new();
        for (node, seat) in self.seats().iter().filter(|(node, _)| **node != parcel.from) {
            if seat.hand(parcel.clone()) == Err(BusError::NoResponders) {
                left.push(node.clone());
            }
        }
        for node in left {
            self.forget(&node);
        }
    }
}

impl Bus for MemoryBus {
    fn open_inbox<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<Inbox, BusError>> {
        Box::pin(async move {
            let (messages, inbox) = mpsc::channel(self.inbox_max);
            let (relays, relays_inbox) = mpsc::channel(self.inbox_max);
            let (missed, missed_inbox) = watch::channel(0);
            self.seats_mut().insert(node.clone(), Seat { messages, relays, missed });
            Ok(Inbox { messages: inbox, relays: relays_inbox, missed: missed_inbox })
        })
    }

    fn send<'a>(&'a self, to: &'a NodeId, parcel: Parcel) -> PortFuture<'a, Result<(), BusError>> {
        Box::pin(async move { self.send_now(to, parcel) })
    }

    fn announce(&self, parcel: Parcel) -> PortFuture<'_, Result<(), BusError>> {
        Box::pin(async move {
            self.announce_now(&parcel);
            Ok(())
        })
    }

    fn ping<'a>(&'a self, node: &'a NodeId, _: Duration) -> PortFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            let open = self.seats().get(node).is_some_and(|seat| !seat.messages.is_closed());
            if open { Ok(()) } else { Err(BusError::NoResponders) }
        })
    }
    fn relay<'a>(
        &'a self,
        to: &'a NodeId,
        ask: RelayAsk,
        patience: Duration,
    ) -> PortFuture<'a, Result<RelayAnswer, BusError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let handed = self
                .seats()
                .get(to)
                .map_or(Err(BusError::NoResponders), |seat| seat.hand_step(Relayed { ask, answer }));
            handed?;
            match tokio::time::timeout(patience, answered).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(_)) | Err(_) => Err(BusError::Unavailable),
            }
        })
    }
}
