//! Sending, asking, and opening what receives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::age::now_ms;
use super::asking::{Absence, Asking};
use super::connect::{Config, ConnectError, connect};
use super::guard::{Guard, publish};
use super::post::{Post, Subjects};
use super::relay::{decode_answer, encode_ask};
use super::replays::Replays;
use super::signature::Purpose;
use super::wire::encode;
use crate::domain::NodeId;
use crate::lifecycle::Seldom;
use crate::ports::{Bus, BusError, Inbox, Parcel, PortFuture, Refusals, RelayAnswer, RelayAsk};

/// How long a node that is said to be away has for showing that it is not.
const OBJECTION: Duration = Duration::from_millis(300);

/// The bus over a NATS.
#[derive(Debug)]
pub struct NatsBus {
    client: Client,
    guard: Guard,
    asking: Asking,
    /// By the node they were sent to: an inbox that is opened again remembers what the one before it had.
    replays: Mutex<BTreeMap<NodeId, Arc<Replays>>>,
    prefix: String,
    inbox_max: usize,
    timeout: Duration,
    missed: watch::Sender<u64>,
}

impl NatsBus {
    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(config: &Config) -> Result<Self, ConnectError> {
        let guard = Guard::new(config.keys.as_ref()).ok_or(ConnectError::Key)?;
        let (missed, _) = watch::channel(0);
        let client = connect(config, missed.clone()).await?;
        let asking = Asking::start(client.clone(), guard.clone()).await;
        let asking = asking.map_err(|error| ConnectError::Unreachable(error.to_string()))?;
        let prefix = format!("{}.v1", config.prefix);
        let (inbox_max, timeout) = (config.inbox_max.max(1), config.timeout);
        Ok(Self { client, guard, asking, replays: Mutex::default(), prefix, inbox_max, timeout, missed })
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

    /// While the client is away it would take the message and deliver it when it comes back.
    fn connected(&self) -> Result<&Client, BusError> {
        if self.client.connection_state() == State::Connected {
            Ok(&self.client)
        } else {
            Err(BusError::Unavailable)
        }
    }

    async fn publish(&self, subject: String, parcel: &Parcel) -> Result<(), BusError> {
        let client = self.connected()?;
        let payload = encode(parcel, now_ms());
        let signature = self.guard.sign(Purpose::To(&subject), &payload);
        let published = publish(client, subject.into(), None, signature.as_ref(), payload);
        // With a server that stands still the client's queue fills, and then it would wait.
        tokio::time::timeout(self.timeout, published).await.unwrap_or(Err(BusError::Unavailable))
    }

    async fn subscribe(&self, subject: String) -> Result<Subscriber, BusError> {
        self.connected()?.subscribe(subject).await.map_err(|_| BusError::Unavailable)
    }

    async fn open_now(&self, node: &NodeId) -> Result<Inbox, BusError> {
        let subjects = Subjects {
            direct: self.subscribe(self.inbox_of(node)).await?,
            all: self.subscribe(self.to_all()).await?,
            relays: self.subscribe(self.relays_of(node)).await?,
            pings: self.subscribe(self.ping_of(node)).await?,
        };
        let (send, messages) = mpsc::channel(self.inbox_max);
        let (steps, relays) = mpsc::channel(self.inbox_max);
        let post = Post {
            own: node.clone(),
            inbox: send,
            steps,
            missed: self.missed.clone(),
            guard: self.guard.clone(),
            replays: self.replays_of(node),
            timeout: self.timeout,
            late: Seldom::default(),
            unread: Seldom::default(),
        };
        #[expect(clippy::disallowed_methods, reason = "it ends when its inbox is dropped")]
        tokio::spawn(post.receive(subjects, self.client.clone()));
        // The server does what a client says in order: once this comes back, the subscriptions stand.
        self.ping_now(node, self.timeout).await?;
        Ok(Inbox { messages, relays, missed: self.missed.subscribe() })
    }

    fn replays_of(&self, node: &NodeId) -> Arc<Replays> {
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        replays.entry(node.clone()).or_default().clone()
    }

    async fn ping_now(&self, node: &NodeId, patience: Duration) -> Result<(), BusError> {
        self.ask(self.ping_of(node), Bytes::new(), patience).await.map(|_| ())
    }

    async fn relay_now(
        &self,
        node: &NodeId,
        ask: &RelayAsk,
        patience: Duration,
    ) -> Result<RelayAnswer, BusError> {
        let answer = match self.ask(self.relays_of(node), encode_ask(ask), patience).await {
            // From it follows that the step was not taken, and may be taken elsewhere.
            Err(BusError::NoResponders) if self.objects(node).await => Err(BusError::Unavailable),
            other => other,
        }?;
        if answer.is_empty() { Err(BusError::Unavailable) } else { Ok(decode_answer(&answer)) }
    }

    /// Whether a node shows that it is there, whatever the server says, or somebody in its name.
    async fn objects(&self, node: &NodeId) -> bool {
        let ping = || self.asking.ask(self.ping_of(node), Bytes::new(), OBJECTION, Absence::PassedOver);
        self.guard.asks_for_signatures() && ping().await.is_ok()
    }

    async fn ask(&self, subject: String, payload: Bytes, patience: Duration) -> Result<Bytes, BusError> {
        self.connected()?;
        self.asking.ask(subject, payload, patience, Absence::Believed).await
    }
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
