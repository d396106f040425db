//! Whether a server is there. The client itself lets scripts wait for their whole timeout while it has
//! no connection; this answers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error as RedisError;
use fred::interfaces::{ClientLike as _, EventInterface as _};
use fred::types::config::Server;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinHandle;

/// What a server that is away is given to answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// Between two looks whether it is back.
const AGAIN: Duration = Duration::from_millis(50);

/// A client that has not come back for so long may have given up.
const RENEWED_AFTER: Duration = Duration::from_secs(15);

pub(super) type Errors = broadcast::Receiver<(RedisError, Option<Server>)>;

/// A flag that a watching task keeps, for as long as it is held.
#[derive(Debug)]
pub(super) struct Presence {
    there: watch::Receiver<bool>,
    doubt: Arc<Notify>,
    watch: JoinHandle<()>,
}

impl Presence {
    /// With what it hears errors by, from before it was connected, and how a new client takes its place.
    pub(super) fn watch(
        client: Client,
        errors: Errors,
        there: bool,
        shaken: Arc<AtomicBool>,
        renew: impl Fn() -> Client + Send + 'static,
    ) -> Self {
        let (flag, there) = watch::channel(there);
        let doubt = Arc::new(Notify::new());
        #[expect(clippy::disallowed_methods, reason = "dropping the presence ends it")]
        let watch = tokio::spawn(keep(client, errors, flag, doubt.clone(), shaken, renew));
        Self { there, doubt, watch }
    }

    pub(super) fn is_there(&self) -> bool {
        *self.there.borrow()
    }

    /// Something was not answered in time. The client notices a silent server only when nobody talks
    /// to it: every word that it sends counts as a sign of life.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Waits until it is.
    pub(super) async fn there(&self) {
        let _ = self.there.clone().wait_for(|there| *there).await;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

async fn answers(client: &Client) -> bool {
    matches!(tokio::time::timeout(PATIENCE, client.ping::<()>(None)).await, Ok(Ok(())))
}

/// A connection that broke, or stays silent, says that it is away; an answer that it is back.
async fn keep(
    mut client: Client,
    mut errors: Errors,
    there: watch::Sender<bool>,
    doubt: Arc<Notify>,
    shaken: Arc<AtomicBool>,
    renew: impl Fn() -> Client,
) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        let is_there = *there.borrow();
        if is_there {
            let silent = tokio::select! {
                error = errors.recv() => {
                    match error {
                        Ok((error, server)) => tracing::warn!(%error, ?server, "the connection to Redis broke"),
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return,
                    }
                    false
                }
                () = doubt.notified() => true,
            };
            if silent && answers(&client).await {
                continue;
            }
            there.send_replace(false);
            shaken.store(true, Ordering::Relaxed);
            if silent {
                tracing::warn!("Redis is silent");
                // The old one may hang in what it could not send.
                client = renew();
            }
        }
        while tokio::time::timeout(RENEWED_AFTER, back(&client)).await.is_err() {
            client = renew();
        }
        // What was said meanwhile is of the past.
        errors = client.error_rx();
        there.send_replace(true);
        tracing::info!("Redis is there");
    }
}

async fn back(client: &Client) {
    while !answers(client).await {
        tokio::time::sleep(AGAIN).await;
    }
}
