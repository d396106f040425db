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
use std::time::Duration;

use servers::{Cluster, NODES, Ports, Setup};
use tokio::time::Instant;

/// Long enough to see what goes on without the node.
const PAUSE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);

/// A single node's own, for the balancer and the first node's operators, unless something has them.
fn usual_ports() -> Option<Ports> {
    let nodes = || [4445, 4455, 4465].map(|admin| (admin + 1, admin));
    let mut wanted = nodes().into_iter().flat_map(|(listen, admin)| [listen, admin]).chain([4444]);
    let free = wanted.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    free.then(|| Ports { balancer: 4444, nodes: nodes().into() })
}

fn main() {
    let upstream = std::env::args().nth(1);
    let fixture = upstream.is_none().then(|| peers::process::fixture(&[]));
    let upstream = upstream.or_else(|| fixture.as_ref().map(peers::process::Process::url)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Nobody wants to wait for a node that leaves.
    let settings =
        [("drain.notice", "2s"), ("drain.handover", "2s")].map(|(key, value)| (key.into(), value.into()));
    let setup = Setup { settings: settings.into(), ports: usual_ports(), ..Setup::default() };
    let mut cluster = Cluster::set_up(&upstream, setup);
    println!("three nodes before {upstream}\n\n  clients      {}/mcp", cluster.url());
    for (node, admin) in cluster.admin_urls().iter().enumerate() {
        println!("  operators    {admin}   (node n{node}, process {})", cluster.process(node).id());
    }
    println!("\n  holdfast nodes --admin {}", cluster.admin_urls()[0]);
    println!("\nlogs follow; a node that ends is started again after {PAUSE:?}; Ctrl-C ends it all");
    cluster.print_logs();
    runtime.block_on(async {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.unwrap(),
            () = look_after(&mut cluster) => {}
        }
    });
    println!("\nending");
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
                cluster.print_log(node);
                println!("n{node} is there again: process {}", cluster.process(node).id());
                *since = None;
            }
        }
    }
}
