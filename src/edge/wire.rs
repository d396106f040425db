//! What hyper reads from and writes to: a socket, plain or behind TLS, with what was looked at already
//! and with ears for the head clock. Stuck writes are noticed below TLS, where they happen.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::frames::Frames;
use super::head::HeadClock;
use super::stuck::Unstuck;

/// Below HTTP.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Unstuck<TcpStream>),
    /// Its state is large, and most listeners have none.
    Secure(Box<TlsStream<Unstuck<TcpStream>>>),
}

/// A connection on its way to hyper.
#[derive(Debug)]
pub(super) struct Wire {
    transport: Transport,
    /// Was read to see what is spoken, and is given first.
    ahead: Vec<u8>,
    watch: Watch,
}

/// Who is told of what comes.
#[derive(Debug)]
pub(super) enum Watch {
    Http1(HeadClock),
    Http2(Frames),
}

impl Wire {
    pub(super) const fn new(transport: Transport, ahead: Vec<u8>, watch: Watch) -> Self {
        Self { transport, ahead, watch }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let given = self.ahead.len().min(into.remaining());
        into.put_slice(&self.ahead[..given]);
        self.ahead.drain(..given);
        // What follows comes with it: for a piece of its own hyper would keep a larger buffer.
        let polled = match &mut self.transport {
            _ if into.remaining() == 0 => Poll::Ready(Ok(())),
            Transport::Plain(socket) => Pin::new(socket).poll_read(context, into),
            Transport::Secure(socket) => Pin::new(socket).poll_read(context, into),
        };
        let polled = if given > 0 { Poll::Ready(Ok(())) } else { polled };
        let come = &into.filled()[before..];
        match &mut self.watch {
            Watch::Http1(clock) if !come.is_empty() => clock.heard(),
            Watch::Http1(_) => {}
            Watch::Http2(frames) => {
                frames.come(come);
                if polled.is_pending() && frames.poll_late(context).is_ready() {
                    return Poll::Ready(Err(frames.too_late()));
                }
            }
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write(context, from),
            Transport::Secure(socket) => Pin::new(socket).poll_write(context, from),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write_vectored(context, from),
            Transport::Secure(socket) => Pin::new(socket).poll_write_vectored(context, from),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(socket) => socket.is_write_vectored(),
            Transport::Secure(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(context),
            Transport::Secure(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Transport::Secure(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}
