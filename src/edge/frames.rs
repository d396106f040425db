//! How long an HTTP/2 client may take for what it began: h2 waits for the rest of a frame, and for the
//! end of a head in several of them (CONTINUATION), as long as the connection lives. A body is
//! [`super::request`]'s matter.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::PREFACE;
use crate::domain::Limit;
use crate::telemetry::Metrics;

/// A frame's own head (RFC 9113, 4.1).
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// One connection's, from its preface on.
#[derive(Debug)]
pub(super) struct Frames {
    /// Of the frame's head, what is there.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Of the frame's payload, what is missing.
    missing: usize,
    /// More frames have to follow at once.
    unfinished: bool,
    /// When what is not complete yet began.
    began: Option<Instant>,
    header_timeout: Duration,
    late: Option<Pin<Box<Sleep>>>,
    metrics: Metrics,
}

impl Frames {
    pub(super) fn new(header_timeout: Duration, metrics: Metrics) -> Self {
        Self {
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            missing: PREFACE.len(),
            // The client's settings follow its preface.
            unfinished: true,
            began: Some(Instant::now()),
            header_timeout,
            late: None,
            metrics,
        }
    }

    /// Follows what the client sent.
    pub(super) fn come(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.missing == 0 {
                let taken = bytes.len().min(HEAD_BYTES - self.head_bytes);
                self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&bytes[..taken]);
                self.head_bytes += taken;
                bytes = &bytes[taken..];
                self.began.get_or_insert_with(Instant::now);
                if self.head_bytes < HEAD_BYTES {
                    return;
                }
                self.begin_frame();
            }
            let taken = bytes.len().min(self.missing);
            self.missing -= taken;
            bytes = &bytes[taken..];
            if self.missing == 0 && !self.unfinished {
                self.began = None;
            }
        }
    }

    fn begin_frame(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.head_bytes = 0;
        self.missing = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.unfinished = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS == 0;
        if kind == DATA || self.missing == 0 && !self.unfinished {
            self.began = None;
        }
    }

    /// Ready once the client took too long; to be asked when nothing more is there to be read.
    pub(super) fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(began) = self.began else {
            self.late = None;
            return Poll::Pending;
        };
        let deadline = began + self.header_timeout;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if late.deadline() != deadline {
            late.as_mut().reset(deadline);
        }
        late.as_mut().poll(context)
    }

    pub(super) fn too_late(&self) -> io::Error {
        self.metrics.limit_hit(Limit::HeaderTime);
        io::Error::new(io::ErrorKind::TimedOut, "a frame that began did not end (http.header_timeout)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], &vec![b'x'; length.into()]].concat()
    }

    fn opened() -> Frames {
        Frames::new(Duration::from_secs(1), Metrics::new())
    }

    /// Whether something is awaited after these frames, of which the last `cut` bytes are missing.
    fn check(frames: &[(u8, u8, u8)], cut: usize, awaited: bool) {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frames.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, *length)));
        let mut whole = opened();
        whole.come(&bytes[..bytes.len() - cut]);
        assert_eq!(whole.began.is_some(), awaited, "{frames:?} without {cut}");
    }

    #[test]
    fn what_began_is_awaited_and_bodies_are_not() {
        check(&[], 0, true);
        check(&[], 5, true);
        check(&[(4, 0, 0)], 0, false);
        check(&[(4, 0, 6)], 1, true);
        check(&[(4, 0, 0), (HEADERS, 0, 9)], 0, true);
        check(&[(4, 0, 0), (HEADERS, 0, 9), (CONTINUATION, 0, 0)], 0, true);
        check(&[(4, 0, 0), (HEADERS, 0, 9), (CONTINUATION, END_HEADERS, 3)], 0, false);
        check(&[(4, 0, 0), (HEADERS, END_HEADERS, 9)], 3, true);
        check(&[(4, 0, 0), (HEADERS, END_HEADERS, 9)], 14, true);
        check(&[(4, 0, 0), (HEADERS, END_HEADERS, 9), (DATA, 0, 9)], 3, false);
        check(&[(4, 0, 0), (HEADERS, END_HEADERS, 9), (DATA, 0, 9)], 12, true);
    }

    proptest! {
        /// However the bytes are cut into reads.
        #[test]
        fn pieces_make_no_difference(
            frames in prop::collection::vec((0_u8..10, any::<u8>(), any::<u8>()), 0..6),
            cut in 0_usize..40,
            piece in 1_usize..50,
        ) {
            let mut bytes = PREFACE.to_vec();
            bytes.extend(frames.into_iter().flat_map(|(kind, flags, length)| frame(kind, flags, length)));
            bytes.truncate(bytes.len().saturating_sub(cut));
            let (mut whole, mut pieces) = (opened(), opened());
            whole.come(&bytes);
            bytes.chunks(piece).for_each(|piece| pieces.come(piece));
            prop_assert_eq!(whole.began.is_some(), pieces.began.is_some());
            prop_assert_eq!((whole.missing, whole.head_bytes), (pieces.missing, pieces.head_bytes));
        }
    }
}
