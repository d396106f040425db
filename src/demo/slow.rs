//! The slow tool: progress on the answer's stream, then the result. A legacy stream can be resumed; a modern one
//! that is closed before its result is a cancel, and counted.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::unfold;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::server::{Era, events};
use super::tools;
use crate::protocol::jsonrpc::{self, Id};
use crate::protocol::sse::Frame;

/// How many calls were cancelled. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Cancelled(Arc<AtomicU64>);

impl Cancelled {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts a call whose stream was dropped before its result.
#[derive(Debug)]
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

/// Legacy calls that were begun, so that a stream that broke can be resumed.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls(Arc<Mutex<HashMap<String, Call>>>);

/// What a call says is a function of when it began.
#[derive(Debug, Clone)]
struct Call {
    id: Id,
    pace: Pace,
    began: Instant,
    /// What its event ids begin with; modern streams have none.
    token: Option<String>,
}

impl Call {
    /// Everything after the step `after`.
    fn tell(self, after: u64, era: Era, unfinished: Option<Unfinished>) -> Response {
        let first = self.token.as_ref().filter(|_| after == 0).map(|token| {
            Frame { id: Some(&format!("{token}.0")), data: Some(b""), ..Frame::default() }.encode()
        });
        let frames = unfold((first, Some(after + 1), unfinished), move |(first, next, mut unfinished)| {
            let call = self.clone();
            async move {
                if let Some(first) = first {
                    return Some((Ok::<_, Infallible>(first), (None, next, unfinished)));
                }
                let step = if call.pace.progress_token.is_null() { call.pace.steps + 1 } else { next? };
                let last = step > call.pace.steps;
                let waits = u32::try_from(step.min(call.pace.steps)).unwrap_or(u32::MAX);
                tokio::time::sleep_until(call.began + call.pace.interval * waits).await;
                if let Some(unfinished) = unfinished.as_mut().filter(|_| last) {
                    unfinished.finished = true;
                }
                let frame = call.frame(step, era);
                Some((Ok(frame), (None, (!last).then_some(step + 1), unfinished)))
            }
        });
        events(Body::from_stream(frames))
    }

    fn frame(&self, step: u64, era: Era) -> Bytes {
        let Pace { steps, progress_token, .. } = &self.pace;
        let payload = if step > *steps {
            let result = era.complete(tools::text(&format!("done in {steps} steps")));
            jsonrpc::result(&self.id, &result.to_string())
        } else {
            let progress = json!({ "progressToken": progress_token, "progress": step, "total": steps });
            jsonrpc::notification("notifications/progress", Some(&progress.to_string()))
        };
        let id = self.token.as_ref().map(|token| format!("{token}.{step}"));
        Frame { event: Some("message"), id: id.as_deref(), data: Some(&payload), ..Frame::default() }.encode()
    }
}

impl Calls {
    /// Begins a call. A legacy client may come back for the rest; to a modern one, closing is a cancel.
    pub(super) fn begin(&self, id: Id, pace: Pace, era: Era, cancelled: Cancelled) -> Response {
        let mut call = Call { id, pace, began: Instant::now(), token: None };
        match era {
            Era::Modern => call.tell(0, era, Some(Unfinished { cancelled, finished: false })),
            Era::Legacy => {
                let token = uuid::Uuid::new_v4().simple().to_string();
                call.token = Some(token.clone());
                self.0.lock().expect("no panic while holding it").insert(token, call.clone());
                call.tell(0, era, None)
            }
        }
    }

    /// The rest of a call after an event of it.
    pub(super) fn resume(&self, position: &str) -> Option<Response> {
        let (token, step) = position.split_once('.')?;
        let call = self.0.lock().expect("no panic while holding it").get(token).cloned()?;
        Some(call.tell(step.parse().ok()?, Era::Legacy, None))
    }
}
