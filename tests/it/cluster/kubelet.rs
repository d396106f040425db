//! The chart under load: what it renders is run as the kubelet and a Deployment's controller run it, with all of its times
//! (`helm/holdfast/ci/rollout-values.yaml`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::RwLockWriteGuard;

use super::ledger::Ledger;
use super::load::{Load, Working};
use super::server::LedgerServer;
use super::{PATIENCE, assert_nothing_failed, load, report};
use crate::kubernetes::{Deployment, Rendered, Service};
use crate::peers::MACHINE;
use crate::servers::{Folder, Nats, Redis};

/// Of which the Secret has the digest.
const TOKEN: &str = "HOLDFAST_AUTH_TOKENS_LOAD_SHA256";

/// The password in the other Secrets.
const PASSWORD: &str = "word";

/// What the chart's release has around it, and its pods.
struct Release {
    server: LedgerServer,
    redis: Redis,
    _nats: Nats,
    rendered: Rendered,
    service: Service,
    deployment: Deployment,
    _folder: Folder,
    _turn: RwLockWriteGuard<'static, ()>,
}

impl Release {
    /// With so many pods over time. Redis writes each step down, or nothing.
    async fn install(pods: usize, keeping: bool) -> Self {
        let turn = MACHINE.write().await;
        let server = LedgerServer::that(true).await;
        let folder = Folder::new();
        let (redis, nats, rendered) = tokio::task::block_in_place(|| {
            let data = folder.path().to_str().unwrap();
            let fsync = if keeping { "yes" } else { "no" };
            let redis =
                ["--requirepass", PASSWORD, "--dir", data, "--appendonly", fsync, "--appendfsync", "always"];
            let redis = Redis::with(&redis);
            let nats = Nats::with(&["--user", "holdfast", "--pass", PASSWORD]);
            (redis, nats, Rendered::example("rollout", pods, folder.path()))
        });
        let rendered = rendered.here(&[
            ("redis.redis:6379", &format!("127.0.0.1:{}", redis.port())),
            ("nats.messaging:4222", &format!("127.0.0.1:{}", nats.port())),
            ("http://files.mcp:3001/mcp", &server.url),
        ]);
        let service = Service::start();
        let deployment = Deployment::start(rendered.clone(), service.endpoints.clone()).await;
        Self { server, redis, _nats: nats, rendered, service, deployment, _folder: folder, _turn: turn }
    }
}

/// Clients that come all the while, one after the other: each opens a session and closes it.
#[derive(Default)]
struct Newcomers {
    served: AtomicUsize,
    failed: AtomicUsize,
}

impl Newcomers {
    async fn come(&self, base: &str, load: Load) {
        loop {
            let mut client = load.client(base);
            let served = client.try_initialize("2025-11-25").await && client.delete().await.status == 204;
            let count = if served { &self.served } else { &self.failed };
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn assert_all_streams_answered(ledger: &Ledger) {
    let unanswered = ledger.unanswered.lock().unwrap();
    assert!(unanswered.is_empty(), "{unanswered:?}");
}

/// Whoever sends new connections hears at last, a second before the chart's promise is over, that a pod ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_a_rolling_update_of_the_rendered_chart_fails_no_request() {
    let mut release = Release::install(6, false).await;
    let load = Load { token: Some(TOKEN), ..load() };
    let base = release.service.url();
    let working = Working::start(&base, load).await;
    let newcomers = Newcomers::default();
    tokio::time::sleep(Duration::from_secs(5)).await;

    let late = release.rendered.endpoints() - Duration::from_secs(1);
    let heard = [Duration::from_secs(1), Duration::from_secs(3), late];
    assert!(late > release.rendered.pre_stop(), "the hook alone would do");
    let began = tokio::time::Instant::now();
    let ended = tokio::select! {
        ended = release.deployment.roll_out(&heard) => ended,
        () = newcomers.come(&base, load) => unreachable!("they come all the while"),
    };
    println!(
        "rolled out in {:.1?}; {} newcomers meanwhile",
        began.elapsed(),
        newcomers.served.load(Ordering::Relaxed)
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ledger = working.finish(PATIENCE).await;
    for pod in &ended {
        println!("{pod}");
    }
    for pod in &release.deployment.pods {
        println!("{}: {}", pod.name, pod.asked.lock().unwrap());
    }
    report("a rolling update", &ledger, &release.server);

    assert!(release.deployment.checked().is_none());
    assert_nothing_failed(&ledger);
    assert_all_streams_answered(&ledger);
    assert_eq!(newcomers.failed.load(Ordering::Relaxed), 0);
    assert_eq!(release.service.endpoints.lost(), [""; 0], "each connection met a pod");
    assert!(release.service.endpoints.fewest() >= 3);
    assert_eq!(ended.len(), 3);
    for pod in ended {
        assert_eq!(pod.code, Some(0), "{pod}");
        assert_eq!((pod.asked.liveness.failed, pod.asked.readiness.failed), (0, 0), "{pod}");
    }
}

/// It hangs, and then it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_a_redis_outage_restarts_no_pod_of_the_rendered_chart() {
    const AWAY: Duration = Duration::from_secs(12);
    let mut release = Release::install(3, true).await;
    let load = Load { token: Some(TOKEN), clients: 60, ..load() };
    let working = Working::start(&release.service.url(), load).await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let alive = |release: &Release| -> Vec<_> {
        release.deployment.pods.iter().map(|pod| pod.asked.lock().unwrap().liveness.times).collect()
    };
    let before = alive(&release);
    release.redis.freeze();
    tokio::time::sleep(AWAY).await;
    release.redis.thaw();
    tokio::time::sleep(Duration::from_secs(3)).await;
    release.redis.kill();
    tokio::time::sleep(AWAY).await;
    let meanwhile = alive(&release);
    tokio::task::block_in_place(|| release.redis.restart());
    tokio::time::sleep(Duration::from_secs(5)).await;

    let refused = working.ledger.refusals();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let refused = working.ledger.refusals() - refused;
    let ledger = working.finish(PATIENCE).await;
    for pod in &release.deployment.pods {
        println!("{}: {}", pod.name, pod.asked.lock().unwrap());
    }
    let endpoints = release.service.endpoints.fewest();
    println!("{endpoints} endpoints at least, {refused} refused afterwards");
    report("a rendered chart without its Redis", &ledger, &release.server);

    assert!(release.deployment.checked().is_none(), "none has ended");
    assert!(before.iter().zip(&meanwhile).all(|(before, after)| after > before), "{before:?}, {meanwhile:?}");
    for pod in &release.deployment.pods {
        assert_eq!(pod.asked.lock().unwrap().liveness.failed, 0, "{}", pod.name);
    }
    assert_eq!(endpoints, 3, "all go on with what needs no store");
    assert_eq!(refused, 0, "all is well again");
}
