//! Nodes in this process, upstreams that do as they are told, and a client that shows what came over
//! the wire.

mod certificates;
mod client;
mod faults;
mod hand;
mod issuer;
mod mortal;
mod raw;
mod secure;
mod socket;
mod upstream;

use std::time::Duration;

use holdfast::app::{self, Listeners};
use holdfast::config::{self, Overrides};
use holdfast::hub::Hub;
use holdfast::lifecycle::Ending;

pub(crate) use certificates::Certificates;
pub(crate) use client::{Client, POST, Reply, Stream, initialize, read, request};
pub(crate) use faults::{Faults, faulty};
pub(crate) use hand::{Hand, Written, call, step, steps};
pub(crate) use issuer::{Issuer, Signing};
pub(crate) use mortal::Mortal;
pub(crate) use raw::{Act, Request, raw_upstream, whole};
pub(crate) use secure::Secure;
pub(crate) use socket::{Heard, Socket};
pub(crate) use upstream::{Asked, Upstream, accepted, initialized, json, sse, status};

/// A node on free ports.
pub(crate) struct Gateway {
    pub url: String,
    pub admin: String,
    node: app::Gateway,
}

impl Gateway {
    /// Before one upstream, with settings as `("limits.sessions_max", "1")`.
    pub(crate) async fn start(upstream: &str, settings: &[(&'static str, &str)]) -> Self {
        let config = configured(upstream, settings);
        let shared = app::Shared::memory(&config);
        Self::start_on(&config, shared).await
    }

    /// On state that other nodes share.
    pub(crate) async fn start_on(config: &config::Config, shared: app::Shared) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners = Listeners::bind(any, any).await.unwrap();
        let url = format!("http://{}", listeners.client_address().unwrap());
        let admin = format!("http://{}", listeners.admin_address().unwrap());
        let node = app::Gateway::start(config, listeners, shared).unwrap();
        Self { url, admin, node }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url)
    }

    pub(crate) fn hub(&self) -> &Hub {
        self.node.hub()
    }

    pub(crate) async fn stop(self) -> Ending {
        self.node.stop().await
    }

    /// The sum of a metric's values, as `name` or `name{label="value",…}` whatever its other labels are.
    pub(crate) fn metric(&self, wanted: &str) -> Option<f64> {
        self.hub().measure();
        summed(&self.hub().metrics().render(), wanted)
    }
}

/// The sum of a metric's values on a page of `/metrics`; `None` if it is not there.
pub(crate) fn summed(page: &str, wanted: &str) -> Option<f64> {
    let (name, labels) = wanted.split_once('{').unwrap_or((wanted, ""));
    let labels: Vec<_> =
        labels.trim_end_matches('}').split("\",").map(|label| label.trim_end_matches('"')).collect();
    let values: Vec<f64> = page
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter(|rest| labels.iter().all(|label| label.is_empty() || rest.contains(&format!("{label}\""))))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

pub(crate) fn configured(upstream: &str, settings: &[(&'static str, &str)]) -> config::Config {
    let mut entries = vec![("servers.default.upstream", upstream.to_owned(), "test")];
    entries.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned(), "test")));
    config::load(None, std::iter::empty(), Overrides { entries }).unwrap_or_else(|faults| panic!("{faults}"))
}

/// Waits for a state, never for a while.
pub(crate) async fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    for round in 0..1000 {
        if reached() {
            return;
        }
        // What is about to be reached is seen at once.
        tokio::time::sleep(Duration::from_millis(if round < 20 { 1 } else { 10 })).await;
    }
    panic!("not reached within 10 s: {what}");
}
