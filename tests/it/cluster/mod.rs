//! Faults on real processes: three nodes on Redis and NATS behind HAProxy, under a load of clients that
//! keep ledgers. Afterwards nothing is lost, doubled, out of order or without an end.

mod load;
mod server;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use load::{Ledger, Load, Working};
use server::LedgerServer;

use crate::servers::Cluster;

/// Hundreds of clients fill the machine: these tests take turns.
static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const PATIENCE: Duration = Duration::from_secs(30);

fn load() -> Load {
    let clients = std::env::var("HOLDFAST_TEST_CLIENTS").ok().and_then(|text| text.parse().ok());
    Load { clients: clients.unwrap_or(300), steps: 3, pause: Duration::from_millis(1000) }
}

struct Scene {
    _turn: tokio::sync::MutexGuard<'static, ()>,
    server: LedgerServer,
    cluster: Cluster,
    working: Working,
}

impl Scene {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let turn = MACHINE.lock().await;
        let server = LedgerServer::start().await;
        let url = server.url.clone();
        let settings: Vec<_> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let cluster = tokio::task::spawn_blocking(move || {
            let settings: Vec<_> = settings.iter().map(|(key, value)| (&**key, &**value)).collect();
            Cluster::start(&url, &settings)
        });
        let cluster = cluster.await.unwrap();
        let working = Working::start(&cluster.url(), load()).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        Self { _turn: turn, server, cluster, working }
    }

    async fn finish(self) -> (Arc<Ledger>, LedgerServer) {
        let ledger = self.working.finish(PATIENCE).await;
        (ledger, self.server)
    }
}

fn report(what: &str, ledger: &Ledger, server: &LedgerServer) {
    let mut resumed = ledger.resumed.lock().unwrap().clone();
    resumed.sort();
    println!(
        "{what}: {} calls at the server, {} results, {} errors, {} events, {} unasked; {} resumes, median {:?}, worst {:?}; {} broken before an answer, refused {:?}, losses told {}",
        server.calls(),
        ledger.results.load(Ordering::Relaxed),
        ledger.errors.lock().unwrap().len(),
        ledger.events.load(Ordering::Relaxed),
        ledger.unasked.load(Ordering::Relaxed),
        resumed.len(),
        resumed.get(resumed.len() / 2).copied().unwrap_or_default(),
        resumed.last().copied().unwrap_or_default(),
        ledger.broken.lock().unwrap().len(),
        ledger.refused.lock().unwrap(),
        ledger.losses_told.load(Ordering::Relaxed),
    );
    let wrong = ledger.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{} wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    let repeated = server.repeated();
    assert!(repeated.is_empty(), "the server ran them twice: {repeated:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p5_a_node_is_killed_under_load() {
    let mut scene = Scene::start(&[]).await;
    scene.cluster.kill_node(1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (ledger, server) = scene.finish().await;
    report("kill -9", &ledger, &server);
    let errors = ledger.errors.lock().unwrap();
    assert!(errors.is_empty(), "the server can resume: every result arrives: {errors:?}");
    let worst = ledger.resumed.lock().unwrap().iter().max().copied().unwrap_or_default();
    assert!(worst < Duration::from_secs(5), "{worst:?}");
}
