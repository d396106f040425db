//! `make cluster`: Redis, NATS, three nodes and HAProxy on this machine, until Ctrl-C; what the fault
//! tests run on, for people.
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

use servers::Cluster;

fn main() {
    let upstream = std::env::args().nth(1);
    let fixture = upstream.is_none().then(|| peers::process::fixture(&[]));
    let upstream = upstream.or_else(|| fixture.as_ref().map(peers::process::Process::url)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut cluster = Cluster::start(&upstream, &[]);
    println!("three nodes before {upstream}\n\n  clients      {}/mcp", cluster.url());
    for (node, admin) in cluster.admin_urls().iter().enumerate() {
        println!("  operators    {admin}   (node n{node})");
    }
    println!("\n  holdfast nodes --admin {}\n\nlogs follow; Ctrl-C ends it all", cluster.admin_urls()[0]);
    cluster.print_logs();
    runtime.block_on(async { tokio::signal::ctrl_c().await.unwrap() });
    println!("\nending");
}
