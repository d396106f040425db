//! The servers that hold the keys, as they are known now. Who follows failovers and moved slots waits in
//! one place, and swaps the whole table; a step takes what it finds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fred::types::config::Server;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::link::{Link, Manner};
use super::topology::{PATIENCE, Sentinels, Slots};

const SLOTS: usize = 16_384;
const NOBODY: u16 = u16::MAX;

/// Between two looks at least, however often steps fail.
const BREATH: Duration = Duration::from_millis(200);

/// Between two looks at most. Sentinels are asked often, since an old primary that wakes up doesn't say
/// that it is one; a cluster's servers say themselves what is not theirs.
const SENTINELS_EVERY: Duration = Duration::from_secs(1);
const CLUSTER_EVERY: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
struct Table {
    links: Vec<Arc<Link>>,
    /// For each slot, whose it is among them.
    owners: Vec<u16>,
}

impl Table {
    fn one(link: Arc<Link>) -> Self {
        Self { links: vec![link], owners: vec![0; SLOTS] }
    }

    /// With the links that there are, and new ones to whom there is none.
    fn of(slots: &Slots, known: &[Arc<Link>], manner: &Manner) -> Self {
        let mut table = Self { links: Vec::new(), owners: vec![NOBODY; SLOTS] };
        for (first, last, server) in &slots.0 {
            let owner = table.add(server, known, manner);
            let range = usize::from(*first)..=usize::from(*last).min(SLOTS - 1);
            table.owners[range].fill(owner);
        }
        table
    }

    fn has_slots(&self, link: &Arc<Link>) -> bool {
        let at = self.links.iter().position(|known| known.server == link.server);
        at.and_then(|at| u16::try_from(at).ok()).is_some_and(|at| self.owners.contains(&at))
    }

    /// Where among the links one to this server is, from now on.
    fn add(&mut self, server: &Server, known: &[Arc<Link>], manner: &Manner) -> u16 {
        let at = self.links.iter().position(|link| link.server == *server).unwrap_or_else(|| {
            let link = known.iter().find(|link| link.server == *server).cloned();
            self.links.push(link.unwrap_or_else(|| Link::open(server.clone(), manner)));
            self.links.len() - 1
        });
        u16::try_from(at).unwrap_or(NOBODY)
    }
}

/// Who tells of changes.
#[derive(Debug)]
enum Source {
    /// It is the only one for good.
    One,
    /// The servers themselves, and those that the URL names should all of them have moved.
    Cluster(Vec<Server>),
    Sentinels(Sentinels),
}

#[derive(Debug)]
struct Shared {
    manner: Manner,
    source: Source,
    table: Mutex<Arc<Table>>,
    look: Notify,
}

/// Ends with what it holds when it is dropped.
#[derive(Debug)]
pub(super) struct Servers {
    shared: Arc<Shared>,
    follow: Option<JoinHandle<()>>,
}

impl Servers {
    pub(super) fn one(link: Arc<Link>, manner: Manner) -> Self {
        Self::new(Source::One, Table::one(link), manner)
    }

    pub(super) fn cluster(slots: &Slots, links: &[Arc<Link>], named: Vec<Server>, manner: Manner) -> Self {
        let table = Table::of(slots, links, &manner);
        Self::new(Source::Cluster(named), table, manner)
    }

    pub(super) fn behind(sentinels: Sentinels, primary: Arc<Link>, manner: Manner) -> Self {
        Self::new(Source::Sentinels(sentinels), Table::one(primary), manner)
    }

    fn new(source: Source, table: Table, manner: Manner) -> Self {
        let every = match &source {
            Source::One => None,
            Source::Cluster(_) => Some(CLUSTER_EVERY),
            Source::Sentinels(_) => Some(SENTINELS_EVERY),
        };
        let table = Mutex::new(Arc::new(table));
        let shared = Arc::new(Shared { manner, source, table, look: Notify::new() });
        #[expect(clippy::disallowed_methods, reason = "dropping the servers ends it")]
        let follow = every.map(|every| tokio::spawn(follow(shared.clone(), every)));
        Self { shared, follow }
    }

    /// What a step may take.
    pub(super) fn timeout(&self) -> Duration {
        self.shared.manner.timeout
    }

    /// Set when a server may have forgotten what it acknowledged.
    pub(super) fn shaken(&self) -> &AtomicBool {
        &self.shared.manner.shaken
    }

    /// Whose the slot is, if anybody's.
    pub(super) fn of(&self, slot: u16) -> Option<Arc<Link>> {
        let table = self.shared.table();
        let owner = table.owners.get(usize::from(slot))?;
        table.links.get(usize::from(*owner)).cloned()
    }

    /// One that another server named.
    pub(super) fn at(&self, server: &Server) -> Arc<Link> {
        let known = self.shared.table().links.iter().find(|link| link.server == *server).cloned();
        known.unwrap_or_else(|| {
            let mut table = self.shared.table.lock().expect("no panic while holding it");
            let mut changed = Table::clone(&table);
            let at = changed.add(server, &[], &self.shared.manner);
            *table = Arc::new(changed);
            table.links[usize::from(at)].clone()
        })
    }

    /// Remembers whose a slot is now.
    pub(super) fn moved(&self, slot: u16, server: &Server) -> Arc<Link> {
        let mut table = self.shared.table.lock().expect("no panic while holding it");
        let mut changed = Table::clone(&table);
        let owner = changed.add(server, &[], &self.shared.manner);
        changed.owners[usize::from(slot)] = owner;
        *table = Arc::new(changed);
        self.shared.look.notify_one();
        table.links[usize::from(owner)].clone()
    }

    /// Something was not as the table says.
    pub(super) fn doubt(&self) {
        self.shared.look.notify_one();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Some(follow) = &self.follow {
            follow.abort();
        }
    }
}

async fn follow(shared: Arc<Shared>, every: Duration) {
    loop {
        tokio::time::sleep(BREATH).await;
        let _ = tokio::time::timeout(every, shared.look.notified()).await;
        if let Some(table) = shared.look().await {
            *shared.table.lock().expect("no panic while holding it") = Arc::new(table);
        }
    }
}

impl Shared {
    fn table(&self) -> Arc<Table> {
        self.table.lock().expect("no panic while holding it").clone()
    }

    /// What is to be used from now on, if somebody said so.
    async fn look(&self) -> Option<Table> {
        let table = self.table();
        match &self.source {
            Source::One => None,
            Source::Cluster(named) => {
                let slots = self.slots(&table, named).await?;
                let now = self.table();
                let next = Table::of(&slots, &now.links, &self.manner);
                // Its replica has taken over; a slot that moves forgets nothing.
                if now
                    .links
                    .iter()
                    .any(|link| !link.is_there() && now.has_slots(link) && !next.has_slots(link))
                {
                    self.manner.shaken.store(true, Ordering::Relaxed);
                }
                Some(next)
            }
            Source::Sentinels(sentinels) => {
                let current = table.links.first()?;
                let primary = sentinels.primary(Some(current), &self.manner).await.ok()?;
                tracing::warn!(from = %current.server, to = %primary.server, "Redis has another primary");
                self.manner.shaken.store(true, Ordering::Relaxed);
                Some(Table::one(primary))
            }
        }
    }

    /// As any server says that is there.
    async fn slots(&self, table: &Table, named: &[Server]) -> Option<Slots> {
        let mut there: Vec<_> = table.links.iter().filter(|link| link.is_there()).collect();
        fastrand::shuffle(&mut there);
        for link in there {
            if let Ok(slots) = Slots::ask(link, PATIENCE).await {
                return Some(slots);
            }
        }
        for server in named.iter().filter(|server| !table.links.iter().any(|link| link.server == **server)) {
            if let Ok(link) = Link::reach(server.clone(), &self.manner).await
                && let Ok(slots) = Slots::ask(&link, PATIENCE).await
            {
                return Some(slots);
            }
        }
        None
    }
}
