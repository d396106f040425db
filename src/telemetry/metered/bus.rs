//! The bus between nodes, measured.

use std::time::Duration;

use super::Metered;
use crate::domain::NodeId;
use crate::ports::{Bus, BusError, Inbox, Parcel, PortFuture, Refusals, RelayAnswer, RelayAsk};
use crate::telemetry::labels::{BusOutcome, BusStep};

impl<B: Bus + ?Sized> Metered<B> {
    fn sent_on<'a, T: 'a>(
        &'a self,
        step: BusStep,
        asked: PortFuture<'a, Result<T, BusError>>,
    ) -> PortFuture<'a, Result<T, BusError>> {
        Box::pin(async move {
            let timed = self.metrics.bus_step(step);
            let answer = asked.await;
            let outcome = match &answer {
                Ok(_) => BusOutcome::Ok,
                Err(BusError::Unavailable) => BusOutcome::Unavailable,
                Err(BusError::NoResponders) => BusOutcome::NoResponders,
                Err(BusError::Full) => BusOutcome::Full,
                Err(BusError::TooLarge) => BusOutcome::TooLarge,
            };
            timed.ended(self.metrics.bus_outcome(step, outcome));
            answer
        })
    }
}

impl<B: Bus + ?Sized> Bus for Metered<B> {
    fn open_inbox<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<Inbox, BusError>> {
        self.sent_on(BusStep::OpenInbox, self.inner.open_inbox(node))
    }

    fn send<'a>(&'a self, to: &'a NodeId, parcel: Parcel) -> PortFuture<'a, Result<(), BusError>> {
        self.sent_on(BusStep::Send, self.inner.send(to, parcel))
    }

    fn announce(&self, parcel: Parcel) -> PortFuture<'_, Result<(), BusError>> {
        self.sent_on(BusStep::Announce, self.inner.announce(parcel))
    }

    fn ping<'a>(&'a self, node: &'a NodeId, patience: Duration) -> PortFuture<'a, Result<(), BusError>> {
        self.sent_on(BusStep::Ping, self.inner.ping(node, patience))
    }

    fn relay<'a>(
        &'a self,
        to: &'a NodeId,
        ask: RelayAsk,
        patience: Duration,
    ) -> PortFuture<'a, Result<RelayAnswer, BusError>> {
        self.sent_on(BusStep::Relay, self.inner.relay(to, ask, patience))
    }

    fn refusals(&self) -> Refusals {
        self.inner.refusals()
    }
}
