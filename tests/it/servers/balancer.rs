//! The balancers of deploy/proxies: their files as they are delivered, with the addresses of a test.

use std::path::Path;

use super::{Folder, Server};
use crate::peers::process::tool;

#[derive(Debug, Clone, Default)]
pub(crate) struct Balancer {
    pub kind: Kind,
    /// How long a request may be silent, in place of what the file says.
    pub silence: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    HaProxy,
    Nginx,
    Envoy,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::HaProxy, Self::Nginx, Self::Envoy];

    /// What is delivered.
    pub(crate) fn file(self) -> String {
        let name = match self {
            Self::HaProxy => "haproxy.cfg",
            Self::Nginx => "nginx.conf",
            Self::Envoy => "envoy.yaml",
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/proxies");
        std::fs::read_to_string(folder.join(name)).unwrap()
    }

    /// The silence on a running request that it bears, and how often its file says so.
    pub(crate) fn silence(self) -> (&'static str, usize) {
        match self {
            Self::HaProxy => ("11m", 2),
            Self::Nginx => ("11m", 1),
            Self::Envoy => ("660s", 1),
        }
    }
}

/// The first `count` of them, which have to be there.
fn replace(text: &mut String, from: &str, to: &str, count: usize) {
    assert!(text.matches(from).count() >= count, "the delivered file has no {count} of {from:?} any more");
    *text = text.replacen(from, to, count);
}

impl Balancer {
    /// Before nodes with these ports, for clients and for operators.
    pub(super) fn start(&self, folder: &Folder, port: u16, nodes: &[(u16, u16)]) -> Server {
        let mut text = self.kind.file();
        let mut change = |from: &str, to: &str, count| replace(&mut text, from, to, count);
        if let Some(silence) = self.silence {
            let (own, count) = self.kind.silence();
            change(own, silence, count);
        }
        match self.kind {
            Kind::HaProxy => {
                change("bind :8080", &format!("bind 127.0.0.1:{port}"), 1);
                change("inter 1s", "inter 300ms", 1);
            }
            Kind::Nginx => {
                change("listen 8080;", &format!("listen 127.0.0.1:{port};"), 1);
                change("access_log /var/log/nginx/access.log;", "access_log off;", 1);
            }
            Kind::Envoy => {
                let listen = format!("address: 127.0.0.1, port_value: {port}");
                change("address: 0.0.0.0, port_value: 8080", &listen, 1);
            }
        }
        for (number, (listen, admin)) in (1..).zip(nodes) {
            if self.kind == Kind::Envoy {
                let node = format!("address: 127.0.0.1, port_value: {listen}");
                change(&format!("address: node-{number}, port_value: 4444"), &node, 1);
                change("{ port_value: 4445 }", &format!("{{ port_value: {admin} }}"), 1);
            } else {
                change(&format!("node-{number}:4444"), &format!("127.0.0.1:{listen}"), 1);
            }
            if self.kind == Kind::HaProxy {
                change("check port 4445", &format!("check port {admin}"), 1);
            }
        }
        let (program, arguments) = self.command(folder, &text);
        Server::start(&program, &arguments, port)
    }

    fn command(&self, folder: &Folder, text: &str) -> (String, Vec<String>) {
        let written = |name| folder.write(name, text).display().to_string();
        let own = folder.path().display();
        let (program, arguments) = match self.kind {
            Kind::HaProxy => ("haproxy".into(), vec!["-db".into(), "-f".into(), written("haproxy.cfg")]),
            Kind::Nginx => {
                // One process, which ends when it is killed.
                let alone = format!("daemon off; master_process off; pid {own}/nginx.pid;");
                let file = written("nginx.conf");
                ("nginx".into(), vec!["-e".into(), "stderr".into(), "-g".into(), alone, "-c".into(), file])
            }
            Kind::Envoy => {
                let quiet = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"];
                let mut arguments = quiet.map(str::to_owned).to_vec();
                arguments.extend(["-c".to_owned(), written("envoy.yaml")]);
                (tool("envoy/_bin/envoy").display().to_string(), arguments)
            }
        };
        (program, arguments)
    }
}
