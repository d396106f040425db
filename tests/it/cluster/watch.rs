//! What operators would look at during an outage: memory, processes, and when the nodes are ready again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use serde_json::json as value;
use tokio::time::{Instant, timeout};

use crate::harness::{Client, Stream};
use crate::peers::process::memory_of;
use crate::servers::Cluster;

/// What an outage may cost a node, in bytes: requests that wait, and what their clients repeat.
const GROWTH_MAX: u64 = 64 << 20;

/// One attempt to see whether a node does all that it should, and how often there is another.
const ATTEMPT: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(200);

/// The resident memory of each node, looked at again and again.
pub(super) struct Memory {
    processes: Vec<u32>,
    before: Vec<u64>,
    peaks: Arc<Mutex<Vec<u64>>>,
    looking: tokio::task::JoinHandle<()>,
}

impl Memory {
    pub(super) fn watch(cluster: &Cluster) -> Self {
        let processes = cluster.process_ids();
        let before = sizes(&processes);
        let peaks = Arc::new(Mutex::new(before.clone()));
        let (seen, looked_at) = (peaks.clone(), processes.clone());
        #[expect(clippy::disallowed_methods, reason = "it ends with the watch")]
        let looking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                for (peak, size) in seen.lock().unwrap().iter_mut().zip(sizes(&looked_at)) {
                    *peak = size.max(*peak);
                }
            }
        });
        Self { processes, before, peaks, looking }
    }

    /// No node grew beyond the bound, and none was replaced.
    pub(super) fn check(self, what: &str, cluster: &Cluster) {
        self.looking.abort();
        let peaks = self.peaks.lock().unwrap().clone();
        let grown: Vec<_> = peaks.iter().zip(&self.before).map(|(peak, before)| peak - before).collect();
        let shown = |sizes: &[u64]| sizes.iter().map(|size| size >> 20).collect::<Vec<_>>();
        println!("{what}: MiB before {:?}, at most {:?}", shown(&self.before), shown(&peaks));
        assert!(grown.iter().all(|grown| *grown < GROWTH_MAX), "{grown:?} bytes more than before");
        assert_eq!(cluster.process_ids(), self.processes, "no node was started anew");
        assert_eq!(sizes(&self.processes).len(), self.processes.len(), "every node runs");
    }
}

fn sizes(processes: &[u32]) -> Vec<u64> {
    processes.iter().filter_map(|process| memory_of(*process)).collect()
}

/// How long it took every node.
#[derive(Debug)]
pub(super) struct Ready {
    /// To say that it is ready, and to open a session.
    pub opens: Duration,
    /// To be heard by the next node: a session that ends on one ends its stream on the other.
    pub heard: Duration,
}

pub(super) async fn all_ready(cluster: &Cluster) -> Ready {
    let began = Instant::now();
    let (nodes, admins) = (cluster.node_urls(), cluster.admin_urls());
    let ready = (0..nodes.len()).map(|node| {
        let (node, admin, next) = (&nodes[node], &admins[node], &nodes[(node + 1) % nodes.len()]);
        async move {
            let client = soonest(|| opens(node, admin)).await;
            let opens = began.elapsed();
            // The first one may have met a bus that was not there yet.
            let first = std::sync::Mutex::new(Some(client));
            soonest(|| {
                let first = first.lock().unwrap().take();
                async move {
                    let client = match first {
                        Some(client) => client,
                        None => opens_one(node).await?,
                    };
                    is_heard(client, next).await
                }
            })
            .await;
            Ready { opens, heard: began.elapsed() }
        }
    });
    let ready =
        timeout(Duration::from_secs(30), futures::future::join_all(ready)).await.expect("ready at all");
    Ready {
        opens: ready.iter().map(|node| node.opens).max().unwrap(),
        heard: ready.iter().map(|node| node.heard).max().unwrap(),
    }
}

/// The first of several attempts that works: what one waits for in vain, a later one may get at once.
async fn soonest<T, F: Future<Output = Option<T>>>(attempt: impl Fn() -> F) -> T {
    let mut attempts = FuturesUnordered::new();
    loop {
        attempts.push(timeout(ATTEMPT, attempt()));
        let one_works = async {
            while let Some(tried) = attempts.next().await {
                if let Ok(Some(works)) = tried {
                    return works;
                }
            }
            std::future::pending().await
        };
        if let Ok(works) = timeout(AGAIN, one_works).await {
            return works;
        }
    }
}

async fn opens(node: &str, admin: &str) -> Option<Client> {
    let ready = Client::new(admin).try_ask("/readyz").await == Some(200);
    if ready { opens_one(node).await } else { None }
}

async fn opens_one(node: &str) -> Option<Client> {
    let mut client = Client::new(node);
    client.try_initialize("2025-11-25").await.then_some(client)
}

async fn is_heard(client: Client, next: &str) -> Option<()> {
    let mut elsewhere = client.clone();
    elsewhere.base = next.to_owned();
    let response = elsewhere.try_get(None).await.ok().filter(|response| response.status() == 200)?;
    let mut stream = Stream::new(response);
    stream.primed().await;
    if client.delete().await.status != 204 {
        return None;
    }
    while stream.any().await.is_some() {}
    let ping = value!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    elsewhere.try_post(&ping).await.ok().filter(|response| response.status() == 404).map(|_| ())
}
