//! One pod, from its container's start to its end, as the kubelet leads it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::rendered::{Probe, Rendered, Running};
use super::service::Endpoints;
use crate::harness::Client;
use crate::peers::process::Process;

/// Until whoever sends requests hears of a pod that came, or went for want of readiness.
const HEARD: Duration = Duration::from_secs(1);

pub(crate) struct Pod {
    pub name: String,
    rendered: Rendered,
    process: Mutex<Process>,
    clients: u16,
    admin: String,
    status: watch::Sender<Status>,
    pub asked: Mutex<Asked>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Status {
    ready: Option<Instant>,
    /// And how long it takes until that is heard.
    deleted: Option<(Instant, Duration)>,
}

/// What came of its probes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked {
    pub startup: Duration,
    pub liveness: Tally,
    /// Until it was told to end.
    pub readiness: Tally,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub times: u32,
    pub failed: u32,
    slowest: Duration,
}

/// How a pod ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub name: String,
    pub code: Option<i32>,
    /// Since it was told to.
    pub after: Duration,
    pub grace: Duration,
    /// When the last one stopped sending it new connections.
    pub heard: Duration,
    pub asked: Asked,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { startup, liveness, readiness } = self;
        write!(f, "up after {startup:.1?}, alive {liveness}, ready {readiness}")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { times, failed, slowest } = self;
        write!(f, "{} of {times} times (slowest {slowest:.0?})", times - failed)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, code, after, grace, heard, asked } = self;
        write!(
            f,
            "{name}: ended with {code:?} after {after:.1?} of {grace:.0?}, new connections for {heard:.0?}; {asked}"
        )
    }
}

impl Pod {
    pub(super) fn start(rendered: &mut Rendered) -> Arc<Self> {
        let Running { name, process, clients, admin } = rendered.start_next();
        Arc::new(Self {
            name,
            rendered: rendered.clone(),
            process: Mutex::new(process),
            clients,
            admin: format!("http://127.0.0.1:{admin}"),
            status: watch::Sender::default(),
            asked: Mutex::default(),
        })
    }

    /// It ends from now on; requests go there until `heard` is over.
    pub(super) fn delete(&self, heard: Duration) {
        self.status.send_modify(|status| status.deleted = Some((Instant::now(), heard)));
    }

    /// For how long it has been ready.
    pub(super) fn ready_for(&self) -> Option<Duration> {
        self.status.borrow().ready.map(|since| since.elapsed())
    }

    /// Panics where the kubelet would restart or kill it.
    pub(super) async fn live(self: Arc<Self>, endpoints: Endpoints) -> Ended {
        self.starts().await;
        tokio::select! {
            ended = self.ends() => ended,
            () = self.stays_alive() => unreachable!("probes go on"),
            () = self.says_when_ready() => unreachable!("probes go on"),
            () = self.is_heard_of(&endpoints) => unreachable!("endpoints go on"),
        }
    }

    async fn starts(&self) {
        let (began, probe) = (Instant::now(), self.rendered.startup());
        let mut rounds = interval(probe.period());
        for _ in 0..probe.failure_threshold {
            rounds.tick().await;
            if self.answers(probe).await.0 {
                self.asked.lock().unwrap().startup = began.elapsed();
                return;
            }
        }
        panic!("{}: its container does not start", self.name);
    }

    /// All along, also while it ends, when the kubelet has stopped asking.
    async fn stays_alive(&self) {
        let probe = self.rendered.liveness();
        let mut failed = 0;
        let mut rounds = rounds(probe);
        loop {
            rounds.tick().await;
            let (alive, took) = self.answers(probe).await;
            if !alive {
                // If that is because it has ended, this goes no further.
                sleep(Duration::from_secs(1)).await;
            }
            self.asked.lock().unwrap().liveness.count(alive, took);
            failed = if alive { 0 } else { failed + 1 };
            assert!(failed < probe.failure_threshold, "{}: the kubelet restarts its container", self.name);
        }
    }

    async fn says_when_ready(&self) {
        let probe = self.rendered.readiness();
        let mut failed = 0;
        let mut rounds = rounds(probe);
        loop {
            rounds.tick().await;
            let (ready, took) = self.answers(probe).await;
            let Status { ready: since, deleted } = *self.status.borrow();
            if deleted.is_none() && (since.is_some() || ready) {
                self.asked.lock().unwrap().readiness.count(ready, took);
            }
            failed = if ready { 0 } else { failed + 1 };
            if ready && since.is_none() {
                self.status.send_modify(|status| status.ready = Some(Instant::now()));
            } else if failed >= probe.failure_threshold && since.is_some() {
                self.status.send_modify(|status| status.ready = None);
            }
        }
    }

    async fn is_heard_of(&self, endpoints: &Endpoints) {
        let mut statuses = self.status.subscribe();
        let mut known = false;
        loop {
            let Status { ready, deleted } = *statuses.borrow_and_update();
            let wanted = ready.is_some() && deleted.is_none();
            if wanted == known {
                statuses.changed().await.unwrap();
                continue;
            }
            sleep(deleted.map_or(HEARD, |(_, heard)| heard)).await;
            if wanted {
                endpoints.add(self.clients)
            } else {
                endpoints.remove(self.clients)
            }
            known = wanted;
        }
    }

    async fn ends(&self) -> Ended {
        let (deleted, heard) = loop {
            if let Some(deleted) = self.status.borrow().deleted {
                break deleted;
            }
            assert!(self.code().is_none(), "{} ended by itself", self.name);
            sleep(Duration::from_millis(50)).await;
        };
        let grace = self.rendered.grace();
        sleep_until(deleted + self.rendered.pre_stop()).await;
        self.process.lock().unwrap().signal("-TERM");
        loop {
            let after = deleted.elapsed();
            if let Some(code) = self.code() {
                let (name, asked) = (self.name.clone(), *self.asked.lock().unwrap());
                return Ended { name, code, after, grace, heard, asked };
            }
            assert!(after < grace, "{}: the kubelet kills it", self.name);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Once it has ended.
    fn code(&self) -> Option<Option<i32>> {
        self.process.lock().unwrap().ended().map(|status| status.code())
    }

    /// Whether it says yes in time, on a connection of its own; and how long that took.
    async fn answers(&self, probe: &Probe) -> (bool, Duration) {
        let (began, client) = (Instant::now(), Client::new(&self.admin));
        let status = timeout(probe.timeout(), client.try_ask(probe.path())).await.ok().flatten();
        (status.is_some_and(|status| (200..400).contains(&status)), began.elapsed())
    }
}

impl Tally {
    fn count(&mut self, success: bool, took: Duration) {
        self.times += 1;
        self.failed += u32::from(!success);
        self.slowest = self.slowest.max(took);
    }
}

fn rounds(probe: &Probe) -> tokio::time::Interval {
    let mut rounds = interval(probe.period());
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    rounds
}
