//! Background work of a node, in one task: keep-alives, idle streams, sessions to prolong, sessions
//! that are over. Every piece does nothing when repeated.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::Hub;
use super::body::Held;
use super::close::spread;
use crate::domain::SessionId;
use crate::telemetry::{SessionEnd, StreamEnd};

/// How often it looks.
const ROUND: Duration = Duration::from_secs(1);

/// Sessions prolonged by one call, and ended by one.
const BATCH: usize = 500;

impl Hub {
    /// Runs until it is dropped.
    pub(super) async fn keep_house(self) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut touched = Instant::now();
        loop {
            rounds.tick().await;
            self.tend_streams();
            self.hand_over_when_alone();
            self.end_abandoned().await;
            self.end_idle_sessions().await;
            // Four times per idle life, so that one failed round does no harm.
            if touched.elapsed() >= self.inner.config.session_idle_timeout / 4 {
                touched = Instant::now();
                self.prolong_sessions().await;
            }
            self.sweep();
        }
    }

    fn tend_streams(&self) {
        let config = &self.inner.config.streams;
        let now = Instant::now();
        for (slot, held) in self.inner.outlets.all() {
            if let Some(interval) = config.keep_alive {
                held.outlet().keep_alive(now, interval);
            }
            // Not all that were opened together are ended together.
            let life = config.life_max.map(|life| life.mul_f64(0.75 + spread(slot) / 4.0));
            if let Held::Session(stream) = &held
                && life.is_some_and(|life| stream.outlet.age(now) >= life)
                && !self.answers_here(stream)
            {
                stream.end_with_retry(StreamEnd::Aged, self.retry());
            }
            if config.idle_timeout.is_some_and(|idle| held.outlet().idle_for(now) >= idle) {
                match held {
                    Held::Session(stream) => stream.end_with_retry(StreamEnd::Idle, self.retry()),
                    Held::Passing { outlet, farewell } => outlet.end_with(StreamEnd::Idle, farewell),
                }
            }
        }
    }

    async fn end_abandoned(&self) {
        for session in self.inner.graces.due(self.inner.config.sse_grace) {
            self.close_if_unbound(&session).await;
        }
    }

    async fn end_idle_sessions(&self) {
        match self.store().reap(BATCH).await {
            Ok(reaped) => {
                for closed in reaped {
                    self.closed(closed, SessionEnd::Idle).await;
                }
            }
            Err(error) => tracing::debug!(%error, "idle sessions are not ended yet"),
        }
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
    waiting: Mutex<VecDeque<(Instant, SessionId)>>,
}

impl Graces {
    pub(super) fn start(&self, session: SessionId) {
        self.waiting.lock().expect("no panic while holding it").push_back((Instant::now(), session));
    }

    fn due(&self, grace: Duration) -> Vec<SessionId> {
        let mut waiting = self.waiting.lock().expect("no panic while holding it");
        let mut due = Vec::new();
        while waiting.front().is_some_and(|(since, _)| since.elapsed() >= grace) {
            due.extend(waiting.pop_front().map(|(_, session)| session));
        }
        due
    }
}
