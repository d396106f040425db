//! A result that is too long to be held: it passes piece by piece, at the pace of whoever reads it.

use std::fmt;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::error::Error;
use super::received::Received;
use super::streamable::Streamable;
use crate::protocol::jsonrpc::{Id, Passing};

/// The rest of an upstream's answer to one request. Dropping it closes the connection.
pub struct Long {
    upstream: Streamable,
    request: Id,
    /// Gone if whoever reads it judges the whole.
    passing: Option<Passing>,
    /// What was read before it was known to be long.
    head: Option<Bytes>,
    body: Received,
    /// Its length so far, in bytes.
    read: usize,
    _guard: Option<Box<dyn Send + Sync>>,
}

impl Long {
    /// Whether `head` begins a result that can be passed on before its end is known.
    pub(super) fn begin(head: &[u8]) -> Option<Passing> {
        let mut passing = Passing::default();
        (passing.push(head).is_ok() && passing.has_result()).then_some(passing)
    }

    /// `passing` has read `head`.
    pub(super) fn new(
        upstream: Streamable,
        request: Id,
        passing: Passing,
        head: Bytes,
        body: Received,
        guard: Option<Box<dyn Send + Sync>>,
    ) -> Self {
        let read = head.len();
        Self { upstream, request, passing: Some(passing), head: Some(head), body, read, _guard: guard }
    }

    /// How many bytes are still to come, if the upstream said it.
    #[must_use]
    pub fn bytes_left(&self) -> Option<u64> {
        let head = self.head.as_ref().map_or(0, Bytes::len) as u64;
        self.body.size_hint().exact().map(|rest| rest + head)
    }

    /// The next piece; `None` once all of the result was there. Safe to drop and call again.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if the connection breaks; [`Error::Invalid`] beyond the size limit, for the result of
    /// another request, and for what turns out to be no result. What was passed on before is then worth nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(head) = self.head.take() {
            return Ok(Some(head));
        }
        loop {
            let data = match self.body.frame().await {
                None => return self.finish().map(|()| None),
                Some(Err(err)) => return Err(self.upstream.unreachable(err)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => data,
                    Ok(_) | Err(_) => continue,
                },
            };
            let limit = self.upstream.message_bytes_max();
            self.read += data.len();
            if self.read > limit {
                return Err(self.upstream.invalid(format!("an answer of more than {limit} bytes")));
            }
            if let Some(passing) = &mut self.passing {
                passing.push(&data).map_err(|fault| self.upstream.invalid(fault.to_string()))?;
            }
            self.check()?;
            // Its last byte would make it whole to a client that knows its length.
            if self.is_whole() {
                self.finish()?;
            }
            return Ok(Some(data));
        }
    }

    /// Whether its last byte was read, as far as that is known before its end.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.head.is_none() && (self.body.is_end_stream() || self.body.size_hint().exact() == Some(0))
    }

    /// It is read to its end before anybody sees it, who then judges it.
    pub fn hold(&mut self) {
        self.passing = None;
    }

    fn finish(&self) -> Result<(), Error> {
        let finished = self.passing.as_ref().map_or(Ok(()), Passing::finish);
        finished.map_err(|fault| self.upstream.invalid(fault.to_string()))
    }

    /// # Errors
    /// [`Error::Invalid`] for another request's result.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.passing.as_ref().and_then(Passing::id) {
            Some(id) if *id != self.request => {
                Err(self.upstream.invalid(format!("a response to {id}, which was not asked")))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Long {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Long")
            .field("upstream", &self.upstream.name())
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}
