//! The slow tool: progress on the answer's stream, then the result. A stream that is closed before that is a
//! cancel, and counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures::stream::unfold;
use serde_json::{Value, json};

use super::server::{Era, events, frame};
use super::tools;
use crate::protocol::jsonrpc::{self, Id};

/// How many calls were cancelled. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Cancelled(Arc<AtomicU64>);

impl Cancelled {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts a call whose stream was dropped before its result.
struct Unfinished {
    cancelled: Cancelled,
    finished: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            self.cancelled.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How long a call takes, and who wants to hear how far it is.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    pub steps: u64,
    pub interval: Duration,
    /// `null` if nobody asked for progress; then none is sent.
    pub progress_token: Value,
}

pub(super) fn slow(id: Id, pace: Pace, era: Era, cancelled: Cancelled) -> Response {
    let unfinished = Unfinished { cancelled, finished: false };
    let frames = unfold((0, unfinished), move |(mut step, mut unfinished)| {
        let (id, pace) = (id.clone(), pace.clone());
        async move {
            if unfinished.finished {
                return None;
            }
            let payload = loop {
                if step == pace.steps {
                    unfinished.finished = true;
                    let result = era.complete(tools::text(&format!("done in {step} steps")));
                    break jsonrpc::result(&id, &result.to_string());
                }
                tokio::time::sleep(pace.interval).await;
                step += 1;
                if !pace.progress_token.is_null() {
                    let token = &pace.progress_token;
                    let progress = json!({ "progressToken": token, "progress": step, "total": pace.steps });
                    break jsonrpc::notification("notifications/progress", Some(&progress.to_string()));
                }
            };
            Some((Ok::<_, Infallible>(frame(&payload)), (step, unfinished)))
        }
    });
    events(Body::from_stream(frames))
}
