//! Logs: text for people at a terminal, one JSON object a line otherwise.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use super::audit::TARGET;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    Text,
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub format: Format,
    /// As the `tracing` filter syntax has it: `info`, or `warn,holdfast::hub=debug`.
    pub filter: String,
    /// The audit log is part of it, whatever the filter says.
    pub audit: bool,
}

/// Starts logging to standard error, for the whole process; a second call changes nothing.
///
/// # Errors
/// If the filter can't be read.
pub fn init(config: &Config) -> Result<(), ParseError> {
    let mut filter = EnvFilter::try_new(&config.filter)?;
    if config.audit {
        filter = filter.add_directive(format!("{TARGET}=info").parse()?);
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(true);
    let text = match config.format {
        Format::Auto => io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    // A second initialisation (tests in one process) finds the first in place.
    let _ = if text {
        builder.with_ansi(io::stderr().is_terminal()).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a task panicked: this is a defect")));
    Ok(())
}
