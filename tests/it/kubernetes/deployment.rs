//! A Deployment: so many pods, and their exchange in the order of a rolling update.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::kubelet::{Ended, Pod};
use super::rendered::Rendered;
use super::service::Endpoints;

const PATIENCE: Duration = Duration::from_secs(150);

pub(crate) struct Deployment {
    rendered: Rendered,
    endpoints: Endpoints,
    pub pods: Vec<Arc<Pod>>,
    lives: JoinSet<Ended>,
}

impl Deployment {
    /// With all its pods; each of them is an endpoint when this returns.
    pub(crate) async fn start(rendered: Rendered, endpoints: Endpoints) -> Self {
        let replicas = rendered.deployment.replicas;
        let mut deployment = Self { rendered, endpoints, pods: Vec::new(), lives: JoinSet::new() };
        deployment.pods = (0..replicas).map(|_| deployment.start_pod()).collect();
        let until = Instant::now() + PATIENCE;
        while deployment.endpoints.len() < replicas {
            deployment.checked();
            assert!(Instant::now() < until, "the pods are never ready");
            sleep(Duration::from_millis(50)).await;
        }
        deployment.endpoints.fewest();
        deployment
    }

    fn start_pod(&mut self) -> Arc<Pod> {
        let pod = Pod::start(&mut self.rendered);
        self.lives.spawn(pod.clone().live(self.endpoints.clone()));
        pod
    }

    /// No pod has ended yet that was not told to, nor would the kubelet have restarted or killed one.
    pub(crate) fn checked(&mut self) -> Option<Ended> {
        self.lives.try_join_next().map(|ended| ended.expect("a pod that the kubelet is content with"))
    }

    /// New pods for all, as the Deployment's controller does it: pods that end count neither as there nor as too many.
    /// Each `heard` is how long it takes until the next of the old ones gets no new connections. Returns when the new
    /// ones are available and the old ones gone.
    pub(crate) async fn roll_out(&mut self, heard: &[Duration]) -> Vec<Ended> {
        let (replicas, update) = (self.rendered.deployment.replicas, self.rendered.update());
        let available_for = Duration::from_secs(self.rendered.deployment.min_ready_seconds);
        let available = |pod: &Arc<Pod>| pod.ready_for().is_some_and(|ready| ready >= available_for);
        let mut heard = heard.iter().cycle();
        let mut old = std::mem::take(&mut self.pods);
        let mut ended = Vec::new();
        let until = Instant::now() + PATIENCE;
        while ended.len() < replicas || !self.pods.iter().all(available) {
            while self.pods.len() < replicas && old.len() + self.pods.len() < replicas + update.max_surge {
                let pod = self.start_pod();
                self.pods.push(pod);
            }
            let there = old.iter().chain(&self.pods).filter(|pod| available(pod)).count();
            let too_many = there.saturating_sub(replicas - update.max_unavailable);
            for pod in old.drain(..too_many.min(old.len())) {
                pod.delete(*heard.next().unwrap());
            }
            ended.extend(self.checked());
            assert!(Instant::now() < until, "the rolling update never ends");
            sleep(Duration::from_millis(100)).await;
        }
        ended
    }
}
