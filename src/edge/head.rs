//! Two time limits for what hyper has one for: how long a kept HTTP/1.1 connection may be idle, and
//! how long a request's head may take once its first byte has come.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use tokio::sync::Notify;
use tokio::time::Instant;

/// One connection's: the socket says when bytes come, and hyper waits by it for each head.
#[derive(Debug, Clone)]
pub(super) struct HeadClock {
    shared: Arc<Shared>,
    header_timeout: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    wait: Mutex<Wait>,
    /// hyper waits anew.
    again: Notify,
}

/// For a head.
#[derive(Debug, Default)]
struct Wait {
    /// When hyper began to, unless it is busy with a request.
    since: Option<Instant>,
    /// When the first bytes came since then. Those that came with the request before don't count until
    /// more do.
    began: Option<Instant>,
}

impl HeadClock {
    pub(super) fn new(header_timeout: Duration) -> Self {
        Self { shared: Arc::default(), header_timeout }
    }

    pub(super) fn heard(&self) {
        self.wait().began.get_or_insert_with(Instant::now);
    }

    pub(super) fn is_in_head(&self) -> bool {
        self.wait().began.is_some()
    }

    /// Returns once no request has run or begun for so long.
    pub(super) async fn idle(&self, least: Duration) {
        loop {
            match self.idle_since() {
                Some(since) if since.elapsed() >= least => return,
                Some(since) => tokio::time::sleep_until(since + least).await,
                None => self.shared.again.notified().await,
            }
        }
    }

    fn idle_since(&self) -> Option<Instant> {
        let wait = self.wait();
        wait.since.filter(|_| wait.began.is_none())
    }

    fn wait(&self) -> MutexGuard<'_, Wait> {
        self.shared.wait.lock().expect("no panic while holding it")
    }
}

/// hyper asks for a new one at the beginning of each wait for a head; its time limit is the idle one.
impl Timer for HeadClock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        *self.wait() = Wait { since: Some(Instant::now()), began: None };
        self.shared.again.notify_one();
        let sleep = Box::pin(tokio::time::sleep_until(deadline.into()));
        Box::pin(HeadSleep { clock: self.clone(), sleep, in_head: false })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

struct HeadSleep {
    clock: HeadClock,
    sleep: Pin<Box<tokio::time::Sleep>>,
    in_head: bool,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let began = self.clock.wait().began;
        if let Some(began) = began.filter(|_| !self.in_head) {
            self.in_head = true;
            let deadline = began + self.clock.header_timeout;
            self.sleep.as_mut().reset(deadline);
        }
        self.sleep.as_mut().poll(context)
    }
}

impl Drop for HeadSleep {
    fn drop(&mut self) {
        self.clock.wait().since = None;
    }
}

impl Sleep for HeadSleep {}
