//! What clients are told about messages that they can't be given: for a POST's stream an error in place of
//! each answer, for the others that something may be missing, and what may have changed unseen.

use bytes::{Bytes, BytesMut};

use super::attach::Attachment;
use super::live::Live;
use super::stream::LocalStream;
use crate::domain::{RunningRecord, StreamId, StreamKind};
use crate::ports::Tail;
use crate::protocol::jsonrpc::{self, Id, Message, codes};
use crate::protocol::sse::Frame;
use crate::telemetry::StreamEnd;

/// An error for each request that the lost stream was to answer.
pub(super) fn lost_requests(stream: &StreamId) -> Attachment {
    let mut frames = BytesMut::new();
    for id in carried(stream) {
        let text =
            "The answer can't be replayed: the gateway's log no longer reaches back to your Last-Event-ID";
        let error = jsonrpc::error(Some(&id), codes::SERVER, text, None);
        frames.extend_from_slice(
            &Frame { event: Some("message"), data: Some(&error), ..Frame::default() }.encode(),
        );
    }
    if frames.is_empty() { Attachment::Ended } else { Attachment::Once(frames.freeze()) }
}

fn carried(stream: &StreamId) -> Vec<Id> {
    stream.carried_requests().iter().filter_map(|json| Id::parse(json).ok()).collect()
}

/// A POST's stream that did not end, and towards which nothing runs: its runner died or could not log the
/// answer, and the record's time is over. Nothing will ever come, and its client is told so (P5).
pub(super) fn tell_if_orphaned(stream: &LocalStream, tail: &Tail, running: &[RunningRecord]) {
    if stream.key.stream.kind() != StreamKind::Post || tail.ended || !running.is_empty() {
        return;
    }
    tracing::warn!(stream = %stream.key, "nothing runs any more towards a stream without its answer");
    let said = tail.events.iter().filter_map(|event| Message::parse(event.payload.clone()).ok());
    let answered: Vec<_> =
        said.filter(Message::is_response).filter_map(|answer| answer.id().cloned()).collect();
    for id in carried(&stream.key.stream).into_iter().filter(|id| !answered.contains(id)) {
        let text = "The request's time is over, and the gateway has no answer to it; it may have run";
        stream.push_unlogged(&jsonrpc::error(Some(&id), codes::SERVER, text, None));
    }
    stream.outlet.end(StreamEnd::Finished);
}

/// Says that messages may be missing, and what may have changed unseen.
pub(super) fn loss_notices(live: &Live) -> Vec<Bytes> {
    #[derive(serde::Deserialize, Default)]
    struct Listed {
        #[serde(default, rename = "listChanged")]
        list_changed: bool,
    }
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Capabilities {
        tools: Listed,
        prompts: Listed,
        resources: Listed,
    }
    let session = live.session();
    let capabilities = session.client.as_ref().map_or("{}", |client| &client.server_capabilities);
    let capabilities: Capabilities = serde_json::from_str(capabilities).unwrap_or_default();
    let warning = r#"{"level":"warning","logger":"holdfast","data":"Messages may be missing: the gateway's log no longer reaches back to your Last-Event-ID"}"#;
    let mut notices = vec![jsonrpc::notification("notifications/message", Some(warning))];
    let lists = [
        (capabilities.tools, "notifications/tools/list_changed"),
        (capabilities.prompts, "notifications/prompts/list_changed"),
        (capabilities.resources, "notifications/resources/list_changed"),
    ];
    for (listed, method) in lists {
        if listed.list_changed {
            notices.push(jsonrpc::notification(method, None));
        }
    }
    for uri in &session.subscriptions {
        let params = serde_json::json!({ "uri": uri }).to_string();
        notices.push(jsonrpc::notification("notifications/resources/updated", Some(&params)));
    }
    notices
}
