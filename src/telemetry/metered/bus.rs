//! The bus between nodes, measured.

use std::time::Duration;

use tracing::{Instrument as _, Span};

use super::Metered;
use crate::domain::NodeId;
use crate::ports::{Bus, BusError, Inbox, Parcel, PortFuture, Refusals, RelayAnswer, RelayAsk};
use crate::telemetry::labels::{BusOutcome, BusStep, Label as _};
use crate::telemetry::spans;

impl<B: Bus + ?Sized> Metered<B> {
    /// It says what it is part of.
    fn traced(&self, parcel: Parcel) -> (Span, Parcel) {
        let span = spans::message_sent(self.system, &parcel.envelope);
        let trace = spans::context_of(&span);
        (span, Parcel { trace, ..parcel })
    }

    fn sent_on<'a, T: 'a>(
        &'a self,
        step: BusStep,
        asked: PortFuture<'a, Result<T, BusError>>,
    ) -> PortFuture<'a, Result<T, BusError>> {
        self.traced_on(step, Span::none(), asked)
    }

    fn traced_on<'a, T: 'a>(
        &'a self,
        step: BusStep,
        span: Span,
        asked: PortFuture<'a, Result<T, BusError>>,
    ) -> PortFuture<'a, Result<T, BusError>> {
        Box::pin(async move {
            let timed = self.metrics.bus_step(step);
            let answer = asked.instrument(span.clone()).await;
            let outcome = match &answer {
                Ok(_) => BusOutcome::Ok,
                Err(BusError::Unavailable) => BusOutcome::Unavailable,
                Err(BusError::NoResponders) => BusOutcome::NoResponders,
                Err(BusError::Full) => BusOutcome::Full,
                Err(BusError::TooLarge) => BusOutcome::TooLarge,
            };
            if answer.is_err() {
                spans::failed(&span, outcome.text());
            }
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
        let (span, parcel) = self.traced(parcel);
        self.traced_on(BusStep::Send, span, self.inner.send(to, parcel))
    }

    fn announce(&self, parcel: Parcel) -> PortFuture<'_, Result<(), BusError>> {
        let (span, parcel) = self.traced(parcel);
        self.traced_on(BusStep::Announce, span, self.inner.announce(parcel))
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
