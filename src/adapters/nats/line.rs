//! The client in use. A message that it can't read makes its connection task panic; then it hears nothing ever again,
//! still says that it is connected, and whatever it subscribed to ends. By that it is found out, and another client
//! takes its place.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use tokio::sync::watch;

use super::asking::Answers;
use super::connect::{Config, replace};
use super::ears::Ears;
use crate::ports::Refusals;

#[cfg(not(panic = "unwind"))]
compile_error!("a message that the NATS client can't read would end the whole process");

/// Between two attempts to make a client, when not even a file that it needs can be read.
const AGAIN: Duration = Duration::from_secs(1);

/// The client in use; a cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Line(watch::Receiver<Arc<Client>>);

impl Line {
    /// And who changes it.
    pub(super) fn new(client: Client) -> (watch::Sender<Arc<Client>>, Self) {
        let (clients, line) = watch::channel(Arc::new(client));
        (clients, Self(line))
    }

    pub(super) fn client(&self) -> Arc<Client> {
        self.0.borrow().clone()
    }

    /// The client in use; [`Self::changed`] waits for another.
    pub(super) fn look(&mut self) -> Arc<Client> {
        self.0.borrow_and_update().clone()
    }

    /// Waits until there is another than was looked at; false if there will be none.
    pub(super) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Replaces each client that gives up.
pub(super) struct Keeper {
    pub config: Config,
    pub ears: Arc<Ears>,
    pub refusals: Refusals,
    pub clients: watch::Sender<Arc<Client>>,
    pub answers: Answers,
}

impl Keeper {
    /// Reads answers as long as it is not dropped, from one client after the other.
    pub(super) async fn keep(self, mut subscribed: Subscriber) {
        loop {
            self.answers.read(subscribed).await;
            self.refusals.count_replaced_client();
            tracing::error!(
                "the NATS client gave up, as it does on a message that it can't read: another one connects"
            );
            subscribed = self.replaced().await;
        }
    }

    async fn replaced(&self) -> Subscriber {
        loop {
            match replace(&self.config, self.ears.clone()).await {
                Ok(client) => {
                    if let Ok(subscribed) = self.answers.subscribe(&client).await {
                        self.clients.send_replace(Arc::new(client));
                        return subscribed;
                    }
                }
                Err(error) => tracing::error!(%error, "no client for NATS can be made"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
