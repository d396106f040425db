//! Real servers of a test's own: on free ports, nothing left on disk, killed when dropped.

mod balancer;
mod cluster;
mod link;
mod nats;
mod prometheus;
mod redis;
mod redis_group;
mod state;
mod tls;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) use balancer::{Balancer, Kind};
#[allow(unused_imports, reason = "only what people start has ports that can be foretold")]
pub(crate) use cluster::Ports;
pub(crate) use cluster::{Cluster, NODES, SIGNED, Setup};
pub(crate) use link::{Link, Way};
pub(crate) use nats::{DROPS_CONNECTIONS, KILLS_CLIENTS, NOBODY_LISTENS, Nats};
pub(crate) use prometheus::{FASTER, Prometheus};
pub(crate) use redis::{Redis, config as redis_config};
pub(crate) use redis_group::{RedisCluster, Sentinels, Shared};
pub(crate) use state::State;
pub(crate) use tls::Tls;

/// A folder for a test's files.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("holdfast-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that listens on a port.
struct Server {
    child: Child,
}

/// Whether a Ctrl-C is not for them, as whoever started them ends them when nobody needs them any more.
pub(crate) static SHIELDED: AtomicBool = AtomicBool::new(false);

impl Server {
    fn start(program: &str, arguments: &[String], port: u16) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        if SHIELDED.load(Ordering::Relaxed) {
            command.process_group(0);
        }
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; `make install` installs it"));
        let server = Self { child };
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return server;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{program} does not listen on {port}");
    }

    /// Stops it where it stands, or lets it go on.
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
