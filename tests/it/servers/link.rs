//! The way to a server, which a test can make bad for whoever goes it: cut, silent or slow.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::peers::free_port;

/// How what travels fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Passes,
    /// Connections break and new ones are refused.
    Cut,
    /// Connections stay and new ones are accepted, and nothing arrives; as with TCP, what was sent
    /// meanwhile arrives late.
    Silent,
    /// Each piece takes so long, in each direction.
    Slow(Duration),
}

/// A port before a server's. It ends when dropped.
pub(crate) struct Link {
    port: u16,
    way: Arc<watch::Sender<Way>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Link {
    /// Within a runtime.
    pub(crate) fn to(server: u16) -> Self {
        let (port, way) = (free_port(), Arc::new(watch::Sender::new(Way::Passes)));
        #[expect(clippy::disallowed_methods, reason = "dropping the link ends it")]
        let serving = tokio::spawn(serve(port, server, way.subscribe()));
        Self { port, way, serving }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(port: u16, server: u16, mut way: watch::Receiver<Way>) {
    loop {
        if way.wait_for(|way| *way != Way::Cut).await.is_err() {
            return;
        }
        // Dropping the listener refuses, dropping the set breaks what is open.
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let mut open = tokio::task::JoinSet::new();
        let mut cut = way.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((client, _)) = accepted {
                        open.spawn(carry(client, server, way.clone()));
                    }
                }
                Some(_) = open.join_next() => {}
                _ = cut.wait_for(|way| *way == Way::Cut) => break,
            }
        }
    }
}

async fn carry(client: TcpStream, server: u16, mut way: watch::Receiver<Way>) {
    // A silent way does not even reach the server.
    let _ = way.wait_for(|way| *way != Way::Silent).await;
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pass(from_client, to_server, way.clone()) => {}
        () = pass(from_server, to_client, way) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut piece = vec![0; 64 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else { return };
        let now = *way.borrow_and_update();
        match now {
            Way::Passes | Way::Cut => {}
            Way::Silent => {
                let _ = way.wait_for(|way| *way != Way::Silent).await;
            }
            Way::Slow(delay) => tokio::time::sleep(delay).await,
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
