//! How much each principal may do on this node, and all of them together: rates, and how much at once. Whom
//! a request speaks for, and what a refusal looks like, is known elsewhere.

mod bucket;
mod intake;
mod place;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

pub use intake::Intake;
pub use place::Place;

use crate::domain::{Limit, Principal, Rate};
use bucket::Bucket;
use place::{Counter, Taken};

const SHARDS: usize = 64;

/// A look at all principals takes so many calls: none holds anybody up.
const ROUNDS: usize = 8;

/// Principals that are told apart. Those who come when there are more share one account: they are limited
/// sooner, and nobody is limited less.
const PRINCIPALS_MAX: usize = 1 << 20;

/// What one principal may use, or all together; `None`: as much as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    pub requests: Option<Rate>,
    pub bytes: Option<Rate>,
    pub running_max: Option<usize>,
    pub streams_max: Option<usize>,
    pub sessions_max: Option<usize>,
}

/// The keys of `docs/configuration.md` carry similar names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Config {
    pub principal: Allowance,
    /// Its streams and sessions have limits elsewhere.
    pub total: Allowance,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit {} is reached", .limit.key())]
pub struct Exceeded {
    pub limit: Limit,
    /// After which the same fits, if nothing else comes; absent where that depends on what ends.
    pub wait: Option<Duration>,
}

/// What one principal uses, or all together.
#[derive(Debug, Default)]
struct Account {
    requests: Bucket,
    /// Until then all nodes together have nothing for it.
    refused_until_ns: AtomicU64,
    bytes: Bucket,
    running: Counter,
    streams: Counter,
    sessions: Counter,
}

impl Account {
    /// Nothing would be different with a new one.
    fn is_blank(self: &Arc<Self>, now: Duration) -> bool {
        // What is in use, or about to be, holds on to it.
        let unused = Arc::strong_count(self) == 1 && self.requests.is_full(now) && self.bytes.is_full(now);
        unused && self.refused_for(now).is_none()
    }

    fn refused_for(&self, now: Duration) -> Option<Duration> {
        let until = Duration::from_nanos(self.refused_until_ns.load(Ordering::Relaxed));
        until.checked_sub(now).filter(|wait| !wait.is_zero())
    }
}

/// The limits of one node; a cheap handle.
#[derive(Debug, Clone)]
pub struct Limits {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    since: Instant,
    total: Arc<Account>,
    crowd: Arc<Account>,
    shards: Vec<Mutex<HashMap<Principal, Arc<Account>>>>,
    /// The most that one principal of each shard used when it was swept last.
    most: Vec<[AtomicUsize; 3]>,
    hasher: RandomState,
    per_shard_max: usize,
    swept: AtomicUsize,
}

impl Limits {
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::telling_apart(PRINCIPALS_MAX, config)
    }

    fn telling_apart(principals_max: usize, config: Config) -> Self {
        let inner = Inner {
            config,
            since: Instant::now(),
            total: Arc::default(),
            crowd: Arc::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            most: (0..SHARDS).map(|_| Default::default()).collect(),
            hasher: RandomState::new(),
            per_shard_max: principals_max / SHARDS,
            swept: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// So many requests, all or none.
    ///
    /// # Errors
    /// [`Exceeded`]; then none is counted.
    pub fn requests(&self, principal: &Principal, requests: u64) -> Result<(), Exceeded> {
        let Config { principal: own, total } = &self.inner.config;
        let wait = |limit| move |wait| Exceeded { limit, wait: Some(wait) };
        let account = own.requests.map(|rate| (rate, self.account(principal)));
        let now = self.now();
        if let Some((rate, account)) = &account {
            let taken = match account.refused_for(now) {
                Some(wait) => Err(wait),
                None => account.requests.take(*rate, now, requests),
            };
            taken.map_err(wait(Limit::PrincipalRequests))?;
        }
        let Some(rate) = total.requests else { return Ok(()) };
        self.inner.total.requests.take(rate, now, requests).map_err(|left| {
            if let Some((rate, account)) = &account {
                account.requests.give_back(*rate, requests);
            }
            wait(Limit::Requests)(left)
        })
    }

    /// What one principal may ask for.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        self.inner.config.principal.requests
    }

    /// All nodes together refused what this one has counted: it is given back, and nothing more is asked for
    /// before it would fit.
    pub fn refuse(&self, principal: &Principal, requests: u64, wait: Duration) {
        let Config { principal: own, total } = &self.inner.config;
        if let Some(rate) = total.requests {
            self.inner.total.requests.give_back(rate, requests);
        }
        let Some(rate) = own.requests else { return };
        let account = self.account(principal);
        account.requests.give_back(rate, requests);
        // Less than a batch may fit sooner.
        if requests == 1 {
            let until = u64::try_from((self.now() + wait).as_nanos()).unwrap_or(u64::MAX);
            account.refused_until_ns.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// A body of which `announced` bytes are said to come; others are counted as they come.
    ///
    /// # Errors
    /// [`Exceeded`] if so many may not come now; then none is counted.
    pub fn intake(&self, principal: &Principal, announced: Option<u64>) -> Result<Intake, Exceeded> {
        let account = self.inner.config.principal.bytes.map(|rate| (rate, self.account(principal)));
        Intake::begin(self.clone(), account, announced)
    }

    /// A place for a request that runs.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn running(&self, principal: &Principal) -> Result<Place, Exceeded> {
        let Config { principal: own, total } = &self.inner.config;
        let counter: fn(&Account) -> &Counter = |account| &account.running;
        let own = self.take(principal, own.running_max, counter, Limit::PrincipalRequestsRunning)?;
        let total = total.running_max.map(|max| {
            let taken = Taken::up_to(max, self.inner.total.clone(), counter);
            taken.ok_or(Exceeded { limit: Limit::RequestsRunning, wait: None })
        });
        Ok(Place::of([own, total.transpose()?]))
    }

    /// A place for an open stream; over the limit too, up to twice as many, if it `replaces` one that is about
    /// to end.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn stream(&self, principal: &Principal, replaces: bool) -> Result<Place, Exceeded> {
        let max = self
            .inner
            .config
            .principal
            .streams_max
            .map(|max| if replaces { max.saturating_mul(2) } else { max });
        let own = self.take(principal, max, |account| &account.streams, Limit::PrincipalStreams)?;
        Ok(Place::of([own, None]))
    }

    /// A place for a session; `None` where nobody counts them.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn session(&self, principal: &Principal) -> Result<Option<Place>, Exceeded> {
        let max = self.inner.config.principal.sessions_max;
        let own = self.take(principal, max, |account| &account.sessions, Limit::PrincipalSessions)?;
        Ok(own.map(|own| Place::of([Some(own), None])))
    }

    /// Forgets principals who are as good as new, some at each call. How many are known.
    #[must_use]
    pub fn sweep(&self) -> usize {
        let now = self.now();
        let round = self.inner.swept.fetch_add(1, Ordering::Relaxed) % ROUNDS;
        let mut known = 0;
        for index in 0..SHARDS {
            let mut shard = self.shard(index);
            if index % ROUNDS == round {
                let mut most = [0; 3];
                shard.retain(|_, account| {
                    let used = [&account.running, &account.streams, &account.sessions].map(Counter::now);
                    most.iter_mut().zip(used).for_each(|(most, used)| *most = used.max(*most));
                    !account.is_blank(now)
                });
                self.inner.most[index]
                    .iter()
                    .zip(most)
                    .for_each(|(kept, most)| kept.store(most, Ordering::Relaxed));
                let room = shard.len() * 2;
                shard.shrink_to(room);
            }
            known += shard.len();
        }
        known
    }

    /// How much of the limits is in use that count what is there; of those of principals by whoever uses most, as
    /// the last sweeps found it. Those that are not set are left out.
    #[must_use]
    pub fn used(&self) -> Vec<(Limit, usize)> {
        let Config { principal, total } = &self.inner.config;
        let most = |of: usize| self.inner.most.iter().map(|most| most[of].load(Ordering::Relaxed)).max();
        let used = [
            (Limit::RequestsRunning, total.running_max, Some(self.inner.total.running.now())),
            (Limit::PrincipalRequestsRunning, principal.running_max, most(0)),
            (Limit::PrincipalStreams, principal.streams_max, most(1)),
            (Limit::PrincipalSessions, principal.sessions_max, most(2)),
        ];
        let set = used.into_iter().filter(|(_, max, _)| max.is_some());
        set.map(|(limit, _, used)| (limit, used.unwrap_or_default())).collect()
    }

    fn take(
        &self,
        principal: &Principal,
        max: Option<usize>,
        counter: fn(&Account) -> &Counter,
        limit: Limit,
    ) -> Result<Option<Taken>, Exceeded> {
        let Some(max) = max else { return Ok(None) };
        let taken = Taken::up_to(max, self.account(principal), counter);
        taken.map(Some).ok_or(Exceeded { limit, wait: None })
    }

    fn account(&self, principal: &Principal) -> Arc<Account> {
        let index = self.inner.hasher.hash_one(principal) % SHARDS as u64;
        let mut shard = self.shard(usize::try_from(index).unwrap_or_default());
        if let Some(account) = shard.get(principal) {
            return account.clone();
        }
        if shard.len() >= self.inner.per_shard_max {
            return self.inner.crowd.clone();
        }
        shard.entry(principal.clone()).or_default().clone()
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, HashMap<Principal, Arc<Account>>> {
        self.inner.shards[index].lock().expect("no panic while holding it")
    }

    fn now(&self) -> Duration {
        self.inner.since.elapsed()
    }
}

#[cfg(test)]
mod tests;
