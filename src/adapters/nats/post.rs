//! The receiving end of one node: what it is sent, and asked.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message, Subject, SubscribeError, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

use super::age::{STALE_MS, now_ms};
use super::doubt::Doubt;
use super::guard::{Guard, publish};
use super::line::Line;
use super::relay::{decode_ask, encode_answer};
use super::replays::{Replays, Way};
use super::signature::{Purpose, Signature};
use super::wire::decode;
use crate::domain::NodeId;
use crate::lifecycle::Seldom;
use crate::ports::{Lane, Parcel, Refusal, RelayAnswer, RelayRefusal, Relayed};

/// What a node listens to: the subjects, or what is subscribed to them.
pub(super) struct Subjects<T> {
    pub direct: T,
    pub all: T,
    pub relays: T,
    pub pings: T,
}

impl Subjects<String> {
    pub(super) async fn subscribe(&self, client: &Client) -> Result<Subjects<Subscriber>, SubscribeError> {
        Ok(Subjects {
            direct: client.subscribe(self.direct.clone()).await?,
            all: client.subscribe(self.all.clone()).await?,
            relays: client.subscribe(self.relays.clone()).await?,
            pings: client.subscribe(self.pings.clone()).await?,
        })
    }
}

/// An answer that is awaited, where it goes, and the question. A step that is dropped has an empty one: the
/// client of who asked may remember a question without an answer for ever.
type Answering = BoxFuture<'static, (Subject, Option<Signature>, Option<RelayAnswer>)>;

/// Of one node.
pub(super) struct Post {
    pub own: NodeId,
    pub inbox: mpsc::Sender<Parcel>,
    pub steps: mpsc::Sender<Relayed>,
    pub missed: watch::Sender<u64>,
    /// Changes whenever the client may have lost messages.
    pub lost: watch::Receiver<u64>,
    pub losses: Doubt,
    pub refused: Doubt,
    pub subjects: Subjects<String>,
    pub guard: Guard,
    pub replays: Arc<Replays>,
    pub timeout: Duration,
    pub late: Seldom,
    pub unread: Seldom,
}

/// How the subjects begin at which clients of a NATS await answers.
const INBOXES: &str = "_INBOX.";

impl Post {
    /// Until the inbox is dropped, or the client is and there will be no other.
    pub(super) async fn receive(
        mut self,
        mut heard: Subjects<Subscriber>,
        mut client: Arc<Client>,
        mut line: Line,
    ) {
        let mut answering = FuturesUnordered::new();
        loop {
            self.listen(heard, &client, &mut answering).await;
            // One that gave up as well is replaced in its turn.
            heard = loop {
                let changed = tokio::select! {
                    changed = line.changed() => changed,
                    () = self.inbox.closed() => false,
                };
                if !changed {
                    return;
                }
                client = line.look();
                if let Ok(heard) = self.subjects.subscribe(&client).await {
                    break heard;
                }
            };
        }
    }

    /// Until the inbox is dropped, or the client gives up.
    async fn listen(
        &mut self,
        heard: Subjects<Subscriber>,
        client: &Client,
        answering: &mut FuturesUnordered<Answering>,
    ) {
        let Subjects { mut direct, mut all, mut relays, mut pings } = heard;
        loop {
            let (message, lane) = tokio::select! {
                message = direct.next() => (message, Lane::Direct),
                message = all.next() => (message, Lane::All),
                Some(ping) = pings.next() => {
                    if let (Ok(question), Some(reply)) = (self.admit(&ping, Way::Pings), ping.reply) {
                        self.say(client, reply, question.as_ref(), Bytes::new()).await;
                    }
                    continue;
                }
                Some(step) = relays.next() => {
                    answering.extend(self.take_step(step));
                    continue;
                }
                Some(answered) = answering.next() => {
                    let (reply, question, answer) = answered;
                    let answer = answer.map_or_else(Bytes::new, |answer| encode_answer(&answer));
                    self.say(client, reply, question.as_ref(), answer).await;
                    continue;
                }
                () = self.refused.ripens() => {
                    self.refuse();
                    continue;
                }
                () = self.losses.ripens() => {
                    self.lose();
                    continue;
                }
                Ok(()) = self.lost.changed() => {
                    self.lose();
                    continue;
                }
                () = self.inbox.closed() => return,
            };
            let Some(message) = message else { return };
            match self.admit(&message, Way::of(lane)) {
                Ok(_) => self.take(&message, lane),
                // What was here before is not missing.
                Err(Refusal::Replayed) => {}
                Err(_) => self.refuse(),
            }
        }
    }

    /// Answers, if the client takes it: with a server that stands still its queue fills. The subject is not
    /// signed, as servers may rename it: only where nothing but answers is awaited does this node speak.
    async fn say(&self, client: &Client, reply: Subject, question: Option<&Signature>, answer: Bytes) {
        if !reply.starts_with(INBOXES) {
            return;
        }
        let signature = self.guard.sign(Purpose::Answer(question), &answer);
        let said = publish(client, reply, None, signature.as_ref(), answer);
        let _ = tokio::time::timeout(self.timeout, said).await;
    }

    fn admit(&self, message: &Message, way: Way) -> Result<Option<Signature>, Refusal> {
        self.guard.admit(message, way, &self.replays)
    }

    /// Hands a relay's step over; one that finds no room is dropped, and asked again. One that is refused has no
    /// answer: this node does not speak to subjects that anybody may name.
    fn take_step(&self, message: Message) -> Option<Answering> {
        let question = self.admit(&message, Way::Relays).ok()?;
        let reply = message.reply?;
        let Some(ask) = decode_ask(&message.payload) else {
            if let Some(unsaid) = self.unread.again() {
                tracing::warn!(subject = %message.subject, unsaid, "a relay's step can't be read");
            }
            let unreadable = RelayAnswer::Refused(RelayRefusal::Unreadable);
            return Some(Box::pin(async move { (reply, question, Some(unreadable)) }));
        };
        let (answer, answered) = oneshot::channel();
        let _ = self.steps.try_send(Relayed { ask, answer });
        Some(Box::pin(async move { (reply, question, answered.await.ok()) }))
    }

    fn take(&mut self, message: &Message, lane: Lane) {
        let (parcel, at) = match decode(&message.payload) {
            Ok(read) => read,
            Err(error) => {
                self.lose();
                if let Some(unsaid) = self.unread.again() {
                    tracing::warn!(subject = %message.subject, %error, unsaid, "a message between nodes can't be read");
                }
                return;
            }
        };
        if lane == Lane::All && parcel.from == self.own {
            return;
        }
        if now_ms().saturating_sub(at) > STALE_MS {
            self.lose();
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
            self.lose();
        }
    }

    /// Something was refused that may have been a node's.
    fn refuse(&mut self) {
        if self.refused.arises() {
            self.missed.send_modify(|missed| *missed += 1);
        }
    }

    /// Something may have been lost.
    fn lose(&mut self) {
        if self.losses.arises() {
            self.missed.send_modify(|missed| *missed += 1);
        }
    }
}
