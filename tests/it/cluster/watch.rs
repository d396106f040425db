//! What operators would look at during an outage: memory, processes, and when the nodes are ready again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json as value;
use tokio::time::{Instant, timeout};

use crate::harness::{Client, Stream};
use crate::peers::process::memory_of;
use crate::servers::Cluster;

/// What an outage may cost a node, in bytes: requests that wait, and what their clients repeat.
const GROWTH_MAX: u64 = 64 << 20;

/// One attempt to see whether a node does all that it should.
const ATTEMPT: Duration = Duration::from_millis(700);

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

/// How long it takes until every node says that it is ready, opens sessions, and hears the others.
pub(super) async fn all_ready(cluster: &Cluster) -> Duration {
    let began = Instant::now();
    let (nodes, admins) = (cluster.node_urls(), cluster.admin_urls());
    let ready = (0..nodes.len()).map(|node| {
        let next = (node + 1) % nodes.len();
        let (node, admin, next) = (&nodes[node], &admins[node], &nodes[next]);
        async move {
            while timeout(ATTEMPT, works(node, admin, next)).await != Ok(true) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    timeout(Duration::from_secs(30), futures::future::join_all(ready)).await.expect("ready at all");
    began.elapsed()
}

/// A session that is opened on one node, and ended there, ends its stream on the next one: this takes
/// the store and the bus.
async fn works(node: &str, admin: &str, next: &str) -> bool {
    if Client::new(admin).try_ask("/readyz").await != Some(200) {
        return false;
    }
    let mut client = Client::new(node);
    if !client.try_initialize("2025-11-25").await {
        return false;
    }
    let mut elsewhere = client.clone();
    elsewhere.base = next.to_owned();
    let Ok(response) = elsewhere.try_get(None).await else { return false };
    if response.status() != 200 {
        return false;
    }
    let mut stream = Stream::new(response);
    stream.primed().await;
    if client.delete().await.status != 204 {
        return false;
    }
    while stream.any().await.is_some() {}
    let ping = value!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    elsewhere.try_post(&ping).await.is_ok_and(|response| response.status() == 404)
}
