//! The upstream's own stream of a session (its GET): whoever holds the client's stream reads it, and
//! what it says is logged and delivered like everything else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::live::Live;
use super::server::Server;
use super::{Error, Hub};
use crate::domain::{Fence, Payload, StreamId, StreamKey, StreamKind, UpstreamHandle};
use crate::ports::{Append, Appended, Envelope, Producer, Reader};
use crate::upstream;

/// A stream that lasted this long was a good one: back-off starts anew.
const GOOD_AFTER: Duration = Duration::from_secs(10);

impl Hub {
    /// The same wherever the session's HTTP+SSE stream is held. If that node does not hear of it, it
    /// finds out when it looks after its streams.
    pub(super) async fn pump_at_holder(&self, server: &Arc<Server>, live: &Arc<Live>) {
        if live.holder(&StreamId::http_sse()).is_some() {
            if let Some(handle) = live.upstream() {
                self.start_pump(server, live, &handle, &StreamId::http_sse(), None);
            }
        } else {
            let _ = self.inner.mail.announce(Envelope::Initialized { session: live.id.clone() }).await;
        }
    }

    /// Starts the pumps that the session's streams here should have and don't.
    pub(super) async fn ensure_pump(&self, live: &Arc<Live>, held: &StreamId, from: Option<String>) {
        if held.kind() == StreamKind::Post || live.is_pumped() {
            return;
        }
        // What is cached may be older than the session's `initialize`.
        if live.upstream().is_none() && self.load(&live.id).await.is_err() {
            return;
        }
        let server = self.inner.servers.get(Some(live.session().server.as_str()));
        if let (Some(server), Some(handle)) = (server, live.upstream()) {
            self.start_pump(&server, live, &handle, held, from);
        }
    }

    /// Reads the upstream's stream for a session whose client listens, unless it is read already: `from`
    /// where attach says that the log ends.
    pub(super) fn start_pump(
        &self,
        server: &Arc<Server>,
        live: &Arc<Live>,
        handle: &UpstreamHandle,
        to: &StreamId,
        from: Option<String>,
    ) {
        // An upstream without sessions can't tell whose stream that would be.
        if handle.session.is_none() || to.kind() == StreamKind::Post {
            return;
        }
        let Some(pumping) = live.start_pump(to, handle.generation) else { return };
        let reached = from.as_deref().and_then(Reached::from_text);
        if from.is_some() && reached.is_none() {
            tracing::warn!(session = ?live.id, "another version kept where the upstream's own stream was read to; messages may be missing");
        }
        let (hub, server, live, to) = (self.clone(), server.clone(), live.clone(), to.clone());
        self.inner.tasks.spawn_until_stopped(async move {
            let pump = Pump {
                hub,
                server,
                live,
                to,
                producer: Producer { id: fastrand::u64(..), sequence: 0 },
                reached,
                logged: from,
                fence: pumping.fence,
            };
            // Dropping it at any await loses at most what it had not appended: the upstream's log has it.
            let stop = pumping.stop.clone();
            stop.run_until_cancelled(pump.run()).await;
            drop(pumping);
        });
    }
}

struct Pump {
    hub: Hub,
    server: Arc<Server>,
    live: Arc<Live>,
    to: StreamId,
    producer: Producer,
    /// Where the upstream's stream can be resumed.
    reached: Option<Reached>,
    /// What the log says of where it was read to.
    logged: Option<String>,
    /// The newest binding here under which it has read.
    fence: Fence,
}

/// How far an upstream's own stream was read. It means nothing in another session of the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reached {
    generation: u64,
    event: String,
}

impl Reached {
    /// As the shared state keeps it.
    fn to_text(&self) -> String {
        format!("{}.{}", self.generation, self.event)
    }

    fn from_text(text: &str) -> Option<Self> {
        let (generation, event) = text.split_once('.')?;
        Some(Self { generation: generation.parse().ok()?, event: event.to_owned() })
    }
}

enum Broke {
    /// The upstream offers no such stream, or the session ended.
    ForGood,
    /// Another reader came further, or the stream is somebody else's by now.
    Overtaken,
    Again,
}

impl Pump {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let retry = match self.read().await {
                Ok(retry) => retry,
                Err(Broke::ForGood) => return,
                // If the stream is still held here, the log says where to go on.
                Err(Broke::Overtaken) => {
                    if let Some(stream) = self.live.holder(&self.to) {
                        self.hub.close_gap(&self.live, &stream);
                    }
                    return;
                }
                Err(Broke::Again) => None,
            };
            failures = if started.elapsed() >= GOOD_AFTER { 0 } else { failures + 1 };
            tokio::time::sleep(self.server.upstream.reconnect_delay(failures, retry)).await;
        }
    }

    /// Reads on under the last binding when the client went: somebody may come back.
    fn reader(&mut self) -> Reader {
        let held = self.live.holder(&self.to).and_then(|stream| stream.fence());
        self.fence = held.map_or(self.fence, |held| held.max(self.fence));
        Reader { fence: self.fence, after: self.logged.clone() }
    }

    /// Reads one connection's worth.
    async fn read(&mut self) -> Result<Option<Duration>, Broke> {
        let handle = self.live.upstream().ok_or(Broke::ForGood)?;
        let generation = handle.generation;
        self.live.pumps(generation);
        self.reached.take_if(|reached| reached.generation != generation);
        let position = self.reached.as_ref().map(|reached| &*reached.event);
        let upstream = self.server.reached_from(&self.live);
        let mut answers = match upstream.listen(&handle, position).await {
            Ok(Some(answers)) => answers,
            Ok(None) => return Err(Broke::ForGood),
            Err(upstream::Error::SessionGone { .. }) => {
                return match self.hub.reopen(&self.server, &upstream, &self.live, &handle).await {
                    Ok(_) => Ok(Some(Duration::ZERO)),
                    Err(Error::NoSession) => Err(Broke::ForGood),
                    Err(_) => Err(Broke::Again),
                };
            }
            Err(error) => {
                if matches!(error, upstream::Error::Refused { .. }) && self.reached.take().is_some() {
                    tracing::warn!(session = ?self.live.id, %error, "the upstream can't resume its own stream; messages may be missing");
                }
                tracing::debug!(session = ?self.live.id, %error, "the upstream's own stream can't be opened yet");
                return Err(Broke::Again);
            }
        };
        while let Ok(Some(answer)) = answers.next().await {
            let reached = answer.event.map(|event| Reached { generation, event });
            self.append(answer.message.raw().clone(), reached).await?;
        }
        let (last, retry) = answers.position();
        if let Some(last) = last {
            self.reached = Some(Reached { generation, event: last.to_owned() });
        }
        Ok(retry)
    }

    async fn append(&mut self, payload: Payload, reached: Option<Reached>) -> Result<(), Broke> {
        self.producer.sequence += 1;
        let append = Append {
            to: StreamKey { session: self.live.id.clone(), stream: self.to.clone() },
            payload,
            producer: self.producer,
            request: None,
            last: false,
            upstream_event: reached.as_ref().map(Reached::to_text),
            reader: Some(self.reader()),
        };
        let until = Instant::now() + self.hub.inner.config.own_timeout;
        match self.hub.append(&append, until).await {
            Ok(Appended::Logged { .. }) => {
                if let Some(reached) = reached {
                    (self.logged, self.reached) = (append.upstream_event, Some(reached));
                }
                Ok(())
            }
            Ok(Appended::StaleFence) => Err(Broke::Overtaken),
            Ok(Appended::Gone | Appended::Ended | Appended::Forgotten) => Err(Broke::ForGood),
            // Not logged, as far as is known: the upstream is asked for it again.
            Err(_) => Err(Broke::Again),
        }
    }
}
