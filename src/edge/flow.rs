//! HTTP/2 streams whose client takes nothing, while their connection lives on: hyper waits for a window
//! to open as long as the client likes. Such a stream is reset after `http.write_timeout`, as
//! [`super::stuck`] ends an HTTP/1.1 connection; it can be resumed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::domain::Limit;
use crate::lifecycle::Tasks;
use crate::telemetry::Metrics;

/// What has to be taken within the time limit: hyper asks for the next piece once there is room for the
/// first byte of this one.
const PIECE_BYTES: usize = 16 * 1024;

tokio::task_local! {
    static FLOW: Flow;
}

/// Whether hyper holds a piece of this stream's that the client has no room for, and since when.
#[derive(Debug, Clone, Default)]
struct Flow(Arc<Mutex<Option<Instant>>>);

impl Flow {
    fn held_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().expect("no panic while holding it")
    }
}

/// Runs the streams of an HTTP/2 connection, each with its time limit.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    tasks: Tasks,
    write_timeout: Duration,
    metrics: Metrics,
    running: Arc<watch::Sender<usize>>,
}

impl Streams {
    pub(super) fn new(tasks: Tasks, write_timeout: Duration, metrics: Metrics) -> Self {
        Self { tasks, write_timeout, metrics, running: Arc::new(watch::Sender::new(0)) }
    }

    /// Returns once none has run for this long.
    pub(super) async fn idle(&self, idle_timeout: Duration) {
        let mut running = self.running.subscribe();
        loop {
            // The sender lives as long as `self`, so waiting can't fail.
            let _ = running.wait_for(|running| *running == 0).await;
            if tokio::time::timeout(idle_timeout, running.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// Counts down when its stream is over.
struct Running(Arc<watch::Sender<usize>>);

impl Running {
    fn new(running: Arc<watch::Sender<usize>>) -> Self {
        running.send_modify(|running| *running += 1);
        Self(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let flow = Flow::default();
        let stream = Box::pin(FLOW.scope(flow.clone(), stream));
        let Self { tasks, write_timeout, metrics, running } = self.clone();
        tasks.spawn(Flowing {
            stream,
            flow,
            write_timeout,
            late: None,
            metrics,
            _running: Running::new(running),
        });
    }
}

struct Flowing<F> {
    stream: Pin<Box<F>>,
    flow: Flow,
    write_timeout: Duration,
    /// Exists only while a piece waits.
    late: Option<Pin<Box<Sleep>>>,
    metrics: Metrics,
    _running: Running,
}

impl<F: Future<Output = ()>> Future for Flowing<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = *self.flow.held_since() else {
            self.late = None;
            return Poll::Pending;
        };
        let deadline = since + self.write_timeout;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if late.deadline() != deadline {
            late.as_mut().reset(deadline);
        }
        ready!(late.as_mut().poll(context));
        // Dropping the stream resets it, and drops the body, which is the end of what feeds it.
        self.metrics.limit_hit(Limit::StuckWrite);
        Poll::Ready(())
    }
}

/// The body of an answer, in pieces that say when they are taken.
pub(super) fn in_pieces(body: Body) -> Body {
    match FLOW.try_with(Flow::clone) {
        Ok(flow) => Body::new(Pieces { body, rest: Bytes::new(), flow }),
        Err(_) => body,
    }
}

struct Pieces {
    body: Body,
    rest: Bytes,
    flow: Flow,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        *self.flow.held_since() = None;
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => self.rest = data,
                Some(Err(other)) => return Poll::Ready(Some(Ok(other))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        *self.flow.held_since() = Some(Instant::now());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(inner.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn pieces_add_up_and_say_that_they_wait() {
        let text: Vec<u8> = (0..40_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let flow = Flow::default();
        let mut body = FLOW.sync_scope(flow.clone(), || in_pieces(Body::from(text.clone())));
        assert_eq!(body.size_hint().exact(), Some(40_000));
        let mut read = Vec::new();
        while !body.is_end_stream() {
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE_BYTES && flow.held_since().is_some());
            read.extend_from_slice(&piece);
        }
        assert_eq!(read, text);
        assert!(body.frame().await.is_none() && flow.held_since().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_not_taken_ends_in_time_and_one_that_waits_for_its_feed_does_not() {
        let metrics = Metrics::new();
        let streams = Streams::new(Tasks::new(), Duration::from_secs(1), metrics);
        let stuck = async {
            let mut body = in_pieces(Body::from("x"));
            let _ = body.frame().await;
            std::future::pending().await
        };
        streams.execute(stuck);
        let silent = async {
            let mut body =
                in_pieces(Body::from_stream(futures::stream::pending::<Result<Bytes, axum::Error>>()));
            let _ = body.frame().await;
        };
        streams.execute(silent);
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(streams.tasks.running(), 2);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(streams.tasks.running(), 1);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(streams.tasks.running(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_is_what_has_run_nothing_for_the_whole_time() {
        let streams = Streams::new(Tasks::new(), Duration::from_secs(1), Metrics::new());
        let began = Instant::now();
        let used = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(7)).await;
                streams.execute(async {});
            }
            streams.execute(tokio::time::sleep(Duration::from_secs(60)));
        };
        futures::join!(streams.idle(Duration::from_secs(10)), used);
        assert_eq!(began.elapsed().as_secs(), 3 * 7 + 60 + 10);
    }
}
