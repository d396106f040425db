//! A Redis.

use std::process::{Command, Output};

use holdfast::adapters::redis::{Config, RedisSessionStore};
use holdfast::ports::Bounds;

use super::{Folder, Server, Tls};
use crate::peers::free_port;

/// Where a store finds it, as nodes are told by default.
pub(crate) fn config(url: String) -> Config {
    let timeout = std::time::Duration::from_secs(2);
    Config { url, prefix: "hf".to_owned(), timeout, pending_max: 10_000, ca_file: None }
}

/// What a server answers to an operator.
pub(super) fn ask(port: u16, words: &[&str]) -> String {
    let told = told(port, words);
    assert!(told.status.success(), "{told:?}");
    String::from_utf8_lossy(&told.stdout).into_owned()
}

/// The same of one that may be about to change, and cuts its clients then.
pub(super) fn ask_lightly(port: u16, words: &[&str]) -> String {
    String::from_utf8_lossy(&told(port, words).stdout).into_owned()
}

/// Settings of one that speaks TLS on this port.
pub(super) fn secured(port: u16, tls: &Tls) -> String {
    let Tls { root, certificate, key, .. } = tls;
    format!(
        "--tls-port {port} --tls-auth-clients no --tls-ca-cert-file {} --tls-cert-file {} --tls-key-file {}",
        root.display(),
        certificate.display(),
        key.display()
    )
}

fn told(port: u16, words: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["30", "redis-cli", "-p", &port.to_string()]).args(words).output().unwrap()
}

pub(crate) struct Redis {
    server: Option<Server>,
    port: u16,
    scheme: &'static str,
    more: Vec<String>,
    _folder: Option<Folder>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With settings as on its command line.
    pub(crate) fn with(more: &[&str]) -> Self {
        let more = more.iter().map(|&word| word.to_owned()).collect();
        let mut redis = Self { server: None, port: free_port(), scheme: "redis", more, _folder: None };
        redis.restart();
        redis
    }

    /// Over TLS alone.
    pub(crate) fn secure(tls: &Tls) -> Self {
        let port = free_port();
        let more = format!("--port 0 {}", secured(port, tls));
        let more = more.split(' ').map(str::to_owned).collect();
        let mut redis = Self { server: None, port, scheme: "rediss", more, _folder: None };
        redis.restart();
        redis
    }

    /// One that keeps its data, every write before its answer.
    pub(crate) fn keeping() -> Self {
        let folder = Folder::new();
        let path = folder.path().to_str().unwrap();
        let redis = Self::with(&["--dir", path, "--appendonly", "yes", "--appendfsync", "always"]);
        Self { _folder: Some(folder), ..redis }
    }

    /// Kills it, if it runs, and starts another on the same port, without its data unless it keeps them.
    pub(crate) fn restart(&mut self) {
        self.server = None;
        let fixed = format!(
            "--port {} --bind 127.0.0.1 --save --appendonly no --maxmemory-policy noeviction",
            self.port
        );
        let mut arguments: Vec<_> = fixed.split(' ').map(str::to_owned).collect();
        let save = arguments.iter().position(|word| word == "--save").unwrap();
        arguments.insert(save + 1, String::new());
        arguments.extend(self.more.clone());
        self.server = Some(Server::start("redis-server", &arguments, self.port));
    }

    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    pub(crate) fn freeze(&self) {
        self.server.as_ref().unwrap().signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.server.as_ref().unwrap().signal("-CONT");
    }

    /// What it answers to an operator.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        ask(self.port, words)
    }

    /// Says something to it, as an operator would.
    pub(crate) fn command(&self, words: &[&str]) {
        let said = ask(self.port, words);
        assert!(said.trim() == "OK", "{said}");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    pub(crate) fn config(&self) -> Config {
        config(self.url())
    }

    pub(crate) async fn store(&self, bounds: Bounds) -> RedisSessionStore {
        RedisSessionStore::connect(&self.config(), bounds).await.unwrap()
    }
}
