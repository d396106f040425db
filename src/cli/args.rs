//! The flags, and what of the configuration they set.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::config::Overrides;

/// A gateway for the Model Context Protocol that scales sideways.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve MCP in front of your servers.
    ///
    /// Shortest use: holdfast serve --upstream http://127.0.0.1:3001/mcp
    Serve(Options),
    /// Read the configuration as `serve` would, say every fault in it, and start nothing.
    CheckConfig(Options),
    /// Print the reference of all configuration keys (docs/configuration.md).
    ConfigReference,
    /// Show the main job: a small MCP server, the gateway, and clients whose streams break.
    Demo(DemoOptions),
}

/// A flag wins over an environment variable (HOLDFAST_…), that over the file, and that over the
/// default.
#[derive(Debug, ClapArgs)]
pub(super) struct Options {
    /// The configuration file, YAML (or the variable HOLDFAST_CONFIG).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:4444].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where operators connect: /livez, /readyz, /metrics [default: 127.0.0.1:4445].
    #[arg(long, value_name = "HOST:PORT")]
    admin_listen: Option<String>,
    /// Where sessions live: memory, or none [default: memory].
    #[arg(long, value_name = "URL")]
    state: Option<String>,
    /// How nodes talk to each other: memory [default: memory].
    #[arg(long, value_name = "URL")]
    bus: Option<String>,
    /// The MCP server behind the gateway: a default server without a file.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
}

impl Options {
    pub(super) fn overrides(&self) -> Overrides {
        let flags = [
            ("listen", &self.listen, "--listen"),
            ("admin.listen", &self.admin_listen, "--admin-listen"),
            ("state", &self.state, "--state"),
            ("bus", &self.bus, "--bus"),
            ("servers.default.upstream", &self.upstream, "--upstream"),
        ];
        let given =
            flags.into_iter().filter_map(|(key, value, flag)| value.clone().map(|value| (key, value, flag)));
        Overrides { entries: given.collect() }
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct DemoOptions {
    /// End after the story instead of staying up for your own client.
    #[arg(long)]
    pub once: bool,
    /// Where clients connect; with --once, any free port.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// Keep sessions in this Redis instead of the process's memory.
    #[arg(long, value_name = "URL", requires = "nats")]
    pub redis: Option<String>,
    /// Speak between nodes over this NATS instead of the process's memory.
    #[arg(long, value_name = "URL", requires = "redis")]
    pub nats: Option<String>,
}
