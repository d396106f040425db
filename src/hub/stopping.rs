//! Telling a legacy upstream that its answer is not wanted any more; a modern one hears the connection close (M8).

use std::sync::Arc;

use super::Hub;
use super::live::Live;
use super::server::Server;
use crate::protocol::jsonrpc::{self, Id};

pub(super) const SESSION_ENDED: &str = "the session ended";

pub(super) const SHUTTING_DOWN: &str = "the gateway is shutting down";

pub(super) const TOO_LATE: &str = "the gateway's time limit for this request passed";

/// Who was asked, and what.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub server: Arc<Server>,
    /// Absent where the request stands alone.
    pub live: Option<Arc<Live>>,
    pub id: Id,
    pub method: Arc<str>,
}

impl Told {
    /// Asks it to stop, and does not wait for it (L32).
    pub(super) fn to_stop(&self, hub: &Hub, why: &'static str) {
        let Some(live) = &self.live else { return };
        let Some(handle) = live.upstream() else { return };
        if &*self.method == "initialize" {
            return;
        }
        let params = format!(r#"{{"requestId":{},"reason":"{why}"}}"#, self.id.as_json());
        let cancel = jsonrpc::notification("notifications/cancelled", Some(&params));
        hub.cancel_upstream(&self.server.name, self.server.reached_from(live), handle, cancel);
    }
}
