//! The signals that ask the process to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

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
