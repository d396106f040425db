//! Sending and receiving.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::connection::State;
use async_nats::{Client, Message, PublishErrorKind, Request, RequestErrorKind, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

use super::connect::{Config, ConnectError, connect};
use super::relay::{decode_answer, decode_ask, encode_answer, encode_ask};
use super::seldom::Seldom;
use super::wire::{decode, encode};
use crate::domain::NodeId;
use crate::ports::{
    Bus, BusError, Inbox, Lane, Parcel, PortFuture, RelayAnswer, RelayAsk, RelayRefusal, Relayed,
};

/// What was on its way for longer is dropped: it waited in a client that was away. It is long because
/// clocks of nodes differ: one that is ahead by more than this hears nothing of the others, says so,
/// and reads the logs instead.
const STALE: Duration = Duration::from_secs(30);

/// The bus over a NATS.
#[derive(Debug)]
pub struct NatsBus {
    client: Client,
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
        let (missed, _) = watch::channel(0);
        let client = connect(config, missed.clone()).await?;
        let prefix = format!("{}.v1", config.prefix);
        let (inbox_max, timeout) = (config.inbox_max.max(1), config.timeout);
        Ok(Self { client, prefix, inbox_max, timeout, missed })
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
        let published = self.connected()?.publish(subject, encode(parcel, now_ms()));
        // With a server that stands still the client's queue fills, and then it would wait.
        match tokio::time::timeout(self.timeout, published).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => Err(BusError::TooLarge),
            Ok(Err(_)) | Err(_) => Err(BusError::Unavailable),
        }
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
            late: Seldom::default(),
            unread: Seldom::default(),
            timeout: self.timeout,
        };
        #[expect(clippy::disallowed_methods, reason = "it ends when its inbox is dropped")]
        tokio::spawn(post.receive(subjects, self.client.clone()));
        // The server does what a client says in order: once this comes back, the subscriptions stand.
        self.ping_now(node, self.timeout).await?;
        Ok(Inbox { messages, relays, missed: self.missed.subscribe() })
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
        let answer = self.ask(self.relays_of(node), encode_ask(ask), patience).await?;
        if answer.is_empty() { Err(BusError::Unavailable) } else { Ok(decode_answer(&answer)) }
    }

    async fn ask(&self, subject: String, payload: Bytes, patience: Duration) -> Result<Bytes, BusError> {
        let request = Request::new().payload(payload).timeout(Some(patience));
        let asked = self.connected()?.send_request(subject, request);
        match tokio::time::timeout(patience, asked).await {
            Ok(Ok(answer)) => Ok(answer.payload),
            Ok(Err(error)) => match error.kind() {
                RequestErrorKind::NoResponders => Err(BusError::NoResponders),
                RequestErrorKind::MaxPayloadExceeded => Err(BusError::TooLarge),
                RequestErrorKind::TimedOut | RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
                    Err(BusError::Unavailable)
                }
            },
            Err(_) => Err(BusError::Unavailable),
        }
    }
}

/// What a node listens to.
struct Subjects {
    direct: Subscriber,
    all: Subscriber,
    relays: Subscriber,
    pings: Subscriber,
}

/// An answer that is awaited, and where it goes. A step that is dropped has an empty one: the client of who
/// asked would remember a question without an answer for ever.
type Answering = BoxFuture<'static, (Subject, Option<RelayAnswer>)>;

/// The receiving end of one node.
struct Post {
    own: NodeId,
    inbox: mpsc::Sender<Parcel>,
    steps: mpsc::Sender<Relayed>,
    missed: watch::Sender<u64>,
    late: Seldom,
    unread: Seldom,
    timeout: Duration,
}

impl Post {
    /// Until the inbox is dropped, or the client is.
    async fn receive(self, subjects: Subjects, client: Client) {
        let Subjects { mut direct, mut all, mut relays, mut pings } = subjects;
        let mut answering = FuturesUnordered::new();
        loop {
            let (message, lane) = tokio::select! {
                message = direct.next() => (message, Lane::Direct),
                message = all.next() => (message, Lane::All),
                Some(ping) = pings.next() => {
                    if let Some(reply) = ping.reply {
                        self.say(&client, reply, Bytes::new()).await;
                    }
                    continue;
                }
                Some(step) = relays.next() => {
                    answering.extend(self.take_step(step));
                    continue;
                }
                Some(answered) = answering.next() => {
                    let (reply, answer) = answered;
                    let answer = answer.map_or_else(Bytes::new, |answer| encode_answer(&answer));
                    self.say(&client, reply, answer).await;
                    continue;
                }
                () = self.inbox.closed() => return,
            };
            let Some(message) = message else { return };
            self.take(&message, lane);
        }
    }

    /// Answers, if the client takes it: with a server that stands still its queue fills.
    async fn say(&self, client: &Client, reply: Subject, answer: Bytes) {
        let _ = tokio::time::timeout(self.timeout, client.publish(reply, answer)).await;
    }

    /// Hands a relay's step over; one that finds no room is dropped, and asked again.
    fn take_step(&self, message: Message) -> Option<Answering> {
        let reply = message.reply?;
        let Some(ask) = decode_ask(&message.payload) else {
            if let Some(unsaid) = self.unread.again() {
                tracing::warn!(subject = %message.subject, unsaid, "a relay's step can't be read");
            }
            let unreadable = RelayAnswer::Refused(RelayRefusal::Unreadable);
            return Some(Box::pin(async move { (reply, Some(unreadable)) }));
        };
        let (answer, answered) = oneshot::channel();
        let _ = self.steps.try_send(Relayed { ask, answer });
        Some(Box::pin(async move { (reply, answered.await.ok()) }))
    }

    fn take(&self, message: &Message, lane: Lane) {
        let (parcel, at) = match decode(&message.payload) {
            Ok(read) => read,
            Err(error) => {
                self.lost();
                if let Some(unsaid) = self.unread.again() {
                    tracing::warn!(subject = %message.subject, %error, unsaid, "a message between nodes can't be read");
                }
                return;
            }
        };
        if lane == Lane::All && parcel.from == self.own {
            return;
        }
        if now_ms().saturating_sub(at) > STALE.as_millis() as u64 {
            self.lost();
            if let Some(unsaid) = self.late.again() {
                tracing::warn!(
                    from = %parcel.from,
                    unsaid,
                    "a message between nodes came too late, or a clock is wrong; it is dropped"
                );
            }
            return;
        }
        if self.inbox.try_send(parcel).is_err() {
            self.lost();
        }
    }

    fn lost(&self) {
        self.missed.send_modify(|missed| *missed += 1);
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
        Box::pin(async move { self.relay_now(to, &ask, patience).await })
    }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
