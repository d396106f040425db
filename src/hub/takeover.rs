//! Requests whose runner is dead (P5): whoever holds their stream takes their records, reads the rest
//! of the answer where the upstream can resume it, and says so where it can't.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Hub;
use super::call::Call;
use super::exchange::{Asked, Exchange};
use super::live::Live;
use super::nodes::Health;
use super::post::Form;
use super::stream::LocalStream;
use crate::domain::{RunningRecord, StreamKey};
use crate::ports::{Steal, Stolen};
use crate::protocol::jsonrpc::Id;
use crate::telemetry::TakeoverEnd;

/// Pauses between two attempts to take a record.
const STEAL_AGAIN: Duration = Duration::from_millis(100);
const STEAL_AGAIN_MAX: Duration = Duration::from_secs(2);

impl Hub {
    /// Looks at what runs towards a stream that is held here. A runner that is merely missing is being
    /// looked for; once it is dead, every stream is read again and comes by here.
    pub(super) fn look_after(&self, live: &Arc<Live>, stream: &LocalStream, running: Vec<RunningRecord>) {
        let now_ms = self.inner.nodes.store_time(Duration::ZERO);
        let left = |record: &RunningRecord| {
            now_ms.map_or(record.time_left(), |now| {
                Duration::from_millis(record.deadline_ms.saturating_sub(now))
            })
        };
        if let Some(left) = running.iter().map(left).max() {
            stream.answer_by(Instant::now() + left);
        }
        for record in running {
            if record.runner != self.inner.node && self.inner.nodes.health(&record.runner) == Health::Dead {
                let (hub, live, stream) = (self.clone(), live.clone(), stream.key.clone());
                self.inner.tasks.spawn(async move { hub.take_over(live, stream, record).await });
            }
        }
    }

    async fn take_over(&self, live: Arc<Live>, stream: StreamKey, record: RunningRecord) {
        // A limit is no reason to let it go: it ran before. Two looks at the stream may have seen the record,
        // and a repeated steal is answered like the first: one of them takes over.
        let entered = live.enter_requests(std::slice::from_ref(&record.request), usize::MAX);
        let Some(entered) = entered.ok().and_then(|mut entered| entered.pop()) else { return };
        let steal = Steal {
            stream: stream.clone(),
            request: record.request,
            from: record.fence,
            by: self.inner.node.clone(),
        };
        let Some(taken) = self.steal(&steal).await else { return };
        self.note_taken_over(&live, &record.runner);
        // What is cached may be older than the session's `initialize`.
        if let Err(error) = self.load(&live.id).await {
            tracing::debug!(%stream, %error, "a taken over request goes by what is cached");
        }
        let server = self.inner.servers.get(Some(live.session().server.as_str()));
        let (Some(server), Ok(id)) = (server, Id::parse(taken.request.as_json())) else { return };
        let resumes = taken.upstream_event.is_some();
        tracing::warn!(%stream, request = taken.request.as_json(), from = %record.runner, resumes, "took over a dead node's request");
        self.inner.metrics.took_over(if resumes { TakeoverEnd::Resumed } else { TakeoverEnd::Error });
        let requests = vec![taken.request.clone()];
        let asked = Asked {
            calls: vec![Call::taken_over(self, &server, &live, &taken, id, entered.cancel())],
            requests,
            entered: vec![Some(entered)],
            form: Form::Json,
            batch: false,
            primes: false,
            times: server.requests.clone(),
            lifetime: taken.time_left(),
        };
        Exchange::taken_over(self, &live, asked, stream, taken.fence).run().await;
    }

    /// Asks until the store says: a steal that ran without an answer has made this node the runner, and
    /// nobody else would look for another.
    async fn steal(&self, steal: &Steal) -> Option<RunningRecord> {
        let mut pause = STEAL_AGAIN;
        loop {
            match self.store().steal(steal).await {
                Ok(Stolen::Taken(taken)) => return Some(taken),
                Ok(Stolen::Lost | Stolen::Gone) => return None,
                Err(error) => {
                    tracing::warn!(stream = %steal.stream, %error, "a dead node's request could not be taken over yet");
                    self.inner.abandon.run_until_cancelled(tokio::time::sleep(pause)).await?;
                    pause = (pause * 2).min(STEAL_AGAIN_MAX);
                }
            }
        }
    }
}
