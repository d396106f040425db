//! The only place that spawns. Nothing is spawned and forgotten: each task is counted, can hear the
//! stop token, and is waited for at the end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How the tasks ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Clean,
    /// The deadline passed with this many tasks left; they are dropped with the runtime.
    Forced {
        left: usize,
    },
}

/// What every task passes through before it runs.
type Wrap = dyn Fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync;

/// Spawns, counts and waits. Clones share one set of tasks and one stop token.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    wrap: Option<Arc<Wrap>>,
}

impl Tasks {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every task passes through `wrap`: how a simulation freezes and kills a node.
    #[must_use]
    pub fn through(
        wrap: impl Fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { wrap: Some(Arc::new(wrap)), ..Self::default() }
    }

    /// Runs `task` until it ends by itself. It is expected to end soon after [`Self::stopped`].
    #[expect(clippy::disallowed_methods, reason = "this is the place that the lint points to")]
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(match &self.wrap {
            None => tokio::spawn(self.tracker.track_future(task)),
            Some(wrap) => tokio::spawn(self.tracker.track_future(wrap(Box::pin(task)))),
        });
    }

    /// Runs `task` until it ends or the stop token fires, whichever is first: for tasks that may be
    /// dropped at any await.
    pub fn spawn_until_stopped<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.spawn(async move {
            let _ = stop.run_until_cancelled(task).await;
        });
    }

    /// Fires once every task should end now.
    #[must_use]
    pub fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// How many tasks are running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Fires the stop token and waits for all tasks, at most for `patience`.
    pub async fn finish(&self, patience: Duration) -> Ending {
        self.stop.cancel();
        self.tracker.close();
        match tokio::time::timeout(patience, self.tracker.wait()).await {
            Ok(()) => Ending::Clean,
            Err(_) => Ending::Forced { left: self.tracker.len() },
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.running()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn finishing_waits_for_tasks_and_says_how_many_are_left() {
        let tasks = Tasks::new();
        tasks.spawn_until_stopped(std::future::pending());
        assert_eq!(tasks.running(), 1);
        assert_eq!(tasks.finish(Duration::from_secs(1)).await, Ending::Clean);

        let stuck = Tasks::new();
        stuck.spawn(std::future::pending());
        assert_eq!(stuck.finish(Duration::from_secs(1)).await, Ending::Forced { left: 1 });
    }
}
