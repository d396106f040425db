//! A node that can be killed: on a runtime of its own, so that nothing of it gets to say a word.

use std::sync::mpsc::sync_channel;

use holdfast::app::Shared;
use holdfast::config::Config;

use super::{Client, Gateway};

pub(crate) struct Mortal {
    pub url: String,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Mortal {
    pub(crate) fn start(config: &Config, shared: Shared) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (send, started) = sync_channel(1);
        let config = config.clone();
        runtime.spawn(async move {
            let gateway = Gateway::start_on(&config, shared).await;
            send.send(gateway.url.clone()).unwrap();
            // It is never told to end.
            std::future::pending::<()>().await;
            drop(gateway);
        });
        let url = tokio::task::block_in_place(|| started.recv()).unwrap();
        Self { url, runtime: Some(runtime) }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// Its tasks are dropped where they stand, its sockets closed.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.end();
    }
}
