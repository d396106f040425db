//! Streams: which SSE stream of a session an event belongs to. The id of a POST's stream carries
//! the request ids it answers, so that even a log that forgot the stream can name them (MCP-RULES,
//! "A GET that resumes").

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::id::{InvalidId, RequestId, SessionId};

/// Request ids longer than this are not carried in the stream's id.
const CARRIED_BYTES_MAX: usize = 60;

/// One SSE stream of a session, unique within it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(Arc<str>);

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// What the server says unasked, over Streamable HTTP's GET.
    Get,
    /// The answer to one POST over Streamable HTTP.
    Post,
    /// Everything, over HTTP+SSE.
    HttpSse,
}

impl StreamId {
    #[must_use]
    pub fn get() -> Self {
        Self(Arc::from("g"))
    }

    #[must_use]
    pub fn http_sse() -> Self {
        Self(Arc::from("s"))
    }

    /// A new stream for the answer to `requests`; `random` sets it apart from all others.
    #[must_use]
    pub fn post(requests: &[RequestId], random: u128) -> Self {
        let token = URL_SAFE_NO_PAD.encode(&random.to_be_bytes()[..9]);
        let carried = requests.iter().map(RequestId::as_json).collect::<Vec<_>>().join("\n");
        if carried.len() > CARRIED_BYTES_MAX {
            return Self(Arc::from(format!("p{token}")));
        }
        Self(Arc::from(format!("p{token}{}", URL_SAFE_NO_PAD.encode(carried))))
    }

    /// # Errors
    /// [`InvalidId`] if the text is not a stream id as printed here.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let valid = match text.as_bytes() {
            b"g" | b"s" => true,
            [b'p', rest @ ..] => rest.len() >= 8 && text.len() <= 128 && rest.iter().copied().all(plain),
            _ => false,
        };
        if valid { Ok(Self(Arc::from(text))) } else { Err(InvalidId) }
    }

    #[must_use]
    pub fn kind(&self) -> StreamKind {
        match self.0.as_bytes().first() {
            Some(b'g') => StreamKind::Get,
            Some(b's') => StreamKind::HttpSse,
            _ => StreamKind::Post,
        }
    }

    /// The JSON texts of the requests that this stream answers, as far as its id carries them. They
    /// come from whoever sent the id: parse them before use.
    #[must_use]
    pub fn carried_requests(&self) -> Vec<String> {
        let carried = self.0.get(13..).unwrap_or_default();
        let decoded = URL_SAFE_NO_PAD.decode(carried).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.unwrap_or_default().split('\n').filter(|json| !json.is_empty()).map(str::to_owned).collect()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stream of a session: what the log, the binding and the bus speak of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamKey {
    pub session: SessionId,
    pub stream: StreamId,
}

/// For logs: with the session's fingerprint.
impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.{}", self.session, self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(requests: &[&str], carried: &[&str]) {
        let requests: Vec<_> = requests.iter().map(|json| RequestId::from_json(json)).collect();
        let stream = StreamId::post(&requests, 7);
        let parsed = StreamId::parse(stream.as_str()).unwrap();
        assert_eq!(parsed.kind(), StreamKind::Post);
        assert_eq!(parsed.carried_requests(), carried);
    }

    #[test]
    fn a_post_stream_carries_its_requests() {
        check(&["1"], &["1"]);
        check(&["\"a b\""], &["\"a b\""]);
        check(&["1", "\"two\""], &["1", "\"two\""]);
        check(&[&format!("\"{}\"", "x".repeat(80))], &[]);
    }

    #[test]
    fn what_logs_have_of_a_session_is_its_fingerprint() {
        let session = SessionId::mint();
        let key = StreamKey { session: session.clone(), stream: StreamId::get() };
        assert_eq!(key.to_string(), format!("{}.g", session.fingerprint()));
        for shown in [format!("{session:?}"), format!("{key:?}"), key.to_string()] {
            assert!(!shown.contains(session.as_str()), "{shown}");
            assert!(shown.contains(&session.fingerprint()), "{shown}");
        }
    }

    #[test]
    fn only_printed_stream_ids_parse() {
        for text in ["", "x", "gg", "p", "p1234567", "p12345678 ", "pé2345678"] {
            assert!(StreamId::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(StreamId::parse("g").unwrap().kind(), StreamKind::Get);
        assert_eq!(StreamId::parse("s").unwrap().kind(), StreamKind::HttpSse);
        assert!(StreamId::parse("p12345678").unwrap().carried_requests().is_empty());
    }
}
