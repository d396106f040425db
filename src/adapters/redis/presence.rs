//! Whether Redis is there. The client itself lets scripts wait for their whole timeout while it has no
//! connection; this answers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike as _, EventInterface as _};
use tokio::task::JoinHandle;

/// Between two looks whether it is back.
const AGAIN: Duration = Duration::from_millis(50);

/// A flag that a watching task keeps, for as long as it is held.
#[derive(Debug)]
pub(super) struct Presence {
    there: Arc<AtomicBool>,
    watch: JoinHandle<()>,
}

impl Presence {
    pub(super) fn watch(client: &Client, patience: Duration) -> Self {
        let there = Arc::new(AtomicBool::new(true));
        #[expect(clippy::disallowed_methods, reason = "dropping the presence ends it")]
        let watch = tokio::spawn(keep(client.clone(), there.clone(), patience));
        Self { there, watch }
    }

    pub(super) fn is_there(&self) -> bool {
        self.there.load(Ordering::Relaxed)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// A connection that broke says that it is away, an answer that it is back.
async fn keep(client: Client, there: Arc<AtomicBool>, patience: Duration) {
    use tokio::sync::broadcast::error::RecvError;
    let mut errors = client.error_rx();
    loop {
        match errors.recv().await {
            Ok((error, _)) => tracing::warn!(%error, "the connection to Redis broke"),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
        there.store(false, Ordering::Relaxed);
        while !matches!(tokio::time::timeout(patience, client.ping::<()>(None)).await, Ok(Ok(()))) {
            tokio::time::sleep(AGAIN).await;
        }
        there.store(true, Ordering::Relaxed);
        tracing::info!("Redis is there again");
        // What was said meanwhile is of the past.
        errors = errors.resubscribe();
    }
}
