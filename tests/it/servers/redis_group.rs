//! Several Redis servers that belong together: a cluster, and a primary whose replica three Sentinels
//! put in its place.

use std::net::TcpListener;
use std::time::Duration;

use super::redis::ask;
use super::{Folder, Server};
use crate::peers::free_port;

/// A server keeps what a restart would need in its folder, and nothing of its data.
fn server(folder: &Folder, port: u16, more: &str) -> Server {
    let fixed =
        format!("--port {port} --bind 127.0.0.1 --dir {} --appendonly no {more}", folder.path().display());
    let mut arguments: Vec<_> = fixed.split_whitespace().map(str::to_owned).collect();
    arguments.extend(["--save".to_owned(), String::new()]);
    Server::start("redis-server", &arguments, port)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}");
}

/// Three primaries without replicas.
pub(crate) struct RedisCluster {
    servers: Vec<Option<Server>>,
    ports: Vec<u16>,
    _folder: Folder,
}

impl RedisCluster {
    pub(crate) fn start() -> Self {
        let folder = Folder::new();
        let ports: Vec<_> = (0..3).map(|_| cluster_port()).collect();
        let start = |&port: &u16| {
            let own = format!(
                "--cluster-enabled yes --cluster-config-file nodes-{port}.conf --cluster-node-timeout 1000 \
                 --cluster-require-full-coverage no"
            );
            Some(server(&folder, port, &own))
        };
        let servers = ports.iter().map(start).collect();
        let addresses: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.push("--cluster-yes");
        let created = ask(ports[0], &create);
        assert!(created.contains("All 16384 slots covered"), "{created}");
        let joined = |port: &u16| ask(*port, &["cluster", "info"]).contains("cluster_state:ok");
        until("the cluster is whole", || ports.iter().all(joined));
        Self { servers, ports, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        let [first, second, third] = self.ports[..] else { panic!("{:?}", self.ports) };
        format!("redis-cluster://127.0.0.1:{first}?node=127.0.0.1:{second}&node=127.0.0.1:{third}")
    }

    /// Which of them has the key.
    pub(crate) fn of(&self, key: &str) -> usize {
        let slot: u64 = ask(self.ports[0], &["cluster", "keyslot", key]).trim().parse().unwrap();
        let mut ranges: Vec<(u64, usize)> = Vec::new();
        for line in ask(self.ports[0], &["cluster", "nodes"]).lines() {
            let words: Vec<_> = line.split(' ').collect();
            let index = self.ports.iter().position(|port| words[1].contains(&format!(":{port}@"))).unwrap();
            ranges.push((words.last().unwrap().split('-').next().unwrap().parse().unwrap(), index));
        }
        ranges.sort_unstable();
        ranges.iter().rev().find(|(from, _)| *from <= slot).unwrap().1
    }

    pub(crate) fn freeze(&self, index: usize) {
        self.servers[index].as_ref().unwrap().signal("-STOP");
    }

    pub(crate) fn thaw(&self, index: usize) {
        self.servers[index].as_ref().unwrap().signal("-CONT");
    }

    /// Moves a slot with its keys, as a resharding does.
    pub(crate) fn move_slot_of(&self, key: &str) {
        let slot = ask(self.ports[0], &["cluster", "keyslot", key]).trim().to_owned();
        let (from, to) = (self.of(key), (self.of(key) + 1) % self.ports.len());
        let id = |index: usize| ask(self.ports[index], &["cluster", "myid"]).trim().to_owned();
        let (source, target) = (id(from), id(to));
        let (from, to) = (self.ports[from], self.ports[to]);
        ask(to, &["cluster", "setslot", &slot, "importing", &source]);
        ask(from, &["cluster", "setslot", &slot, "migrating", &target]);
        for key in ask(from, &["cluster", "getkeysinslot", &slot, "1000"]).lines() {
            ask(from, &["migrate", "127.0.0.1", &to.to_string(), key, "0", "1000"]);
        }
        for port in [to, from] {
            ask(port, &["cluster", "setslot", &slot, "node", &target]);
        }
    }
}

/// Ephemeral ports are too high: the nodes talk to each other ten thousand above.
fn cluster_port() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..1000)
        .map(|_| fastrand::u16(12_000..22_000))
        .find(|&port| free(port) && free(port + 10_000))
        .expect("two ports are free")
}

/// A primary and its replica, watched by three Sentinels.
pub(crate) struct Sentinels {
    servers: Vec<Option<Server>>,
    ports: Vec<u16>,
    watchers: Vec<(Server, u16)>,
    _folder: Folder,
}

impl Sentinels {
    pub(crate) fn start() -> Self {
        let folder = Folder::new();
        let ports = vec![free_port(), free_port()];
        let replica = format!("--replicaof 127.0.0.1 {} --repl-diskless-sync-delay 0", ports[0]);
        let servers = vec![
            Some(server(&folder, ports[0], "--repl-diskless-sync-delay 0")),
            Some(server(&folder, ports[1], &replica)),
        ];
        until("the replica is in step", || ask(ports[1], &["info"]).contains("master_link_status:up"));
        let watchers: Vec<_> = (0..3)
            .map(|_| {
                let port = free_port();
                let text = format!(
                    "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor hold 127.0.0.1 {} 2\n\
                     sentinel down-after-milliseconds hold 500\nsentinel failover-timeout hold 3000\n",
                    folder.path().display(),
                    ports[0]
                );
                let file = folder.write(&format!("sentinel-{port}.conf"), &text);
                let arguments = [file.display().to_string(), "--sentinel".to_owned()];
                (Server::start("redis-server", &arguments, port), port)
            })
            .collect();
        let group = Self { servers, ports, watchers, _folder: folder };
        until("the Sentinels know each other and the replica", || {
            group.watchers.iter().all(|(_, port)| {
                let known = ask(*port, &["sentinel", "master", "hold"]);
                let known: Vec<_> = known.lines().collect();
                let fact = |name: &str| known.iter().position(|line| *line == name).map(|at| known[at + 1]);
                fact("num-slaves") == Some("1") && fact("num-other-sentinels") == Some("2")
            })
        });
        group
    }

    pub(crate) fn url(&self) -> String {
        let [first, second, third] = &self.watchers[..] else { panic!("three watch") };
        format!(
            "redis-sentinel://127.0.0.1:{}?node=127.0.0.1:{}&node=127.0.0.1:{}&sentinelServiceName=hold",
            first.1, second.1, third.1
        )
    }

    /// From now on the replica hears nothing of what the primary acknowledges.
    pub(crate) fn cut_replica(&self) {
        ask(self.ports[0], &["acl", "setuser", "default", "-psync", "-sync"]);
        ask(self.ports[0], &["client", "kill", "type", "replica"]);
    }

    pub(crate) fn kill_primary(&mut self) {
        self.servers[0] = None;
    }

    /// The primary and its replica change places while both are well.
    pub(crate) fn swap(&self) {
        let said = ask(self.watchers[0].1, &["sentinel", "failover", "hold"]);
        assert_eq!(said.trim(), "OK");
    }

    pub(crate) fn freeze_primary(&self) {
        self.servers[0].as_ref().unwrap().signal("-STOP");
    }

    pub(crate) fn thaw_primary(&self) {
        self.servers[0].as_ref().unwrap().signal("-CONT");
    }

    /// Waits until the replica is the primary.
    pub(crate) fn promoted(&self) {
        until("the replica is promoted", || ask(self.ports[1], &["role"]).starts_with("master"));
    }
}
