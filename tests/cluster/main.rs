//! `make cluster`: Redis, NATS, three nodes and HAProxy on this machine, until Ctrl-C; what the fault
//! tests run on, for people. As Kubernetes would, it starts a node again that has ended.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "the harness is shared with the tests, and this is its smaller user"
)]

#[path = "../it/peers"]
mod peers {
    pub(crate) mod process;

    pub(crate) use process::free_port;
}

#[path = "../it/servers/mod.rs"]
mod servers;

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use servers::{Cluster, NODES, Ports, SHIELDED, Setup};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// Long enough to see what goes on without the node.
const PAUSE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);

/// For nodes that are asked to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A single node's own, for the balancer and the first node's operators, unless something has them.
fn usual_ports() -> Option<Ports> {
    let nodes = || [4445, 4455, 4465].map(|admin| (admin + 1, admin));
    let mut wanted = nodes().into_iter().flat_map(|(listen, admin)| [listen, admin]).chain([4444]);
    let free = wanted.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    free.then(|| Ports { balancer: 4444, nodes: nodes().into() })
}

fn main() {
    SHIELDED.store(true, Ordering::Relaxed);
    let upstream = std::env::args().nth(1);
    let fixture = upstream.is_none().then(|| peers::process::fixture(&[]));
    let upstream = upstream.or_else(|| fixture.as_ref().map(peers::process::Process::url)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Nobody wants to wait for a node that leaves.
    let settings = [("drain.notice", "2s"), ("drain.handover", "2s")];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let mut cluster =
        Cluster::set_up(&upstream, Setup { settings, ports: usual_ports(), ..Setup::default() });
    println!("three nodes before {upstream}\n\n  clients      {}/mcp", cluster.url());
    for (node, admin) in cluster.admin_urls().iter().enumerate() {
        println!("  operators    {admin}   (node n{node}, process {})", cluster.process(node).id());
    }
    println!("  Redis        {}\n  NATS         {}", cluster.state.url(), cluster.nats.url());
    println!("\n  holdfast nodes --admin {}", cluster.admin_urls()[0]);
    println!("\nlogs follow; a node that ends is started again after {PAUSE:?}; Ctrl-C ends it all");
    (0..NODES).for_each(|node| print_log(&mut cluster, node));
    runtime.block_on(async {
        tokio::select! {
            () = told_to_end() => {}
            () = look_after(&mut cluster) => {}
        }
    });
    println!("\nending");
    end(&mut cluster);
}

/// By Ctrl-C, by whoever started it, or because its terminal is gone.
async fn told_to_end() {
    let [mut interrupted, mut terminated, mut left] =
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(|kind| signal(kind).unwrap());
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
        _ = left.recv() => {}
    }
}

/// The nodes in order, and then what they need.
fn end(cluster: &mut Cluster) {
    for node in 0..NODES {
        if cluster.process(node).ended().is_none() {
            cluster.process(node).signal("-TERM");
        }
    }
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && (0..NODES).any(|node| cluster.process(node).ended().is_none()) {
        std::thread::sleep(LOOK);
    }
}

async fn look_after(cluster: &mut Cluster) {
    let mut since = [None; NODES];
    loop {
        tokio::time::sleep(LOOK).await;
        for (node, since) in since.iter_mut().enumerate() {
            let Some(how) = cluster.process(node).ended() else { continue };
            let ended = *since.get_or_insert_with(|| {
                println!("n{node} ended: {how}");
                Instant::now()
            });
            if ended.elapsed() > PAUSE {
                cluster.start_node(node);
                print_log(cluster, node);
                println!("n{node} is there again: process {}", cluster.process(node).id());
                *since = None;
            }
        }
    }
}

fn print_log(cluster: &mut Cluster, node: usize) {
    cluster.process(node).echo(move |line| format!("n{node} {}", readable(line)));
}

/// A line of the log in JSON, for people.
fn readable(line: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(line) else { return line.to_owned() };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let [level, message] = ["level", "message"].map(|key| fields.get(key).map(text).unwrap_or_default());
    let more = fields.iter().filter(|(key, _)| {
        !["level", "message", "timestamp", "target"].contains(&key.as_str()) && !key.starts_with("log.")
    });
    let more: String = more.map(|(key, value)| format!(" {key}={}", text(value))).collect();
    format!("{level:5} {message}{more}")
}
