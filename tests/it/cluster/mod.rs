//! Faults on real processes: three nodes on Redis and NATS behind HAProxy, under a load of clients that
//! keep ledgers (CLUSTER_CLIENTS says how many). Afterwards nothing is lost, doubled, out of order
//! or without an end.

mod backends;
mod dashboards;
mod everyday;
mod failovers;
mod http_sse;
mod kubelet;
mod ledger;
mod links;
mod load;
mod pinned;
mod processes;
mod promises;
mod restarts;
mod rollouts;
mod server;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ledger::Ledger;
use load::{Load, OLD, Working};
use server::LedgerServer;

use crate::peers::MACHINE;
use crate::servers::{Cluster, NODES, Setup};

const PATIENCE: Duration = Duration::from_secs(30);

fn load() -> Load {
    #[expect(
        clippy::disallowed_methods,
        reason = "how many clients there are is up to whoever runs the test"
    )]
    let clients = std::env::var("CLUSTER_CLIENTS").ok().and_then(|text| text.parse().ok());
    Load {
        clients: clients.unwrap_or(150),
        steps: 3,
        pause: Duration::from_millis(1000),
        sessions_end: false,
        token: None,
    }
}

/// A cluster of its own, with the machine to itself.
struct Scene {
    server: LedgerServer,
    cluster: Cluster,
    _turn: tokio::sync::RwLockWriteGuard<'static, ()>,
}

/// A cluster under load.
struct Busy {
    scene: Scene,
    working: Working,
}

fn settings(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Scene {
    async fn start(server: LedgerServer, setup: Setup) -> Self {
        let turn = MACHINE.write().await;
        let url = server.url.clone();
        let mut cluster = tokio::task::spawn_blocking(move || Cluster::set_up(&url, setup)).await.unwrap();
        if std::env::var_os("CLUSTER_LOGS").is_some() {
            println!("operators: {:?}", cluster.admin_urls());
            cluster.print_logs();
        }
        Self { server, cluster, _turn: turn }
    }
}

impl Busy {
    /// Returns once the load is in full swing.
    async fn start(setup: Setup, load: Load) -> Self {
        Self::before(LedgerServer::that(true).await, setup, load).await
    }

    async fn before(server: LedgerServer, setup: Setup, load: Load) -> Self {
        let scene = Scene::start(server, setup).await;
        let working = Working::start(&scene.cluster.url(), load).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        Self { scene, working }
    }

    fn ledger(&self) -> &Ledger {
        &self.working.ledger
    }

    /// Lets it go on for a while: the results per second meanwhile, and what was refused.
    async fn for_a_while(&self, while_: Duration) -> (f64, usize) {
        let (results, refused) = (self.ledger().results(), self.ledger().refusals());
        tokio::time::sleep(while_).await;
        let rate = (self.ledger().results() - results) as f64 / while_.as_secs_f64();
        (rate, self.ledger().refusals() - refused)
    }

    async fn finish(self) -> (Arc<Ledger>, LedgerServer) {
        let ledger = self.working.finish(PATIENCE).await;
        (ledger, self.scene.server)
    }
}

fn report(what: &str, ledger: &Ledger, server: &LedgerServer) {
    let mut resumed = ledger.resumed.lock().unwrap().clone();
    resumed.sort();
    let took = ledger.took();
    println!(
        "{what}: {} calls at the server, {} results ({} in JSON), {} errors, calls took {:.1?} (median) to {:.1?}, silence up to {:.1?}, {} events, {} unasked; {} resumes, median {:?}, worst {:?}; {} broken before an answer, {} GETs unanswered, refused {:?}, losses told {}, sessions gone {}",
        server.calls(),
        ledger.results.load(Ordering::Relaxed),
        ledger.in_json.load(Ordering::Relaxed),
        ledger.errors.lock().unwrap().len(),
        took.get(took.len() / 2).copied().unwrap_or_default(),
        took.last().copied().unwrap_or_default(),
        ledger.silence(),
        ledger.events.load(Ordering::Relaxed),
        ledger.unasked.load(Ordering::Relaxed),
        resumed.len(),
        resumed.get(resumed.len() / 2).copied().unwrap_or_default(),
        resumed.last().copied().unwrap_or_default(),
        ledger.broken.lock().unwrap().len(),
        ledger.unanswered.lock().unwrap().len(),
        tally(&ledger.refused.lock().unwrap()),
        ledger.losses_told.load(Ordering::Relaxed),
        ledger.gone.load(Ordering::Relaxed),
    );
    let wrong = ledger.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{} wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    let repeated = server.repeated();
    assert!(repeated.is_empty(), "the server ran them twice: {repeated:?}");
}

/// How often each status was given.
fn tally(refused: &[u16]) -> BTreeMap<u16, usize> {
    let mut tally = BTreeMap::new();
    for status in refused {
        *tally.entry(*status).or_default() += 1;
    }
    tally
}

/// No request was without its answer, or with another than it would have had anyway.
fn assert_nothing_failed(ledger: &Ledger) {
    assert_no_errors(ledger);
    let failed = (ledger.broken.lock().unwrap(), ledger.refused.lock().unwrap());
    assert!(failed.0.is_empty() && failed.1.is_empty(), "{failed:?}");
    assert_eq!(ledger.losses_told.load(Ordering::Relaxed), 0);
}

/// Every result arrived.
fn assert_no_errors(ledger: &Ledger) {
    let errors = ledger.errors.lock().unwrap();
    assert!(errors.is_empty(), "the server can resume: every result arrives: {errors:?}");
}

/// The same where a node is lost: of what it had accepted over HTTP+SSE, and could not yet note the
/// server's position of, an error says that it may have run.
fn assert_honest_errors(ledger: &Ledger) {
    let errors = ledger.errors.lock().unwrap();
    let honest = |error: &String| error.starts_with("old") && error.contains("may have run");
    assert!(errors.iter().all(honest), "the server can resume: every result arrives: {errors:?}");
    // Calls come in waves: at worst one has just begun.
    let runs = load().clients / OLD / NODES;
    assert!(errors.len() <= runs, "no more than a node runs at a time: {errors:?}");
}
