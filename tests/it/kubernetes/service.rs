//! A Service as kube-proxy makes it: each connection goes to the next of the endpoints that it has heard of, and stays
//! there whatever becomes of the pod. It knows nothing of what passes, asks nobody how they are, and tries nothing twice.

use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};

use crate::peers::free_port;

/// It ends when dropped.
pub(crate) struct Service {
    port: u16,
    pub endpoints: Endpoints,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Default)]
pub(crate) struct Endpoints(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    ports: Vec<u16>,
    next: usize,
    /// The fewest that there were since it was asked last.
    fewest: usize,
    /// Connections to nobody, and to pods that did not accept them.
    lost: Vec<String>,
}

impl Endpoints {
    pub(super) fn add(&self, port: u16) {
        let mut heard = self.0.lock().unwrap();
        heard.ports.push(port);
    }

    pub(super) fn remove(&self, port: u16) {
        let mut heard = self.0.lock().unwrap();
        heard.ports.retain(|other| *other != port);
        heard.fewest = heard.fewest.min(heard.ports.len());
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().ports.len()
    }

    /// The fewest that there were since this was asked before.
    pub(crate) fn fewest(&self) -> usize {
        let mut heard = self.0.lock().unwrap();
        let now = heard.ports.len();
        std::mem::replace(&mut heard.fewest, now)
    }

    pub(crate) fn lost(&self) -> Vec<String> {
        self.0.lock().unwrap().lost.clone()
    }

    fn next(&self) -> Option<u16> {
        let mut heard = self.0.lock().unwrap();
        heard.next += 1;
        let port = heard.ports.get(heard.next % heard.ports.len().max(1)).copied();
        if port.is_none() {
            heard.lost.push("no endpoint".to_owned());
        }
        port
    }

    async fn connect(&self) -> Option<TcpStream> {
        let port = self.next()?;
        let connected = TcpStream::connect(("127.0.0.1", port)).await;
        connected.map_err(|error| self.0.lock().unwrap().lost.push(format!("{port}: {error}"))).ok()
    }
}

impl Service {
    /// Within a runtime.
    pub(crate) fn start() -> Self {
        let (port, endpoints) = (free_port(), Endpoints::default());
        #[expect(clippy::disallowed_methods, reason = "dropping the service ends it")]
        let serving = tokio::spawn(serve(port, endpoints.clone()));
        Self { port, endpoints, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(port: u16, endpoints: Endpoints) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut open = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.unwrap();
                open.spawn(carry(client, endpoints.clone()));
            }
            Some(_) = open.join_next() => {}
        }
    }
}

async fn carry(mut client: TcpStream, endpoints: Endpoints) {
    let Some(mut pod) = endpoints.connect().await else { return };
    let _ = (client.set_nodelay(true), pod.set_nodelay(true));
    // Either side may break off.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut pod).await;
}
