//! POST on a server that keeps no sessions: each message stands alone, a batch's too.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

use super::Edge;
use super::error::failed;
use super::response::{json, reply};
use super::streamable::no_batches;
use crate::hub::{Caller, Error, Reply, Server};
use crate::protocol::jsonrpc::{self, Body, codes};
use crate::protocol::version::LegacyVersion;

pub(super) async fn post(
    edge: &Edge,
    server: &Arc<Server>,
    caller: &Caller,
    body: Body,
    version: LegacyVersion,
) -> Result<Response, Response> {
    let messages = match body {
        Body::One(message) => {
            let posted = edge.hub.post_stateless(server, caller, &message, version, false).await;
            return posted.map(reply).map_err(|error| failed(edge, &error, Some(&message)));
        }
        Body::Batch(_) if !version.allows_batches() => return Err(no_batches(edge)),
        Body::Batch(messages) => messages,
    };
    let mut answers: Vec<Bytes> = Vec::new();
    for message in &messages {
        match edge.hub.post_stateless(server, caller, message, version, true).await {
            Ok(Reply::Json { body, .. }) => answers.push(body),
            Ok(Reply::Accepted) => {}
            // One answer for several requests can't be several streams.
            Ok(Reply::Stream(_) | Reply::Passing(_)) => {
                let text = "this answer is a stream, which a batch without a session can't carry";
                answers.push(jsonrpc::error(message.id(), codes::SERVER, text, None));
            }
            Err(error) if message.is_request() => answers.push(error.body(message.id())),
            Err(error @ (Error::Store(_) | Error::Limit(_))) => {
                return Err(failed(edge, &error, Some(message)));
            }
            Err(_) => {}
        }
    }
    if answers.is_empty() {
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    Ok(json(StatusCode::OK, jsonrpc::batch(&answers)))
}
