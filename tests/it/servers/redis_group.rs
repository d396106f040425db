//! Several Redis servers that belong together: a cluster, and a primary whose replica three Sentinels
//! put in its place.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::redis::{ask, ask_lightly, secured};
use super::{Folder, Server, Tls};
use crate::peers::free_port;

/// A server keeps what a restart would need in its folder, and nothing of its data. Replicas read what
/// their primary sends from a file: in one folder each needs its own.
fn server(folder: &Folder, port: u16, more: &str) -> Server {
    let fixed = format!(
        "--port {port} --bind 127.0.0.1 --dir {} --dbfilename {port}.rdb --appendonly no \
         --repl-diskless-sync-delay 0 {more}",
        folder.path().display()
    );
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

/// Waits until the primary's only replica says that it has all that was written.
fn in_step(primary: u16) {
    until("the replica has everything", || {
        let told = ask(primary, &["info", "replication"]);
        let written = told.lines().find_map(|line| line.trim().strip_prefix("master_repl_offset:"));
        let offset = format!("offset={},", written.expect("it is a primary"));
        told.lines().any(|line| line.contains("state=online") && line.contains(&offset))
    });
}

/// One group for all tests that run at the same time: it takes a while to start.
pub(crate) struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    pub(crate) fn get(&self, start: fn() -> T) -> Arc<T> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let started = Arc::new(start());
            *running = Arc::downgrade(&started);
            started
        })
    }
}

/// How a group is reached over TLS: operators go on without.
struct Secure {
    tls: Tls,
    ports: Vec<u16>,
}

fn url(scheme: &str, secure: bool, ports: &[u16], more: &str) -> String {
    let [first, others @ ..] = ports else { panic!("nobody is named") };
    let others: Vec<_> = others.iter().map(|port| format!("node=127.0.0.1:{port}")).collect();
    let scheme = if secure { scheme.replace("redis", "rediss") } else { scheme.to_owned() };
    format!("{scheme}://127.0.0.1:{first}?{}{more}", others.join("&"))
}

/// Three primaries, and as many replicas as are wanted of each.
pub(crate) struct RedisCluster {
    servers: Vec<Option<Server>>,
    ports: Vec<u16>,
    /// The settings of each.
    settings: Vec<String>,
    /// The one that does not answer.
    away: Option<usize>,
    secure: Option<Secure>,
    folder: Folder,
}

impl RedisCluster {
    pub(crate) fn start() -> Self {
        Self::with_replicas(0)
    }

    /// With so many of each primary.
    pub(crate) fn with_replicas(replicas: usize) -> Self {
        Self::with(replicas, None)
    }

    /// Which speaks TLS, among itself too.
    pub(crate) fn secure() -> Self {
        Self::with(0, Some(Secure { tls: Tls::new(), ports: (0..3).map(|_| free_port()).collect() }))
    }

    fn with(replicas: usize, secure: Option<Secure>) -> Self {
        let folder = Folder::new();
        let ports: Vec<_> = (0..3 + 3 * replicas).map(|_| free_port()).collect();
        let settings = |index: usize| {
            let own = format!(
                "--cluster-enabled yes --cluster-config-file nodes-{index}.conf --cluster-node-timeout 1000 \
                 --cluster-require-full-coverage no"
            );
            match &secure {
                Some(Secure { tls, ports }) => {
                    format!("{own} --tls-cluster yes {}", secured(ports[index], tls))
                }
                None => own,
            }
        };
        let settings: Vec<_> = (0..ports.len()).map(settings).collect();
        let servers =
            ports.iter().zip(&settings).map(|(&port, settings)| Some(server(&folder, port, settings)));
        let servers = servers.collect();
        let spoken = secure.as_ref().map_or(&ports, |secure| &secure.ports);
        let addresses: Vec<_> = spoken.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        let replicas = replicas.to_string();
        create.extend(["--cluster-yes", "--cluster-replicas", &replicas]);
        if let Some(secure) = &secure {
            create.extend(["--tls", "--cacert", secure.tls.root.to_str().unwrap()]);
        }
        let created = ask(spoken[0], &create);
        assert!(created.contains("All 16384 slots covered"), "{created}");
        let cluster = Self { servers, ports, settings, away: None, secure, folder };
        cluster.whole();
        for replica in &cluster.ports[3..] {
            until("every replica is in step", || {
                ask_lightly(*replica, &["info"]).contains("master_link_status:up")
            });
        }
        cluster
    }

    /// Waits until all of them think well of all.
    fn whole(&self) {
        let joined = |port: &u16| {
            let nodes = ask_lightly(*port, &["cluster", "nodes"]);
            ask_lightly(*port, &["cluster", "info"]).contains("cluster_state:ok")
                && nodes.contains("myself")
                && !nodes.contains("fail")
        };
        until("the cluster is whole", || self.ports.iter().all(joined));
    }

    /// Where one of them listens.
    pub(crate) fn port(&self, index: usize) -> u16 {
        self.ports[index]
    }

    pub(crate) fn url(&self) -> String {
        let ports = self.secure.as_ref().map_or(&self.ports, |secure| &secure.ports);
        url("redis-cluster", self.secure.is_some(), &ports[..3], "")
    }

    /// Whom to believe.
    pub(crate) fn root(&self) -> Option<PathBuf> {
        self.secure.as_ref().map(|secure| secure.tls.root.clone())
    }

    /// Which of them has the key.
    pub(crate) fn of(&self, key: &str) -> usize {
        let here = self.here();
        let slot: u64 = ask(self.ports[here[0]], &["cluster", "keyslot", key]).trim().parse().unwrap();
        let owns = |&index: &usize| {
            let nodes = ask(self.ports[index], &["cluster", "nodes"]);
            let own = nodes.lines().find(|line| line.contains("myself,master")).unwrap_or_default();
            own.split(' ').skip(8).filter(|range| !range.starts_with('[')).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                (first.parse().unwrap()..=last.parse().unwrap()).contains(&slot)
            })
        };
        here.into_iter().find(owns).or(self.away).expect("somebody has every slot")
    }

    /// Those that answer.
    fn here(&self) -> Vec<usize> {
        let runs = |index: &usize| self.servers[*index].is_some() && self.away != Some(*index);
        (0..self.ports.len()).filter(runs).collect()
    }

    /// Waits until all that answer know that a replica took over from the one that was killed last.
    pub(crate) fn promoted(&self) {
        let of_the_dead = format!(":{}@", self.ports[self.away.expect("one is dead")]);
        // Eight words on a server, and then its slots.
        let has_no_slots = |index: usize| {
            let nodes = ask_lightly(self.ports[index], &["cluster", "nodes"]);
            let dead = nodes.lines().find(|line| line.contains(&of_the_dead));
            dead.is_some_and(|line| line.split(' ').count() == 8)
        };
        until("a replica took over", || self.here().into_iter().all(has_no_slots));
    }

    /// What one of them answers to an operator.
    pub(crate) fn ask(&self, index: usize, words: &[&str]) -> String {
        ask(self.ports[index], words)
    }

    /// Waits until a primary's replica has all that was written there.
    pub(crate) fn in_step(&self, index: usize) {
        in_step(self.ports[index]);
    }

    pub(crate) fn freeze(&mut self, index: usize) {
        self.servers[index].as_ref().unwrap().signal("-STOP");
        self.away = Some(index);
    }

    /// The cluster is whole when this returns.
    pub(crate) fn thaw(&mut self, index: usize) {
        self.servers[index].as_ref().unwrap().signal("-CONT");
        self.away = None;
        self.whole();
    }

    pub(crate) fn kill(&mut self, index: usize) {
        self.servers[index] = None;
        self.away = Some(index);
    }

    /// Where it was, with its slots and without its data.
    pub(crate) fn restart(&mut self, index: usize) {
        self.servers[index] = Some(server(&self.folder, self.ports[index], &self.settings[index]));
        self.away = None;
        self.whole();
    }

    /// Moves a key's slot to the next of them, as a resharding does; `meanwhile` is called when
    /// some of its keys have moved, and again when all have.
    pub(crate) fn move_slot_of(&self, key: &str, mut meanwhile: impl FnMut()) {
        let slot = ask(self.ports[0], &["cluster", "keyslot", key]).trim().to_owned();
        let (from, to) = (self.of(key), (self.of(key) + 1) % 3);
        let id = |index: usize| ask(self.ports[index], &["cluster", "myid"]).trim().to_owned();
        let (source, target) = (id(from), id(to));
        let (from, to) = (self.ports[from], self.ports[to]);
        let done = |said: String| assert_eq!(said.trim(), "OK");
        done(ask(to, &["cluster", "setslot", &slot, "importing", &source]));
        done(ask(from, &["cluster", "setslot", &slot, "migrating", &target]));
        let keys = ask(from, &["cluster", "getkeysinslot", &slot, "1000"]);
        assert!(keys.contains(key), "{keys}");
        for (number, key) in keys.lines().enumerate() {
            if number == 1 {
                meanwhile();
            }
            done(ask(from, &["migrate", "127.0.0.1", &to.to_string(), key, "0", "1000"]));
        }
        meanwhile();
        for port in [to, from] {
            done(ask(port, &["cluster", "setslot", &slot, "node", &target]));
        }
    }
}

/// A primary and its replica, watched by three Sentinels.
pub(crate) struct Sentinels {
    servers: Vec<Option<Server>>,
    ports: Vec<u16>,
    watchers: Vec<(Server, u16)>,
    secure: Option<Secure>,
    _folder: Folder,
}

impl Sentinels {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// With settings of both servers, as on the command line.
    pub(crate) fn with(settings: &str) -> Self {
        Self::speaking(settings, None)
    }

    /// Which speak TLS, among themselves too.
    pub(crate) fn secure() -> Self {
        let ports = (0..5).map(|_| free_port()).collect();
        Self::speaking("", Some(Secure { tls: Tls::new(), ports }))
    }

    fn speaking(settings: &str, secure: Option<Secure>) -> Self {
        let folder = Folder::new();
        let ports = vec![free_port(), free_port()];
        let over_tls = |index: usize| match &secure {
            Some(Secure { tls, ports }) => {
                format!("--tls-replication yes {}", secured(ports[index], tls))
            }
            None => String::new(),
        };
        let primary = secure.as_ref().map_or(ports[0], |secure| secure.ports[0]);
        let settings = |index: usize| format!("{settings} {}", over_tls(index));
        let replica = format!("--replicaof 127.0.0.1 {primary} {}", settings(1));
        let servers =
            vec![Some(server(&folder, ports[0], &settings(0))), Some(server(&folder, ports[1], &replica))];
        until("the replica is in step", || {
            ask_lightly(ports[1], &["info"]).contains("master_link_status:up")
        });
        let watchers: Vec<_> = (2..5)
            .map(|index| {
                let port = free_port();
                let text = format!(
                    "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor hold 127.0.0.1 {primary} 2\n\
                     sentinel down-after-milliseconds hold 500\nsentinel failover-timeout hold 3000\n",
                    folder.path().display(),
                );
                let file = folder.write(&format!("sentinel-{port}.conf"), &text);
                let mut arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
                arguments.extend(over_tls(index).split_whitespace().map(str::to_owned));
                (Server::start("redis-server", &arguments, port), port)
            })
            .collect();
        let group = Self { servers, ports, watchers, secure, _folder: folder };
        until("the Sentinels know each other and the replica", || {
            group.watchers.iter().all(|(_, port)| {
                let known = ask_lightly(*port, &["sentinel", "master", "hold"]);
                let known: Vec<_> = known.lines().collect();
                let fact = |name: &str| known.iter().position(|line| *line == name).map(|at| known[at + 1]);
                fact("num-slaves") == Some("1") && fact("num-other-sentinels") == Some("2")
            })
        });
        group
    }

    /// Where one of them listens.
    pub(crate) fn port(&self) -> u16 {
        self.watchers[0].1
    }

    pub(crate) fn url(&self) -> String {
        let plain: Vec<_> = self.watchers.iter().map(|(_, port)| *port).collect();
        let ports = self.secure.as_ref().map_or(&plain[..], |secure| &secure.ports[2..]);
        url("redis-sentinel", self.secure.is_some(), ports, "&sentinelServiceName=hold")
    }

    /// Whom to believe.
    pub(crate) fn root(&self) -> Option<PathBuf> {
        self.secure.as_ref().map(|secure| secure.tls.root.clone())
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

    pub(crate) fn freeze_watcher(&self, index: usize) {
        self.watchers[index].0.signal("-STOP");
    }

    /// Waits until the replica has all that was written.
    pub(crate) fn in_step(&self) {
        in_step(self.ports[0]);
    }

    /// Waits until the replica is the primary.
    pub(crate) fn promoted(&self) {
        until("the replica is promoted", || ask_lightly(self.ports[1], &["role"]).starts_with("master"));
    }

    /// Waits until the old primary follows the new one.
    pub(crate) fn follows(&self) {
        until("the old primary follows", || ask_lightly(self.ports[0], &["role"]).starts_with("slave"));
    }
}
