//! What an operator looks at: every query of every dashboard against a Prometheus that scrapes three nodes under load, and
//! five faults that have to be on the overview, and alert, within the time that docs/operating.md states.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::everyday::{Clients, Slow};
use super::settings;
use crate::harness::Client;
use crate::peers::MACHINE;
use crate::servers::{Cluster, FASTER, Prometheus, Setup};

const CLIENTS: usize = 12;

/// What is empty as long as all is well.
const EMPTY: [&str; 1] = ["overview: Alerts"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Three nodes under everyday load, and a Prometheus.
struct Watched {
    cluster: Cluster,
    server: Slow,
    prometheus: Client,
    _running: (Prometheus, Clients),
    _turn: tokio::sync::RwLockWriteGuard<'static, ()>,
}

impl Watched {
    async fn start() -> Self {
        let turn = MACHINE.write().await;
        let server = Slow::start().await;
        let url = server.url.clone();
        // A slow reader is one sooner.
        let own = settings(&[("streams.buffer_events_max", "16")]);
        let alerts = fs::read_to_string(root().join("deploy/prometheus/alerts.yaml")).unwrap();
        let started = tokio::task::spawn_blocking(move || {
            let cluster = Cluster::set_up(&url, Setup { settings: own, ..Setup::default() });
            let prometheus = Prometheus::scraping(&cluster.admin_urls(), &alerts);
            (cluster, prometheus)
        });
        let (cluster, prometheus) = started.await.unwrap();
        let clients = Clients::everyday(CLIENTS, &cluster.url());
        let asked = Client::new(&prometheus.url());
        while asked.try_ask("/-/ready").await != Some(200) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self { cluster, server, prometheus: asked, _running: (prometheus, clients), _turn: turn }
    }

    /// What its API says.
    async fn get(&self, path: &str) -> Result<Value, String> {
        let reply = self.prometheus.ask("GET", &format!("/api/v1/{path}"), &[], "").await;
        if reply.status == 200 { Ok(reply.json()["data"].clone()) } else { Err(reply.text) }
    }

    /// The series that a query finds now: their labels, and values that are numbers.
    async fn query(&self, text: &str) -> Result<Vec<(Value, f64)>, String> {
        let found = self.get(&format!("query?query={}", encoded(text))).await?;
        let value = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
        let series = found["result"].as_array().cloned().unwrap_or_default();
        let numbers = series.iter().filter_map(|one| Some((one["metric"].clone(), value(one)?)));
        Ok(numbers.filter(|(_, value)| value.is_finite()).collect())
    }

    async fn firing(&self) -> BTreeSet<String> {
        let alerts = self.get("alerts").await.unwrap();
        let alerts = alerts["alerts"].as_array().unwrap().iter().filter(|one| one["state"] == "firing");
        alerts.map(|one| one["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    /// The highest value of a panel of the overview.
    async fn overview(&self, title: &str) -> f64 {
        let board = boards().into_iter().find(|(name, _)| name == "overview").unwrap().1;
        let mut highest = f64::MIN;
        for text in queries(panels(&board).find(|panel| panel["title"] == title).unwrap()) {
            let values = self.query(&text).await.unwrap();
            highest = values.iter().map(|(_, value)| *value).fold(highest, f64::max);
        }
        highest
    }
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(byte).collect()
}

/// Each dashboard, by its file's name.
fn boards() -> Vec<(String, Value)> {
    let files = fs::read_dir(root().join("deploy/grafana")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
        })
        .collect()
}

fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// A panel's queries as Grafana asks them with everything chosen.
fn queries(panel: &Value) -> Vec<String> {
    let targets = panel["targets"].as_array().unwrap().iter();
    targets.map(|target| chosen(target["expr"].as_str().unwrap())).collect()
}

fn chosen(query: &str) -> String {
    let all = |query: String, name: &str| query.replace(name, ".*");
    let query = query.replace("$__rate_interval", "8s");
    ["$namespace", "$job", "$node", "$server"].into_iter().fold(query, all)
}

/// What a variable is chosen from: a query for the values of a label.
fn values_of(variable: &Value) -> Option<String> {
    let asked = variable["definition"].as_str()?.strip_prefix("label_values(")?.strip_suffix(")")?;
    let (metric, label) = asked.rsplit_once(", ").unwrap();
    Some(chosen(&format!("group by ({label}) ({metric}{})", if metric.contains('{') { "" } else { "{}" })))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_every_dashboard_returns_data() {
    let watched = Watched::start().await;
    let mut asked = Vec::new();
    for (name, board) in boards() {
        for panel in panels(&board) {
            let title = format!("{name}: {}", panel["title"].as_str().unwrap());
            asked.extend(queries(panel).into_iter().map(|query| (title.clone(), query)));
        }
        for variable in board["templating"]["list"].as_array().unwrap() {
            asked.extend(values_of(variable).map(|query| (format!("{name}: ${}", variable["name"]), query)));
        }
        for mark in board["annotations"]["list"].as_array().unwrap() {
            let query = chosen(mark["expr"].as_str().unwrap());
            // Moments, of which there is none yet.
            watched.query(&query).await.unwrap();
        }
    }
    println!("{} queries", asked.len());
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut without = Vec::new();
        for (title, query) in &asked {
            let found =
                watched.query(query).await.unwrap_or_else(|error| panic!("{title}: {query}: {error}"));
            if found.is_empty() && !EMPTY.contains(&&**title) {
                without.push(format!("{title}: {query}"));
            }
        }
        if without.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "without data:\n{}", without.join("\n"));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let groups = watched.get("rules").await.unwrap();
    let rules =
        groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

/// What the panels have shown for a while, for pictures of them, if somebody asks for it.
async fn keep(watched: &Watched, while_: Duration) {
    #[expect(clippy::disallowed_methods, reason = "only whoever draws the pictures wants them")]
    let Ok(folder) = std::env::var("DASHBOARD_DATA") else { return };
    for (name, board) in boards() {
        for panel in panels(&board) {
            let targets =
                panel["targets"].as_array().unwrap().iter().map(|target| target["legendFormat"].clone());
            let mut series = Vec::new();
            for (legend, query) in targets.zip(queries(panel)) {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
                let (end, while_) = (now.as_secs(), while_.as_secs());
                let (start, step) = (end - while_, while_.div_ceil(120));
                let range = format!("query={}&start={start}&end={end}&step={step}", encoded(&query));
                let found = watched.get(&format!("query_range?{range}")).await.unwrap();
                series.push(serde_json::json!({ "legend": legend, "result": found["result"] }));
            }
            let file = format!("{name}-{}.json", panel["id"]);
            let text = serde_json::json!({ "title": panel["title"], "series": series }).to_string();
            fs::write(Path::new(&folder).join(file), text).unwrap();
        }
    }
}

/// A fault, and where it is to be seen.
struct Fault {
    alert: &'static str,
    panel: &'static str,
    /// That panel shows at least so much.
    least: f64,
    /// What takes as long in a replay as in earnest.
    real: Duration,
}

/// The time that docs/operating.md states.
fn stated(alert: &str) -> Duration {
    let manual = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let row = manual.lines().find(|line| line.starts_with(&format!("| [{alert}]"))).unwrap();
    let words = row.split('|').nth(3).unwrap().replace("min", "m").replace(' ', "");
    humantime::parse_duration(&words).unwrap()
}

impl Watched {
    /// The alert fires in time, and the panel shows why.
    async fn shows(&self, fault: &Fault, began: Instant) {
        let Fault { alert, panel, least, real } = fault;
        let within = stated(alert) / FASTER + *real + Duration::from_secs(2);
        let mut seen = None;
        loop {
            if seen.is_none() && self.overview(panel).await >= *least {
                seen = Some(began.elapsed());
            }
            let fires = self.firing().await.contains(*alert);
            if let (true, Some(seen)) = (fires, seen) {
                let after = began.elapsed();
                println!(
                    "{alert}: on the overview after {seen:.1?}, alert after {after:.1?} of {within:.1?}"
                );
                return;
            }
            let shown = self.overview(panel).await;
            assert!(began.elapsed() < within, "{alert} fires: {fires}; {panel} shows {shown}, seen {seen:?}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn rests(&self, alert: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.firing().await.contains(alert) {
            assert!(Instant::now() < until, "{alert} does not rest");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_faults_are_on_the_overview_and_alert_in_time() {
    let mut watched = Watched::start().await;
    let started = Instant::now();
    tokio::time::sleep(Duration::from_secs(25)).await;
    let (base, node) = (watched.cluster.url(), watched.cluster.node_urls()[0].clone());
    let fault = |alert, panel, least, real| Fault { alert, panel, least, real: Duration::from_secs(real) };
    let calm = watched.firing().await;
    assert!(calm.is_empty(), "{calm:?} fires, and nothing is wrong");

    let flood = fault("HoldfastSessionFlood", "Sessions opened and ended", 10.0, 0);
    let began = Instant::now();
    let crowd = Clients::flood(&base);
    watched.shows(&flood, began).await;
    drop(crowd);

    // Such a stream is counted when its client has taken what is queued, or leaves: after 10 s.
    let lagging = fault("HoldfastStreamsLagging", "Streams ended early", 0.05, 10);
    let began = Instant::now();
    let crowd = Clients::that_do_not_read(4, &node);
    watched.shows(&lagging, began).await;
    drop(crowd);

    // The first slow answer has to come.
    let slow = fault("HoldfastUpstreamSlow", "Servers' first word", 5.0, 6);
    let began = Instant::now();
    watched.server.waits(Duration::from_secs(6));
    watched.shows(&slow, began).await;
    watched.server.waits(Duration::from_millis(20));

    // A step has to be given up: `redis.timeout`.
    let away = fault("HoldfastRedisAway", "Redis and NATS failing", 0.5, 2);
    let began = Instant::now();
    watched.cluster.redis().freeze();
    watched.shows(&away, began).await;
    watched.cluster.redis().thaw();
    watched.rests(away.alert).await;

    let dead = fault("HoldfastNodeDown", "Nodes missing", 1.0, 0);
    let began = Instant::now();
    watched.cluster.kill_node(1);
    watched.shows(&dead, began).await;
    // Its lease has to run out: `cluster.lease`, and a second.
    watched.shows(&fault("HoldfastNodeDied", "Nodes missing", 1.0, 3), began).await;
    keep(&watched, started.elapsed()).await;
}
