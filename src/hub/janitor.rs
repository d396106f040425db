//! Background work of a node: keep-alives and idle streams in one task, sessions to prolong and sessions
//! that are over in another. Every piece does nothing when repeated.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior};

use super::Hub;
use super::body::Held;
use super::close::spread;
use crate::domain::{Fence, SessionId};
use crate::telemetry::{SessionEnd, StreamEnd};

/// How often it looks.
const ROUND: Duration = Duration::from_secs(1);

/// Sessions that are ended at the same time because their streams did not come back.
const ENDS_AT_ONCE: usize = 16;

/// Sessions prolonged by one call, and ended by one.
const BATCH: usize = 500;

impl Hub {
    /// What open streams need, until it is dropped. It waits for nothing: a slow store must not silence
    /// anybody.
    pub(super) async fn keep_streams(self) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            self.tend_streams();
            self.hand_over_when_alone();
            self.sweep();
            self.sweep_principals();
            self.inner.audit.turn();
        }
    }

    /// What the store has to be told, until it is dropped.
    pub(super) async fn keep_house(self) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut touched = Instant::now();
        loop {
            rounds.tick().await;
            self.end_abandoned().await;
            self.end_idle_sessions().await;
            self.look_for_ended().await;
            // Four times per idle life, so that one failed round does no harm.
            if touched.elapsed() >= self.inner.config.session_idle_timeout / 4 {
                touched = Instant::now();
                self.prolong_sessions().await;
            }
        }
    }

    fn tend_streams(&self) {
        let config = &self.inner.config.streams;
        let now = Instant::now();
        for (slot, held) in self.inner.outlets.all() {
            if let Some(interval) = config.keep_alive {
                held.outlet().keep_alive(now, interval);
            }
            if let Held::Session(stream) = &held
                && stream.is_overdue(now)
                && let Some(live) = self.inner.registry.known(&stream.key.session)
            {
                self.look(&live, stream, Duration::ZERO);
            }
            // Not all that were opened together are ended together.
            let life = config.life_max.map(|life| life.mul_f64(0.75 + spread(slot) / 4.0));
            if let Held::Session(stream) = &held
                && life.is_some_and(|life| stream.outlet.age(now) >= life)
                && !self.answers_here(stream)
            {
                stream.end_with_retry(StreamEnd::Aged, self.retry());
            }
            if held.outlet().is_over(now) {
                match &held {
                    Held::Session(stream) if self.answers_here(stream) => {}
                    Held::Session(stream) => stream.end_with_retry(StreamEnd::Expired, self.retry()),
                    Held::Passing { outlet, farewell } => {
                        outlet.end_with(StreamEnd::Expired, farewell.clone())
                    }
                }
            }
            if config.idle_timeout.is_some_and(|idle| held.outlet().idle_for(now) >= idle) {
                match held {
                    // An answer that its client would not come back for is waited for.
                    Held::Session(stream) if !stream.resumes() && self.awaits_answer(&stream) => {}
                    Held::Session(stream) => stream.end_with_retry(StreamEnd::Idle, self.retry()),
                    Held::Passing { farewell: None, .. } => {}
                    Held::Passing { outlet, farewell } => outlet.end_with(StreamEnd::Idle, farewell),
                }
            }
        }
    }

    async fn end_abandoned(&self) {
        let due = self.inner.graces.due(self.inner.config.sse_grace);
        let ended = futures::stream::iter(due).map(async |(session, since)| {
            if !self.close_if_abandoned(&session, since).await {
                // Another grace, and another try.
                self.inner.graces.start(session, since);
            }
        });
        ended.buffer_unordered(ENDS_AT_ONCE).collect::<()>().await;
    }

    async fn end_idle_sessions(&self) {
        let hub = self.clone();
        // What is gone from the store nobody else can end: also when this node ends meanwhile.
        let ended = self.to_its_end(async move {
            match hub.store().reap(BATCH).await {
                Ok(reaped) => {
                    for closed in reaped {
                        hub.closed(closed, SessionEnd::Idle).await;
                    }
                }
                Err(error) => tracing::debug!(%error, "idle sessions are not ended yet"),
            }
        });
        let _ = ended.await;
    }

    /// A session that was used, or has a stream here, is not idle.
    async fn prolong_sessions(&self) {
        let mut used = Vec::new();
        self.inner.registry.sweep(|live| {
            if live.take_used() {
                used.push(live.id.clone());
            }
        });
        for batch in used.chunks(BATCH) {
            match self.store().touch(batch).await {
                Ok(gone) => {
                    for id in gone {
                        if let Some(live) = self.inner.registry.known(&id) {
                            self.end_locally(&live);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "sessions could not be prolonged; the next round tries again");
                    for id in batch {
                        if let Some(live) = self.inner.registry.known(id) {
                            live.mark_used();
                        }
                    }
                }
            }
        }
    }

    fn sweep(&self) {
        let grace = self.inner.config.sse_grace;
        self.inner.registry.sweep(|live| live.stop_unheld_pump(grace));
    }
}

/// HTTP+SSE sessions whose stream ended, oldest first. Each entry stands for a stream that was open,
/// so the limit on streams and the grace bound it.
#[derive(Debug, Default)]
pub(super) struct Graces {
    waiting: Mutex<VecDeque<(Instant, SessionId, Fence)>>,
}

impl Graces {
    /// `held` is the fence under which the stream was bound.
    pub(super) fn start(&self, session: SessionId, held: Fence) {
        self.waiting.lock().expect("no panic while holding it").push_back((Instant::now(), session, held));
    }

    fn due(&self, grace: Duration) -> Vec<(SessionId, Fence)> {
        let mut waiting = self.waiting.lock().expect("no panic while holding it");
        let mut due = Vec::new();
        while waiting.front().is_some_and(|(since, ..)| since.elapsed() >= grace) {
            due.extend(waiting.pop_front().map(|(_, session, held)| (session, held)));
        }
        due
    }
}
