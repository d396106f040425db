//! Faults on real processes: three nodes on Redis and NATS behind HAProxy, under a load of clients that
//! keep ledgers (CLUSTER_CLIENTS says how many). Afterwards nothing is lost, doubled, out of order
//! or without an end.

mod load;
mod server;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use load::{Ledger, Load, Working};
use server::LedgerServer;

use crate::peers::MACHINE;
use crate::servers::{Cluster, NODES};

const PATIENCE: Duration = Duration::from_secs(30);

fn load() -> Load {
    #[expect(
        clippy::disallowed_methods,
        reason = "how many clients there are is up to whoever runs the test"
    )]
    let clients = std::env::var("CLUSTER_CLIENTS").ok().and_then(|text| text.parse().ok());
    Load { clients: clients.unwrap_or(150), steps: 3, pause: Duration::from_millis(1000) }
}

struct Scene {
    _turn: tokio::sync::RwLockWriteGuard<'static, ()>,
    server: LedgerServer,
    cluster: Cluster,
    working: Working,
}

impl Scene {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let turn = MACHINE.write().await;
        let server = LedgerServer::start().await;
        let url = server.url.clone();
        let settings: Vec<_> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let cluster = tokio::task::spawn_blocking(move || {
            let settings: Vec<_> = settings.iter().map(|(key, value)| (&**key, &**value)).collect();
            Cluster::start(&url, &settings)
        });
        let mut cluster = cluster.await.unwrap();
        let logs = std::env::var_os("CLUSTER_LOGS").is_some();
        if logs {
            println!("operators: {:?}", cluster.admin_urls());
            cluster.print_logs();
        }
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
        "{what}: {} calls at the server, {} results ({} in JSON), {} errors, {} events, {} unasked; {} resumes, median {:?}, worst {:?}; {} broken before an answer, refused {:?}, losses told {}",
        server.calls(),
        ledger.results.load(Ordering::Relaxed),
        ledger.in_json.load(Ordering::Relaxed),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_a_rolling_restart_is_not_an_outage() {
    let drain = [("drain.notice", "3s"), ("drain.handover", "2s"), ("drain.timeout", "14s")];
    let mut scene = Scene::start(&drain).await;
    for node in 0..NODES {
        let cluster = &mut scene.cluster;
        tokio::task::block_in_place(|| {
            let code = cluster.process(node).terminate(Duration::from_secs(20));
            assert_eq!(code, Some(0), "node {node} ends in order");
            cluster.start_node(node);
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let (ledger, server) = scene.finish().await;
    report("rolling restart", &ledger, &server);
    let failed =
        (ledger.errors.lock().unwrap(), ledger.broken.lock().unwrap(), ledger.refused.lock().unwrap());
    assert!(failed.0.is_empty() && failed.1.is_empty() && failed.2.is_empty(), "{failed:?}");
    assert_eq!(ledger.losses_told.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_nats_is_away_for_a_while() {
    let mut scene = Scene::start(&[]).await;
    scene.cluster.nats.kill();
    tokio::time::sleep(Duration::from_secs(20)).await;
    scene.cluster.nats.restart();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (ledger, server) = scene.finish().await;
    report("NATS away for 20 s", &ledger, &server);
    assert!(ledger.errors.lock().unwrap().is_empty(), "{:?}", ledger.errors.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_redis_is_away_for_a_while() {
    let scene = Scene::start(&[]).await;
    scene.cluster.redis.freeze();
    tokio::time::sleep(Duration::from_secs(20)).await;
    scene.cluster.redis.thaw();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (ledger, server) = scene.finish().await;
    report("Redis away for 20 s", &ledger, &server);
    let (calls, results) = (server.calls(), ledger.results.load(Ordering::Relaxed));
    assert_eq!(calls, results, "what ran was answered");
    assert!(ledger.errors.lock().unwrap().is_empty(), "{:?}", ledger.errors.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p5_a_node_is_frozen_and_wakes_up() {
    let mut scene = Scene::start(&[]).await;
    scene.cluster.process(1).signal("-STOP");
    tokio::time::sleep(Duration::from_secs(8)).await;
    scene.cluster.process(1).signal("-CONT");
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (ledger, server) = scene.finish().await;
    report("SIGSTOP for 8 s", &ledger, &server);
    assert!(ledger.errors.lock().unwrap().is_empty(), "{:?}", ledger.errors.lock().unwrap());
}
