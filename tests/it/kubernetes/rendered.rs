//! An example of the chart as Helm 3 renders it, and how its pods start as processes of this machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::peers::free_port;
use crate::peers::process::{Process, built, roomy};

/// Fields that matter to how pods begin and end; one that the chart has and nobody plays is a failure.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rendered {
    /// `termination.endpointsSeconds`: the only thing that is a value and not rendered.
    endpoints_seconds: u64,
    pub(super) deployment: DeploymentSpec,
    pod: PodSpec,
    container: Container,
    processes: Vec<Started>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeploymentSpec {
    pub replicas: usize,
    pub min_ready_seconds: u64,
    strategy: Strategy,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Strategy {
    rolling_update: RollingUpdate,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RollingUpdate {
    pub max_surge: usize,
    pub max_unavailable: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    termination_grace_period_seconds: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    startup_probe: Probe,
    liveness_probe: Probe,
    readiness_probe: Probe,
    lifecycle: Lifecycle,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Probe {
    http_get: HttpGet,
    period_seconds: u64,
    timeout_seconds: u64,
    pub failure_threshold: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpGet {
    path: String,
    port: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Lifecycle {
    pre_stop: PreStop,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreStop {
    sleep: Sleep,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sleep {
    seconds: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Started {
    name: String,
    config: PathBuf,
    arguments: Vec<String>,
    environment: HashMap<String, String>,
}

/// A pod's container that was started.
pub(super) struct Running {
    pub name: String,
    pub process: Process,
    pub clients: u16,
    pub admin: u16,
}

impl Rendered {
    /// The example of this name, with so many pods that can be started, of which files are in `folder`.
    pub(crate) fn example(name: &str, pods: usize, folder: &Path) -> Self {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helm");
        let tools = built().parent().unwrap().join("tools/helm");
        assert!(
            chart.join("node_modules").is_dir() && tools.is_dir(),
            "Helm is not installed in tests/helm and {}: use `make test`",
            tools.display()
        );
        let mut command = Command::new("python3");
        command.current_dir(chart).env("PYTHONPATH", tools).args(["-B", "pods.py", name]).arg(folder);
        let rendered = command.args((0..pods).map(|pod| format!("hf-holdfast-{pod}"))).output().unwrap();
        assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
        serde_json::from_slice(&rendered.stdout).unwrap()
    }

    /// Gives each pod, in place of addresses that only its cluster has, those of this machine: nothing else of what
    /// is rendered changes. Each of them has to be there.
    pub(crate) fn here(mut self, addresses: &[(&str, &str)]) -> Self {
        for pod in &mut self.processes {
            let mut text = std::fs::read_to_string(&pod.config).unwrap();
            for (there, here) in addresses {
                let named =
                    text.contains(there) || pod.environment.values().any(|value| value.contains(there));
                assert!(named, "nothing of the pod names {there}");
                text = text.replace(there, here);
                for value in pod.environment.values_mut() {
                    *value = value.replace(there, here);
                }
            }
            std::fs::write(&pod.config, text).unwrap();
        }
        self
    }

    /// The next pod's container, as the kubelet starts it; its two ports are its own in the cluster, and free ones here.
    pub(super) fn start_next(&mut self) -> Running {
        let pod = self.processes.remove(0);
        let (clients, admin) = (free_port(), free_port());
        let mut text = std::fs::read_to_string(&pod.config).unwrap();
        for (there, here) in [("0.0.0.0:4444", clients), ("0.0.0.0:4445", admin)] {
            assert!(text.contains(there), "{text}");
            text = text.replace(there, &format!("127.0.0.1:{here}"));
        }
        std::fs::write(&pod.config, text).unwrap();
        let mut command = roomy(built().join("holdfast"));
        command.env_clear().env("PATH", "/usr/bin:/bin").envs(&pod.environment).args(&pod.arguments);
        let mut process = Process::start(&mut command);
        if std::env::var_os("CLUSTER_LOGS").is_some() {
            let name = pod.name.clone();
            process.echo(move |line| format!("{name} {line}"));
        }
        Running { name: pod.name, process, clients, admin }
    }

    pub(super) fn startup(&self) -> &Probe {
        &self.container.startup_probe
    }

    pub(super) fn liveness(&self) -> &Probe {
        &self.container.liveness_probe
    }

    pub(super) fn readiness(&self) -> &Probe {
        &self.container.readiness_probe
    }

    pub(super) fn update(&self) -> RollingUpdate {
        self.deployment.strategy.rolling_update
    }

    /// How long it may take until nobody sends new requests to a pod that ends.
    pub(crate) fn endpoints(&self) -> Duration {
        Duration::from_secs(self.endpoints_seconds)
    }

    /// Of the hook before SIGTERM.
    pub(crate) fn pre_stop(&self) -> Duration {
        Duration::from_secs(self.container.lifecycle.pre_stop.sleep.seconds)
    }

    /// From the moment that a pod is told to end to SIGKILL.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(self.pod.termination_grace_period_seconds)
    }
}

impl Probe {
    pub(super) fn period(&self) -> Duration {
        Duration::from_secs(self.period_seconds)
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// On the only port that probes go to.
    pub(super) fn path(&self) -> &str {
        assert_eq!(self.http_get.port, "admin");
        &self.http_get.path
    }
}
