//! Questions to other nodes, and who waits for their answers. What is no answer to the question is passed over:
//! whoever is quicker than the node that was asked takes nothing away by it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subject, SubscribeError, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::guard::{Guard, publish};
use super::signature::{Purpose, Signature};
use crate::ports::BusError;

/// The asking end of one process.
#[derive(Debug)]
pub(super) struct Asking {
    client: Client,
    guard: Guard,
    /// What the subjects of answers begin with.
    inbox: String,
    asked: AtomicU64,
    waiting: Arc<Waiting>,
    _reads: DropGuard,
}

#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<u64, Waiter>>);

#[derive(Debug)]
struct Waiter {
    question: Option<Signature>,
    absence: Absence,
    answer: oneshot::Sender<Result<Bytes, BusError>>,
}

/// What to make of it when the server says that nobody listens. It has no key: anybody may have said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    Believed,
    PassedOver,
}

impl Asking {
    pub(super) async fn start(client: Client, guard: Guard) -> Result<Self, SubscribeError> {
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await?;
        let (waiting, stop) = (Arc::<Waiting>::default(), CancellationToken::new());
        let reading = read(answers, inbox.clone(), waiting.clone(), guard.clone());
        #[expect(clippy::disallowed_methods, reason = "it ends when this is dropped")]
        tokio::spawn(stop.clone().run_until_cancelled_owned(reading));
        Ok(Self { client, guard, inbox, asked: AtomicU64::new(0), waiting, _reads: stop.drop_guard() })
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(
        &self,
        subject: String,
        payload: Bytes,
        patience: Duration,
        absence: Absence,
    ) -> Result<Bytes, BusError> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let _seat = Seat { waiting: &self.waiting, number };
        let asked = tokio::time::timeout(patience, self.ask_as(number, subject, payload, absence)).await;
        asked.unwrap_or(Err(BusError::Unavailable))
    }

    async fn ask_as(
        &self,
        number: u64,
        subject: String,
        payload: Bytes,
        absence: Absence,
    ) -> Result<Bytes, BusError> {
        let question = self.guard.sign(Purpose::To(&subject), &payload);
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().insert(number, Waiter { question: question.clone(), absence, answer });
        let reply = Subject::from(format!("{}.{number}", self.inbox));
        publish(&self.client, subject.into(), Some(reply), question.as_ref(), payload).await?;
        answered.await.unwrap_or(Err(BusError::Unavailable))
    }
}

/// Hands answers to whoever waits for them.
async fn read(mut answers: Subscriber, inbox: String, waiting: Arc<Waiting>, guard: Guard) {
    while let Some(message) = answers.next().await {
        let number =
            message.subject.strip_prefix(&*inbox).and_then(|rest| rest.strip_prefix('.')?.parse().ok());
        let Some(waiter) = number.and_then(|number| waiting.answered(number, &message, &guard)) else {
            continue;
        };
        let no_responders = message.status == Some(StatusCode::NO_RESPONDERS);
        let answer = if no_responders { Err(BusError::NoResponders) } else { Ok(message.payload) };
        // Nobody may wait any more.
        let _ = waiter.answer.send(answer);
    }
}

impl Waiting {
    /// Who waits for this, unless it answers something else.
    fn answered(&self, number: u64, message: &Message, guard: &Guard) -> Option<Waiter> {
        let (question, absence) =
            self.lock().get(&number).map(|waiter| (waiter.question.clone(), waiter.absence))?;
        let believed = match message.status {
            Some(StatusCode::NO_RESPONDERS) => absence == Absence::Believed,
            _ => guard.admit_answer(message, question.as_ref()),
        };
        if believed { self.lock().remove(&number) } else { None }
    }

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
