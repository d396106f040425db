//! The beginning of a connection, up to the first byte of HTTP: what a proxy says of it, TLS, and which
//! HTTP is spoken. All of it together may take `http.header_timeout`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

use super::connection::PREFACE;
use super::frames::Frames;
use super::head::HeadClock;
use super::listener::ListenerConfig;
use super::proxies::{Nearest, Proxies};
use super::stuck::Unstuck;
use super::tls::Tls;
use super::wire::{Transport, Watch, Wire};
use crate::domain::Limit;
use crate::lifecycle::Seldom;
use crate::telemetry::Metrics;

/// Between two looks at a preface that comes in pieces.
const PIECE: Duration = Duration::from_millis(10);
const LONGEST_PIECE: Duration = Duration::from_millis(640);

/// A connection on which a request may begin.
#[derive(Debug)]
pub(super) struct Opened {
    pub http: Http,
    pub nearest: Nearest,
}

#[derive(Debug)]
pub(super) enum Http {
    /// With the clock for its heads.
    One(Wire, HeadClock),
    Two(Wire),
}

/// How the connections of a listener begin.
#[derive(Debug)]
pub(super) struct Opening {
    tls: Option<Tls>,
    proxies: Proxies,
    /// Proxies that don't speak as they should.
    mute: Seldom,
    header_timeout: Duration,
    write_timeout: Duration,
    metrics: Metrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
}

impl Opening {
    pub(super) fn new(config: &ListenerConfig, metrics: Metrics) -> Self {
        let ListenerConfig { tls, proxies, header_timeout, write_timeout, .. } = config.clone();
        Self { tls, proxies, mute: Seldom::default(), header_timeout, write_timeout, metrics }
    }

    /// `None` if the client goes, takes too long, or has no handshake to offer.
    pub(super) async fn open(&self, mut socket: TcpStream, peer: SocketAddr) -> Option<Opened> {
        let deadline = Instant::now() + self.header_timeout;
        let nearest = self.in_time(deadline, self.proxies.nearest(&mut socket, peer, &self.mute)).await?;
        let http = self.http(socket, deadline).await?;
        Some(Opened { http, nearest })
    }

    async fn http(&self, socket: TcpStream, deadline: Instant) -> Option<Http> {
        let Some(tls) = &self.tls else {
            let spoken = self.in_time(deadline, peeked(&socket)).await?;
            return Some(self.opened(spoken, Transport::Plain(self.unstuck(socket)), Vec::new()));
        };
        // Who says nothing, as a balancer that only looks whether the port is open, costs no handshake.
        if self.in_time(deadline, socket.peek(&mut [0])).await? == 0 {
            return None;
        }
        let mut stream = match timeout_at(deadline, tls.accept(self.unstuck(socket))).await {
            Ok(Ok(stream)) => Box::new(stream),
            Ok(Err(error)) => {
                self.metrics.handshake_failed();
                tracing::debug!(%error, "a TLS handshake failed");
                return None;
            }
            Err(_) => {
                self.metrics.handshake_failed();
                self.metrics.limit_hit(Limit::HeaderTime);
                tracing::debug!("a TLS handshake did not end in time");
                return None;
            }
        };
        let (spoken, ahead) = self.in_time(deadline, first_words(&mut stream)).await?;
        Some(self.opened(spoken, Transport::Secure(stream), ahead))
    }

    async fn in_time<T>(&self, deadline: Instant, wait: impl Future<Output = io::Result<T>>) -> Option<T> {
        match timeout_at(deadline, wait).await {
            Ok(done) => done.ok(),
            Err(_) => {
                self.metrics.limit_hit(Limit::HeaderTime);
                None
            }
        }
    }

    fn unstuck(&self, socket: TcpStream) -> Unstuck<TcpStream> {
        Unstuck::new(socket, self.write_timeout, self.metrics.clone())
    }

    fn opened(&self, spoken: Spoken, transport: Transport, ahead: Vec<u8>) -> Http {
        match spoken {
            Spoken::Http1 => {
                let clock = HeadClock::new(self.header_timeout);
                Http::One(Wire::new(transport, ahead, Watch::Http1(clock.clone())), clock)
            }
            Spoken::Http2 => {
                let frames = Frames::new(self.header_timeout, self.metrics.clone());
                Http::Two(Wire::new(transport, ahead, Watch::Http2(frames)))
            }
        }
    }
}

/// Looks at the first bytes and leaves them where they are.
async fn peeked(socket: &TcpStream) -> io::Result<Spoken> {
    let mut seen = [0; PREFACE.len()];
    let mut pause = PIECE;
    loop {
        match socket.peek(&mut seen).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => match told_by(&seen[..length]) {
                Some(spoken) => return Ok(spoken),
                // What was seen already makes the socket ready: only time tells whether there is more. Whoever
                // begins and does not go on is looked at less and less often.
                None => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PIECE);
                }
            },
        }
    }
}

/// What is spoken behind TLS, and the bytes that had to be taken to see it. What was agreed on in the
/// handshake counts (ALPN); even then a connection that says nothing is not kept.
async fn first_words(stream: &mut TlsStream<Unstuck<TcpStream>>) -> io::Result<(Spoken, Vec<u8>)> {
    let agreed = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Some(Spoken::Http2),
        Some(_) => Some(Spoken::Http1),
        None => None,
    };
    let mut ahead = Vec::new();
    loop {
        let missing = (PREFACE.len() - ahead.len()) as u64;
        if (&mut *stream).take(missing).read_buf(&mut ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match (agreed, told_by(&ahead)) {
            (Some(Spoken::Http1), _) => return Ok((Spoken::Http1, ahead)),
            // One that does not begin as it should is answered by h2.
            (Some(Spoken::Http2), Some(_)) => return Ok((Spoken::Http2, ahead)),
            (None, Some(spoken)) => return Ok((spoken, ahead)),
            (_, None) => {}
        }
    }
}

/// `None` while it may still become either.
fn told_by(first: &[u8]) -> Option<Spoken> {
    if first == PREFACE {
        Some(Spoken::Http2)
    } else if PREFACE.starts_with(first) {
        None
    } else {
        Some(Spoken::Http1)
    }
}
