//! How the story looks on a terminal, and the invitation to go on with a client of one's own.

use std::io::{self, IsTerminal as _};

use anstyle::{AnsiColor, Style};

use super::client::Outcome;
use crate::lifecycle::{print, say};

/// How many steps kept their promise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    kept: usize,
    told: usize,
}

impl Summary {
    #[must_use]
    pub const fn kept_all(&self) -> bool {
        self.kept == self.told && self.told > 0
    }
}

/// Tells step by step, and keeps count.
#[derive(Debug)]
pub(super) struct Teller {
    summary: Summary,
}

fn paint(style: Style, text: &str) -> String {
    if io::stdout().is_terminal() { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

impl Teller {
    pub(super) fn begin(title: &str) -> Self {
        say(&format!("\n{}\n", paint(Style::new().bold(), title)));
        Self { summary: Summary::default() }
    }

    pub(super) fn chapter(&self, title: &str) {
        say(&paint(AnsiColor::Cyan.on_default().bold(), title));
    }

    /// What a step came to; its value if it went well.
    pub(super) fn step<T>(&mut self, what: &str, outcome: Outcome<(T, String)>) -> Option<T> {
        self.summary.told += 1;
        match outcome {
            Ok((value, detail)) => {
                self.summary.kept += 1;
                let detail = paint(Style::new().dimmed(), &detail);
                say(&format!("  {} {what:<44} {detail}", paint(AnsiColor::Green.on_default(), "✓")));
                Some(value)
            }
            Err(error) => {
                say(&format!("  {} {what:<44} {error}", paint(AnsiColor::Red.on_default().bold(), "✗")));
                None
            }
        }
    }

    pub(super) fn end(self) -> Summary {
        let Summary { kept, told } = self.summary;
        let style = if kept == told { AnsiColor::Green } else { AnsiColor::Red }.on_default().bold();
        say(&format!("\n{}", paint(style, &format!("{kept} of {told} steps kept their promise"))));
        self.summary
    }
}

/// Says how to connect one's own client. False if nobody reads it.
pub fn invite(gateway_url: &str, admin_url: &str) -> bool {
    print(&format!(
        r#"
The gateway stays up. Connect a client of your own:

  Streamable HTTP   {gateway_url}/mcp
  HTTP+SSE          {gateway_url}/sse

  claude mcp add --transport http holdfast {gateway_url}/mcp

  {{ "mcpServers": {{ "holdfast": {{ "type": "http", "url": "{gateway_url}/mcp" }} }} }}

  curl {gateway_url}/health
  curl {admin_url}/metrics

Ctrl-C ends it."#
    ))
    .is_ok()
}
