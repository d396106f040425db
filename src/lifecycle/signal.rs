//! The signals that ask the process to end, and the one that asks it to look at its files again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Resolves at SIGTERM or SIGINT, with the signal's name.
///
/// # Errors
/// If the handlers can't be installed.
pub fn shutdown_requested() -> io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// SIGHUPs. Once somebody listens for them they no longer end the process.
#[derive(Debug)]
pub struct Hangups(Option<Signal>);

impl Hangups {
    /// Where the handler can't be installed, none is ever heard.
    #[must_use]
    pub fn heard() -> Self {
        Self(signal(SignalKind::hangup()).ok())
    }

    pub async fn next(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}
