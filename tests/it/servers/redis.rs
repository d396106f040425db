//! A Redis.

use holdfast::adapters::redis::{Config, RedisSessionStore};
use holdfast::ports::Bounds;

use super::{Folder, Server};
use crate::peers::free_port;

pub(crate) struct Redis {
    server: Option<Server>,
    port: u16,
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
        let mut redis = Self { server: None, port: free_port(), more, _folder: None };
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

    /// Says something to it, as an operator would.
    pub(crate) fn command(&self, words: &[&str]) {
        let told = std::process::Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.status.success() && said.trim() == "OK", "{said}");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            url: self.url(),
            prefix: "hf".to_owned(),
            timeout: std::time::Duration::from_secs(2),
            pending_max: 10_000,
        }
    }

    pub(crate) async fn store(&self, bounds: Bounds) -> RedisSessionStore {
        RedisSessionStore::connect(&self.config(), bounds).await.unwrap()
    }
}
