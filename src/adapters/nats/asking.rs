//! Questions to other nodes, and who waits for their answers. What is no answer to the question is passed over:
//! whoever is quicker than the node that was asked takes nothing away by it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subject, SubscribeError, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::{Notify, oneshot};

use super::guard::{Guard, publish};
use super::line::Line;
use super::signature::{Purpose, Signature};
use crate::ports::BusError;

/// How long whoever is said to be away has for showing that it is not.
const OBJECTION: Duration = Duration::from_millis(300);

/// What keeps "nobody listens" from being believed. The server says it, and has no key, so that anybody may have.
#[derive(Debug)]
pub(super) enum Objection {
    None,
    /// The answer to the question, which is one that is answered at once.
    Answer,
    /// The answer to a ping on this subject; then the question's is waited for as before.
    Pinged(String),
}

/// The asking end of one process.
#[derive(Debug)]
pub(super) struct Asking {
    line: Line,
    answers: Answers,
    asked: AtomicU64,
}

/// Where answers come in, and who waits for them; a cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    guard: Guard,
    /// What the subjects of answers begin with.
    inbox: Arc<str>,
    waiting: Arc<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<u64, Waiter>>);

#[derive(Debug)]
struct Waiter {
    question: Option<Signature>,
    answer: oneshot::Sender<Bytes>,
    /// Somebody says that nobody listens.
    absent: Arc<Notify>,
}

impl Asking {
    pub(super) fn new(line: Line, answers: Answers) -> Self {
        Self { line, answers, asked: AtomicU64::new(0) }
    }

    /// Asks, and waits for the answer, or until it is said that nobody listens and there is no objection.
    pub(super) async fn ask(
        &self,
        subject: String,
        payload: Bytes,
        patience: Duration,
        objection: Objection,
    ) -> Result<Bytes, BusError> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let _seat = Seat { waiting: &self.answers.waiting, number };
        let asked = tokio::time::timeout(patience, self.ask_as(number, subject, payload, objection)).await;
        asked.unwrap_or(Err(BusError::Unavailable))
    }

    async fn ask_as(
        &self,
        number: u64,
        subject: String,
        payload: Bytes,
        objection: Objection,
    ) -> Result<Bytes, BusError> {
        let Answers { guard, inbox, waiting } = &self.answers;
        let question = guard.sign(Purpose::To(&subject), &payload);
        let (answer, answered) = oneshot::channel();
        let absent = Arc::<Notify>::default();
        let waiter = Waiter { question: question.clone(), answer, absent: absent.clone() };
        waiting.lock().insert(number, waiter);
        let reply = Subject::from(format!("{inbox}.{number}"));
        let client = self.line.client();
        publish(&client, subject.into(), Some(reply), question.as_ref(), payload).await?;
        tokio::select! {
            biased;
            answered = answered => answered.map_err(|_| BusError::Unavailable),
            () = self.unopposed(&absent, objection) => Err(BusError::NoResponders),
        }
    }

    async fn unopposed(&self, absent: &Notify, objection: Objection) {
        absent.notified().await;
        match objection {
            Objection::None => {}
            Objection::Answer => tokio::time::sleep(OBJECTION).await,
            Objection::Pinged(subject) => loop {
                let pinged = self.ask(subject.clone(), Bytes::new(), OBJECTION, Objection::Answer);
                if Box::pin(pinged).await.is_err() {
                    return;
                }
                absent.notified().await;
            },
        }
    }
}

impl Answers {
    pub(super) fn to(inbox: String, guard: Guard) -> Self {
        Self { guard, inbox: inbox.into(), waiting: Arc::default() }
    }

    pub(super) async fn subscribe(&self, client: &Client) -> Result<Subscriber, SubscribeError> {
        client.subscribe(format!("{}.*", self.inbox)).await
    }

    /// Hands answers to whoever waits for them, until their client gives up: then nobody waits any more.
    pub(super) async fn read(&self, mut subscribed: Subscriber) {
        while let Some(message) = subscribed.next().await {
            let rest = message.subject.strip_prefix(&*self.inbox).and_then(|rest| rest.strip_prefix('.'));
            if let Some(number) = rest.and_then(|rest| rest.parse().ok()) {
                self.hand_over(number, message);
            }
        }
        self.waiting.lock().clear();
    }

    /// What answers something else is passed over.
    fn hand_over(&self, number: u64, message: Message) {
        let waiting = self.waiting.lock();
        let Some(waiter) = waiting.get(&number) else { return };
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            waiter.absent.notify_one();
        } else {
            let question = waiter.question.clone();
            drop(waiting);
            if self.guard.admit_answer(&message, question.as_ref())
                && let Some(waiter) = self.waiting.lock().remove(&number)
            {
                // Nobody may wait any more.
                let _ = waiter.answer.send(message.payload);
            }
        }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever stops waiting is forgotten.
struct Seat<'a> {
    waiting: &'a Waiting,
    number: u64,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.number);
    }
}
