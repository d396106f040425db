//! A NATS.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use holdfast::adapters::nats::{Config, NatsBus};

use super::{Folder, Server};
use crate::peers::free_port;

pub(crate) struct Nats {
    server: Option<Server>,
    port: u16,
    more: Vec<String>,
    _folder: Option<Folder>,
}

impl Nats {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With settings as on its command line.
    pub(crate) fn with(more: &[&str]) -> Self {
        let more = more.iter().map(|&word| word.to_owned()).collect();
        let mut nats = Self { server: None, port: free_port(), more, _folder: None };
        nats.restart();
        nats
    }

    /// With a configuration file of this text.
    pub(crate) fn configured(text: &str) -> Self {
        let folder = Folder::new();
        let file = folder.write("nats.conf", text);
        let nats = Self::with(&["-c", file.to_str().unwrap()]);
        Self { _folder: Some(folder), ..nats }
    }

    /// Kills it, if it runs, and starts another on the same port.
    pub(crate) fn restart(&mut self) {
        self.server = None;
        let mut arguments = ["-a", "127.0.0.1", "-p", &self.port.to_string()].map(str::to_owned).to_vec();
        arguments.extend(self.more.clone());
        self.server = Some(Server::start("nats-server", &arguments, self.port));
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

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Says things as no client of a NATS says them, and the server lets them pass.
    pub(crate) fn raw(&self) -> Raw {
        Raw(TcpStream::connect(("127.0.0.1", self.port)).unwrap()).greeted()
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            url: self.url(),
            prefix: "holdfast".to_owned(),
            timeout: Duration::from_secs(2),
            token: None,
            nkey_file: None,
            credentials_file: None,
            ca_file: None,
            inbox_max: 1024,
            keys: None,
        }
    }

    pub(crate) async fn bus(&self) -> NatsBus {
        NatsBus::connect(&self.config()).await.unwrap()
    }
}

/// A header with a lone CR, on which the client panics.
pub(crate) const KILLS_CLIENTS: &str = "NATS/1.0\r\nX: a\rb\r\n\r\n";

/// A header that the client can't read, so that it drops the connection.
pub(crate) const DROPS_CONNECTIONS: &str = "NATS/1.0\r\nno header\r\n\r\n";

/// What only the server says.
pub(crate) const NOBODY_LISTENS: &str = "NATS/1.0 503\r\n\r\n";

/// A connection without a client. It expects nothing and answers no PINGs of the server.
pub(crate) struct Raw(TcpStream);

impl Raw {
    fn greeted(mut self) -> Self {
        self.0.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n").unwrap();
        self
    }

    /// Publishes these bytes as headers, without more, to each of these subjects.
    pub(crate) fn say<T: AsRef<str>>(&mut self, headers: &str, subjects: &[T]) {
        let size = headers.len();
        let hpub = |subject: &T| format!("HPUB {} {size} {size}\r\n{headers}\r\n", subject.as_ref());
        let said: String = subjects.iter().map(hpub).collect();
        self.0.write_all(said.as_bytes()).unwrap();
    }

    /// Waits until the server has taken all that was said.
    pub(crate) fn settled(mut self) {
        self.0.write_all(b"PING\r\n").unwrap();
        assert!(BufReader::new(self.0).lines().any(|line| line.unwrap() == "PONG"));
    }
}
