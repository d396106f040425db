//! Logs: text for people at a terminal, one JSON object a line otherwise; each line with the trace it is part of.

use std::fmt;
use std::io::{self, IsTerminal as _};

use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use super::traces::Traces;
use super::{audit, spans};

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

/// Starts logging to standard error, and tracing if there are `traces`, for the whole process; a second call
/// changes nothing.
///
/// # Errors
/// If the filter can't be read.
pub fn init(config: &Config, traces: Option<&Traces>) -> Result<(), ParseError> {
    let mut filter = EnvFilter::try_new(&config.filter)?;
    // Spans are the tracer's alone.
    filter = filter.add_directive(format!("{}=off", spans::TARGET).parse()?);
    if config.audit {
        filter = filter.add_directive(format!("{}=info", audit::TARGET).parse()?);
    }
    let text = match config.format {
        Format::Auto => io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(true);
    let lines = if text {
        let lines = lines.with_ansi(io::stderr().is_terminal());
        lines.map_event_format(|format| Traced { format, json: false }).boxed()
    } else {
        let lines = lines.json().flatten_event(true).with_current_span(true).with_span_list(false);
        lines.map_event_format(|format| Traced { format, json: true }).boxed()
    };
    let tracer = traces.map(|traces| {
        spans::begin();
        let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer());
        let layer = layer.with_location(false).with_threads(false).with_target(false).with_level(false);
        layer
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(spans::TARGET, tracing::Level::INFO))
    });
    // A second initialisation (tests in one process) finds the first in place.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(tracer).try_init();
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a task panicked: this is a defect")));
    Ok(())
}

/// Lines of `format`, each with the trace and span that it is written in, if there is one.
struct Traced<F> {
    format: F,
    json: bool,
}

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some((trace, span)) = spans::ids() else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        match line.strip_suffix('}').filter(|_| self.json) {
            Some(object) => writeln!(writer, r#"{object},"trace_id":"{trace}","span_id":"{span}"}}"#),
            None => writeln!(writer, "{line} trace_id={trace} span_id={span}"),
        }
    }
}
