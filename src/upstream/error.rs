//! What can go wrong with an upstream: one code for each thing a caller does differently.

use bytes::Bytes;
use http::StatusCode;

/// Why an upstream gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke before an answer: 502.
    #[error("upstream {upstream} can't be reached")]
    Unreachable { upstream: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// It answered something that is not MCP: 502.
    #[error("upstream {upstream} gave an invalid answer: {what}")]
    Invalid { upstream: String, what: String },
    /// Its stream broke before the answer, and can't be resumed: 502.
    #[error("upstream {upstream} closed the stream before its answer")]
    Interrupted { upstream: String },
    /// Not within the request's time: 504.
    #[error("upstream {upstream} did not answer in time")]
    Late { upstream: String },
    /// 404 to a request that named an upstream session: the request did not run.
    #[error("upstream {upstream} has forgotten the session")]
    SessionGone { upstream: String },
    /// Any other refusal: its status and body go to the client.
    #[error("upstream {upstream} answered {status}")]
    Refused { upstream: String, status: StatusCode, content_type: Option<String>, body: Bytes },
}
