//! Sending, asking, and opening what receives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::age::now_ms;
use super::asking::{Answers, Asking, Objection};
use super::connect::{Config, ConnectError, connect};
use super::doubt::Doubt;
use super::ears::Ears;
use super::guard::{Guard, publish};
use super::line::{Keeper, Line};
use super::post::{Post, Subjects};
use super::relay::{decode_answer, encode_ask};
use super::replays::Replays;
use super::signature::Purpose;
use super::wire::encode;
use crate::domain::NodeId;
use crate::lifecycle::Seldom;
use crate::ports::{Bus, BusError, Inbox, Parcel, PortFuture, Refusals, RelayAnswer, RelayAsk};

/// The bus over a NATS.
#[derive(Debug)]
pub struct NatsBus {
    line: Line,
    guard: Guard,
    asking: Asking,
    /// By the node they were sent to: an inbox that is opened again remembers what the one before it had.
    replays: Mutex<BTreeMap<NodeId, Arc<Replays>>>,
    prefix: String,
    inbox_max: usize,
    timeout: Duration,
    /// Changes whenever messages may have been lost.
    lost: watch::Sender<u64>,
    _keeps: DropGuard,
}

impl NatsBus {
    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(config: &Config) -> Result<Self, ConnectError> {
        let guard = Guard::new(config.keys.as_ref()).ok_or(ConnectError::Key)?;
        let (lost, _) = watch::channel(0);
        let ears = Arc::new(Ears::new(lost.clone()));
        let client = connect(config, ears.clone()).await?;
        let answers = Answers::to(client.new_inbox(), guard.clone());
        let subscribed = answers.subscribe(&client).await;
        let subscribed = subscribed.map_err(|error| ConnectError::Unreachable(error.to_string()))?;
        let (clients, line) = Line::new(client);
        let asking = Asking::new(line.clone(), answers.clone());
        let keeper = Keeper { config: config.clone(), ears, refusals: guard.refusals(), clients, answers };
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "it ends when this is dropped")]
        tokio::spawn(stop.clone().run_until_cancelled_owned(keeper.keep(subscribed)));
        let prefix = format!("{}.v1", config.prefix);
        let (inbox_max, timeout) = (config.inbox_max.max(1), config.timeout);
        let (replays, _keeps) = (Mutex::default(), stop.drop_guard());
        Ok(Self { line, guard, asking, replays, prefix, inbox_max, timeout, lost, _keeps })
    }

    fn inbox_of(&self, node: &NodeId) -> String {
        format!("{}.node.{node}", self.prefix)
    }

    fn ping_of(&self, node: &NodeId) -> String {
        format!("{}.ping.{node}", self.prefix)
    }

    fn relays_of(&self, node: &NodeId) -> String {
        format!("{}.relay.{node}", self.prefix)
    }

    fn to_all(&self) -> String {
        format!("{}.all", self.prefix)
    }

    fn connected(&self) -> Result<Arc<Client>, BusError> {
        connected(self.line.client())
    }

    async fn publish(&self, subject: String, parcel: &Parcel) -> Result<(), BusError> {
        let client = self.connected()?;
        let payload = encode(parcel, now_ms());
        let signature = self.guard.sign(Purpose::To(&subject), &payload);
        let published = publish(&client, subject.into(), None, signature.as_ref(), payload);
        // With a server that stands still the client's queue fills, and then it would wait.
        tokio::time::timeout(self.timeout, published).await.unwrap_or(Err(BusError::Unavailable))
    }

    async fn open_now(&self, node: &NodeId) -> Result<Inbox, BusError> {
        let subjects = Subjects {
            direct: self.inbox_of(node),
            all: self.to_all(),
            relays: self.relays_of(node),
            pings: self.ping_of(node),
        };
        let mut line = self.line.clone();
        let client = connected(line.look())?;
        let heard = subjects.subscribe(&client).await.map_err(|_| BusError::Unavailable)?;
        let (send, messages) = mpsc::channel(self.inbox_max);
        let (steps, relays) = mpsc::channel(self.inbox_max);
        let (missed, told) = watch::channel(0);
        let post = Post {
            own: node.clone(),
            inbox: send,
            steps,
            missed,
            lost: self.lost.subscribe(),
            losses: Doubt::of_losses(),
            refused: Doubt::of_refusals(),
            subjects,
            guard: self.guard.clone(),
            replays: self.replays_of(node),
            timeout: self.timeout,
            late: Seldom::default(),
            unread: Seldom::default(),
        };
        #[expect(clippy::disallowed_methods, reason = "it ends when its inbox is dropped")]
        tokio::spawn(post.receive(heard, client, line));
        // The server does what a client says in order: once this comes back, the subscriptions stand.
        self.ping_now(node, self.timeout).await?;
        Ok(Inbox { messages, relays, missed: told })
    }

    fn replays_of(&self, node: &NodeId) -> Arc<Replays> {
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        replays.entry(node.clone()).or_default().clone()
    }

    async fn ping_now(&self, node: &NodeId, patience: Duration) -> Result<(), BusError> {
        self.ask(self.ping_of(node), Bytes::new(), patience, Objection::Answer).await.map(|_| ())
    }

    async fn relay_now(
        &self,
        node: &NodeId,
        ask: &RelayAsk,
        patience: Duration,
    ) -> Result<RelayAnswer, BusError> {
        let objection = Objection::Pinged(self.ping_of(node));
        let answer = self.ask(self.relays_of(node), encode_ask(ask), patience, objection).await?;
        if answer.is_empty() { Err(BusError::Unavailable) } else { Ok(decode_answer(&answer)) }
    }

    async fn ask(
        &self,
        subject: String,
        payload: Bytes,
        patience: Duration,
        objection: Objection,
    ) -> Result<Bytes, BusError> {
        self.connected()?;
        // Elsewhere anybody could answer as well.
        let objection = if self.guard.asks_for_signatures() { objection } else { Objection::None };
        self.asking.ask(subject, payload, patience, objection).await
    }
}

/// While the client is away it would take the message and deliver it when it comes back.
fn connected(client: Arc<Client>) -> Result<Arc<Client>, BusError> {
    if client.connection_state() == State::Connected { Ok(client) } else { Err(BusError::Unavailable) }
}

impl Bus for NatsBus {
    fn open_inbox<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<Inbox, BusError>> {
        Box::pin(async move {
            let opened = tokio::time::timeout(self.timeout, self.open_now(node)).await;
            opened.unwrap_or(Err(BusError::Unavailable))
        })
    }

    fn send<'a>(&'a self, to: &'a NodeId, parcel: Parcel) -> PortFuture<'a, Result<(), BusError>> {
        Box::pin(async move { self.publish(self.inbox_of(to), &parcel).await })
    }

    fn announce(&self, parcel: Parcel) -> PortFuture<'_, Result<(), BusError>> {
        Box::pin(async move { self.publish(self.to_all(), &parcel).await })
    }

    fn ping<'a>(&'a self, node: &'a NodeId, patience: Duration) -> PortFuture<'a, Result<(), BusError>> {
        Box::pin(self.ping_now(node, patience))
    }

    fn relay<'a>(
        &'a self,
        to: &'a NodeId,
        ask: RelayAsk,
        patience: Duration,
    ) -> PortFuture<'a, Result<RelayAnswer, BusError>> {
        Box::pin(async move {
            let answered = tokio::time::timeout(patience, self.relay_now(to, &ask, patience)).await;
            answered.unwrap_or(Err(BusError::Unavailable))
        })
    }

    fn refusals(&self) -> Refusals {
        self.guard.refusals()
    }
}
