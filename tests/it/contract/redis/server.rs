//! A Redis of the test's own: a free port, nothing written to disk, killed when dropped.

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::peers::free_port;

pub(crate) struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    pub(crate) fn start() -> Self {
        let port = free_port();
        let arguments =
            ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"];
        #[expect(
            clippy::zombie_processes,
            reason = "dropping the server waits for it; a panic here fails the test"
        )]
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string()])
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: `make test` does it");
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Self { child, port };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("redis-server does not listen on {port}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The script with its common part, once.
pub(crate) fn script(name: &'static str) -> String {
    static COMMON: OnceLock<&str> = OnceLock::new();
    let common = COMMON.get_or_init(|| include_str!("common.lua"));
    let own = match name {
        "open" => include_str!("open.lua"),
        "update" => include_str!("update.lua"),
        "begin" => include_str!("begin.lua"),
        "append" => include_str!("append.lua"),
        "attach" => include_str!("attach.lua"),
        "release" => include_str!("release.lua"),
        "close" => include_str!("close.lua"),
        other => panic!("no script {other}"),
    };
    format!("{common}\n{own}")
}
